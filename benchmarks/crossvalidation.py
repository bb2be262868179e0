"""Check the cross-validated figures of compareBackgrounds.py against the truth of simulations.

For each combination and seed of set plain of benchmarks/accuracy.py it runs the scripts, and
compares what left-out exposures leave with what is predicted of the truth: the error of the
finished background after the same smoothing, and, in quadrature, the noise of the exposures: what
they leave of the true background, scored in the same way. They are to agree within 20 %.

With --repeat each part of the fields is left out of the refinement as well, which the scripts do
not do: that tells what it matters that masks, stripes and faint flux are used again.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
from astropy.table import Table

from benchmarks import accuracy, scale, sets
from benchmarks.programs import run_script
from demo import archive, crds_cache, optics, score
from demo import run as runner
from wfssbkg import config
from wfssbkg.combine import background, fields, refinement, stack
from wfssbkg.combine.exposure import Common, Exposure, measure
from wfssbkg.combine.sky import Model
from wfssbkg.compare import comparison, cross_validation, residual
from wfssbkg.compare.cross_validation import CombinedExposures
from wfssbkg.detector import science_pixels
from wfssbkg.files import flicker_noise, lock
from wfssbkg.files.combined_background import Background, Components
from wfssbkg.files.comparison_file import OUT, Comparison, write_background
from wfssbkg.finalize import finish
from wfssbkg.layout import Folder
from wfssbkg.run import command_line, messages
from wfssbkg.run.parallel import Workers, available_cores

HELD_OUT = (9101, 9102)  # seeds that nothing was developed on
TOLERANCE = 0.2
TRUTH = "truth"


def prepare(combination: str, seed: int, options: argparse.Namespace) -> tuple[Path, sets.Sample]:
    """Simulate exposures and run the scripts on them, or what is missing; returns the config."""
    (chosen,) = sets.samples("plain", combination, seed)
    rates = options.work / "archives" / chosen.archive
    workers = options.workers or available_cores()
    archive.simulate_archive(rates, chosen.exposures, options.npix, workers, seed)
    place = options.work / "runs" / f"crossvalidation-{combination}-{seed}"
    settings = place / "config.yaml"
    if not settings.exists():
        names = [spec.filename for spec in chosen.exposures]
        scale.write_config(place, chosen.exposures[0], source=str(rates), exposures=names)
    for script in runner.SCRIPTS:
        run_script(script, settings, options.work)
    return settings, chosen


def error_of(
    made: np.ndarray, truth: np.ndarray, counts: np.ndarray, settings: config.Config
) -> tuple[np.ndarray, float]:
    """The error of a background in per cent of the sky, as a map and, after smoothing, as RMS."""
    error = (100 * score.relative_error(made, truth, counts)).astype(np.float32)
    return error, residual.root_mean_square(residual.smoothed(error, settings.compare))


def compared(
    workers: Workers,
    settings: config.Config,
    folder: Folder,
    others: Mapping[str, np.ndarray] | None = None,
) -> Comparison:
    """As compareBackgrounds.py, with other backgrounds to score as well, and nothing is kept."""
    with lock.hold(folder.lock):
        found = comparison.begin(settings, folder)
        inputs, combine = found.background.inputs, settings.combine
        combined = cross_validation.combined_exposures(settings, folder, inputs)
        comparison.note_limits(found, combined, settings)
        for number, part in enumerate(combined.parts):
            rest = cross_validation.combine_without(
                workers, combine, combined, part, found.background
            )
            finished = finish.finish(workers, settings.finalize, rest)
            cross_validation.write_without(folder, number, finished)
        cross_validation.score(workers, settings, found, combined, others)
        return found


def check(
    found: Comparison, truth: np.ndarray, settings: config.Config
) -> Iterator[tuple[str, float, float, float]]:
    """Figures beside their prediction: name, measured, predicted, of it the background's error."""
    made, scores = found.background, found.scores
    counts = science_pixels(truth.shape) & (made.number > 0)
    error, smooth = error_of(made.sci, truth, counts, settings)
    out, noise = scores[OUT], scores[TRUTH]
    yield "an exposure", out.rms, float(np.hypot(noise.rms, smooth)), smooth
    yield "mean of exposures", out.mean_rms, float(np.hypot(noise.mean_rms, smooth)), smooth
    for name, profile in zip(("column", "row"), residual.profiles(error), strict=True):
        own, of_noise, of_out = map(
            residual.root_mean_square,
            (profile, *(getattr(scored, f"{name}_profile") for scored in (noise, out))),
        )
        yield f"{name} profile, RMS", of_out, float(np.hypot(of_noise, own)), own


def repeated(
    workers: Workers, settings: config.Config, folder: Folder, inputs: Table
) -> dict[str, float]:
    """The cross-validated figures with a refinement of its own for each part of the fields."""
    combined = cross_validation.combined_exposures(settings, folder, inputs)
    rms, of_means = [], []
    for number, part in enumerate(combined.parts):
        place = Folder(folder.combination, folder.path / f"part{number}", folder.path)
        with lock.hold(place.lock):
            of_exposures, of_mean = repeated_part(workers, settings, place, combined, part, inputs)
        rms += of_exposures
        of_means.append(of_mean)
    return {
        "an exposure": float(np.median(rms)),
        "mean of exposures": float(np.median(of_means)),
    }


