"""Light on large scales that some exposures have and the sky has not.

Scattered light (the light saber), halos of galaxies, light within clusters, persistence: whatever
is not the sky is added to it, never taken away. So in each place the exposures that have least are
right, as long as there are enough of them to tell them from noise.

Maps have a value for each box of an exposure: the mean of what it has over the background.
"""

from dataclasses import dataclass
from functools import lru_cache

import bottleneck as bn
import numpy as np
from scipy import ndimage

from wfssbkg.combine import average, bins
from wfssbkg.detector import AMPLIFIERS, amplifier_of
from wfssbkg.smoothing import MEDIAN_SQUARE, gaussian_mean

_WIDTH = 0.7  # boxes; standard deviation of the Gaussian that maps are smoothed with
_LEAST_WEIGHT = 0.1  # of a full box: with less known, a box tells nothing
_CLIP = 2.0  # sigma above the least light beyond which an exposure has extra light
# What that clip takes from the mean of normal values: phi(2) / Phi(2) of their sigma.
_LOST = 0.05525
_SURE, _WINGS = 4.0, 0.5  # sigma that extra light has in its brightest box, and in its faintest
_FAULTY = 0.1  # of the exposures that may lack light in a place where the others do not
_ROUNDS, _INNER = 5, 3


def map_of(
    residual: np.ndarray, weight: np.ndarray, box: tuple[int, int]
) -> tuple[np.ndarray, np.ndarray]:
    """
    The mean of an exposure minus its background in boxes.

    Parameters
    ----------
    residual, weight : (ny, nx) float arrays
        In DN/s, and 1/noise^2; weight 0 where it does not count.
    box : (int, int)
        Height and width of a box, in bins.

    Returns
    -------
    mean, weight : (rows, columns) float64 arrays
        Weight is 1/noise^2 of the mean; both 0 where too little of a box counts.
    """
    total, weight, number = (
        bins.summed(x, box, np.float64) for x in (residual * weight, weight, weight > 0)
    )
    enough = number > box[0] * box[1] * _LEAST_WEIGHT
    return np.where(enough, total / np.where(enough, weight, 1), 0), np.where(enough, weight, 0)


def large_scale(residual: np.ndarray, weight: np.ndarray, box: tuple[int, int]) -> np.ndarray:
    """
    The structure of an exposure on large scales: medians of boxes, smoothed and interpolated.

    Parameters
    ----------
    residual, weight, box
        As for `map_of`.

    Returns
    -------
    (ny, nx) float32 array
    """
    known = np.where(weight > 0, residual, np.nan)
    first = np.searchsorted(amplifier_of(len(known)), np.arange(AMPLIFIERS))
    # By amplifier, since 1/f noise jumps from one to the next.
    return np.concatenate([_large_scale(part, box) for part in np.split(known, first[1:])])


def _large_scale(known: np.ndarray, box: tuple[int, int]) -> np.ndarray:
    median, number = bins.medians(known, box)
    enough = number > box[0] * box[1] * _LEAST_WEIGHT
    if not enough.any():
        return np.zeros(known.shape, dtype=np.float32)
    return enlarged(_filled(median, np.where(enough, number, 0)), known.shape)


