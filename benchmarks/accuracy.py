"""Measure the error of the backgrounds against the known truth of simulated archives.

For each set and seed it simulates the exposures and runs four scripts on them with each recipe. It
prints the error of the combined and of the finished background in per cent of the sky, the
calibration of its uncertainty, time and memory. At the end it compares them with the targets.

  A  24 exposures, 6 fields x 4 dithers, GR150C-F115W    B  the same, GR150R-F200W
  C  A and 6 contaminated exposures                      N  4 to 48 exposures, 12 fields x 4 dithers
  D  8 direct images, 2 fields x 4 dithers, CLEAR-F115W

The default seeds are held out: no setting was chosen with them. Keep it so, and use --seeds 101 or
102 for development. Times are meaningful only on a machine that does nothing else.
"""

from __future__ import annotations

import argparse
import itertools
import os
import shutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import yaml
from astropy.io import fits

from benchmarks import metrics, report
from demo import archive, crds_cache, detector, optics, score
from demo import run as runner
from wfssbkg import config
from wfssbkg.detector import science_pixels
from wfssbkg.files import exposure_table
from wfssbkg.layout import Combination, Folder
from wfssbkg.mask import sources
from wfssbkg.run.parallel import available_cores

HERE = Path(__file__).resolve().parent
RECIPES = {report.BASE: HERE / "published.yaml", "default": config.DEFAULTS}
# Grating, blocking filter, fields, dithers, whether with contaminated exposures.
SETS = {
    "A": ("GR150C", "F115W", 6, 4, False),
    "B": ("GR150R", "F200W", 6, 4, False),
    "C": ("GR150C", "F115W", 6, 4, True),
    "N": ("GR150C", "F115W", 12, 4, False),
    "D": ("CLEAR", "F115W", 2, 4, False),
}
# Never used for development. C contains the exposures of A, so that the two can be compared.
HELD_OUT = {
    "A": (8109, 8110), "B": (8207, 8208), "C": (8109, 8110), "N": (8305, 8306), "D": (8403, 8404),
}  # fmt: skip
NUMBERS = (4, 8, 16, 24, 48)  # exposures of set N


@dataclass(frozen=True)
class Sample:
    """The exposures of one background; `archive` names the simulated archive that has them."""

    name: str  # of the set
    seed: int
    archive: str
    exposures: list[archive.Exposure]


def samples(name: str, seed: int) -> list[Sample]:
    """The samples of a set: one, or in set N one for each number of exposures."""
    everything = archive.accuracy_exposures(seed, *SETS[name])
    grating, filter_name, fields, dithers, _ = SETS[name]
    where = f"{grating}-{filter_name}-{fields}x{dithers}-{seed}"
    chosen = [subset(everything, number) for number in NUMBERS] if name == "N" else [everything]
    return [Sample(name, seed, where, kept) for kept in chosen]


def subset(everything: list[archive.Exposure], number: int) -> list[archive.Exposure]:
    """
    A number of exposures spread over the fields, with the same mean information as all exposures.

    As often as possible there is a dither from every field. For the rest there is one more from
    some fields: from those whose mean information is nearest to that of all exposures.
    """
    by_place = {(spec.field, spec.dither): spec for spec in everything}
    fields = sorted({spec.field for spec in everything})
    mean = np.mean([information(spec) for spec in everything])
    rounds, rest = divmod(number, len(fields))

    def distance(chosen: tuple[int, ...]) -> float:
        return abs(sum(information(by_place[field, 1]) - mean for field in chosen))

    extra = min(itertools.combinations(fields, rest), key=distance)
    places = [*itertools.product(fields, range(1, rounds + 1)), *((f, rounds + 1) for f in extra)]
    return [by_place[place] for place in places]


def information(spec: archive.Exposure) -> float:
    """(level/noise)^2 of a pixel of an exposure."""
    return (spec.sky_level / detector.pixel_noise(spec.sky_level, spec.exposure_time)) ** 2


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


def run_scripts(folder: Path, work: Path) -> list[runner.Usage]:
    """Run the four scripts with the config in `folder`, and watch their time and memory."""
    usages = []
    for name in runner.SCRIPTS:
        with (folder / "log.txt").open("ab") as log:
            usage = runner.run_script(name, folder / "config.yaml", work, log)
        usages.append(usage)
        if usage.status:
            print((folder / "log.txt").read_text()[-2000:], file=sys.stderr)
            sys.exit(f"{name} ended with exit status {usage.status}: see {folder}/log.txt")
    return usages


def score_file(path: Path, truth: np.ndarray, near: tuple[np.ndarray, np.ndarray]) -> dict:
    """The figures of a background file in per cent, and the calibration of its ERR."""
    with fits.open(path) as hdus:
        sci, err, number = (hdus[name].data for name in ("SCI", "ERR", "NEXP"))
        good = science_pixels(sci.shape) & (number > 0)
        figures = metrics.figures(score.relative_error(sci, truth, good), *near)
        calibration = metrics.calibration(sci, err, truth, np.where(good, number, 0))
    return {name: 100 * value for name, value in figures.items()} | calibration


