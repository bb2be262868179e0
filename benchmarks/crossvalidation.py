"""Check the cross-validated figures of compareBackgrounds.py against the truth of simulations.

For each set and seed of benchmarks/accuracy.py (A: GR150C-F115W, B: GR150R-F200W) it runs the
scripts, and compares what left-out exposures leave with what is predicted of the truth: the error
of the finished background after the same smoothing, and, in quadrature, the noise of the exposures:
what they leave of the true background, scored in the same way. They are to agree within 20 %.

With --repeat each part of the fields is left out of the refinement as well, which the scripts do
not do: that tells what it matters that masks, stripes and faint light are used again.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from benchmarks import accuracy, scale
from demo import archive, crds_cache, optics
from demo import run as runner
from wfssbkg import (
    background,
    cli,
    compare,
    config,
    exposures,
    parallel,
    products,
    refine,
    residual,
    sample,
    selection,
)
from wfssbkg import crossvalidation as cross
from wfssbkg.layout import Folder

HELD_OUT = (9101, 9102)  # seeds that nothing was developed on
TOLERANCE = 0.2
TRUTH = "truth"


def prepare(name: str, seed: int, options: argparse.Namespace) -> tuple[Path, accuracy.Sample]:
    """Simulate a set and run the scripts on it, or what is missing; returns its config."""
    (chosen,) = accuracy.samples(name, seed)
    rates = options.work / "archives" / chosen.archive
    workers = options.workers or parallel.available_cores()
    archive.simulate_archive(rates, chosen.exposures, options.npix, workers, seed)
    place = options.work / "runs" / f"crossvalidation-{name}-{seed}"
    settings = place / "config.yaml"
    if not settings.exists():
        names = [spec.filename for spec in chosen.exposures]
        scale.write_config(place, chosen.exposures[0], source=str(rates), exposures=names)
    for script in runner.SCRIPTS:
        scale.run_script(script, settings, options.work)
    return settings, chosen


def error_of(background: np.ndarray, truth: np.ndarray, counts: np.ndarray, settings) -> np.ndarray:  # noqa: ANN001
    """The error of a background against the truth, per cent of the sky; NaN where not counted."""
    ratio = np.where(counts, background / np.where(counts, truth, 1), np.nan)
    return (100 * (ratio / np.nanmedian(ratio) - 1)).astype(np.float32)


def compared(settings: config.Config, folder: Folder, truth: np.ndarray) -> compare.Comparison:
    """As compareBackgrounds.py, with the truth as one more background."""
    try:
        return compare.compare(settings, folder, {TRUTH: truth})
    finally:
        folder.remove_compared()


def check(
    comparison: compare.Comparison, truth: np.ndarray, settings: config.Config
) -> Iterator[tuple[str, float, float, float]]:
    """Figures beside their prediction: name, measured, predicted, of it the background's error."""
    made = comparison.background
    counts = products.science_pixels(truth.shape) & (made.number > 0)
    error = error_of(made.sci, truth, counts, settings)
    known = residual.smooth(counts, settings.compare.smoothing)
    smooth = residual.root_mean_square(residual.smoothed(error, known, settings.compare))
    scores, noise = comparison.scores, comparison.scores[TRUTH]
    out = scores[compare.OUT]
    yield "an exposure", out.rms, float(np.hypot(noise.rms, smooth)), smooth
    yield "mean of exposures", out.mean_rms, float(np.hypot(noise.mean_rms, smooth)), smooth
    yield "error", out.error, smooth, smooth
    for name, profile in zip(("column", "row"), residual.profiles(error), strict=True):
        own, of_noise, of_out = (
            residual.root_mean_square(x)
            for x in (
                profile,
                getattr(noise, f"{name}_profile"),
                getattr(out, f"{name}_profile"),
            )
        )
        yield f"{name} profile, RMS", of_out, float(np.hypot(of_noise, own)), own
    if comparison.official is not None:
        counts = np.isfinite(comparison.official)
        error = error_of(comparison.official, truth, counts, settings)
        known = residual.smooth(counts, settings.compare.smoothing)
        smooth = residual.root_mean_square(residual.smoothed(error, known, settings.compare))
        yield "error of the reference file", scores[compare.OFFICIAL].error, smooth, smooth


