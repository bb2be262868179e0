"""Masks of rate files for the background step of the JWST pipeline."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from wfssbkg import layout, pipeline
from wfssbkg.config import Mask
from wfssbkg.errors import ConfigError, StepError
from wfssbkg.files import masked_exposure
from wfssbkg.mask.exposure import noise_and_masks
from wfssbkg.run import messages
from wfssbkg.run.command_line import Run


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
        If one of the files does not exist.
    """
    for rate in rates:
        if not rate.is_file():
            raise ConfigError(f"--wfss-mask {rate}: there is no such file. Expected rate files")
    settings = run.config.mask
    noted = {f"mask.{key}": value for key, value in settings.model_dump(mode="json").items()}
    jobs = [(rate, layout.wfss_mask(rate), settings, noted) for rate in dict.fromkeys(rates)]
    all_made = True
    for (rate, output, *_), outcome in run.workers.run(write, jobs, description="masking"):
        if isinstance(outcome, StepError):
            all_made = False
            messages.warn(f"FAILED: {rate}: {outcome}")
        else:
            messages.say(f"wrote {output}")
    return all_made


def write(rate: Path, output: Path, settings: Mask, noted: Mapping[str, Any]) -> None:
    """Write the mask of one rate file."""
    exposure = pipeline.flat_field(rate, context=settings.crds_context)
    _, bad, source = noise_and_masks(exposure, settings)
    masked_exposure.write_wfss_mask(output, ~(bad | source), header=exposure.header, settings=noted)
