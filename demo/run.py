"""The demo: run the five scripts on a simulated archive, and score the result against its truth.

Everything is written to demo/work. The user's own settings of CRDS, astropy and matplotlib are
neither used nor changed.
"""

from __future__ import annotations

import argparse
import os
import socket
import subprocess
import sys
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO
from urllib.parse import urlsplit

import numpy as np
import psutil
from astropy.io import fits

from demo import archive, crds_cache, score, server
from wfssbkg import config, layout
from wfssbkg.detector import science_pixels
from wfssbkg.files import exposure_table
from wfssbkg.layout import Folder
from wfssbkg.run import command_line

HERE = Path(__file__).resolve().parent
QUERY = "queryData.py"
SCRIPTS = (QUERY, "makeMask.py", "makeBackgrounds.py", "finalizeBackgrounds.py")
COMPARISON = "compareBackgrounds.py"
SEED = 20240928
NPIX = 2048
REPROCESSED = "jw90001002001_02101_00001_nis_rate.fits"  # between two queries


@dataclass
class Usage:
    """Time of one step, s, and peak memory of all its processes together, bytes."""

    step: str
    seconds: float = 0.0
    peak_bytes: int = 0
    status: int = 0
    started: float = field(default_factory=time.monotonic)

    def end(self) -> None:
        """Stop the clock."""
        self.seconds = time.monotonic() - self.started


def environment(work: Path) -> dict[str, str]:
    """The environment of the scripts: none of the user's settings, all folders below `work`."""
    own = {key: value for key, value in os.environ.items() if not key.startswith("CRDS_")}
    home = work / "home"
    for folder in ("config", "cache", "matplotlib"):
        (home / folder).mkdir(parents=True, exist_ok=True)
    return own | {
        "HOME": str(home),
        "XDG_CONFIG_HOME": str(home / "config"),
        "XDG_CACHE_HOME": str(home / "cache"),
        "MPLCONFIGDIR": str(home / "matplotlib"),
        **crds_cache.environment(work / "crds"),
        "NO_PROXY": "127.0.0.1,localhost",
        "no_proxy": "127.0.0.1,localhost",
    }


def run_script(name: str, settings: Path, work: Path, output: IO | None = None) -> Usage:
    """
    Run one script as a user would, and watch its time and memory.

    Parameters
    ----------
    name : str
        The script, e.g. queryData.py.
    settings : `~pathlib.Path`
        Its config file.
    work : `~pathlib.Path`
        Folder of the CRDS cache, and of the files that libraries keep.
    output : file, optional
        Where its messages go; default: the screen.

    Returns
    -------
    `Usage`
    """
    command = [sys.executable, str(HERE.parent / name), "--config", str(settings)]
    usage = Usage(name)
    process = psutil.Popen(
        command, env=environment(work), stdout=output, stderr=output and subprocess.STDOUT
    )
    watcher = threading.Thread(target=_watch, args=(process, usage))
    watcher.start()
    try:
        usage.status = process.wait()
        usage.end()
    finally:
        watcher.join()
    return usage


def _watch(process: psutil.Process, usage: Usage) -> None:
    """Record the peak memory of a process and its children together."""
    while process.is_running() and process.status() != psutil.STATUS_ZOMBIE:
        try:
            family = [process, *process.children(recursive=True)]
            usage.peak_bytes = max(usage.peak_bytes, sum(_memory(member) for member in family))
        except psutil.NoSuchProcess:
            pass
        time.sleep(0.25)  # reading the memory more often would slow the step down


def _memory(process: psutil.Process) -> int:
    """Memory in bytes; on Linux, pages that processes share count only once in their sum."""
    try:
        memory = process.memory_full_info()
        return getattr(memory, "pss", memory.rss)
    except psutil.Error:
        return 0


def prepare(work: Path, settings: config.Config) -> None:
    """Simulate the archive and its CRDS cache, as far as they are not there yet."""
    workers = settings.compute.workers or os.cpu_count() or 1
    wanted = archive.demo_exposures(SEED)
    combinations = sorted({(exposure.grating, exposure.filter) for exposure in wanted})
    print(
        f"Simulating {len(wanted)} exposures in {work} (about a minute, unless they are there).\n"
        "The archive's answer will also list exposures that have to be left out.",
        flush=True,
    )
    archive.simulate_archive(work / "archive", wanted, npix=NPIX, workers=workers, seed=SEED)
    crds_cache.build_cache(work / "crds", NPIX, combinations)
    for folder in command_line.folders(settings):
        path = settings.compare.against / folder.finished.name
        kind = folder.combination
        crds_cache.write_background_of_2025(path, kind.grating, kind.filter, NPIX)


def score_combination(folder: Folder, truth_path: Path) -> tuple[dict[str, float], np.ndarray]:
    """The error of the finished background against the truth: its figures, and its map."""
    with fits.open(folder.finished) as hdus:
        good = science_pixels(hdus["SCI"].shape) & (hdus["NEXP"].data > 0)
        error = score.relative_error(hdus["SCI"].data, fits.getdata(truth_path, "SCI"), good)
    return score.figures(error), error


