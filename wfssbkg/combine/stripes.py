"""1/f noise: what is constant in a column of an amplifier and jumps at the next amplifier."""

import numpy as np

from wfssbkg.detector import AMPLIFIERS, amplifier_of

NORMAL_MAD = 1.4826  # standard deviation of a normal distribution over its median deviation


def of_exposure(residual: np.ndarray, weight: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """
    The stripes of an exposure: the mean residual in each column of each amplifier.

    Parameters
    ----------
    residual, weight : (ny, nx) float arrays
        Exposure minus its background, DN/s, and 1/noise^2; weight 0 where there are sources.
        What is more than 3 sigma off is left out as well.

    Returns
    -------
    stripes : (4, nx) float32 array
        DN/s; 0 where fewer than a tenth of the column counts.
    information : (4, nx) float32 array
        Sum of the weights; 0 there.
    """
    counts = (weight > 0) & (residual**2 * weight < 9)
    information, number, total = (
        amplifier_sums(image)
        for image in (np.where(counts, weight, 0), counts, residual * weight * counts)
    )
    enough = number > 0.1 * residual.shape[0] / AMPLIFIERS
    stripes = np.where(enough, total / np.where(enough, information, 1), 0)
    return stripes.astype(np.float32), np.where(enough, information, 0).astype(np.float32)


def amplifier_sums(image: np.ndarray) -> np.ndarray:
    """The sums over each column of each amplifier: of (..., ny, nx) values, (..., 4, nx) sums."""
    first = np.searchsorted(amplifier_of(image.shape[-2]), np.arange(AMPLIFIERS))
    return np.add.reduceat(image, first, axis=-2, dtype=np.float64)


def shared(stripes: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """
    The stripes that all exposures share, without outliers.

    Stripes are measured against the background made so far, so that an error of it in a whole
    column appears in the stripes of all exposures. To subtract it would hide that error from all
    later refinements.

    Parameters
    ----------
    stripes, weight : (n, 4, nx) float arrays
        Relative to the level of each exposure, and 1/noise^2.

    Returns
    -------
    (4, nx) float32 array
        The weighted mean, without those more than 3 sigma from it; sigma is that of the exposure.
    """
    noise2 = np.divide(1, weight, out=np.full(weight.shape, np.inf), where=weight > 0)
    typical = np.median(noise2, axis=(1, 2), keepdims=True)
    kept = weight.astype(np.float64)
    for _ in range(4):
        total = kept.sum(axis=0)
        mean = (kept * stripes).sum(axis=0) / np.where(total > 0, total, 1)
        deviation = np.abs(stripes - mean)
        sigma = NORMAL_MAD * np.median(deviation, axis=(1, 2), keepdims=True)
        of_stripes = np.maximum(sigma**2 - typical, 0)
        kept = np.where(deviation <= 3 * sigma, 1 / (noise2 + of_stripes), 0)
    return mean.astype(np.float32)


def none(columns: int) -> np.ndarray:
    """No stripes, for so many columns."""
    return np.zeros((AMPLIFIERS, columns), dtype=np.float32)


def as_image(stripes: np.ndarray, rows: int, wanted: slice = slice(None)) -> np.ndarray:
    """
    Stripes as an image.

    Parameters
    ----------
    stripes : (4, nx) float array
    rows : int
        Rows of the image.
    wanted : slice
        Those that are asked for.

    Returns
    -------
    (ny, nx) float array
    """
    return stripes[amplifier_of(rows, wanted)]
