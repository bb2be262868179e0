#!/usr/bin/env python
"""Step 1 of 5: find the exposures at MAST and download them.

For each combination of grating and blocking filter in the config:
  1. find every rate exposure, all combinations with one request,
  2. leave out those with the wrong readout, subarray or programme, and those not public,
  3. leave out those with a bright star of Gaia nearby,
  4. download the others, or what is missing of them,
  5. write the exposure table: what was found, what was left out and why.
With query.source set to a folder, the rate files in it are used where they are.
Next: makeMask.py.
"""

from __future__ import annotations

if __name__ == "__main__":  # the imports below take a while
    from wfssbkg import interrupted

    interrupted.ends_at_once()

from astropy.table import Table

from wfssbkg import StepError, archive, cli, exposures, lock, products, stars
from wfssbkg.config import fingerprint
from wfssbkg.download import Fetched, download, size_in_words
from wfssbkg.layout import Folder, star_catalog
from wfssbkg.network import query_date


def main() -> int:
    """Search once, then walk the combinations."""
    run = cli.start(__doc__)
    query = run.config.query
    findings, qdate = find_exposures(run), query_date()
    catalog = find_bright_stars(run)
    for folder in run.folders:
        with run.attempt(folder), lock.hold(folder.lock):
            table = archive.exposure_table(findings, folder.combination, query)
            if catalog is not None:
                stars.exclude(table, catalog, radius=query.star_radius)
            at_hand = int((table["status"] == exposures.ACCEPTED).sum())
            cli.warn(products.doubtful(folder.combination, at_hand))
            table = with_earlier_results(table, folder, overwrite=run.overwrite)
            exposures.write(table, folder.table, qdate)
            options = {"overwrite": run.overwrite, "settings": fingerprint(run.config.mask)}
            fetched = download(table, folder, query, **options)
            exposures.write(table, folder.table, qdate)
            report(table, fetched)
            cli.warn(products.outdated(folder.background, table))
    return run.exit_status()


def find_exposures(run: cli.Run) -> archive.Findings:
    """What the archive, or a folder, has of all combinations of this run."""
    query = run.config.query
    where = f"MAST ({query.mast_url})" if query.source == "mast" else query.source
    cli.announce(f"Searching {where}")
    findings = archive.find(query, [folder.combination for folder in run.folders])
    cli.say(
        f"{len(findings.exposures)} exposures of these combinations, {findings.others} other files"
    )
    warn_some([f"refused: {refused}" for refused in findings.refused])
    missing = set(query.exposures or ()) - {row["productFilename"] for row in findings.exposures}
    warn_some([f"WARNING: not found: {name} (query.exposures)" for name in sorted(missing)])
    return findings


def find_bright_stars(run: cli.Run) -> Table | None:
    """The bright stars of the whole sky, from disk or from Gaia; None if they do not matter."""
    query = run.config.query
    if query.gaia_g_limit is None:
        cli.say("no check for bright stars: query.gaia_g_limit is null")
        return None
    path = star_catalog(run.config.working_directory, query.gaia_g_limit)
    catalog = stars.catalog(path, query, overwrite=run.overwrite)
    cli.say(
        f"{len(catalog)} stars brighter than G = {query.gaia_g_limit:g} "
        f"({path.name}, from Gaia on {catalog.meta['QDATE']})"
    )
    return catalog


def with_earlier_results(table: Table, folder: Folder, *, overwrite: bool) -> Table:
    """The table with what later steps wrote into the one of an earlier query."""
    if not folder.table.exists():
        return table
    try:
        former = exposures.read(folder.table)
    except StepError as error:
        cli.say(f"made anew: {error}")
        return table
    if len(former) and not len(table):
        raise StepError(f"no exposure found any more; {folder.table} is left as it was")
    return table if overwrite else archive.keep_results(table, former)


def report(table: Table, fetched: Fetched) -> None:
    """Say what was found, left out and why, and downloaded."""
    cli.say(archive.describe(table))
    failed = table[table["status"] == exposures.FAILED]
    warn_some([f"{row['productFilename']}: {row['reason']}" for row in failed])
    if fetched.downloaded or fetched.failed:
        size = size_in_words(fetched.size)
        cli.say(f"{fetched.downloaded} downloaded ({size}), {fetched.present} there already")
    elif fetched.present:
        cli.say(f"nothing to download: {fetched.present} there already")
    if fetched.failed:
        cli.warn(f"{fetched.failed} could not be downloaded: run queryData.py again to retry")
    if not fetched.downloaded + fetched.present:
        raise StepError("no exposure can be used. The reasons stand above and in the table")


def warn_some(lines: list[str], most: int = 10) -> None:
    """Say the first of many warnings."""
    for line in lines[:most]:
        cli.warn(line)
    if len(lines) > most:
        cli.warn(f"... and {len(lines) - most} more")


if __name__ == "__main__":
    cli.run(main)
