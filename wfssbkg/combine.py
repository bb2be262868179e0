"""Levels, row bands, the estimators."""

from __future__ import annotations

from collections.abc import Iterator

import bottleneck as bn
import numba
import numpy as np
from astropy.stats import mad_std, sigma_clip, sigma_clipped_stats
from scipy import ndimage

from wfssbkg import StepError, cells

# Bytes a pixel of one exposure takes while a band is combined: values and noise in float32, the
# mask, the normalised copies, and the estimator's own copy.
BYTES_PER_PIXEL = 24
NEAR = 0.3  # standard deviations; the median of 24 values is mostly this near to their mean
BAND_ROWS = 64  # more gain nothing: memory that is used again is faster than new memory


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
        raise StepError("nothing is unmasked inside the border (combine.level_border)")
    level = float(sigma_clipped_stats(values.astype(np.float64), sigma=sigma)[1])
    if not level > 0:
        raise StepError(f"the sky level is {level:.3g} DN/s, expected above 0")
    return level


def some(image: np.ndarray) -> np.ndarray:
    """Every seventh value of an image: enough to fit a level to."""
    return image.ravel()[::7]


def fit_level(value: np.ndarray, weight: np.ndarray, background: np.ndarray) -> float:
    """
    The factor that fits the background to an exposure best.

    Parameters
    ----------
    value, weight : (n,) float arrays
        `some` of the exposure, DN/s, and of 1/noise^2; weight 0 where it does not count.
    background : (n,) float array
        NaN where it is not known.

    Returns
    -------
    float
        DN/s. Weighted least squares without values more than 3 sigma off: their number, not
        their noise, limits the fit.

    Raises
    ------
    StepError
        If no value is left, or the background does not fit.
    """
    counts = (weight > 0) & np.isfinite(background)
    y, x, weight = (part[counts].astype(np.float64) for part in (value, background, weight))
    if not len(y):
        raise StepError("nothing is left unmasked to fit the level to")
    level = float(np.median(y[::3] / x[::3]))  # to begin with
    for _ in range(3):
        level = _fitted(y, x, weight, level)
        if not np.isfinite(level):
            raise StepError("the background does not fit this exposure anywhere")
    return level


@numba.njit(cache=True, error_model="numpy", fastmath={"reassoc"})
def _fitted(y: np.ndarray, x: np.ndarray, weight: np.ndarray, level: float) -> float:
    """The weighted least-squares factor of the values within 3 sigma of a level; NaN if none is."""
    top, bottom = 0.0, 0.0
    for k in range(len(y)):
        near = weight[k] * (y[k] - level * x[k]) ** 2 < 9
        top += weight[k] * x[k] * y[k] if near else 0.0
        bottom += weight[k] * x[k] * x[k] if near else 0.0
    return top / bottom


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


def structure(residual: np.ndarray, weight: np.ndarray, *, box: tuple[int, int]) -> float:
    """
    How much an exposure differs from the background on large scales.

    Parameters
    ----------
    residual, weight : (ny, nx) float arrays
        Exposure minus its background, DN/s, and 1/noise^2; weight 0 where it does not count.
    box : (int, int)
        Height and width of the boxes the residual is averaged in.

    Returns
    -------
    float
        RMS of the averages beyond what their noise makes, DN/s; NaN if no box has a quarter of
        its pixels.
    """
    total, weight, number = (
        cells.binned(x, box, np.float64) for x in (residual * weight, weight, weight > 0)
    )
    enough = number > box[0] * box[1] / 4
    if not enough.any():
        return np.nan
    mean, variance = total[enough] / weight[enough], 1 / weight[enough]
    return float(np.sqrt(max(np.mean(mean**2 - variance), 0)))


def excess(image: np.ndarray, err: np.ndarray, widths: tuple[float, float]) -> float:
    """
    The robust standard deviation of a smoothed image beyond that of its noise.

    Parameters
    ----------
    image, err : (ny, nx) float arrays
        NaN where it is not known.
    widths : (float, float)
        Standard deviations of the Gaussian it is smoothed with, in its rows and columns.

    Returns
    -------
    float
        In units of the image; 0 where noise explains all.
    """
    known = np.isfinite(image) & (err > 0)
    if not known.any():
        return 0.0
    weight = np.where(known, 1 / np.square(np.where(known, err, 1)), 0)
    total, information = (
        ndimage.gaussian_filter(x, widths) for x in (np.where(known, image, 0) * weight, weight)
    )
    smooth = total[known] / information[known]
    noise2 = 1 / (4 * np.pi * widths[0] * widths[1] * np.median(information[known]))
    return float(np.sqrt(max(mad_std(smooth) ** 2 - noise2, 0)))


def band_memory(memory_gb: float, workers: int) -> float:
    """
    Bytes one worker may use for a band.

    Parameters
    ----------
    memory_gb : float
        What all processes together may take, GB.
    workers : int
    """
    # What Python and its libraries take, in each worker and in the main process with its frames.
    overhead = 0.25e9 * workers + 0.5e9
    return max(memory_gb * 1e9 - overhead, 0.1e9) / workers


