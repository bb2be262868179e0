"""What the header of a rate file tells that MAST does not, or that MAST has wrong."""

import math
from collections.abc import MutableMapping
from pathlib import Path
from typing import Any, NamedTuple

from astropy.io import fits
from astropy.table import Table

from wfssbkg.errors import StepError, printable
from wfssbkg.files import exposure_table, flicker_noise, rate
from wfssbkg.files.exposure_table import EXCLUDED, FOOTPRINT, HEADER, TARGET
from wfssbkg.files.fits_file import opened
from wfssbkg.layout import Folder

PROCESSED = "processed already"  # how the reason begins of a file that is no rate file any more

# What was done to a file, by the keyword that tells. Of the JWST pipeline: complete or not; of
# grizli: true or false (jwst_utils.py and prep.py of grizli 1.14).
_STEPS = {"S_FLAT": "flat-fielded", "S_BKDSUB": "background subtracted"}
_GRIZLI = {
    "FIXFLAT": "flat-fielded by grizli",
    "GSKYCOL": "columns of the background subtracted by grizli",
    "ONEFEXP": "1/f noise subtracted by grizli",
    "GRIZLWCS": "world coordinates changed by grizli",
}


class Told(NamedTuple):
    """What a header tells.

    Attributes
    ----------
    cleaning : str
        For the column s_clnfns: COMPLETE, SKIPPED or the like, or absent.
    cal_ver, crds_ctx : str
        Of the pipeline that made the file; '' if it does not tell.
    pointing : (float, float) or None
        Right ascension and declination of the reference point, in deg.
    start : float
        When the exposure began, MJD; NaN if that is not told.
    processed : str
        What was done to a file that is no rate file any more, in words; '' for a rate file.
    """

    cleaning: str
    cal_ver: str
    crds_ctx: str
    pointing: tuple[float, float] | None
    start: float
    processed: str


def read(path: Path) -> Told:
    """What the header of a file tells; a StepError if it cannot be read."""
    with opened(path) as hdus:  # so that a damaged card is a StepError as well
        return told(hdus[0].header, hdus["SCI"].header if "SCI" in hdus else fits.Header())


def version(path: Path) -> dict[str, Any]:
    """The columns `VERSION` of the exposure table, of a file whose checksum nobody knows."""
    found = read(path)
    size = path.stat().st_size
    return {"size": size, "checksum": "", "cal_ver": found.cal_ver, "crds_ctx": found.crds_ctx}


def at_hand(row: Table.Row, folder: Folder) -> Told | None:
    """
    What the header of a rate file tells or, if that was removed, of its masked exposure.

    None if it cannot be read: whoever masks it will tell.
    """
    path = exposure_table.rate_path(row, folder)
    try:
        if path.exists():
            return read(path)
        # What its header tells besides is of the flat-fielding.
        masked = read(folder.masked(row["productFilename"]))
        return masked._replace(cal_ver="", crds_ctx="", processed="")
    except StepError:
        return None


def told(primary: fits.Header, sci: fits.Header) -> Told:
    """What the primary header of a rate file and that of its SCI tell."""
    cal_ver, crds_ctx = (
        printable(str(primary.get(key, ""))).strip() for key in ("CAL_VER", "CRDS_CTX")
    )
    ra, dec = sci.get("RA_REF"), sci.get("DEC_REF")
    known = all(isinstance(value, int | float) and math.isfinite(value) for value in (ra, dec))
    known = known and abs(dec) <= 90 and not ra == dec == 0
    pointing = (ra % 360 % 360, float(dec)) if known else None  # twice: -1e-20 % 360 is 360
    return Told(
        printable(flicker_noise.of_header(primary)),
        cal_ver,
        crds_ctx,
        pointing,
        rate.start(primary),
        _processed(primary, sci),
    )


def _processed(primary: fits.Header, sci: fits.Header) -> str:
    """What was done to a file, from the keywords of the JWST pipeline and of grizli."""
    done = [f"{words} ({key})" for key, words in _STEPS.items() if rate.is_complete(primary, key)]
    done += [f"{words} ({key})" for key, words in _GRIZLI.items() if primary.get(key) is True]
    skies = [key for key in primary if key.startswith("GSKY") and key[4:].isdigit()]
    if skies:
        done.append(f"background subtracted by grizli ({skies[0]})")
    if "CD1_1" in sci and str(sci.get("CTYPE1")).endswith("-SIP") and "GRIZLWCS" not in primary:
        done.append(f"world coordinates changed (CTYPE1 {sci['CTYPE1']})")
    return " and ".join(done)


def note(table: Table, folder: Folder) -> None:
    """
    Note in an exposure table what the headers of files at hand tell, once for each version.

    Files that were processed are excluded.

    Parameters
    ----------
    table : `~astropy.table.Table`
        The exposure table; changed in place.
    folder : `~wfssbkg.layout.Folder`
        Where the files are.
    """
    for row in table:
        if row["status"] != EXCLUDED and not row["s_clnfns"] and (found := at_hand(row, folder)):
            note_in(row, found)


def note_pointings(table: Table, folder: Folder) -> None:
    """As `note`, but only the pointings, of all exposures whose footprint MAST does not give."""
    for row in table:
        unsure = row["status"] != EXCLUDED and row["pointing"] in ("", TARGET)
        if unsure and (found := at_hand(row, folder)):
            point(row, found)


def note_in(row: MutableMapping[str, Any] | Table.Row, found: Told) -> None:
    """Note in the row of an exposure what its header tells; one that was processed is excluded."""
    row["s_clnfns"] = found.cleaning
    for column in ("cal_ver", "crds_ctx"):
        here, noted = getattr(found, column), row[column]
        # What the archive says of its files is compared with what it says the next time.
        row[column] = noted or here if exposure_table.is_downloaded(row) else here or noted
    if not math.isfinite(row["mjd"]):
        row["mjd"] = found.start
    point(row, found)
    if found.processed:
        row["status"], row["reason"] = EXCLUDED, f"{PROCESSED}, {found.processed}"


def point(row: MutableMapping[str, Any] | Table.Row, found: Told) -> None:
    """Note in the row of an exposure where its header says it points; a footprint counts more."""
    if found.pointing and row["pointing"] != FOOTPRINT:
        row["ra"], row["dec"] = found.pointing
        row["pointing"] = HEADER
