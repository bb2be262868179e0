"""Bad pixels, a rudimentary background with sep, source detection."""

import numpy as np
import sep
from astropy.convolution import Gaussian2DKernel
from astropy.stats import gaussian_fwhm_to_sigma
from scipy import ndimage
from skimage.morphology import disk
from stdatamodels.jwst.datamodels.dqflags import pixel

from wfssbkg.config import Mask
from wfssbkg.errors import StepError

# Detection in crowded fields needs more room than sep's default of 300 000 pixels; at this size
# its buffer holds a whole frame.
sep.set_extract_pixstack(5_000_000)


def flag_bits(names: list[str] | str) -> int:
    """
    The DQ bits of some flags of the JWST pipeline.

    Parameters
    ----------
    names : list of str, or 'all'
        Names in `stdatamodels.jwst.datamodels.dqflags.pixel`.

    Returns
    -------
    int
    """
    if names == "all":
        return 0xFFFFFFFF
    return sum(pixel[name] for name in names)


def bad_pixels(sci: np.ndarray, variance: np.ndarray, dq: np.ndarray, bits: int) -> np.ndarray:
    """
    Pixels without a usable value.

    Parameters
    ----------
    sci, variance : (ny, nx) float arrays
    dq : (ny, nx) uint32 array
    bits : int
        The DQ bits that make a pixel bad.

    Returns
    -------
    (ny, nx) bool array
        True where a bit is set, or a value is not finite, or the variance is not positive; or where
        the rate is exactly 0, which no ramp gives: nothing was measured, or bytes were lost.
    """
    known = np.isfinite(sci) & (sci != 0) & np.isfinite(variance) & (variance > 0)
    return (dq & np.uint32(bits) != 0) | ~known


def saturated_at_once(dq: np.ndarray) -> np.ndarray:
    """
    The pixels that were saturated from the first group on.

    Parameters
    ----------
    dq : (ny, nx) uint32 array
        Such pixels are flagged SATURATED and DO_NOT_USE.

    Returns
    -------
    (ny, nx) bool array
    """
    bits = np.uint32(flag_bits(["SATURATED", "DO_NOT_USE"]))
    return dq & bits == bits


def sky_background(sci: np.ndarray, bad: np.ndarray, *, box: int, filter_size: int) -> np.ndarray:
    """
    A rudimentary background: sep's, smooth on the scale of `box`.

    Parameters
    ----------
    sci : (ny, nx) float array
    bad : (ny, nx) bool array
    box : int
        Mesh size, px.
    filter_size : int
        Size of the median filter over the mesh, in mesh cells.

    Returns
    -------
    (ny, nx) float32 array

    Raises
    ------
    StepError
        If every pixel is bad.
    """
    if bad.all():
        raise StepError(
            "every pixel is bad: flagged (mask.bad_flags), not a number, or without an uncertainty "
            "above 0"
        )
    data = np.where(bad, 0, sci).astype(np.float32)
    background = sep.Background(
        data, mask=bad, bw=box, bh=box, fw=filter_size, fh=filter_size, maskthresh=0.0
    )
    return background.back(dtype=np.float32)


def sky_noise(
    sci: np.ndarray,
    var_poisson: np.ndarray,
    var_rnoise: np.ndarray,
    sky: np.ndarray,
    bad: np.ndarray,
) -> np.ndarray:
    """
    The noise each pixel would have if it saw nothing but the sky.

    The photon noise of the pipeline follows each pixel's own value, high or low by chance: used
    as a weight it would favour the low ones. Scaled to the smooth sky it is free of that.

    Parameters
    ----------
    sci, var_poisson, var_rnoise : (ny, nx) float arrays
        Rate, DN/s, and variances, (DN/s)^2.
    sky : (ny, nx) float array
        Smooth background, DN/s.
    bad : (ny, nx) bool array

    Returns
    -------
    (ny, nx) float32 array
        DN/s; NaN in bad pixels.
    """
    good = ~bad & (sci > 0) & (var_poisson > 0)
    with np.errstate(divide="ignore", invalid="ignore"):
        per_rate = np.where(good, var_poisson / sci, np.nan)
    typical = np.nanmedian(per_rate) if good.any() else 0.0
    # A ratio far above the typical one is real: a jump cut the ramp short. One far below is chance.
    per_rate = np.fmax(np.where(good, per_rate, typical), 0.5 * typical)
    noise = np.sqrt(var_rnoise + per_rate * np.clip(sky, 0, None))
    return np.where(bad, np.nan, noise).astype(np.float32)


def find_sources(
    residual: np.ndarray, noise: np.ndarray, bad: np.ndarray, settings: Mask
) -> np.ndarray:
    """
    Pixels of all sources in a background-subtracted image.

    Parameters
    ----------
    residual, noise : (ny, nx) float arrays
        Image minus background, and its noise.
    bad : (ny, nx) bool array
    settings : `~wfssbkg.config.Mask`
        sep filters in signal to noise, so that noisy pixels count little.

    Returns
    -------
    (ny, nx) bool array

    Raises
    ------
    StepError
        If the field is too crowded for sep.
    """
    data = np.where(bad, 0, residual).astype(np.float32)
    error = np.where(bad, 1, noise).astype(np.float32)
    try:
        _, segments = sep.extract(
            data,
            settings.threshold,
            err=error,
            mask=bad,
            minarea=settings.minimum_area,
            filter_kernel=_gaussian(settings.kernel_fwhm),
            deblend_nthresh=1,  # touching sources need not be told apart
            clean=False,
            segmentation_map=True,
        )
    except Exception as error:  # sep raises plain Exception
        raise StepError(
            f"source detection failed, the field may be too crowded ({error})"
        ) from None
    # All pixels within `growth` px of a source.
    return ndimage.binary_dilation(segments > 0, disk(settings.growth))


def _gaussian(fwhm: float) -> np.ndarray | None:
    """A Gaussian kernel out to 3 sigma, or None for no filtering."""
    if fwhm == 0:
        return None
    sigma = fwhm * gaussian_fwhm_to_sigma
    size = 2 * int(np.ceil(3 * sigma)) + 1
    return Gaussian2DKernel(sigma, x_size=size).array.astype(np.float32)
