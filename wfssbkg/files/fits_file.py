"""FITS files: written in one go, read in parts, and what is wrong with one in words."""

import errno
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from astropy.io import fits
from astropy.io.fits.hdu.image import BITPIX2DTYPE
from astropy.table import Table

from wfssbkg.errors import StepError, first_line
from wfssbkg.files.temporary import replacing

_NOT_ALLOWED = (errno.EACCES, errno.EPERM, errno.EROFS)


def write(path: Path, hdus: list[Any], **options: Any) -> None:
    """
    Write a FITS file so that a reader never meets half of it; options as for `writeto`.

    Raises
    ------
    StepError
        If there is a folder of that name.
    OSError
        If the disk is full, or nothing may be written there: other files cannot be written either.
    """
    if path.is_dir():
        raise StepError(f"{path} is a folder, expected a file. Remove it")
    try:
        with replacing(path) as temporary:
            fits.HDUList(hdus).writeto(temporary, **options)
    except OSError as error:
        advice = "Where the disk is full, make room"
        if error.errno in _NOT_ALLOWED:
            advice = f"You may not write to the folder {path.parent}: allow it, or set another one"
        raise OSError(
            f"{path} cannot be written ({first_line(error)}). {advice}; then run the same command "
            "again"
        ) from error


@contextmanager
def opened(path: Path, **options: Any) -> Iterator[fits.HDUList]:
    """Open a FITS file; whatever a damaged one makes astropy raise becomes a StepError."""
    try:
        with fits.open(path, memmap=False, **options) as hdus:
            yield hdus
    except StepError:
        raise
    except Exception as error:  # astropy raises all kinds
        if isinstance(error, OSError) and error.strerror:
            raise StepError(f"cannot be read ({error.strerror})") from error
        raise StepError(f"cannot be read as FITS ({first_line(error)})") from error


def read_rows(path: Path, wanted: dict[str, slice], script: str) -> list[np.ndarray]:
    """
    Read some rows of some images of a file; only they are read from disk.

    Parameters
    ----------
    path : `~pathlib.Path`
    wanted : dict
        Name of the extension to its rows.
    script : str
        The script that makes the file.

    Returns
    -------
    list of 2-D arrays
        In native byte order.

    Raises
    ------
    StepError
        If the file cannot be read; it says to run the script again.
    """
    images = []
    try:
        places = _places(path, path.stat().st_mtime_ns)
        with path.open("rb") as file:
            for name, rows in wanted.items():
                start, dtype, (ny, nx) = places[name]
                first, end, _ = rows.indices(ny)
                file.seek(start + first * nx * dtype.itemsize)
                image = np.fromfile(file, dtype, (end - first) * nx).reshape(end - first, nx)
                images.append(image.astype(dtype.newbyteorder("=")))
    except (OSError, KeyError, ValueError, TypeError, StepError) as error:
        raise unreadable(path, error, script) from None
    return images


@contextmanager
def product(path: Path, script: str) -> Iterator[fits.HDUList]:
    """Open a whole file that a script makes; a StepError says to run the script (again)."""
    if not path.exists():
        raise StepError(f"{path} does not exist. Run {script} first")
    try:
        with opened(path) as hdus:
            check_whole(path, hdus)
            yield hdus
    except StepError as error:
        raise unreadable(path, error, script) from None


def unreadable(path: Path, error: Exception, script: str) -> StepError:
    """What to say of a file that cannot be read, and that a script makes."""
    return StepError(f"{path} cannot be read ({error}). Remove it and run {script} again")


@lru_cache(maxsize=16384)
def _places(path: Path, changed: int) -> dict[str, tuple[int, np.dtype, tuple[int, ...]]]:
    """Where the images of a file begin, their type and shape.

    `changed` is when the file was written, so that a new one is looked at again.

    astropy takes about 1 ms per header, which is most of the time of reading a few rows.
    """
    with opened(path) as hdus:
        return {
            hdu.name: (
                hdu.fileinfo()["datLoc"],
                np.dtype(BITPIX2DTYPE[hdu.header["BITPIX"]]).newbyteorder(">"),
                hdu.shape,
            )
            for hdu in hdus[1:]
            if hdu.is_image
        }


def check_whole(path: Path, hdus: fits.HDUList) -> None:
    """Check that a file ends with its last extension, and all begin where they should."""
    size, end = path.stat().st_size, 0
    with path.open("rb") as file:
        # astropy reads whatever stands before a header as cards of that header.
        for hdu in hdus:
            place = hdu.fileinfo()
            file.seek(place["hdrLoc"])
            if file.read(8) not in (b"SIMPLE  ", b"XTENSION"):
                raise StepError(f"the extension {hdu.name} does not begin where it should")
            end = place["datLoc"] + place["datSpan"]
            if end > size:
                raise StepError(f"it ends within the extension {hdu.name}")
    if end < size:
        raise StepError(f"{size - end} bytes after the extension {hdu.name} do not belong to any")


def settings_hdu(settings: Mapping[str, Any]) -> fits.BinTableHDU:
    """Settings, as from `wfssbkg.config.flat`, as an extension: names, and values as JSON."""
    rows = [(name, json.dumps(value)) for name, value in settings.items()]
    return fits.BinTableHDU(Table(rows=rows, names=("name", "value")), name="SETTINGS")


def read_settings(hdus: fits.HDUList) -> dict[str, Any]:
    """The settings of an open file; a KeyError if it has none."""
    return {str(row["name"]): json.loads(row["value"]) for row in hdus["SETTINGS"].data}
