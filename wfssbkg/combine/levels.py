"""The level of the sky in an exposure."""

import numpy as np
from astropy.stats import sigma_clipped_stats

from wfssbkg.errors import StepError


def sky_level(
    value: np.ndarray, masked: np.ndarray, *, border: tuple[int, int], sigma: float
) -> float:
    """
    The level of an exposure: the sigma-clipped median of what is not masked.

    Parameters
    ----------
    value : (ny, nx) float array
        DN/s
    masked : (ny, nx) bool array
    border : (int, int)
        Rows and columns left out at each edge.
    sigma : float
        Clipping, in standard deviations.

    Returns
    -------
    float
        DN/s

    Raises
    ------
    StepError
        If nothing is left, or the level is not positive.
    """
    inner = tuple(
        slice(width, size - width) for width, size in zip(border, value.shape, strict=True)
    )
    values = value[inner][~masked[inner]]
    if values.size == 0:
        raise StepError("no unmasked pixel is inside the border (combine.level_border)")
    level = float(sigma_clipped_stats(values.astype(np.float64), sigma=sigma)[1])
    if not level > 0:
        raise StepError(f"the sky level is {level:.3g} DN/s, expected above 0")
    return level


def subsample(image: np.ndarray) -> np.ndarray:
    """Every seventh value of an image: enough to fit a level to."""
    return image.ravel()[::7]


def fit_level(value: np.ndarray, weight: np.ndarray, background: np.ndarray) -> float:
    """
    The factor that fits the background to an exposure best.

    Parameters
    ----------
    value, weight : (n,) float arrays
        A `subsample` of the exposure, DN/s, and of 1/noise^2; weight 0 where it does not count.
    background : (n,) float array
        NaN where it is not known.

    Returns
    -------
    float
        DN/s, by weighted least squares without values more than 3 sigma off.

    Raises
    ------
    StepError
        If no value is left, or the background does not fit.
    """
    counts = (weight > 0) & np.isfinite(background)
    y, x, weight = (part[counts].astype(np.float64) for part in (value, background, weight))
    if not len(y):
        raise StepError("no unmasked pixel is left to fit the level to")
    level = float(np.median(y[::3] / x[::3]))  # to begin with
    for _ in range(3):
        near = weight * (y - level * x) ** 2 < 9
        information = np.sum(weight[near] * x[near] ** 2)
        if not information > 0:
            raise StepError("the background does not fit this exposure anywhere")
        level = float(np.sum(weight[near] * x[near] * y[near]) / information)
    return level
