"""Measure what subtractBackgrounds.py takes for sky in exposures that took no part.

The background is made of eight fields with three dithers each; the sky is subtracted from one
exposure of each of four other fields. What is subtracted is compared with the true sky of that
exposure, its scattered light and its dark residual, in means of 8 x 8 px; so is the true mean
background, scaled as well as can be. Exposures of a field of starlight have no sky to be compared.
The 1/f noise of an exposure moves its level, and nothing in the exposure tells it from sky: by how
much stands in a column of its own. No fit to single exposures can be better than that.
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from unittest import mock

import numpy as np
import yaml
from astropy.io import fits

from benchmarks.programs import run_script, time_of
from benchmarks.sets import BOTH, HELD_OUT, SETS
from demo import archive, crds_cache, detector, optics
from demo import run as runner
from demo.exposures import Exposure, accuracy_exposures
from wfssbkg import layout
from wfssbkg.detector import science_pixels

SCRIPT = Path(__file__).resolve().parents[1] / "subtractBackgrounds.py"
FIELDS, OTHERS, DITHERS, BOX = 8, 4, 3, 8
CASES = {"with scattered light": True, "background alone": False}


def box_rms(error: np.ndarray) -> float:
    """The root mean square of the means of boxes of an image, reference pixels left out."""
    inner = np.where(science_pixels(error.shape), error, np.nan)
    side = len(error) // BOX
    means = np.nanmean(inner.reshape(side, BOX, side, BOX), axis=(1, 3))
    return float(np.sqrt(np.nanmean(means**2)))


def best_of_truth(sky: np.ndarray, truth: np.ndarray) -> float:
    """What the true mean background leaves of the true sky of an exposure, scaled to it."""
    inner = science_pixels(sky.shape)
    factor = np.sum(sky[inner] * truth[inner]) / np.sum(truth[inner] ** 2)
    return box_rms(factor * truth - sky)


def moved_by_flicker_noise(spec: Exposure, seed: int, truth: np.ndarray) -> float:
    """How much 1/f noise moves the level of an exposure, in units of it."""
    npix = len(truth)
    with mock.patch.object(detector, "STRIPE_RMS", 0.0):
        without = archive.simulate_exposure(spec, npix, seed=seed).data
    noise = archive.simulate_exposure(spec, npix, seed=seed).data - without
    counts = science_pixels(truth.shape) & np.isfinite(noise) & (np.abs(noise) < spec.sky_level)
    part = np.where(counts, noise / detector.true_flat(npix, spec.filter), 0)
    return float(np.sum(part * truth) / np.sum(truth[counts] ** 2) / spec.sky_level)


def error_of(rate: Path, spec: Exposure, sky: np.ndarray) -> tuple[float, float]:
    """The error of what was subtracted from an exposure, and its mean, in units of the level."""
    with fits.open(rate) as before, fits.open(layout.subtracted(rate)) as after:
        taken = before["SCI"].data.astype(float) - after["SCI"].data
    error = (taken / detector.true_flat(len(sky), spec.filter) - sky) / spec.sky_level
    return box_rms(error), float(np.nanmean(error[science_pixels(sky.shape)]))


def measure(name: str, combination: str, seed: int, options: argparse.Namespace) -> None:
    """Simulate an archive, make its background, and print a row for each other exposure."""
    grating, blocking = combination.split("-")
    numbers = {"fields": FIELDS + OTHERS, "dithers": DITHERS, "effects": SETS[name].effects}
    exposures = accuracy_exposures(seed, grating, blocking, **numbers)
    place = options.work / f"{name}-{combination}-{seed}"
    workers = len(os.sched_getaffinity(0))
    archive.simulate_archive(place / "rates", exposures, options.npix, workers, seed)
    last = sorted({spec.field for spec in exposures})[FIELDS:]
    others = [spec for spec in exposures if spec.field in last and spec.dither == 1]
    members = [spec for spec in exposures if spec.field not in last]
    truth = archive.truth_background(members, options.npix)
    settings = {
        "gratings": [grating],
        "filters": [blocking],
        "working_directory": ".",
        "output_directory": "wfssbackgrounds",
        "query": {
            "source": "rates",
            "gaia_g_limit": None,
            "exposures": [spec.filename for spec in members],
        },
    }
    config = place / "config.yaml"
    config.write_text(yaml.safe_dump(settings))
    for script in runner.SCRIPTS:
        run_script(script, config, options.work)
    print(f"\n{name}, {combination}, seed {seed}: error of the sky, per cent of the level")
    print(f"  {'exposure':32}{'saber':>7}" + "".join(f"{case:>22}" for case in CASES), end="")
    print(f"{'scaled truth':>14}{'mean':>8}{'1/f noise':>11}")
    rates = [place / "rates" / spec.filename for spec in others]
    skies = [archive.true_sky(spec, options.npix, seed=seed) for spec in others]
    moved = [moved_by_flicker_noise(spec, seed, truth) for spec in others]
    found, means = {}, []
    for case, light in CASES.items():
        config.write_text(yaml.safe_dump(settings | {"subtract": {"components": light}}))
        program = str(SCRIPT), "--config", str(config), *map(str, rates)
        time_of(*program, place=place, work=options.work)
        errors = [error_of(*each) for each in zip(rates, others, skies, strict=True)]
        found[case] = [error for error, _ in errors]
        means.append([mean for _, mean in errors])
    for number, spec in enumerate(others):
        best = best_of_truth(skies[number], truth) / spec.sky_level
        cells = "".join(f"{100 * found[case][number]:22.3f}" for case in CASES)
        print(
            f"  {spec.rootname:32}{100 * spec.effects.light_saber:7.2f}{cells}{100 * best:14.3f}"
            f"{100 * means[0][number]:8.3f}{100 * moved[number]:11.3f}  {spec.contamination or ''}",
            flush=True,
        )
    sound = [number for number, spec in enumerate(others) if spec.contamination != "starlight"]
    for case, errors in found.items():
        errors = 100 * np.array(errors)[sound]
        print(f"  {case}: median {np.median(errors):.3f}, worst {errors.max():.3f}", flush=True)
    noise = 100 * np.abs(moved)[sound]
    print(f"  1/f noise alone: median {np.median(noise):.3f}, worst {noise.max():.3f}", flush=True)


def main(arguments: list[str] | None = None) -> int:
    """Measure all archives that are asked for."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.subtraction",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("--sets", nargs="+", choices=("plain", "hard"), default=("plain", "hard"))
    add("--combination", nargs="+", choices=BOTH, default=BOTH)
    add("--seeds", nargs="+", type=int, help="default: the first held-out one of a combination")
    add("--npix", type=int, default=optics.FULL_FRAME, help=argparse.SUPPRESS)
    add("--work", type=Path, required=True, metavar="FOLDER", help="needs 15 GB an archive")
    options = parser.parse_args(arguments)
    options.work = options.work.resolve()
    options.work.mkdir(parents=True, exist_ok=True)
    combinations = {tuple(combination.split("-")) for combination in options.combination}
    crds_cache.build_cache(options.work / "crds", options.npix, combinations)
    for name in options.sets:
        for combination in options.combination:
            for seed in options.seeds or HELD_OUT[combination][:1]:
                measure(name, combination, seed, options)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
