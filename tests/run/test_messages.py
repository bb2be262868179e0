"""Bars with the time left on a terminal, none elsewhere, and silence when asked for."""

import fcntl
import os
import pty
import re
import shutil
import struct
import subprocess
import sys
import termios
import threading

import pytest

from tests.conftest import NAMES, ROOT
from wfssbkg.run import command_line, messages


@pytest.fixture
def quiet():
    messages.screen.quiet, messages.screen.subject = True, "GR150C-F115W: "
    yield
    messages.screen.quiet, messages.screen.subject = False, ""


def test_quiet_keeps_warnings_and_failures(quiet, capsys):
    messages.announce("GR150C-F115W")
    messages.say("all is well")
    messages.warn("")
    with messages.bar("reading", 3, "letters") as bar:
        bar.update()
    assert capsys.readouterr() == ("", "")
    messages.warn("a failure")
    assert capsys.readouterr() == ("", "GR150C-F115W: a failure\n")


def test_quiet_and_verbose_exclude_each_other(capsys):
    with pytest.raises(SystemExit) as ended:
        command_line.start("", ["--quiet", "--verbose"])
    assert ended.value.code == command_line.WRONG_USE
    assert "not allowed with" in capsys.readouterr().err


# ---- whole scripts -----------------------------------------------------------------------------


def test_piped_output_of_all_scripts_is_plain(finished):
    _, _, outputs = finished
    text = "".join(done.stdout + done.stderr for done in outputs)
    assert not re.search(r"[\r\x1b\x08]", text)
    assert all(done.stderr == "" for done in outputs)


@pytest.fixture
def copy(finished, archive, tmp_path):
    """The config of a copy of the finished run, in which a combination is to be combined again."""
    place = tmp_path / "work" / NAMES[0]
    shutil.copytree(
        finished[1][0].path, place, ignore=shutil.ignore_patterns("*_rate.fits", "background.fits")
    )
    return archive.config(tmp_path, gratings=["GR150C"])


def on_terminal(command, **options):
    """What a command prints on a terminal of 100 columns, and its exit status."""
    ours, its = pty.openpty()
    fcntl.ioctl(its, termios.TIOCSWINSZ, struct.pack("4H", 40, 100, 0, 0))
    shown = []

    def read():
        while True:
            try:
                part = os.read(ours, 65536)
            except OSError:  # Linux raises it when the other end is closed
                return
            if not part:
                return
            shown.append(part)

    reader = threading.Thread(target=read)
    process = subprocess.Popen(command, stdin=its, stdout=its, stderr=its, **options)
    os.close(its)
    reader.start()
    status = process.wait(timeout=120)
    reader.join()
    os.close(ours)
    return b"".join(shown).decode(), status


def test_a_terminal_shows_bars_with_the_time_left(copy, archive):
    script = [sys.executable, str(ROOT / "makeBackgrounds.py"), "--config", str(copy)]
    shown, status = on_terminal(
        [*script, "--workers", "1"], env=archive.environment(), cwd=copy.parent
    )
    assert status == 0, shown
    assert re.search(r"\r  levels: +\d+%\|.*\| \d+/9 \[\d\d:\d\d<", shown)
    # In the end a bar makes room for what follows.
    assert re.search(r"\r {20,}\r  \w[^\r]+\r\n", shown)


def test_quiet_makes_a_background_in_silence(copy, archive):
    log = copy.parent / "run.log"
    done = archive.run("makeBackgrounds.py", copy, "--quiet", "--log", log, "--workers", "2")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert re.search(r"Z   \d exposures combined into .*background.fits\n", log.read_text())
    assert (copy.parent / "work" / NAMES[0] / "background.fits").exists()


def test_quiet_tells_of_an_exposure_that_failed(copy, archive):
    masked = sorted((copy.parent / "work" / NAMES[0]).glob("*_masked.fits"))[0]
    masked.write_bytes(masked.read_bytes()[:100_000])
    done = archive.run("makeBackgrounds.py", copy, "--quiet")
    assert (done.returncode, done.stdout) == (0, "")
    (line,) = done.stderr.splitlines()
    name = masked.name.replace("_masked", "_rate")
    assert line.startswith(f"GR150C-F115W: {name} failed: {masked}")
