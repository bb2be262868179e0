"""Which of the exposures found to take, and what stays of an earlier query."""

from collections import Counter
from collections.abc import Mapping
from typing import Any

import numpy as np
from astropy.table import Table

from wfssbkg.config import Query
from wfssbkg.errors import StepError
from wfssbkg.files import exposure_table
from wfssbkg.files.exposure_table import ACCEPTED, EXCLUDED, FAILED, REJECTED
from wfssbkg.layout import Combination, Folder
from wfssbkg.query.archive import SearchResult
from wfssbkg.query.download import size_in_words
from wfssbkg.run import messages

# What later steps write into the exposure table.
_RESULTS = ("level", "masked_fraction", "weight", "flat", "crds_context")


def select(result: SearchResult, combination: Combination, query: Query) -> Table:
    """
    Decide which exposures of a combination to take.

    Parameters
    ----------
    result : `~wfssbkg.query.archive.SearchResult`
    combination : `~wfssbkg.layout.Combination`
    query : `~wfssbkg.config.Query`
        With the accepted `readpatt`, `subarray`, `programs` and `exposures`.

    Returns
    -------
    `~astropy.table.Table`
        An exposure table; what is left out has a status and a reason.
    """
    rows = []
    for row in result.exposures:
        if row["combination"] == combination:
            reason = _why_excluded(row, query)
            if reason and row["status"] != EXCLUDED:
                row = row | {"status": EXCLUDED, "reason": reason}
            rows.append(row)
    table = exposure_table.new(rows)
    table.meta["QDATE"] = result.qdate
    return table


def _why_excluded(row: Mapping[str, Any], query: Query) -> str:
    """Why the query's settings leave out an exposure; '' if they do not."""
    if query.exposures is not None and row["productFilename"] not in query.exposures:
        return "not among query.exposures"
    programs = [program.lstrip("0") for program in query.programs or ()]
    if query.programs is not None and row["program"] not in programs:
        return f"not among query.programs: {row['program'] or 'unknown'}"
    for column, allowed in (("readpatt", query.readpatt), ("subarray", query.subarray)):
        if row[column] not in allowed:
            found = row[column][:20] or "unknown"
            return f"{column.upper()} {found} (accepted {', '.join(allowed)})"
    return ""


def with_earlier_results(table: Table, folder: Folder, *, overwrite: bool) -> Table:
    """
    An exposure table with what later steps wrote into the one of an earlier query.

    Parameters
    ----------
    table : `~astropy.table.Table`
        The new exposure table.
    folder : `~wfssbkg.layout.Folder`
        Where the earlier one is; one that cannot be read is left out, and that is said.
    overwrite : bool
        Take nothing over.

    Raises
    ------
    StepError
        If there are no exposures any more.
    """
    if not folder.table.exists():
        return table
    try:
        former = exposure_table.read(folder.table)
    except StepError as error:
        messages.say(f"the exposure table is made again: {error}")
        return table
    if len(former) and not len(table):
        raise StepError(f"no exposure found any more; {folder.table} is left as it was")
    return table if overwrite else keep_results(table, former)


def keep_results(table: Table, earlier: Table) -> Table:
    """
    Take over from an earlier exposure table what later steps wrote there.

    Level, masked fraction and the like stay with an exposure whose size has not changed; a
    rejected one stays rejected. One that failed stays so until its download is tried again. An
    exposure that MAST no longer lists keeps its row.

    Parameters
    ----------
    table, earlier : `~astropy.table.Table`

    Returns
    -------
    `~astropy.table.Table`
    """
    rows = {row["productFilename"]: dict(zip(row.colnames, row, strict=True)) for row in table}
    remote = all(row["dataURI"].startswith("mast:") for row in rows.values())
    # A local file has just been looked at; one of MAST that failed still has to be.
    lasting = (REJECTED, FAILED) if remote else (REJECTED,)
    for former in earlier:
        row = rows.get(former["productFilename"])
        if row and row["size"] == former["size"]:
            row.update({column: former[column] for column in _RESULTS})
            if row["status"] == ACCEPTED and former["status"] in lasting:
                row.update(status=former["status"], reason=former["reason"])
        elif not row and remote and former["dataURI"].startswith("mast:"):
            row = dict(zip(former.colnames, former, strict=True))
            row.update(status=EXCLUDED, reason="no longer in the archive")
            rows[former["productFilename"]] = row
    kept = exposure_table.new(rows.values())
    kept.meta = table.meta
    return kept


def describe(table: Table) -> str:
    """What becomes of the exposures of a table: one line, and one for each reason."""
    accepted = np.count_nonzero(table["status"] == ACCEPTED)
    size = size_in_words(int(np.sum(table["size"])))
    lines = [f"found {len(table)} exposures ({size}), {accepted} accepted"]
    for status in (EXCLUDED, REJECTED, FAILED):
        # What follows a colon is particular to one exposure.
        reasons = Counter(
            row["reason"].partition(":")[0] for row in table if row["status"] == status
        )
        lines += [f"  {count} {status}: {reason}" for reason, count in reasons.most_common()]
    return "\n".join(lines)
