"""Which exposures are fit for a background: judged, and noted in the exposure table."""

import re
from collections import Counter
from collections.abc import Iterator

import bottleneck as bn
import numpy as np
from astropy.table import Table

from wfssbkg.combine import fields, saturation
from wfssbkg.combine.exposure import Exposure, Measured
from wfssbkg.combine.refinement import Refinement
from wfssbkg.config import Combine, Config
from wfssbkg.errors import StepError
from wfssbkg.files import exposure_table, masked_exposure, up_to_date
from wfssbkg.files.exposure_table import ACCEPTED, FAILED, REJECTED
from wfssbkg.layout import Folder
from wfssbkg.run import messages

_MANY = 0.3  # a part of the exposures that is hardly spoilt all in the same way
_LEAST_TYPICAL = 1.0  # sources; where the others have hardly any, a few are due to chance


def candidates(table: Table, folder: Folder) -> list[str]:
    """
    The exposures that are masked; those rejected the last time are judged again.

    Raises
    ------
    StepError
        If one is not masked, or there is none.
    """
    names = []
    for row in table:
        if row["status"] in (ACCEPTED, REJECTED):
            path = folder.masked(row["productFilename"])
            if not path.exists():
                raise StepError(f"{path} does not exist. Run makeMask.py first")
            names.append(str(row["productFilename"]))
    if not names:
        raise StepError(f"{folder.table} has no masked exposure. Run makeMask.py first")
    return names


def readable(config: Config, folder: Folder, table: Table, names: list[str]) -> list[Exposure]:
    """
    The exposures that can be read and have the size that most have; the others failed.

    Notes in the table which flat fields they were divided by.

    Raises
    ------
    StepError
        If one was masked with other settings than the config has.
    """
    table["weight"][:] = np.nan
    members = []
    for name in names:
        exposure = Exposure.of(folder, name)
        try:
            header = exposure.read_header()
        except StepError as error:
            exposure_table.mark(table, name, status=FAILED, reason=str(error))
            continue
        up_to_date.check_made_with(
            exposure.masked, config, up_to_date.MASKED, folder.combination, "makeMask.py"
        )
        exposure_table.mark(table, name, **masked_exposure.flat_field_used(header))
        members.append(exposure)
    sizes = Counter(exposure.shape for exposure in members)
    usual = sizes.most_common(1)[0][0] if sizes else (0, 0)
    for exposure in members:
        if exposure.shape != usual:
            (ny, nx), (rows, columns) = exposure.shape, usual
            reason = f"{exposure.masked} is {nx}x{ny} pixels, the others are {columns}x{rows}"
            exposure_table.mark(table, exposure.name, status=FAILED, reason=reason)
    return [exposure for exposure in members if exposure.shape == usual]


def reject(table: Table, exposure: Exposure, reason: str) -> None:
    """Note in the table that an exposure takes no part, and why."""
    values = {"status": REJECTED, "reason": reason, "level": exposure.level}
    exposure_table.mark(table, exposure.name, **values)


def judge_measured(
    table: Table, outcomes: list[tuple[Exposure, Measured | StepError]], settings: Combine
) -> None:
    """
    Note the levels of exposures, and reject those that are not fit by their own measure.

    Parameters
    ----------
    table : `~astropy.table.Table`
    outcomes : list of (Exposure, outcome)
        From `wfssbkg.combine.exposure.measure`, a StepError if there is no level.
    settings : Combine
    """
    measured: list[Exposure] = []
    saturated: list[np.ndarray] = []
    for exposure, outcome in outcomes:
        if isinstance(outcome, StepError):
            reject(table, exposure, str(outcome))
            continue
        level = exposure.level
        exposure_table.mark(table, exposure.name, status=ACCEPTED, reason="", level=level)
        measured.append(exposure)
        saturated.append(outcome.saturated)
    most = settings.maximum_saturated
    for exposure, length in _too_saturated(measured, saturated, most):
        reason = (
            f"a bright source: {length} px of its trace are saturated from the first group on, "
            f"more than {most} (combine.maximum_saturated)"
        )
        reject(table, exposure, reason)
    limit = settings.maximum_masked_fraction
    for row in table:
        if row["status"] == ACCEPTED and row["masked_fraction"] > limit:
            found, most_allowed = percent(row["masked_fraction"], limit)
            row["status"] = REJECTED
            row["reason"] = (
                f"{found} of the pixels masked, more than {most_allowed} "
                "(combine.maximum_masked_fraction)"
            )


