"""What is subtracted from an exposure: does it fit, and which part of it."""

from dataclasses import replace
from pathlib import Path

import numpy as np
from astropy.io import fits

from wfssbkg import pipeline
from wfssbkg.combine.sky import Model
from wfssbkg.errors import StepError
from wfssbkg.files import any_background, flicker_noise, rate
from wfssbkg.files.any_background import Background
from wfssbkg.files.combined_background import Components
from wfssbkg.layout import Combination


def check_fits(background: Background, header: fits.Header, combination: Combination) -> str:
    """
    Check that a background is of the kind of an exposure.

    Parameters
    ----------
    background : `~wfssbkg.files.any_background.Background`
    header : `~astropy.io.fits.Header`
        Primary header of the exposure.
    combination : `~wfssbkg.layout.Combination`
        Of the exposure.

    Returns
    -------
    str
        What it does not tell, in words; '' if it fits.

    Raises
    ------
    StepError
        If it is of another kind.
    """
    told, name = background.header, background.path.name
    any_background.check_combination(background, combination)
    cleaned = rate.is_complete(header, "S_CLNFNS")
    if "S_CLNFNS" in told and rate.is_complete(told, "S_CLNFNS") != cleaned:
        kinds = ("not cleaned of 1/f noise", "cleaned of 1/f noise")
        raise StepError(
            f"it was {kinds[cleaned]} in stage 1, and the background {name} is for exposures that "
            f"were {kinds[not cleaned]} (S_CLNFNS). Make the other background "
            f"(mask.flicker_noise: {(flicker_noise.UNCLEANED, flicker_noise.CLEANED)[cleaned]}), "
            "or name it with --background"
        )
    missing = [key for key in ("FILTER", "PUPIL", "S_CLNFNS") if key not in told]
    warning = f"WARNING: {name} does not tell its {', '.join(missing)}" if missing else ""
    if "S_CLNFNS" in missing:
        warning += ": it may be for exposures whose 1/f noise was "
        warning += "not cleaned, as this one's was" if cleaned else "cleaned, as this one's was not"
    return warning


def model(
    background: Background, exposure: Path, header: fits.Header, context: str | None, *, light: bool
) -> Model:
    """
    What the sky of an exposure may be made of.

    Parameters
    ----------
    background : `~wfssbkg.files.any_background.Background`
    exposure : `~pathlib.Path`
        The rate file.
    header : `~astropy.io.fits.Header`
        Its primary header.
    context : str or None
        As for `wfssbkg.pipeline.flat_field`.
    light : bool
        Whether scattered light is among it.

    Returns
    -------
    `~wfssbkg.combine.sky.Model`

    Raises
    ------
    StepError
        If the exposure is no part of the frame of the background.
    """
    part = window(header, background.image.shape)
    found = background.components if light else Components.none()
    whole = Model.of(background.image, background.dark, found)
    image, dark = whole.background[part], whole.dark
    if not background.flat_is_out:
        image = pipeline.without_flat(image, exposure, context=context)
    if dark:
        dark = pipeline.without_flat(np.full(image.shape, dark), exposure, context=context)
    return replace(whole, background=image, dark=dark, shapes=whole.shapes[:, *part])


def window(header: fits.Header, whole: tuple[int, int]) -> tuple[slice, slice]:
    """Where the pixels of an exposure are in the whole frame."""
    x, y, nx, ny = (header.get(key) for key in ("SUBSTRT1", "SUBSTRT2", "SUBSIZE1", "SUBSIZE2"))
    if None in (x, y, nx, ny) or min(x, y) < 1 or y - 1 + ny > whole[0] or x - 1 + nx > whole[1]:
        raise StepError(
            f"its part of the frame is not known, or beyond the {whole[1]} x {whole[0]} pixels of "
            f"the background (SUBSTRT1 {x}, SUBSTRT2 {y}, SUBSIZE1 {nx}, SUBSIZE2 {ny})"
        )
    return slice(y - 1, y - 1 + ny), slice(x - 1, x - 1 + nx)
