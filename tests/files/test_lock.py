import os
import signal
import subprocess
import sys
import time

import pytest

from wfssbkg.errors import StepError
from wfssbkg.files import lock

HOLD = """
import sys, time
from pathlib import Path
from wfssbkg.files import lock
with lock.hold(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(60)
"""


@pytest.fixture
def holder(tmp_path):
    """Another process, which holds the lock of a folder, and the lock file."""
    path = tmp_path / "GR150C-F115W" / ".lock"
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(path)], stdout=subprocess.PIPE, text=True,
        # In the background of a shell, tests inherit that Ctrl-C is ignored.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )  # fmt: skip
    assert process.stdout.readline() == "held\n"
    yield process, path
    process.kill()
    process.wait()


def test_who_holds_a_lock_is_said(holder):
    process, path = holder
    with pytest.raises(StepError) as error, lock.hold(path):
        pass
    for word in (f"process {process.pid}", os.uname().nodename, "since 20", str(path.parent)):
        assert word in str(error.value)


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_the_lock_of_a_dead_process_is_taken_over(holder, how):
    process, path = holder
    process.send_signal(how)
    process.wait()
    with lock.hold(path):
        assert f"process {os.getpid()}" in path.read_text()


def test_nothing_is_left(tmp_path):
    path = tmp_path / "GR150C-F115W" / ".lock"
    with lock.hold(path):
        assert path.exists()
    assert not path.parent.exists()
    with lock.hold(path):
        (path.parent / "table.fits").touch()
    assert [left.name for left in path.parent.iterdir()] == ["table.fits"]


def test_what_a_dead_run_left_unfinished_is_removed(tmp_path):
    kept = [tmp_path / name for name in ("table.fits", ".hidden", "jw1_rate.fits")]
    left = [tmp_path / f".wfssbkg.0123abcd.{path.name}" for path in kept]
    for path in kept + left:
        path.touch()
    with lock.hold(tmp_path / ".lock"):
        assert not any(path.exists() for path in left)
        left[0].touch()
    assert sorted(tmp_path.iterdir()) == sorted(kept)


def test_one_of_many_holds_it_at_a_time(tmp_path):
    """Each holder makes a file that must not exist yet, and removes it."""
    code = (
        "import sys, time\nfrom pathlib import Path\n"
        "from wfssbkg.errors import StepError\nfrom wfssbkg.files import lock\n"
        "path, turns = Path(sys.argv[1]), 0\n"
        "while turns < 20:\n"
        "    try:\n"
        "        with lock.hold(path):\n"
        "            busy = path.with_name('busy')\n"
        "            busy.open('x').close()\n"
        "            time.sleep(0.001)\n"
        "            busy.unlink()\n"
        "            turns += 1\n"
        "    except StepError:\n"
        "        time.sleep(0.001)\n"
    )
    processes = [
        subprocess.Popen([sys.executable, "-c", code, str(tmp_path / ".lock")]) for _ in range(3)
    ]
    deadline = time.monotonic() + 60
    assert [process.wait(deadline - time.monotonic()) for process in processes] == [0, 0, 0]
