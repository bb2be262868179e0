"""The estimators that combine the values of many exposures in each pixel."""

import bottleneck as bn
import numpy as np
from astropy.stats import sigma_clip

BLOCK = 8192  # pixels; what fits into the cache of the processor takes a fraction of the time


def shares(information: np.ndarray) -> np.ndarray:
    """
    The part each exposure has in the background.

    Parameters
    ----------
    information : (bands, n) float array
        Of each exposure: the sum of (level/noise)^2 over pixels that count, or their number.

    Returns
    -------
    (n,) float array
        Their sum is 1. To six digits, so that the order of summation does not show.
    """
    total = information.sum(axis=0)
    return np.round(total / total.sum(), 6)


def median(
    values: np.ndarray, noise: np.ndarray, *, clip_sigma: float | None = None
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """
    The median of the exposures in each pixel, its uncertainty, and their number.

    Parameters
    ----------
    values, noise : (n, rows, columns) float32 arrays
        Normalised exposures and their noise; NaN where a pixel does not count.
    clip_sigma : float, optional
        Leave out values this many standard deviations from the median of the pixel, repeatedly,
        before the median is taken.

    Returns
    -------
    median, uncertainty : (rows, columns) float32 arrays
        NaN where no exposure counts.
    number : (rows, columns) int16 array
        Exposures that count.

    Notes
    -----
    The uncertainty is that of the median of n normal values of unequal noise s_i,
    sqrt(n k(n)) / sum(1 / s_i), with k(n) the variance of the median of n equal normal values in
    units of that of their mean, which tends to pi/2: the density of the values at the median is
    what sets its variance (e.g. Kenney & Keeping, Mathematics of Statistics, part 2).
    """
    if clip_sigma is not None:
        clipped = sigma_clip(values, sigma=clip_sigma, axis=0, masked=False, copy=True)
        values = clipped.astype(np.float32, copy=False)
    counts = np.isfinite(values)
    number = counts.sum(axis=0, dtype=np.int16)
    middle = bn.nanmedian(values, axis=0)
    sharpness = np.where(counts, 1 / noise, 0).sum(axis=0, dtype=np.float64)
    with np.errstate(divide="ignore", invalid="ignore"):
        uncertainty = np.sqrt(number * _median_variance(number)) / sharpness
    uncertainty[number == 0] = np.nan
    return middle.astype(np.float32, copy=False), uncertainty.astype(np.float32), number


def weighted_mean(
    values: np.ndarray, noise: np.ndarray, clip_sigma: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """
    The mean of the exposures in each pixel, weighted by 1/noise^2, without outliers.

    Parameters
    ----------
    values, noise : (n, rows, columns) float32 arrays
        Normalised exposures and their noise; NaN where a pixel does not count.
    clip_sigma : float
        A value further than this from the weighted median, in units of its own predicted noise
        with that of the median, does not count.

    Returns
    -------
    mean, uncertainty : (rows, columns) float32 arrays
        NaN where no exposure counts.
    number : (rows, columns) int16 array
        Exposures that count.

    Notes
    -----
    Normalised by the level, the weights are (level/noise)^2. The median has weights 1/noise,
    which minimise the sum of absolute deviations in units of the noise; its variance is
    pi/2 / sum(1/noise^2).
    """
    flat = values.reshape(len(values), -1), noise.reshape(len(noise), -1)
    blocks = (np.s_[:, k : k + BLOCK] for k in range(0, flat[0].shape[1], BLOCK))
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        parts = [_mean_of_pixels(*(image[block] for image in flat), clip_sigma) for block in blocks]
    return tuple(
        np.concatenate(part).reshape(values.shape[1:]) for part in zip(*parts, strict=True)
    )


def _mean_of_pixels(
    values: np.ndarray, noise: np.ndarray, clip_sigma: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """As `weighted_mean`, of (n, pixels) arrays."""
    value, weight = values.copy(), np.isfinite(values) / noise
    bn.replace(weight, np.nan, 0)
    for unknown in (np.nan, np.inf, -np.inf):
        bn.replace(value, unknown, 0)
    # A median is within a standard deviation of the mean with the same weights. In most pixels
    # this shows that there is no outlier, without the median, which takes longer.
    total = weight.sum(axis=0)
    off = value - np.einsum("ij,ij->j", value, weight) / total
    most = np.abs(off) + np.sqrt(np.einsum("ij,ij,ij->j", off, off, weight) / total)
    doubtful = (most * weight > clip_sigma).any(axis=0)
    weight[:, doubtful] = _without_outliers(value[:, doubtful], weight[:, doubtful], clip_sigma)
    inverse = weight**2
    information = inverse.sum(axis=0, dtype=np.float64)
    information[information == 0] = np.nan
    mean = (inverse * value).sum(axis=0, dtype=np.float64) / information
    number = (weight > 0).sum(axis=0, dtype=np.int16)
    return mean.astype(np.float32), (information**-0.5).astype(np.float32), number


def _without_outliers(value: np.ndarray, weight: np.ndarray, clip_sigma: float) -> np.ndarray:
    """The weights, 1/noise, in (n, pixels) arrays; 0 for an outlier."""
    inverse = weight**2
    off = value - weighted_quantile(value, weight, 0.5)
    outlier = off**2 * inverse > clip_sigma**2 * (1 + np.pi / 2 * inverse / inverse.sum(axis=0))
    return np.where(outlier, 0, weight)


def weighted_quantile(value: np.ndarray, weight: np.ndarray, share: float) -> np.ndarray:
    """The value along the first axis of (n, ...) arrays at which a share of weights is reached."""
    order = np.argsort(np.where(weight > 0, value, np.inf), axis=0)
    reached = np.cumsum(np.take_along_axis(weight, order, axis=0), axis=0)
    first = np.argmax(reached >= share * reached[-1], axis=0)
    return np.take_along_axis(value, np.take_along_axis(order, first[np.newaxis], 0), 0)[0]


# n times the variance of the median of n standard normal values, n = 1, 2, ...: from the order
# statistics of the normal distribution (Teichroew 1956, Ann. Math. Statist. 27, 410).
_SMALL_MEDIAN_VARIANCE = (1.0, 1.0, 1.3460, 1.1930, 1.4339, 1.2883, 1.4731, 1.3455, 1.4948, 1.3831)


def _median_variance(number: np.ndarray) -> np.ndarray:
    """Variance of the median of n equal normal values, over that of their mean."""
    limit = np.pi / 2
    # Odd and even n approach the limit as 1/n, each with its own slope, fitted at n = 9 and 10.
    slopes = [
        (limit - _SMALL_MEDIAN_VARIANCE[9]) * 10,
        (limit - _SMALL_MEDIAN_VARIANCE[8]) * 9,
    ]
    n = np.maximum(number, 1).astype(np.float64)
    large = limit - np.where(number % 2 == 0, slopes[0], slopes[1]) / n
    small = np.array((1.0, *_SMALL_MEDIAN_VARIANCE))[np.minimum(number, 10)]
    return np.where(number <= 10, small, large)
