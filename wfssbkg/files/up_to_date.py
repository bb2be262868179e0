"""Is a file up to date? Answered here for all of them."""

from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from astropy.table import Table

from wfssbkg import config
from wfssbkg.errors import StepError
from wfssbkg.files import exposure_table, fits_file
from wfssbkg.layout import Combination, Folder

# The sections of the config that bear on each kind of file.
MASKED = ("mask",)
COMBINED = ("mask", "combine")
FINISHED = ("mask", "combine", "finalize")
COMPARED = ("mask", "combine", "finalize", "compare")

_JUDGED = (exposure_table.ACCEPTED, exposure_table.REJECTED)  # what a background may be made of


def bearing(
    settings: config.Config, sections: Iterable[str], combination: Combination
) -> dict[str, Any]:
    """
    The settings that bear on the pixels of a file.

    Parameters
    ----------
    settings : `~wfssbkg.config.Config`
    sections : iterable of str
        One of `MASKED`, `COMBINED`, `FINISHED`, `COMPARED`.
    combination : `~wfssbkg.layout.Combination`

    Returns
    -------
    dict
        section.key to value.
    """
    other_kind = "combine.trace_scales" if combination.direct else "combine.direct_scales"
    no_pixels = {"finalize.author", other_kind}
    wanted = {name: getattr(settings, name).model_dump(mode="json") for name in sections}
    return {key: value for key, value in config.flat(wanted).items() if key not in no_pixels}


def made_with(path: Path) -> dict[str, Any] | None:
    """The settings a file was made with; None if it is missing, damaged or does not tell them."""
    try:
        with fits_file.opened(path) as hdus:
            fits_file.check_whole(path, hdus)
            return fits_file.read_settings(hdus)
    except StepError:
        return None


def differing(recorded: Mapping[str, Any], wanted: Mapping[str, Any]) -> list[str]:
    """The settings of `wanted` that differ in `recorded`: they put a file out of date.

    A setting that is younger than the file had its default then.
    """
    default = _defaults()
    return [key for key, value in wanted.items() if recorded.get(key, default.get(key)) != value]


@cache
def _defaults() -> dict[str, Any]:
    return config.flat(config.read(config.DEFAULTS).model_dump(mode="json"))


def is_current(path: Path, wanted: Mapping[str, Any], sources: Iterable[Path]) -> bool:
    """
    Whether a file is there, whole, made with these settings, and no older than its sources.

    Parameters
    ----------
    path : `~pathlib.Path`
    wanted : mapping
        From `bearing`.
    sources : iterable of `~pathlib.Path`
        The files it is made of. One that is gone (as rate files are, with query.keep_rates) tells
        nothing.
    """
    recorded = made_with(path)
    return recorded is not None and not differing(recorded, wanted) and is_no_older(path, sources)


def is_no_older(path: Path, sources: Iterable[Path]) -> bool:
    """Whether a file is no older than its sources, as far as these are there."""
    made = path.stat().st_mtime
    return all(made >= source.stat().st_mtime for source in sources if source.exists())


def check_made_with(
    path: Path, settings: config.Config, sections: Iterable[str], combination: Combination, run: str
) -> None:
    """Check that a file, if it is there, was made with the settings of the config.

    A StepError names those that differ, and `run`, the scripts to run first.
    """
    recorded = made_with(path)
    others = differing(recorded or {}, bearing(settings, sections, combination))
    if recorded is not None and others:
        raise StepError(
            f"{path} was made with other settings than the config has: {', '.join(others)}. "
            f"Run {run} first"
        )


def check(
    path: Path, settings: config.Config, sections: Iterable[str], folder: Folder, run: str
) -> str:
    """As `check_made_with`; returns why the folder's combined background is `outdated`, or ''."""
    check_made_with(path, settings, sections, folder.combination, run)
    if not folder.table.exists():
        return ""
    return outdated(folder.background, exposure_table.read(folder.table))


def outdated(background: Path, table: Table) -> str:
    """Why a combined background is out of date, in words; empty if it is not, or is not there.

    `table` is the exposure table as it is now.
    """
    try:
        made_of = exposure_table.read(background)
    except StepError:  # makeBackgrounds.py will tell
        return ""
    now, then = judged(table), judged(made_of)
    return (now != then) * (
        f"{background} is out of date: {len(now - then)} new exposures since, "
        f"{len(then - now)} are no longer used. Run makeMask.py, makeBackgrounds.py and "
        "finalizeBackgrounds.py"
    )


def judged(table: Table) -> set[str]:
    """The exposures of a table that its background is made of, or that were judged for it."""
    return set(table["productFilename"][np.isin(table["status"], _JUDGED)])
