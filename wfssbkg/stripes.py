"""1/f noise: what is constant in a column of an amplifier and jumps at the next amplifier."""

from __future__ import annotations

import warnings

import numpy as np
from numpy.polynomial import legendre
from scipy import ndimage

NORMAL_MAD = 1.4826  # standard deviation of a normal distribution over its median deviation
PARTS = 8  # of an amplifier's rows
FLOAT32_PRECISION = 1e-7
AMPLIFIERS = 4  # each reads a quarter of the rows (JWST documentation, NIRISS detector readout)


def of_exposure(residual: np.ndarray, noise: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """
    The stripes of an exposure: the mean residual in each column of each amplifier.

    Parameters
    ----------
    residual, noise : (ny, nx) float arrays
        Exposure minus its background, and its noise, DN/s.
    counts : (ny, nx) bool array
        Pixels without sources; those more than 3 sigma off are left out as well.

    Returns
    -------
    (4, nx) float32 array
        DN/s; 0 where fewer than a tenth of the pixels count.
    """
    counts = counts & (np.abs(residual) < 3 * noise)
    total = _per_amplifier(np.where(counts, residual, 0)).sum(axis=1, dtype=np.float64)
    number = _per_amplifier(counts).sum(axis=1)
    enough = number > 0.1 * residual.shape[0] / AMPLIFIERS
    return np.where(enough, total / np.maximum(number, 1), 0).astype(np.float32)


def spread(stripes: np.ndarray, rows: int) -> np.ndarray:
    """
    Stripes as an image.

    Parameters
    ----------
    stripes : (4, nx) float array
    rows : int
        Rows of the image.

    Returns
    -------
    (rows, nx) float array
    """
    return stripes[np.arange(rows) * AMPLIFIERS // rows]


def _per_amplifier(image: np.ndarray) -> np.ndarray:
    ny, nx = image.shape
    return image.reshape(AMPLIFIERS, ny // AMPLIFIERS, nx)


def of_background(background: np.ndarray, *, along_x: bool) -> np.ndarray:
    """
    The stripes left in a combined background, relative to it.

    The sky is continuous from one amplifier to the next; stripes are not. Sharp structure of
    the sky lies along the dispersion only, so:

    - dispersed along x (GR150C), the columns' own structure is the same in all amplifiers but
      for a slow change with y. What deviates from a straight line in y is stripes; of those, the
      mean and the slope over the amplifiers cannot be told from the sky, and stay.
    - dispersed along y (GR150R), the sky varies slowly with x: all that does not is stripes.

    Parameters
    ----------
    background : (ny, nx) float array
        NaN where it is not known.
    along_x : bool
        Whether the grism disperses along x.

    Returns
    -------
    (4, nx) float array
        As fractions of the background.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # columns without any value
        columns = np.nanmedian(background, axis=0)
        rows = np.nanmedian(background / columns, axis=1)
        flat = background / (columns * rows[:, np.newaxis]) - 1
        # A stripe is the same in all parts of an amplifier; a dispersed spot or dust is not.
        means = [
            [np.nanmean(part, axis=0) for part in np.array_split(amplifier, PARTS)]
            for amplifier in _per_amplifier(flat)
        ]
        profile = np.nanmedian(means, axis=1)
    known = np.isfinite(profile).all(axis=0)
    profile = np.where(known, profile, 0)
    if along_x:
        profile -= _straight_line(profile)
    else:
        profile += np.where(known, np.log(np.where(known, columns, 1)), 0)
    return np.stack([_without_slow_part(one, known) for one in profile])


def _straight_line(profile: np.ndarray) -> np.ndarray:
    """The least-squares straight line over the amplifiers, in each column."""
    place = np.arange(AMPLIFIERS) - (AMPLIFIERS - 1) / 2
    slope = place @ profile / (place @ place)
    return profile.mean(axis=0) + place[:, np.newaxis] * slope


def _without_slow_part(profile: np.ndarray, known: np.ndarray, degree: int = 3) -> np.ndarray:
    """
    A profile minus its slow change with x (a polynomial); 0 at sharp structure.

    Sharp structure is what stands out by 5 sigma (a dispersed spot, a step), with 8 px around.
    """
    x = np.linspace(-1, 1, len(profile))
    kept = known
    for _ in range(4):
        if kept.sum() <= degree:  # next to no sky: nothing can be told
            return np.zeros(len(profile))
        slow = legendre.legval(x, legendre.legfit(x[kept], profile[kept], degree))
        deviation = np.abs(profile - slow)
        limit = max(5 * NORMAL_MAD * np.median(deviation[kept]), FLOAT32_PRECISION)
        kept = known & ~ndimage.binary_dilation(known & (deviation > limit), iterations=8)
    return np.where(kept, profile - slow, 0)
