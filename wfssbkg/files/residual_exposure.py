"""An exposure minus its sky, to look at: what compareBackgrounds.py makes if it is asked to."""

from pathlib import Path
from typing import Any

import numpy as np
from astropy.io import fits

from wfssbkg import __version__
from wfssbkg.errors import StepError
from wfssbkg.files import fits_file
from wfssbkg.files.temporary import remove_unfinished

# Bits of the MASK extension: why a pixel did not count.
BAD, SOURCE, UNKNOWN = 1, 2, 4
_BITS = {
    BAD: "BAD: bad pixel or reference pixel",
    SOURCE: "SOURCE: pixel of a source",
    UNKNOWN: "UNKNOWN: no value of a background",
}
_PRODUCT = "RESIDUAL"  # tells our files from others


def write(path: Path, sci: np.ndarray, mask: np.ndarray, cards: dict[str, tuple[Any, str]]) -> None:
    """
    Write an exposure minus its sky.

    Parameters
    ----------
    path : `~pathlib.Path`
    sci : (ny, nx) float array
        DN/s, flat field divided out.
    mask : (ny, nx) uint8 array
        Bits BAD, SOURCE and UNKNOWN; 0 where a pixel counted.
    cards : dict
        Keyword to value and comment, for the primary header.
    """
    primary = fits.PrimaryHDU()
    primary.header["FILENAME"] = path.name
    primary.header.update(cards)
    primary.header["PRODUCT"] = (_PRODUCT, "exposure minus its sky, flat field out")
    primary.header["WFSSBKG"] = (__version__, "version of WFSSBackgrounds")
    image = fits.ImageHDU(sci.astype(np.float32), name="SCI")
    image.header["BUNIT"] = "DN/s"
    why = fits.ImageHDU(mask, name="MASK")
    for bit, meaning in _BITS.items():
        why.header[f"MASKBIT{bit.bit_length() - 1}"] = (bit, meaning)
    fits_file.write(path, [primary, image, why])


def is_ours(path: Path) -> bool:
    """Whether a file is such a residual, which may be replaced or removed."""
    try:
        with fits_file.opened(path) as hdus:
            return hdus[0].header.get("PRODUCT") == _PRODUCT and "WFSSBKG" in hdus[0].header
    except StepError:
        return False


def remove_others(folder: Path, kept: set[Path]) -> None:
    """Remove the residuals of a folder but for some, and what a killed run left of them."""
    remove_unfinished(folder)
    for path in set(folder.glob("*_residual.fits")) - kept:
        if is_ours(path):
            path.unlink()
