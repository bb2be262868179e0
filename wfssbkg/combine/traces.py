"""Sources in an exposure minus its background: faint traces, their number, their flux.

All images are on the grid of `wfssbkg.combine.bins`, with the dispersion along the second axis, so
that bins of GR150R come transposed.
"""

import numpy as np
from astropy.stats import mad_std
from scipy import ndimage

from wfssbkg.combine import bins
from wfssbkg.combine.bins import SIZE
from wfssbkg.smoothing import gaussian_mean

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
    Bins of all sources, faint traces included, and the numbers of the brighter ones.

    At each scale, from the first to the last, the residual is averaged with a Gaussian over the
    bins not found before. A bin is found where that average is both significant and worth
    masking.

    Parameters
    ----------
    residual, weight : (ny, nx) float32 arrays
        Bins of an exposure minus its background, DN/s, and 1/noise^2; weight 0 where unknown.
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

    Returns
    -------
    (k,) int array
        Pixels touch at their sides, not at their corners.
    """
    return np.array([ndimage.label(image > limit)[1] for limit in limits], dtype=int)


def _scatter(mean: np.ndarray, sigma: np.ndarray) -> float:
    """
    The noise of an average as it shows, which 1/f noise and faint flux make larger than `sigma`.

    A robust standard deviation; infinite if nothing is known.
    """
    few = np.s_[::6, ::6]  # enough for a median
    known = mean[few][np.isfinite(sigma[few])]
    return float(mad_std(known)) if known.size else np.inf


def pixel_noise(weight: np.ndarray) -> float:
    """The noise of a typical pixel, in units of weight^-1/2; infinite if no bin is known."""
    few = weight.ravel()[::49]  # enough for a median
    known = few > 0
    return float(np.sqrt(SIZE / np.median(few[known]))) if known.any() else np.inf


def gain(scale: tuple[float, float]) -> float:
    """The factor by which an average over a Gaussian of these widths is less noisy than a pixel."""
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
        0 and infinity where there are hardly any data.
    """
    widths = np.array([scale[1], scale[0] / SIZE])  # in rows and in columns
    # Boxes of at most half a standard deviation lose nothing, and there are fewer of them.
    box = tuple(2 ** int(max(np.log2(width / 2), 0)) for width in widths)
    widths /= box
    total, information = (bins.summed(image, box) for image in (residual * weight, weight))
    with np.errstate(invalid="ignore"):  # 0 / 0 where nothing is known
        value = total / information
    mean, mean_weight = gaussian_mean(value, information, tuple(widths))
    known = mean_weight > 1e-3 * mean_weight.max()
    # A Gaussian of these widths averages 4 pi sigma_x sigma_y boxes of equal weight.
    number = np.float32(4 * np.pi * np.prod(widths))
    variance = 1 / (number * np.where(known, mean_weight, 1))
    mean = np.where(known, mean, np.float32(0))
    sigma = np.where(known, np.sqrt(variance), np.float32(np.inf))
    ny, nx = residual.shape
    return tuple(bins.repeated(image, box)[:ny, :nx] for image in (mean, sigma))


def faint_flux(
    members: list[tuple[np.ndarray, np.ndarray]],
    offsets: list[tuple[float, float]],
    *,
    scale: tuple[float, float],
    threshold: float,
) -> list[np.ndarray]:
    """
    The flux of sources too faint to mask, from all dithers of a field together.

    Parameters
    ----------
    members : list of (residual, weight)
        (ny, nx) float32 arrays as for `find`, an exposure each; weight 0 where masked.
    offsets : list of (float, float)
        Where each exposure sees the same sources: px across and along the dispersion, relative
        to the first.
    scale : (float, float)
        Standard deviations of the Gaussian that flux is averaged with, px along and across.
    threshold : float
        In sigma of that average; fainter flux is left alone.

    Returns
    -------
    list of (ny, nx) float32 arrays
        DN/s in the bins of each exposure.
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
    flux = np.where(mean > threshold * sigma, mean, 0)
    return [flux[window] for window in windows]
