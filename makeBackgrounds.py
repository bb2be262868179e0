#!/usr/bin/env python
"""Step 3 of 4: normalise the masked exposures and combine them.

For each combination (run makeMask.py first):
  1. measure the level of each exposure: the sigma-clipped median of its unmasked pixels,
  2. divide each exposure by its level,
  3. refine, on averages over a few pixels: combine, fit the levels to the background so far,
     mask the sources that are left in each exposure minus it, subtract the light of fainter ones
     and the stripes of 1/f noise, reject exposures that differ from the others,
  4. in each pixel, combine the normalised exposures that count there: their weighted mean
     without outliers, or their median,
  5. take out the stripes of 1/f noise that are left.
Next: finalizeBackgrounds.py.
"""

from __future__ import annotations

if __name__ == "__main__":  # the imports below take a while
    from wfssbkg import interrupted

    interrupted.ends_at_once()

from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from astropy.table import Table

from wfssbkg import (
    StepError,
    cells,
    cli,
    combine,
    exposures,
    fields,
    lock,
    masked,
    parallel,
    products,
    refine,
    sample,
    stripes,
)
from wfssbkg.config import Combine, fingerprint
from wfssbkg.layout import Folder
from wfssbkg.sample import Exposure

WORKER_GB = 0.6  # with one full frame, or the cells of a field, and what is made of it; measured


def make_background(run: cli.Run, folder: Folder) -> None:
    """Make the combined background of a combination, unless it is there."""
    table = exposures.read(folder.table)
    names = candidates(table, folder)
    cli.warn(products.doubtful(folder.combination, len(names)))
    settings = fingerprint(run.config.mask, run.config.combine)
    if not run.overwrite and is_current(folder, names, settings):
        cli.say(f"{folder.background} is up to date: nothing to do")
        return
    accepted = normalise(run, folder, table, names)
    common, chance, left = None, None, 0.0
    for number in range(run.config.combine.refinements):
        sky, *_ = combine_all(run, accepted, common, in_cells=True)
        accepted, common, chance = refine_all(run, folder, table, accepted, sky, common, number + 1)
    if run.config.combine.refinements:
        left = difference_of_halves(run, accepted, common)
    *images, information = combine_all(run, accepted, common)
    background = products.Background(*images, table)
    folder.remove_cells()
    background.systematic = float(np.hypot(left, destripe(run, folder, background, chance)))
    for exposure, weight in zip(accepted, combine.shares(information), strict=True):
        exposures.mark(table, exposure.name, level=exposure.level, weight=weight)
    exposures.write(table, folder.table)
    products.write_background(folder.background, background, settings=settings)
    report(folder, background, accepted)


def destripe(
    run: cli.Run, folder: Folder, background: products.Background, chance: np.ndarray | None
) -> float:
    """Take out the stripes that are left in the background; returns the error they still leave."""
    along_x = folder.combination.along_x
    if chance is not None and along_x:
        chance = cells.expand(chance, along_x=True)
    if not run.config.combine.remove_stripes:
        return 0.0 if chance is None else float(np.std(chance))
    noise = stripes.of_background(background.sci, along_x=along_x)
    background.sci *= 1 - stripes.spread(noise, len(background.sci))
    if chance is None:
        return 0.0
    return stripes.error_left(background.sci, chance, along_x=along_x)


def candidates(table: Table, folder: Folder) -> list[str]:
    """The exposures that are masked; those rejected the last time are judged again."""
    names = []
    for row in table:
        if row["status"] in (exposures.ACCEPTED, exposures.REJECTED):
            path = folder.masked(row["productFilename"])
            if not path.exists():
                raise StepError(f"{path} does not exist. Run makeMask.py first")
            names.append(str(row["productFilename"]))
    if not names:
        raise StepError(f"{folder.table} has no masked exposure. Run makeMask.py first")
    return names


def is_current(folder: Folder, names: list[str], settings: str) -> bool:
    """Whether the background is there and made of these exposures with these settings."""
    sources = [folder.masked(name) for name in names]
    if not products.is_current(folder.background, settings=settings, sources=sources):
        return False
    try:
        made_of = products.read_background(folder.background).inputs
    except StepError as error:
        cli.say(f"made anew: {error}")
        return False
    return candidates(made_of, folder) == names


def normalise(run: cli.Run, folder: Folder, table: Table, names: list[str]) -> list[Exposure]:
    """Measure the levels into the table, and reject what is not fit; returns the fit ones."""
    settings = run.config.combine
    members = [Exposure.of(folder, name) for name in names]
    note_origins(run, table, members)
    readable = of_one_size(table, members)
    jobs = [(exposure, settings) for exposure in readable]
    for (exposure, _), outcome in each(run, sample.measure, jobs, description="levels"):
        if isinstance(outcome, StepError):
            reject(table, exposure, str(outcome))
            continue
        exposure.level, exposure.noise, exposure.pointing, exposure.saturated = outcome
        exposures.mark(
            table, exposure.name, status=exposures.ACCEPTED, reason="", level=exposure.level
        )
        if exposure.saturated > settings.maximum_saturated:
            reject(
                table,
                exposure,
                f"a bright source: {exposure.saturated} px of its trace are saturated from the "
                f"first group on, more than {settings.maximum_saturated} "
                "(combine.maximum_saturated)",
            )
    exposures.reject_crowded(table, settings.maximum_masked_fraction)
    return still_fit(run, folder, table, members)


