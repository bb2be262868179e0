"""The comparison of a finished background with that in CRDS: begun, limited, kept."""

from pathlib import Path
from typing import Any

import numpy as np
from astropy.io import fits

from wfssbkg import pipeline
from wfssbkg.combine import fields
from wfssbkg.compare.cross_validation import CombinedExposures
from wfssbkg.config import Config
from wfssbkg.detector import science_pixels
from wfssbkg.errors import StepError
from wfssbkg.files import (
    any_background,
    comparison_file,
    exposure_table,
    flicker_noise,
    rate,
    reference_file,
    up_to_date,
)
from wfssbkg.files.comparison_file import Comparison
from wfssbkg.layout import Folder
from wfssbkg.run import command_line, messages

LEAST_KNOWN = 0.5  # part of the pixels in which a background of others must have a value


def settled(config: Config, folder: Folder) -> Config:
    """The settings with the kind of the finished background; as they are if there is none."""
    try:
        return flicker_noise.settled(config, exposure_table.read(folder.finished))
    except StepError:  # `begin` will tell
        return config


def made_with(config: Config, folder: Folder) -> dict[str, Any]:
    """The settings that bear on a comparison, and which file it has of `compare.against`.

    `config` is as from `settled`.
    """
    settings = up_to_date.bearing(config, up_to_date.COMPARED, folder.combination)
    path = _against(config, folder)
    if path and path.is_file():
        stamp = up_to_date.stamp(path).values()
        settings["compare.against, size and time"] = [value for value, _ in stamp]
    return settings


def _against(config: Config, folder: Folder) -> Path | None:
    """The file of `compare.against` for a combination, there or not."""
    return config.compare.against and config.compare.against / folder.finished.name


def is_current(config: Config, folder: Folder) -> bool:
    """Whether the comparison that is kept of a combination is still what it would be now.

    `config` is as from `settled`.
    """
    try:
        names = up_to_date.judged(exposure_table.read(folder.finished))
    except StepError:  # there is no finished file, or none that can be read: `begin` will tell
        return False
    sources = [folder.finished, folder.finished_unflat]
    sources += [path for name in names for path in (folder.masked(name), folder.refined(name))]
    return up_to_date.is_current(folder.comparison, made_with(config, folder), sources)


def begin(config: Config, folder: Folder) -> Comparison:
    """
    Read a finished background, and find what it is compared with.

    Parameters
    ----------
    config : `~wfssbkg.config.Config`
    folder : `~wfssbkg.layout.Folder`

    Returns
    -------
    `~wfssbkg.files.comparison_file.Comparison`
        Without scores.

    Raises
    ------
    StepError
        If there is no finished background, or it cannot be read. If there is nothing to compare
        it with, the notes say why.
    """
    comparison = Comparison(folder, *reference_file.read(folder.finished))
    _find_official(comparison)
    if path := _against(config, folder):
        _find_against(comparison, path)
    return comparison


def _find_official(comparison: Comparison) -> None:
    """Find the reference file in CRDS, or note why there is none."""
    folder = comparison.folder
    if folder.combination.direct:
        image, comparison.official_name = np.float32(1), "a constant"
        comparison.notes.append(
            "CRDS has no backgrounds of direct images: compared with a constant instead"
        )
    else:
        try:
            latest = folder.masked(exposure_table.latest(comparison.background.inputs))
            image, comparison.official_name = pipeline.official_background(latest)
        except StepError as error:
            comparison.notes.append(
                f"not compared with the reference file in CRDS: {error}. To try again, run "
                "compareBackgrounds.py --overwrite"
            )
            return
    comparison.official = _scaled(image, comparison.filled.shape)