def draw(folder: Folder, error: np.ndarray, path: Path) -> None:
    """Draw the background, its error and its coverage."""
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    with fits.open(folder.finished) as hdus:
        science = science_pixels(hdus["SCI"].shape)
        sky = np.where(science, hdus["SCI"].data, np.nan)
        number = np.where(science, hdus["NEXP"].data, np.nan)
    low, high = np.nanpercentile(sky, (0.5, 99.5))
    panels = [
        ("finished background", sky, {"cmap": "viridis", "vmin": low, "vmax": high}),
        ("error, per cent", 100 * error, {"cmap": "RdBu_r", "vmin": -1, "vmax": 1}),
        ("exposures that count", number, {"cmap": "cividis", "vmin": 0}),
    ]
    figure, axes = plt.subplots(1, 3, figsize=(16, 5), layout="constrained")
    for axis, (title, image, style) in zip(axes, panels, strict=True):
        shown = axis.imshow(image, origin="lower", interpolation="nearest", **style)
        axis.set_title(title)
        axis.set_xlabel("x, px")
        figure.colorbar(shown, ax=axis, shrink=0.85)
    axes[0].set_ylabel("y, px")
    figure.suptitle(f"{folder.combination}, simulated")
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=100)
    plt.close(figure)


def report(work: Path, settings: config.Config, usages: list[Usage]) -> None:
    """Print the final table."""
    print(
        "\nResult on simulated exposures; error of the finished background in per cent of the sky\n"
        f"{'combination':14}{'found':>7}{'excluded':>10}{'rejected':>10}{'failed':>8}"
        f"{'combined':>10}{'per pixel':>11}{'smoothed':>10}{'99.9th pct':>12}"
    )
    for folder in command_line.folders(settings):
        fates = exposure_table.fates(exposure_table.read(folder.table))
        figures, error = score_combination(
            folder, work / "archive" / "truth" / f"{folder.combination}.fits"
        )
        draw(folder, error, picture(work, folder))
        print(
            f"{folder.combination!s:14}{sum(map(len, fates.values())):7}"
            f"{len(fates[exposure_table.EXCLUDED]):10}{len(fates[exposure_table.REJECTED]):10}"
            f"{len(fates[exposure_table.FAILED]):8}{len(fates[exposure_table.ACCEPTED]):10}"
            f"{100 * figures['pixel']:11.3f}{100 * figures['smooth']:10.3f}"
            f"{100 * figures['tail']:12.3f}"
        )
    print(f"\n{'step':28}{'time, s':>9}{'peak memory, GB':>18}")
    for usage in usages:
        memory = f"{usage.peak_bytes / 1e9:18.1f}" if usage.peak_bytes else ""
        print(f"{usage.step:28}{usage.seconds:9.1f}{memory}")
    print(f"{'all':28}{sum(usage.seconds for usage in usages):9.1f}")
    print(
        "\nThe report compares with two backgrounds that are simulated as well: that in the demo's "
        "CRDS\nis like the files made before launch, that in like-2025 as far from the truth (1 %) "
        "as the\ninstrument team's files of 2025 may be."
    )
    print("\nFinished backgrounds, pictures and exposure tables:")
    for folder in command_line.folders(settings):
        for path in (folder.finished, folder.finished_unflat, picture(work, folder), folder.table):
            print(f"  {_short(path)}")
    print(f"\nReport: {_short(layout.report(settings.output_directory))}")


def picture(work: Path, folder: Folder) -> Path:
    """The picture of a combination."""
    return work / "pictures" / f"{folder.combination}.png"


def _short(path: Path) -> str:
    """A path relative to the current folder, if it is in there."""
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else str(path)


def main(arguments: list[str] | None = None) -> int:
    """Prepare, run the five scripts, report."""
    argparse.ArgumentParser(
        prog="python -m demo.run",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    ).parse_args(arguments)
    settings = config.read(HERE / "config.yaml")
    work = settings.working_directory
    work.mkdir(parents=True, exist_ok=True)
    os.environ.update(environment(work))
    port = urlsplit(settings.query.mast_url).port
    if not is_free(port):
        print(
            f"Port {port} of this machine is in use, but the demo's server needs it. End the other "
            "program, or change mast_url and gaia_url in demo/config.yaml",
            file=sys.stderr,
        )
        return 1
    usages = [Usage("simulated archive")]
    prepare(work, settings)
    usages[0].end()
    with server.serve(work / "archive", port=port):
        names = [*SCRIPTS, COMPARISON]
        while names:
            name = names.pop(0)
            print(f"\n$ python {name} --config demo/config.yaml", flush=True)
            usages.append(run_script(name, HERE / "config.yaml", work))
            if usages[-1].status:
                print(f"\n{name} ended with exit status {usages[-1].status}", file=sys.stderr)
                return usages[-1].status
            if name == QUERY and archive.reprocess(work / "archive" / "catalog.json", REPROCESSED):
                print("\nNow the archive reprocesses an exposure, as it does with each build.")
                names.insert(0, name)
    report(work, settings, usages)
    return 0


def is_free(port: int) -> bool:
    """Whether nothing listens on a port of this machine."""
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) != 0


if __name__ == "__main__":
    command_line.run(main)
