"""Gaia: all bright stars of the sky, asked for once and kept."""

import time
from pathlib import Path

from astropy.table import Table
from pyvo.dal import TAPService

from wfssbkg import layout
from wfssbkg.config import Config, Query
from wfssbkg.errors import StepError
from wfssbkg.files import lock, star_catalog
from wfssbkg.query import network
from wfssbkg.run import messages

_TABLE = "gaiadr3.gaia_source_lite"  # the columns of gaia_source that matter, and faster
_TAP = "/tap-server/tap"  # path of the TAP service below query.gaia_url
_UNDER_WAY = ("PENDING", "QUEUED", "EXECUTING")  # phases of a job, from the standard (IVOA UWS)
_PAUSE = 0.5  # s, between two questions for the phase of a job


def find(config: Config, *, overwrite: bool = False, write: bool = True) -> Table | None:
    """The bright stars of the whole sky, as from `bright_stars`; None if they do not matter."""
    limit = config.query.gaia_g_limit
    if limit is None:
        messages.say("no check for bright stars: query.gaia_g_limit is null")
        return None
    path = layout.star_catalog(config.working_directory, limit)
    return bright_stars(path, config.query, overwrite=overwrite, write=write)


def bright_stars(path: Path, query: Query, *, overwrite: bool = False, write: bool = True) -> Table:
    """
    All stars brighter than the limit, from disk, or else from Gaia and kept on disk.

    Parameters
    ----------
    path : `~pathlib.Path`
        The file that keeps them.
    query : `~wfssbkg.config.Query`
        With `gaia_g_limit`, `gaia_url`, `attempts` and `timeout`.
    overwrite : bool
        Ask Gaia although the file is there.
    write : bool
        Keep them on disk; without it nothing is written.

    Returns
    -------
    `~astropy.table.Table`
        As from `wfssbkg.files.star_catalog.read`.

    Raises
    ------
    StepError
        If there is no file and Gaia cannot be asked.
    """
    if write:
        with lock.hold(layout.star_lock(path)):
            stars, new = _from_disk_or_gaia(path, query, overwrite=overwrite)
            if new:
                star_catalog.write(stars, path)
    else:
        stars, _ = _from_disk_or_gaia(path, query, overwrite=overwrite)
    kept = f"{path.name}, " * path.exists()
    messages.say(
        f"{len(stars)} stars brighter than G = {query.gaia_g_limit:g} "
        f"({kept}from Gaia on {stars.meta['QDATE']})"
    )
    return stars


def _from_disk_or_gaia(path: Path, query: Query, *, overwrite: bool) -> tuple[Table, bool]:
    """The stars, and whether they are from Gaia."""
    if path.exists() and not overwrite:
        try:
            return star_catalog.read(path, query.gaia_g_limit), False
        except StepError as error:
            messages.say(
                f"{path} is not a readable catalogue of stars ({error}): asking Gaia again"
            )
    messages.say(
        f"asking Gaia ({query.gaia_url}) for all stars brighter than "
        f"G = {query.gaia_g_limit:g}; once, it may take some minutes"
    )
    try:
        return network.with_retries(lambda: _all_stars(query), query, report=messages.say), True
    except StepError as error:
        raise StepError(
            f"Gaia at {query.gaia_url} gives no bright stars: {error}. Run queryData.py again "
            "later, or set query.gaia_g_limit: null to go without the check for bright stars"
        ) from error


def _all_stars(query: Query) -> Table:
    """The stars from Gaia; a second, small query tells whether all of them arrived."""
    limit = query.gaia_g_limit
    where = f"FROM {_TABLE} WHERE phot_g_mean_mag < {limit:g}"
    with network.Session(query.gaia_url, query.timeout) as session:
        count = _run(session, query, f"SELECT COUNT(*) AS number {where}")
        answer = _run(session, query, f"SELECT {', '.join(star_catalog.COLUMNS)} {where}")
    expected = int(count["number"][0])
    if len(answer) != expected or not expected:
        # Seen at the real archive under load, without any error; also its limits of 2000 rows
        # (synchronous) and 3 million (anonymous).
        raise StepError(f"{len(answer)} of {expected} stars brighter than G = {limit:g} arrived")
    stars = star_catalog.new(answer, limit)
    stars.meta = {"QDATE": network.query_date(), "GLIMIT": limit}
    stars.meta |= {"GAIATAB": _TABLE, "GAIAURL": query.gaia_url}
    return stars


def _run(session: network.Session, query: Query, adql: str) -> Table:
    """
    The answer to an asynchronous job, which unlike a synchronous one is not cut at 2000 rows.

    pyvo's own way to wait asks the server to keep silent until the phase changes, which is taken
    for a dead server here, and has no end.
    """
    service = TAPService(query.gaia_url.rstrip("/") + _TAP, session=session)
    job = service.submit_job(adql)
    if not job.job_id:  # but the page of a proxy, say
        raise ValueError("no job was made")
    job.run()
    longest = network.TIMEOUTS * query.timeout
    end = time.monotonic() + longest
    while (phase := job.phase) in _UNDER_WAY:
        if time.monotonic() > end:
            raise StepError(f"its job is still {phase} after {longest:g} s")
        time.sleep(_PAUSE)
    job.raise_if_error()
    table = job.fetch_result().to_table()
    table.rename_columns(table.colnames, [name.lower() for name in table.colnames])
    return table
