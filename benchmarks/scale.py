"""Measure how time, memory and disk grow with the archive, and the speed on 24 exposures.

Speed: 24 simulated exposures (set A of benchmarks/accuracy.py), the four scripts as config.yaml has
them, and the published recipe by plain numpy and astropy (benchmarks/reference.py), one after the
other. Disk: the files of the exposures in the combination's folder while the scripts work.

Memory: makeBackgrounds.py alone, on 24, 200 and 2000 rows that share the 24 masked exposures by
hard links. Their frames are cut to the rows in the middle (--rows, all 2048 columns), so that the
disk holds the temporary files of 2000 and the run takes minutes; a band of rows takes the same
memory in any frame. Memory is the sum over all processes of the proportional set size (PSS): a page
that processes share counts once in the sum, where resident size (RSS) would count it in each.

Exit status 1 if a target is not met. Times mean something only on a machine that does nothing else.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import yaml
from astropy.io import fits

from benchmarks import accuracy, reference
from demo import archive, crds_cache
from demo import run as runner
from wfssbkg import cli, config, exposures, layout
from wfssbkg.layout import Folder

NUMBERS = (24, 200, 2000)
MOST_GB = 4.0  # compute.memory_gb
MOST_MB = 45.0  # an exposure, beyond its rate file
PROPORTION = 0.3  # how far the time for an exposure may be from that at another number of them
FASTER = {"mask": 1.3, "combine": 6.0, "finish": 1.5, "all": 2.0}
STEPS = {"makeMask.py": "mask", "makeBackgrounds.py": "combine", "finalizeBackgrounds.py": "finish"}


class Table:
    """What was measured, what was asked for; printed line by line."""

    def __init__(self) -> None:
        self.missed = 0
        print(f"{'':44}{'measured':>22}{'target':>16}", flush=True)

    def row(self, name: str, found: str, target: str = "", met: bool = True) -> None:
        """Print a line."""
        self.missed += not met
        verdict = "" if not target else "  met" if met else "  NOT MET"
        print(f"{name:44}{found:>22}{target:>16}{verdict}", flush=True)


def write_config(folder: Path, first: archive.Exposure, **query: object) -> Path:
    """A config in a folder, with the memory that is promised."""
    values = {"gratings": [first.grating], "filters": [first.filter], "working_directory": "."}
    values |= {"query": {"gaia_g_limit": None, **query}, "compute": {"memory_gb": MOST_GB}}
    folder.mkdir(parents=True)
    path = folder / "config.yaml"
    path.write_text(yaml.safe_dump(values))
    return path


def run_script(name: str, settings: Path, work: Path) -> runner.Usage:
    """Run a script and watch its memory; its messages go to log.txt."""
    with (settings.parent / "log.txt").open("ab") as log:
        usage = runner.run_script(name, settings, work, log)
    check_status(name, usage.status, settings.parent)
    return usage


def time_of(program: str, *arguments: str, place: Path, work: Path) -> float:
    """Run a program of Python; its seconds. Nothing watches it, which would take time as well."""
    command = [sys.executable, program, *arguments]
    with (place / "log.txt").open("ab") as log:
        began = time.monotonic()
        done = subprocess.run(
            command, env=runner.environment(work), stdout=log, stderr=subprocess.STDOUT
        )
        seconds = time.monotonic() - began
    check_status(Path(program).name, done.returncode, place)
    return seconds


def check_status(name: str, status: int, place: Path) -> None:
    """End the benchmark if a program failed."""
    if status:
        print((place / "log.txt").read_text()[-2000:], file=sys.stderr)
        sys.exit(f"{name} ended with exit status {status}: see {place}/log.txt")


@contextmanager
def watching(folder: Folder, peak: list[float]) -> Iterator[None]:
    """Note the most MB that the files of exposures have in a folder."""
    ended = threading.Event()

    def watch() -> None:
        while not ended.wait(0.2):
            sizes = []
            for path in layout.of_exposures(folder):
                try:
                    sizes.append(path.stat().st_size)
                except FileNotFoundError:
                    continue
            peak.append(sum(sizes) / 1e6)

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def speed(table: Table, sample: accuracy.Sample, options: argparse.Namespace) -> Folder:
    """Our scripts and the published recipe on the same exposures; disk; returns our folder."""
    rates = options.work / "archives" / sample.archive
    place = options.work / "runs" / "scale-speed"
    shutil.rmtree(place, ignore_errors=True)
    names = [spec.filename for spec in sample.exposures]
    settings = write_config(place, sample.exposures[0], source=str(rates), exposures=names)
    (folder,) = cli.folders(config.read(settings))
    ours, peaks = {"query": 0.0}, [0.0]
    where = {"place": place, "work": options.work}
    for name in runner.SCRIPTS:
        with watching(folder, peaks):
            script = str(accuracy.HERE.parent / name)
            ours[STEPS.get(name, "query")] = time_of(script, "--config", str(settings), **where)
    files = [str(rates / name) for name in names]
    theirs = {
        step: time_of(reference.__file__, step, str(place), *files, **where)
        for step in reference.STEPS
    }
    ours["all"], theirs["all"] = sum(ours.values()), sum(theirs.values())
    for step, target in FASTER.items():
        ratio = theirs[step] / ours[step]
        found = f"{theirs[step]:.1f} / {ours[step]:.1f} = {ratio:.2f}"
        table.row(f"{step}, s: published / ours", found, f">= {target:g}", ratio >= target)
    disk = max(peaks) / len(names)
    side = f" ({options.npix} px)" if options.npix != archive.optics.FULL_FRAME else ""
    table.row(f"disk, MB an exposure{side}", f"{disk:.1f}", f"<= {MOST_MB:g}", disk <= MOST_MB)
    return folder


def cut(path: Path, output: Path, rows: int) -> None:
    """A masked exposure with only the rows in the middle."""
    with fits.open(path, do_not_scale_image_data=True) as hdus:
        frame = len(hdus["SCI"].data)
        for hdu in hdus[1:]:
            wanted = rows * len(hdu.data) // frame  # cells may be higher than pixels
            first = (len(hdu.data) - wanted) // 2
            hdu.data = hdu.data[first : first + wanted]
        hdus.writeto(output)


def many(settings: Path, source: Folder, number: int, rows: int) -> None:
    """A folder with a number of masked exposures, which are links to those of `source`."""
    table = exposures.read(source.table)
    table = table[table["status"] == exposures.ACCEPTED]
    (folder,) = cli.folders(config.read(settings))
    folder.path.mkdir(parents=True)
    copies = []
    for k in range(number):
        row = dict(zip(table.colnames, table[k % len(table)], strict=True))
        original = folder.masked(row["productFilename"])
        if not original.exists():
            cut(source.masked(row["productFilename"]), original, rows)
        if k >= len(table):
            row["productFilename"] = f"jw{k:011d}_02101_00001_nis_rate.fits"
            os.link(original, folder.masked(row["productFilename"]))
        copies.append(row)
    exposures.write(exposures.new(copies), folder.table, table.meta["QDATE"])


def scaling(table: Table, source: Folder, first: archive.Exposure, options: argparse.Namespace):  # noqa: ANN201
    """Memory and time of makeBackgrounds.py against the number of exposures."""
    each = {}
    for number in options.numbers:
        place = options.work / "runs" / f"scale-{number}"
        shutil.rmtree(place, ignore_errors=True)
        settings = write_config(place, first)
        many(settings, source, number, options.rows)
        usage = run_script("makeBackgrounds.py", settings, options.work)
        each[number] = usage.seconds / number
        peak = usage.peak_bytes / 1e9
        name = f"{number} exposures of {options.rows} rows"
        table.row(f"{name}: memory, GB", f"{peak:.2f}", f"<= {MOST_GB:g}", peak <= MOST_GB)
        table.row(f"{name}: time, s", f"{usage.seconds:.1f}")
        if not options.keep:
            shutil.rmtree(place)
    some, most = sorted(each)[-2:]
    ratio = each[most] / each[some]
    name = f"time an exposure, {most} over {some}"
    table.row(name, f"{ratio:.2f}", f"<= {1 + PROPORTION:g}", ratio <= 1 + PROPORTION)


def read_options(arguments: list[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.scale",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    a = parser.add_argument
    a("--seed", type=int, default=101, help="of the simulation (default: 101)")
    a("--numbers", nargs="+", type=int, default=list(NUMBERS), help="default: 24 200 2000")
    a("--rows", type=int, default=512, help="of a frame, with --numbers (default: 512)")
    a("--work", type=Path, default=accuracy.HERE / "work", metavar="FOLDER", help="needs 15 GB")
    a("--keep", action="store_true", help="keep the runs; the archive is kept in any case")
    a("--npix", type=int, default=archive.optics.FULL_FRAME, help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    options.work = options.work.resolve()
    return options


def main(arguments: list[str] | None = None) -> int:
    """Simulate, measure, print."""
    options = read_options(arguments)
    os.environ.update(runner.environment(options.work))
    (sample,) = accuracy.samples("A", options.seed)
    first = sample.exposures[0]
    rates = options.work / "archives" / sample.archive
    workers = os.cpu_count() or 1
    archive.simulate_archive(rates, sample.exposures, options.npix, workers, sample.seed)
    crds_cache.build_cache(options.work / "crds", options.npix, {(first.grating, first.filter)})
    table = Table()
    source = speed(table, sample, options)
    scaling(table, source, first, options)
    if not options.keep:
        shutil.rmtree(source.path.parent)
    return 1 if table.missed else 0


if __name__ == "__main__":
    sys.exit(main())
