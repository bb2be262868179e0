"""The search for exposures, wherever the config says they are."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from wfssbkg.config import MAST, Query
from wfssbkg.layout import Combination
from wfssbkg.query import archive, rate_folder, selection
from wfssbkg.query.archive import SearchResult
from wfssbkg.run import messages


def find(query: Query, combinations: Sequence[Combination]) -> SearchResult:
    """
    Find all rate exposures of some combinations, and say how many there are.

    Parameters
    ----------
    query : `~wfssbkg.config.Query`
        With `source`.
    combinations : sequence of `~wfssbkg.layout.Combination`

    Returns
    -------
    `~wfssbkg.query.archive.SearchResult`

    Raises
    ------
    ConfigError
        If a folder is not there.
    StepError
        If MAST cannot be reached or its answer is not complete.
    """
    found = merge([_search(source, query, combinations) for source in query.sources])
    number, others = len(found.exposures), found.others.total()
    messages.say(f"{number} exposures of these combinations, {others} other files")
    messages.warn_some([f"refused: {refused}" for refused in found.refused])
    messages.warn_some(selection.unmatched(found.exposures, query))
    return found


def _search(source: str, query: Query, combinations: Sequence[Combination]) -> SearchResult:
    """What MAST, or a folder, has."""
    if source == MAST:
        messages.announce(f"Searching MAST ({query.mast_url})")
        return archive.search(query, combinations)
    messages.announce(f"Searching {source}")
    return rate_folder.search(Path(source), combinations)


def merge(results: Sequence[SearchResult]) -> SearchResult:
    """
    One result of several, each exposure once; how many others were found again is said.

    Parameters
    ----------
    results : sequence of `~wfssbkg.query.archive.SearchResult`
        Not empty. A file of the user's own is preferred to that of the archive, and of two own ones
        that of the earlier result.

    Returns
    -------
    `~wfssbkg.query.archive.SearchResult`
    """
    merged = SearchResult(qdate=results[0].qdate)
    found: dict[str, dict[str, Any]] = {}
    for result in sorted(results, key=lambda result: result.of_archive):  # own files first
        merged.others += result.others
        merged.refused += result.refused
        again = [row["productFilename"] for row in result.exposures]
        again = [name for name in again if name in found]
        for row in result.exposures:
            found.setdefault(row["productFilename"], row)
        if again:
            messages.say(
                f"{len(again)} exposures of {result.source} are in a folder of your own as well, "
                f"and that file is used (e.g. {found[again[0]]['dataURI']})"
            )
    merged.source = " together with ".join(result.source for result in results)
    merged.of_archive = any(result.of_archive for result in results)
    merged.exposures = list(found.values())
    return merged
