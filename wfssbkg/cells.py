"""Cells: averages of an exposure over a few pixels along the dispersion, to find traces in."""

from __future__ import annotations

import numpy as np

from wfssbkg import StepError

SIZE = 4  # px; traces are tens of pixels long, zeroth orders about this long


def average(
    sci: np.ndarray, err: np.ndarray, bad: np.ndarray, *, along_x: bool
) -> tuple[np.ndarray, np.ndarray]:
    """
    Averages over cells, weighted by 1/err^2.

    Parameters
    ----------
    sci, err : (ny, nx) float arrays
    bad : (ny, nx) bool array
        Pixels that do not count.
    along_x : bool
        Whether the grism disperses along x: cells are then SIZE pixels wide, otherwise high.

    Returns
    -------
    value, weight : float32 arrays
        A cell each; the weight is the sum of 1/err^2, 0 (and the value 0) where no pixel counts.

    Raises
    ------
    StepError
        If the frame does not divide into cells.
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        weight = np.where(bad, 0, 1 / np.square(err))
    total = np.where(bad, 0, sci) * weight
    total, weight = (_summed(image, along_x) for image in (total, weight))
    value = np.divide(total, weight, out=np.zeros_like(total), where=weight > 0)
    return value.astype(np.float32), weight.astype(np.float32)


def touched(mask: np.ndarray, *, along_x: bool) -> np.ndarray:
    """The cells with a pixel of a (ny, nx) bool mask."""
    return _in_cells(mask, along_x).any(axis=2 if along_x else 1)


def shape(frame: tuple[int, int], *, along_x: bool) -> tuple[int, int]:
    """Rows and columns of cells in a frame of (ny, nx) pixels."""
    ny, nx = frame
    return (ny, nx // SIZE) if along_x else (ny // SIZE, nx)


def expand(image: np.ndarray, *, along_x: bool) -> np.ndarray:
    """The pixels of some cells, each with the value of its cell."""
    return np.repeat(image, SIZE, axis=1 if along_x else 0)


def _summed(image: np.ndarray, along_x: bool) -> np.ndarray:
    return _in_cells(image, along_x).sum(axis=2 if along_x else 1)


def _in_cells(image: np.ndarray, along_x: bool) -> np.ndarray:
    """A view with one more axis, 2 or 1: the pixels of a cell."""
    ny, nx = image.shape
    if ny % SIZE or nx % SIZE:
        raise StepError(f"the frame is {nx} x {ny} pixels, expected multiples of {SIZE}")
    if along_x:
        return image.reshape(ny, nx // SIZE, SIZE)
    return image.reshape(ny // SIZE, SIZE, nx)
