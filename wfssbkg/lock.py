"""One run at a time in the folder of a combination."""

from __future__ import annotations

import errno
import fcntl
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import TextIO

from wfssbkg import StepError
from wfssbkg.layout import remove_unfinished

_HELD = (errno.EACCES, errno.EAGAIN)
_NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP)  # some file systems know none


@contextmanager
def hold(path: Path) -> Iterator[None]:
    """
    Hold a lock while the block runs, and remove what others left unfinished in its folder.

    It is a lock of the operating system on a file: it ends with the process, however that ends,
    and worker processes have no part in it.

    Parameters
    ----------
    path : `~pathlib.Path`
        The lock file; it, and its folder if that is empty, are gone afterwards.

    Raises
    ------
    StepError
        If another process holds it: says which, where and since when.
    """
    made = not path.parent.exists()
    path.parent.mkdir(parents=True, exist_ok=True)
    file = _locked(path)
    try:
        file.truncate(0)
        file.write(f"process {os.getpid()} on {socket.gethostname()} since {_now()} UTC\n")
        file.flush()
        remove_unfinished(path.parent)
        yield
    finally:
        remove_unfinished(path.parent)
        path.unlink(missing_ok=True)  # before another can lock it
        file.close()
        if made:
            with suppress(OSError):  # not empty
                path.parent.rmdir()


def _locked(path: Path) -> TextIO:
    """The lock file, opened and locked."""
    while True:
        file = path.open("a+", encoding="utf-8")
        try:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno not in _NO_LOCKS:
                file.seek(0)
                holder = file.readline().strip() or "another process"
                file.close()
                if error.errno not in _HELD:
                    raise
                raise StepError(
                    f"{path.parent} is in use by {holder}. Wait for it, or end it"
                ) from None
        # Its former holder may have removed it between the opening and the locking.
        with suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(file.fileno()), path.stat()):
                return file
        file.close()


def _now() -> str:
    return f"{datetime.now(UTC):%Y-%m-%d %H:%M:%S}"
