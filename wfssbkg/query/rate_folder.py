"""A folder of the user's own rate files, as the source of the exposures."""

import math
from collections.abc import Sequence
from pathlib import Path

from wfssbkg.errors import ConfigError, StepError, printable
from wfssbkg.files import rate
from wfssbkg.files.exposure_table import ACCEPTED, FAILED
from wfssbkg.files.fits_file import opened
from wfssbkg.layout import Combination
from wfssbkg.query import keyword_row
from wfssbkg.query.search_result import SearchResult
from wfssbkg.run import progress


def search(folder: Path, combinations: Sequence[Combination]) -> SearchResult:
    """
    Find all rate exposures of some combinations in a folder and in the folders below.

    Parameters
    ----------
    folder : `~pathlib.Path`
    combinations : sequence of `~wfssbkg.layout.Combination`

    Returns
    -------
    `~wfssbkg.query.search_result.SearchResult`
        Files that are not whole have failed.

    Raises
    ------
    ConfigError
        If there is no such folder.
    """
    if not folder.is_dir():
        raise ConfigError(f"query.source is '{folder}'. Expected mast, or an existing folder")
    result = SearchResult()
    found: dict[str, Path] = {}
    # A name that begins with a dot is half a file, of a program that was stopped.
    paths = [path for path in sorted(folder.rglob("*_rate.fits")) if path.name[0] != "."]
    for path in progress.bar("reading headers", len(paths), "files", iterable=paths):
        try:
            row = _header_row(path)
        except StepError as error:
            result.refused.append(f"{path}: {error}")
            continue
        if not keyword_row.is_rate_exposure(row, combinations):
            result.others += 1
        elif printable(str(path)) != str(path):
            result.refused.append(f"{path}: its path has characters a FITS table cannot hold")
        elif path.name in found:
            result.refused.append(f"{path}: the same name as {found[path.name]}")
        else:
            found[path.name] = path
            result.exposures.append(keyword_row.to_exposure(row, str(path), *_fate(path)))
    return result


def _header_row(path: Path) -> keyword_row.KeywordRow:
    """The header of a rate file as a row of MAST's keyword service."""
    with opened(path) as hdus:
        header = dict(hdus[0].header)
        if "SCI" in hdus:
            header = dict(hdus["SCI"].header) | header
        size = path.stat().st_size
    row = {name: header.get(name.upper()) for name in keyword_row.COLUMNS}
    row |= {"filename": path.name, "fileSize": size, "productLevel": "2a"}
    row["fileSetName"] = path.name.removesuffix("_rate.fits").removesuffix("_nis")
    row["instrume"] = row["instrume"] or "unknown"
    if math.isfinite(keyword_row.number(header.get("RA_REF"))):
        row |= {"targ_ra": header["RA_REF"], "targ_dec": header.get("DEC_REF")}
    return keyword_row.plain(row)


def _fate(path: Path) -> tuple[str, str]:
    """Status and reason of the exposure in a file."""
    try:
        rate.check(path)
    except StepError as error:
        return FAILED, f"unusable file: {error}"
    return ACCEPTED, ""