def _too_saturated(
    members: list[Exposure], saturated: list[np.ndarray], most: int
) -> Iterator[tuple[Exposure, int]]:
    """The exposures with a saturated trace longer than `most` px, and its length."""
    if not members:
        return
    groups = fields.surely_apart([exposure.pointing for exposure in members])
    shape = members[0].shape
    defects = saturation.permanent(saturated, groups, shape)
    for exposure, flagged in zip(members, saturated, strict=True):
        pixels = flagged[~defects[flagged]]
        if len(pixels) > most:
            length = saturation.longest_trace(pixels, shape, along_x=exposure.along_x)
            if length > most:
                yield exposure, length


def percent(*values: float, digits: int = 0) -> list[str]:
    """Different numbers in per cent, with at least some digits, and enough to tell them apart."""
    words = [f"{value:.{digits}%}" for value in values]
    return words if len(set(words)) == len(words) else percent(*values, digits=digits + 1)


def common_reasons(table: Table, where: str) -> list[str]:
    """Which settings reject a large part of the exposures of a table, each in a sentence.

    `where` says where the user finds these exposures.
    """
    judged = np.count_nonzero(np.isin(table["status"], (ACCEPTED, REJECTED)))
    settings = Counter(
        found[1]
        for reason in table["reason"][table["status"] == REJECTED]
        if (found := re.search(r"\((combine\.\w+)", reason))
    )
    return [
        f"{count} of {judged} exposures are rejected for one reason ({name}): look at them "
        f"{where}. If they are sound, "
        f"{'lower' if name == 'combine.level_border' else 'raise'} that setting"
        for name, count in settings.most_common()
        if count > _MANY * judged
    ]


def unfit(
    refined: list[tuple[Exposure, Refinement]], fluxes: np.ndarray, settings: Combine
) -> Iterator[tuple[Exposure, str]]:
    """
    The exposures that differ too much from the others, and why.

    Parameters
    ----------
    refined : list of (Exposure, Refinement)
    fluxes : (k,) float array
        Above which sources were counted, DN/s.
    settings : Combine

    Yields
    ------
    exposure : Exposure
    reason : str
    """
    if not refined:
        return
    numbers = np.array([found.sources for _, found in refined])
    typical = bn.nanmedian(numbers, axis=0)
    most = settings.maximum_crowding * np.maximum(typical, _LEAST_TYPICAL)
    most += 3 * np.sqrt(most)  # Poisson scatter
    # In a clean exposure it is 1/f noise, which columns show on small scales.
    noise = np.array([max(found.columns, 1e-6) for _, found in refined])
    usual = noise * bn.nanmedian([found.structure for _, found in refined] / noise)
    limits = np.maximum(settings.maximum_structure * usual, settings.tolerated_structure)
    for (exposure, found), crowded, limit in zip(refined, numbers > most, limits, strict=True):
        if found.structure > limit:
            structure, allowed = percent(found.structure, limit, digits=2)
            tolerated = limit == settings.tolerated_structure
            reason = (
                f"differs from the others by {structure} of the sky on large scales, more than "
                f"{allowed} (combine.{'tolerated' if tolerated else 'maximum'}_structure)"
            )
        elif crowded.any():
            k = int(np.argmax(crowded))
            number = found.sources[k]
            reason = (
                f"a crowded field, or persistence: {number:.0f} sources brighter than "
                f"{fluxes[k]:.2g} DN/s per pixel, "
                + (
                    f"{number / typical[k]:.1f} times the median"
                    if typical[k]
                    else "the median is 0"
                )
                + f" of the exposures, more than {settings.maximum_crowding:g} "
                "(combine.maximum_crowding)"
            )
        else:
            continue
        yield exposure, reason


def still_fit(
    settings: Combine, folder: Folder, table: Table, members: list[Exposure]
) -> list[Exposure]:
    """
    Those of some exposures that are accepted; says which of the others are not, and why.

    Parameters
    ----------
    settings : Combine
    folder : `~wfssbkg.layout.Folder`
    table : `~astropy.table.Table`
        The exposure table; written if it says of an exposure that it is not fit.
    members : list of Exposure

    Raises
    ------
    StepError
        If they are too few.
    """
    fates = exposure_table.fates(table)
    for fate in (FAILED, REJECTED):
        for exposure in members:
            if exposure.name in fates[fate]:
                tell = messages.warn if fate == FAILED else messages.say
                tell(f"{exposure.name} {fate}: {exposure_table.reason(table, exposure.name)}")
    accepted = set(fates[ACCEPTED])
    fit = [exposure for exposure in members if exposure.name in accepted]
    if len(fit) < len(members):
        exposure_table.write(table, folder.table)
    if len(fit) < settings.minimum_exposures:
        messages.warn_some(common_reasons(table, f"({folder.masked('*_rate.fits')})"))
        raise StepError(
            f"{len(fit)} exposures are fit for a background, expected at least "
            f"{settings.minimum_exposures} (combine.minimum_exposures in the config)"
        )
    return fit
