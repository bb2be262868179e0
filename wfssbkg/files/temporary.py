"""Files are written under temporary names of ours, and renamed when they are complete."""

import re
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from wfssbkg.layout import TEMPORARY

_NAME = re.compile(re.escape(TEMPORARY) + r"([0-9a-f]{8}|work)\.(?P<name>.+)")


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """
    Write a file so that a reader never meets half of it.

    Parameters
    ----------
    path : `~pathlib.Path`
        The file to write.

    Yields
    ------
    `~pathlib.Path`
        A temporary name in the same folder, with the same ending. It is renamed to `path` at the
        end, or removed if an exception leaves the block.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f"{TEMPORARY}{uuid.uuid4().hex[:8]}.{path.name}")
    try:
        yield temporary
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def unfinished(folder: Path, name: str | None = None) -> Iterator[Path]:
    """The temporary files of a folder, or those that were to be the file `name` in it.

    They are what `replacing` has not finished yet, or never will.
    """
    for path in folder.glob(f"{TEMPORARY}*"):
        match = _NAME.fullmatch(path.name)
        if match and name in (None, match["name"]) and path.is_file():
            yield path


def remove_unfinished(folder: Path, name: str | None = None) -> None:
    """Remove what a run that was killed has not finished; for the one that holds the lock."""
    for path in unfinished(folder, name):
        path.unlink(missing_ok=True)
