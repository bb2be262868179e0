"""The masked exposure: what makeMask.py hands to makeBackgrounds.py."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from astropy.io import fits

from wfssbkg import __version__
from wfssbkg.errors import StepError
from wfssbkg.files import fits_file
from wfssbkg.files.pointing import Pointing

# Bits of the MASK extension. A pixel counts in the background where it is neither bad nor of a
# source; those saturated at once are told apart, since many of them make a bright star.
BAD, SOURCE, SATURATED = 1, 2, 4
EXTENSIONS = ("SCI", "ERR", "MASK")
SCRIPT = "makeMask.py"
_BITS = {
    BAD: "BAD: bad pixel or reference pixel",
    SOURCE: "SOURCE: pixel of a source",
    SATURATED: "SATURATED: from the first group on",
}


def write(
    path: Path,
    *,
    sci: np.ndarray,
    err: np.ndarray,
    mask: np.ndarray,
    header: fits.Header,
    pointing: Pointing,
    fraction: float,
    settings: Mapping[str, Any],
) -> None:
    """
    Write a masked exposure.

    Parameters
    ----------
    path : `~pathlib.Path`
    sci, err : (ny, nx) float arrays
        Flat-fielded rate and the noise of its sky, DN/s.
    mask : (ny, nx) uint8 array
        Bits BAD, SOURCE and SATURATED.
    header : `~astropy.io.fits.Header`
        Primary header of the exposure.
    pointing : dict
        Its world coordinates, from `wfssbkg.files.pointing`.
    fraction : float
        Masked part of the science pixels.
    settings : mapping
        Those that it was made with, from `wfssbkg.files.up_to_date.bearing`.
    """
    primary = _primary(path, header)
    primary.header["MASKFRAC"] = (fraction, "masked part of the science pixels")
    images = [
        fits.ImageHDU(np.asarray(values, dtype=kind), name=name)
        for name, values, kind in zip(EXTENSIONS, (sci, err, mask), ("f4", "f4", "u1"), strict=True)
    ]
    images[0].header.update(pointing)
    images[0].header["BUNIT"] = images[1].header["BUNIT"] = "DN/s"
    for bit, meaning in _BITS.items():
        images[2].header[f"MASKBIT{bit.bit_length() - 1}"] = (bit, meaning)
    fits_file.write(path, [primary, *images, fits_file.settings_hdu(settings)])


def write_wfss_mask(
    path: Path, sky: np.ndarray, *, header: fits.Header, settings: Mapping[str, Any]
) -> None:
    """
    Write a mask as the JWST pipeline's background step takes it for `wfss_mask`.

    Parameters
    ----------
    path : `~pathlib.Path`
    sky : (ny, nx) bool array
        The pixels that see nothing but the sky.
    header : `~astropy.io.fits.Header`
        Primary header of the exposure.
    settings : mapping
        As for `write`.
    """
    primary = _primary(path, header)
    primary.header["DATAMODL"] = ("ImageModel", "data model of the JWST pipeline")
    image = fits.ImageHDU(sky.astype(np.uint8), name="MASK")
    image.header["COMMENT"] = "1: sky; 0: bad pixel, reference pixel or light of a source"
    fits_file.write(path, [primary, image, fits_file.settings_hdu(settings)])


def _primary(path: Path, header: fits.Header) -> fits.PrimaryHDU:
    """The primary HDU of what is made of an exposure."""
    primary = fits.PrimaryHDU(header=header.copy(strip=True))
    for key in ("CHECKSUM", "DATASUM", "NEXTEND"):
        primary.header.remove(key, ignore_missing=True)
    primary.header["FILENAME"] = path.name
    primary.header["WFSSBKG"] = (__version__, "version of WFSSBackgrounds")
    return primary


def read_headers(path: Path) -> tuple[fits.Header, fits.Header]:
    """The headers of a masked exposure: the primary one and that of SCI, or a StepError."""
    try:
        with fits_file.opened(path) as hdus:
            fits_file.check_whole(path, hdus)
            missing = [name for name in EXTENSIONS if name not in hdus]
            if missing:
                raise StepError(f"no extension {', '.join(missing)}")
            return hdus[0].header, hdus["SCI"].header
    except StepError as error:
        raise fits_file.unreadable(path, error, SCRIPT) from None


def flat_field_used(header: fits.Header) -> dict[str, str]:
    """The columns flat and crds_context of the exposure table, from a primary header."""
    flat = str(header.get("R_FLAT", "")).removeprefix("crds://")
    return {"flat": flat, "crds_context": str(header.get("CRDS_CTX", ""))}


def shape(path: Path) -> tuple[int, int]:
    """The size (ny, nx) of a masked exposure; a StepError if the file cannot be read."""
    _, header = read_headers(path)
    return header["NAXIS2"], header["NAXIS1"]


def read(path: Path, rows: slice = slice(None)) -> list[np.ndarray]:
    """
    Read some rows of a masked exposure; only they are read from disk.

    Parameters
    ----------
    path : `~pathlib.Path`
    rows : slice

    Returns
    -------
    sci, err : (rows, nx) float32 arrays
        DN/s
    mask : (rows, nx) uint8 array

    Raises
    ------
    StepError
        If the file cannot be read.
    """
    return fits_file.read_rows(path, dict.fromkeys(EXTENSIONS, rows), SCRIPT)
