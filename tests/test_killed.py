"""Scripts that are interrupted or killed, and full or read-only disks: no loss, no debris."""

import contextlib
import os
import random
import re
import signal
import subprocess
import sys
import time

import numpy as np
import psutil
import pytest
from astropy.io import fits

from tests.conftest import NAMES, ROOT, SCRIPTS
from tests.test_faults import folder_of, no_debris, says
from wfssbkg.files import exposure_table, fits_file, temporary, up_to_date

LONGEST = 120  # s
ALL = (*SCRIPTS, "compareBackgrounds.py")


def start(archive, script, config_file, *options):
    """Start a script in a group of processes of its own, as a terminal does."""
    return subprocess.Popen(
        [sys.executable, str(ROOT / script), "--config", str(config_file), *options],
        env=archive.environment(),
        cwd=config_file.parent,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        # Tests that run in the background of a shell inherit that Ctrl-C is ignored.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )


def duration_of(archive, script, config_file):
    """The time of an undisturbed run of a script, s."""
    begin = time.monotonic()
    assert archive.run(script, config_file).returncode == 0
    return time.monotonic() - begin


def wait_for_work(process, folder):
    """Wait until the script has locked the folder, which comes after its imports, or has ended."""
    end = time.monotonic() + LONGEST
    while not folder.lock.exists() and process.poll() is None and time.monotonic() < end:
        time.sleep(0.01)


def end(process, how):
    """End a script, and check that all its processes end; returns what it printed."""
    with contextlib.suppress(psutil.NoSuchProcess):
        children = psutil.Process(process.pid).children(recursive=True)
        if how == signal.SIGINT:  # a terminal sends it to all of them
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, how)
        else:
            process.send_signal(how)
    _, errors = process.communicate(timeout=LONGEST)
    _, alive = psutil.wait_procs(children, timeout=20)
    assert not alive
    return errors


def same_images(one, other):
    """Whether two files have the same pixels, to the last bit."""
    with fits.open(one) as first, fits.open(other) as second:
        for hdu, expected in zip(first, second, strict=True):
            if hdu.is_image and hdu.data is not None:
                np.testing.assert_array_equal(hdu.data, expected.data)


def same_as_undisturbed(folder, undisturbed, script):
    """Check that a script has made the same as in the undisturbed run."""
    made = {
        "queryData.py": "*_rate.fits", "makeMask.py": "*_masked.fits",
        "makeBackgrounds.py": "background.fits",
    }  # fmt: skip
    if script not in made:
        same_images(folder.finished, undisturbed.finished)
        same_images(folder.finished_unflat, undisturbed.finished_unflat)
        return
    names = sorted(path.name for path in undisturbed.path.glob(made[script]))
    assert sorted(path.name for path in folder.path.glob(made[script])) == names
    assert names
    for name in names:
        same_images(folder.path / name, undisturbed.path / name)


def test_scripts_that_are_interrupted_killed_and_run_again(finished, archive, tmp_path):
    """Each script gets Ctrl-C while it works, then SIGKILL, and is then left undisturbed."""
    rng = random.Random(1)
    config_file = archive.config(tmp_path, gratings=["GR150C"])
    folder = folder_of(config_file)
    for script in SCRIPTS:
        for how in (signal.SIGINT, signal.SIGKILL):
            process = start(archive, script, config_file)
            wait_for_work(process, folder)
            time.sleep(rng.uniform(0, 0.5))
            # Python itself says so where the signal comes in one of its own hooks, and goes on.
            ignored = r"Exception ignored in.*?KeyboardInterrupt: ?\n"
            errors = re.sub(ignored, "", end(process, how), flags=re.DOTALL)
            assert "Traceback" not in errors, script
            # 0: it was done. As Python itself ends, the signal ends the process: its work is done.
            if how == signal.SIGINT and process.returncode not in (0, -signal.SIGINT):
                assert process.returncode == 130
                assert errors.count("Interrupted") == 1
                no_debris(tmp_path)
        done = archive.run(script, config_file)
        assert done.returncode == 0, done.stdout + done.stderr
        same_as_undisturbed(folder, finished[1][0], script)
        no_debris(tmp_path)


@pytest.mark.soak
@pytest.mark.parametrize("script", ALL)
def test_twenty_random_moments_to_be_killed(finished, archive, tmp_path, script):
    """After each of them the script is run again, and makes the same to the last bit."""
    rng = random.Random(ALL.index(script))
    config_file = archive.config(tmp_path, gratings=["GR150C"])
    folder = folder_of(config_file)
    for before in ALL[: ALL.index(script)]:
        assert archive.run(before, config_file).returncode == 0
    duration = duration_of(archive, script, config_file)
    for _ in range(20):
        process = start(archive, script, config_file, "--overwrite")
        time.sleep(rng.uniform(0, duration))
        assert "Traceback" not in end(process, signal.SIGKILL)
        done = archive.run(script, config_file)
        assert done.returncode == 0, done.stdout + done.stderr
        same_as_undisturbed(folder, finished[1][0], script)
        no_debris(tmp_path)


