"""The exposure table: one row per exposure, with its status and the reason."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from astropy.io import fits
from astropy.table import Column, Table
from astropy.time import Time

from wfssbkg import __version__
from wfssbkg.errors import StepError
from wfssbkg.files import fits_file, rate
from wfssbkg.layout import Folder

# What can become of an exposure.
ACCEPTED = "accepted"  # takes part in the background
EXCLUDED = "excluded"  # left out by the query's rules; not downloaded
FAILED = "failed"  # a download or a step went wrong; tried again the next time
REJECTED = "rejected"  # its pixels are not fit for a background

# What gave the pointing of an exposure; '' if it is not known.
FOOTPRINT = "footprint"  # S_REGION, at MAST or in the header
TARGET = "target"  # of the proposal
HEADER = "header"  # RA_REF and DEC_REF

SIMULATED = "Simulated"  # the principal investigator of exposures that demo/ has made

# What tells versions of a rate file apart: the archive makes all of them again with each build.
VERSION = ("size", "checksum", "cal_ver", "crds_ctx")

# name -> (type, unit, description). The FITS standard knows no DN: as a unit of a column, it would
# make astropy warn whoever reads the table.
COLUMNS: dict[str, tuple[str, str | None, str]] = {
    "productFilename": ("str", None, "name of the rate file"),
    "obs_id": ("str", None, "observation identifier at MAST"),
    "dataURI": ("str", None, "address at MAST, or path of a local file"),
    "size": ("i8", "byte", "size of the rate file"),
    "checksum": ("str", None, "MD5 of the rate file in the archive"),
    "cal_ver": ("str", None, "version of the pipeline that made the rate file"),
    "crds_ctx": ("str", None, "CRDS context that the rate file was made with"),
    "s_clnfns": ("str", None, "S_CLNFNS of the rate file; '' until looked at"),
    "program": ("str", None, "JWST programme"),
    "category": ("str", None, "category of the programme"),
    "pi_name": ("str", None, "principal investigator"),
    "visitype": ("str", None, "type of the visit"),
    "pcs_mode": ("str", None, "pointing control mode"),
    "ra": ("f8", "deg", "right ascension of the pointing, ICRS"),
    "dec": ("f8", "deg", "declination of the pointing, ICRS"),
    "pointing": ("str", None, "what gave it: footprint, target or header"),
    "mjd": ("f8", "d", "start of the exposure, MJD"),
    "effinttm": ("f8", "s", "effective integration time"),
    "readpatt": ("str", None, "readout pattern"),
    "subarray": ("str", None, "subarray"),
    "star_gmag": ("f8", "mag", "Gaia G of the nearest bright star"),
    "star_sep": ("f8", "arcmin", "its separation from the pointing"),
    "status": ("str", None, "accepted, excluded, failed or rejected"),
    "reason": ("str", None, "why it is not accepted"),
    "level": ("f8", None, "sky level in DN/s, from makeBackgrounds.py"),
    "masked_fraction": ("f8", None, "masked part of the science pixels"),
    "weight": ("f8", None, "share of the background's information"),
    "flat": ("str", None, "flat field in CRDS, as divided out"),
    "crds_context": ("str", None, "CRDS context that chose the flat field"),
}
# Columns that an older table lacks; they are empty then.
_YOUNGER = (
    "checksum", "cal_ver", "crds_ctx", "s_clnfns", "category", "pi_name", "visitype", "pcs_mode",
    "pointing",
)  # fmt: skip


def new(rows: Iterable[Mapping[str, Any]]) -> Table:
    """
    An exposure table of the given rows.

    Parameters
    ----------
    rows : iterable of mappings
        Column name to value; a column that a row leaves out, or None, is empty: '' for text,
        NaN for a number, 0 for `size`. The default status is accepted.

    Returns
    -------
    `~astropy.table.Table`
        With the columns of `COLUMNS`, sorted by file name.
    """
    rows = sorted(rows, key=lambda row: row["productFilename"])
    table = Table()
    for name, (kind, unit, description) in COLUMNS.items():
        empty = {"str": "", "i8": 0, "f8": np.nan}[kind]
        if name == "status":
            empty = ACCEPTED
        values = [empty if row.get(name) is None else row[name] for row in rows]
        if kind == "str":  # as objects, so that a longer reason fits
            values = [str(value).strip() for value in values]
        dtype = object if kind == "str" else kind
        table[name] = Column(np.array(values, dtype), unit=unit, description=description)
    return table


def read(path: Path) -> Table:
    """
    Read an exposure table, as from `new`.

    Raises
    ------
    StepError
        If there is none, or it cannot be read: run queryData.py first.
    """
    if not path.exists():
        raise StepError(f"{path} does not exist. Run queryData.py first")
    try:
        with fits_file.opened(path) as hdus:
            fits_file.check_whole(path, hdus)
            rows = hdus["EXPOSURES"].data
            known = [name for name in COLUMNS if name in rows.names or name not in _YOUNGER]
            values = [rows[name].tolist() for name in known]
            table = new(dict(zip(known, row, strict=True)) for row in zip(*values, strict=True))
            table.meta["QDATE"] = hdus[0].header["QDATE"]
    except StepError as error:
        raise StepError(
            f"{path} is not an exposure table ({error}). Remove it and run queryData.py again"
        ) from None
    return table


def write(table: Table, path: Path, qdate: str | None = None) -> None:
    """
    Write an exposure table, replacing the file in one go.

    Parameters
    ----------
    table : `~astropy.table.Table`
    path : `~pathlib.Path`
    qdate : str, optional
        UTC time of the query, ISO 8601; default: the one the table was read with.
    """
    primary = fits.PrimaryHDU()
    primary.header["QDATE"] = (qdate or table.meta["QDATE"], "UTC time of the query")
    primary.header["WFSSBKG"] = (__version__, "version of WFSSBackgrounds")
    fits_file.write(path, [primary, to_hdu(table)])


def to_hdu(table: Table) -> fits.BinTableHDU:
    """The exposure table as an extension of a FITS file."""
    plain = Table()
    for name, (kind, unit, _) in COLUMNS.items():
        plain[name] = Column(table[name].astype(str) if kind == "str" else table[name], unit=unit)
    rows = fits.table_to_hdu(plain, name="EXPOSURES")
    for number, (_, _, description) in enumerate(COLUMNS.values(), 1):
        rows.header.comments[f"TTYPE{number}"] = description
    return rows


def same_version(one: Mapping[str, Any] | Table.Row, other: Mapping[str, Any] | Table.Row) -> bool:
    """
    Whether two rows are of the same version of a rate file.

    Parameters
    ----------
    one, other : mapping or row
        With the columns `VERSION`; what is not known in one of them does not count. The checksums
        decide if both are known, since catalogues give sizes that are a little off.
    """
    if one["checksum"] and other["checksum"]:
        return bool(one["checksum"] == other["checksum"])
    return rate.about(one["size"], other["size"]) and all(
        one[name] == other[name] or not (one[name] and other[name])
        for name in ("cal_ver", "crds_ctx")
    )


def mark(table: Table, filename: str, **values: Any) -> None:
    """Set columns of the row of one exposure; a KeyError if the table has no such exposure."""
    (rows,) = np.nonzero(table["productFilename"] == filename)
    if len(rows) != 1:
        raise KeyError(filename)
    for name, value in values.items():
        table[name][rows[0]] = value


def reason(table: Table, filename: str) -> str:
    """Why an exposure is not accepted."""
    return str(table["reason"][table["productFilename"] == filename][0])


def fates(table: Table) -> dict[str, list[str]]:
    """File names by status, in the table's order."""
    names, status = table["productFilename"], table["status"]
    return {fate: list(names[status == fate]) for fate in (ACCEPTED, EXCLUDED, FAILED, REJECTED)}


