"""Bars with the time left on a terminal, plain lines elsewhere, and silence when asked for."""

import fcntl
import io
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
from wfssbkg import cli, progress


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0.2, "0 s"), (59.4, "59 s"), (59.6, "1 min 0 s"), (200, "3 min 20 s"), (7260, "2 h 1 min")],
)
def test_durations_are_in_words(seconds, words):
    assert progress.duration(seconds) == words


def told(done, *, least, total=10, elapsed=8.0, **options):
    """What a bar says when so much is done."""
    with progress._Bar(
        total=total, unit="part", bar_format=progress._FORMAT, file=io.StringIO(), **options
    ) as bar:
        bar.least = least
        bar.start_t -= elapsed
        bar.n = done
        return str(bar)


def test_the_time_left_is_told_as_soon_as_it_can_be_known():
    assert "0 of 10 parts" in told(0, least=1)
    assert "left" not in told(0, least=1)
    assert told(2, least=2).endswith("2 of 10 parts, 32 s left")
    # Two jobs of four workers end: the others are half done, which nobody knows.
    assert told(2, least=4).endswith("2 of 10 parts")
    assert told(4, least=4).endswith("4 of 10 parts, 12 s left")
    assert "left" not in told(10, least=1)


def test_a_step_is_one_plain_line_where_there_is_no_terminal(capsys, monkeypatch):
    assert list(progress.each("abc", "brief", "letter")) == ["a", "b", "c"]
    monkeypatch.setattr(progress, "BRIEF", 0)
    assert list(progress.each("abc", "reading", "letter")) == ["a", "b", "c"]
    with progress.waiting("asking"):
        pass
    printed = capsys.readouterr()
    assert printed.out == "  reading: 3 letters in 0 s\n"
    assert printed.err == ""


def test_nothing_is_told_of_nothing_or_of_a_step_that_failed(capsys, monkeypatch):
    monkeypatch.setattr(progress, "BRIEF", 0)
    assert list(progress.each([], "reading", "letter")) == []
    with pytest.raises(ValueError, match="spoilt"), progress.bar("reading", 3, "letter"):
        raise ValueError("spoilt")
    assert capsys.readouterr() == ("", "")


@pytest.fixture
def quiet():
    cli._screen.quiet, cli._screen.subject = True, "GR150C-F115W: "
    yield
    cli._screen = cli._Screen()


def test_quiet_keeps_warnings_and_failures(quiet, capsys, monkeypatch):
    monkeypatch.setattr(progress, "BRIEF", 0)
    cli.announce("GR150C-F115W")
    cli.say("all is well")
    cli.warn("")
    list(progress.each("abc", "reading", "letter"))
    assert capsys.readouterr() == ("", "")
    cli.warn("a failure")
    assert capsys.readouterr() == ("", "GR150C-F115W: a failure\n")


def test_quiet_and_verbose_exclude_each_other(capsys):
    with pytest.raises(SystemExit) as ended:
        cli.start("", ["--quiet", "--verbose"])
    assert ended.value.code == cli.WRONG_USE
    assert "not allowed with" in capsys.readouterr().err


# ---- whole scripts -----------------------------------------------------------------------------


def test_piped_output_of_all_scripts_is_plain(finished):
    _, _, outputs = finished
    text = "".join(done.stdout + done.stderr for done in outputs)
    assert not re.search(r"[\r\x1b\x08]", text)
    lines = re.findall(r"^  masking: \d+ exposures in \d+ s$", text, re.MULTILINE)
    assert 1 <= len(lines) <= len(NAMES)  # none of what took less than a second
    assert all(done.stderr == "" for done in outputs)


@pytest.fixture
def copy(finished, archive, tmp_path):
    """One combination of the finished run: a place to combine it again."""
    place = tmp_path / "work" / NAMES[0]
    shutil.copytree(
        finished[1][0].path, place, ignore=shutil.ignore_patterns("*_rate.fits", "background.fits")
    )
    return archive.config(tmp_path, gratings=["GR150C"])


def on_terminal(command, **options):
    """What a command shows on a terminal of 100 columns, and its exit status."""
    ours, its = pty.openpty()
    fcntl.ioctl(its, termios.TIOCSWINSZ, struct.pack("4H", 40, 100, 0, 0))
    shown = []

    def read():
        while True:
            try:
                part = os.read(ours, 65536)
            except OSError:  # Linux: its end is closed
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
    assert re.search(r"\r  [a-z() 12]+: +\d+ % \|.*\| \d+ of \d+ \w+, \d+ s left", shown)
    # In the end a bar makes room for what follows.
    assert re.search(r"\r {20,}\r  \w[^\r]+\r\n", shown)


def test_quiet_makes_a_background_in_silence(copy, archive):
    done = archive.run("makeBackgrounds.py", copy, "--quiet")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert (copy.parent / "work" / NAMES[0] / "background.fits").exists()


def test_quiet_tells_of_an_exposure_that_failed(copy, archive):
    masked = sorted((copy.parent / "work" / NAMES[0]).glob("*_masked.fits"))[0]
    masked.write_bytes(masked.read_bytes()[:100_000])
    done = archive.run("makeBackgrounds.py", copy, "--quiet")
    assert (done.returncode, done.stdout) == (0, "")
    (line,) = done.stderr.splitlines()
    name = masked.name.replace("_masked", "_rate")
    assert line.startswith(f"GR150C-F115W: {name} failed: {masked}")
