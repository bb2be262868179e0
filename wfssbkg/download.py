"""Fetching rate files from MAST: several at once, and none gets its name before it is checked."""

from __future__ import annotations

import errno
import shutil
import threading
from collections.abc import Sequence
from contextlib import suppress
from multiprocessing.pool import ThreadPool
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import requests
from astropy.table import Table

from wfssbkg import StepError, exposures, masked, network, progress, rate
from wfssbkg.config import Query
from wfssbkg.layout import Folder, remove_unfinished, replacing, unfinished

_DISK_FULL = (errno.ENOSPC, errno.EDQUOT)
_NO_LINE = (requests.ConnectionError, requests.Timeout)


class Fetched(NamedTuple):
    """What a call of `download` did, in numbers of exposures, and bytes."""

    downloaded: int
    present: int
    failed: int
    size: int


def download(
    table: Table, folder: Folder, query: Query, *, overwrite: bool = False, settings: str = ""
) -> Fetched:
    """
    Fetch the accepted exposures of a table that are not there with the right size.

    Without `keep_rates`, an exposure that is masked needs no rate file. Exposures that failed are
    looked at again: they are accepted if their file is sound, or can be fetched. One that cannot
    be fetched gets the status failed and a reason. Local files are left as they are.

    Parameters
    ----------
    table : `~astropy.table.Table`
        The exposure table; changed in place.
    folder : `~wfssbkg.layout.Folder`
    query : `~wfssbkg.config.Query`
        With `mast_url`, `connections`, `attempts`, `timeout` and `keep_rates`.
    overwrite : bool
        Fetch what is there as well.
    settings : str
        Fingerprint of the mask settings.

    Returns
    -------
    `Fetched`

    Raises
    ------
    StepError
        If the disk is too small for them.
    """
    wanted = [row for row in table if exposures.is_downloaded(row) and _is_wanted(row, folder)]
    missing = [
        row
        for row in wanted
        if overwrite or not (_is_there(row, folder) or _is_masked(row, folder, query, settings))
    ]
    outcomes = _fetch_all(missing, folder, query) if missing else {}
    for row in wanted:
        outcome = outcomes.get(row["productFilename"])
        failed = isinstance(outcome, StepError)
        if failed or isinstance(outcome, int) or row["status"] == exposures.FAILED:
            row["status"] = exposures.FAILED if failed else exposures.ACCEPTED
            row["reason"] = f"download failed: {outcome}" if failed else ""
        if isinstance(outcome, int):
            row["level"] = row["masked_fraction"] = np.nan  # they belong to the former file
    sizes = [outcome for outcome in outcomes.values() if isinstance(outcome, int)]
    return Fetched(
        downloaded=len(sizes),
        present=int(np.sum(table["status"] == exposures.ACCEPTED)) - len(sizes),
        failed=len(outcomes) - len(sizes),
        size=sum(sizes),
    )


def _is_there(row: Table.Row, folder: Folder) -> bool:
    path = folder.rate(row["productFilename"])
    if row["size"] and row["status"] == exposures.ACCEPTED:
        return path.is_file() and path.stat().st_size == row["size"]
    try:
        rate.check(path, int(row["size"]))
    except StepError:
        return False
    return True


def _is_wanted(row: Table.Row, folder: Folder) -> bool:
    """Accepted or failed; a rejected one may have to be masked again, if it was masked at all."""
    masked_once = row["status"] == exposures.REJECTED and (
        folder.masked(row["productFilename"]).exists()
    )
    return masked_once or row["status"] in (exposures.ACCEPTED, exposures.FAILED)


def _is_masked(row: Table.Row, folder: Folder, query: Query, settings: str) -> bool:
    """Whether the rate file is not needed any more; a new version at MAST has no fraction yet."""
    if query.keep_rates or row["status"] == exposures.FAILED or np.isnan(row["masked_fraction"]):
        return False
    name = row["productFilename"]
    return masked.is_current(folder.masked(name), rate=folder.rate(name), settings=settings)


