"""The scripts on a Dask cluster: a scheduler and two workers, started as a user starts them."""

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from tests.conftest import NAMES, ROOT
from tests.script_server import without_crds
from wfssbkg.config import Compute, read
from wfssbkg.errors import ConfigError
from wfssbkg.files import combined_background, exposure_table
from wfssbkg.layout import Combination, Folder
from wfssbkg.run import command_line, parallel

DASK = str(Path(sys.executable).with_name("dask"))


@dataclass
class Cluster:
    """The folder of a cluster, the address of its scheduler, and the processes of its workers."""

    folder: Path
    address: str
    workers: list[subprocess.Popen]

    def fill(self):
        """Start workers until there are two."""
        command = ("worker", self.address, "--nworkers", "1", "--nthreads", "1", "--no-dashboard")
        while len(self.workers) < 2:
            self.workers.append(start(self.folder, *command))


def start(folder, *command):
    """Start a program of Dask in a folder of its own, without the CRDS settings of the script."""
    with (folder / "log.txt").open("ab") as log:
        return subprocess.Popen(
            [DASK, *command],
            cwd=folder,
            env=without_crds(),
            stdout=log,
            stderr=log,
            start_new_session=True,
        )


@pytest.fixture(scope="module")
def dask(tmp_path_factory):
    """A cluster with two workers."""
    folder = tmp_path_factory.mktemp("dask")
    told = folder / "scheduler.json"
    # A port of its own choice: one that was found free may be taken by the time it begins.
    where = ("--host", "127.0.0.1", "--port", "0", "--scheduler-file", str(told))
    scheduler = start(folder, "scheduler", *where, "--no-dashboard")
    cluster = Cluster(folder, "", [])
    try:
        while not (told.exists() and told.read_text().endswith("}")):
            assert scheduler.poll() is None, (folder / "log.txt").read_text()
            time.sleep(0.05)
        cluster.address = json.loads(told.read_text())["address"]
        cluster.fill()
        yield cluster
    finally:
        for process in (scheduler, *cluster.workers):
            end(process)


def end(process):
    """Kill a program and the processes that it has started, as a power failure does."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def local_copy(finished, archive, tmp_path, which, address):
    """A config, and the folder of a combination as it was before its exposures were masked."""
    place = tmp_path / "work" / NAMES[which]
    gone = ("*_masked.fits", "*_refined.fits", "background.fits")
    shutil.copytree(finished[1][which].path, place, ignore=shutil.ignore_patterns(*gone))
    grating = NAMES[which].split("-")[0]
    folder = Folder(Combination(grating, "F115W"), tmp_path / "work", tmp_path / "out")
    table = exposure_table.read(folder.table)
    table["status"][table["status"] == exposure_table.REJECTED] = exposure_table.ACCEPTED
    exposure_table.write(table, folder.table)
    return archive.config(tmp_path, gratings=[grating], compute={"scheduler": address}), folder


def assert_same(folder, expected):
    for row in exposure_table.read(expected.table):
        if row["status"] in (exposure_table.ACCEPTED, exposure_table.REJECTED):
            name = row["productFilename"]
            ours, theirs = (x.masked(name).read_bytes() for x in (folder, expected))
            assert ours == theirs
    one, other = (combined_background.read(x.background) for x in (folder, expected))
    np.testing.assert_array_equal(one.sci, other.sci)
    np.testing.assert_array_equal(one.err, other.err)
    assert one.systematic == other.systematic
    assert exposure_table.fates(one.inputs) == exposure_table.fates(other.inputs)


def test_a_cluster_gives_the_same_to_the_last_bit(finished, archive, dask, tmp_path):
    config, folder = local_copy(finished, archive, tmp_path, 0, dask.address)
    for script in ("makeMask.py", "makeBackgrounds.py", "finalizeBackgrounds.py"):
        done = archive.run(script, config)
        assert done.returncode == 0, done.stdout + done.stderr
        assert "Traceback" not in done.stderr
        assert "distributed" not in done.stderr
    assert_same(folder, finished[1][0])
    assert folder.finished.exists()


@pytest.mark.parametrize("moment", ["*_masked.fits", ".wfssbkg.work.*_refined.fits"])
def test_a_worker_that_is_killed_changes_nothing(finished, archive, dask, tmp_path, moment):
    """It is killed with its nanny, which would replace it, at the first file of a kind."""
    config, folder = local_copy(finished, archive, tmp_path, 1, dask.address)
    dask.fill()
    oldest, killed = dask.workers[0], False
    for script in ("makeMask.py", "makeBackgrounds.py"):
        process = subprocess.Popen(
            [sys.executable, str(ROOT / script), "--config", str(config)],
            env=archive.environment(), cwd=tmp_path, text=True,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip
        while process.poll() is None and not killed:
            if any(folder.path.glob(moment)):
                end(oldest)
                killed = process.poll() is None
            time.sleep(0.005)
        output, _ = process.communicate()
        assert process.returncode == 0, output
    assert killed
    dask.workers.remove(oldest)
    assert_same(folder, finished[1][1])


def test_a_scheduler_that_does_not_answer_is_one_message(capsys, monkeypatch):
    monkeypatch.setattr(parallel, "CONNECT_TIMEOUT", 1)
    compute = Compute(workers=None, memory_gb=4, scheduler="tcp://127.0.0.1:9")
    with pytest.raises(SystemExit, match="1"):
        workers = parallel.Workers(compute, need_gb=0.5)
        command_line.run(lambda: workers.run_in_order(abs, [(1,)], description="x"))
    (line,) = capsys.readouterr().err.splitlines()
    assert "tcp://127.0.0.1:9" in line
    assert "dask scheduler" in line


@pytest.mark.parametrize("address", ["tcp://host", "node7:8786", "dask", "tcp://a b:1"])
def test_addresses_that_are_none(tmp_path, address):
    (tmp_path / "c.yaml").write_text(f"compute:\n  scheduler: {address}\n")
    with pytest.raises(ConfigError, match="tcp://host:port"):
        read(tmp_path / "c.yaml")
