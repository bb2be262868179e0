"""Which of the exposures found to take, and what stays of an earlier query."""

from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
from astropy.table import Table

from wfssbkg.config import Query
from wfssbkg.errors import StepError
from wfssbkg.files import exposure_table, rate_header
from wfssbkg.files.exposure_table import (
    ACCEPTED,
    EXCLUDED,
    FAILED,
    FOOTPRINT,
    HEADER,
    REJECTED,
)
from wfssbkg.layout import Combination, Folder
from wfssbkg.query import archive
from wfssbkg.query.archive import SearchResult
from wfssbkg.query.download import size_in_words
from wfssbkg.run import messages

# So large a part of the exposures, and MAST may mean something else than it says.
_SUSPICIOUS = 0.1
_DOUBTFUL = (archive.SUPERSEDED, archive.RESTRICTED)

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
        With the accepted `readpatt`, `subarray`, `programs` and `exposures`, and `exclude`.

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
    for entry in query.exclude or ():
        if matches(row, entry):
            return f"named in query.exclude: {entry}"
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


def matches(row: Mapping[str, Any], entry: str) -> bool:
    """
    Whether an exposure is what an entry of query.exclude names.

    Parameters
    ----------
    row : mapping
        With `productFilename` and `program`, without leading zeros.
    entry : str
        The name of a rate file, a visit as file names have it, or the number of a programme.
    """
    name = row["productFilename"]
    if entry.isdecimal():
        return bool(row["program"] == entry.lstrip("0"))
    return name == entry or name.startswith(f"{entry}_")


def unmatched(exposures: Sequence[Mapping[str, Any]], query: Query) -> list[str]:
    """What the settings name that none of the exposures found is: a warning each."""
    names = {row["productFilename"] for row in exposures}
    lines = [
        f"WARNING: not found: {name} (query.exposures)"
        for name in sorted(set(query.exposures or ()) - names)
    ]
    return lines + [
        f"WARNING: query.exclude names {entry}, which is none of the exposures found: "
        "nothing is left out for it"
        for entry in query.exclude or ()
        if not any(matches(row, entry) for row in exposures)
    ]


def with_earlier_results(
    table: Table, result: SearchResult, folder: Folder, *, overwrite: bool
) -> Table:
    """
    An exposure table with what later steps wrote into the one of an earlier query.

    A row describes the version of the rate file that is in the folder, or was when it was masked.
    Where the archive has another one by now, that is in `meta["newer"]`: file name to the columns
    `~wfssbkg.files.exposure_table.VERSION`. It gets into the row once it is downloaded, so that
    an interrupted run never calls an old file a new one.

    Parameters
    ----------
    table : `~astropy.table.Table`
        The new exposure table.
    result : `~wfssbkg.query.archive.SearchResult`
        What it is made of.
    folder : `~wfssbkg.layout.Folder`
        Where the earlier one is; one that cannot be read is left out, and that is said.
    overwrite : bool
        Take over nothing but the versions.

    Raises
    ------
    StepError
        If there are no exposures any more.
    """
    former = table[:0]
    if folder.table.exists():
        try:
            former = exposure_table.read(folder.table)
        except StepError as error:
            messages.say(f"the exposure table is made again: {error}")
    if len(former) and not len(table):
        nothing = result.nothing_of(folder.combination)
        raise StepError(f"{nothing}. {folder.table} is left as it was")
    _set_newer_aside(table, former, folder)
    if overwrite:
        return table
    return keep_results(table, former, of_archive=result.of_archive)


def _set_newer_aside(table: Table, earlier: Table, folder: Folder) -> None:
    """Let the rows of a table describe the versions at hand; newer ones go into `meta["newer"]`."""
    former = {row["productFilename"]: row for row in earlier}
    newer = table.meta["newer"] = {}
    for row in table:
        name = row["productFilename"]
        rate, masked = folder.rate(name), folder.masked(name)
        if not exposure_table.is_downloaded(row) or not (rate.exists() or masked.exists()):
            continue
        at_hand = _version_at_hand(former.get(name), rate)
        archived = {column: row[column] for column in exposure_table.VERSION}
        if not exposure_table.same_version(at_hand, archived):
            newer[name] = archived
            exposure_table.mark(table, name, **at_hand)
        else:
            known = {column: value for column, value in at_hand.items() if value}
            exposure_table.mark(table, name, **known)


def _version_at_hand(former: Table.Row | None, rate: Path) -> dict[str, Any]:
    """The version of a rate file that is at hand, as the former table or its header tells."""
    version = {"size": 0, "checksum": "", "cal_ver": "", "crds_ctx": ""}
    if former is not None:
        version = {column: former[column] for column in version}
    if not (version["checksum"] or version["cal_ver"]):  # as in tables of before these columns
        with suppress(StepError):  # removed, since it is masked; or spoilt: then it is downloaded
            return rate_header.version(rate)
    return version


