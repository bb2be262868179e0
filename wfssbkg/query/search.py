"""The search for exposures, wherever the config says they are."""

from collections.abc import Sequence
from pathlib import Path

from wfssbkg.config import Query
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
    if query.source == "mast":
        messages.announce(f"Searching MAST ({query.mast_url})")
        found = archive.search(query, combinations)
    else:
        messages.announce(f"Searching {query.source}")
        found = rate_folder.search(Path(query.source), combinations)
    number, others = len(found.exposures), found.others.total()
    messages.say(f"{number} exposures of these combinations, {others} other files")
    messages.warn_some([f"refused: {refused}" for refused in found.refused])
    messages.warn_some(selection.unmatched(found.exposures, query))
    return found
