"""Pixels of a background that stand out: no sky is sharper than the optics."""

import numpy as np
from scipy import ndimage

_SIZE = 5  # px; side of the square whose median a pixel is compared with
# The median of n normal values has pi/2 times the variance of their mean (Kenney & Keeping,
# Mathematics of Statistics, part 2).
_MEDIAN_VARIANCE = np.pi / 2 / _SIZE**2


def find(sci: np.ndarray, err: np.ndarray, sigma: float) -> np.ndarray:
    """
    Pixels that differ from those around by more than their noise.

    They are bad, whatever their flags say: a dark current of their own, say. So near to each other
    light is the same.

    Parameters
    ----------
    sci, err : (ny, nx) float arrays
        A combined background and its uncertainty; NaN where there is no value.
    sigma : float
        How many standard deviations they differ by.

    Returns
    -------
    (ny, nx) bool array
    """
    known = np.isfinite(sci) & (err > 0)
    if not known.any():
        return known
    around = _median_around(np.where(known, sci, np.nan))
    typical = np.median(err[known])
    with np.errstate(invalid="ignore"):
        return np.abs(sci - around) > sigma * np.hypot(err, np.sqrt(_MEDIAN_VARIANCE) * typical)


def _median_around(image: np.ndarray) -> np.ndarray:
    """The median of a square around each pixel; unknown ones are half above it, half below."""
    unknown = np.isnan(image)
    above = (np.indices(image.shape).sum(axis=0) % 2).astype(bool)
    ready = np.where(unknown, np.where(above, np.inf, -np.inf), image)
    return ndimage.median_filter(ready, _SIZE, mode="reflect")
