"""Non-local means, and the noise that they leave."""

import numpy as np
from astropy.stats import mad_std
from skimage.restoration import denoise_nl_means, estimate_sigma

from wfssbkg.config import Finalize
from wfssbkg.smoothing import gaussian_mean

TRIAL_ROWS = 32  # of each of two trials; enough to measure a scatter to 0.5 %


def prepare(image: np.ndarray, err: np.ndarray, *, noise: str) -> tuple[np.ndarray, float]:
    """
    An image for non-local means, which accepts neither NaN nor noise that varies.

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
    least = 1e-3 * np.median(weight[weight > 0])
    around = np.full(image.shape, np.nan, dtype=np.float32)
    for width in (2, 8, 32, 128, 512, 2048):  # px
        empty = np.isnan(around)
        if not empty.any():
            break
        mean, total = gaussian_mean(image, weight, width, mode="nearest")
        reached = empty & (total > least)
        around[reached] = mean[reached]
    return around


def reach(settings: Finalize) -> int:
    """How far, in px, non-local means reaches from a pixel."""
    return settings.patch_distance + settings.patch_size // 2 + 1


def denoise(image: np.ndarray, typical: float, settings: Finalize) -> np.ndarray:
    """
    Smooth an image with non-local means, which keeps compact structure.

    Parameters
    ----------
    image : (ny, nx) float32 array
        Without NaN.
    typical : float
        Noise of a pixel. If it is propagated, the difference that noise alone makes is subtracted
        when patches are compared.
    settings : `~wfssbkg.config.Finalize`

    Returns
    -------
    (ny, nx) float32 array

    References
    ----------
    Buades, Coll & Morel 2005, CVPR 2, 60; scikit-image's `denoise_nl_means`.
    """
    if settings.strength == 0:
        return image.copy()
    return denoise_nl_means(
        image,
        patch_size=settings.patch_size,
        patch_distance=settings.patch_distance,
        h=settings.strength * typical,
        sigma=typical if settings.noise == "propagated" else 0.0,
        fast_mode=True,
        preserve_range=True,
    )


def noise_left(smooth: np.ndarray, typical: float, settings: Finalize) -> float:
    """
    The share of the noise that denoising leaves, measured with noise that is added once more.

    Parameters
    ----------
    smooth : (ny, nx) float32 array
        A denoised image. Noise is added to two parts of it, and taken out again.
    typical : float
        As for `denoise`: the standard deviation of the noise, which is always the same.
    settings : `~wfssbkg.config.Finalize`

    Returns
    -------
    float
        From a robust standard deviation.
    """
    margin = reach(settings)
    half = margin + TRIAL_ROWS // 2
    rng = np.random.default_rng(0)
    left = []
    for row in (len(smooth) // 3, 2 * len(smooth) // 3):
        part = smooth[max(row - half, 0) : row + half]
        noise = np.float32(typical) * rng.standard_normal(part.shape, dtype=np.float32)
        again = denoise(part + noise, typical, settings)
        left.append((again - part)[margin:-margin, margin:-margin].ravel())
    return float(mad_std(np.concatenate(left))) / typical
