#!/usr/bin/env python
"""Step 3 of 4: normalise the masked exposures and combine them.

For each combination (run makeMask.py first):
  1. measure the level of each exposure: the sigma-clipped median of its unmasked pixels,
  2. divide each exposure by its level,
  3. in each pixel, combine the normalised exposures that count there: their weighted mean
     without outliers, or their median,
  4. refine: fit the levels to the background so far, mask the sources that are left in each
     exposure minus it, and combine again,
  5. take out the stripes of 1/f noise that are left.
Next: finalizeBackgrounds.py.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

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
        refine(run, folder, sample, background, f"refining ({number + 1})")
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
        fate = {"status": exposures.ACCEPTED, "reason": "", "level": level}
        if isinstance(level, StepError):
            fate = {"status": exposures.REJECTED, "reason": str(level), "level": np.nan}
        exposures.mark(table, exposure.name, **fate)
        exposure.level = fate["level"]
    exposures.reject_crowded(table, settings.maximum_masked_fraction)
    exposures.write(table, folder.table)
    for row in table[table["status"] == exposures.REJECTED]:
        cli.say(f"{row['productFilename']} rejected: {row['reason']}")
    fit = set(exposures.fates(table)[exposures.ACCEPTED])
    sample = [exposure for exposure in sample if exposure.name in fit]
    if len(sample) < settings.minimum_exposures:
        raise StepError(
            f"{len(sample)} exposures are fit for a background, expected at least "
            f"{settings.minimum_exposures} (combine.minimum_exposures in the config)"
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
    sample: list[Exposure],
    background: products.Background,
    description: str,
) -> None:
    """Fit the levels, and mask the sources again, with the background so far."""
    arguments = background.sci, folder.combination.along_x, run.config.combine
    for exposure, level in each(run, refine_exposure, sample, *arguments, description=description):
        if isinstance(level, StepError):
            raise level
        exposure.level, exposure.is_refined = level, True


def refine_exposure(
    exposure: Exposure, background: np.ndarray, along_x: bool, settings: Combine
) -> float:
    """Write the refined mask and the stripes of an exposure; returns its fitted level, DN/s."""
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
    return level


def each(
    run: cli.Run,
    function: Callable[..., float],
    sample: list[Exposure],
    *arguments: object,
    description: str,
) -> Iterator[tuple[Exposure, float | StepError]]:
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
