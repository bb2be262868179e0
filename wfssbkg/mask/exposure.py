"""One exposure: flat-fielded, its sources found, written as a masked exposure."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from wfssbkg import pipeline
from wfssbkg.config import Mask
from wfssbkg.detector import science_pixels
from wfssbkg.files import flicker_noise, masked_exposure, up_to_date
from wfssbkg.layout import Combination
from wfssbkg.mask import sources


def mask_exposure(
    rate: Path,
    output: Path,
    combination: Combination,
    settings: Mask,
    made_with: Mapping[str, Any],
) -> float:
    """
    Make the masked exposure of a rate file.

    Parameters
    ----------
    rate, output : `~pathlib.Path`
        The rate file, and the file to write.
    combination : `~wfssbkg.layout.Combination`
    settings : `~wfssbkg.config.Mask`
        With `flicker_noise` as it was settled for the combination.
    made_with : mapping
        Settings that are noted in the file, from `wfssbkg.files.up_to_date.bearing`.

    Returns
    -------
    float
        The fraction of the sky that is masked.

    Raises
    ------
    StepError
        If the rate file is not what it should be, or cannot be flat-fielded.
    """
    stamp = up_to_date.stamp(rate) if rate.exists() else {}  # before it is read: it may change
    wanted = settings.flicker_noise == flicker_noise.CLEANED
    exposure = pipeline.flat_field(
        rate,
        context=settings.crds_context,
        combination=combination,
        cleaning=settings.cleaning.parameters() if wanted else None,
    )
    exposure.header.update(stamp)
    noise, bad, source = noise_and_masks(exposure, settings)
    fraction = float((bad | source)[science_pixels(bad.shape)].mean())
    mask = bad * np.uint8(masked_exposure.BAD) | source * np.uint8(masked_exposure.SOURCE)
    mask |= sources.saturated_at_once(exposure.dq) * np.uint8(masked_exposure.SATURATED)
    masked_exposure.write(
        output,
        sci=exposure.sci,
        err=noise,
        mask=mask,
        header=exposure.header,
        pointing=exposure.pointing,
        fraction=fraction,
        settings=made_with,
    )
    return fraction


def noise_and_masks(
    exposure: pipeline.FlatFielded, settings: Mask
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """
    The noise of the sky of an exposure, its bad pixels and its sources.

    Parameters
    ----------
    exposure : `~wfssbkg.pipeline.FlatFielded`
    settings : `~wfssbkg.config.Mask`

    Returns
    -------
    noise : (ny, nx) float32 array
        DN/s; NaN in bad pixels.
    bad, source : (ny, nx) bool arrays
        Reference pixels are bad.
    """
    bits = sources.flag_bits(settings.bad_flags)
    variance = exposure.var_poisson + exposure.var_rnoise
    science = science_pixels(exposure.sci.shape)
    bad = sources.bad_pixels(exposure.sci, variance, exposure.dq, bits) | ~science
    sky = sources.sky_background(
        exposure.sci, bad, box=settings.background_box, filter_size=settings.background_filter
    )
    noise = sources.sky_noise(exposure.sci, exposure.var_poisson, exposure.var_rnoise, sky, bad)
    source = sources.find_sources(exposure.sci - sky, noise, bad, settings)
    return noise, bad, source
