"""1/f noise: what is constant in a column of an amplifier and jumps at the next amplifier."""

from __future__ import annotations

import warnings
from concurrent.futures import ThreadPoolExecutor

import bottleneck as bn
import numba
import numpy as np
from numpy.polynomial import legendre
from scipy import ndimage

NORMAL_MAD = 1.4826  # standard deviation of a normal distribution over its median deviation
PARTS = 8  # of an amplifier's rows
BLOCKS = 32  # of columns; their height on either side of a border is as large
FLOAT32_PRECISION = 1e-7
AMPLIFIERS = 4  # each reads a quarter of the rows (JWST documentation, NIRISS detector readout)


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
    total, information, number = _sums(residual, weight, AMPLIFIERS)
    enough = number > 0.1 * residual.shape[0] / AMPLIFIERS
    stripes = np.where(enough, total / np.where(enough, information, 1), 0)
    return stripes.astype(np.float32), np.where(enough, information, 0).astype(np.float32)


@numba.njit(cache=True)
def _sums(
    residual: np.ndarray, weight: np.ndarray, parts: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """In each column of each part of the rows: residual times weight, weight, their number."""
    ny, nx = residual.shape
    total, information = np.zeros((2, parts, nx))
    number = np.zeros((parts, nx), dtype=np.int32)
    for y in range(ny):
        part = y * parts // ny
        for x in range(nx):
            r, w = residual[y, x], weight[y, x]
            counts = (w > 0) & (r * r * w < 9)
            total[part, x] += np.float64(r * w) if counts else 0.0
            information[part, x] += np.float64(w) if counts else 0.0
            number[part, x] += counts
    return total, information, number


def common(stripes: np.ndarray, weight: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """
    What the stripes of all exposures have in common, without outliers.

    An exposure's stripes are measured against the background so far, so that they hide what is
    wrong with it in whole columns: that is the same in all exposures, and must not be taken out of
    them, or no refinement could mend it.

    Parameters
    ----------
    stripes, weight : (n, 4, nx) float arrays
        Relative to the level of each exposure, and 1/noise^2.

    Returns
    -------
    mean : (4, nx) float32 array
        The weighted mean, without those more than 3 sigma from it; sigma is that of the exposure.
    chance : (4, nx) float32 array
        Stripes such as the background may hold, since the mean of the true ones is not 0: the
        same mean, less the one found, with signs by chance.
    """
    weight = weight.astype(np.float64)
    kept = weight
    for _ in range(4):
        total = kept.sum(axis=0)
        mean = (kept * stripes).sum(axis=0) / np.where(total > 0, total, 1)
        deviation = np.abs(stripes - mean)
        sigma = NORMAL_MAD * np.median(deviation, axis=(1, 2), keepdims=True)
        kept = np.where(deviation <= 3 * sigma, weight, 0)
    signs = np.random.default_rng(0).choice([-1, 1], len(stripes))[:, np.newaxis, np.newaxis]
    total = kept.sum(axis=0)
    chance = (kept * signs * (stripes - mean)).sum(axis=0) / np.where(total > 0, total, 1)
    return mean.astype(np.float32), chance.astype(np.float32)


def spread(stripes: np.ndarray, rows: int, some: slice = slice(None)) -> np.ndarray:
    """
    Stripes as an image.

    Parameters
    ----------
    stripes : (4, nx) float array
    rows : int
        Rows of the image.
    some : slice
        Those that are wanted.

    Returns
    -------
    (ny, nx) float array
    """
    return stripes[np.arange(rows)[some] * AMPLIFIERS // rows]


def _per_amplifier(image: np.ndarray) -> np.ndarray:
    ny, nx = image.shape
    return image.reshape(AMPLIFIERS, ny // AMPLIFIERS, nx)


def of_background(background: np.ndarray, *, along_x: bool) -> np.ndarray:
    """
    The stripes left in a combined background, relative to it.

    A stripe is the same all along an amplifier and jumps at the next; the sky is continuous from
    one amplifier to the next, and its sharp structure (the mirror's edges, spots, dust) lies
    along the dispersion:

    - dispersed along x (GR150C), the columns' own structure is the same in all amplifiers but for
      a slow change with y. What deviates from a straight line in y is stripes; of that line, what
      is sharp in x without standing out of the noise, as the mirror's edges and spots do.
    - dispersed along y (GR150R), the sky varies slowly with x: all that does not is stripes.

    Stripes that vary slowly with x show in neither, but in the steps at the amplifiers' borders.

    Parameters
    ----------
    background : (ny, nx) float array
        NaN where it is not known.
    along_x : bool
        Whether the grism disperses along x.

    Returns
    -------
    (4, nx) float32 array
        As fractions of the background.
    """
    slow = _steps(background).astype(np.float32)
    fast = _columns(background * (1 - spread(slow, len(background))), along_x=along_x)
    return slow + fast.astype(np.float32)


def _steps(background: np.ndarray) -> np.ndarray:
    """
    Stripes that vary slowly with x, (4, nx): what jumps at the borders of the amplifiers.

    At each border, and in each of some blocks of columns, the step is fitted together with a cubic
    in y, the sky. A block in which that leaves more than noise has other structure there; so has
    the border, if the blocks together show more.
    """
    ny, nx = background.shape
    half = ny // BLOCKS
    y = (np.arange(2 * half) + 0.5) / half - 1
    model = np.column_stack([legendre.legvander(y, 3), 0.5 * np.sign(y)])
    place = (np.arange(BLOCKS) + 0.5) / BLOCKS
    jumps = [np.zeros(nx)]
    for border in np.arange(1, AMPLIFIERS) * ny // AMPLIFIERS:
        profile, noise = _profiles(background[border - half : border + half])
        known = np.isfinite(profile).all(axis=0) & np.isfinite(noise)
        fit, *_ = np.linalg.lstsq(model, np.where(known, profile, 1), rcond=None)
        left = profile - model @ fit
        known &= np.std(left, axis=0) < 1.5 * noise + FLOAT32_PRECISION
        together = np.std(left[:, known].mean(axis=1)) if known.any() else 0
        known &= (
            together < 1.5 * np.median(noise) / np.sqrt(max(known.sum(), 1)) + FLOAT32_PRECISION
        )
        jumps.append(_slow_part(place, fit[-1], known, np.linspace(0, 1, nx)))
    offsets = np.cumsum(jumps, axis=0)
    return offsets - offsets.mean(axis=0)


def _profiles(rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Median profiles of blocks of columns, (rows, blocks), and their noise, (blocks,)."""
    profiles, noise = [], []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # columns without any value
        flat = rows / bn.nanmedian(rows, axis=0)
        for block in np.array_split(flat, BLOCKS, axis=1):
            profiles.append(bn.nanmedian(block, axis=1))
            scatter = NORMAL_MAD * bn.nanmedian(np.abs(block - profiles[-1][:, np.newaxis]))
            # The variance of a median of n normal values is pi/2 times that of their mean.
            noise.append(scatter * np.sqrt(np.pi / 2 / block.shape[1]))
    return np.stack(profiles, axis=1), np.array(noise)


def _slow_part(
    place: np.ndarray, value: np.ndarray, known: np.ndarray, wanted: np.ndarray
) -> np.ndarray:
    """
    A cubic through known values without outliers, where it is wanted; 0 if too few are known.

    It is damped by the share that noise has in it (James & Stein 1961).
    """
    kept = known
    for _ in range(3):
        if kept.sum() < BLOCKS / 2:
            return np.zeros(len(wanted))
        fit = legendre.Legendre.fit(place[kept], value[kept], 3, domain=[0, 1])
        deviation = np.abs(value - fit(place))
        kept = known & (deviation <= 3 * NORMAL_MAD * np.median(deviation[kept]))
    found = fit(place[kept])
    degrees = len(fit.coef)
    noise2 = np.sum((value[kept] - found) ** 2) / (len(found) - degrees) * degrees / len(found)
    signal2 = np.mean(found**2) or np.inf
    return max(1 - noise2 / signal2, 0) * fit(wanted)


def _columns(background: np.ndarray, *, along_x: bool) -> np.ndarray:
    """Stripes that do not vary slowly with x, (4, nx); see `of_background`."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # columns without any value
        columns = _medians(background, axis=0)
        rows = _medians(background / columns, axis=1)
        flat = background / (columns * rows[:, np.newaxis]) - 1
        parts = np.array(
            [
                [np.nanmean(part, axis=0) for part in np.array_split(amplifier, PARTS)]
                for amplifier in _per_amplifier(flat)
            ]
        )
        profile = np.nanmedian(parts, axis=1)
    known = np.isfinite(profile).all(axis=0) & (columns > 0)
    profile = np.where(known, profile, 0)
    own = np.where(known, np.log(np.where(known, columns, 1)), 0)  # of the columns, as fractions
    striped = known & _is_uniform(np.where(known, parts, 0))
    if not along_x:
        return np.stack(
            [_fast_part(one + own, kept, 5) for one, kept in zip(profile, striped, strict=True)]
        )
    place = np.arange(AMPLIFIERS)[:, np.newaxis] - (AMPLIFIERS - 1) / 2
    mean, slope = profile.mean(axis=0), (place * profile).sum(axis=0) / (place**2).sum()
    deviation = profile - mean - place * slope
    common = _weak_part(mean + own, known) + place * _weak_part(slope, known)
    return common + [_fast_part(one, kept, 3) for one, kept in zip(deviation, striped, strict=True)]


def _medians(image: np.ndarray, axis: int) -> np.ndarray:
    """The medians of an image along an axis, by two threads: they are most of the time."""
    with ThreadPoolExecutor(2) as pool:
        halves = np.array_split(image, 2, axis=1 - axis)
        return np.concatenate([*pool.map(lambda half: bn.nanmedian(half, axis=axis), halves)])


def error_left(background: np.ndarray, chance: np.ndarray, *, along_x: bool) -> float:
    """
    The error that `of_background` leaves, found by adding stripes to what it made.

    Parameters
    ----------
    background : (ny, nx) float array
        Without its stripes.
    chance : (4, nx) float array
        Stripes like those it had, from `common`.
    along_x : bool
        Whether the grism disperses along x.

    Returns
    -------
    float
        RMS over the columns, as a fraction of the background.
    """
    striped = background * (1 + spread(chance, len(background)))
    left = chance - of_background(striped, along_x=along_x)
    return float(np.std(left))


def _is_uniform(parts: np.ndarray) -> np.ndarray:
    """Where the parts of an amplifier agree, (4, nx): a dispersed spot or dust is in some only."""
    scatter = ndimage.uniform_filter1d(parts, 3, axis=2).std(axis=1)
    differs = scatter > 3 * np.median(scatter, axis=1, keepdims=True) + FLOAT32_PRECISION
    return ~ndimage.binary_dilation(differs, structure=np.ones((1, 3)), iterations=8)


def _fast_part(profile: np.ndarray, kept: np.ndarray, degree: int) -> np.ndarray:
    """A profile minus its slow change with x, a polynomial; 0 where not kept."""
    if kept.sum() <= degree:  # next to no sky: nothing can be told
        return np.zeros(len(profile))
    x = np.linspace(-1, 1, len(profile))
    slow = legendre.legval(x, legendre.legfit(x[kept], profile[kept], degree))
    return np.where(kept, profile - slow, 0)


def _weak_part(profile: np.ndarray, known: np.ndarray) -> np.ndarray:
    """
    A profile minus its running median over 101 px; 0 at sharp structure that stands out.

    That is what exceeds 4 sigma, in a column or in the mean of 5, with 16 px around it. A
    structure too weak to stand out is lost, and is no worse a loss than the stripes it is among.
    """
    if not known.any():
        return np.zeros(len(profile))
    fast = profile - ndimage.median_filter(profile, 101, mode="nearest")
    stands_out = np.zeros(len(profile), dtype=bool)
    for one in (fast, ndimage.uniform_filter1d(fast, 5)):
        sigma = NORMAL_MAD * np.median(np.abs(one[known]))
        stands_out |= np.abs(one) > max(4 * sigma, FLOAT32_PRECISION)
    return np.where(known & ~ndimage.binary_dilation(stands_out, iterations=16), fast, 0)
