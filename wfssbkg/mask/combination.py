"""All exposures of a combination: which are to be masked, what became of them."""

from dataclasses import replace
from pathlib import Path

import numpy as np
from astropy.table import Table

from wfssbkg import pipeline
from wfssbkg.errors import StepError
from wfssbkg.files import exposure_table, flicker_noise, masked_exposure, rate_header, up_to_date
from wfssbkg.files.exposure_table import ACCEPTED, FAILED
from wfssbkg.layout import Folder
from wfssbkg.mask.exposure import mask_exposure
from wfssbkg.run import messages
from wfssbkg.run.command_line import Run

WORKER_GB = 1.2  # the JWST pipeline with one full frame in memory, measured


def settle(run: Run, folder: Folder, table: Table) -> Run:
    """
    Settle whether the background is to be one of exposures whose 1/f noise was cleaned.

    Says so and why, and notes in the table, which is written, which exposures this leaves out.

    Returns
    -------
    `~wfssbkg.run.command_line.Run`
        The same run with the settled `mask.flicker_noise` in its config.
    """
    _look_at_headers(table, folder)
    config = flicker_noise.settled(run.config, table)
    kind = config.mask.flicker_noise
    flicker_noise.exclude(table, kind)
    exposure_table.write(table, folder.table)
    if flicker_noise.could_be_used(table).any():
        messages.say(flicker_noise.in_words(table, run.config.mask.flicker_noise, kind))
    return replace(run, config=config)


def _look_at_headers(table: Table, folder: Folder) -> None:
    """Note what headers tell, also those of files that were replaced since queryData.py."""
    processed = []
    for row, usable in zip(table, flicker_noise.could_be_used(table), strict=True):
        if usable and (found := rate_header.at_hand(row, folder)):
            rate_header.note_in(row, found)
            if found.processed:
                processed.append(f"{row['productFilename']} excluded: {row['reason']}")
    messages.warn_some(processed)


def sort_out(run: Run, folder: Folder, table: Table) -> tuple[list[Path], list[Path], list[Path]]:
    """
    Sort the exposures of a table by what there is to do.

    Returns
    -------
    done, wanted, gone : lists of `~pathlib.Path`
        The rate files that are masked already; that are to be masked; that are to be masked again,
        but were removed.

    Raises
    ------
    StepError
        If there is none at all.
    """
    rates = exposure_table.to_process(table, folder)
    if not len(table):
        raise StepError(
            f"{folder.table} has no exposure: queryData.py found none. Run it again: it says what "
            "it found instead"
        )
    if not rates:
        raise StepError(f"{folder.table} has no accepted exposure. See its column 'reason'")
    settings = up_to_date.bearing(run.config, up_to_date.MASKED, folder.combination)
    failed = set(exposure_table.fates(table)[FAILED])
    done, wanted, gone = [], [], []
    for rate in rates:
        masked = folder.masked(rate.name)
        if (
            not run.overwrite
            and rate.name not in failed
            and up_to_date.is_masked(rate, masked, settings)
        ):
            done.append(rate)
        elif masked.exists() and not rate.exists():
            gone.append(rate)
        else:
            wanted.append(rate)
    return done, wanted, gone


def check_references(run: Run, rates: list[Path]) -> None:
    """Ask CRDS for what some exposures need, or say why it cannot be had."""
    settings = run.config.mask
    cleaning = settings.flicker_noise == flicker_noise.CLEANED
    jobs = [(rates, settings.crds_context, cleaning)]
    run.workers.run_in_order(pipeline.check_references, jobs, description="asking CRDS")


def mask_all(run: Run, folder: Folder, table: Table, rates: list[Path]) -> int:
    """
    Mask exposures, and note the results in the table, which is written at the end.

    Where the pipeline fails on some only, they have a second try after the others: one worker may
    wait in vain for the reference file that another is just downloading.

    Returns
    -------
    int
        How many failed; says which, and why.
    """
    made_with = up_to_date.bearing(run.config, up_to_date.MASKED, folder.combination)
    others = folder.combination, run.config.mask, made_with
    jobs = [(rate, folder.masked(rate.name), *others) for rate in rates]
    outcomes, wanted = {}, jobs
    try:
        for words in ("masking", "masking again"):
            for (rate, *_), outcome in run.workers.run(mask_exposure, wanted, description=words):
                outcomes[rate] = outcome
            wanted = [job for job in jobs if isinstance(outcomes[job[0]], pipeline.PipelineError)]
            if len(wanted) == len(jobs):
                break
    finally:  # after each one it would take longer the more exposures there are
        for rate, outcome in outcomes.items():
            values = {"status": ACCEPTED, "reason": "", "level": np.nan, "masked_fraction": outcome}
            if isinstance(outcome, StepError):
                values = {"status": FAILED, "reason": str(outcome)}
            exposure_table.mark(table, rate.name, **values)
        exposure_table.write(table, folder.table)
    failed = {rate: error for rate, error in outcomes.items() if isinstance(error, StepError)}
    for rate, error in failed.items():
        messages.warn(f"{rate.name} failed: {error}")
    return len(failed)


def note_headers(table: Table, folder: Folder) -> None:
    """
    Note in the table what the headers of masked exposures tell; warns of several flat fields.

    Of an exposure that was masked by a run that was then killed, only its header tells.
    """
    for name in exposure_table.fates(table)[ACCEPTED]:
        header, _ = masked_exposure.read_headers(folder.masked(name))
        values = masked_exposure.flat_field_used(header)
        values["masked_fraction"] = header.get("MASKFRAC", np.nan)
        exposure_table.mark(table, name, **values)
    exposure_table.write(table, folder.table)
    flats = exposure_table.flat_fields(table[table["status"] == ACCEPTED])
    if len(flats) > 1:
        messages.warn(
            f"WARNING: the exposures were divided by different flat fields: {'; '.join(flats)}. "
            "The finished file with the flat field in will be right for exposures like the latest"
        )


def keep_flat(run: Run, folder: Folder, table: Table) -> None:
    """Keep the flat field of the latest exposure for finalizeBackgrounds.py."""
    latest = folder.masked(exposure_table.latest(table))
    jobs = [(latest, folder.flat)]
    try:
        run.workers.run_in_order(pipeline.flat_of, jobs, description="flat field", unit="files")
    except StepError as error:
        messages.warn(
            f"no flat field is kept, finalizeBackgrounds.py will ask for it again: {error}"
        )


def remove_rates(table: Table, folder: Folder, rates: list[Path]) -> None:
    """Remove the rate files of masked exposures, if they are ours and not the user's."""
    names = {rate.name for rate in rates}
    for row in table:
        name = row["productFilename"]
        is_ours = exposure_table.is_downloaded(row)
        if name in names and is_ours and row["status"] != FAILED and folder.rate(name).exists():
            masked_exposure.read(folder.masked(name))  # an error if it is not whole
            folder.rate(name).unlink()
