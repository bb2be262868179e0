"""A folder of the user's own rate files, as the source of the exposures."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from wfssbkg.errors import ConfigError, StepError, printable
from wfssbkg.files import rate
from wfssbkg.files.exposure_table import ACCEPTED, FAILED
from wfssbkg.files.fits_file import opened
from wfssbkg.layout import Combination
from wfssbkg.query import archive
from wfssbkg.run import progress


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
        Files that are not whole have failed.

    Raises
    ------
    ConfigError
        If there is no such folder.
    """
    if not folder.is_dir():
        raise ConfigError(f"query.source is '{folder}'. Expected mast, or an existing folder")
    result = archive.SearchResult()
    found: dict[str, dict[str, Any]] = {}
    # A name that begins with a dot is half a file, of a program that was stopped.
    paths = [path for path in sorted(folder.rglob("*_rate.fits")) if path.name[0] != "."]
    for path in progress.bar("reading headers", len(paths), "files", iterable=paths):
        try:
            exposure = archive.to_exposure(_header_row(path), combinations)
        except StepError as error:
            result.refused.append(f"{path}: {error}")
            continue
        if exposure is None:
            result.others += 1
        elif printable(str(path)) != str(path):
            result.refused.append(f"{path}: its path has characters a FITS table cannot hold")
        elif path.name in found:
            other = found[path.name]["dataURI"]
            result.refused.append(f"{path}: the same name as {other}")
        else:
            # Whatever its header says, MAST has no say in a file of the user's own.
            exposure |= {"dataURI": str(path), "status": ACCEPTED, "reason": ""}
            try:
                rate.check(path)
            except StepError as error:
                exposure |= {"status": FAILED, "reason": f"unusable file: {error}"}
            found[path.name] = exposure
    result.exposures = list(found.values())
    return result


def _header_row(path: Path) -> dict[str, Any]:
    """The header of a rate file as a row of MAST's keyword service."""
    with opened(path) as hdus:
        header = dict(hdus[0].header)
        if "SCI" in hdus:
            header = dict(hdus["SCI"].header) | header
        size = path.stat().st_size
    row = {name: header.get(name.upper()) for name in archive.COLUMNS}
    row |= {"filename": path.name, "fileSize": size, "productLevel": "2a"}
    row["fileSetName"] = path.name.removesuffix("_rate.fits").removesuffix("_nis")
    row["instrume"] = row["instrume"] or "unknown"
    if isinstance(header.get("RA_REF"), int | float):
        row |= {"targ_ra": header["RA_REF"], "targ_dec": header.get("DEC_REF")}
    return row
