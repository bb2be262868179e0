"""Whether a file is the rate file it should be."""

import hashlib
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from astropy.io import fits
from astropy.time import Time

from wfssbkg.errors import StepError, printable
from wfssbkg.files.fits_file import check_whole, opened

# What an extension holds, as BITPIX and BZERO of the FITS standard.
_KINDS = {"floating-point numbers": [(-32, 0), (-64, 0)], "32-bit flags": [(32, 2**31)]}
_FLOATS, _FLAGS = _KINDS
_IMAGES = dict.fromkeys(("SCI", "ERR", "DQ", "VAR_POISSON", "VAR_RNOISE"), _FLOATS) | {"DQ": _FLAGS}
_UNIT = "DN/s"
_TOLERANCE = 0.01
PACKED = ("gz", "bz2", "xz", "z", "zip")  # how the names of compressed files end


def is_complete(header: Mapping[str, Any], step: str) -> bool:
    """Whether a primary header says that a step of the pipeline was done, e.g. S_FLAT."""
    return str(header.get(step)).strip().upper() == "COMPLETE"


def check(path: Path, size: int = 0) -> fits.Header:
    """
    Check that a file is a whole rate file: five images of equal 2-D shape, and of their types.

    Parameters
    ----------
    path : `~pathlib.Path`
    size : int
        About how large it should be, in bytes; 0 if that is not known.

    Returns
    -------
    `~astropy.io.fits.Header`
        The primary one.

    Raises
    ------
    StepError
        With what is wrong. The pixels are not read.
    """
    try:
        with path.open("rb") as file:
            start = printable(file.read(20).decode("ascii", "replace"))
    except FileNotFoundError:
        raise StepError("it is missing. Run queryData.py again") from None
    except OSError as error:
        raise StepError(f"cannot be read ({error.strerror})") from error
    if not start.startswith("SIMPLE  ="):
        what = f"starts with '{start}'" if start else "empty"
        raise StepError(f"not a FITS file ({what})")
    found = path.stat().st_size
    if not about(found, size):
        raise StepError(f"{found} bytes instead of {size}")
    with opened(path) as hdus:
        missing = [name for name in _IMAGES if name not in hdus or not hdus[name].is_image]
        if missing:
            raise StepError(f"no image extension {', '.join(missing)}")
        check_whole(path, hdus)
        shapes = [hdus[name].shape for name in _IMAGES]
        if len(shapes[0]) != 2 or len(set(shapes)) != 1:
            raise StepError(f"{', '.join(_IMAGES)} have the shapes {shapes}")
        for name, wanted in _IMAGES.items():
            _check_kind(hdus[name].header, name, wanted)
        header = hdus[0].header.copy(strip=True)
    try:
        for card in header.cards:
            card.value = card.value  # astropy parses a card, or finds it damaged, only when asked
        fits.PrimaryHDU(header=header).verify("exception")
    except (ValueError, fits.VerifyError) as error:
        words = printable(" ".join(str(error).split()))[:200]
        raise StepError(f"its header is damaged: {words}") from error
    ny, nx = header.get("SUBSIZE2"), header.get("SUBSIZE1")
    if None not in (ny, nx) and (ny, nx) != shapes[0]:
        frame = f"{shapes[0][1]}x{shapes[0][0]}"
        raise StepError(f"the frame is {frame}, its header says {nx}x{ny} (SUBSIZE1, SUBSIZE2)")
    return header


def about(size: int, other: int) -> bool:
    """Whether two sizes agree within 1 %, as those of catalogues do; 0 is not known."""
    return not (size and other) or abs(size - other) <= _TOLERANCE * max(size, other)


def md5(path: Path) -> str:
    """The checksum of a file as the archive gives it."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "md5").hexdigest()


def start(header: Mapping[str, Any]) -> float:
    """When an exposure began, MJD, by EXPSTART or else DATE-OBS; NaN where neither tells."""
    if isinstance(found := header.get("EXPSTART"), int | float) and found > 0:
        return float(found)
    date, time = str(header.get("DATE-OBS")), header.get("TIME-OBS") or "00:00"
    try:
        return float(Time(date if "T" in date else f"{date}T{time}").mjd)
    except ValueError:
        return math.nan


def _check_kind(header: fits.Header, name: str, wanted: str) -> None:
    """Check type and unit of the pixels of an extension."""
    bits, zero, scale = (header.get(key) for key in ("BITPIX", "BZERO", "BSCALE"))
    if scale not in (None, 1) or (bits, zero or 0) not in _KINDS[wanted]:
        found = f"(BITPIX {bits}, BZERO {zero or 0})"
        raise StepError(f"the extension {name} does not hold {wanted} {found}")
    unit = header.get("BUNIT", _UNIT)
    if name in ("SCI", "ERR") and unit != _UNIT:
        raise StepError(f"the extension {name} is in '{printable(str(unit))}', expected {_UNIT}")
