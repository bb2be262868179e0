"""A folder of the user's own rate files, as the source of the exposures."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from astropy.io import fits

from wfssbkg.errors import ConfigError, StepError, printable
from wfssbkg.files import rate, rate_header
from wfssbkg.files.exposure_table import ACCEPTED, FAILED
from wfssbkg.files.fits_file import opened
from wfssbkg.layout import Combination
from wfssbkg.query import archive
from wfssbkg.run import messages


def search(folder: Path, combinations: Sequence[Combination]) -> archive.SearchResult:
    """
    Find all rate exposures of some combinations in a folder and in the folders below.

    Parameters
    ----------
    folder : `~pathlib.Path`
    combinations : sequence of `~wfssbkg.layout.Combination`

    Returns
    -------
    `~wfssbkg.query.archive.SearchResult`
        Files that are not whole have failed, those that were processed are excluded.

    Raises
    ------
    ConfigError
        If there is no such folder.
    """
    if not folder.is_dir():
        raise ConfigError(f"query.source is '{folder}'. Expected mast, or an existing folder")
    paths, others = _sorted_by_name(folder)
    result = archive.SearchResult(source=str(folder), others=others, refused=_unread(others))
    found: dict[str, dict[str, Any]] = {}
    for path in messages.bar("reading headers", len(paths), "files", iterable=paths):
        try:
            row, told = _header(path)
        except StepError as error:
            result.refused.append(f"{path}: {error}")
            continue
        exposure = archive.to_exposure(row, combinations)
        if exposure is None:
            result.others[archive.kind_of(row)] += 1
        elif printable(str(path)) != str(path):
            result.refused.append(f"{path}: its path has characters a FITS table cannot hold")
        elif path.name in found:
            other = found[path.name]["dataURI"]
            result.refused.append(f"{path}: the same name as {other}")
        else:
            # Whatever its header says, MAST has no say in a file of the user's own.
            exposure |= {"dataURI": str(path), "status": ACCEPTED, "reason": ""}
            rate_header.note_in(exposure, told)
            try:
                rate.check(path)
            except StepError as error:
                exposure |= {"status": FAILED, "reason": f"unusable file: {error}"}
            found[path.name] = exposure
    result.exposures = list(found.values())
    return result


def _sorted_by_name(folder: Path) -> tuple[list[Path], Counter[str]]:
    """The files of a folder that have the name of a rate file; other FITS files, by their kind."""
    paths, others = [], Counter[str]()
    # A name that begins with a dot is half a file, of a program that was stopped.
    for path in sorted(path for path in folder.rglob("*") if path.name[0] != "."):
        ending = archive.ENDING.search(path.name)
        if path.name.endswith("_rate.fits"):
            paths.append(path)
        elif ending and path.is_file():
            others[f"*{ending[0]}"] += 1
    return paths, others


def _unread(others: Counter[str]) -> list[str]:
    """What to do about rate files whose names are not read."""
    lines = []
    for kind, number in others.items():
        if kind.lower().startswith("*_rate."):
            advice = "only names that end in _rate.fits, in lower case, are read. Rename them"
            if archive.ENDING.search(kind)["packed"]:
                advice = "compressed. Unpack them, e.g. with gunzip"
            lines.append(f"{number} x {kind}: {advice}")
    return lines


def _header(path: Path) -> tuple[dict[str, Any], rate_header.Told]:
    """The header of a rate file as a row of MAST's keyword service, and what it tells besides."""
    with opened(path) as hdus:
        primary = hdus[0].header
        sci = hdus["SCI"].header if "SCI" in hdus else fits.Header()
        told, header = rate_header.told(primary, sci), dict(sci) | dict(primary)
        size = path.stat().st_size
    row = {name: header.get(name.upper()) for name in archive.COLUMNS}
    row |= {"filename": path.name, "fileSize": size, "productLevel": "2a"}
    row["checksum"] = None  # this keyword is FITS's own
    row["date_obs_mjd"] = told.start
    row["fileSetName"] = path.name.removesuffix("_rate.fits").removesuffix("_nis")
    row["instrume"] = row["instrume"] or "unknown"
    return row, told
