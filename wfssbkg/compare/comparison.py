"""The comparison of a finished background with that in CRDS: begun, limited, kept."""

import numpy as np

from wfssbkg import pipeline
from wfssbkg.combine import fields
from wfssbkg.compare.cross_validation import CombinedExposures
from wfssbkg.config import Config
from wfssbkg.detector import science_pixels
from wfssbkg.errors import StepError
from wfssbkg.files import (
    comparison_file,
    exposure_table,
    flicker_noise,
    reference_file,
    up_to_date,
)
from wfssbkg.files.comparison_file import Comparison
from wfssbkg.layout import Folder
from wfssbkg.run import command_line, messages


def settled(config: Config, folder: Folder) -> Config:
    """The settings with the kind of the finished background; as they are if there is none."""
    try:
        return flicker_noise.settled(config, exposure_table.read(folder.finished))
    except StepError:  # `begin` will tell
        return config


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
    settings = up_to_date.bearing(config, up_to_date.COMPARED, folder.combination)
    return up_to_date.is_current(folder.comparison, settings, sources)


def begin(folder: Folder) -> Comparison:
    """
    Read a finished background, and find what it is compared with.

    Parameters
    ----------
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
            return comparison
    image = np.where(science_pixels(comparison.filled.shape), image, np.float32(np.nan))
    comparison.official = image / np.float32(np.nanmedian(image))
    return comparison


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
