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
from astropy.table import Table

from benchmarks import accuracy, scale
from demo import archive, crds_cache, optics, score
from demo import run as runner
from wfssbkg import (
    background,
    cli,
    compare,
    config,
    exposures,
    finalize,
    parallel,
    products,
    refine,
    residual,
    selection,
)
from wfssbkg import crossvalidation as cross
from wfssbkg.layout import Folder
from wfssbkg.sample import Exposure, measure

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


def error_of(
    image: np.ndarray, truth: np.ndarray, counts: np.ndarray, settings: config.Config
) -> tuple[np.ndarray, float]:
    """The error of a background in per cent of the sky, as a map and, after smoothing, as RMS."""
    error = (100 * score.relative_error(image, truth, counts)).astype(np.float32)
    known = residual.smooth(counts, settings.compare.smoothing)
    smooth = residual.smoothed(error, known, settings.compare)
    return error, residual.root_mean_square(smooth)


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
    made, scores = comparison.background, comparison.scores
    counts = products.science_pixels(truth.shape) & (made.number > 0)
    error, smooth = error_of(made.sci, truth, counts, settings)
    out, noise = scores[compare.OUT], scores[TRUTH]
    yield "an exposure", out.rms, float(np.hypot(noise.rms, smooth)), smooth
    yield "mean of exposures", out.mean_rms, float(np.hypot(noise.mean_rms, smooth)), smooth
    for name, profile in zip(("column", "row"), residual.profiles(error), strict=True):
        own, of_noise, of_out = map(
            residual.root_mean_square,
            (profile, *(getattr(scored, f"{name}_profile") for scored in (noise, out))),
        )
        yield f"{name} profile, RMS", of_out, float(np.hypot(of_noise, own)), own


def repeated(settings: config.Config, folder: Folder, inputs: Table) -> dict[str, float]:
    """The cross-validated figures with a refinement of its own for each part of the fields."""
    made_of = cross.sample(settings, folder, inputs)
    rms, of_means = [], []
    for number, part in enumerate(cross.parts(settings, made_of)):
        place = Folder(folder.combination, folder.path / f"part{number}", folder.path)
        for exposure in made_of.members:
            link = place.masked(exposure.name)
            link.parent.mkdir(parents=True, exist_ok=True)
            link.unlink(missing_ok=True)
            link.symlink_to(exposure.masked)
        left = [made_of.members[k].name for k in part]
        kept = [exposure.name for exposure in made_of.members if exposure.name not in left]
        backgrounds = {compare.OUT: place.compared(compare.OUT)}
        sky, image = refined_without(settings, place, exposures.read(folder.table), kept, inputs)
        cross.write_image(backgrounds[compare.OUT], image)
        own = cross.Sample(refined_against(settings, place, left, sky), made_of.share[part], True)
        found = [cross.stripes_of(exposure) for exposure in own.members]
        own.noise, own.information = (np.array(values) for values in zip(*found, strict=True))
        for exposure in own.members:
            outcome = residual.of_exposure(exposure, backgrounds, settings.compare, True)
            rms.append(outcome.rms[compare.OUT])
        mean = place.compared("mean")
        cross.write_image(mean, *cross.mean(settings, own, list(range(len(part)))))
        of_means.append(residual.of_mean(mean, backgrounds, settings.compare)[compare.OUT])
    return {
        "an exposure": float(np.median(rms)),
        "mean of exposures": float(np.median(of_means)),
    }


def refined_without(
    settings: config.Config, place: Folder, table: Table, names: list[str], inputs: Table
) -> tuple[np.ndarray, np.ndarray]:
    """The cells of a background of some exposures, all from the start; and it, finished."""
    members, common, _ = selection.refined(settings, place, table, names)
    sky, *_ = background.combine_all(settings, members, common, in_cells=True)
    *images, _ = background.combine_all(settings, members, common)
    combined = products.Background(*images, inputs)
    background.destripe(settings, combined.sci, None, along_x=place.combination.along_x)
    return sky, finalize.finish(settings, combined).sci


def refined_against(
    settings: config.Config, place: Folder, names: list[str], sky: np.ndarray
) -> list[Exposure]:
    """Exposures, refined against a background that they have no part in."""
    members = [Exposure.of(place, name) for name in names]
    for exposure in members:
        exposure.read_header()
        exposure.level, exposure.noise = measure(exposure, settings.combine)
    fluxes = refine.fluxes_to_count(members, settings.combine)
    for _ in background.refine_all(settings, members, sky, None, fluxes):
        pass
    return members


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
    for scored, found in comparison.scores.items():
        print(f"{'':22}{scored:10}{found.rms:.4f} an exposure, {found.mean_rms:.4f} of means")
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
