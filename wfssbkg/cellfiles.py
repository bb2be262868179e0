"""Cells in FITS files, as 16-bit integers: those of an exposure, and what is found in them."""

from __future__ import annotations

from pathlib import Path

import numba
import numpy as np
from astropy.io import fits

from wfssbkg import files

OF_CELLS = "VALUE", "NOISE"
SCRIPT = "makeBackgrounds.py"
_LARGEST = 2**15 - 1  # the largest 16-bit integer; one below its negative is BLANK


def of_cells(value: np.ndarray, noise: np.ndarray) -> list[fits.ImageHDU]:
    """
    The cells of an exposure, from `wfssbkg.cells.average`, in half the space of float32.

    The values are kept to 1/32 of the typical noise, to 1024 times it; the noise to 1/4096 of what
    is typical. A cell 16 times as noisy as that, which counts for nothing, becomes NaN.
    """
    some = np.s_[::3, ::3]
    known = np.isfinite(noise[some])
    level, typical = 0.0, 1.0
    if known.any():
        level, typical = (float(np.median(image[some][known])) for image in (value, noise))
    too_noisy = np.where(noise < 16 * typical, noise, np.nan)
    scales = (level, typical / 32), (8 * typical, typical / 4096)
    images = zip((value, too_noisy), scales, OF_CELLS, strict=True)
    return [_compact(image, *scale, name) for image, scale, name in images]


def read(path: Path, wanted: dict[str, slice], script: str) -> list[np.ndarray]:
    """Read some rows of some images; parameters and errors as for `wfssbkg.files.read_rows`."""
    return files.read_rows(path, wanted, script, expand=_expanded)


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
    hdus = [fits.PrimaryHDU(), light, fits.ImageHDU(stripes, name="STRIPES")]
    files.write(path, hdus, output_verify="ignore")  # all of it is ours


def read_refined(path: Path, rows: slice = slice(None)) -> list[np.ndarray]:
    """Read some rows of cells: light, NaN where there is a source; and all stripes."""
    return read(path, {"LIGHT": rows, "STRIPES": slice(None)}, SCRIPT)


def _compact(image: np.ndarray, zero: float, step: float, name: str) -> fits.ImageHDU:
    """An image as 16-bit integers, with the scale in the header; NaN becomes BLANK."""
    hdu = fits.ImageHDU(_numbers(image, np.float32(zero), np.float32(step)), name=name)
    hdu.header.update({"BSCALE": step, "BZERO": zero, "BLANK": -_LARGEST - 1})
    return hdu


@numba.njit(cache=True)
def _numbers(image: np.ndarray, zero: float, step: float) -> np.ndarray:
    numbers = np.empty(image.shape, dtype=np.int16)
    for y in range(image.shape[0]):
        for x in range(image.shape[1]):
            number = min(max(np.rint((image[y, x] - zero) / step), -_LARGEST), _LARGEST)
            # An integer of NaN would be any; it is not taken.
            numbers[y, x] = -_LARGEST - 1 if np.isnan(image[y, x]) else np.int16(number)
    return numbers


@numba.njit(cache=True)
def _expanded(numbers: np.ndarray, zero: float, step: float, blank: int) -> np.ndarray:
    """The inverse of `_compact`."""
    image = np.empty(numbers.shape, dtype=np.float32)
    for k in range(numbers.size):
        known = numbers[k] != blank
        image[k] = zero + step * numbers[k] if known else np.nan
    return image
