"""FITS files: written in one go, and what is wrong with one in words."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

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
