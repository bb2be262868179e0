"""What the five scripts share: command line, messages, exit status."""

from __future__ import annotations

import argparse
import gc
import logging
import os
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import astropy  # noqa: F401  before any logger of its name: it makes its own kind
from tqdm import tqdm

from wfssbkg import ClusterError, StepError, __version__, config, interrupted
from wfssbkg.layout import Combination, Folder

ALL_DONE, SOME_FAILED, WRONG_USE = 0, 1, 2

_VERBOSE = "WFSSBKG_VERBOSE"  # tells worker processes about --verbose


@dataclass
class _Screen:
    """What the screen gets: with `quiet` only warnings, and they name their `subject`."""

    quiet: bool = False
    subject: str = ""


_screen = _Screen()


@dataclass
class Run:
    """One run of a script.

    Attributes
    ----------
    config : `~wfssbkg.config.Config`
    folders : list of `~wfssbkg.layout.Folder`
        One for each combination to work on.
    overwrite : bool
        Make anew what is there already.
    options : `argparse.Namespace`
        The command line.
    """

    config: config.Config
    folders: list[Folder]
    overwrite: bool
    options: argparse.Namespace
    failed: list[str] = field(default_factory=list)

    @contextmanager
    def attempt(self, folder: Folder) -> Iterator[None]:
        """Report what went wrong with one combination, and let the others go on."""
        announce(f"\n{folder.combination}")
        _screen.subject = f"{folder.combination}: "
        try:
            yield
        except (StepError, OSError) as error:
            self.failed.append(str(folder.combination))
            warn(f"FAILED: {error}")
        finally:
            _screen.subject = ""

    def exit_status(self) -> int:
        """The exit status of the script; says which combinations could not be made."""
        if not self.failed:
            return ALL_DONE
        names = ", ".join(self.failed)
        print(f"\nNot made: {names}. The reason stands above.", file=sys.stderr)
        return SOME_FAILED


def say(text: str) -> None:
    """Print one line of a report, indented below the combination's name; not with --quiet."""
    announce("  " + text.replace("\n", "\n  "))


def warn(text: str) -> None:
    """Say a warning or a failure, with --quiet on standard error; nothing if there is none."""
    if text and _screen.quiet:
        print(_screen.subject + text, file=sys.stderr, flush=True)
    elif text:
        say(text)


def announce(text: str) -> None:
    """Print a line that is not indented; not with --quiet."""
    if not _screen.quiet:
        with tqdm.external_write_mode():  # a bar makes room for it
            print(text, flush=True)


def is_quiet() -> bool:
    """Whether nothing but warnings and failures is to be seen."""
    return _screen.quiet


def start(
    doc: str, arguments: list[str] | None = None, *, extra: dict[str, dict[str, Any]] | None = None
) -> Run:
    """
    Read command line and config.

    Parameters
    ----------
    doc : str
        The script's docstring: the text of --help.
    arguments : list of str, optional
        Default: the command line.
    extra : dict, optional
        Options that only this script has: name to arguments of `argparse`.

    Returns
    -------
    `Run`

    Raises
    ------
    ConfigError
        If the config or a --combination is wrong.
    """
    parser = _parser(doc)
    for name, properties in (extra or {}).items():
        parser.add_argument(name, **properties)
    options = parser.parse_args(arguments)
    _screen.quiet = options.quiet
    quieten(verbose=options.verbose)
    settings = config.read(options.config)
    if options.workers is not None:
        compute = settings.compute.model_copy(update={"workers": options.workers})
        settings = settings.model_copy(update={"compute": compute})
    return Run(settings, folders(settings, options.combination), options.overwrite, options)


def run(main: Callable[[], int]) -> None:
    """Run a script's `main` and leave with its exit status, without a traceback for a user."""
    try:
        interrupted.raises()
        status = main()
    except config.ConfigError as error:
        print(error, file=sys.stderr)
        status = WRONG_USE
    except (StepError, ClusterError, OSError) as error:
        print(error, file=sys.stderr)
        status = SOME_FAILED
    except KeyboardInterrupt:
        interrupted.say()
        status = interrupted.STATUS
    sys.stdout.flush()
    interrupted.ends_at_once()
    gc.freeze()  # at its end Python looks through all that was imported, for a fifth of a second
    sys.exit(status)


def quieten(*, verbose: bool | None = None) -> None:
    """
    Leave the screen to the scripts' own messages.

    The JWST pipeline, CRDS and astropy tell a lot; --verbose lets them.

    Parameters
    ----------
    verbose : bool, optional
        Default: what the run's first call said, also in its worker processes.
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


def _parser(doc: str) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=doc,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="Exit status: 0 all done; 1 at least one combination could not be made; "
        "2 the command line or the config is wrong.",
    )
    parser.add_argument(
        "--config",
        type=Path,
        default=config.DEFAULTS,
        metavar="FILE",
        help="the settings (default: config.yaml beside the script)",
    )
    parser.add_argument(
        "--combination",
        action="append",
        metavar="NAME",
        help="only this one, e.g. GR150C-F115W; may be repeated (default: all in the config)",
    )
    parser.add_argument("--overwrite", action="store_true", help="make anew what is there already")
    parser.add_argument(
        "--workers",
        type=_positive,
        metavar="N",
        help="processes at the same time (default: compute.workers of the config)",
    )
    amount = parser.add_mutually_exclusive_group()
    amount.add_argument(
        "--verbose", action="store_true", help="show what the libraries report as well"
    )
    amount.add_argument(
        "--quiet", action="store_true", help="show nothing but warnings and failures"
    )
    parser.add_argument(
        "--version", action="version", version=f"%(prog)s (WFSSBackgrounds {__version__})"
    )
    return parser


def _positive(text: str) -> int:
    number = int(text) if text.isdecimal() else 0
    if number < 1:
        raise argparse.ArgumentTypeError(f"expected a whole number above 0, found '{text}'")
    return number


def folders(settings: config.Config, names: list[str] | None = None) -> list[Folder]:
    """
    The folders of the config's combinations.

    Parameters
    ----------
    settings : `~wfssbkg.config.Config`
    names : list of str, optional
        Only these combinations, e.g. GR150C-F115W.

    Raises
    ------
    ConfigError
        If a name is not among the combinations.
    """
    by_name = {
        f"{grating}-{filter_name}": Folder(
            Combination(grating, filter_name), settings.working_directory, settings.output_directory
        )
        for grating in settings.gratings
        for filter_name in settings.filters
    }
    unknown = [name for name in names or [] if name not in by_name]
    if unknown:
        raise config.ConfigError(
            f"--combination {unknown[0]}: not among the config's gratings and filters. "
            f"Expected one of {', '.join(by_name)}"
        )
    return [by_name[name] for name in dict.fromkeys(by_name if names is None else names)]
