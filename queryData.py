#!/usr/bin/env python
"""Step 1 of 4: find the exposures at MAST and download them.

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

from datetime import UTC, datetime

from astropy.table import Table

from wfssbkg import StepError, archive, cli, exposures, stars
from wfssbkg.config import RECOMMENDED_FILTERS
from wfssbkg.layout import Folder, star_catalog


def search(run: cli.Run) -> tuple[archive.Findings, Table | None]:
    """What the archive has of all combinations of this run, and the bright stars of the sky."""
    query = run.config.query
    where = f"MAST ({query.mast_url})" if query.source == "mast" else query.source
    print(f"Searching {where}", flush=True)
    findings = archive.find(query, [folder.combination for folder in run.folders])
    cli.say(
        f"{len(findings.exposures)} exposures of these combinations, {findings.others} other files"
    )
    say_some([f"refused: {refused}" for refused in findings.refused])
    if query.gaia_g_limit is None:
        cli.say("no check for bright stars: query.gaia_g_limit is null")
        return findings, None
    path = star_catalog(run.config.working_directory, query.gaia_g_limit)
    catalog = stars.catalog(path, query, overwrite=run.overwrite)
    cli.say(
        f"{len(catalog)} stars brighter than G = {query.gaia_g_limit:g} "
        f"({path.name}, from Gaia on {catalog.meta['QDATE']})"
    )
    return findings, catalog


def query_combination(
    run: cli.Run, folder: Folder, findings: archive.Findings, catalog: Table | None
) -> None:
    """Decide which exposures of a combination to take, and download them."""
    query = run.config.query
    warn_if_doubtful(folder)
    table = archive.exposure_table(findings, folder.combination, query)
    if catalog is not None:
        stars.exclude(table, catalog, radius=query.star_radius)
    former = former_table(folder)
    if former is not None and len(former) and not len(table):
        raise StepError(f"no exposure found any more; {folder.table} is left as it was")
    if former is not None and not run.overwrite:
        table = archive.keep_results(table, former)
    qdate = f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%S}"
    exposures.write(table, folder.table, qdate)
    fetched = archive.download(table, folder, query, overwrite=run.overwrite)
    exposures.write(table, folder.table, qdate)
    report(table, fetched)


def former_table(folder: Folder) -> Table | None:
    """The exposure table of an earlier query."""
    if not folder.table.exists():
        return None
    try:
        return exposures.read(folder.table)
    except StepError as error:
        cli.say(f"made anew: {error}")
        return None


def warn_if_doubtful(folder: Folder) -> None:
    """Say why the result of an unusual filter needs a second look."""
    if not folder.combination.recommended:
        cli.say(
            f"WARNING: {folder.combination.filter} is not one of {', '.join(RECOMMENDED_FILTERS)}."
            " Its background has strong features that this recipe cannot reproduce, the medium\n"
            "bands most of all, and the archive has much less data of it: check the result."
        )


def report(table: Table, fetched: archive.Fetched) -> None:
    """Say what was found, left out and why, and downloaded."""
    cli.say(archive.describe(table))
    failed = table[table["status"] == exposures.FAILED]
    say_some([f"{row['productFilename']}: {row['reason']}" for row in failed])
    if fetched.downloaded or fetched.failed:
        size = archive.size_in_words(fetched.size)
        cli.say(f"{fetched.downloaded} downloaded ({size}), {fetched.present} there already")
    if fetched.failed:
        cli.say(f"{fetched.failed} could not be downloaded: run queryData.py again to retry")
    if not fetched.downloaded + fetched.present:
        raise StepError("no exposure can be used. The reasons stand above and in the table")
    if not fetched.downloaded + fetched.failed:
        cli.say(f"nothing to download: {fetched.present} there already")


def say_some(lines: list[str], most: int = 10) -> None:
    """Say the first of many lines."""
    for line in lines[:most]:
        cli.say(line)
    if len(lines) > most:
        cli.say(f"... and {len(lines) - most} more")


def main() -> int:
    """Search once, then walk the combinations."""
    run = cli.start(__doc__)
    findings, catalog = search(run)
    for folder in run.folders:
        with run.attempt(folder):
            query_combination(run, folder, findings, catalog)
    return run.exit_status()


if __name__ == "__main__":
    cli.run(main)