def repeated(settings: config.Config, folder: Folder, inputs) -> dict[str, float]:  # noqa: ANN001
    """The cross-validated figures with a refinement of its own for each part of the fields."""
    made_of = cross.sample(settings, folder, inputs)
    rms, squares, crosses = [], [], []
    for number, part in enumerate(cross.parts(settings, made_of)):
        place = Folder(folder.combination, folder.path / f"part{number}", folder.path)
        place.path.mkdir(parents=True, exist_ok=True)
        for exposure in made_of.members:
            link = place.masked(exposure.name)
            link.unlink(missing_ok=True)
            link.symlink_to(exposure.masked)
        left = [exposure.name for k, exposure in enumerate(made_of.members) if k in part]
        table = exposures.read(folder.table)
        names = [e.name for k, e in enumerate(made_of.members) if k not in part]
        rest, common, _ = selection.refined(settings, place, table, names)
        sky, *_ = background.combine_all(settings, rest, common, in_cells=True)
        *images, _ = background.combine_all(settings, rest, common)
        combined = products.Background(*images, inputs)
        background.destripe(settings, combined.sci, None, along_x=folder.combination.along_x)
        path = {compare.OUT: place.compared(compare.OUT)}
        cross.write_image(path[compare.OUT], background.finish(settings, combined).sci)
        members = [sample.Exposure.of(place, name) for name in left]
        for exposure in members:
            exposure.level, exposure.noise, exposure.pointing, _ = sample.measure(
                exposure, settings.combine
            )
        fluxes = refine.fluxes_to_count(members, settings.combine)
        list(background.refine_all(settings, members, sky, None, fluxes))
        found = [cross._stripes(exposure) for exposure in members]
        own = cross.Sample(members, made_of.share[part], True, *map(np.array, zip(*found)))  # noqa: B905
        for exposure in members:
            scored = residual.of_exposure(exposure, path, settings.compare, True)
            rms.append(scored.rms[compare.OUT])
        halves = cross.halves(own, list(range(len(members))))
        means = [place.compared(f"mean{k}") for k in range(len(halves))]
        for mean, half in zip(means, halves, strict=True):
            cross.write_image(mean, *cross.mean(settings, own, half))
        square, product = residual.of_means(means, path, settings.compare)
        squares.append(square[compare.OUT])
        crosses.append(product[compare.OUT])
    return {
        "an exposure": float(np.median(rms)),
        "mean of exposures": float(np.sqrt(np.median(squares))),
        "error": float(np.sqrt(max(np.average(crosses, weights=np.array(squares) ** -2.0), 0))),
    }


def report(name: str, seed: int, options: argparse.Namespace) -> bool:
    """Print a row for each figure of a set; whether the first two are as predicted."""
    path, chosen = prepare(name, seed, options)
    settings = config.read(path)
    (folder,) = cli.folders(settings)
    truth = archive.truth_background(chosen.exposures, options.npix)
    comparison = compared(settings, folder, truth)
    again = repeated(settings, folder, comparison.background.inputs) if options.repeat else {}
    good = True
    for figure, measured, predicted, own in check(comparison, truth, settings):
        ratio = measured / predicted
        if figure in ("an exposure", "mean of exposures"):
            good &= abs(ratio - 1) < TOLERANCE
        more = f"{again[figure]:10.4f}" if figure in again else ""
        print(
            f"{folder.combination!s:14}{seed:6}  {figure:28}{measured:10.4f}{predicted:11.4f}"
            f"{ratio:8.3f}{own:10.4f}{more}",
            flush=True,
        )
    figures = comparison.figures()
    figures["seed"] = seed
    print(figures["scored", "rms", "mean_rms", "error"], flush=True)
    for note in comparison.notes:
        print(note)
    return good


def main(arguments: list[str] | None = None) -> int:
    """Check all sets and seeds."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.crossvalidation",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    a = parser.add_argument
    a("--sets", nargs="+", choices=("A", "B"), default=["A", "B"], help="default: both")
    a("--seeds", nargs="+", type=int, default=HELD_OUT, help="default: the held-out ones")
    a("--repeat", action="store_true", help="leave parts out of the refinement as well")
    a("--work", type=Path, default=accuracy.HERE / "work", metavar="FOLDER", help="20 GB")
    a("--workers", type=int, help="processes at the same time (default: one a core)")
    a("--npix", type=int, default=optics.FULL_FRAME, help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    options.work = options.work.resolve()
    os.environ.update(runner.environment(options.work))
    combinations = {accuracy.SETS[name][:2] for name in options.sets}
    crds_cache.build_cache(options.work / "crds", options.npix, combinations)
    cli.quieten(verbose=False)
    print(
        "Simulated; per cent of the sky\n"
        f"{'combination':14}{'seed':>6}  {'figure':28}{'measured':>10}{'predicted':>11}"
        f"{'ratio':>8}{'error':>10}{'  repeated' if options.repeat else ''}",
        flush=True,
    )
    good = [report(name, seed, options) for name in options.sets for seed in options.seeds]
    print("within 20 %" if all(good) else f"NOT within {TOLERANCE:.0%}")
    return 0 if all(good) else 1


if __name__ == "__main__":
    sys.exit(main())
