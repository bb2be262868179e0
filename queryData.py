#!/usr/bin/env python
"""Step 1 of 5: find the exposures at MAST and download them.

For each combination of grating and blocking filter in the config:
  1. find every rate exposure, all combinations with one request,
  2. leave out those with the wrong readout, subarray or programme, and those not public,
  3. leave out those with a bright star of Gaia nearby,
  4. download the others: what is missing of them, or what the archive has processed again,
  5. look at their headers: leave out what was processed further, or has a bright star nearby,
  6. write the exposure table: what was found, what was left out and why.
With folders in query.source, the rate files in them are used where they are.
Next: makeMask.py.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from astropy.table import Table

from wfssbkg.files import exposure_table, flicker_noise, lock, rate_header, up_to_date
from wfssbkg.layout import Folder
from wfssbkg.query import archive, download, dry_run, gaia, search, selection, stars
from wfssbkg.run import command_line, messages
from wfssbkg.run.command_line import Run

DRY_RUN = {"action": "store_true", "help": "say what a real run would find and take; write nothing"}


def main() -> int:
    """Search once, then walk the combinations."""
    run = command_line.start(__doc__, extra={"--dry-run": DRY_RUN})
    found = search.find(run.config.query, [folder.combination for folder in run.folders])
    bright_stars = gaia.find(run.config, overwrite=run.overwrite, write=not run.options.dry_run)
    if run.options.dry_run:
        return foresee(found, bright_stars, run)
    for folder in run.folders:
        with run.attempt(folder), lock.hold(folder.lock):
            table = select(found, bright_stars, folder, run)
            exposure_table.write(table, folder.table)
            masked = mask_settings(table, folder, run)
            downloads = download.download(
                table, folder, run.config.query, overwrite=run.overwrite, mask_settings=masked
            )
            look_at_headers(table, bright_stars, folder, run)
            exposure_table.write(table, folder.table)
            selection.report(table, found, folder.combination)
            messages.say(downloads.describe())
            messages.warn(downloads.advice())
            selection.check_number(
                table, run.config.combine.minimum_exposures, f". See {folder.table}"
            )
            messages.warn(up_to_date.outdated(folder, table))
    return run.exit_status()


def foresee(found: archive.SearchResult, bright_stars: Table | None, run: Run) -> int:
    """Say what a real run would find and take, without writing anything."""
    parts = []
    for folder in run.folders:
        with run.attempt(folder):
            table = select(found, bright_stars, folder, run)
            masked = mask_settings(table, folder, run)
            missing = download.to_download(
                table, folder, run.config.query, overwrite=run.overwrite, mask_settings=masked
            )
            dry_run.expect(table, missing)
            look_at_headers(table, bright_stars, folder, run)
            selection.report(table, found, folder.combination)
            messages.say(dry_run.programs(table))
            parts.append(dry_run.costs(table, missing))
            messages.say(parts[-1].describe())
            selection.check_number(table, run.config.combine.minimum_exposures)
    messages.announce("\nAltogether")
    everything = dry_run.total(parts)
    messages.say(everything.describe())
    messages.warn(dry_run.lack_of_space(everything, run.config.working_directory))
    messages.say(dry_run.CAVEAT)
    messages.say("nothing was downloaded or written (--dry-run)")
    return run.exit_status()


def select(
    found: archive.SearchResult, bright_stars: Table | None, folder: Folder, run: Run
) -> Table:
    """The exposure table of a combination: which exposures to take, and why not the others."""
    table = selection.select(found, folder.combination, run.config.query)
    table = selection.with_earlier_results(table, found, folder, overwrite=run.overwrite)
    rate_header.note_pointings(table, folder)
    stars.exclude(table, bright_stars, radius=run.config.query.star_radius)
    at_hand = np.count_nonzero(table["status"] != exposure_table.EXCLUDED)
    messages.warn_of_unusual_filter(folder.combination, at_hand)
    return table


def mask_settings(table: Table, folder: Folder, run: Run) -> dict[str, Any]:
    """What masked exposures must have been made with to need no rate file any more."""
    settled = flicker_noise.settled(run.config, table)
    return up_to_date.bearing(settled, up_to_date.MASKED, folder.combination)


def look_at_headers(table: Table, bright_stars: Table | None, folder: Folder, run: Run) -> None:
    """Leave out what the headers of the files at hand tell is of no use."""
    rate_header.note(table, folder)
    # Again, for those whose pointings only the headers told.
    stars.exclude(table, bright_stars, radius=run.config.query.star_radius)
    flicker_noise.exclude(table, run.config.mask.flicker_noise)


if __name__ == "__main__":
    command_line.run(main)
