"""Pixels without a value, filled from their neighbours with maskfill."""

import numpy as np
from maskfill import maskfill
from scipy import ndimage


def fill(image: np.ndarray, size: int) -> np.ndarray:
    """
    Fill the pixels without a value from their neighbours, with maskfill.

    Parameters
    ----------
    image : (ny, nx) float array
        NaN where there is no value.
    size : int
        Window of maskfill, px, odd.

    Returns
    -------
    (ny, nx) float32 array

    References
    ----------
    van Dokkum & Pasha 2024, PASP 136, 034503.
    """
    empty = ~np.isfinite(image)
    if not empty.any():
        return np.array(image, dtype=np.float32)
    filled, _ = maskfill(np.array(image, dtype=np.float64), empty, size=size, smooth=True)
    return np.where(empty, filled, image).astype(np.float32)


def reach(image: np.ndarray, size: int) -> int:
    """How far, in px, a value goes from its pixel when an image is filled; as for `fill`."""
    empty = ~np.isfinite(image)
    # Each pass fills half a window from the edge of a hole; smoothing reaches as far again.
    deepest = int(ndimage.distance_transform_cdt(empty, "chessboard").max())
    return deepest + 2 * (size // 2)