def _find_against(comparison: Comparison, path: Path) -> None:
    """Read the background of `compare.against`, or note why it cannot be compared with."""
    folder, shape = comparison.folder, comparison.filled.shape
    note = comparison.notes.append
    try:
        if not path.exists():
            raise StepError("there is no such file (compare.against)")
        if path.samefile(folder.finished):
            raise StepError(
                "it is the new background itself. Name another folder (compare.against)"
            )
        found = any_background.read(path)
        any_background.check_combination(found, folder.combination)
        if found.image.shape != shape:
            size = " x ".join(map(str, found.image.shape[::-1]))
            raise StepError(f"it has {size} pixels, expected {shape[1]} x {shape[0]}")
        # All backgrounds are fitted to the pixels where each has a value.
        known = np.mean(found.image[science_pixels(shape)] != 0)
        if known < LEAST_KNOWN:
            raise StepError(f"only {known:.0%} of its pixels have a value")
        image = found.image
        if not found.flat_is_out:
            latest = folder.masked(exposure_table.latest(comparison.background.inputs))
            flat, _ = pipeline.flat_of(latest, folder.flat)
            image = image / flat
    except StepError as error:
        note(f"not compared with {path}: {error}")
        return
    # Where it is 0 it is not known.
    comparison.against = _scaled(np.where(image == 0, np.float32(np.nan), image), shape)
    comparison.against_file, comparison.against_dark = str(path), found.dark
    kinds = ("not cleaned of 1/f noise", "cleaned of 1/f noise")
    theirs, ours = (
        kinds[rate.is_complete(header, "S_CLNFNS")]
        for header in (found.header, fits.getheader(folder.finished))
    )
    if theirs != ours:
        note(
            f"{path} is for exposures that were {theirs} in stage 1, and these were {ours} "
            "(S_CLNFNS): it leaves more for that reason as well"
        )


def _scaled(image: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """A background over its median; NaN in the reference pixels of a frame of this shape."""
    image = np.where(science_pixels(shape), image, np.float32(np.nan))
    return (image / np.nanmedian(image)).astype(np.float32)


def note_limits(comparison: Comparison, combined: CombinedExposures, config: Config) -> None:
    """
    Note what the scores of a background do not tell, and why.

    Parameters
    ----------
    comparison : `~wfssbkg.files.comparison_file.Comparison`
    combined : `~wfssbkg.compare.cross_validation.CombinedExposures`
    config : `~wfssbkg.config.Config`
    """
    path, number = comparison.folder.path, len(combined.members)
    accepted = exposure_table.fates(comparison.background.inputs)[exposure_table.ACCEPTED]
    least = config.combine.minimum_exposures
    one_field = len(fields.members([exposure.pointing for exposure in combined.members])) == 1
    left_out = sum(len(part) for part in combined.parts)
    note = comparison.notes.append
    most = comparison.background.pointings.max()
    if few := messages.of_few_pointings(most, config.combine.minimum_pointings):
        note(few)
    if number < len(accepted):
        note(
            f"{len(accepted) - number} of {len(accepted)} masked exposures are gone from "
            f"{path}, or spoilt: not scored. Run makeMask.py to make them again"
        )
    if not config.combine.refinements:
        note(
            "scored outside the masks of makeMask.py, since nothing was refined "
            "(combine.refinements): the flux of faint sources counts as residual"
        )
    elif not combined.refined:
        note(
            f"refined masks are gone from {path}: scored outside those of makeMask.py, and "
            "the flux of faint sources counts as residual. Run makeBackgrounds.py --overwrite to "
            "make them again"
        )
    if number and config.compare.groups is None:
        note("not cross-validated, since compare.groups in the config is null")
    elif number and not left_out:
        note(
            f"not cross-validated: without a part of the {number} exposures"
            f"{', all of one field,' if one_field else ''} less than {least} are left "
            "(combine.minimum_exposures)"
        )
    elif one_field:
        note(
            "all exposures are of one field, so that exposures were left out, not fields: flux of "
            "sources that all of them share counts as sky, and the figures look too good"
        )
    elif left_out < number:
        note(
            f"{number - left_out} of {number} exposures were not cross-validated: without their "
            f"part of the fields less than {least} are left (combine.minimum_exposures)"
        )


def kept(config: Config, current: list[Folder]) -> list[Comparison]:
    """
    The comparisons that are kept of the combinations of a config.

    Says which cannot be read, and notes which are out of date.

    Parameters
    ----------
    config : `~wfssbkg.config.Config`
    current : list of `~wfssbkg.layout.Folder`
        Those of which this run has made the comparison, or found that it is up to date.

    Returns
    -------
    list of `~wfssbkg.files.comparison_file.Comparison`
    """
    found = []
    for folder in command_line.folders(config):
        if not folder.comparison.exists():
            continue
        try:
            found.append(comparison_file.read(folder))
        except StepError as error:
            messages.warn(f"{folder.combination} is not in the report: {error}")
            continue
        if folder not in current and not is_current(settled(config, folder), folder):
            found[-1].notes.append(
                "this comparison is out of date: files or settings have changed since. Run "
                "compareBackgrounds.py"
            )
    return found
