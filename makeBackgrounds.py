#!/usr/bin/env python
"""Step 3 of 5: normalise the masked exposures and combine them.

For each combination (run makeMask.py first):
  1. measure the level of each exposure: the sigma-clipped median of its unmasked pixels,
  2. divide each exposure by its level,
  3. refine, on averages over a few pixels: combine, fit the levels to the background so far,
     mask the sources that are left in each exposure minus it, subtract the flux of fainter ones
     and the stripes of 1/f noise, reject exposures that differ from the others,
  4. in each pixel, combine the normalised exposures that count there: their weighted mean
     without outliers, or their median.
Next: finalizeBackgrounds.py.
"""

from __future__ import annotations

import numpy as np

from wfssbkg.combine import background, selection
from wfssbkg.detector import science_pixels
from wfssbkg.files import combined_background, exposure_table, flicker_noise, lock, up_to_date
from wfssbkg.files.combined_background import Background
from wfssbkg.layout import Folder
from wfssbkg.run import command_line, messages
from wfssbkg.run.command_line import Run


def main() -> int:
    """Walk the combinations."""
    with command_line.start(__doc__, need_gb=background.WORKER_GB) as run:
        for folder in run.folders:
            with run.attempt(folder), lock.hold(folder.lock):
                make_background(run, folder)
    return run.exit_status()


def make_background(run: Run, folder: Folder) -> None:
    """Make the combined background of a combination, unless it is there."""
    table = exposure_table.read(folder.table)
    workers, config = run.workers, flicker_noise.settled(run.config, table)
    names = selection.candidates(table, folder)
    messages.warn_of_unusual_filter(folder.combination, len(names))
    settings = up_to_date.bearing(config, up_to_date.COMBINED, folder.combination)
    if not run.overwrite and background.is_current(folder, names, settings):
        messages.say(f"{folder.background} is up to date: nothing to do")
        return
    exposures = background.normalise(workers, config, folder, table, names)
    exposures, shared = background.refine(workers, config, folder, table, exposures)
    combined = background.combine_exposures(workers, config, table, exposures, shared)
    exposure_table.write(table, folder.table)
    combined_background.write(folder.background, combined, settings=settings)
    report(run, folder, combined, len(exposures))
    messages.warn_some(selection.common_reasons(table, "in the report of compareBackgrounds.py"))


def report(run: Run, folder: Folder, combined: Background, exposures: int) -> None:
    """Say what the background is made of."""
    science = science_pixels(combined.sci.shape)
    empty = combined.number[science] == 0
    uncertainty = np.nanmedian(combined.err[::3, ::3])
    messages.say(f"{exposures} exposures combined into {folder.background}")
    messages.say(
        f"median uncertainty {uncertainty:.2%} per pixel; "
        f"{empty.mean():.2%} of the pixels have no data"
    )
    fewest = run.config.combine.minimum_pointings
    same = (combined.pointings[science] < fewest) & ~empty
    messages.say(f"{same.mean():.2%} of the pixels have fewer than {fewest} distinct pointings")
    messages.warn(messages.of_few_pointings(combined.pointings.max(), fewest))


if __name__ == "__main__":
    command_line.run(main)
