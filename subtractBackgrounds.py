#!/usr/bin/env python
"""Subtract the sky from rate files, with the backgrounds that were made.

For each rate file, of slitless spectra or direct images, full frame or subarray:
  1. flat-field it with the JWST pipeline, and mask its sources,
  2. fit the finished background of its combination, with scattered light where the archive has
     some, to what is left,
  3. put the flat field back, subtract, and write jw..._bkgsub_rate.fits: the same rate file in all
     else. The pipeline takes it with --steps.bkg_subtract.skip=true.
Rate files are named on the command line, or folders with rate files; or with --combination alone
those that queryData.py found. With --mask-only, only the masks are written, for the background step
of the JWST pipeline.
"""

from __future__ import annotations

from pathlib import Path

from wfssbkg import layout
from wfssbkg.errors import ConfigError, StepError
from wfssbkg.files import subtracted_exposure, up_to_date
from wfssbkg.run import command_line, messages
from wfssbkg.run.command_line import ALL_DONE, SOME_FAILED, Run
from wfssbkg.subtract import rates
from wfssbkg.subtract.exposure import WORKER_GB, Job, subtract

EXTRA_OPTIONS = {
    "rates": {
        "nargs": "*",
        "type": Path,
        "metavar": "RATE",
        "help": "rate files, or folders with rate files",
    },
    "--background": {
        "type": Path,
        "metavar": "FILE",
        "help": "another background than the finished one: ours, of Zenodo, or of CRDS",
    },
    "--output": {
        "type": Path,
        "metavar": "FOLDER",
        "help": "where to write (default: beside each rate file)",
    },
    "--mask-only": {"action": "store_true", "help": "write only masks for the JWST pipeline"},
    "--plots": {"action": "store_true", "help": "write a picture of each exposure as well"},
}


def main() -> int:
    """Walk the rate files."""
    with command_line.start(__doc__, need_gb=WORKER_GB, extra=EXTRA_OPTIONS) as run:
        options = run.options
        if options.output and options.output.is_file():
            raise ConfigError(f"--output {options.output}: it is a file, expected a folder")
        if options.output:
            options.output.mkdir(parents=True, exist_ok=True)
        jobs, rows = rates.jobs(
            wanted(run),
            run.config,
            background=options.background,
            output=options.output,
            mask_only=options.mask_only,
            plots=options.plots,
        )
        rows += subtract_all(run, jobs)
        if not options.mask_only:
            table = layout.subtractions(options.output or run.config.output_directory)
            rates.write_table(table, sorted(rows, key=lambda row: row["rate"]))
            messages.say(f"wrote {table}")
        failed = [row for row in rows if row["status"] == "failed"]
        messages.announce(f"{len(rows) - len(failed)} exposures done, {len(failed)} failed")
        return SOME_FAILED if failed else ALL_DONE


def wanted(run: Run) -> list[Path]:
    """The rate files that are named, or those of the combinations that are named."""
    if run.options.rates:
        return rates.named(run.options.rates)
    if run.options.combination:
        return [path for folder in run.folders for path in rates.of_combination(folder)]
    raise ConfigError("nothing to do: name rate files, folders with rate files, or --combination")


def subtract_all(run: Run, jobs: list[Job]) -> list[dict]:
    """Subtract the sky from all that are not done yet; returns a row for each."""
    noted = up_to_date.of_subtraction(run.config)
    rows, todo = [], []
    for job in jobs:
        stamp = subtracted_exposure.stamp(job.rate, job.background, noted)
        if run.overwrite or job.mask_only or not subtracted_exposure.is_current(job.output, stamp):
            todo.append((job, run.config, noted))
        else:
            rows.append(subtracted_exposure.read_row(job.rate, job.output, job.background))
    if rows:
        messages.say(f"{len(rows)} are up to date")
    for (job, *_), outcome in run.workers.run(subtract, todo, description="subtracting"):
        if isinstance(outcome, StepError):
            messages.warn(f"FAILED: {job.rate}: {outcome}")
            rows.append(subtracted_exposure.failed(job.rate, str(outcome)))
            continue
        if warning := outcome.pop("warning"):
            messages.warn(f"{job.rate.name}: {warning}")
        rows.append(outcome)
        messages.say(
            f"wrote {job.output}: level {outcome['level']:.4f} DN/s, "
            f"{outcome['sky_fraction']:.0%} sky"
            + f", scattered light {outcome['scattered_light']}"
            * bool(outcome["scattered_light"])
        )
    return rows


if __name__ == "__main__":
    command_line.run(main)
