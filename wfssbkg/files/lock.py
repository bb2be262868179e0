"""One run at a time in the folder of a combination."""

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path

from filelock import FileLock, Timeout

from wfssbkg.errors import StepError
from wfssbkg.files.temporary import remove_unfinished


@contextmanager
def hold(path: Path) -> Iterator[None]:
    """
    Hold a lock while the block runs, and remove what others left unfinished in its folder.

    The lock is released when the process ends, even if it is killed.

    Parameters
    ----------
    path : `~pathlib.Path`
        The lock file, which names its holder; it, and its folder if that is empty, are gone
        afterwards.

    Raises
    ------
    StepError
        If another process holds it: says which, where and since when.
    """
    made = not path.parent.exists()
    path.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(path, timeout=0)
    try:
        lock.acquire()
    except Timeout:
        holder = ""
        with suppress(OSError):  # it has just been released
            holder = path.read_text(encoding="utf-8").strip()
        raise StepError(
            f"{path.parent} is in use by {holder or 'another process'}. Wait for it, or end it"
        ) from None
    try:
        now = f"{datetime.now(UTC):%Y-%m-%d %H:%M:%S}"
        path.write_text(f"process {os.getpid()} on {socket.gethostname()} since {now} UTC\n")
        remove_unfinished(path.parent)
        yield
    finally:
        remove_unfinished(path.parent)
        path.unlink(missing_ok=True)  # before another can lock it
        lock.release()
        if made:
            with suppress(OSError):  # not empty
                path.parent.rmdir()
