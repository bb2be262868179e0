#!/usr/bin/env python
"""Step 3 of 4: normalise the masked exposures and combine them.

For each combination (run makeMask.py first):
  1. measure the level of each exposure: the sigma-clipped median of its unmasked pixels,
  2. divide each exposure by its level,
  3. in each pixel, take the median of the normalised exposures that count there.
Next: finalizeBackgrounds.py.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from astropy.table import Table

from wfssbkg import StepError, cli, combine, exposures, masked, parallel, products
from wfssbkg.config import Combine, fingerprint
from wfssbkg.layout import Folder

LEVEL_GB = 0.3  # one full frame in memory with its statistics, measured


def measure_level(path: Path, settings: Combine) -> float:
    """The level of a masked exposure, DN/s."""
    sci, _, mask = masked.read(path)
    return combine.sky_level(
        sci, mask != 0, border=settings.level_border, sigma=settings.level_sigma
    )


def combine_band(
    rows: slice, paths: list[Path], levels: list[float], settings: Combine
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The median of some rows of the normalised exposures, its uncertainty, their number."""
    values, noise = [], []
    for path, level in zip(paths, levels, strict=True):
        sci, err, mask = masked.read(path, rows)
        values.append(np.where(mask == 0, sci / np.float32(level), np.float32(np.nan)))
        noise.append(err / np.float32(level))
    clip_sigma = settings.clip_sigma if settings.estimator == "clipped_median" else None
    return combine.combine(np.stack(values), np.stack(noise), clip_sigma=clip_sigma)


def make_background(run: cli.Run, folder: Folder) -> None:
    """Make the combined background of a combination, unless it is there."""
    table = exposures.read(folder.table)
    names = candidates(table, folder)
    settings = fingerprint(run.config.mask, run.config.combine)
    if not run.overwrite and is_current(folder, names, settings):
        cli.say(f"{folder.background} is up to date: nothing to do")
        return
    names = normalise(run, folder, table, names)
    if len(names) < run.config.combine.minimum_exposures:
        raise StepError(
            f"{len(names)} exposures are fit for a background, expected at least "
            f"{run.config.combine.minimum_exposures} (combine.minimum_exposures in the config)"
        )
    background = products.Background(*combine_exposures(run, folder, table, names), table)
    products.write_background(folder.background, background, settings=settings)
    empty = background.number[products.science_pixels(background.sci.shape)] == 0
    cli.say(f"{len(names)} exposures combined into {folder.background}")
    cli.say(
        f"median uncertainty {np.nanmedian(background.err):.2%} a pixel, "
        f"{empty.mean():.2%} of the pixels without data"
    )


def candidates(table: Table, folder: Folder) -> list[str]:
    """The exposures that are masked; those rejected the last time are judged again."""
    names = []
    for row in table:
        if row["status"] in (exposures.ACCEPTED, exposures.REJECTED):
            if not folder.masked(row["productFilename"]).exists():
                raise StepError(
                    f"{folder.masked(row['productFilename'])} does not exist. Run makeMask.py first"
                )
            names.append(row["productFilename"])
    if not names:
        raise StepError(f"{folder.table} has no masked exposure. Run makeMask.py first")
    return names


def is_current(folder: Folder, names: list[str], settings: str) -> bool:
    """Whether the background is there and made of these exposures with these settings."""
    sources = [folder.masked(name) for name in names]
    if not products.is_current(folder.background, settings=settings, sources=sources):
        return False
    return candidates(products.read_background(folder.background).inputs, folder) == names


def normalise(run: cli.Run, folder: Folder, table: Table, names: list[str]) -> list[str]:
    """Measure the levels into the table, and reject what is not fit; returns the fit ones."""
    limit = run.config.combine.maximum_masked_fraction
    jobs = [(folder.masked(name), run.config.combine) for name in names]
    workers = parallel.worker_count(run.config.compute, need_gb=LEVEL_GB, jobs=len(jobs))
    names_by_path = {folder.masked(name): name for name in names}
    for (path, _), outcome in parallel.run(
        measure_level, jobs, workers=workers, description="levels"
    ):
        name = names_by_path[path]
        if isinstance(outcome, StepError):
            fate = {"status": exposures.REJECTED, "reason": str(outcome), "level": np.nan}
        else:
            fate = {"status": exposures.ACCEPTED, "reason": "", "level": outcome}
        exposures.mark(table, name, **fate)
    crowded = table["masked_fraction"] > limit
    for row in np.nonzero(crowded & (table["status"] == exposures.ACCEPTED))[0]:
        table["status"][row] = exposures.REJECTED
        table["reason"][row] = (
            f"{table['masked_fraction'][row]:.0%} of the pixels masked, "
            f"more than {limit:.0%} (combine.maximum_masked_fraction)"
        )
    exposures.write(table, folder.table)
    for row in table[table["status"] == exposures.REJECTED]:
        cli.say(f"{row['productFilename']} rejected: {row['reason']}")
    return [str(row["productFilename"]) for row in table[table["status"] == exposures.ACCEPTED]]


def combine_exposures(
    run: cli.Run, folder: Folder, table: Table, names: list[str]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Combine the exposures in row bands, as many at once as the memory allows."""
    level_of = dict(zip(table["productFilename"], table["level"], strict=True))
    paths, levels = [folder.masked(name) for name in names], [level_of[name] for name in names]
    shape = masked.shape(paths[0])
    sci, err = np.full(shape, np.nan, dtype=np.float32), np.full(shape, np.nan, dtype=np.float32)
    number = np.zeros(shape, dtype=np.int16)
    workers = parallel.worker_count(run.config.compute)
    memory = combine.band_memory(run.config.compute.memory_gb, workers)
    bands = list(combine.bands(*shape, len(paths), memory))
    jobs = [(rows, paths, levels, run.config.combine) for rows in bands]
    for (rows, *_), outcome in parallel.run(
        combine_band, jobs, workers=min(workers, len(jobs)), description="combining", unit="band"
    ):
        if isinstance(outcome, StepError):
            raise outcome
        sci[rows], err[rows], number[rows] = outcome
    return sci, err, number


def main() -> int:
    """Walk the combinations."""
    run = cli.start(__doc__)
    for folder in run.folders:
        with run.attempt(folder):
            make_background(run, folder)
    return run.exit_status()


if __name__ == "__main__":
    cli.run(main)
