"""What a script says on the screen and in its log; progress bars; how quiet the libraries are."""

import logging
import os
import re
import sys
import time
import warnings
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import astropy  # noqa: F401  before a logger of its name is made: it has a kind of its own
from tqdm import tqdm

from wfssbkg.config import RECOMMENDED_FILTERS
from wfssbkg.errors import ConfigError
from wfssbkg.layout import Combination

_VERBOSE = "WFSSBKG_VERBOSE"  # tells worker processes about --verbose

tqdm.monitor_interval = 0  # no thread of its own: worker processes are forked beside its bars


# What goes into the log, and not through it to the screen, as messages of libraries may.
_log = logging.getLogger("wfssbkg")
_log.propagate = False
_log.setLevel(logging.INFO)
_log.addHandler(logging.NullHandler())

_TIME = "%Y-%m-%dT%H:%M:%SZ"  # how the lines of the log begin; UTC

# What the screen gets: with `quiet` only warnings, and they name their `subject`.
screen = SimpleNamespace(quiet=False, subject="")


def say(text: str) -> None:
    """Print one line of a report, indented below the combination's name; not with --quiet."""
    announce("  " + text.replace("\n", "\n  "))


def warn(text: str) -> None:
    """Say a warning or a failure, with --quiet on standard error; nothing if there is none."""
    if text:
        say(text)
        if screen.quiet:
            print(screen.subject + text, file=sys.stderr, flush=True)


def fail(text: str) -> None:
    """Say on standard error, also with --quiet, why the script ends without having done all."""
    note(text)
    print(text, file=sys.stderr, flush=True)


def warn_some(lines: list[str], most: int = 10) -> None:
    """Say the first of many warnings; the log gets all of them."""
    for line in lines[:most]:
        warn(line)
    if len(lines) > most:
        warn(f"... and {len(lines) - most} more")
    for line in lines[most:]:
        note("  " + line)


def of_few_pointings(most: int, fewest: int) -> str:
    """What to say of a background where no pixel has more than `most` distinct pointings.

    Empty where some have at least `fewest` (combine.minimum_pointings).
    """
    if most >= fewest:
        return ""
    return (
        f"WARNING: no pixel is covered by more than {most} distinct pointings, expected "
        f"{fewest} (combine.minimum_pointings): sources cannot be told from the sky here"
    )


def warn_of_unusual_filter(combination: Combination, exposures: int) -> None:
    """Say why the background of an unusual filter, of so many exposures, needs a second look."""
    if combination.filter not in RECOMMENDED_FILTERS:
        warn(
            f"WARNING: {combination.filter} is not one of {', '.join(RECOMMENDED_FILTERS)}. "
            "Its background has strong features that\n"
            "this recipe cannot reproduce, the medium bands most of all, and the archive has much\n"
            f"less data of it (exposures at hand: {exposures}): check the result."
        )


def announce(text: str) -> None:
    """Print a line that is not indented; not with --quiet."""
    note(text)
    if not screen.quiet:
        with tqdm.external_write_mode():  # a progress bar makes room for it
            print(text, flush=True)


def bar(description: str, total: int, unit: str, **options: Any) -> tqdm:
    """
    A bar that shows how far a step is; nothing where standard error is no terminal, or is quiet.

    Parameters
    ----------
    description : str
        Of the step.
    total, unit : int, str
        How much there is to do, and of what.
    **options
        As for `~tqdm.tqdm`.

    Returns
    -------
    `~tqdm.tqdm`
        A context manager; its `update` is told of what has been done.
    """
    return tqdm(
        desc=f"  {description}",
        total=total,
        unit=unit if options.get("unit_scale") else f" {unit}",
        leave=False,
        dynamic_ncols=True,
        disable=screen.quiet or None,
        **options,
    )


def quieten(*, verbose: bool | None = None) -> None:
    """
    Leave the screen to the scripts' own messages, not to the JWST pipeline, CRDS and astropy.

    Parameters
    ----------
    verbose : bool, optional
        Let them; default: what the run's first call said, also in its worker processes.
    """
    if verbose is None:
        verbose = os.environ.get(_VERBOSE) == "1"
    os.environ[_VERBOSE] = "1" if verbose else "0"
    level = logging.INFO if verbose else logging.ERROR
    logging.basicConfig(level=level, format="%(name)s: %(message)s")
    for name in ("astropy", "jwst", "stcal", "stpipe", "stdatamodels", "CRDS"):
        logging.getLogger(name).setLevel(level)
    if not verbose:
        warnings.simplefilter("ignore")


def keep_log(path: Path) -> None:
    """
    Append all that is said from now on to a file, with the time; also what --quiet hides.

    Parameters
    ----------
    path : `~pathlib.Path`
        Made if it is not there.

    Raises
    ------
    ConfigError
        If it cannot be written, or is a file of another kind.
    """
    try:
        if path.is_file() and not _is_log(path):
            raise ConfigError(
                f"--log {path}: it is no log of these scripts, and is left as it is. Expected a "
                "log, or the name of a new file"
            )
        file = _LogFile(path, encoding="utf-8", errors="backslashreplace")
    except OSError as error:
        raise ConfigError(f"--log {path}: cannot be written ({error.strerror})") from None
    file.setFormatter(logging.Formatter("%(asctime)s %(message)s", _TIME))
    file.formatter.converter = time.gmtime
    _log.addHandler(file)
    logging.getLogger().addHandler(file)  # for what libraries report


def _is_log(path: Path) -> bool:
    """Whether a file is empty, or begins like a log."""
    with path.open("rb") as file:
        start = file.read(len("2026-01-02T03:04:05Z "))
    return (
        not start or re.fullmatch(rb"[0-9]{4}(-[0-9]{2}){2}T([0-9]{2}:?){3}Z ", start) is not None
    )


class _LogFile(logging.FileHandler):
    """The log of a script, which goes on without it if the disk is full."""

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802
        """Say so once."""
        self.setLevel(logging.CRITICAL + 1)
        print(f"--log {self.baseFilename}: {sys.exc_info()[1]}. Going on without", file=sys.stderr)


def note(text: str) -> None:
    """Write to the log only, if there is one."""
    for line in text.splitlines():
        if line:
            _log.info("%s", line)


def note_error() -> None:
    """Write an error that nobody expected to the log: it helps to find the bug."""
    _log.exception("an error that should not happen")
