"""Masks of rate files for the background step of the JWST pipeline."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from wfssbkg import layout, pipeline
from wfssbkg.config import Mask
from wfssbkg.detector import science_pixels
from wfssbkg.errors import ConfigError, StepError
from wfssbkg.files import masked_exposure
from wfssbkg.files.rate import PACKED
from wfssbkg.mask.exposure import noise_and_masks
from wfssbkg.run import messages
from wfssbkg.run.command_line import Run

SCARCE = 0.05  # fraction of the sky below which a fit to it is not to be trusted unseen


def write_all(run: Run, rates: list[Path]) -> bool:
    """
    Write the masks of some rate files, each beside its rate file.

    Parameters
    ----------
    run : `~wfssbkg.run.command_line.Run`
    rates : list of `~pathlib.Path`
        Rate files of any combination and subarray.

    Returns
    -------
    bool
        Whether all could be made; says which could not, and why.

    Raises
    ------
    ConfigError
        If one of them is no file, or a compressed one.
    """
    for rate in rates:
        _check_is_file(rate)
    settings = run.config.mask
    noted = {f"mask.{key}": value for key, value in settings.model_dump(mode="json").items()}
    rates = list(dict.fromkeys(rates))
    asked = [(rates, settings.crds_context, False)]
    run.workers.run_in_order(pipeline.check_references, asked, description="asking CRDS")
    jobs = [(rate, layout.wfss_mask(rate), settings, noted) for rate in rates]
    all_made = True
    for (rate, output, *_), sky in run.workers.run(write, jobs, description="masking"):
        if isinstance(sky, StepError):
            all_made = False
            messages.warn(f"FAILED: {rate}: {sky}")
            continue
        messages.say(f"wrote {output}: {sky:.1%} of the pixels are left as sky")
        if sky < SCARCE:
            messages.warn(
                f"WARNING: {rate.name}: the pipeline fits the background to these pixels only. "
                "Look at the mask: the field may be too crowded, or mask.threshold too low"
            )
    return all_made


def _check_is_file(rate: Path) -> None:
    """Check what can be seen of a rate file from outside; a ConfigError says what is wrong."""
    problem = ""
    if rate.is_dir():
        problem = f"it is a folder. Expected rate files, e.g. {rate / '*_rate.fits'}"
    elif not rate.is_file():
        problem = "there is no such file. Expected rate files"
    elif rate.suffix.lower().removeprefix(".") in PACKED:
        problem = "it is compressed. Unpack it first, e.g. with gunzip"
    if problem:
        raise ConfigError(f"--wfss-mask {rate}: {problem}")


def write(rate: Path, output: Path, settings: Mask, noted: Mapping[str, Any]) -> float:
    """Write the mask of one rate file; returns the fraction of the science pixels that is sky."""
    if not os.access(output.parent, os.W_OK):
        raise StepError(
            f"the folder {output.parent} cannot be written to, and the mask belongs beside the "
            "rate file. Copy the rate file, or a link to it, to a folder of yours, and name that"
        )
    exposure = pipeline.flat_field(rate, context=settings.crds_context)
    _, bad, source = noise_and_masks(exposure, settings)
    sky = ~(bad | source)
    masked_exposure.write_wfss_mask(output, sky, header=exposure.header, settings=noted)
    return float(sky[science_pixels(sky.shape)].mean())
