"""Sources in an exposure minus its background: faint traces, their number, their light.

All images are on the grid of `wfssbkg.cells`, with the dispersion along the second axis, so that
cells of GR150R come transposed.
"""

from __future__ import annotations

import numba
import numpy as np
from astropy.stats import mad_std

from wfssbkg import cells
from wfssbkg.cells import SIZE

# Beyond 5 sigma of the average over a trace, a frame of noise has less than one peak, beyond 4
# sigma 16 (Adler 1981, The Geometry of Random Fields).
COUNTED = 5.0


def find(
    residual: np.ndarray,
    weight: np.ndarray,
    *,
    scales: list[tuple[float, float]],
    threshold: float,
    depth: float,
    fluxes: np.ndarray,
) -> tuple[np.ndarray, np.ndarray]:
    """
    Cells of all sources, faint traces included, and the numbers of the brighter ones.

    At each scale, from the first to the last, the residual is averaged with a Gaussian over the
    cells not found before. A cell is found where that average is both significant and worth
    masking.

    Parameters
    ----------
    residual, weight : (ny, nx) float32 arrays
        Cells of an exposure minus its background, DN/s, and 1/noise^2; weight 0 where unknown.
    scales : list of (float, float)
        Widths (standard deviations) of the Gaussian along and across the dispersion, px.
    threshold : float
        In sigma of the average.
    depth : float
        Least average that is masked, in units of the typical noise of a pixel.
    fluxes : (k,) float array
        Sources of which the average at the first scale is brighter than each are counted, DN/s.

    Returns
    -------
    found : (ny, nx) bool array
    numbers : (k,) float array
        Touching sources count as one. NaN for a flux below COUNTED times the scatter of the
        average: what is counted there would be noise.
    """
    found, numbers = np.zeros(residual.shape, dtype=bool), np.full(len(fluxes), np.nan)
    least = depth * pixel_noise(weight)
    for scale in scales:
        mean, sigma = average(residual, np.where(found, 0, weight), scale)
        if scale is scales[0]:
            reached = fluxes >= COUNTED * _scatter(mean, sigma)
            numbers[reached] = count(mean, fluxes[reached])
        found |= (mean > threshold * sigma) & (mean > least)
    return found, numbers


def count(image: np.ndarray, limits: np.ndarray) -> np.ndarray:
    """
    The number of sources brighter than each of some limits: of regions that do not touch.

    Parameters
    ----------
    image : (ny, nx) float array
    limits : (k,) float array
        In increasing order.

    Returns
    -------
    (k,) int array
        Pixels touch at their sides, not at their corners.
    """
    if not len(limits):
        return np.zeros(0, dtype=int)
    places = np.flatnonzero(image > limits[0])
    values = image.ravel()[places]
    order = np.argsort(-values)
    return _count(values[order], places[order], image.shape, limits)


@numba.njit(cache=True)
def _count(
    values: np.ndarray, places: np.ndarray, shape: tuple[int, int], limits: np.ndarray
) -> np.ndarray:
    """
    As `count`, of the brighter pixels from the brightest on; `places` are those in the raveled
    image.

    A pixel begins a region, and makes one of those that it touches: the regions above all limits
    are known in one go, where `scipy.ndimage.label` looks at the whole image for each.
    """
    ny, nx = shape
    member = np.full(ny * nx, -1, dtype=np.int32)  # of a pixel: the number it came in as
    parent = np.arange(len(places))
    numbers = np.zeros(len(limits), dtype=np.int64)
    regions, k = 0, len(limits) - 1
    for i in range(len(places)):
        while values[i] <= limits[k]:
            numbers[k] = regions
            k -= 1
        place = places[i]
        member[place] = i
        regions += 1
        y, x = place // nx, place % nx
        for there, inside in (
            (place - nx, y > 0),
            (place + nx, y < ny - 1),
            (place - 1, x > 0),
            (place + 1, x < nx - 1),
        ):
            if inside and member[there] >= 0:
                one, other = _root(parent, i), _root(parent, member[there])
                regions -= one != other
                parent[one] = other
    numbers[: k + 1] = regions
    return numbers


@numba.njit(cache=True)
def _root(parent: np.ndarray, i: int) -> int:
    while parent[i] != i:
        parent[i] = parent[parent[i]]  # the next way is shorter
        i = parent[i]
    return i


def _scatter(mean: np.ndarray, sigma: np.ndarray) -> float:
    """
    The noise of an average as it shows, which 1/f noise and faint light make larger than `sigma`.

    A robust standard deviation; infinite if nothing is known.
    """
    some = np.s_[::6, ::6]  # enough for a median
    known = mean[some][np.isfinite(sigma[some])]
    return float(mad_std(known)) if known.size else np.inf


def pixel_noise(weight: np.ndarray) -> float:
    """The noise of a typical pixel, in units of weight^-1/2; infinite if no cell is known."""
    some = weight.ravel()[::49]  # enough for a median
    known = some > 0
    return float(np.sqrt(SIZE / np.median(some[known]))) if known.any() else np.inf


def gain(scale: tuple[float, float]) -> float:
    """By how much an average over a Gaussian of these widths is less noisy than a pixel."""
    along, across = scale
    return float(np.sqrt(4 * np.pi * along * across))


