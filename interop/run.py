"""Use the demo's finished files in CRDS, the JWST pipeline and grizli; `make interop` runs it.

It needs the results of `make demo` in demo/work, and no network.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from astropy.io import fits

from demo import archive, crds_cache, optics, score, subarrays
from demo import run as demo
from demo.exposures import Exposure
from interop import pipeline
from wfssbkg import config, layout
from wfssbkg.errors import StepError
from wfssbkg.layout import Folder
from wfssbkg.mask import sources
from wfssbkg.run import command_line, messages

ROOT = Path(__file__).resolve().parents[1]
CONFIG = ROOT / "demo" / "config.yaml"


@dataclass
class Bench:
    """The folders and exposures of the tests.

    Attributes
    ----------
    work : `~pathlib.Path`
        The demo's working folder.
    place : `~pathlib.Path`
        The folder to write to.
    folders : list of `~wfssbkg.layout.Folder`
        The demo's combinations.
    sample : list of `~demo.exposures.Exposure`
        The first exposure of each field.
    """

    work: Path
    place: Path
    folders: list[Folder]
    sample: list[Exposure]

    def truth(self, combination: str) -> np.ndarray:
        """The true background of a combination, without flat field."""
        return fits.getdata(self.work / "archive" / "truth" / f"{combination}.fits", "SCI")

    def run(self, *command: str | Path, cwd: Path = ROOT, **environment: str | Path) -> str:
        """Run a program; returns what it prints.

        Raises
        ------
        StepError
            If it fails.
        """
        more = {name: str(value) for name, value in environment.items()}
        done = subprocess.run(
            list(map(str, command)), cwd=cwd, env=os.environ | more, text=True,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip
        if done.returncode:
            words = " ".join(map(str, command))[:100]
            raise StepError(f"{words} ... ended with {done.returncode}:\n{done.stdout[-3000:]}")
        return done.stdout


def in_crds(bench: Bench) -> Iterator[str]:
    """Certify the files with the flat field in; yields the faults that are found."""
    print("\nCRDS: python -m crds.certify")
    for folder in bench.folders:
        said = bench.run(sys.executable, "-m", "crds.certify", folder.finished_unflat)
        counts = [line.split(" - ")[-1].strip() for line in said.splitlines()[-3:-1]]
        messages.say(f"{folder.finished_unflat.name}: {', '.join(counts)}")
        if counts != ["0 errors", "0 warnings"]:
            yield f"CRDS does not certify {folder.finished_unflat.name}"


def in_pipeline(bench: Bench) -> Iterator[str]:
    """Subtract the sky from full frames and subarrays; yields the faults that are found."""
    rates = dict(rate_files(bench))
    noise = dict(noise_levels(rates))
    program = sys.executable, "subtractBackgrounds.py", "--config", CONFIG
    bench.run(*program, "--mask-only", *rates)
    bench.run(*program, *rates)
    for step, true in (
        ("BackgroundStep", pipeline.true_factor),
        ("subtractBackgrounds.py", pipeline.true_level),
    ):
        print(f"\nJWST pipeline: {step}, then flat-fielding; per cent of the sky")
        print(f"  {'exposure':40}{'subarray':10}{'level':>9}{'residual':>10}")
        for folder in bench.folders:
            kind = str(folder.combination)
            own = [rate for rate, spec in rates.items() if spec.combination == kind]
            ours = ["--background", folder.finished_unflat] * (step == "BackgroundStep")
            said = bench.run(sys.executable, "-m", "interop.pipeline", *ours, *own)
            for told in map(json.loads, (x for x in said.splitlines() if x.startswith("{"))):
                spec = rates[Path(told["rate"])]
                level = true(spec, bench.truth(kind))
                added, unsure = noise[Path(told["rate"])]
                factor = (told["factor"] - added) / level - 1
                residual = told["residual"] / level
                messages.say(f"{spec.rootname:40}{spec.subarray:10}{factor:9.3%}{residual:10.3%}")
                good = abs(factor) < pipeline.FACTOR + unsure / level
                good &= abs(residual) < pipeline.RESIDUAL + unsure / level
                if told["status"] != "COMPLETE" or not good:
                    yield (
                        f"{step} on {spec.rootname}, {spec.subarray}: status {told['status']}, "
                        f"level {factor:.3%}, residual {residual:.3%} of the sky"
                    )


def noise_levels(
    rates: dict[Path, Exposure],
) -> Iterator[tuple[Path, tuple[float, float]]]:
    """What 1/f noise adds to the level of each exposure, and the error of that, DN/s."""
    for spec in {spec.rootname: spec for spec in rates.values()}.values():
        light = archive.light_on_detector(spec, optics.FULL_FRAME, seed=demo.SEED)
        for rate, other in rates.items():
            if other.rootname == spec.rootname:
                yield rate, pipeline.noise_level(rate, light, spec.filter)


def rate_files(bench: Bench) -> Iterator[tuple[Path, Exposure]]:
    """The exposures of the sample as full frames, and as the subarrays of their grism."""
    from stdatamodels.jwst import datamodels

    for spec in bench.sample:
        shutil.copy(bench.work / "archive" / spec.filename, bench.place)
        yield bench.place / spec.filename, spec
        letter = spec.grating[-1]
        with datamodels.open(str(bench.work / "archive" / spec.filename)) as frame:
            for name in (f"WFSS64{letter}", f"WFSS128{letter}"):
                path = bench.place / f"{name}-{spec.filename}"
                subarrays.cut(frame, name).save(path)
                yield path, replace(spec, subarray=name)


def in_grizli(bench: Bench, python: Path) -> Iterator[str]:
    """Subtract the sky from full frames, with our files and without; yields the faults."""
    ours, theirs, without = (bench.place / name for name in ("ours", "official", "without"))
    for home in (ours, theirs, without):
        (home / "CONF").mkdir(parents=True)
    files = [Path(shutil.copy(folder.finished, ours / "CONF")) for folder in bench.folders]
    before = [checksum(path) for path in files]
    results = {home: dict(residuals(bench, home, python)) for home in (theirs, ours, without)}

    print("\ngrizli: residual level, and RMS after smoothing; per cent of the sky. visit_grism_sky")
    print("with the official and with our files; and subtractBackgrounds.py without that step")
    print(f"  {'exposure':40}{'level':>26}{'8-px smoothed':>30}")
    columns = f"{'ours':>8}{'without':>8}"
    print(f"  {'':40}{'official':>10}{columns}{'official':>14}{columns}")
    table = np.array([[results[home][spec] for home in results] for spec in bench.sample])
    mean = np.sqrt(np.mean(table**2, axis=0))
    names = [spec.rootname for spec in bench.sample]
    for name, rows in zip([*names, "all"], [*table, mean], strict=True):
        (other, own, none), (wide, narrow, last) = np.abs(rows).T
        values = f"{other:10.3%}{own:8.3%}{none:8.3%}{wide:14.3%}{narrow:8.3%}{last:8.3%}"
        messages.say(f"{name:40}{values}")
    said = (ours / "log.txt").read_text()
    if said.count("Use local wfssbkg file") != len(bench.sample):
        yield "grizli did not use our files: see " + str(ours / "log.txt")
    if [checksum(path) for path in files] != before:
        yield "grizli changed our files"
    if not (mean[1:] < mean[0]).all():
        yield "residuals of grizli are not smaller with our files than with the official ones"


def residuals(bench: Bench, home: Path, python: Path) -> Iterator[tuple[Exposure, list[float]]]:
    """The residuals of each exposure after grizli: level, and RMS after smoothing."""
    # If the cache is read-only, grizli divides a copy of the CRDS file by the flat field.
    environment = {"GRIZLI": home, "CRDS_CONTEXT": crds_cache.CONTEXT, "CRDS_READONLY_CACHE": "1"}
    bits = sources.flag_bits(["DO_NOT_USE"])
    for spec in bench.sample:
        path, done = bench.place / spec.filename, []
        if home.name == "without":
            path, done = layout.subtracted(path), ["--without-sky"]
        rate = Path(shutil.copy(path, home))
        program = python, ROOT / "interop/grizli_sky.py", rate.name, *done
        said = bench.run(*program, cwd=home, **environment)
        with (home / "log.txt").open("a") as log:
            log.write(said)
        sky = fits.getdata(layout.wfss_mask(bench.place / spec.filename), "MASK") > 0
        with fits.open(rate) as hdus:
            sky &= np.isfinite(hdus["SCI"].data) & (hdus["DQ"].data & bits == 0)
            left = np.where(sky, hdus["SCI"].data / spec.sky_level, np.nan)
        rate.unlink()
        yield spec, [float(np.nanmedian(left)), score.rms(score.smoothed(left))]


def checksum(path: Path) -> str:
    """SHA-256 of a file."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def main() -> int:
    """Test all three, and report."""
    parser = argparse.ArgumentParser(prog="python -m interop.run", description=__doc__)
    parser.add_argument("python", type=Path, help="the Python of grizli's environment")
    python = parser.parse_args().python.absolute()
    settings = config.read(CONFIG)
    clean = [spec for spec in archive.demo_exposures(demo.SEED) if not spec.contamination]
    bench = Bench(
        work=settings.working_directory,
        place=settings.working_directory / "interop",
        folders=command_line.folders(settings),
        sample=[spec for spec in clean if spec.dither == 1],
    )
    for folder in bench.folders:
        if not folder.finished_unflat.exists():
            raise StepError(f"{folder.finished_unflat} does not exist. Run make demo first")
    os.environ.update(demo.environment(bench.work))
    shutil.rmtree(bench.place, ignore_errors=True)
    bench.place.mkdir()
    print("The demo's finished files in the software they are made for")
    wrong = [*in_crds(bench), *in_pipeline(bench), *in_grizli(bench, python)]
    for text in wrong:
        print(f"FAILED: {text}", file=sys.stderr)
    if not wrong:
        print("\nAll passed.")
        shutil.rmtree(bench.place)
    return command_line.SOME_FAILED if wrong else command_line.ALL_DONE


if __name__ == "__main__":
    command_line.run(main)