def keep_results(table: Table, earlier: Table, *, of_archive: bool) -> Table:
    """
    Take over from an earlier exposure table what later steps wrote there.

    A pointing stays unless the new row has a footprint. Level, masked fraction and the like, and
    what the header told besides, stay with an exposure whose version has not changed; a rejected
    one stays rejected, and one that was processed excluded. One that failed stays so until its
    download is tried again. An exposure that MAST no longer lists keeps its row.

    Parameters
    ----------
    table, earlier : `~astropy.table.Table`
    of_archive : bool
        Whether MAST was searched: what it does not list is gone there.

    Returns
    -------
    `~astropy.table.Table`
    """
    rows = {row["productFilename"]: dict(zip(row.colnames, row, strict=True)) for row in table}
    newer = table.meta.get("newer", {})
    for former in earlier:
        name = former["productFilename"]
        row = rows.get(name)
        # No version of a file points elsewhere, and a target is not where the detector looks.
        if row and row["pointing"] != FOOTPRINT and former["pointing"] in (FOOTPRINT, HEADER):
            row.update({column: former[column] for column in ("ra", "dec", "pointing")})
        if row and exposure_table.same_version(row, former):
            row.update({column: former[column] for column in _RESULTS})
            row["s_clnfns"] = row["s_clnfns"] or former["s_clnfns"]
            # A local file has just been looked at; one of MAST that failed still has to be.
            remote = exposure_table.is_downloaded(row)
            lasting = (REJECTED, FAILED) if remote else (REJECTED,)
            processed = former["reason"].startswith(rate_header.PROCESSED)
            stays = former["status"] in lasting or (processed and remote and name not in newer)
            if row["status"] == ACCEPTED and stays:
                row.update(status=former["status"], reason=former["reason"])
        elif not row and of_archive and exposure_table.is_downloaded(former):
            row = dict(zip(former.colnames, former, strict=True))
            row.update(status=EXCLUDED, reason="no longer in the archive")
            rows[name] = row
    kept = exposure_table.new(rows.values())
    kept.meta = table.meta
    return kept


def report(table: Table, result: SearchResult, combination: Combination) -> None:
    """Say what was found, and what was left out or has failed and why; a StepError if nothing."""
    if not len(table):
        raise StepError(result.nothing_of(combination))
    messages.say(describe(table))
    messages.warn_some(doubts(table))
    failed = table[table["status"] == FAILED]
    messages.warn_some([f"{row['productFilename']}: {row['reason']}" for row in failed])


def check_number(table: Table, fewest: int, advice: str = "") -> None:
    """
    See whether a table has enough accepted exposures for a background, and warn if it has not.

    Parameters
    ----------
    table : `~astropy.table.Table`
    fewest : int
        combine.minimum_exposures: with fewer than this, makeBackgrounds.py makes none.
    advice : str
        What the error is to say besides.

    Raises
    ------
    StepError
        If there is none; says why.
    """
    accepted = np.count_nonzero(table["status"] == ACCEPTED)
    if not accepted:
        raise StepError(f"no exposure can be used: {'; '.join(reasons(table))}{advice}")
    if accepted < fewest:
        messages.warn(
            f"WARNING: too few exposures for a background: {accepted} accepted, and "
            f"makeBackgrounds.py expects at least {fewest} (combine.minimum_exposures)"
        )


def describe(table: Table) -> str:
    """What becomes of the exposures of a table: one line, and one for each reason."""
    accepted = np.count_nonzero(table["status"] == ACCEPTED)
    size = size_in_words(int(np.sum(table["size"])))
    lines = [f"found {len(table)} exposures ({size}), {accepted} accepted"]
    return "\n  ".join(lines + reasons(table))


def reasons(table: Table) -> list[str]:
    """Why exposures of a table are not accepted: a line for each reason, with their number."""
    lines = []
    for status in (EXCLUDED, REJECTED, FAILED):
        # What follows a colon is particular to one exposure.
        counts = Counter(
            row["reason"].partition(":")[0] for row in table if row["status"] == status
        )
        lines += [f"{count} {status}: {reason}" for reason, count in counts.most_common()]
    return lines


def doubts(table: Table) -> list[str]:
    """What the archive says of so many exposures of a table that it may be wrong."""
    lines = []
    for reason in _DOUBTFUL:
        count = np.count_nonzero(table["reason"] == reason)
        if count > _SUSPICIOUS * len(table):
            lines.append(
                f"WARNING: {count} of {len(table)} exposures are excluded as '{reason}': so many "
                "that the archive may mean something else by it. Look some of them up there"
            )
    return lines
