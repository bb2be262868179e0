"""Cells: averages of an exposure over a few pixels along the dispersion, to find traces in."""

from __future__ import annotations

import numba
import numpy as np

from wfssbkg import StepError

# px; traces are tens of pixels long, zeroth orders about this long. Direct images, whose sources
# have no direction, have their cells along y, so that each column keeps its own stripes.
SIZE = 4


def average(
    sci: np.ndarray, err: np.ndarray, bad: np.ndarray, *, along_x: bool
) -> tuple[np.ndarray, np.ndarray]:
    """
    Averages of a masked exposure over cells, weighted by 1/err^2.

    Parameters
    ----------
    sci, err : (ny, nx) float32 arrays
    bad : (ny, nx) bool array
        Pixels that do not count.
    along_x : bool
        Whether the grism disperses along x: cells are then SIZE pixels wide, otherwise high.

    Returns
    -------
    value, noise : float32 arrays
        A cell each; NaN where no pixel counts.

    Raises
    ------
    StepError
        If the frame does not divide into cells.
    """
    ny, nx = sci.shape
    if ny % SIZE or nx % SIZE:
        raise StepError(f"the frame is {nx} x {ny} pixels, expected multiples of {SIZE}")
    return _average(sci, err, bad, pixels(along_x=along_x))


@numba.njit(cache=True)
def _average(
    sci: np.ndarray, err: np.ndarray, bad: np.ndarray, size: tuple[int, int]
) -> tuple[np.ndarray, np.ndarray]:
    rows, columns = sci.shape[0] // size[0], sci.shape[1] // size[1]
    value, noise = np.empty((2, rows, columns), dtype=np.float32)
    for row in range(rows):
        for column in range(columns):
            total, information = 0.0, 0.0
            for y in range(row * size[0], (row + 1) * size[0]):
                for x in range(column * size[1], (column + 1) * size[1]):
                    if not bad[y, x] and err[y, x] > 0:
                        weight = 1 / np.float64(err[y, x]) ** 2
                        total += sci[y, x] * weight
                        information += weight
            known = information > 0
            value[row, column] = total / information if known else np.nan
            noise[row, column] = 1 / np.sqrt(information) if known else np.nan
    return value, noise


def any_of(image: np.ndarray, *, along_x: bool) -> np.ndarray:
    """Cells with a pixel that is True in a bool image."""
    ny, nx = image.shape
    if along_x:  # as many bytes as a cell are looked at in one go
        return np.ascontiguousarray(image).view(f"u{SIZE}") != 0
    return image.reshape(ny // SIZE, SIZE, nx).any(axis=1)


def weight(noise: np.ndarray) -> np.ndarray:
    """1/noise^2 of some cells; 0 where the noise is not known."""
    return np.where(np.isnan(noise), 0, 1 / np.square(noise))


def shape(frame: tuple[int, int], *, along_x: bool) -> tuple[int, int]:
    """Rows and columns of cells in a frame of (ny, nx) pixels."""
    ny, nx = frame
    return (ny, nx // SIZE) if along_x else (ny // SIZE, nx)


def expand(image: np.ndarray, *, along_x: bool) -> np.ndarray:
    """The pixels of some cells, each with the value of its cell."""
    return np.repeat(image, SIZE, axis=1 if along_x else 0)


def binned(image: np.ndarray, bins: tuple[int, int], dtype: type | None = None) -> np.ndarray:
    """
    Sums of an image over bins; those at the far edges may be smaller.

    Parameters
    ----------
    image : (ny, nx) array
    bins : (int, int)
        Height and width of a bin.
    dtype : type, optional
        Of the sums.
    """
    if bins == (1, 1):
        return image.astype(dtype or image.dtype, copy=False)
    beyond = [(0, -length % size) for length, size in zip(image.shape, bins, strict=True)]
    if any(width for _, width in beyond):
        image = np.pad(image, beyond)
    image = image.astype(dtype or image.dtype)
    rows = sum(image[k :: bins[0]] for k in range(bins[0]))
    return sum(rows[:, k :: bins[1]] for k in range(bins[1]))


def pixels(*, along_x: bool) -> tuple[int, int]:
    """Height and width of a cell, px."""
    return (1, SIZE) if along_x else (SIZE, 1)
