"""The background of a combination: its exposures measured, refined, combined."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Literal

import numpy as np
from astropy.table import Table

from wfssbkg import detector
from wfssbkg.combine import (
    average,
    bins,
    components,
    dark_residual,
    extra_light,
    fields,
    jackknife,
    refinement,
    selection,
    stack,
    standing_out,
)
from wfssbkg.combine.common import common_to
from wfssbkg.combine.dark_residual import DarkResidual
from wfssbkg.combine.exposure import Common, Exposure, measure
from wfssbkg.combine.refinement import Refinement
from wfssbkg.config import Combine, Config
from wfssbkg.errors import StepError
from wfssbkg.files import (
    combined_background,
    exposure_table,
    refined_exposure,
    up_to_date,
)
from wfssbkg.files.combined_background import Background, Components
from wfssbkg.layout import Folder
from wfssbkg.run import messages
from wfssbkg.run.parallel import Workers

WORKER_GB = 0.6  # with one full frame, or the bins of a field, and what is made of it; measured


def is_current(folder: Folder, names: list[str], settings: Mapping[str, Any]) -> bool:
    """
    Whether the background is there and made of these exposures with these settings.

    Parameters
    ----------
    folder : `~wfssbkg.layout.Folder`
    names : list of str
        Rate files of the exposures.
    settings : mapping
        From `wfssbkg.files.up_to_date.bearing`.
    """
    sources = [folder.masked(name) for name in names]
    if not up_to_date.is_current(folder.background, settings, sources):
        return False
    try:
        made_of = combined_background.read(folder.background).inputs
    except StepError as error:
        messages.say(f"it is made again: {error}")
        return False
    return up_to_date.judged(made_of) == set(names)


def normalise(
    workers: Workers, config: Config, folder: Folder, table: Table, names: list[str]
) -> list[Exposure]:
    """
    Measure the levels of exposures, note them in the table, and reject what is not fit.

    Parameters
    ----------
    workers : `~wfssbkg.run.parallel.Workers`
    config : `~wfssbkg.config.Config`
    folder : `~wfssbkg.layout.Folder`
    table : `~astropy.table.Table`
        The exposure table; written as well.
    names : list of str
        Rate files of the exposures to judge.

    Returns
    -------
    list of `~wfssbkg.combine.exposure.Exposure`
        The fit ones.

    Raises
    ------
    StepError
        If they are too few, or were masked with other settings.
    """
    members = [Exposure.of(folder, name) for name in names]
    readable = selection.readable(config, folder, table, names)
    _note_pointings(folder, readable)
    jobs = [(exposure, config.combine) for exposure in readable]
    outcomes = []
    for (exposure, _), outcome in workers.run(measure, jobs, description="levels"):
        if not isinstance(outcome, StepError):
            exposure.level, exposure.noise = outcome.level, outcome.noise
            exposure.imprint = outcome.imprint
        outcomes.append((exposure, outcome))
    selection.judge_measured(table, outcomes, config.combine)
    known = {exposure.name: exposure for exposure in readable}
    members = [known.get(exposure.name, exposure) for exposure in members]
    return selection.still_fit(config.combine, folder, table, members)


def _note_pointings(folder: Folder, members: list[Exposure]) -> None:
    """Number the pointings of exposures; says how many have none, and what that costs."""
    lost = sum(not exposure.pointing for exposure in members)
    if lost:
        messages.warn(
            f"{lost} of {len(members)} exposures do not tell where they point (RA_REF, DEC_REF, "
            "ROLL_REF, V3I_YANG, VPARITY in SCI): each is refined as a field of its own, all count "
            "as one pointing. Sources that only all dithers of a field together show stay in, and "
            "the uncertainty may be too low"
        )
    combination = folder.combination
    nearest = (fields.SAME_ACROSS, fields.SAME_ACROSS)
    if not combination.direct:
        along = detector.TRACE_LENGTHS[combination.filter]
        nearest = (nearest[0], along) if combination.along_x else (along, nearest[1])
    places = fields.distinct([exposure.pointing for exposure in members], nearest=nearest)
    for exposure, place in zip(members, places, strict=True):
        exposure.place = place


def refine(
    workers: Workers, config: Config, folder: Folder, table: Table, members: list[Exposure]
) -> tuple[list[Exposure], Common | None]:
    """
    Refine exposures as often as the config asks for, and reject those that differ from the others.

    Parameters
    ----------
    workers, config, folder, table
        As for `normalise`.
    members : list of `~wfssbkg.combine.exposure.Exposure`
        What `normalise` returns.

    Returns
    -------
    fit : list of `~wfssbkg.combine.exposure.Exposure`
    common : `~wfssbkg.combine.exposure.Common` or None
        None without a refinement.
    """
    settings = config.combine
    if not settings.refinements:
        return members, None
    dark = _if_sure(_imprinted(members), members, settings)
    common = Common.nothing(members[0].bins_shape, dark)
    for exposure in members:
        exposure.level -= dark.value
    for number in range(1, settings.refinements + 1):
        sky, *_ = stack.combine_all(workers, settings, members, common, binned=True)
        fluxes = refinement.fluxes_to_count(members, settings)
        jobs = [
            ([members[k] for k in group], offsets, sky, common, fluxes, settings)
            for group, offsets in fields.group(
                [exposure.pointing for exposure in members], most=refinement.MOST_EXPOSURES
            )
        ]
        found: dict[str, Refinement] = {}
        options = {"description": f"refining ({number})", "unit": "fields"}
        for (field, *_), outcomes in workers.run(refinement.refine_field, jobs, **options):
            if isinstance(outcomes, StepError):
                outcomes = [outcomes] * len(field)
            for exposure, outcome in zip(field, outcomes, strict=True):
                if isinstance(outcome, StepError):
                    selection.reject(table, exposure, str(outcome))
                    continue
                found[exposure.name] = outcome
                exposure.level = outcome.level
                exposure.next_refined.replace(exposure.refined)
        # In the order of the table, whichever was done first, for the same sums to the last bit.
        refined = [(each, found[each.name]) for each in members if each.name in found]
        _note_missing_light([each for _, each in refined], settings)
        for exposure, reason in selection.unfit(refined, fluxes, settings):
            selection.reject(table, exposure, reason)
        members = selection.still_fit(settings, folder, table, members)
        common = common_to(members, settings)
        for exposure in members:
            exposure.level *= 1 + common.level[exposure.name]
        dark = _dark_residual(members, found, common, sky, settings)
        # What the last refinement found is right with what was subtracted in it.
        if number == settings.refinements:
            dark = dark._replace(value=common.dark.value)
        for exposure in members:
            exposure.level -= dark.value - common.dark.value
        common = replace(common, dark=dark)
    return members, common


def _dark_residual(
    members: list[Exposure],
    found: dict[str, Refinement],
    common: Common,
    sky: np.ndarray,
    settings: Combine,
) -> DarkResidual:
    """What the subtraction of the dark left in all exposures: from maps, and from imprints."""
    box = bins.box(settings.structure_box, along_x=members[0].along_x)
    maps, weights = [], []
    for exposure in members:
        maps.append(found[exposure.name].difference)
        unknown = np.isnan(common.extra[exposure.name])
        weights.append(np.where(unknown, 0, found[exposure.name].weight))
    inverse = members[0].inverse_flat(slice(None), binned=True)
    more, error = dark_residual.fit(
        np.array(maps),
        np.array(weights),
        bins.medians(inverse - sky, box)[0],
        np.array([exposure.level for exposure in members]),
        fields.units([exposure.pointing for exposure in members]),
    )
    found = DarkResidual(common.dark.value + more, error)
    return _if_sure(dark_residual.mean([found, _imprinted(members)]), members, settings)


def _imprinted(members: list[Exposure]) -> DarkResidual:
    """What the subtraction of the dark left in all exposures, from the flat field's imprint."""
    levels = np.array([exposure.level for exposure in members])
    return dark_residual.of_imprints([exposure.imprint for exposure in members], levels)


