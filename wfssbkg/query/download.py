"""Downloads of rate files from MAST: several at once; each is checked before it gets its name."""

import errno
import hashlib
import shutil
import threading
from collections.abc import Container, Iterator, Mapping, Sequence
from contextlib import closing
from multiprocessing.pool import ThreadPool
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import requests
from astropy.table import Table

from wfssbkg.config import Query
from wfssbkg.errors import StepError
from wfssbkg.files import exposure_table, rate, rate_header, temporary, up_to_date
from wfssbkg.files.exposure_table import ACCEPTED, EXCLUDED, FAILED, REJECTED
from wfssbkg.layout import Folder
from wfssbkg.query import access, cloud, network
from wfssbkg.run import messages

_PATH = "/api/v0.1/Download/file"  # of MAST's downloads, below query.mast_url
_BLOCK = 1 << 18  # bytes that are written at a time; after each a download can be stopped
_DISK_FULL = (errno.ENOSPC, errno.EDQUOT)
_NO_LINE = (requests.ConnectionError, requests.Timeout)

Outcome = int | StepError  # the size of the file in bytes, or why it was not downloaded


class Wanted(NamedTuple):
    """A file to download: its size and its MD5 are 0 and '' if they are not known."""

    name: str
    uri: str
    size: int
    checksum: str


class Downloads(NamedTuple):
    """What a call of `download` did, in numbers of exposures, and bytes."""

    downloaded: int
    present: int
    failed: int
    size: int
    renewed: int = 0  # of those downloaded: there before, but the archive has a newer version

    def describe(self) -> str:
        """What was done, in a line."""
        if not (self.downloaded or self.failed):
            return f"nothing to download: {self.present} there already"
        size = size_in_words(self.size)
        why = f", {self.renewed} of them since the archive has processed them again"
        return (
            f"{self.downloaded} downloaded ({size}){why * bool(self.renewed)}, "
            f"{self.present} there already"
        )

    def advice(self) -> str:
        """What to do if not all could be downloaded; empty if there is nothing to do."""
        if not self.failed:
            return ""
        return f"{self.failed} could not be downloaded: run queryData.py again"


def download(
    table: Table,
    folder: Folder,
    query: Query,
    *,
    overwrite: bool = False,
    mask_settings: Mapping[str, Any] = {},
) -> Downloads:
    """
    Download the accepted exposures of a table that are not there, or of which the archive has a
    newer version.

    With a token for exclusive access, an exposure that it gives no access to is excluded.
    Without `keep_rates`, an exposure that is masked needs no rate file. Exposures that failed are
    looked at again: they are accepted if their file is sound, or can be downloaded. One that
    cannot be gets the status failed and a reason; where only a newer version cannot be, the former
    one stays in use. Local files are left as they are.

    Parameters
    ----------
    table : `~astropy.table.Table`
        The exposure table; changed in place. Newer versions are in `meta["newer"]`, see
        `wfssbkg.query.selection.with_earlier_results`.
    folder : `~wfssbkg.layout.Folder`
    query : `~wfssbkg.config.Query`
        With `mast_url`, `cloud`, `connections`, `attempts`, `timeout` and `keep_rates`.
    overwrite : bool
        Download what is there as well.
    mask_settings : mapping, optional
        What a masked exposure must have been made with, from `wfssbkg.files.up_to_date.bearing`.
        Default: nothing in particular.

    Returns
    -------
    `Downloads`

    Raises
    ------
    StepError
        If the disk is too small for them.
    """
    newer = table.meta.get("newer", {})
    wanted = [row for row in table if _is_wanted(row, folder, newer)]
    missing = to_download(table, folder, query, overwrite=overwrite, mask_settings=mask_settings)
    outcomes = _download_all(list(missing.values()), folder, query) if missing else {}
    renewed, denied, warnings = 0, 0, []
    for row in wanted:
        name = row["productFilename"]
        outcome = outcomes.get(name)
        if isinstance(outcome, int):
            size = missing[name].size
            if size not in (0, outcome):
                warnings.append(
                    f"{name} is whole, but has {outcome} bytes, not {size} as MAST says"
                )
            renewed += name in newer
            _describe(row, newer.pop(name, {}), folder)
        elif outcome is None:
            if row["status"] == FAILED:  # the file is there, and sound
                row["status"], row["reason"] = ACCEPTED, ""
        elif name in newer and row["status"] != FAILED:
            warnings.append(
                f"{name}: the newer version in the archive could not be downloaded ({outcome}). "
                "The former one stays in use"
            )
        elif access.token() and _is_denied(outcome):
            denied += 1
            row["status"] = EXCLUDED
            row["reason"] = f"not public: {access.VARIABLE} gives no access to it ({outcome})"
        else:
            row["status"], row["reason"] = FAILED, f"download failed: {outcome}"
    messages.warn_some([f"WARNING: {line}" for line in warnings])
    sizes = [outcome for outcome in outcomes.values() if isinstance(outcome, int)]
    return Downloads(
        downloaded=len(sizes),
        present=np.count_nonzero(table["status"] == ACCEPTED) - len(sizes),
        failed=len(outcomes) - len(sizes) - denied,
        size=sum(sizes),
        renewed=renewed,
    )


