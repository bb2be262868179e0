"""FITS files: written in one go, read in parts, and what is wrong with one in words."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from astropy.io import fits

from wfssbkg import StepError
from wfssbkg.layout import replacing


def write(path: Path, hdus: list[Any], **options: Any) -> None:
    """
    Write a FITS file so that a reader never meets half of it.

    Parameters
    ----------
    path : `~pathlib.Path`
    hdus : list of HDUs
        As for `~astropy.io.fits.HDUList`.
    **options
        As for its `writeto`.

    Raises
    ------
    StepError
        If there is a folder of that name.
    OSError
        If the disk is full, or nothing may be written there: no other file will fare better.
    """
    if path.is_dir():
        raise StepError(f"{path} is a folder, expected a file. Remove it")
    try:
        with replacing(path) as temporary:
            fits.HDUList(hdus).writeto(temporary, **options)
    except OSError as error:
        raise OSError(
            f"{path} cannot be written ({first_line(error)}). Where the disk is full, make room; "
            "then run the same command again"
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


def read_rows(
    path: Path,
    wanted: dict[str, slice],
    script: str,
    *,
    expand: Callable[..., np.ndarray] | None = None,
) -> list[np.ndarray]:
    """
    Read some rows of some images of a file; only they are read from disk.

    Parameters
    ----------
    path : `~pathlib.Path`
    wanted : dict
        Name of the extension to its rows.
    script : str
        The script that makes the file.
    expand : callable, optional
        What makes values of the numbers of an image that has BSCALE; it is called with them in one
        row, BZERO, BSCALE and BLANK.

    Returns
    -------
    list of 2-D arrays
        In native byte order.

    Raises
    ------
    StepError
        If the file cannot be read; it says to run the script again.
    """
    with _naming(path, script):
        places = _places(path, path.stat().st_mtime_ns)
        return [_rows(path, places[name], rows, expand) for name, rows in wanted.items()]


def shape(path: Path, name: str, script: str) -> tuple[int, int]:
    """The size (ny, nx) of an image of a file; errors as for `read_rows`."""
    with _naming(path, script):
        return _places(path, path.stat().st_mtime_ns)[name].shape


@contextmanager
def _naming(path: Path, script: str) -> Iterator[None]:
    """Let errors name a file that cannot be read."""
    try:
        yield
    except (OSError, KeyError, ValueError, TypeError, StepError) as error:
        raise unreadable(path, error, script) from None


def unreadable(path: Path, error: Exception, script: str) -> StepError:
    """What to say of a file that cannot be read, and that a script makes."""
    return StepError(f"{path} cannot be read ({error}). Remove it and run {script} again")


class _Place(NamedTuple):
    """Where the pixels of an image are in its file, and how they are kept there."""

    offset: int  # byte
    dtype: np.dtype
    shape: tuple[int, int]
    scale: tuple[float, float, int] | None  # BZERO, BSCALE, BLANK


@lru_cache(maxsize=16384)
def _places(path: Path, changed: int) -> dict[str, _Place]:
    """Where the images of a file are; `changed` is when, so that a new file is looked at again.

    astropy takes a ms for each header, which is most of the time that a few rows of a file take.
    """
    with opened(path) as hdus:
        return {
            hdu.name: _Place(
                hdu.fileinfo()["datLoc"],
                np.dtype(fits.hdu.image.BITPIX2DTYPE[hdu.header["BITPIX"]]).newbyteorder(">"),
                hdu.shape,
                _scale(hdu.header),
            )
            for hdu in hdus[1:]
        }


def _scale(header: fits.Header) -> tuple[float, float, int] | None:
    if "BSCALE" not in header:
        return None
    return float(header["BZERO"]), float(header["BSCALE"]), int(header["BLANK"])


def _rows(
    path: Path, place: _Place, rows: slice, expand: Callable[..., np.ndarray] | None
) -> np.ndarray:
    """Some rows of an image, in native byte order."""
    first, last, _ = rows.indices(place.shape[0])
    count = (last - first) * place.shape[1]
    start = place.offset + first * place.shape[1] * place.dtype.itemsize
    part = np.fromfile(path, dtype=place.dtype, count=count, offset=start)
    if part.size < count:
        raise ValueError("it is cut short")
    if not part.dtype.isnative:
        part = part.byteswap(inplace=True).view(part.dtype.newbyteorder())
    if place.scale and expand:
        part = expand(part, *place.scale)
    return part.reshape(last - first, place.shape[1])


def check_whole(path: Path, hdus: fits.HDUList) -> None:
    """
    Check that an open file consists of whole extensions.

    Raises
    ------
    StepError
        If it ends within one, or has something before or after one that is none.
    """
    size, end = path.stat().st_size, 0
    with path.open("rb") as file:
        for hdu in hdus:
            place = hdu.fileinfo()
            file.seek(place["hdrLoc"])
            # astropy takes what stands before a header, as after a part too many, for cards.
            if file.read(8) not in (b"SIMPLE  ", b"XTENSION"):
                raise StepError(f"the extension {hdu.name} does not begin where it should")
            end = place["datLoc"] + place["datSpan"]
            if end > size:
                raise StepError(f"it ends within the extension {hdu.name}")
    if end < size:
        raise StepError(f"{size - end} bytes after the extension {hdu.name} are no extension")


def made_with(path: Path) -> str:
    """The fingerprint of the settings a file was made with; '' if there is no whole file."""
    try:
        with opened(path) as hdus:
            check_whole(path, hdus)
            return str(hdus[0].header["SETTINGS"])
    except StepError:
        return ""


def first_line(error: BaseException) -> str:
    """The beginning of an error's message, or its type."""
    lines = str(error).strip().splitlines()
    return printable(lines[0])[:200] if lines else type(error).__name__


def printable(text: str) -> str:
    """Text in printable ASCII, which is what FITS tables and a terminal can take."""
    return "".join(c if " " <= c <= "~" else "?" for c in text)
