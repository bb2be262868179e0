"""Which rate files the sky is subtracted from, and what becomes of each."""

import os
from collections import Counter
from pathlib import Path

from astropy.table import Table

from wfssbkg import layout
from wfssbkg.config import Config
from wfssbkg.errors import ConfigError, StepError
from wfssbkg.files import exposure_table, subtracted_exposure
from wfssbkg.files.rate import PACKED
from wfssbkg.layout import Folder
from wfssbkg.run import messages
from wfssbkg.subtract.exposure import Job, combination_of

_ENDING = "_rate.fits"


def named(paths: list[Path]) -> list[Path]:
    """
    The rate files of a command line: files, and those in folders.

    Parameters
    ----------
    paths : list of `~pathlib.Path`

    Returns
    -------
    list of `~pathlib.Path`
        Without those that have no sky any more.

    Raises
    ------
    ConfigError
        If one of them is neither a rate file nor a folder with some.
    """
    found: list[Path] = []
    for path in paths:
        if path.is_dir():
            inside = [file for file in sorted(path.glob(f"*{_ENDING}")) if not _is_ours(file)]
            if not inside:
                raise ConfigError(f"{path}: no file *{_ENDING} is in this folder")
            found += inside
        else:
            found.append(_checked(path))
    return list(dict.fromkeys(found))


def _is_ours(path: Path) -> bool:
    return path.name.endswith(layout.SUBTRACTED)


def _checked(path: Path) -> Path:
    """What can be seen of a rate file from outside; a ConfigError says what is wrong."""
    problem = ""
    if not path.is_file():
        problem = "there is no such file. Expected rate files, or folders with rate files"
    elif path.suffix.lower().removeprefix(".") in PACKED:
        problem = "it is compressed. Unpack it first, e.g. with gunzip"
    elif _is_ours(path):
        problem = "its sky is subtracted already"
    elif not path.name.endswith(_ENDING):
        problem = f"the name of a rate file ends in {_ENDING}"
    if problem:
        raise ConfigError(f"{path}: {problem}")
    return path


def of_combination(folder: Folder) -> list[Path]:
    """
    The rate files of all exposures of a combination that no rule of the query left out.

    Parameters
    ----------
    folder : `~wfssbkg.layout.Folder`

    Raises
    ------
    StepError
        If there is no exposure table, or none of its rate files is there.
    """
    table = exposure_table.read(folder.table)
    wanted = [
        exposure_table.rate_path(row, folder)
        for row in table
        if row["status"] != exposure_table.EXCLUDED
    ]
    found = [path for path in wanted if path.is_file()]
    if not found:
        raise StepError(
            f"none of the {len(wanted)} rate files of {folder.table} is there. Run queryData.py, "
            "or name rate files"
        )
    if len(found) < len(wanted):
        messages.warn(f"{len(wanted) - len(found)} of {len(wanted)} rate files are not there")
    return found


def jobs(
    rates: list[Path],
    config: Config,
    *,
    background: Path | None,
    output: Path | None,
    mask_only: bool,
    plots: bool,
) -> tuple[list[Job], list[dict]]:
    """
    What is to be done with each rate file, and rows of those with which nothing can be done.

    Parameters
    ----------
    rates : list of `~pathlib.Path`
    config : `~wfssbkg.config.Config`
    background : `~pathlib.Path` or None
        What is subtracted from all; default: the finished background of each combination.
    output : `~pathlib.Path` or None
        Where files are written; default: beside the rate files.
    mask_only, plots : bool
        As in `~wfssbkg.subtract.exposure.Job`.

    Raises
    ------
    ConfigError
        If there is no such background, or two of them would be written to the same file.
    """
    if background and not background.is_file():
        raise ConfigError(f"--background {background}: there is no such file")
    name = layout.wfss_mask if mask_only else layout.subtracted
    outputs = [name(path, output) for path in rates]
    twice = [path for path, count in Counter(outputs).items() if count > 1]
    if twice:
        raise ConfigError(f"two of the rate files would be written to {twice[0]}. Run them apart")
    found, lost = [], []
    for path, target in zip(rates, outputs, strict=True):
        try:
            chosen = background or _finished(path, config)
            if not os.access(target.parent, os.W_OK):
                raise StepError(
                    f"the folder {target.parent} cannot be written to. Name another one with "
                    "--output"
                )
        except StepError as error:
            messages.warn(f"FAILED: {path}: {error}")
            lost.append(subtracted_exposure.failed(path, str(error)))
        else:
            found.append(Job(path, target, chosen, mask_only, plots))
    return found, lost


def _finished(rate: Path, config: Config) -> Path:
    """The finished background of the combination of a rate file."""
    combination = combination_of(rate)
    path = Folder(combination, config.working_directory, config.output_directory).finished
    if not path.exists():
        raise StepError(
            f"{path} does not exist. Make the background of {combination} first, or name one with "
            "--background"
        )
    return path


def write_table(path: Path, rows: list[dict]) -> None:
    """Write the table of all exposures of a run; its folder is made if need be."""
    path.parent.mkdir(parents=True, exist_ok=True)
    names = list(subtracted_exposure.failed(Path(), ""))
    table = Table([[row[name] for row in rows] for name in names], names=names)
    table["level"].unit = table["level_error"].unit = "DN/s"
    table.write(path, format="ascii.ecsv", overwrite=True)