def average(
    residual: np.ndarray, weight: np.ndarray, scale: tuple[float, float]
) -> tuple[np.ndarray, np.ndarray]:
    """
    The average over a Gaussian, weighted, and its noise.

    Parameters
    ----------
    residual, weight : (ny, nx) float32 arrays
        As for `find`.
    scale : (float, float)
        Standard deviations of the Gaussian along and across the dispersion, px.

    Returns
    -------
    mean, sigma : (ny, nx) float32 arrays
        0 and infinity where next to nothing is known.
    """
    along, across = scale[0] / SIZE, scale[1]
    # A coarser grid of at least two of its cells a standard deviation loses nothing.
    bins = tuple(2 ** int(max(np.log2(width / 2), 0)) for width in (across, along))
    total, information = (cells.binned(image, bins) for image in (residual * weight, weight))
    widths = across / bins[0], along / bins[1]
    kernels = [_gaussian(width) for width in widths]
    total, mean_weight = (_smoothed(image, *kernels) for image in (total, information))
    # A Gaussian of these widths averages 4 pi sigma_x sigma_y cells of equal weight.
    number = np.float32(4 * np.pi * widths[0] * widths[1])
    least = np.float32(1e-3 * mean_weight.max())
    images = _mean_and_noise(total, mean_weight, least, number)
    ny, nx = residual.shape
    return tuple(_spread(image, bins)[:ny, :nx] for image in images)


def _gaussian(width: float) -> np.ndarray:
    """The values of a Gaussian within 3 sigma; their sum is 1."""
    reach = int(3 * width + 0.5)
    values = np.exp(-0.5 * np.square(np.arange(-reach, reach + 1) / width))
    return (values / values.sum()).astype(np.float32)


@numba.njit(cache=True, error_model="numpy")
def _mean_and_noise(
    total: np.ndarray, weight: np.ndarray, least: float, number: float
) -> tuple[np.ndarray, np.ndarray]:
    """Mean and noise of `number` values with this mean weight; 0 and infinite below the least."""
    mean, sigma = np.empty_like(total), np.empty_like(total)
    none, infinite = np.float32(0), np.float32(np.inf)
    for y in range(total.shape[0]):
        for x in range(total.shape[1]):
            known = weight[y, x] > least
            mean[y, x] = total[y, x] / weight[y, x] if known else none
            sigma[y, x] = np.sqrt(1 / (number * weight[y, x])) if known else infinite
    return mean, sigma


@numba.njit(cache=True, fastmath=True)
def _smoothed(image: np.ndarray, across: np.ndarray, along: np.ndarray) -> np.ndarray:
    """
    An image smoothed with a kernel for each axis; nothing is beyond its edges.

    scipy's gaussian_filter does the same in eight times the time, which was a seventh of that of
    makeBackgrounds.py.
    """
    ny, nx = image.shape
    reach_y, reach_x = len(across) // 2, len(along) // 2
    smooth = np.zeros_like(image)
    row = np.zeros(nx + 2 * reach_x, dtype=image.dtype)
    for y in range(ny):
        row[:] = 0
        inner = row[reach_x : reach_x + nx]
        for k in range(max(-reach_y, -y), min(reach_y, ny - 1 - y) + 1):
            _add(inner, image[y + k], across[k + reach_y])
        for k in range(reach_x):  # the kernel is symmetric
            _add_both(smooth[y], row[k : k + nx], row[2 * reach_x - k :], along[k])
        _add(smooth[y], inner, along[reach_x])
    return smooth


@numba.njit(cache=True, fastmath=True)
def _add_both(total: np.ndarray, one: np.ndarray, other: np.ndarray, factor: float) -> None:
    for x in range(len(total)):
        total[x] += factor * (one[x] + other[x])


@numba.njit(cache=True, fastmath=True)
def _add(total: np.ndarray, values: np.ndarray, factor: float) -> None:
    for x in range(len(total)):
        total[x] += factor * values[x]


def _spread(image: np.ndarray, bins: tuple[int, int]) -> np.ndarray:
    """The cells of some bins, each with the value of its bin."""
    for axis, size in enumerate(bins):
        if size > 1:
            image = np.repeat(image, size, axis=axis)
    return image


def faint_light(
    members: list[tuple[np.ndarray, np.ndarray]],
    offsets: list[tuple[float, float]],
    *,
    scale: tuple[float, float],
    threshold: float,
) -> list[np.ndarray]:
    """
    Light of sources too faint to mask, from all dithers of a field together.

    Parameters
    ----------
    members : list of (residual, weight)
        (ny, nx) float32 arrays as for `find`, an exposure each; weight 0 where masked.
    offsets : list of (float, float)
        Where each exposure sees the same sources: px across and along the dispersion, relative
        to the first.
    scale : (float, float)
        Standard deviations of the Gaussian that light is averaged with, px along and across.
    threshold : float
        In sigma of that average; fainter light is left alone.

    Returns
    -------
    list of (ny, nx) float32 arrays
        DN/s in the cells of each exposure.
    """
    shifts = [(round(across), round(along / SIZE)) for across, along in offsets]
    margin = np.max(np.abs(shifts), axis=0)
    ny, nx = members[0][0].shape
    windows = [
        np.s_[dy + margin[0] : dy + margin[0] + ny, dx + margin[1] : dx + margin[1] + nx]
        for dy, dx in ((-across, -along) for across, along in shifts)
    ]
    total, weight = np.zeros((2, ny + 2 * margin[0], nx + 2 * margin[1]), dtype=np.float32)
    for window, (residual, known) in zip(windows, members, strict=True):
        total[window] += residual * known
        weight[window] += known
    stacked = np.divide(total, weight, out=np.zeros_like(total), where=weight > 0)
    mean, sigma = average(stacked, weight, scale)
    light = np.where(mean > threshold * sigma, mean, 0)
    return [light[window] for window in windows]