def _filled(image: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """An image with values where it has no weight, from those around."""
    image = np.where(weight > 0, image, 0)
    for width in (0.7, 2, 8, 32, 128):
        if (weight > 0).all():
            break
        mean, _ = gaussian_mean(image, weight, width)
        known = np.isfinite(mean)
        fresh = known & (weight == 0)
        image = np.where(fresh, mean, image)
        weight = np.where(fresh, np.median(weight[weight > 0]), weight)
    return image


def image_of(extra: np.ndarray, shape: tuple[int, int], rows: slice) -> np.ndarray:
    """
    Extra light as an image; NaN where there is so much that it is not known well enough.

    Parameters
    ----------
    extra : (rows, columns) array
        From `find`.
    shape, rows
        As for `enlarged`.

    Returns
    -------
    (ny, nx) float32 array
    """
    strong = np.isnan(extra)
    image = enlarged(_filled(extra, 1.0 * ~strong), shape, rows)
    box = tuple(length // count for length, count in zip(shape, extra.shape, strict=True))
    strong = bins.repeated(strong, box)[rows]
    image[strong] = np.nan
    return image


def enlarged(image: np.ndarray, shape: tuple[int, int], rows: slice = slice(None)) -> np.ndarray:
    """
    A map as an image: interpolated linearly between the middles of its boxes.

    Parameters
    ----------
    image : (rows, columns) array
    shape : (int, int)
        Of the whole image.
    rows : slice
        Those that are asked for.

    Returns
    -------
    (ny, nx) float32 array
    """
    down, across = (
        _interpolation(length, count) for length, count in zip(shape, image.shape, strict=True)
    )
    return (down[rows] @ image @ across.T).astype(np.float32)


@lru_cache(maxsize=8)
def _interpolation(length: int, count: int) -> np.ndarray:
    """The share of each of `count` boxes in each of `length` places."""
    middles = (np.arange(count) + 0.5) * length / count - 0.5
    return np.array([np.interp(np.arange(length), middles, each) for each in np.eye(count)]).T


@dataclass
class Found:
    """What the exposures differ by on large scales, relative to the level of each.

    Attributes
    ----------
    extra : (n, rows, columns) float32 array
        What an exposure has more than the others; NaN where it is strong.
    light, variance : (n, rows, columns) float arrays
        The same smoothed, wherever it is strong as well, and its variance: infinite where nothing
        is known.
    level : (n,) float array
        By how much the level is too low.
    missing : (n,) float array
        Scatter of what it has less than the others have, noise included. Neither extra light nor
        1/f noise of one amplifier alone has part in it: where an exposure lacks light in a large
        part of the frame, its sky is another one.
    """

    extra: np.ndarray
    light: np.ndarray
    variance: np.ndarray
    level: np.ndarray
    missing: np.ndarray


def find(maps: np.ndarray, weights: np.ndarray, *, strong: float) -> Found:
    """
    Tell extra light from errors of the background made so far.

    Parameters
    ----------
    maps, weights : (n, rows, columns) float arrays
        Of n exposures, from `map_of`, relative to their levels.
    strong : float
        Extra light brighter than this is not known well enough to be subtracted.

    Returns
    -------
    Found

    Notes
    -----
    A map is the sum of what all exposures share (the error of the background), an offset of the
    level, extra light, and noise. Each is estimated from the map without the others, in turn.
    """
    number = len(maps)
    maps, noise2 = np.array(
        [_smoothed(image, weight) for image, weight in zip(maps, weights, strict=True)]
    ).swapaxes(0, 1)
    known = np.isfinite(noise2)
    extra, shared = np.zeros(maps.shape, dtype=bool), np.median(maps, axis=0)
    for _ in range(_ROUNDS):
        clean = np.where(known & ~extra, maps - shared, np.nan).reshape(number, -1)
        level = np.nan_to_num(bn.nanmedian(clean, axis=1))[:, None, None]
        level -= np.median(level)
        shared = np.median(maps - level, axis=0)
        for _ in range(_INNER):
            off2 = np.where(known, (maps - level - shared) ** 2 / noise2, np.nan)
            typical = np.nan_to_num(bn.nanmedian(off2.reshape(number, -1), axis=1))
            typical = np.maximum(typical / MEDIAN_SQUARE, 1)
            variance = noise2 * typical[:, None, None]
            shared = least_light(maps - level, variance)
        off = np.where(known, maps - level - shared, 0)
        extra = np.array([_connected(image) for image in off / np.sqrt(variance)])
    light = off.astype(np.float32)
    off[extra & (off > strong)] = np.nan
    return Found(off.astype(np.float32), light, noise2, level.ravel(), _missing(off))


def _missing(off: np.ndarray) -> np.ndarray:
    """The scatter of negative values, as if there were as many positive ones, of n maps."""
    amplifiers = amplifier_of(off.shape[1])
    columns = np.array([bn.nanmedian(off[:, amplifiers == k], axis=1) for k in range(AMPLIFIERS)])
    # Of a slope each amplifier has a part, alike in all its columns.
    columns -= bn.nanmedian(columns, axis=2)[:, :, np.newaxis]
    alone = np.nan_to_num(columns - bn.nanmedian(columns, axis=0)).swapaxes(0, 1)
    negative = np.minimum(off - alone[:, amplifiers], 0)
    return np.sqrt(2 * bn.nanmean(np.square(negative).reshape(len(off), -1), axis=1))


def _connected(significance: np.ndarray) -> np.ndarray:
    """Where a map is significant, with the fainter wings around."""
    return ndimage.binary_propagation(significance > _SURE, mask=significance > _WINGS)


def _smoothed(image: np.ndarray, weight: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """A map smoothed, and the variance of that; infinite where nothing is known."""
    mean, total = gaussian_mean(image, weight, _WIDTH)
    known = (total > 1e-3 * total.max()) & (weight.max() > 0)
    variance = 1 / (4 * np.pi * _WIDTH**2 * np.where(known, total, 1))
    return np.where(known, mean, 0), np.where(known, variance, np.inf)


def least_light(values: np.ndarray, variance: np.ndarray) -> np.ndarray:
    """
    The mean of the exposures that have no extra light, in each place.

    Parameters
    ----------
    values, variance : (n, ...) float arrays

    Returns
    -------
    (...) float array
        The mean of values less than `_CLIP` sigma above it, corrected for what the clip takes of
        normal noise. It starts from below, so that it is that of the lowest group of values. A
        tenth of them may be lower still, by a fault of theirs: they do not count.
    """
    weight = 1 / variance
    # By weights, since among exposures of unequal depth the lowest values are mostly noise.
    mean = average.weighted_quantile(values, np.sqrt(weight), 0.25)
    lowest = np.quantile(values, _FAULTY, axis=0, method="higher")
    sound = values - lowest > -_SURE * np.sqrt(variance)
    for _ in range(_ROUNDS):
        clean = sound & (values - mean < _CLIP * np.sqrt(variance))
        kept = np.where(clean, weight, 0)
        total = kept.sum(axis=0)
        lost = _LOST * (np.sqrt(kept)).sum(axis=0)
        mean = ((kept * values).sum(axis=0) + lost) / np.where(total > 0, total, 1)
    return mean
