#!/usr/bin/env python
"""Step 3 of 4: normalise the masked exposures and combine them.

For each combination (run makeMask.py first):
  1. measure the level of each exposure: the sigma-clipped median of its unmasked pixels,
  2. divide each exposure by its level,
  3. in each pixel, combine the normalised exposures that count there: their weighted mean
     without outliers, or their median,
  4. refine: fit the levels to the background so far, mask the sources that are left in each
     exposure minus it, reject exposures that differ from it otherwise, and combine again,
  5. take out the stripes of 1/f noise that are left.
Next: finalizeBackgrounds.py.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from astropy.table import Table

from wfssbkg import StepError, cli, combine, exposures, mask, masked, parallel, products, stripes
from wfssbkg.config import Combine, fingerprint
from wfssbkg.layout import Folder

FRAME_GB = 0.6  # a worker with one full frame and what is made of it, measured


@dataclass
class Exposure:
    """A masked exposure on its way into the background."""

    name: str
    masked: Path
    refined: Path
    level: float = np.nan  # DN/s
    is_refined: bool = False

    def read(self, rows: slice = slice(None)) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Values and noise in DN/s, and the mask, of some rows; as refined, once that is done."""
        sci, err, bits = masked.read(self.masked, rows)
        if self.is_refined:
            bits, noise = masked.read_refined(self.refined, rows)
            sci = sci - noise
        return sci, err, bits


def make_background(run: cli.Run, folder: Folder) -> None:
    """Make the combined background of a combination, unless it is there."""
    table = exposures.read(folder.table)
    names = candidates(table, folder)
    settings = fingerprint(run.config.mask, run.config.combine)
    if not run.overwrite and is_current(folder, names, settings):
        cli.say(f"{folder.background} is up to date: nothing to do")
        return
    sample = normalise(run, folder, table, names)
    background = combine_sample(run, sample, table)
    for number in range(run.config.combine.refinements):
        sample = refine(run, folder, table, sample, background, f"refining ({number + 1})")
        background = combine_sample(run, sample, table)
    if run.config.combine.remove_stripes:
        noise = stripes.of_background(background.sci, along_x=folder.combination.along_x)
        background.sci *= 1 - stripes.spread(noise, len(background.sci))
    for exposure in sample:
        exposures.mark(table, exposure.name, level=exposure.level)
    exposures.write(table, folder.table)
    products.write_background(folder.background, background, settings=settings)
    report(folder, background, sample)


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
    return candidates(products.read_background(folder.background).inputs, folder) == names


def normalise(run: cli.Run, folder: Folder, table: Table, names: list[str]) -> list[Exposure]:
    """Measure the levels into the table, and reject what is not fit; returns the fit ones."""
    settings = run.config.combine
    sample = [Exposure(name, folder.masked(name), folder.refined(name)) for name in names]
    for exposure, level in each(run, measure_level, sample, settings, description="levels"):
        if isinstance(level, StepError):
            reject(table, exposure, str(level))
            continue
        exposure.level = level
        exposures.mark(
            table, exposure.name, status=exposures.ACCEPTED, reason="", level=exposure.level
        )
    exposures.reject_crowded(table, settings.maximum_masked_fraction)
    return still_fit(run, folder, table, sample)


def still_fit(run: cli.Run, folder: Folder, table: Table, sample: list[Exposure]) -> list[Exposure]:
    """The exposures of a sample that are not rejected; says which are, and why."""
    exposures.write(table, folder.table)
    fit = set(exposures.fates(table)[exposures.ACCEPTED])
    for exposure in sample:
        if exposure.name not in fit:
            cli.say(f"{exposure.name} rejected: {exposures.reason(table, exposure.name)}")
    sample = [exposure for exposure in sample if exposure.name in fit]
    least = run.config.combine.minimum_exposures
    if len(sample) < least:
        raise StepError(
            f"{len(sample)} exposures are fit for a background, expected at least {least} "
            "(combine.minimum_exposures in the config)"
        )
    return sample


def measure_level(exposure: Exposure, settings: Combine) -> float:
    """The level of a masked exposure, DN/s."""
    sci, _, bits = exposure.read()
    return combine.sky_level(
        sci, bits != 0, border=settings.level_border, sigma=settings.level_sigma
    )


def combine_sample(run: cli.Run, sample: list[Exposure], table: Table) -> products.Background:
    """Combine the exposures in row bands, as many at once as the memory allows."""
    shape = masked.shape(sample[0].masked)
    workers = parallel.worker_count(run.config.compute)
    memory = combine.band_memory(run.config.compute.memory_gb, workers)
    bands = combine.bands(*shape, len(sample), memory, least=workers)
    jobs = [(rows, sample, run.config.combine) for rows in bands]
    parts = parallel.run_in_order(
        combine_band, jobs, workers=min(workers, len(jobs)), description="combining", unit="band"
    )
    sci, err, number = (np.concatenate(images) for images in zip(*parts, strict=True))
    return products.Background(sci, err, number, table)


