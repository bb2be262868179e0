"""The command line of the scripts, their walk over the combinations, their exit status."""

import argparse
import shlex
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path
from typing import Any, Self

from wfssbkg import __version__, config
from wfssbkg.errors import ClusterError, ConfigError, StepError
from wfssbkg.layout import Combination, Folder
from wfssbkg.run import messages
from wfssbkg.run.parallel import Workers

ALL_DONE, SOME_FAILED, WRONG_USE, INTERRUPTED = 0, 1, 2, 130  # 130: as shells after Ctrl-C


@dataclass
class Run:
    """One run of a script; at the end of its context the workers end.

    Attributes
    ----------
    config : `~wfssbkg.config.Config`
    folders : list of `~wfssbkg.layout.Folder`
        One for each combination to work on.
    overwrite : bool
        Make anew what is there already.
    options : `argparse.Namespace`
        The command line.
    workers : `~wfssbkg.run.parallel.Workers`
    """

    config: config.Config
    folders: list[Folder]
    overwrite: bool
    options: argparse.Namespace
    workers: Workers
    failed: list[str] = field(default_factory=list)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """End the workers."""
        self.workers.close()

    @contextmanager
    def attempt(self, folder: Folder) -> Iterator[None]:
        """Report what went wrong with one combination, and let the others go on."""
        messages.announce(f"\n{folder.combination}")
        messages.screen.subject = f"{folder.combination}: "
        try:
            yield
        except (StepError, OSError) as error:
            self.failed.append(str(folder.combination))
            messages.warn(f"FAILED: {error}")
        finally:
            messages.screen.subject = ""

    def exit_status(self) -> int:
        """The exit status of the script; says which combinations could not be made."""
        if not self.failed:
            return ALL_DONE
        names = ", ".join(self.failed)
        messages.fail(f"\nNot made: {names}. The reason stands above.")
        return SOME_FAILED


def start(
    doc: str,
    arguments: list[str] | None = None,
    *,
    need_gb: float = 0.5,
    extra: dict[str, dict[str, Any]] | None = None,
) -> Run:
    """
    Read command line and config.

    Parameters
    ----------
    doc : str
        The script's docstring: the text of --help.
    arguments : list of str, optional
        Default: the command line.
    need_gb : float
        What a worker of this script needs at most, GB.
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
    parser = argparse.ArgumentParser(
        description=doc,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="Exit status: 0 all done; 1 at least one combination could not be made; "
        "2 the command line or the config is wrong.",
    )
    add = parser.add_argument
    words = "the settings (default: config.yaml beside the script)"
    add("--config", type=Path, default=config.DEFAULTS, metavar="FILE", help=words)
    words = "only this one, e.g. GR150C-F115W; may be repeated (default: all in the config)"
    add("--combination", action="append", metavar="NAME", help=words)
    add("--overwrite", action="store_true", help="make anew what is there already")
    words = "processes at the same time (default: compute.workers of the config)"
    add("--workers", type=_positive, metavar="N", help=words)
    either = parser.add_mutually_exclusive_group().add_argument
    either("--verbose", action="store_true", help="show what the libraries report as well")
    either("--quiet", action="store_true", help="show nothing but warnings and failures")
    words = "append all that is said to this file, with the time; also what --quiet hides"
    add("--log", type=Path, metavar="FILE", help=words)
    add("--version", action="version", version=f"%(prog)s (WFSSBackgrounds {__version__})")
    for name, properties in (extra or {}).items():
        add(name, **properties)
    options = parser.parse_args(arguments)
    messages.screen.quiet = options.quiet
    messages.quieten(verbose=options.verbose)
    if options.log:
        messages.keep_log(options.log)
        command = [parser.prog, *(sys.argv[1:] if arguments is None else arguments)]
        messages.note(f"WFSSBackgrounds {__version__}: {shlex.join(command)}")
    settings = config.read(options.config)
    if options.workers is not None:
        compute = settings.compute.model_copy(update={"workers": options.workers})
        settings = settings.model_copy(update={"compute": compute})
    wanted = folders(settings, options.combination)
    workers = Workers(settings.compute, need_gb=need_gb)
    return Run(settings, wanted, options.overwrite, options, workers)


def run(main: Callable[[], int]) -> None:
    """Run a script's `main` and leave with its exit status, without a traceback for a user."""
    try:
        status = main()
    except (ConfigError, StepError, ClusterError, OSError) as error:
        messages.fail(str(error))
        status = WRONG_USE if isinstance(error, ConfigError) else SOME_FAILED
    except KeyboardInterrupt:
        messages.fail("\nInterrupted. Run the same command again to go on.")
        status = INTERRUPTED
    except Exception:
        messages.note_error()
        raise
    messages.note(f"exit status {status}")
    sys.exit(status)


class Moved(argparse.Action):
    """An option that is elsewhere now, and says where."""

    def __init__(self, option_strings: list[str], dest: str, to: str) -> None:
        super().__init__(option_strings, dest, nargs="*", help=argparse.SUPPRESS)
        self.to = to

    def __call__(self, parser: argparse.ArgumentParser, *_: Any) -> None:
        """Say where, and end with the exit status of a wrong command line."""
        parser.error(f"{self.option_strings[0]} has moved: use {self.to}")


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"expected a whole number above 0, found '{text}'")
    return int(text)


def folders(settings: config.Config, names: list[str] | None = None) -> list[Folder]:
    """The folders of the config's combinations, or of those named; a ConfigError names others."""
    paths = settings.working_directory, settings.output_directory
    pairs = product(settings.gratings, settings.filters)
    by_name = {"-".join(pair): Folder(Combination(*pair), *paths) for pair in pairs}
    unknown = [name for name in names or [] if name not in by_name]
    if unknown:
        raise ConfigError(
            f"--combination {unknown[0]}: not among the config's gratings and filters. "
            f"Expected one of {', '.join(by_name)}"
        )
    return [by_name[name] for name in dict.fromkeys(by_name if names is None else names)]
