"""Which exposures are fit for a background: judged, and noted in the exposure table."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

import numpy as np

from wfssbkg import StepError, background, cli, exposures, masked, parallel, refine, sample, stripes
from wfssbkg.config import Config, fingerprint
from wfssbkg.layout import Folder
from wfssbkg.sample import Exposure

if TYPE_CHECKING:
    from astropy.table import Table


def refined(
    config: Config, folder: Folder, table: Table, names: list[str]
) -> tuple[list[Exposure], np.ndarray | None, np.ndarray | None]:
    """
    Normalise exposures and refine them, as often as the config asks for.

    Parameters
    ----------
    config, folder, table, names
        As for `normalise`.

    Returns
    -------
    fit : list of `~wfssbkg.sample.Exposure`
    common, chance : (4, nx) float32 arrays or None
        `wfssbkg.stripes.common` of them; None without a refinement.
    """
    fit, common, chance = normalise(config, folder, table, names), None, None
    for number in range(1, config.combine.refinements + 1):
        sky, *_ = background.combine_all(config, fit, common, in_cells=True)
        fit, common, chance = refine_all(config, folder, table, fit, sky, common, number)
    return fit, common, chance


def normalise(config: Config, folder: Folder, table: Table, names: list[str]) -> list[Exposure]:
    """
    Measure the levels into the table, and reject what is not fit.

    Parameters
    ----------
    config : `~wfssbkg.config.Config`
    folder : `~wfssbkg.layout.Folder`
    table : `~astropy.table.Table`
        The exposure table; written as well.
    names : list of str
        Rate files of the exposures to judge.

    Returns
    -------
    list of `~wfssbkg.sample.Exposure`
        The fit ones.

    Raises
    ------
    StepError
        If they are too few, or were masked with other settings.
    """
    settings = config.combine
    members = [Exposure.of(folder, name) for name in names]
    _note_origins(config, table, members)
    readable = _of_one_size(table, members)
    jobs = [(exposure, settings) for exposure in readable]
    options = {"compute": config.compute, "need_gb": background.WORKER_GB, "description": "levels"}
    for (exposure, _), outcome in parallel.run(sample.measure, jobs, **options):
        if isinstance(outcome, StepError):
            _reject(table, exposure, str(outcome))
            continue
        exposure.level, exposure.noise = outcome
        exposures.mark(
            table, exposure.name, status=exposures.ACCEPTED, reason="", level=exposure.level
        )
        if exposure.saturated > settings.maximum_saturated:
            _reject(
                table,
                exposure,
                f"a bright source: {exposure.saturated} px of its trace are saturated from the "
                f"first group on, more than {settings.maximum_saturated} "
                "(combine.maximum_saturated)",
            )
    exposures.reject_crowded(table, settings.maximum_masked_fraction)
    return _still_fit(config, folder, table, members)


def refine_all(
    config: Config,
    folder: Folder,
    table: Table,
    members: list[Exposure],
    sky: np.ndarray,
    common: np.ndarray | None,
    number: int,
) -> tuple[list[Exposure], np.ndarray, np.ndarray]:
    """
    As `wfssbkg.background.refine_all`, and reject exposures that differ from the others.

    Parameters
    ----------
    config, folder, table, members
        As for `normalise`, and what it returns.
    sky, common
        As for `wfssbkg.background.refine_all`.
    number : int
        Of the refinement, from 1.

    Returns
    -------
    fit : list of `~wfssbkg.sample.Exposure`
    common, chance : (4, nx) float32 arrays
        `wfssbkg.stripes.common` of them.
    """
    fluxes = refine.fluxes_to_count(members, config.combine)
    found: dict[str, refine.Findings] = {}
    for exposure, outcome in background.refine_all(
        config, members, sky, common, fluxes, description=f"refining ({number})"
    ):
        if isinstance(outcome, StepError):
            _reject(table, exposure, str(outcome))
        else:
            found[exposure.name] = outcome
    examined = [(exposure, found[exposure.name]) for exposure in members if exposure.name in found]
    for exposure, reason in refine.unfit(examined, fluxes, config.combine):
        _reject(table, exposure, reason)
    fit = _still_fit(config, folder, table, members)
    # In the order of the table, whichever was done first, for the same sums to the last bit.
    noise = np.array([found[exposure.name].stripes for exposure in fit])
    information = np.array([found[exposure.name].information for exposure in fit])
    return fit, *stripes.common(noise, information)


def _note_origins(config: Config, table: Table, members: list[Exposure]) -> None:
    """Note the flat fields in the table; see that the masks are of the settings in the config."""
    table["weight"][:] = np.nan
    for exposure in members:
        try:
            header = exposure.read_header()
        except StepError as error:
            exposures.mark(table, exposure.name, status=exposures.FAILED, reason=str(error))
            continue
        if header.get("SETTINGS") != fingerprint(config.mask):
            raise StepError(
                f"{exposure.masked} was made with other settings of mask than the config has. "
                "Run makeMask.py first"
            )
        exposures.mark(table, exposure.name, **masked.flat_field_used(header))


def _of_one_size(table: Table, members: list[Exposure]) -> list[Exposure]:
    """Those exposures that can be read and have the size that most have; the others failed."""
    names = set(exposures.fates(table)[exposures.FAILED])
    readable = [exposure for exposure in members if exposure.name not in names]
    sizes = Counter(exposure.shape for exposure in readable)
    for exposure in readable:
        if exposure.shape != sizes.most_common(1)[0][0]:
            (ny, nx), (rows, columns) = exposure.shape, sizes.most_common(1)[0][0]
            reason = f"{exposure.masked} is {nx}x{ny} pixels, the others are {columns}x{rows}"
            exposures.mark(table, exposure.name, status=exposures.FAILED, reason=reason)
            names.add(exposure.name)
    return [exposure for exposure in readable if exposure.name not in names]


def _still_fit(
    config: Config, folder: Folder, table: Table, members: list[Exposure]
) -> list[Exposure]:
    """Those of some exposures that are not rejected; says which are, and why."""
    fates = exposures.fates(table)
    names = set(fates[exposures.ACCEPTED])
    for fate in (exposures.FAILED, exposures.REJECTED):
        for exposure in members:
            if exposure.name in fates[fate]:
                tell = cli.warn if fate == exposures.FAILED else cli.say
                tell(f"{exposure.name} {fate}: {exposures.reason(table, exposure.name)}")
    fit = [exposure for exposure in members if exposure.name in names]
    if len(fit) < len(members):
        exposures.write(table, folder.table)
    least = config.combine.minimum_exposures
    if len(fit) < least:
        raise StepError(
            f"{len(fit)} exposures are fit for a background, expected at least {least} "
            "(combine.minimum_exposures in the config)"
        )
    return fit


def _reject(table: Table, exposure: Exposure, reason: str) -> None:
    """Note in the table that an exposure takes no part, and why."""
    exposures.mark(
        table, exposure.name, status=exposures.REJECTED, reason=reason, level=exposure.level
    )