def note_origins(run: cli.Run, table: Table, members: list[Exposure]) -> None:
    """Note the flat fields in the table; see that the masks are of the settings in the config."""
    table["weight"][:] = np.nan
    for exposure in members:
        try:
            header, _ = masked.read_headers(exposure.masked)
        except StepError as error:
            exposures.mark(table, exposure.name, status=exposures.FAILED, reason=str(error))
            continue
        if header.get("SETTINGS") != fingerprint(run.config.mask):
            raise StepError(
                f"{exposure.masked} was made with other settings of mask than the config has. "
                "Run makeMask.py first"
            )
        exposures.mark(table, exposure.name, **masked.flat_field_used(header))


def of_one_size(table: Table, members: list[Exposure]) -> list[Exposure]:
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


def still_fit(
    run: cli.Run, folder: Folder, table: Table, members: list[Exposure]
) -> list[Exposure]:
    """Those of some exposures that are not rejected; says which are, and why."""
    exposures.write(table, folder.table)
    fates = exposures.fates(table)
    names = set(fates[exposures.ACCEPTED])
    for fate in (exposures.FAILED, exposures.REJECTED):
        for exposure in members:
            if exposure.name in fates[fate]:
                cli.say(f"{exposure.name} {fate}: {exposures.reason(table, exposure.name)}")
    fit = [exposure for exposure in members if exposure.name in names]
    least = run.config.combine.minimum_exposures
    if len(fit) < least:
        raise StepError(
            f"{len(fit)} exposures are fit for a background, expected at least {least} "
            "(combine.minimum_exposures in the config)"
        )
    return fit


def reject(table: Table, exposure: Exposure, reason: str) -> None:
    """Note in the table that an exposure takes no part, and why."""
    exposures.mark(
        table, exposure.name, status=exposures.REJECTED, reason=reason, level=exposure.level
    )