def combine_band(
    rows: slice, sample: list[Exposure], settings: Combine
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Some rows of the background, its uncertainty, and the number of exposures that count."""
    shape = (len(sample), rows.stop - rows.start, masked.shape(sample[0].masked)[1])
    values, noise = np.empty(shape, dtype=np.float32), np.empty(shape, dtype=np.float32)
    for number, exposure in enumerate(sample):
        sci, err, bits = exposure.read(rows)
        values[number] = np.where(bits == 0, sci / np.float32(exposure.level), np.nan)
        noise[number] = err / np.float32(exposure.level)
    if settings.estimator == "weighted_mean":
        return combine.weighted_mean(values, noise, settings.clip_sigma)
    clip_sigma = settings.clip_sigma if settings.estimator == "clipped_median" else None
    return combine.median(values, noise, clip_sigma=clip_sigma)


def refine(
    run: cli.Run,
    folder: Folder,
    table: Table,
    sample: list[Exposure],
    background: products.Background,
    description: str,
) -> list[Exposure]:
    """Fit the levels, and mask the sources again, with the background so far.

    Returns the exposures that are still fit: not those that differ from it on large scales.
    """
    settings = run.config.combine
    arguments = background.sci, folder.combination.along_x, settings
    for exposure, outcome in each(
        run, refine_exposure, sample, *arguments, description=description
    ):
        if isinstance(outcome, StepError):
            reject(table, exposure, str(outcome))
            continue
        exposure.level, structure = outcome
        exposure.is_refined = True
        if structure > settings.maximum_structure:
            reject(
                table,
                exposure,
                f"differs from the other exposures by {structure:.2%} of the sky on large scales, "
                f"more than {settings.maximum_structure:.2%} (combine.maximum_structure)",
            )
    return still_fit(run, folder, table, sample)


def reject(table: Table, exposure: Exposure, reason: str) -> None:
    """Note in the table that an exposure takes no part, and why."""
    exposures.mark(
        table, exposure.name, status=exposures.REJECTED, reason=reason, level=exposure.level
    )


def refine_exposure(
    exposure: Exposure, background: np.ndarray, along_x: bool, settings: Combine
) -> tuple[float, float]:
    """Write the refined mask and the stripes of an exposure.

    Returns its fitted level in DN/s, and how much of that it differs from the background.
    """
    sci, err, bits = masked.read(exposure.masked)
    unmasked = exposure.read()[2] == 0
    level = combine.fit_level(sci, err, unmasked, background)
    residual = sci - np.float32(level) * background
    bad = (bits & masked.BAD != 0) | ~np.isfinite(residual)
    noise = stripes.of_exposure(residual, err, unmasked & ~bad) * settings.remove_stripes
    residual -= stripes.spread(noise, len(residual))
    sources = mask.find_traces(
        residual,
        err,
        bad,
        along_x=along_x,
        scales=settings.trace_scales,
        threshold=settings.trace_threshold,
        depth=settings.trace_depth,
    )
    bits = (bits & masked.BAD) | sources * np.uint8(masked.SOURCE)
    masked.write_refined(exposure.refined, bits, noise)
    structure = combine.structure(residual, err, bits == 0, box=settings.structure_box)
    return level, structure / level


def each(
    run: cli.Run,
    function: Callable[..., Any],
    sample: list[Exposure],
    *arguments: object,
    description: str,
) -> Iterator[tuple[Exposure, Any]]:
    """Call a function for each exposure in parallel; yields exposure and outcome."""
    jobs = [(exposure, *arguments) for exposure in sample]
    workers = parallel.worker_count(run.config.compute, need_gb=FRAME_GB, jobs=len(jobs))
    for (exposure, *_), outcome in parallel.run(
        function, jobs, workers=workers, description=description
    ):
        yield exposure, outcome


def report(folder: Folder, background: products.Background, sample: list[Exposure]) -> None:
    """Say what the background is made of."""
    empty = background.number[products.science_pixels(background.sci.shape)] == 0
    cli.say(f"{len(sample)} exposures combined into {folder.background}")
    cli.say(
        f"median uncertainty {np.nanmedian(background.err):.2%} a pixel, "
        f"{empty.mean():.2%} of the pixels without data"
    )


def main() -> int:
    """Walk the combinations."""
    run = cli.start(__doc__)
    for folder in run.folders:
        with run.attempt(folder):
            make_background(run, folder)
    return run.exit_status()


if __name__ == "__main__":
    cli.run(main)
