"""Measure how time, memory and disk grow with the archive, and the speed on 24 exposures.

Speed: on 24 simulated exposures (set plain of benchmarks/accuracy.py) four scripts run with the
settings of config.yaml, then one pass of the published recipe with plain numpy and astropy
(mask, combine and finish of benchmarks/reference.py). Disk: the peak size of the files of exposures
in the combination's folder while the scripts work.

Memory: makeBackgrounds.py alone runs on 24, 200 and 2000 exposures, which are hard links to the 24
masked ones. Their frames are cut to the rows in the middle (--rows, all 2048 columns), so that the
temporary files of 2000 exposures fit on the disk and the run takes minutes; a band of rows takes
the same memory in a frame of any height. The memory is the sum of the proportional set sizes (PSS)
of all processes: pages that they share count once, while in resident sizes (RSS) they would count
in each process.

The exit status is 1 if a target is not met. Times are meaningful only on a machine that does
nothing else.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import yaml
from astropy.io import fits

from benchmarks import accuracy, reference, sets
from benchmarks.programs import run_script, time_of
from demo import archive, crds_cache
from demo import run as runner
from wfssbkg import config
from wfssbkg.files import exposure_table
from wfssbkg.layout import TEMPORARY, Folder
from wfssbkg.run.command_line import folders

NUMBERS = (24, 200, 2000)
MOST_GB = 4.0  # compute.memory_gb
MOST_MB = 60.0  # per exposure, beyond its rate file
PROPORTION = 0.3  # by how much the time per exposure may grow with their number
FASTER = {"mask": 1.3, "combine": 3.0, "finish": 1.3, "all": 2.0}
STEPS = {"makeMask.py": "mask", "makeBackgrounds.py": "combine", "finalizeBackgrounds.py": "finish"}


class Table:
    """A table of results and targets, printed line by line; `missed` counts missed targets."""

    def __init__(self) -> None:
        self.missed = 0
        print(f"{'':44}{'measured':>22}{'target':>16}", flush=True)

    def row(self, name: str, found: str, target: str = "", met: bool = True) -> None:
        """Print a line."""
        self.missed += not met
        verdict = "" if not target else "  met" if met else "  NOT MET"
        print(f"{name:44}{found:>22}{target:>16}{verdict}", flush=True)


def write_config(folder: Path, first: archive.Exposure, **query: object) -> Path:
    """Write a config into a folder, with the memory limit of the targets."""
    values = {"gratings": [first.grating], "filters": [first.filter], "working_directory": "."}
    values |= {"query": {"gaia_g_limit": None, **query}, "compute": {"memory_gb": MOST_GB}}
    folder.mkdir(parents=True)
    path = folder / "config.yaml"
    path.write_text(yaml.safe_dump(values))
    return path


@contextmanager
def watching(folder: Folder, peak: list[float]) -> Iterator[None]:
    """Record the size, MB, of the files of exposures in a folder, again and again."""
    ended = threading.Event()

    def watch() -> None:
        while not ended.wait(0.2):
            sizes = []
            for path in [*folder.path.glob("jw*.fits"), *folder.path.glob(f"{TEMPORARY}*jw*.fits")]:
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


def speed(table: Table, sample: sets.Sample, options: argparse.Namespace) -> Folder:
    """Time our scripts and the published recipe, measure the disk; returns our folder."""
    rates = options.work / "archives" / sample.archive
    place = options.work / "runs" / "scale-speed"
    shutil.rmtree(place, ignore_errors=True)
    names = [spec.filename for spec in sample.exposures]
    settings = write_config(place, sample.exposures[0], source=str(rates), exposures=names)
    (folder,) = folders(config.read(settings))
    ours, peaks = {"query": 0.0}, [0.0]
    where = {"place": place, "work": options.work}
    for name in runner.SCRIPTS:
        with watching(folder, peaks):
            script = str(accuracy.HERE.parent / name)
            ours[STEPS.get(name, "query")] = time_of(script, "--config", str(settings), **where)
    files = [str(rates / name) for name in names]
    theirs = {
        step: time_of(reference.__file__, step, str(place), *files, **where)
        for step in STEPS.values()
    }
    ours["all"], theirs["all"] = sum(ours.values()), sum(theirs.values())
    for step, target in FASTER.items():
        ratio = theirs[step] / ours[step]
        found = f"{theirs[step]:.1f} / {ours[step]:.1f} = {ratio:.2f}"
        table.row(f"{step}, s: published / ours", found, f">= {target:g}", ratio >= target)
    disk = max(peaks) / len(names)
    side = f" ({options.npix} px)" if options.npix != archive.optics.FULL_FRAME else ""
    table.row(f"disk, MB per exposure{side}", f"{disk:.1f}", f"<= {MOST_MB:g}", disk <= MOST_MB)
    made = [folder.background, folder.flat, folder.finished, folder.finished_unflat]
    size = sum(path.stat().st_size for path in made) / 1e6
    table.row(f"disk, MB per combination{side}", f"{size:.0f}")
    return folder


def cut(path: Path, output: Path, rows: int) -> None:
    """Write a masked exposure with only the rows in the middle."""
    with fits.open(path, do_not_scale_image_data=True) as hdus:
        frame = len(hdus["SCI"].data)
        first = (frame - rows) // 2
        for hdu in hdus[1:]:
            if hdu.is_image:
                hdu.data = hdu.data[first : first + rows]
        hdus.writeto(output)


def many(settings: Path, source: Folder, number: int, rows: int) -> None:
    """Make a folder of many masked exposures, which are links to a few that `source` has."""
    table = exposure_table.read(source.table)
    table = table[table["status"] == exposure_table.ACCEPTED]
    (folder,) = folders(config.read(settings))
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
    exposure_table.write(exposure_table.new(copies), folder.table, table.meta["QDATE"])


def scaling(table: Table, source: Folder, first: archive.Exposure, options: argparse.Namespace):  # noqa: ANN201
    """Measure memory and time of makeBackgrounds.py against the number of exposures."""
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
    if len(each) < 2:
        return
    some, most = sorted(each)[-2:]
    ratio = each[most] / each[some]
    name = f"time per exposure, {most} over {some}"
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
    (sample,) = sets.samples("plain", sets.BOTH[0], options.seed)
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