def _fetch_all(
    rows: Sequence[Table.Row], folder: Folder, query: Query
) -> dict[str, int | StepError]:
    """Fetch the files of some rows; file name to its size in bytes, or why it was not fetched."""
    folder.path.mkdir(parents=True, exist_ok=True)
    total = sum(int(row["size"]) for row in rows)
    _check_space(len(rows), total, folder.path)
    outcomes: dict[str, int | StepError] = {}
    stop = threading.Event()

    def fetch(row: Table.Row) -> None:
        name = row["productFilename"]
        try:
            _give_up_if_hopeless(list(outcomes.values()), query)
            outcomes[name] = _fetch(row, folder, query, stop)
        except StepError as error:
            outcomes[name] = error

    # Its threads, unlike those of concurrent.futures, do not keep a program that was interrupted
    # waiting for a server that keeps silent.
    with (
        ThreadPool(min(query.connections, len(rows))) as pool,
        # A hundredth of all: the first bytes tell how long a connection takes, not a file.
        progress.bar("downloading", total, "B", least=total // 100, in_bytes=True) as bar,
    ):
        running = pool.map_async(fetch, rows, chunksize=1)
        try:
            while not running.ready():
                running.wait(0.2)
                bar.update(_bytes_so_far(outcomes, folder.path) - bar.n)
            running.get()
        finally:
            stop.set()
            running.wait(0.2)  # for a thread that is just opening its file
            remove_unfinished(folder.path)
    return outcomes


def _check_space(number: int, needed: int, directory: Path) -> None:
    free = shutil.disk_usage(directory).free
    if needed > free:
        raise StepError(
            f"{directory}: {number} exposures of {size_in_words(needed)} are to be downloaded, "
            f"{size_in_words(free)} are free. Make room, or set another working_directory"
        )


def _bytes_so_far(outcomes: dict[str, int | StepError], directory: Path) -> int:
    size = sum(outcome for outcome in list(outcomes.values()) if isinstance(outcome, int))
    for path in unfinished(directory):
        with suppress(FileNotFoundError):  # it has just got its name
            size += path.stat().st_size
    return size


def _give_up_if_hopeless(outcomes: Sequence[int | StepError], query: Query) -> None:
    """Spare the user hours of waiting when the disk is full, or the line is gone for good."""
    enough = 2 * query.connections + 1
    causes = [getattr(outcome, "__cause__", None) for outcome in outcomes[-enough:]]
    full = [cause for cause in causes if getattr(cause, "errno", 0) in _DISK_FULL]
    lost = [cause for cause in causes if isinstance(cause, _NO_LINE)]
    if full or len(lost) == enough:
        cause = (full or lost)[-1]
        words = network.in_words(cause, query.timeout)
        raise StepError(f"not tried, since others failed: {words}") from cause


def _fetch(row: Table.Row, folder: Folder, query: Query, stop: threading.Event) -> int:
    """Fetch one file; returns its size."""
    from astroquery.mast import ObservationsClass

    client = network.mast_client(ObservationsClass, query)

    def halt(*_: Any, **__: Any) -> None:
        if stop.is_set():  # and do not open a file that nobody would remove
            raise StepError("stopped")

    client._session.hooks["response"].append(halt)

    def attempt() -> int:
        with replacing(folder.rate(row["productFilename"])) as temporary:
            status, message, _ = client.download_file(
                row["dataURI"], local_path=str(temporary), cache=False
            )
            if status != "COMPLETE":
                raise StepError(str(message))
            rate.check(temporary, int(row["size"]))
            return temporary.stat().st_size

    with client._session:
        return network.with_retries(attempt, query, pause=stop.wait)


def size_in_words(size: int) -> str:
    """A number of bytes in GB, or MB if it is small."""
    return f"{size / 1e9:.2f} GB" if size >= 1e8 else f"{size / 1e6:.1f} MB"