def measure(sample: Sample, recipe: str, limit: float, options: argparse.Namespace) -> list[dict]:
    """Make a background; returns a row for the combined one and a row for the finished one."""
    first = sample.exposures[0]
    folder = options.work / "runs" / f"{sample.name}{len(sample.exposures)}-{sample.seed}-{recipe}"
    shutil.rmtree(folder, ignore_errors=True)
    (folder / "rates").mkdir(parents=True)
    for spec in sample.exposures:
        rate = options.work / "archives" / sample.archive / spec.filename
        (folder / "rates" / spec.filename).symlink_to(rate)
    values = yaml.safe_load(options.recipes[recipe].read_text()) or {}
    values |= {"gratings": [first.grating], "filters": [first.filter]}
    values |= {"working_directory": ".", "output_directory": "wfssbackgrounds"}
    values["query"] = (values.get("query") or {}) | {"source": "rates", "gaia_g_limit": None}
    values["compute"] = (values.get("compute") or {}) | {"workers": options.workers}
    (folder / "config.yaml").write_text(yaml.safe_dump(values))
    usages = run_scripts(folder, options.work)[1:]

    files = Folder(Combination(first.grating, first.filter), folder, folder / "wfssbackgrounds")
    truth = archive.truth_background(sample.exposures, options.npix)
    near = optics.near_features(first.grating, first.filter, options.npix)
    row = {"set": sample.name, "seed": sample.seed, "exposures": len(sample.exposures)}
    row |= {"recipe": recipe, "limit": 100 * limit, "fates": fates(sample, files)}
    row |= {f"{step}_s": usage.seconds for step, usage in zip(report.STEPS, usages, strict=True)}
    row["seconds"] = sum(usage.seconds for usage in usages)
    row["peak_gb"] = max(usage.peak_bytes for usage in usages) / 1e9
    rows = [
        row | {"stage": stage} | (figures := score_file(path, truth, near))
        | {"over_limit": figures["pixel"] / row["limit"]}
        for stage, path in (("combined", files.background), ("finished", files.finished))
    ]  # fmt: skip
    if not options.keep:
        shutil.rmtree(folder)
    return rows


def warm_up(sample: Sample, options: argparse.Namespace) -> None:
    """Run each recipe once on few exposures, so that libraries are in memory when time counts."""
    for recipe in options.recipes:
        measure(replace(sample, exposures=sample.exposures[:4]), recipe, 1.0, options)


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
    archives: dict[str, list[Sample]] = {}
    for name in options.sets:
        for seed in options.seeds or HELD_OUT[name]:
            for sample in samples(name, seed):
                archives.setdefault(sample.archive, []).append(sample)
    rows: list[dict] = []
    for where, members in archives.items():
        folder = options.work / "archives" / where
        wanted = {spec.filename: spec for sample in members for spec in sample.exposures}
        print(f"\n{len(wanted)} exposures in {folder}", flush=True)
        workers = options.workers or available_cores()
        archive.simulate_archive(
            folder, list(wanted.values()), options.npix, workers, members[0].seed
        )
        if not rows:
            warm_up(members[0], options)
        for sample in members:
            limit = metrics.photon_limit(expected_noise(sample, folder))
            report.print_heading(sample.name, sample.seed, len(sample.exposures), limit)
            for recipe in options.recipes:
                if sample.name != "N" or recipe != report.BASE:
                    rows += measure(sample, recipe, limit, options)
                    report.print_run(rows[-2:])
                    report.write(rows, options.output)
        if not options.keep:
            shutil.rmtree(folder)
    return rows


def read_options(arguments: list[str] | None) -> argparse.Namespace:
    """The command line; its `recipes` is a dictionary of names and config files."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.accuracy",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    a = parser.add_argument
    a("--sets", nargs="+", choices=SETS, default=["A", "B", "C"], help="default: A B C")
    a("--seeds", nargs="+", type=int, help="of the simulation (default: the held-out ones)")
    a("--recipes", nargs="*", choices=RECIPES, default=list(RECIPES), help="default: both")
    a("--config", action="append", type=Path, default=[], metavar="FILE", help="one more recipe, "
      "named as the file; keys that it lacks are those of config.yaml; repeatable")  # fmt: skip
    a("--work", type=Path, default=HERE / "work", metavar="FOLDER", help="needs 3 to 20 GB")
    a("--keep", action="store_true", help="keep runs, and archives, to be used again")
    a("--workers", type=int, help="processes at the same time (default: one per core)")
    a("--output", type=Path, metavar="FILE", help="ECSV of all rows (default: in the work folder)")
    a("--plot", type=Path, metavar="FILE", help="picture of set N: error, number of exposures")
    a("--npix", type=int, default=optics.FULL_FRAME, help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    options.recipes = {name: RECIPES[name] for name in options.recipes}
    options.recipes |= {path.stem: path.resolve() for path in options.config}
    options.work = options.work.resolve()
    options.output = options.output or options.work / "accuracy.ecsv"
    return options


def main(arguments: list[str] | None = None) -> int:
    """Measure, then report."""
    options = read_options(arguments)
    for path in options.recipes.values():
        config.read(path)  # an error is better told before an hour's work than after it
    os.environ.update(runner.environment(options.work))
    combinations = {(grating, filter_name) for grating, filter_name, *_ in SETS.values()}
    crds_cache.build_cache(options.work / "crds", options.npix, combinations)
    rows = measure_all(options)
    report.print_targets(rows)
    if options.plot:
        report.draw(rows, options.plot)
    print(f"\nAll rows: {options.output}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
