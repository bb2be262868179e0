#!/usr/bin/env python
"""Step 1 of 5: find the exposures at MAST and download them.

For each combination of grating and blocking filter in the config:
  1. find every rate exposure, all combinations with one request,
  2. leave out those with the wrong readout, subarray or programme, and those not public,
  3. leave out those with a bright star of Gaia nearby,
  4. download the others: what is missing of them, or what the archive has processed again,
  5. look at their headers: leave out what was processed further, or has a bright star nearby,
  6. write the exposure table: what was found, what was left out and why.
With query.source set to a folder, the rate files in it are used where they are.
Next: makeMask.py.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from astropy.table import Table

from wfssbkg.errors import StepError
from wfssbkg.files import exposure_table, flicker_noise, lock, rate_header, up_to_date
from wfssbkg.layout import Folder, star_catalog
from wfssbkg.query import archive, download, gaia, rate_folder, selection, stars
from wfssbkg.run import command_line, messages


def main() -> int:
    """Search once, then walk the combinations."""
    run = command_line.start(__doc__)
    found = find_exposures(run)
    bright_stars = find_bright_stars(run)
    for folder in run.folders:
        with run.attempt(folder), lock.hold(folder.lock):
            table = select(found, bright_stars, folder, run)
            exposure_table.write(table, folder.table)
            settled = flicker_noise.settled(run.config, table)
            masked = up_to_date.bearing(settled, up_to_date.MASKED, folder.combination)
            downloads = download.download(
                table, folder, run.config.query, overwrite=run.overwrite, mask_settings=masked
            )
            rate_header.note(table, folder)
            # Again, for those whose pointings only the headers told.
            stars.exclude(table, bright_stars, radius=run.config.query.star_radius)
            flicker_noise.exclude(table, run.config.mask.flicker_noise)
            exposure_table.write(table, folder.table)
            report(table, downloads, found, folder)
            messages.warn(up_to_date.outdated(folder, table))
    return run.exit_status()


def find_exposures(run: command_line.Run) -> archive.SearchResult:
    """What MAST, or a folder, has of all combinations of this run."""
    query = run.config.query
    combinations = [folder.combination for folder in run.folders]
    if query.source == "mast":
        messages.announce(f"Searching MAST ({query.mast_url})")
        found = archive.search(query, combinations)
    else:
        messages.announce(f"Searching {query.source}")
        found = rate_folder.search(Path(query.source), combinations)
    number, others = len(found.exposures), found.others.total()
    messages.say(f"{number} exposures of these combinations, {others} other files")
    messages.warn_some([f"refused: {refused}" for refused in found.refused])
    missing = set(query.exposures or ()) - {row["productFilename"] for row in found.exposures}
    messages.warn_some(
        [f"WARNING: not found: {name} (query.exposures)" for name in sorted(missing)]
    )
    return found


def find_bright_stars(run: command_line.Run) -> Table | None:
    """The bright stars of the whole sky, from disk or from Gaia; None if they do not matter."""
    query = run.config.query
    if query.gaia_g_limit is None:
        messages.say("no check for bright stars: query.gaia_g_limit is null")
        return None
    path = star_catalog(run.config.working_directory, query.gaia_g_limit)
    catalog = gaia.bright_stars(path, query, overwrite=run.overwrite)
    messages.say(
        f"{len(catalog)} stars brighter than G = {query.gaia_g_limit:g} "
        f"({path.name}, from Gaia on {catalog.meta['QDATE']})"
    )
    return catalog


def select(
    found: archive.SearchResult, bright_stars: Table | None, folder: Folder, run: command_line.Run
) -> Table:
    """The exposure table of a combination: which exposures to take, and why not the others."""
    table = selection.select(found, folder.combination, run.config.query)
    table = selection.with_earlier_results(table, found, folder, overwrite=run.overwrite)
    rate_header.note_pointings(table, folder)
    stars.exclude(table, bright_stars, radius=run.config.query.star_radius)
    at_hand = np.count_nonzero(table["status"] != exposure_table.EXCLUDED)
    messages.warn_of_unusual_filter(folder.combination, at_hand)
    return table


def report(
    table: Table, downloads: download.Downloads, found: archive.SearchResult, folder: Folder
) -> None:
    """Say what was found, left out and why, and downloaded."""
    if not len(table):
        raise StepError(found.nothing_of(folder.combination))
    messages.say(selection.describe(table))
    messages.warn_some(selection.doubts(table))
    failed = table[table["status"] == exposure_table.FAILED]
    messages.warn_some([f"{row['productFilename']}: {row['reason']}" for row in failed])
    messages.say(downloads.describe())
    if downloads.failed:
        messages.warn(f"{downloads.failed} could not be downloaded: run queryData.py again")
    if not np.any(table["status"] == exposure_table.ACCEPTED):
        reasons = "; ".join(selection.reasons(table))
        raise StepError(f"no exposure can be used: {reasons}. See {folder.table}")


if __name__ == "__main__":
    command_line.run(main)
