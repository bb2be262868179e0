"""The NIRISS detector: which pixels see the sky, and which amplifier reads them."""

import numpy as np

AMPLIFIERS = 4  # each reads a quarter of the rows (JWST documentation, NIRISS detector readout)

# The outer rows and columns see no light: reference pixels (JWST documentation, NIRISS detector).
REFERENCE_BORDER = 4

# Of the aperture NIS_CEN in the SIAF, PRDOPSSOC-075: the linear terms from pixels to its ideal
# frame, arcsec (Sci2IdlX10 ... Y11), and the pixel, counted from 1, that points at RA_REF, DEC_REF.
PIXEL_MATRIX = ((0.06532425, 0.0), (-0.00029946, 0.06581494))
REFERENCE_PIXEL = 1024.5, 1024.5

# px of the first order's trace. F115W, F150W, F200W: the in-flight configuration of the NIRISS
# team (GRISMCONF V5). The others: their bandpass (JWST documentation, NIRISS filters) at its 4.7 nm
# a px.
TRACE_LENGTHS = {"F090W": 44, "F115W": 58, "F140M": 32, "F150W": 72, "F158M": 43, "F200W": 101}


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
