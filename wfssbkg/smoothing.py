"""The weighted mean of an image over a Gaussian."""

import numpy as np
from scipy import ndimage

# The median of the squares of normal values, in units of their variance.
MEDIAN_SQUARE = 0.4549


def gaussian_mean(
    value: np.ndarray,
    weight: np.ndarray,
    widths: float | tuple[float, float],
    *,
    mode: str = "constant",
) -> tuple[np.ndarray, np.ndarray]:
    """
    The weighted mean of an image over a Gaussian around each pixel.

    Parameters
    ----------
    value : (ny, nx) float array
        Where `weight` is 0 it may be anything, also NaN.
    weight : (ny, nx) float array
        At least 0.
    widths : float, or (float, float)
        Standard deviations of the Gaussian, in rows and in columns, px.
    mode : str
        What is beyond the edges, as for `scipy.ndimage.gaussian_filter`; the default is nothing.

    Returns
    -------
    mean : (ny, nx) float array
        NaN where the Gaussian reaches no weight.
    total : (ny, nx) float array
        The weight, averaged over the Gaussian; with n pixels of equal weight w under it,
        1 / (n w) is the variance of the mean, n = 4 pi times the product of the widths.
    """
    product = np.where(weight > 0, value, 0) * weight
    total, mean = (
        ndimage.gaussian_filter(x, widths, mode=mode, truncate=3) for x in (weight, product)
    )
    with np.errstate(invalid="ignore"):  # 0 / 0 where no weight is reached
        return mean / total, total
