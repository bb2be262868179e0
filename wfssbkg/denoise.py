"""Non-local means, maskfill."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from astropy.stats import mad_std
from scipy import ndimage
from skimage.restoration import denoise_nl_means, estimate_sigma

TRIAL_ROWS = 32  # of each of two trials, which tell a scatter to half a per cent
# An eighth of a frame; fixed, so that the result does not depend on the number of workers.
TILE_ROWS = 255


def prepare(image: np.ndarray, err: np.ndarray, *, noise: str) -> tuple[np.ndarray, float]:
    """
    An image ready for non-local means, which knows no NaN and one noise only.

    Parameters
    ----------
    image, err : (ny, nx) float arrays
        Image and its uncertainty; NaN where there is no value.
    noise : str
        'propagated': the noise is `err`. Pixels noisier than typical are damped to the typical
        noise: the deviation from the mean around them, weighted by 1/err^2, is scaled by typical
        over own uncertainty. Non-local means would take an outlier for compact structure, and
        where few exposures count, outliers are common.
        'estimated': the noise is estimated from the image, and nothing is damped.

    Returns
    -------
    ready : (ny, nx) float32 array
        Without NaN.
    typical : float
        The noise of a typical pixel.
    """
    known = np.isfinite(image) & (err > 0)
    err = np.where(known, err, np.inf)
    if noise == "estimated":
        ready = np.where(known, image, _mean_around(image, known.astype(np.float32)))
        return ready.astype(np.float32), float(estimate_sigma(ready))
    typical = float(np.median(err[known]))
    around = _mean_around(image, (1 / np.square(err)).astype(np.float32))
    share = np.minimum(1, typical / err)
    ready = np.where(known, around + share * (image - around), around)
    return ready.astype(np.float32), typical


def _mean_around(image: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """The weighted mean in a narrow Gaussian; where that reaches no known pixel, in a wider one."""
    value = np.where(weight > 0, image, 0).astype(np.float32) * weight
    least = 1e-3 * np.median(weight[weight > 0])
    mean = np.full(image.shape, np.nan, dtype=np.float32)
    for width in (2, 8, 32, 128, 512, 2048):  # px
        empty = np.isnan(mean)
        if not empty.any():
            break
        total = ndimage.gaussian_filter(weight, width, mode="nearest")
        reached = empty & (total > least)
        mean[reached] = (
            (ndimage.gaussian_filter(value, width, mode="nearest")[reached]) / (total[reached])
        )
    return mean


def tiles(rows: int, margin: int) -> Iterator[tuple[slice, slice]]:
    """
    Cut an image into tiles that can be worked on apart.

    Parameters
    ----------
    rows : int
        Rows of the image.
    margin : int
        How far the work reaches from a pixel, px.

    Yields
    ------
    taken, inner : slice
        The rows to work on, and which of them to keep.
    """
    for first in range(0, rows, TILE_ROWS):
        last = min(first + TILE_ROWS, rows)
        taken = slice(max(first - margin, 0), min(last + margin, rows))
        yield taken, slice(first - taken.start, last - taken.start)


def reach(patch_size: int, patch_distance: int) -> int:
    """How far, in px, non-local means reaches from a pixel."""
    return patch_distance + patch_size // 2 + 1


def denoise(
    image: np.ndarray,
    typical: float,
    *,
    patch_size: int,
    patch_distance: int,
    strength: float,
    discount: bool,
) -> np.ndarray:
    """
    Smooth an image with non-local means, which keeps compact structure.

    Parameters
    ----------
    image : (ny, nx) float32 array
        Without NaN.
    typical : float
        Noise of a pixel.
    patch_size : int
        Side of the patches that are compared, px.
    patch_distance : int
        How far to look for similar patches, px.
    strength : float
        Cut-off distance in units of the noise; 0 returns the image as it is.
    discount : bool
        Subtract the difference that noise alone makes when patches are compared.

    Returns
    -------
    (ny, nx) float32 array

    References
    ----------
    Buades, Coll & Morel 2005, CVPR 2, 60; scikit-image's `denoise_nl_means`.
    """
    if strength == 0:
        return image.copy()
    return denoise_nl_means(
        image,
        patch_size=patch_size,
        patch_distance=patch_distance,
        h=strength * typical,
        sigma=typical if discount else 0.0,
        fast_mode=True,
        preserve_range=True,
    )


def trials(
    image: np.ndarray, noise: float, *, patch_size: int, patch_distance: int
) -> list[tuple[np.ndarray, np.ndarray]]:
    """
    Two parts of a denoised image, for `noise_left`: as they are, and with noise added.

    Parameters
    ----------
    image : (ny, nx) float32 array
    noise : float
        Standard deviation of what is added; always the same numbers.
    patch_size, patch_distance : int
        As for `denoise`.
    """
    half = reach(patch_size, patch_distance) + TRIAL_ROWS // 2
    rng = np.random.default_rng(0)
    parts = [
        image[max(row - half, 0) : row + half] for row in (len(image) // 3, 2 * len(image) // 3)
    ]
    return [
        (part, part + np.float32(noise) * rng.standard_normal(part.shape, dtype=np.float32))
        for part in parts
    ]


def noise_left(
    before: list[np.ndarray], after: list[np.ndarray], *, patch_size: int, patch_distance: int
) -> float:
    """
    The noise that denoising leaves: a robust standard deviation.

    Parameters
    ----------
    before, after : lists of float arrays
        Parts without noise, and the same after noise was added and taken out again.
    patch_size, patch_distance : int
        As for `denoise`; this far from the edges nothing counts.
    """
    margin = reach(patch_size, patch_distance)
    inner = np.s_[margin:-margin, margin:-margin]
    values = np.concatenate([(b - a)[inner].ravel() for a, b in zip(before, after, strict=True)])
    return float(mad_std(values))


def fill(image: np.ndarray, size: int) -> np.ndarray:
    """
    Fill the pixels without a value from their neighbours, with maskfill.

    Parameters
    ----------
    image : (ny, nx) float array
        NaN where there is no value.
    size : int
        Window of maskfill, px, odd.

    Returns
    -------
    (ny, nx) float32 array

    References
    ----------
    van Dokkum & Pasha 2024, PASP 136, 034503.
    """
    from maskfill import maskfill  # it imports all of scipy.signal, nearly half a second

    empty = ~np.isfinite(image)
    if not empty.any():
        return np.array(image, dtype=np.float32)
    filled, _ = maskfill(np.array(image, dtype=np.float64), empty, size=size, smooth=True)
    return np.where(empty, filled, image).astype(np.float32)


def fill_reach(image: np.ndarray, size: int) -> int:
    """How far, in px, a value goes from its pixel when an image is filled; as for `fill`."""
    empty = ~np.isfinite(image)
    # From the edge of a hole inwards by half a window a pass, and as far again to smooth.
    deepest = int(ndimage.distance_transform_cdt(empty, "chessboard").max())
    return deepest + 2 * (size // 2)