def bands(
    rows: int,
    columns: int,
    exposures: int,
    memory_bytes: float,
    *,
    step: int = 1,
) -> Iterator[slice]:
    """
    Slices of rows that fit into memory for all exposures at once; of at most `BAND_ROWS` rows.

    Parameters
    ----------
    rows, columns : int
        Size of the frame.
    exposures : int
    memory_bytes : float
        What one band may take.
    step : int
        The heights are multiples of this, but for the last.

    Yields
    ------
    slice
        From the first row to the last, without a gap; at least `step` rows each.
    """
    height = int(memory_bytes // (BYTES_PER_PIXEL * columns * max(exposures, 1)))
    height = max(min(height, BAND_ROWS) // step * step, step)
    for first in range(0, rows, height):
        yield slice(first, min(first + height, rows))


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


@numba.njit(cache=True, error_model="numpy")
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
    n, rows, columns = values.shape
    mean = np.full((rows, columns), np.nan, dtype=np.float32)
    uncertainty = np.full((rows, columns), np.nan, dtype=np.float32)
    number = np.zeros((rows, columns), dtype=np.int16)
    value, weight = np.empty(n), np.empty(n)
    for y in range(rows):
        count, total, information, farthest = _of_row(values, noise, y)
        for x in range(columns):
            if count[x] == 0:
                continue
            if farthest[x] > clip_sigma:
                k = 0
                for i in range(n):
                    if np.isfinite(values[i, y, x]):
                        value[k], weight[k] = values[i, y, x], 1 / np.float64(noise[i, y, x])
                        k += 1
                count[x], total[x], information[x] = _without_outliers(
                    value[:k], weight[:k], information[x], clip_sigma
                )
            mean[y, x] = total[x] / information[x]
            uncertainty[y, x] = 1 / np.sqrt(information[x])
            number[y, x] = count[x]
    return mean, uncertainty, number


@numba.njit(cache=True, error_model="numpy")
def _of_row(
    values: np.ndarray, noise: np.ndarray, y: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """
    What `weighted_mean` needs of the pixels of a row, all exposures counted.

    Mostly it tells that a pixel has no outlier, without finding its median, which takes several
    times as long. No loop has a branch, so that several pixels are worked on at a time.

    Parameters
    ----------
    values, noise : (n, rows, columns) float32 arrays
    y : int
        The row. (Of a part of an array, numba would not know that its pixels are neighbours.)

    Returns
    -------
    count : (columns,) int16 array
    total, information : (columns,) float64 arrays
        Sums of value/noise^2, and of 1/noise^2.
    farthest : (columns,) float64 array
        The most, in sigma, that a value can be off the weighted median.
    """
    n, _, columns = values.shape
    count = np.zeros(columns, dtype=np.int16)
    total, information, sharpness = np.zeros(columns), np.zeros(columns), np.zeros(columns)
    first, second, farthest = np.zeros(columns), np.zeros(columns), np.zeros(columns)
    below, above = np.zeros(columns), np.zeros(columns)
    for i in range(n):
        for x in range(columns):
            counts = np.isfinite(values[i, y, x])
            v = np.float64(values[i, y, x]) if counts else 0.0
            w = 1 / np.float64(noise[i, y, x]) if counts else 0.0
            count[x] += counts
            information[x] += w * w
            total[x] += v * w * w
            sharpness[x] += w
            first[x] += v * w
            second[x] += v * v * w
    # A median is within a standard deviation of the mean with the same weights, and within a part
    # of it if not more than half of the weight is beyond, on either side.
    middle = first / sharpness
    spread = np.sqrt(np.maximum(second / sharpness - middle * middle, 0.0))
    variance = np.pi / 2 / information
    for i in range(n):
        for x in range(columns):
            w = 1 / np.float64(noise[i, y, x])
            below[x] += w if values[i, y, x] < middle[x] - NEAR * spread[x] else 0.0
            above[x] += w if values[i, y, x] > middle[x] + NEAR * spread[x] else 0.0
    for x in range(columns):
        is_near = max(below[x], above[x]) < 0.5 * sharpness[x]
        spread[x] *= NEAR if is_near else 1.0
    for i in range(n):
        for x in range(columns):
            inverse = (1 / np.float64(noise[i, y, x])) ** 2
            distance = abs(values[i, y, x] - middle[x]) + spread[x]
            off = distance * distance * inverse / (1 + variance[x] * inverse)
            farthest[x] = off if off > farthest[x] else farthest[x]  # off is NaN if not counted
    return count, total, information, np.sqrt(farthest)


@numba.njit(cache=True, error_model="numpy")
def _without_outliers(
    value: np.ndarray, weight: np.ndarray, information: float, clip_sigma: float
) -> tuple[int, float, float]:
    """Count, total and information as in `_of_row`, of one pixel, without outliers.

    `weight` is 1/noise; changes the order of both arrays.
    """
    middle = _weighted_median(value, weight)
    variance = np.pi / 2 / information
    count, total, information = 0, 0.0, 0.0
    for i in range(len(value)):
        inverse = weight[i] ** 2
        if (value[i] - middle) ** 2 * inverse <= clip_sigma**2 * (1 + variance * inverse):
            total += value[i] * inverse
            information += inverse
            count += 1
    return count, total, information


@numba.njit(cache=True)
def _weighted_median(value: np.ndarray, weight: np.ndarray) -> float:
    """The value at which half of the weights is reached; changes the order of both arrays.

    Hoare's selection: of the parts on either side of a pivot, only the one with the median is
    looked at again, so that the time is in proportion to the number of values.
    """
    first, last = 0, len(value) - 1
    half = 0.5 * weight.sum()
    while first < last:
        pivot = value[(first + last) // 2]
        i, j, below = first, last, 0.0
        while i <= j:
            while value[i] < pivot:
                i += 1
            while value[j] > pivot:
                j -= 1
            if i <= j:
                value[i], value[j] = value[j], value[i]
                weight[i], weight[j] = weight[j], weight[i]
                i += 1
                j -= 1
        for k in range(first, j + 1):
            below += weight[k]
        if half <= below:
            last = j
            continue
        for k in range(j + 1, i):  # equal to the pivot
            below += weight[k]
        if half <= below:
            return pivot
        half -= below
        first = i
    return value[first]


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
