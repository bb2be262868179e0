#!/usr/bin/env python
"""Step 3 of 5: normalise the masked exposures and combine them.

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

from typing import TYPE_CHECKING

import numpy as np

from wfssbkg import (
    StepError,
    background,
    cli,
    combine,
    exposures,
    lock,
    parallel,
    products,
    sample,
    selection,
)
from wfssbkg.config import fingerprint
from wfssbkg.layout import Folder
from wfssbkg.sample import Exposure

if TYPE_CHECKING:
    from astropy.table import Table


def make_background(run: cli.Run, folder: Folder) -> None:
    """Make the combined background of a combination, unless it is there."""
    config = run.config
    table = exposures.read(folder.table)
    names = candidates(table, folder)
    cli.warn(products.doubtful(folder.combination, len(names)))
    settings = fingerprint(config.mask, config.combine)
    if not run.overwrite and is_current(folder, names, settings):
        cli.say(f"{folder.background} is up to date: nothing to do")
        return
    accepted, common, chance = selection.refined(config, folder, table, names)
    left = 0.0
    if config.combine.refinements:
        left = background.difference_of_halves(config, accepted, common)
    *images, information = background.combine_all(config, accepted, common)
    combined = products.Background(*images, table)
    folder.remove_findings()
    stripes_left = background.destripe(
        config, combined.sci, chance, along_x=folder.combination.along_x
    )
    combined.systematic = float(np.hypot(left, stripes_left))
    for exposure, weight in zip(accepted, combine.shares(information), strict=True):
        exposures.mark(table, exposure.name, level=exposure.level, weight=weight)
    exposures.write(table, folder.table)
    products.write_background(folder.background, combined, settings=settings)
    report(folder, combined, accepted)


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


def report(folder: Folder, combined: products.Background, accepted: list[Exposure]) -> None:
    """Say what the background is made of."""
    empty = combined.number[products.science_pixels(combined.sci.shape)] == 0
    uncertainty = np.nanmedian(combined.err[::3, ::3])
    cli.say(f"{len(accepted)} exposures combined into {folder.background}")
    cli.say(
        f"median uncertainty {uncertainty:.2%} a pixel, "
        f"{empty.mean():.2%} of the pixels without data"
    )


def main() -> int:
    """Walk the combinations."""
    run = cli.start(__doc__)
    parallel.prepare(sample.load, compute=run.config.compute, need_gb=background.WORKER_GB)
    for folder in run.folders:
        with run.attempt(folder), lock.hold(folder.lock):
            try:
                make_background(run, folder)
            finally:
                folder.remove_findings()
    return run.exit_status()


if __name__ == "__main__":
    cli.run(main)