def to_process(table: Table, folder: Folder) -> list[Path]:
    """The rate files to work on: of exposures accepted, rejected (to be judged again), or failed.

    An exposure whose download failed is not among them.
    """
    paths = []
    for row in table:
        path = rate_path(row, folder)
        if row["status"] in (ACCEPTED, REJECTED) or (row["status"] == FAILED and path.exists()):
            paths.append(path)
    return paths


def rate_path(row: Table.Row, folder: Folder) -> Path:
    """Where the rate file of a row is: in the combination's folder, or where the user has it."""
    return folder.rate(row["productFilename"]) if is_downloaded(row) else Path(row["dataURI"])


def is_downloaded(row: Mapping[str, Any] | Table.Row) -> bool:
    """Whether the rate file of a table row is ours, from MAST, and not one of the user's own."""
    return bool(row["dataURI"].startswith("mast:"))


def without_folders(table: Table) -> Table:
    """A copy of a table in which local files have their names only, not the user's folders."""
    plain = table.copy()
    for row in plain:
        if not is_downloaded(row):
            row["dataURI"] = Path(row["dataURI"]).name
    return plain


def latest(table: Table) -> str:
    """File name of the accepted exposure that was taken last; a StepError if there is none."""
    accepted = table[table["status"] == ACCEPTED]
    if not len(accepted):
        raise StepError("the exposure table has no accepted exposure")
    return str(accepted["productFilename"][np.argmax(np.nan_to_num(accepted["mjd"]))])


def days(table: Table) -> tuple[str, str]:
    """Days of the first and the last exposure of a table, e.g. 2022-07-04."""
    mjd = np.asarray(table["mjd"], dtype=float)
    mjd = mjd[np.isfinite(mjd)]
    if not len(mjd):
        return "unknown", "unknown"
    first, last = Time([mjd.min(), mjd.max()], format="mjd").strftime("%Y-%m-%d")
    return str(first), str(last)


def flat_fields(table: Table) -> list[str]:
    """The flat fields that exposures were divided by, and which exposures, in words."""
    words = []
    for name in sorted(set(table["flat"]) - {""}):
        rows = table[table["flat"] == name]
        words.append(f"{name} ({len(rows)} exposures of {' to '.join(days(rows))})")
    return words
