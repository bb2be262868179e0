"""What makeBackgrounds.py writes down of each exposure while it works: cells, sources, stripes."""

from __future__ import annotations

from pathlib import Path

import numba
import numpy as np
from astropy.io import fits

from wfssbkg import files

SCRIPT = "makeBackgrounds.py"
_LARGEST = 2**15 - 1  # the largest 16-bit integer; one below its negative is BLANK


def write_cells(path: Path, value: np.ndarray, noise: np.ndarray) -> None:
    """
    Write the cells of an exposure, from `wfssbkg.cells.average`, in half the space of float32.

    The values are kept to 1/32 of the typical noise, to 1024 times it; the noise to 1/4096 of what
    is typical. A cell 16 times as noisy as that, which counts for nothing, becomes NaN.
    """
    some = np.s_[::3, ::3]
    known = np.isfinite(noise[some])
    level, typical = 0.0, 1.0
    if known.any():
        level, typical = (float(np.median(image[some][known])) for image in (value, noise))
    too_noisy = np.where(noise < 16 * typical, noise, np.nan)
    images = [
        _compact(value, level, typical / 32, "VALUE"),
        _compact(too_noisy, 8 * typical, typical / 4096, "NOISE"),
    ]
    files.write(path, [fits.PrimaryHDU(), *images])


def read_cells(path: Path, rows: slice = slice(None)) -> list[np.ndarray]:
    """Read some rows of cells: value and noise; errors as for `wfssbkg.files.read_rows`."""
    return files.read_rows(path, {"VALUE": rows, "NOISE": rows}, SCRIPT, expand=_expanded)


def write_refined(
    path: Path, source: np.ndarray, light: np.ndarray, stripes: np.ndarray, noise: float
) -> None:
    """
    Write what the refinement found in an exposure.

    Parameters
    ----------
    path : `~pathlib.Path`
    source : bool array
        Cells with a source.
    light : float array
        Light of fainter sources in each cell, DN/s. It is not kept where `source` is set.
    stripes : (4, columns) float array
        1/f noise of each column of cells of each amplifier, DN/s.
    noise : float
        Of a typical pixel, DN/s: the light is kept to 1/4096 of it, to 8 times it.
    """
    # The scale is the same each time, for a reader who remembers the header of the former file.
    step = noise / 4096 if np.isfinite(noise) else 1.0
    light = _compact(np.where(source, np.nan, light), 0.0, step, "LIGHT")
    files.write(path, [fits.PrimaryHDU(), light, fits.ImageHDU(stripes, name="STRIPES")])


def read_refined(path: Path, rows: slice = slice(None)) -> list[np.ndarray]:
    """Read some rows of cells: source (bool), light; and all stripes; errors as above."""
    wanted = {"LIGHT": rows, "STRIPES": slice(None)}
    light, stripes = files.read_rows(path, wanted, SCRIPT, expand=_expanded)
    source = np.isnan(light)
    light[source] = 0
    return [source, light, stripes]


def _compact(image: np.ndarray, zero: float, step: float, name: str) -> fits.ImageHDU:
    """An image as 16-bit integers, with the scale in the header; NaN becomes BLANK."""
    numbers = np.clip(np.round((image - zero) / step), -_LARGEST, _LARGEST)
    numbers[np.isnan(image)] = -_LARGEST - 1
    hdu = fits.ImageHDU(numbers.astype(np.int16), name=name)
    hdu.header.update({"BSCALE": step, "BZERO": zero, "BLANK": -_LARGEST - 1})
    return hdu


@numba.njit(cache=True)
def _expanded(numbers: np.ndarray, zero: float, step: float, blank: int) -> np.ndarray:
    """The inverse of `_compact`."""
    image = np.empty(numbers.shape, dtype=np.float32)
    for k in range(numbers.size):
        known = numbers[k] != blank
        image[k] = zero + step * numbers[k] if known else np.nan
    return image