@pytest.mark.soak
def test_ctrl_c_at_any_moment(archive, tmp_path):
    rng = random.Random(5)
    config_file = archive.config(tmp_path, gratings=["GR150C"])
    for script in ALL:
        duration = duration_of(archive, script, config_file)
        for _ in range(10):
            process = start(archive, script, config_file, "--overwrite")
            time.sleep(rng.uniform(0.2, duration))
            errors = end(process, signal.SIGINT)
            # Before Python has started, while libraries load (with Python's own traceback) and
            # after it has ended, the signal itself ends the process: a shell reports 130 as well.
            if process.returncode == -signal.SIGINT:
                assert "in main\n" not in errors, script
            else:
                assert "Traceback" not in errors, script
            assert process.returncode in (0, 130, -signal.SIGINT)
            assert errors.count("Interrupted") == (process.returncode == 130)
            no_debris(tmp_path)


# ---- disks


@contextlib.contextmanager
def disk(place, size):
    """A file system of `size` kB; yields a function that changes its mount options."""
    place.mkdir()
    made = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={size}k", "tmpfs", str(place)],
        capture_output=True, text=True,
    ) if os.geteuid() == 0 else None  # fmt: skip
    if made is None or made.returncode:
        pytest.skip("only root can mount a small file system" if made is None else made.stderr)

    def change(option):
        subprocess.run(["mount", "-o", f"remount,{option}", str(place)], check=True)

    try:
        yield change
    finally:
        subprocess.run(["umount", "-l", str(place)], check=True)


def test_a_disk_that_is_full_in_the_middle_of_a_write(tmp_path):
    image = np.ones((100, 100))
    with disk(tmp_path / "disk", 60) as change:
        path = tmp_path / "disk" / "image.fits"
        for size in (60, 64, 68, 72, 76, 80):
            change(f"size={size}k")
            with pytest.raises(OSError, match=r"image\.fits cannot be written .*make room"):
                fits_file.write(path, [fits.PrimaryHDU(image)])
            assert list((tmp_path / "disk").iterdir()) == []
        change("size=200k")
        fits_file.write(path, [fits.PrimaryHDU(image)])
        with pytest.raises(OSError, match="make room"):  # and the old file stays
            fits_file.write(path, [fits.PrimaryHDU(np.ones((200, 200)))])
        np.testing.assert_array_equal(fits.getdata(path), image)
        change("ro")
        with pytest.raises(
            OSError, match=r"Read-only file system.*You may not write to the folder"
        ):
            fits_file.write(path, [fits.PrimaryHDU(image)])
        assert list((tmp_path / "disk").iterdir()) == [path]


def test_masking_on_a_full_disk_goes_on_when_there_is_room(finished, archive, tmp_path):
    rates = finished[1][0].path
    query = {"source": str(rates), "gaia_g_limit": None}
    with disk(tmp_path / "disk", 2000) as change:
        config_file = archive.config(
            tmp_path, gratings=["GR150C"], query=query, working_directory="disk"
        )
        folder = folder_of(config_file)
        assert archive.run("queryData.py", config_file).returncode == 0
        done = archive.run("makeMask.py", config_file)
        assert done.returncode == 1
        says(done, "cannot be written", "make room")
        no_debris(tmp_path)
        table = exposure_table.read(folder.table)
        fates = exposure_table.fates(table)
        left_out = len(fates[exposure_table.EXCLUDED])
        assert len(fates[exposure_table.ACCEPTED]) == len(table) - left_out
        written = list(folder.path.glob("*_masked.fits"))
        assert len(written) < len(table)
        for path in written:
            assert up_to_date.made_with(path)
        change("size=100m")
        done = archive.run("makeMask.py", config_file)
        assert done.returncode == 0, done.stdout + done.stderr
        same_as_undisturbed(folder, finished[1][0], "makeMask.py")
        no_debris(tmp_path)


@pytest.mark.soak
def test_all_scripts_on_a_disk_that_grows(finished, archive, tmp_path):
    """The disk grows only when a script says that it needs more room."""
    with disk(tmp_path / "disk", 100) as change:
        config_file = archive.config(
            tmp_path, gratings=["GR150C"], working_directory="disk/work",
            output_directory="disk/out",
        )  # fmt: skip
        folder = folder_of(config_file)
        size, full = 100, set()
        for script in SCRIPTS:
            while (done := archive.run(script, config_file)).returncode:
                assert "Traceback" not in done.stdout + done.stderr
                words = done.stdout + done.stderr
                assert "room" in words or "No space left" in words, words
                no_debris(tmp_path)
                full.add(script)
                size += 700
                change(f"size={size}k")
            if script == "queryData.py":  # only downloads that did not fit have failed
                change("size=100m")
                assert archive.run(script, config_file).returncode == 0
                size = sum(path.stat().st_size for path in tmp_path.rglob("disk/**/*.fits")) // 1024
                change(f"size={size + 100}k")
        assert full == set(SCRIPTS)
        same_as_undisturbed(folder, finished[1][0], "finalizeBackgrounds.py")


def test_what_was_left_unfinished_in_the_output_folder_is_removed(finished, archive, tmp_path):
    """Even if there is nothing else to do."""
    config_file, folders, _ = finished
    left = folders[0].output_directory / f".wfssbkg.0123abcd.{folders[0].finished.name}"
    left.write_bytes(b"SIMPLE")
    done = archive.run("finalizeBackgrounds.py", config_file, "--combination", NAMES[0])
    assert "nothing to do" in done.stdout
    assert not list(temporary.unfinished(folders[0].output_directory))