def to_download(
    table: Table,
    folder: Folder,
    query: Query,
    *,
    overwrite: bool = False,
    mask_settings: Mapping[str, Any] = {},
) -> dict[str, Wanted]:
    """
    What `download`, which has the same parameters, would download: by the name of the file.

    A row whose newer version was fetched by a run that was then killed describes it afterwards.
    """
    newer = table.meta.get("newer", {})
    missing = {}
    for row in [row for row in table if _is_wanted(row, folder, newer)]:
        name = row["productFilename"]
        if name in newer and _is_version(folder.rate(name), newer[name]):
            _describe(row, newer.pop(name), folder)
        if overwrite or name in newer or _is_missing(row, folder, query, mask_settings):
            version = newer.get(name, row)
            size, checksum = int(version["size"]), version["checksum"]
            missing[name] = Wanted(name, row["dataURI"], size, checksum)
    return missing


def _describe(row: Table.Row, version: Mapping[str, Any], folder: Folder) -> None:
    """Let a row describe the file that was downloaded: what was found in the former one goes."""
    for column, value in version.items():
        row[column] = value
    row["size"] = folder.rate(row["productFilename"]).stat().st_size
    row["status"], row["reason"] = ACCEPTED, ""
    row["s_clnfns"] = row["flat"] = row["crds_context"] = ""
    row["level"] = row["masked_fraction"] = row["weight"] = np.nan


def _is_version(path: Path, version: Mapping[str, Any]) -> bool:
    """Whether a file is this version of a rate file; all of it is read only if it may be."""
    try:
        rate.check(path, version["size"])
        at_hand = rate_header.version(path)
    except StepError:
        return False
    return exposure_table.same_version(at_hand, version) and (
        not version["checksum"] or rate.md5(path) == version["checksum"]
    )


def _is_wanted(row: Table.Row, folder: Folder, newer: Container[str]) -> bool:
    """Whether the rate file of an exposure is to be there, from MAST.

    A rejected exposure may have to be masked again, if it was masked at all, or is to be judged by
    its newer version.
    """
    if not exposure_table.is_downloaded(row):
        return False
    name = row["productFilename"]
    again = row["status"] == REJECTED and (folder.masked(name).exists() or name in newer)
    return again or row["status"] in (ACCEPTED, FAILED)


def _is_missing(
    row: Table.Row, folder: Folder, query: Query, mask_settings: Mapping[str, Any]
) -> bool:
    """Whether a rate file is needed and is not there as it should be."""
    name, size = row["productFilename"], int(row["size"])
    path = folder.rate(name)
    # A new version at MAST has no fraction yet.
    masked = row["status"] != FAILED and np.isfinite(row["masked_fraction"])
    spared = masked and not query.keep_rates
    if spared and up_to_date.is_masked(path, folder.masked(name), mask_settings):
        return False
    if size and row["status"] == ACCEPTED:
        return not path.is_file() or path.stat().st_size != size
    try:
        rate.check(path, size)
    except StepError:
        return True
    return False


