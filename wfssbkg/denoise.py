"""Non-local means, maskfill."""

from __future__ import annotations

import numpy as np
from maskfill import maskfill
from scipy import ndimage
from skimage.restoration import denoise_nl_means


def denoise(
    image: np.ndarray,
    noise: float,
    *,
    patch_size: int,
    patch_distance: int,
    strength: float,
) -> np.ndarray:
    """
    Smooth an image with non-local means, which keeps compact structure.

    Parameters
    ----------
    image : (ny, nx) float array
        NaN where there is no value.
    noise : float
        Typical noise of a pixel, in the units of the image.
    patch_size : int
        Side of the patches that are compared, px.
    patch_distance : int
        How far to look for similar patches, px.
    strength : float
        Cut-off distance in units of the noise; 0 returns the image as it is.

    Returns
    -------
    (ny, nx) float32 array
        NaN where the image is.
    """
    image = np.asarray(image, dtype=np.float32)
    empty = ~np.isfinite(image)
    if strength == 0 or empty.all():
        return image.copy()
    smooth = denoise_nl_means(
        _bridge(image, empty),
        patch_size=patch_size,
        patch_distance=patch_distance,
        h=strength * noise,
        fast_mode=True,
        preserve_range=True,
    )
    smooth[empty] = np.nan
    return smooth


def fill(image: np.ndarray, *, size: int) -> np.ndarray:
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


def _bridge(image: np.ndarray, empty: np.ndarray) -> np.ndarray:
    """Put a local mean where there is no value: non-local means knows no NaN."""
    weight = (~empty).astype(np.float32)
    known = np.where(empty, 0, image)
    bridged = known.copy()
    for width in (5, 15, 65, 2 * max(image.shape) + 1):
        left = empty & (bridged == 0)
        if not left.any():
            break
        mean_weight = ndimage.uniform_filter(weight, width, mode="constant")
        enough = left & (mean_weight > 0.5 / width**2)
        mean = ndimage.uniform_filter(known, width, mode="constant")
        bridged[enough] = mean[enough] / mean_weight[enough]
    return bridged
