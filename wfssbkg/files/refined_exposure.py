"""What makeBackgrounds.py keeps of an exposure: its bins, and what the refinement found in it."""

from pathlib import Path

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


def write(
    path: Path, source: np.ndarray, faint: np.ndarray, stripes: np.ndarray, weight: np.ndarray
) -> None:
    """
    Write what the refinement found in an exposure.

    Parameters
    ----------
    path : `~pathlib.Path`
    source : (ny, nx) bool array
        Bins with a source.
    faint : (ny, nx) float array
        Flux of fainter sources in each bin, DN/s.
    stripes, weight : (4, nx) float arrays
        1/f noise of each column of bins of each amplifier, DN/s, and 1/noise^2 of that.
    """
    faint = np.where(source, np.nan, faint)
    _write(path, {"FAINT": faint, "STRIPES": stripes, "WEIGHT": weight})


def read(path: Path, rows: slice = slice(None)) -> list[np.ndarray]:
    """
    Read some rows of the faint flux, NaN where there is a source, and all of the stripes.

    Parameters
    ----------
    path : `~pathlib.Path`
    rows : slice
        Of bins.

    Returns
    -------
    faint : (rows, nx) float32 array
    stripes, weight : (4, nx) float32 arrays
        As for `write`.

    Raises
    ------
    StepError
        If the file cannot be read.
    """
    wanted = {"FAINT": rows, "STRIPES": slice(None), "WEIGHT": slice(None)}
    return fits_file.read_rows(path, wanted, SCRIPT)


def _write(path: Path, images: dict[str, np.ndarray]) -> None:
    hdus = [fits.ImageHDU(np.asarray(x, dtype=np.float32), name=key) for key, x in images.items()]
    fits_file.write(path, [fits.PrimaryHDU(), *hdus])
