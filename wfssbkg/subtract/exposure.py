"""One exposure: its sky found and subtracted, written as a rate file without sky."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from astropy.io import fits

from wfssbkg import layout, pipeline
from wfssbkg.combine import sky, stripes
from wfssbkg.combine.sky import Sky
from wfssbkg.config import Config, Filter, Grating
from wfssbkg.errors import StepError, printable
from wfssbkg.files import (
    any_background,
    masked_exposure,
    rate,
    rate_header,
    subtracted_exposure,
)
from wfssbkg.layout import Combination
from wfssbkg.mask.exposure import noise_and_masks
from wfssbkg.subtract import background, picture

WORKER_GB = 1.0  # with one full frame, what is made of it, and the pipeline; measured


class Job(NamedTuple):
    """What is to be done with a rate file.

    Attributes
    ----------
    rate, output, background : `~pathlib.Path`
        The rate file, the file to write, and the finished background.
    mask_only : bool
        Write only the mask, for the pipeline's own background step.
    plots : bool
        Write a picture as well.
    """

    rate: Path
    output: Path
    background: Path
    mask_only: bool = False
    plots: bool = False


def combination_of(path: Path) -> Combination:
    """
    The combination that a rate file is an exposure of.

    Parameters
    ----------
    path : `~pathlib.Path`

    Raises
    ------
    StepError
        If it is no rate file of NIRISS slitless spectra or direct images, or its sky was
        subtracted already.
    """
    header = rate.check(path)
    grating, name = (str(header.get(key)).strip().upper() for key in ("FILTER", "PUPIL"))
    if grating not in Grating.__args__ or name not in Filter.__args__:
        words = printable(f"FILTER is {grating}, PUPIL {name}")
        raise StepError(f"{words}: not of NIRISS slitless spectra or direct images")
    if done := rate_header.read(path).processed:
        raise StepError(f"{rate_header.PROCESSED}, {done}. Expected a rate file as the archive has")
    return Combination(grating, name)


def subtract(job: Job, config: Config, noted: Mapping[str, Any]) -> dict[str, Any]:
    """
    Subtract the sky from a rate file, or write its mask alone.

    Parameters
    ----------
    job : `Job`
    config : `~wfssbkg.config.Config`
    noted : mapping
        Settings that are noted in the file.

    Returns
    -------
    dict
        A row for the table of all exposures.

    Raises
    ------
    StepError
        If it cannot be done; nothing is written then.
    """
    stamp = subtracted_exposure.stamp(job.rate, job.background, noted)
    combination = combination_of(job.rate)
    found = any_background.read(job.background)
    settings, context = config.subtract, config.mask.crds_context
    exposure = pipeline.flat_field(
        job.rate, context=context, combination=combination, full_frame=False
    )
    warning = background.check_fits(found, exposure.header, combination)
    noise, bad, source = noise_and_masks(exposure, config.mask)
    model = background.model(found, job.rate, exposure.header, context, light=settings.components)
    fitted = sky.fit(
        exposure.sci,
        noise,
        bad,
        source,
        model,
        config.combine,
        along_x=combination.along_x,
        direct=combination.direct,
        minimum_sky=settings.minimum_sky,
    )
    cards = fitted_cards(fitted, found.dark)
    row = subtracted_exposure.row(job.rate, job.output, job.background, cards)
    row["warning"] = "; ".join(filter(None, (warning, fitted.relaxed)))
    if job.mask_only:
        row["sky_fraction"] = float(fitted.free.mean())
        masked_exposure.write_wfss_mask(
            job.output, fitted.free, header=exposure.header, settings=noted
        )
        return row
    image = fitted.image(model)
    if settings.remove_stripes:
        _check_is_full(exposure.header)
        own = stripes_of(exposure.sci - image, noise, fitted.free)
        image += np.where(image == 0, np.float32(0), own)
    in_rate = pipeline.with_flat(image, job.rate, context=context)
    history = [
        f"Sky subtracted by WFSSBackgrounds with {printable(job.background.name)},",
        f"{fitted.fraction:.1%} of the pixels taken for sky. {fitted.relaxed}",
    ]
    subtracted_exposure.write(job.output, job.rate, in_rate, stamp | cards, history)
    if job.plots:
        mask = bad | fitted.source
        picture.write(layout.subtraction_picture(job.output), exposure.sci, mask, image)
    return row


def stripes_of(left: np.ndarray, noise: np.ndarray, free: np.ndarray) -> np.ndarray:
    """
    The 1/f noise of a full frame.

    Parameters
    ----------
    left, noise : (ny, nx) float32 arrays
        An exposure without its sky, and its noise, DN/s.
    free : (ny, nx) bool array
        The pixels that count.

    Returns
    -------
    (ny, nx) float32 array
        DN/s
    """
    counts = free & np.isfinite(left) & (noise > 0)
    weight = np.where(counts, 1 / np.square(np.where(counts, noise, 1)), 0)
    own, information = stripes.of_exposure(np.where(counts, left, 0), weight)
    own -= np.float32((own * information).sum() / information.sum())  # which is of the level
    return stripes.as_image(own, len(left))


def _check_is_full(header: fits.Header) -> None:
    found = str(header.get("SUBARRAY")).strip()
    if found != "FULL":
        raise StepError(
            f"it is of the subarray {printable(found)}, and 1/f noise is only subtracted from full "
            "frames. Set subtract.remove_stripes to false"
        )


def fitted_cards(fitted: Sky, dark: float) -> dict[str, tuple[Any, str]]:
    """What was fitted, as cards of a header."""
    cards = {
        "BKGLVL": (fitted.level, "[DN/s] level of the sky"),
        "BKGLVERR": (fitted.level_error, "[DN/s] uncertainty of the level"),
        "BKGDARK": (dark, "[DN/s] dark residual"),
        "BKGSKY": (fitted.fraction, "part of the pixels taken for sky"),
    }
    for number, (value, error) in enumerate(zip(fitted.amplitudes, fitted.errors, strict=True), 1):
        cards[f"BKGSC{number}"] = (float(value), "[level] scattered light")
        cards[f"BKGSE{number}"] = (float(min(error, 1e9)), "[level] its uncertainty")
    return cards