def repeated_part(
    workers: Workers,
    settings: config.Config,
    place: Folder,
    combined: CombinedExposures,
    part: list[int],
    inputs: Table,
) -> tuple[list[float], float]:
    """What is left of each exposure of a part, and of their mean, all made in a folder."""
    for exposure in combined.members:
        link = place.masked(exposure.name)
        link.unlink(missing_ok=True)
        link.symlink_to(exposure.masked)
    left = [combined.members[k].name for k in part]
    kept = [exposure.name for exposure in combined.members if exposure.name not in left]
    backgrounds = {OUT: cross_validation.file_without(place, 0)}
    sky, finished = refined_without(workers, settings, place, kept, inputs)
    write_background(backgrounds[OUT], finished)
    own = refined_against(settings, place, left, sky)
    rms = [
        cross_validation.measure_exposure(exposure, backgrounds, settings, True)[0][OUT].rms
        for exposure in own.members
    ]
    everything = list(range(len(part)))
    mean, noise = cross_validation.mean_of_part(workers, settings.combine, own, everything)
    models = {OUT: Model.of(finished, 0.0, Components.none())}
    scores, _ = residual.scores_of(mean, noise, np.isfinite(mean), models, settings)
    return rms, scores[OUT].rms


def refined_without(
    workers: Workers, settings: config.Config, place: Folder, names: list[str], inputs: Table
) -> tuple[np.ndarray, np.ndarray]:
    """The bins of a background of some exposures, all from the start; and it, finished."""
    table, settings = inputs.copy(), flicker_noise.settled(settings, inputs)
    members = background.normalise(workers, settings, place, table, names)
    members, common = background.refine(workers, settings, place, table, members)
    sky, *_ = stack.combine_all(workers, settings.combine, members, common, binned=True)
    *images, _ = stack.combine_all(workers, settings.combine, members, common)
    return sky, finish.finish(workers, settings.finalize, Background(*images, inputs)).sci


def refined_against(
    settings: config.Config, place: Folder, names: list[str], sky: np.ndarray
) -> CombinedExposures:
    """Exposures, refined against a background that they have no part in."""
    members = [Exposure.of(place, name) for name in names]
    for exposure in members:
        exposure.read_header()
        exposure.level, exposure.noise, _ = measure(exposure, settings.combine)
    fluxes = refinement.fluxes_to_count(members, settings.combine)
    nothing = Common.nothing(members[0].bins_shape)
    pointings = [exposure.pointing for exposure in members]
    for numbers, offsets in fields.group(pointings, most=refinement.MOST_EXPOSURES):
        field = [members[k] for k in numbers]
        outcomes = refinement.refine_field(field, offsets, sky, nothing, fluxes, settings.combine)
        for exposure, outcome in zip(field, outcomes, strict=True):
            exposure.level = outcome.level
            exposure.next_refined.replace(exposure.refined)
    return CombinedExposures(members, True, [])


def report(combination: str, seed: int, options: argparse.Namespace) -> bool:
    """Print a row for each figure of a combination; whether the first two are as predicted."""
    path, chosen = prepare(combination, seed, options)
    settings = config.read(path)
    (folder,) = command_line.folders(settings)
    truth = archive.truth_background(chosen.exposures, options.npix)
    workers = Workers(settings.compute, need_gb=background.WORKER_GB)
    found = compared(workers, settings, folder, {TRUTH: truth})
    inputs = found.background.inputs
    again = repeated(workers, settings, folder, inputs) if options.repeat else {}
    good = True
    for figure, measured, predicted, own in check(found, truth, settings):
        ratio = measured / predicted
        if figure in ("an exposure", "mean of exposures"):
            good &= abs(ratio - 1) < TOLERANCE
        more = f"{again[figure]:10.4f}" if figure in again else ""
        print(
            f"{folder.combination!s:14}{seed:6}  {figure:28}{measured:10.4f}{predicted:11.4f}"
            f"{ratio:8.3f}{own:10.4f}{more}",
            flush=True,
        )
    for name_of, scored in found.scores.items():
        print(f"{'':22}{name_of:10}{scored.rms:.4f} an exposure, {scored.mean_rms:.4f} of means")
    return good


def main(arguments: list[str] | None = None) -> int:
    """Check all sets and seeds."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.crossvalidation",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    a = parser.add_argument
    a("--combination", action="append", choices=sets.BOTH, help="repeatable; default: both")
    a("--seeds", nargs="+", type=int, default=HELD_OUT, help="default: the held-out ones")
    a("--repeat", action="store_true", help="leave parts out of the refinement as well")
    a("--work", type=Path, default=accuracy.HERE / "work", metavar="FOLDER", help="20 GB")
    a("--workers", type=int, help="processes at the same time (default: one a core)")
    a("--npix", type=int, default=optics.FULL_FRAME, help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    options.work = options.work.resolve()
    os.environ.update(runner.environment(options.work))
    chosen = options.combination or sets.BOTH
    split = {tuple(combination.split("-")) for combination in chosen}
    crds_cache.build_cache(options.work / "crds", options.npix, split)
    messages.quieten(verbose=False)
    print(
        "Simulated; per cent of the sky\n"
        f"{'combination':14}{'seed':>6}  {'figure':28}{'measured':>10}{'predicted':>11}"
        f"{'ratio':>8}{'error':>10}{'  repeated' if options.repeat else ''}",
        flush=True,
    )
    good = [report(combination, seed, options) for combination in chosen for seed in options.seeds]
    print("within 20 %" if all(good) else f"NOT within {TOLERANCE:.0%}")
    return 0 if all(good) else 1


if __name__ == "__main__":
    sys.exit(main())
