"""Whether a file is the rate file it should be."""

from __future__ import annotations

from pathlib import Path

from astropy.io import fits

from wfssbkg import StepError
from wfssbkg.files import check_whole, opened, printable
from wfssbkg.layout import Combination

# Extension -> the kind of its numbers: BITPIX and BZERO of the FITS standard.
_FLOAT, _FLAGS = {(-32, 0.0), (-64, 0.0)}, {(32, 2.0**31)}
_IMAGES = {"SCI": _FLOAT, "ERR": _FLOAT, "DQ": _FLAGS, "VAR_POISSON": _FLOAT, "VAR_RNOISE": _FLOAT}
_UNIT = "DN/s"


def check(path: Path, size: int = 0) -> fits.Header:
    """
    Check that a file is a whole rate file: five images of equal 2-D shape, and of their types.

    Parameters
    ----------
    path : `~pathlib.Path`
    size : int
        Expected size in bytes; 0 if it is not known.

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
        found = path.stat().st_size
        with path.open("rb") as file:
            start = file.read(64)
    except FileNotFoundError:
        raise StepError("it is missing. Run queryData.py again") from None
    except OSError as error:
        raise StepError(f"cannot be read ({error.strerror})") from error
    if not start.startswith(b"SIMPLE  ="):
        words = printable(start.decode("ascii", "replace").strip())[:20]
        what = f"starts with '{words}'" if start else "empty"
        raise StepError(f"not a FITS file ({what})")
    if size and found != size:
        raise StepError(f"{found} bytes instead of {size}")
    with opened(path) as hdus:
        missing = [name for name in _IMAGES if name not in hdus or not hdus[name].is_image]
        if missing:
            raise StepError(f"no image extension {', '.join(missing)}")
        check_whole(path, hdus)
        shapes = [hdus[name].shape for name in _IMAGES]
        if len(shapes[0]) != 2 or len(set(shapes)) != 1:
            words = ", ".join("x".join(map(str, shape)) for shape in shapes)
            raise StepError(f"{', '.join(_IMAGES)} have the shapes {words}")
        for name, kinds in _IMAGES.items():
            _check_kind(hdus[name].header, name, kinds)
        header = hdus[0].header.copy(strip=True)
    try:
        for card in header.cards:
            card.value = card.value  # a card that is none shows only now
        fits.PrimaryHDU(header=header).verify("exception")
    except (ValueError, fits.VerifyError) as error:
        words = printable(" ".join(str(error).split()))[:200]
        raise StepError(f"its header is damaged: {words}") from error
    sides = (header.get("SUBSIZE2"), header.get("SUBSIZE1"))
    if None not in sides and sides != shapes[0]:
        raise StepError(f"the frame is {shapes[0][1]}x{shapes[0][0]}, its header says "
                        f"{sides[1]}x{sides[0]} (SUBSIZE1, SUBSIZE2)")  # fmt: skip
    return header


def _check_kind(header: fits.Header, name: str, kinds: set[tuple[int, float]]) -> None:
    """Check type and unit of the pixels of an extension."""
    kind = header.get("BITPIX"), header.get("BZERO", 0.0)
    if kind not in kinds or header.get("BSCALE", 1) != 1:
        wanted = "32-bit flags" if kinds is _FLAGS else "floating-point numbers"
        raise StepError(f"the extension {name} does not hold {wanted} (BITPIX {kind[0]}, "
                        f"BZERO {kind[1]:g})")  # fmt: skip
    unit = header.get("BUNIT", _UNIT)
    if name in ("SCI", "ERR") and unit != _UNIT:
        raise StepError(f"the extension {name} is in '{printable(str(unit))}', expected {_UNIT}")


def check_belongs(header: fits.Header, combination: Combination | None) -> None:
    """
    Check that an exposure is of NIRISS and of a combination.

    Parameters
    ----------
    header : `~astropy.io.fits.Header`
        The primary one.
    combination : `~wfssbkg.layout.Combination` or None
        None: any.

    Raises
    ------
    StepError
        Names the keyword, what it is and what was expected.
    """
    expected = {"TELESCOP": "JWST", "INSTRUME": "NIRISS", "DETECTOR": "NIS"}
    if combination:
        expected |= {
            "FILTER": combination.grating,
            "PUPIL": combination.filter,
            "EXP_TYPE": combination.exp_type,
            "SUBARRAY": "FULL",
        }
    for key, value in expected.items():
        if key not in header:
            raise StepError(f"its header has no {key}, expected {value}")
        if str(header[key]).strip().upper() != value:
            raise StepError(f"{key} is '{printable(str(header[key]))}', expected {value}")
