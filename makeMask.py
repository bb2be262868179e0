#!/usr/bin/env python
"""Step 2 of 5: flat-field every exposure and mask its sources.

For each accepted exposure of the exposure table (run queryData.py first):
  1. flat-field it with the JWST pipeline,
  2. measure a rudimentary background with sep,
  3. detect sources on the image minus that background,
  4. mask all of them, and write the masked exposure.
The flat field is kept for finalizeBackgrounds.py.
Next: makeBackgrounds.py.
With --wfss-mask, the same is done to the rate files that are named, of any subarray, and only their
masks are written, for the background step of the JWST pipeline.
"""

from __future__ import annotations

if __name__ == "__main__":  # the imports below take a while
    from wfssbkg import interrupted

    interrupted.ends_at_once()

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from astropy.table import Table

from wfssbkg import (
    StepError,
    cli,
    exposures,
    flatfield,
    layout,
    lock,
    mask,
    masked,
    parallel,
    products,
    progress,
)
from wfssbkg.config import ConfigError, Mask, fingerprint
from wfssbkg.layout import Combination, Folder

WORKER_GB = 1.2  # the JWST pipeline with one full frame in memory, measured
EXTRA_OPTIONS = {
    "--wfss-mask": {
        "nargs": "+",
        "type": Path,
        "metavar": "RATE",
        "help": "only write, beside each of these rate files, its mask for the JWST pipeline",
    }
}


def find_sources(
    rate: Path, settings: Mask, combination: Combination | None = None
) -> tuple[flatfield.FlatFielded, np.ndarray, np.ndarray, np.ndarray]:
    """Flat-field a rate file; returns it, the noise of its sky, its bad pixels and its sources."""
    exposure = flatfield.flat_field(rate, context=settings.crds_context, combination=combination)
    bits = mask.flag_bits(settings.bad_flags)
    variance = exposure.var_poisson + exposure.var_rnoise
    science = products.science_pixels(exposure.sci.shape)
    bad = mask.bad_pixels(exposure.sci, variance, exposure.dq, bits) | ~science

    sky = mask.sky_background(
        exposure.sci, bad, box=settings.background_box, filter_size=settings.background_filter
    )
    noise = mask.sky_noise(exposure.sci, exposure.var_poisson, exposure.var_rnoise, sky, bad)
    sources = mask.find_sources(
        exposure.sci - sky,
        noise,
        bad,
        kernel_fwhm=settings.kernel_fwhm,
        threshold=settings.threshold,
        minimum_area=settings.minimum_area,
        growth=settings.growth,
    )
    return exposure, noise, bad, sources


def mask_exposure(rate: Path, output: Path, combination: Combination, settings: Mask) -> float:
    """Make the masked exposure of a rate file; returns the fraction of the sky that is masked."""
    exposure, noise, bad, sources = find_sources(rate, settings, combination)
    fraction = float((bad | sources)[products.science_pixels(bad.shape)].mean())
    bits = bad * np.uint8(masked.BAD) | sources * np.uint8(masked.SOURCE)
    masked.write(
        output,
        sci=exposure.sci,
        err=noise,
        mask=bits,
        header=exposure.header,
        pointing=exposure.pointing,
        saturated=mask.saturated_length(exposure.dq, along_x=combination.along_x),
        fraction=fraction,
        settings=fingerprint(settings),
        along_x=combination.along_x,
    )
    if not masked.is_written(output, exposure.sci, noise, bits):
        output.unlink()
        raise StepError(f"{output} does not hold what was written to it: is the disk sound?")
    return fraction


def write_wfss_mask(rate: Path, output: Path, settings: Mask) -> None:
    """Write the mask of a rate file for the JWST pipeline."""
    exposure, _, bad, sources = find_sources(rate, settings)
    sky = ~(bad | sources)
    masked.write_wfss_mask(output, sky, header=exposure.header, settings=fingerprint(settings))


def mask_combination(run: cli.Run, folder: Folder) -> None:
    """Mask every accepted exposure of a combination that is not masked yet."""
    table = exposures.read(folder.table)
    rates = exposures.to_process(table, folder)
    if not rates:
        raise StepError(f"{folder.table} has no accepted exposure. See its column 'reason'")
    cli.warn(products.doubtful(folder.combination, len(rates)))
    settings = fingerprint(run.config.mask)
    failed = set(exposures.fates(table)[exposures.FAILED])
    done = [
        rate
        for rate in rates
        if not run.overwrite
        and rate.name not in failed
        and masked.is_current(folder.masked(rate.name), rate=rate, settings=settings)
    ]
    gone = [
        rate
        for rate in set(rates) - set(done)
        if folder.masked(rate.name).exists() and not rate.exists()
    ]
    note_done(table, folder, done)
    wanted = [rate for rate in rates if rate not in {*done, *gone}]
    failures = mask_all(run, folder, table, wanted)
    if not run.config.query.keep_rates:
        remove_rates(table, folder, {rate.name for rate in [*done, *wanted]})
    for failure in failures:
        cli.warn(failure)
    if wanted:
        masked_now = len(wanted) - len(failures)
        cli.say(f"{masked_now} masked, {len(done)} were masked already, {len(failures)} failed")
    elif not gone:
        cli.say(f"nothing to do: {len(done)} were masked already")
    if gone:
        raise StepError(
            f"{len(gone)} exposures have to be masked again, and their rate files were removed "
            "(query.keep_rates in the config). Run queryData.py to download them again"
            + (", with --overwrite as well" if run.overwrite else "")
        )
    fractions = table["masked_fraction"][table["status"] == exposures.ACCEPTED]
    if not len(fractions):
        raise StepError("no exposure could be masked")
    if wanted:
        keep_flat(run, folder, table)
    cli.say(
        f"masked fraction {np.min(fractions):.0%} to {np.max(fractions):.0%}, "
        f"median {np.median(fractions):.0%}"
    )
    cli.warn(products.outdated(folder.background, table))


