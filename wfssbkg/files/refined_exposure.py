"""What makeBackgrounds.py keeps of an exposure: its bins, and what the refinement found in it."""

from pathlib import Path
from typing import NamedTuple

import numpy as np
from astropy.io import fits

from wfssbkg.files import fits_file

SCRIPT = "makeBackgrounds.py"


def write_bins(path: Path, value: np.ndarray, noise: np.ndarray) -> None:
    """Write the bins of an exposure: (ny, nx) arrays in DN/s, NaN where no pixel counts."""
    _write(path, {"VALUE": value, "NOISE": noise})


def read_bins(path: Path, rows: slice = slice(None)) -> list[np.ndarray]:
    """Read some rows of bins, as for `write_bins`; a StepError if the file cannot be read."""
    return fits_file.read_rows(path, dict.fromkeys(("VALUE", "NOISE"), rows), SCRIPT)


class Refined(NamedTuple):
    """What the refinement found in an exposure.

    Attributes
    ----------
    faint : (ny, nx) float array
        Flux of faint sources in each bin, DN/s; NaN where there is a brighter source.
    stripes, weight : (4, nx) float arrays
        1/f noise of each column of bins of each amplifier, DN/s, and 1/noise^2 of that.
    difference, difference_weight : (rows, columns) float arrays
        How much it differs from the background on large scales, relative to its level, and
        1/noise^2 of that: a map of `wfssbkg.combine.extra_light`.
    dark : float
        What was taken for the dark residual, and subtracted before the rest was found, DN/s.
    """

    faint: np.ndarray
    stripes: np.ndarray
    weight: np.ndarray
    difference: np.ndarray
    difference_weight: np.ndarray
    dark: float = 0.0


_IMAGES = [name for name in Refined._fields if name != "dark"]


def write(path: Path, found: Refined) -> None:
    """Write what the refinement found in an exposure."""
    images = {name.upper(): getattr(found, name) for name in _IMAGES}
    _write(path, images | {"DARK": [[found.dark]]})


def read(path: Path, rows: slice = slice(None)) -> Refined:
    """
    Read what the refinement found in an exposure.

    Parameters
    ----------
    path : `~pathlib.Path`
    rows : slice
        Of bins of the faint flux; all of the rest is read.

    Raises
    ------
    StepError
        If the file cannot be read.
    """
    wanted = {name.upper(): slice(None) for name in _IMAGES} | {"FAINT": rows, "DARK": slice(None)}
    *images, dark = fits_file.read_rows(path, wanted, SCRIPT)
    return Refined(*images, float(dark[0, 0]))


def _write(path: Path, images: dict[str, np.ndarray]) -> None:
    hdus = [fits.ImageHDU(np.asarray(x, dtype=np.float32), name=key) for key, x in images.items()]
    fits_file.write(path, [fits.PrimaryHDU(), *hdus])
