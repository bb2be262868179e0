"""Measure the error of the backgrounds against the known truth of simulated archives.

For each set and seed it simulates the exposures and makes a background of them with each recipe. It
prints the error of the combined and of the finished background in per cent of the sky, the
calibration of its uncertainty, time and memory. At the end it compares them with the targets.

  plain    24 exposures, 8 fields x 3 dithers, without effects, GR150C-F115W and GR150R-F200W
  hard     the same with all effects of demo/effects.py, but 1/f noise is not cleaned
  cleaned  the same with all effects, cleaned by the pipeline's step; the truth is what that leaves
           of the sky, and columns within 30 px of the steps that the mirror makes do not count
  N        4 to 48 exposures, 12 fields x 4 dithers, GR150C-F115W; N-hard: with the effects of hard
  D        8 direct images, 2 fields x 4 dithers, CLEAR-F115W
  alone    a set for each effect by itself (alone-pedestal, ...), GR150C-F115W, one seed

In plain, hard and cleaned the reference, which is what the original's repository does today
(benchmarks/reference.py), works on the same exposures. A finished background, which has no holes,
is scored in all science pixels, a combined one where exposures count. Another run on an archive
that was kept (--keep) uses the image and the times of the reference again.

The default seeds are held out: no setting was chosen with them. Keep it so, and use --seeds 101 or
102 for development. All sets take about three hours on 2 cores. Times are meaningful only on a
machine that does nothing else.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import os
import shutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import yaml
from astropy.io import fits

from benchmarks import metrics, reference, report
from benchmarks.programs import Failed, run_script, time_of
from benchmarks.sets import ALONE, HELD_OUT, SETS, Sample, samples
from demo import archive, crds_cache, detector, optics, score
from demo import run as runner
from wfssbkg import config
from wfssbkg.detector import science_pixels
from wfssbkg.files import exposure_table
from wfssbkg.layout import Combination, Folder
from wfssbkg.mask import sources
from wfssbkg.run.parallel import available_cores

HERE = Path(__file__).resolve().parent
RECIPES = {report.REFERENCE: None, "default": config.DEFAULTS}  # config files; the other has none


STEP_DISTANCE = 30  # px from the mirror's steps, where cleaning takes the sky along with the noise


@dataclass(frozen=True)
class Truth:
    """What the backgrounds of a sample are scored against."""

    sky: np.ndarray
    scored: np.ndarray  # the pixels that count
    near: tuple[np.ndarray, np.ndarray]  # pixels near the spots and the edges of the mirror
    limit: float  # photon limit, as a fraction of the sky


def expected_noise(sample: Sample, rates: Path) -> Iterator[tuple[float, np.ndarray, np.ndarray]]:
    """
    Level, variance and bad pixels of each clean exposure, for `metrics.photon_limit`.

    The level is the simulated one. The variance is VAR_POISSON + VAR_RNOISE of the rate file over
    the square of the reference flat. Bad pixels have a flag that config.yaml calls bad, whatever
    the recipe.
    """
    bits = sources.flag_bits(config.read(config.DEFAULTS).mask.bad_flags)
    for spec in sample.exposures:
        if spec.contamination:
            continue
        with fits.open(rates / spec.filename) as hdus:
            names = "SCI", "DQ", "VAR_POISSON", "VAR_RNOISE"
            sci, dq, photons, reading = (hdus[name].data for name in names)
            flat, _, flat_dq = detector.reference_flat(len(sci), spec.filter)
            variance = (photons + reading) / flat**2
            yield spec.sky_level, variance, sources.bad_pixels(sci, variance, dq | flat_dq, bits)


def checksum(sample: Sample, rates: Path, *code: Path) -> str:
    """Checksum of what determines a product of the rate files of a sample and of some code."""
    made = [fits.getval(rates / spec.filename, archive.RECIPE_KEYWORD) for spec in sample.exposures]
    digest = hashlib.sha256(repr(made).encode())
    for path in code:
        digest.update(path.read_bytes())
    return digest.hexdigest()[:16]


def truth_of(sample: Sample, rates: Path, npix: int) -> Truth:
    """The truth of a sample; that of cleaned exposures takes minutes, and is kept beside them."""
    features = sample.combination.split("-")
    science = science_pixels((npix, npix))
    if sample.cleaned:
        path = rates / f"cleaned-{checksum(sample, rates)}.npy"
        if not path.exists():
            np.save(path, archive.cleaned_truth(sample.exposures, npix))
        sky = np.load(path)
        _, steps = optics.near_features(
            *features, npix, distance=STEP_DISTANCE * optics.frame_scale(npix)
        )
        # Only steps that run along columns: those across them are near a few rows of every column.
        science &= steps.mean(axis=0) < 0.25
    else:
        sky = archive.truth_background(sample.exposures, npix)
    limit = metrics.photon_limit(expected_noise(sample, rates))
    return Truth(sky, science, optics.near_features(*features, npix), limit)


def score_image(sci: np.ndarray, truth: Truth, scored: np.ndarray) -> dict[str, float]:
    """The figures of a background in per cent of the sky."""
    figures = metrics.figures(score.relative_error(sci, truth.sky, scored), *truth.near)
    return {name: 100 * value for name, value in figures.items()}


def score_file(path: Path, truth: Truth, stage: str) -> dict[str, float]:
    """The figures of one of our files, and the calibration of its ERR."""
    with fits.open(path) as hdus:
        sci, err, number = (hdus[name].data for name in ("SCI", "ERR", "NEXP"))
        counts = truth.scored & (number > 0)
        figures = score_image(sci, truth, counts if stage == "combined" else truth.scored)
        return figures | metrics.calibration(sci, err, truth.sky, np.where(counts, number, 0))


def measure(sample: Sample, recipe: str, truth: Truth, options: argparse.Namespace) -> list[dict]:
    """Make a background; returns a row for the combined one (if any) and for the finished one."""
    folder = options.work / "runs" / f"{sample.archive}-{len(sample.exposures)}-{recipe}"
    shutil.rmtree(folder, ignore_errors=True)
    (folder / "rates").mkdir(parents=True)
    for spec in sample.exposures:
        rate = options.work / "archives" / sample.archive / spec.filename
        (folder / "rates" / spec.filename).symlink_to(rate)
    row = {"set": sample.name, "combination": sample.combination, "seed": sample.seed}
    row |= {"exposures": len(sample.exposures), "recipe": recipe, "limit": 100 * truth.limit}
    work = run_reference if recipe == report.REFERENCE else run_recipe
    rows = [row | found for found in work(sample, recipe, folder, truth, options)]
    for row in rows:
        row["seconds"] = sum(row[f"{step}_s"] for step in report.STEPS)
        row["over_limit"] = row["pixel"] / row["limit"]
    if recipe == report.REFERENCE or not options.keep:
        shutil.rmtree(folder)
    return rows


def run_recipe(
    sample: Sample, recipe: str, folder: Path, truth: Truth, options: argparse.Namespace
) -> Iterator[dict]:
    """Run the four scripts with the config of a recipe; yields what they made, scored."""
    grating, blocking = sample.combination.split("-")
    values = yaml.safe_load(options.recipes[recipe].read_text()) or {}
    values |= {"gratings": [grating], "filters": [blocking]}
    values |= {"working_directory": ".", "output_directory": "wfssbackgrounds"}
    values["query"] = (values.get("query") or {}) | {"source": "rates", "gaia_g_limit": None}
    values["compute"] = (values.get("compute") or {}) | {"workers": options.workers}
    settings = folder / "config.yaml"
    settings.write_text(yaml.safe_dump(values))
    _, *usages = [run_script(name, settings, options.work) for name in runner.SCRIPTS]
    mask_s, combine_s, finish_s = (usage.seconds for usage in usages)
    files = Folder(Combination(grating, blocking), folder, folder / "wfssbackgrounds")
    row = {"mask_s": mask_s, "combine_s": combine_s, "again_s": 0.0, "finish_s": finish_s}
    row["peak_gb"] = max(usage.peak_bytes for usage in usages) / 1e9
    row["fates"] = fates(sample, files)
    for stage, path in (("combined", files.background), ("finished", files.finished)):
        yield row | {"stage": stage} | score_file(path, truth, stage)


def run_reference(
    sample: Sample, _: str, folder: Path, truth: Truth, options: argparse.Namespace
) -> Iterator[dict]:
    """Run the steps of the reference, unless its image was kept; yields the image, scored."""
    rates = options.work / "archives" / sample.archive
    kept = rates / f"reference-{checksum(sample, rates, Path(reference.__file__))}.fits"
    if not kept.exists():
        header, where = fits.Header(), {"place": folder, "work": options.work}
        files = [str(rates / spec.filename) for spec in sample.exposures]
        for step in reference.STEPS:
            header[step] = time_of(reference.__file__, step, str(folder), *files, **where)
        fits.writeto(kept, fits.getdata(folder / "reference.fits"), header)
    else:
        print(f"Image and times of the reference are those of an earlier run: {kept}")
    image, header = fits.getdata(kept, header=True)
    row = {f"{step}_s": header[step] for step in reference.STEPS} | {"peak_gb": np.nan}
    row |= dict.fromkeys(report.CALIBRATIONS, np.nan) | {"fates": [], "stage": "finished"}
    yield row | score_image(image, truth, truth.scored)


def warm_up(sample: Sample, truth: Truth, options: argparse.Namespace) -> None:
    """Run each recipe once on few exposures, so that libraries are in memory when time counts."""
    few = replace(sample, exposures=sample.exposures[:4])
    for recipe in options.recipes:
        with contextlib.suppress(Failed):  # they may all be spoilt
            measure(few, recipe, truth, options)


def fates(sample: Sample, files: Folder) -> list[dict[str, str]]:
    """The status of contaminated exposures, and of clean ones that were not simply accepted."""
    kinds = {spec.filename: spec.contamination or "clean" for spec in sample.exposures}
    return [
        {"kind": kinds[row["productFilename"]], "file": row["productFilename"]}
        | {"status": row["status"], "reason": row["reason"]}
        for row in exposure_table.read(files.table)
        if kinds[row["productFilename"]] != "clean"
        or (row["status"], row["reason"]) != (exposure_table.ACCEPTED, "")
    ]


def measure_all(options: argparse.Namespace) -> list[dict]:
    """Measure all samples; returns all rows, which are printed and written one by one."""
    rows: list[dict] = []
    for name in options.sets:
        for combination in SETS[name].combinations:
            seeds = options.seeds or HELD_OUT[combination]
            if combination in options.combination:
                for seed in seeds[:1] if name in ALONE else seeds:
                    measure_archive(samples(name, combination, seed), rows, options)
    return rows


def measure_archive(members: list[Sample], rows: list[dict], options: argparse.Namespace) -> None:
    """Measure the samples of an archive with each recipe, and append the rows."""
    folder = options.work / "archives" / members[0].archive
    wanted = {spec.filename: spec for sample in members for spec in sample.exposures}
    print(f"\n{len(wanted)} exposures in {folder}", flush=True)
    workers = options.workers or available_cores()
    archive.simulate_archive(folder, list(wanted.values()), options.npix, workers, members[0].seed)
    for sample in members:
        truth = truth_of(sample, folder, options.npix)
        if not rows:
            warm_up(sample, truth, options)
        report.print_heading(sample, truth.limit)
        for recipe in options.recipes:
            if recipe == report.REFERENCE and sample.name not in report.REFERENCED:
                continue
            try:
                rows += (made := measure(sample, recipe, truth, options))
            except Failed as failure:  # hours of other runs are not to be lost
                options.failed += 1
                print(f"{recipe} FAILED: {failure}", flush=True)
                continue
            report.print_run(made)
            report.write(rows, options.output)
    if not options.keep:
        shutil.rmtree(folder)


def read_options(arguments: list[str] | None) -> argparse.Namespace:
    """The command line; its `recipes` is a dictionary of names and config files."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.accuracy",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    a = parser.add_argument
    a("--sets", nargs="+", choices=[*SETS, "alone"], metavar="SET", help="default: all",
      default=list(SETS))  # fmt: skip
    a("--combination", action="append", choices=HELD_OUT, help="repeatable; default: all of a set")
    a("--seeds", nargs="+", type=int, help="of the simulation (default: the held-out ones)")
    a("--recipes", nargs="*", choices=RECIPES, default=list(RECIPES), help="default: both")
    a("--config", action="append", type=Path, default=[], metavar="FILE", help="one more recipe, "
      "named as the file; keys that it lacks are those of config.yaml; repeatable")  # fmt: skip
    a("--work", type=Path, default=HERE / "work", metavar="FOLDER", help="needs 8 GB; with --keep "
      "4 GB more for each set, combination and seed")  # fmt: skip
    a("--keep", action="store_true", help="keep runs, and archives, to be used again")
    a("--workers", type=int, help="processes at the same time (default: one per core)")
    a("--output", type=Path, metavar="FILE", help="ECSV of all rows (default: in the work folder)")
    a("--plot", type=Path, metavar="FILE", help="picture of sets N: error, number of exposures")
    a("--npix", type=int, default=optics.FULL_FRAME, help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    wanted = set(options.sets) | (set(ALONE) if "alone" in options.sets else set())
    options.sets = [name for name in SETS if name in wanted]
    options.combination = options.combination or list(HELD_OUT)
    options.recipes = {name: RECIPES[name] for name in options.recipes}
    options.recipes |= {path.stem: path.resolve() for path in options.config}
    options.work = options.work.resolve()
    options.output = options.output or options.work / "accuracy.ecsv"
    options.failed = 0
    return options


def main(arguments: list[str] | None = None) -> int:
    """Measure, then report. The exit status is 1 if a background could not be made."""
    options = read_options(arguments)
    for path in filter(None, options.recipes.values()):
        config.read(path)  # an error is better told before an hour's work than after it
    os.environ.update(runner.environment(options.work))
    combinations = {tuple(combination.split("-")) for combination in options.combination}
    crds_cache.build_cache(options.work / "crds", options.npix, combinations)
    rows = measure_all(options)
    report.print_targets(rows)
    if options.plot:
        report.draw(rows, options.plot)
    print(f"\nAll rows: {options.output}")
    if options.failed:
        print(f"{options.failed} backgrounds could NOT be made: see above")
    return 1 if options.failed else 0


if __name__ == "__main__":
    sys.exit(main())
