"""The background of a combination: its exposures measured, refined, combined."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from astropy.table import Table

from wfssbkg import detector
from wfssbkg.combine import average, fields, halves, refinement, selection, stack, stripes
from wfssbkg.combine.exposure import Exposure, measure
from wfssbkg.combine.refinement import Refinement
from wfssbkg.config import Config
from wfssbkg.errors import StepError
from wfssbkg.files import combined_background, exposure_table, up_to_date
from wfssbkg.files.combined_background import Background
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
            exposure.level, exposure.noise, _ = outcome
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
) -> tuple[list[Exposure], np.ndarray | None]:
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
    shared : (4, columns) float32 array or None
        Stripes that they share, relative to their levels; None without a refinement.
    """
    settings, shared = config.combine, None
    for number in range(1, settings.refinements + 1):
        if shared is None:
            shared = stripes.none(members[0].bins_shape[1])
        sky, *_ = stack.combine_all(workers, settings, members, shared, binned=True)
        fluxes = refinement.fluxes_to_count(members, settings)
        jobs = [
            ([members[k] for k in group], offsets, sky, shared, fluxes, settings)
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
        for exposure, reason in selection.unfit(refined, fluxes, settings):
            selection.reject(table, exposure, reason)
        members = selection.still_fit(settings, folder, table, members)
        kept = [found[exposure.name] for exposure in members]
        shared = stripes.shared(
            np.array([each.stripes for each in kept]), np.array([each.information for each in kept])
        )
    return members, shared


def combine_exposures(
    workers: Workers,
    config: Config,
    table: Table,
    members: list[Exposure],
    shared: np.ndarray | None,
) -> Background:
    """
    Combine exposures, and note in the table what part each has.

    Parameters
    ----------
    workers, config, table
        As for `normalise`.
    members, shared
        What `refine` returns.

    Returns
    -------
    `~wfssbkg.files.combined_background.Background`
    """
    settings, systematic = config.combine, 0.0
    if shared is not None:
        systematic = halves.difference_of_halves(workers, settings, members, shared)
    *images, information = stack.combine_all(workers, settings, members, shared)
    for exposure, weight in zip(members, average.shares(information), strict=True):
        exposure_table.mark(table, exposure.name, level=exposure.level, weight=weight)
    return Background(*images, table, systematic)
