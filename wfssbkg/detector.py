"""The NIRISS detector: which pixels see the sky, and which amplifier reads them."""

import numpy as np

AMPLIFIERS = 4  # each reads a quarter of the rows (JWST documentation, NIRISS detector readout)

# The outer rows and columns see no light: reference pixels (JWST documentation, NIRISS detector).
REFERENCE_BORDER = 4


def science_pixels(shape: tuple[int, int]) -> np.ndarray:
    """
    The pixels that see the sky.

    Parameters
    ----------
    shape : (ny, nx)

    Returns
    -------
    (ny, nx) bool array
    """
    science = np.zeros(shape, dtype=bool)
    science[inner_pixels()] = True
    return science


def inner_pixels() -> tuple[slice, slice]:
    """The rows and columns that see the sky."""
    inner = slice(REFERENCE_BORDER, -REFERENCE_BORDER)
    return inner, inner


def amplifier_of(rows: int, wanted: slice = slice(None)) -> np.ndarray:
    """
    The number of the amplifier, from 0, that reads each of some rows.

    Parameters
    ----------
    rows : int
        Rows of the frame, or of bins of it.
    wanted : slice
        The rows that are asked for.

    Returns
    -------
    1-D int array
    """
    return np.arange(rows)[wanted] * AMPLIFIERS // rows