def _if_sure(dark: DarkResidual, members: list[Exposure], settings: Combine) -> DarkResidual:
    """A dark residual, or 0 if it is not significant."""
    most = dark_residual.LARGEST * min(exposure.level for exposure in members)
    sure = settings.dark_sigma * dark.error < abs(dark.value) < most
    return dark if sure else dark._replace(value=0.0)


def _note_missing_light(refined: list[Refinement], settings: Combine) -> None:
    """Tell how much light exposures lack, which the others have."""
    maps, weights = (
        np.array([getattr(found, name) for found in refined]) for name in ("difference", "weight")
    )
    light = extra_light.find(maps, weights, strong=settings.strong_extra_light)
    for found, missing in zip(refined, light.missing, strict=True):
        found.structure = float(missing)


def combine_exposures(
    workers: Workers,
    config: Config,
    table: Table,
    members: list[Exposure],
    common: Common | None,
) -> Background:
    """
    Combine exposures, and note in the table what part each has.

    Parameters
    ----------
    workers, config, table
        As for `normalise`.
    members, common
        What `refine` returns.

    Returns
    -------
    `~wfssbkg.files.combined_background.Background`
    """
    settings, systematic, dark = config.combine, 0.0, DarkResidual()
    light = Components.none()
    if common is not None:
        dark, light = common.dark, scattered_light(members, settings, settings.components)
        systematic = jackknife.systematic_error(workers, settings, members)
    sci, err, number, bad, pointings, information = stack.combine_all(
        workers, settings, members, common
    )
    outlying = standing_out.find(sci, err, settings.standing_out_sigma)
    sci[outlying], err[outlying], number[outlying] = np.nan, np.nan, 0
    bad |= outlying
    for exposure, weight in zip(members, average.shares(information), strict=True):
        exposure_table.mark(table, exposure.name, level=exposure.level, weight=weight)
    return Background(sci, err, number, bad, pointings, table, systematic, dark, light)


def scattered_light(
    members: list[Exposure], settings: Combine, number: int | Literal["auto"]
) -> Components:
    """
    The light that exposures of several fields share, and that is not the sky.

    Parameters
    ----------
    members, settings
        As for `wfssbkg.combine.common.common_to`.
    number : int or 'auto'
        As for `wfssbkg.combine.components.find`.
    """
    read = [refined_exposure.read(exposure.refined, slice(0, 0)) for exposure in members]
    maps, weights = (
        np.array([getattr(each, name) for each in read])
        for name in ("difference", "difference_weight")
    )
    found = extra_light.find(maps, weights, strong=settings.strong_extra_light)
    groups = fields.members([exposure.pointing for exposure in members])
    return components.find(found.light, found.variance, groups, number)