def combine_all(
    run: cli.Run,
    members: list[Exposure],
    common: np.ndarray | None,
    *,
    in_cells: bool = False,
    bands: list[slice] | None = None,
) -> list[np.ndarray]:
    """Combine the exposures, or their cells, in as many bands of rows as the memory asks for.

    Returns the background, its uncertainty, the number of exposures that count, and which pixels
    are bad in all of them; and the information in each exposure, a row for each band.
    """
    workers, _ = parallel.capacity(run.config.compute)
    bands = bands or all_bands(run, members, in_cells=in_cells)
    size = -(-len(bands) // (2 * workers))
    parts = [bands[first : first + size] for first in range(0, len(bands), size)]
    jobs = [(part, members, common, run.config.combine, in_cells) for part in parts]
    options = {"compute": run.config.compute, "description": "combining", "unit": "part"}
    results = parallel.run_in_order(combine_bands, jobs, **options)
    return [np.concatenate(images) for images in zip(*results, strict=True)]


def all_bands(
    run: cli.Run, members: list[Exposure], *, in_cells: bool, every: int = 1
) -> list[slice]:
    """Bands of rows that fit into the memory, from the first row to the last.

    With `every`, only those in one of so many blocks of rows: the same, whatever the memory.
    """
    rows, columns = members[0].cells_shape if in_cells else members[0].shape
    workers, memory_gb = parallel.capacity(run.config.compute)
    memory = combine.band_memory(memory_gb, workers)
    bands = []
    for first in range(0, rows, every * combine.BAND_ROWS):
        block = min(combine.BAND_ROWS, rows - first)
        for band in combine.bands(block, columns, len(members), memory, step=cells.SIZE):
            bands.append(slice(first + band.start, first + band.stop))
    return bands


def combine_bands(bands: list[slice], *others: Any) -> list[np.ndarray]:
    """Some bands, one below the other, of what `combine_all` returns."""
    results = [combine_band(rows, *others) for rows in bands]
    return [np.concatenate(images) for images in zip(*results, strict=True)]


def combine_band(
    rows: slice,
    members: list[Exposure],
    common: np.ndarray | None,
    settings: Combine,
    in_cells: bool,
) -> tuple[np.ndarray, ...]:
    """Some rows of what `combine_all` returns."""
    columns = (members[0].cells_shape if in_cells else members[0].shape)[1]
    values, noise = np.empty((2, len(members), rows.stop - rows.start, columns), dtype=np.float32)
    bad = np.ones(values.shape[1:], dtype=bool)
    information = np.empty((1, len(members)))
    weighted = settings.estimator == "weighted_mean"
    for number, exposure in enumerate(members):
        read = exposure.read_cells if in_cells else exposure.read
        values[number], noise[number], unusable = read(rows, common)
        bad &= unusable
        some = noise[number, :: cells.SIZE]  # enough to tell the shares
        counted = some**-2.0 if weighted else np.isfinite(some)
        information[0, number] = np.nansum(counted, dtype=np.float64)
    if weighted:
        return *combine.weighted_mean(values, noise, settings.clip_sigma), bad, information
    clip_sigma = settings.clip_sigma if settings.estimator == "clipped_median" else None
    return *combine.median(values, noise, clip_sigma=clip_sigma), bad, information


def refine_all(
    run: cli.Run,
    folder: Folder,
    table: Table,
    members: list[Exposure],
    sky: np.ndarray,
    common: np.ndarray | None,
    number: int,
) -> tuple[list[Exposure], np.ndarray, np.ndarray]:
    """Find sources and stripes in each exposure minus the background so far, the cells `sky`.

    Returns the exposures that are still fit, and `stripes.common` of them.
    """
    settings = run.config.combine
    fluxes = refine.fluxes_to_count(members, settings)
    groups = fields.group([e.pointing for e in members], most=refine.MOST_EXPOSURES)
    jobs = [
        ([members[k] for k in numbers], offsets, sky, common, fluxes, settings)
        for numbers, offsets in groups
    ]
    found: dict[str, refine.Findings] = {}
    for (field, *_), outcomes in each(
        run, refine.refine_field, jobs, description=f"refining ({number})", unit="field"
    ):
        if isinstance(outcomes, StepError):
            outcomes = [outcomes] * len(field)
        for exposure, outcome in zip(field, outcomes, strict=True):
            if isinstance(outcome, StepError):
                reject(table, exposure, str(outcome))
            else:
                exposure.level = outcome.level
                exposure.findings.replace(exposure.refined)
                found[exposure.name] = outcome
    examined = [(exposure, found[exposure.name]) for exposure in members if exposure.name in found]
    for exposure, reason in refine.unfit(examined, fluxes, settings):
        reject(table, exposure, reason)
    fit = still_fit(run, folder, table, members)
    # In the order of the table, whichever was done first, for the same sums to the last bit.
    noise = np.array([found[exposure.name].stripes for exposure in fit])
    information = np.array([found[exposure.name].information for exposure in fit])
    return fit, *stripes.common(noise, information)


def difference_of_halves(run: cli.Run, members: list[Exposure], common: np.ndarray) -> float:
    """
    The error that sources leave in the background, beyond the noise.

    It shows in the difference of the backgrounds of two halves of the fields.
    """
    groups = [numbers for numbers, _ in fields.group([e.pointing for e in members], most=1000)]
    if len(groups) == 1:  # all exposures share what is left: less than it shows
        groups = [[number] for number in groups[0]]
    information = np.array([(e.level / e.noise) ** 2 for e in members])
    halves: tuple[list[int], list[int]] = [], []
    for numbers in sorted(groups, key=lambda numbers: -information[numbers].sum()):
        min(halves, key=lambda half: information[half].sum()).extend(numbers)
    weights = [information[half].sum() for half in halves]
    if not all(halves):
        return 0.0
    bands = all_bands(run, members, in_cells=True, every=4)  # enough to tell how large it is
    (one, one_err, *_), (other, other_err, *_) = (
        combine_all(run, [members[k] for k in half], common, in_cells=True, bands=bands)
        for half in halves
    )
    widths = (cells.SIZE, 1) if members[0].along_x else (1, cells.SIZE)
    excess = combine.excess(one - other, np.hypot(one_err, other_err), widths)
    # The difference has the errors of both halves, the mean that of both together.
    return excess * float(np.sqrt(weights[0] * weights[1]) / sum(weights))


def each(
    run: cli.Run, function: Callable[..., Any], jobs: list[tuple], **options: str
) -> Iterator[tuple[tuple, Any]]:
    """Call a function for each job in parallel; yields job and outcome."""
    compute = run.config.compute
    yield from parallel.run(function, jobs, compute=compute, need_gb=WORKER_GB, **options)


def report(folder: Folder, background: products.Background, accepted: list[Exposure]) -> None:
    """Say what the background is made of."""
    empty = background.number[products.science_pixels(background.sci.shape)] == 0
    cli.say(f"{len(accepted)} exposures combined into {folder.background}")
    cli.say(
        f"median uncertainty {np.nanmedian(background.err):.2%} a pixel, "
        f"{empty.mean():.2%} of the pixels without data"
    )


def main() -> int:
    """Walk the combinations."""
    run = cli.start(__doc__)
    for folder in run.folders:
        with run.attempt(folder), lock.hold(folder.lock):
            try:
                make_background(run, folder)
            finally:
                folder.remove_cells()
    return run.exit_status()


if __name__ == "__main__":
    cli.run(main)
