"""Is a file up to date? Answered here for all of them."""

from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from astropy.table import Table

from wfssbkg import config
from wfssbkg.errors import StepError
from wfssbkg.files import exposure_table, fits_file, flicker_noise
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
        As `wfssbkg.files.flicker_noise.settled` for the combination.
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
    if settings.mask.flicker_noise == flicker_noise.UNCLEANED:
        no_pixels.add("mask.cleaning")
    if not settings.compare.write_residuals:  # those that are there do no harm
        no_pixels.add("compare.write_residuals")
    wanted = {name: getattr(settings, name).model_dump(mode="json") for name in sections}
    return {key: value for key, value in config.flat(wanted).items() if key not in no_pixels}


def of_subtraction(settings: config.Config) -> dict[str, Any]:
    """The settings that bear on a rate file whose sky is subtracted: section.key to value."""
    wanted = {
        name: getattr(settings, name).model_dump(mode="json")
        for name in ("mask", "combine", "subtract")
    }
    bearing = ("mask.", "subtract.", "combine.trace", "combine.direct", "combine.structure_box")
    return {key: value for key, value in config.flat(wanted).items() if key.startswith(bearing)}


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
    default = config.flat(config.read(config.DEFAULTS).model_dump(mode="json"))
    # Files that do not tell are of a version that cleaned nothing.
    return default | {"mask.flicker_noise": flicker_noise.UNCLEANED}


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


def is_masked(rate: Path, masked: Path, wanted: Mapping[str, Any]) -> bool:
    """
    Whether a masked exposure is there, whole, made with these settings, and of this rate file.

    Parameters
    ----------
    rate, masked : `~pathlib.Path`
        A rate file that is gone (as with query.keep_rates: false) tells nothing.
    wanted : mapping
        From `bearing`.
    """
    if not is_current(masked, wanted, []):
        return False
    with fits_file.opened(masked) as hdus:
        noted = hdus[0].header
    if "SATLEN" in noted:  # made before MASK told which pixels were saturated at once
        return False
    if not rate.exists():
        return True
    if "RATESIZE" not in noted:  # made before this was noted
        return is_no_older(masked, [rate])
    return all(noted.get(key) == value for key, (value, _) in stamp(rate).items())


def stamp(rate: Path) -> dict[str, tuple[int, str]]:
    """Size and time of a rate file, as cards of the header of what is made of it.

    A file that replaces it may have an older date: it is the difference that counts.
    """
    state = rate.stat()
    return {
        "RATESIZE": (state.st_size, "[byte] size of the rate file"),
        "RATETIME": (state.st_mtime_ns, "[ns] its modification time, since 1970"),
    }


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
    return outdated(folder, exposure_table.read(folder.table))


def outdated(
    folder: Folder,
    table: Table,
    run: str = "makeMask.py, makeBackgrounds.py and finalizeBackgrounds.py",
) -> str:
    """Why a combined background is out of date, in words; empty if it is not, or is not there.

    `table` is the exposure table as it is now, `run` names the scripts that are left to do.
    """
    try:
        made_of = exposure_table.read(folder.background)
    except StepError:  # makeBackgrounds.py will tell
        return ""
    now, then = judged(table), judged(made_of)
    former = {row["productFilename"]: row for row in made_of}
    still = [row for row in table if row["productFilename"] in now & then]
    same = {
        row["productFilename"]
        for row in still
        if exposure_table.same_version(row, former[row["productFilename"]])
    }
    again = [name for name in same if not is_no_older(folder.background, [folder.masked(name)])]
    changed = len(still) - len(same)
    numbers = {
        "new": len(now - then),
        "no longer used": len(then - now),
        "reprocessed": changed,
        "masked again": len(again),
    }
    told = ", ".join(f"{number} {what}" for what, number in numbers.items() if number)
    return told and f"{folder.background} is out of date (exposures since: {told}). Run {run}"


def judged(table: Table) -> set[str]:
    """The exposures of a table that its background is made of, or that were judged for it."""
    return set(table["productFilename"][np.isin(table["status"], _JUDGED)])