def note_done(table: Table, folder: Folder, done: list[Path]) -> None:
    """Note in the table what a run that was killed could not: exposures that are masked."""
    names = {rate.name for rate in done}
    for row in table:
        if row["productFilename"] in names and np.isnan(row["masked_fraction"]):
            header, _ = masked.read_headers(folder.masked(row["productFilename"]))
            row["masked_fraction"] = header.get("MASKFRAC", np.nan)


def mask_all(run: cli.Run, folder: Folder, table: Table, rates: list[Path]) -> list[str]:
    """Mask some exposures, and note it in the table; returns what failed, in words."""
    failures = []
    try:
        for rate, outcome in mask_each(run, folder, rates):
            if isinstance(outcome, StepError):
                failures.append(f"{rate.name} failed: {outcome}")
                exposures.mark(table, rate.name, status=exposures.FAILED, reason=str(outcome))
            else:
                values = {"level": np.nan, "masked_fraction": outcome}
                exposures.mark(table, rate.name, status=exposures.ACCEPTED, reason="", **values)
    finally:  # not after each: that would take longer the more exposures there are
        exposures.write(table, folder.table)
    return failures


def mask_each(
    run: cli.Run, folder: Folder, rates: list[Path]
) -> Iterator[tuple[Path, float | StepError]]:
    """Mask some exposures; yields each with the fraction that is masked, or what went wrong.

    Where the pipeline fails on some only, they have a second try after the others: one worker may
    wait in vain for the reference file that another is just downloading.
    """
    jobs = [(r, folder.masked(r.name), folder.combination, run.config.mask) for r in rates]
    options = {"compute": run.config.compute, "need_gb": WORKER_GB}
    failed = []
    for job, outcome in parallel.run(mask_exposure, jobs, description="masking", **options):
        if isinstance(outcome, flatfield.PipelineError):
            failed.append((job, outcome))
        else:
            yield job[0], outcome
    if failed and len(failed) < len(jobs):
        again = [job for job, _ in failed]
        failed = parallel.run(mask_exposure, again, description="masking again", **options)
    for job, outcome in failed:
        yield job[0], outcome


def keep_flat(run: cli.Run, folder: Folder, table: Table) -> None:
    """Keep the flat field for finalizeBackgrounds.py, by a worker that has loaded the pipeline."""
    latest = folder.masked(exposures.latest(table))
    options = {"compute": run.config.compute, "need_gb": WORKER_GB}
    try:
        parallel.begin(flatfield.flat_of, latest, folder.flat, **options)()
    except StepError as error:
        cli.warn(f"no flat field is kept, finalizeBackgrounds.py will ask for it again: {error}")


def remove_rates(table: Table, folder: Folder, names: set[str]) -> None:
    """Remove the rate files of masked exposures, if they are ours and not the user's."""
    done = [
        row["productFilename"]
        for row in table
        if row["productFilename"] in names
        and row["status"] != exposures.FAILED
        and exposures.is_downloaded(row)
    ]
    present = [name for name in done if folder.rate(name).exists()]
    for name in progress.each(present, "removing rate files", "file"):
        masked.read(folder.masked(name))  # an error if it is not whole
        folder.rate(name).unlink(missing_ok=True)


def wfss_masks(run: cli.Run, rates: list[Path]) -> int:
    """Write the masks of some rate files for the JWST pipeline; returns the exit status."""
    for rate in rates:
        if not rate.is_file():
            raise ConfigError(f"--wfss-mask {rate}: there is no such file. Expected rate files")
    jobs = [(rate, layout.wfss_mask(rate), run.config.mask) for rate in dict.fromkeys(rates)]
    options = {"compute": run.config.compute, "need_gb": WORKER_GB, "description": "masking"}
    failed = False
    for (rate, output, _), outcome in parallel.run(write_wfss_mask, jobs, **options):
        if isinstance(outcome, StepError):
            failed = True
            cli.warn(f"FAILED: {rate}: {outcome}")
        else:
            cli.say(f"wrote {output}")
    return cli.SOME_FAILED if failed else cli.ALL_DONE


def main() -> int:
    """Walk the combinations."""
    run = cli.start(__doc__, extra=EXTRA_OPTIONS)
    if run.options.wfss_mask:
        return wfss_masks(run, run.options.wfss_mask)
    for folder in run.folders:
        with run.attempt(folder), lock.hold(folder.lock):
            mask_combination(run, folder)
    return run.exit_status()


if __name__ == "__main__":
    cli.run(main)