def _download_all(files: Sequence[Wanted], folder: Folder, query: Query) -> dict[str, Outcome]:
    """Download some files; returns the outcome for each file name."""
    folder.path.mkdir(parents=True, exist_ok=True)
    total, free = sum(file.size for file in files), shutil.disk_usage(folder.path).free
    if total > free:
        raise StepError(
            f"{folder.path}: {len(files)} exposures of {size_in_words(total)} are to be "
            f"downloaded, {size_in_words(free)} are free. Make room, or set another "
            "working_directory"
        )
    outcomes: dict[str, Outcome] = {}
    received = {file.name: 0 for file in files}  # bytes so far
    stop = threading.Event()
    url, token = query.mast_url.rstrip("/") + _PATH, access.token()
    bucket = cloud.client(query) if query.cloud else None
    keys = _keys(files, query) if query.cloud else {}
    in_bucket = set()

    def blocks(file: Wanted, session: network.Session, key: str | None) -> Iterator[bytes]:
        """What a file consists of, from the bucket or from MAST."""
        if key:
            yield from cloud.blocks(bucket, key, _BLOCK)
            return
        with session.get(url, params={"uri": file.uri}, stream=True) as response:
            yield from response.iter_content(_BLOCK)

    def fetch(file: Wanted, session: network.Session) -> int:
        """Download one file; returns its size in bytes."""
        size, digest = 0, hashlib.md5(usedforsecurity=False)
        # Whatever is wrong with a file in the bucket, the next try is at MAST.
        key = keys.pop(file.uri, None)
        with (
            temporary.replacing(folder.rate(file.name)) as path,
            closing(blocks(file, session, key)) as content,
        ):
            if stop.is_set():  # do not open a file that nobody would remove
                raise StepError("stopped")
            with path.open("wb") as opened:
                for block in content:
                    if stop.is_set():
                        raise StepError("stopped")
                    size += opened.write(block)
                    digest.update(block)
                    received[file.name] = size
            rate.check(path, 0 if file.checksum else file.size)
            if file.checksum and digest.hexdigest() != file.checksum:
                raise StepError(
                    f"its MD5 is {digest.hexdigest()}, not {file.checksum} as the archive says"
                )
        if key:
            in_bucket.add(file.name)
        return size

    def attempt(file: Wanted) -> None:
        try:
            _give_up_if_hopeless(list(outcomes.values()), query)
            # A try at the bucket is not one at MAST.
            tries = query.attempts + (file.uri in keys)
            with network.Session(url, query.timeout, token=token) as session:
                outcomes[file.name] = network.with_retries(
                    lambda: fetch(file, session),
                    query.model_copy(update={"attempts": tries}),
                    pause=stop.wait,
                )
        except StepError as error:
            outcomes[file.name], received[file.name] = error, 0

    # Its threads, unlike those of concurrent.futures, do not keep a program that was interrupted
    # waiting for a server that keeps silent.
    with (
        ThreadPool(min(query.connections, len(files))) as pool,
        messages.bar("downloading", total, "B", unit_scale=True) as bar,
    ):
        running = pool.map_async(attempt, files, chunksize=1)
        try:
            while not running.ready():
                running.wait(0.2)
                bar.update(sum(received.values()) - bar.n)
            running.get()
        finally:
            stop.set()
            running.wait(0.2)  # for a thread that is just opening its file
            temporary.remove_unfinished(folder.path)
    if query.cloud:
        messages.say(
            f"{len(in_bucket)} of {len(files)} files are from the public bucket in the cloud, the "
            "others from MAST"
        )
    return outcomes


def _keys(files: Sequence[Wanted], query: Query) -> dict[str, str]:
    """Where files are in the bucket, by their URI; nowhere, with a warning, if MAST cannot tell."""
    try:
        return cloud.keys([file.uri for file in files], query)
    except StepError as error:
        messages.warn(
            f"WARNING: MAST does not tell where files are in the cloud ({error}): they are "
            "downloaded from MAST (query.cloud)"
        )
        return {}


def _is_denied(outcome: StepError) -> bool:
    """Whether the archive does not give a file to this user."""
    return getattr(outcome.__cause__, "status", 0) in (401, 403)


def _give_up_if_hopeless(outcomes: Sequence[Outcome], query: Query) -> None:
    """Spare the user hours of waiting when the disk is full, or the line is gone for good."""
    enough = 2 * query.connections + 1
    causes = [getattr(outcome, "__cause__", None) for outcome in outcomes[-enough:]]
    full = [cause for cause in causes if getattr(cause, "errno", 0) in _DISK_FULL]
    lost = [cause for cause in causes if isinstance(cause, _NO_LINE)]
    if full or len(lost) == enough:
        cause = (full or lost)[-1]
        words = network.in_words(cause, query.timeout)
        raise StepError(f"not tried, since others failed: {words}") from cause


def size_in_words(size: int) -> str:
    """A number of bytes in GB, or MB if it is small."""
    return f"{size / 1e9:.2f} GB" if size >= 1e8 else f"{size / 1e6:.1f} MB"
