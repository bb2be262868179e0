"""--log: everything that is said, with the time, also what --quiet hides."""

import re
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.conftest import ROOT
from tests.demo.test_server import rate_name, write_rate
from tests.script_server import python

ALL = sorted(path.name for path in ROOT.glob("*.py"))
LINE = re.compile(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ) (.*)")


@pytest.fixture
def home(tmp_path):
    """A folder with a config of a user's own rate files, of which one is damaged."""
    (tmp_path / "rates").mkdir()
    write_rate(tmp_path / "rates" / rate_name(1))
    (tmp_path / "rates" / "broken_rate.fits").write_bytes(b"SIMPLE  = nothing")
    config = {
        "gratings": ["GR150C", "GR150R"], "filters": ["F115W"], "working_directory": "work",
        "query": {"source": "rates", "gaia_g_limit": None},
    }  # fmt: skip
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(config))
    return tmp_path


def run(script, home, *options):
    return python(ROOT / script, "--config", "config.yaml", *options, cwd=home)


def read(path):
    """The words of a log; each of its lines must begin with a time of the last minutes, UTC."""
    words = []
    for line in path.read_text().splitlines():
        when, text = LINE.fullmatch(line).groups()
        age = datetime.now(UTC) - datetime.fromisoformat(when)
        assert timedelta(seconds=-1) < age < timedelta(minutes=10)
        words.append(text)
    return words


def printed(*texts):
    return [line for line in "".join(texts).splitlines() if line]


def test_the_log_has_all_that_is_said_also_what_quiet_hides(home):
    loud = run("queryData.py", home, "--log", "run.log")
    assert loud.returncode == 1
    words = read(home / "run.log")
    assert words[0].startswith("WFSSBackgrounds ")
    assert words[0].endswith("queryData.py --config config.yaml --log run.log")
    assert words[-1] == "exit status 1"
    assert words[1:-1] == printed(loud.stdout, loud.stderr)
    assert any("broken_rate.fits: cannot be read" in line for line in words)
    quiet = run("queryData.py", home, "--quiet", "--log", "run.log")
    assert quiet.stdout == ""
    assert "found 1 exposures" not in quiet.stderr
    both = read(home / "run.log")
    assert both[: len(words)] == words
    assert both[len(words) + 1 :] == words[1:]
    # Without it nothing of this is written anywhere.
    assert run("queryData.py", home).stdout == loud.stdout
    assert read(home / "run.log") == both


def test_of_many_warnings_the_log_has_all(home):
    for number in range(12):
        (home / "rates" / f"{number}_rate.fits").touch()
    done = run("queryData.py", home, "--log", "run.log")
    words = "\n".join(read(home / "run.log"))
    assert done.stdout.count("refused: ") == 10
    assert "... and 3 more" in done.stdout
    assert words.count("refused: ") == 13


@pytest.mark.parametrize("script", ALL)
def test_every_script_has_a_log_with_its_failures(script, home):
    done = run(script, home, "--log", "run.log", "--quiet", "--combination", "GR150R-F115W")
    assert done.returncode == 1
    words = read(home / "run.log")
    assert f"{script} --config" in words[0]
    assert words[-1] == "exit status 1"
    for line in printed(done.stderr):
        line = line.removeprefix("GR150R-F115W: ")
        assert any(line in entry for entry in words)


def test_a_wrong_config_is_in_the_log(home):
    (home / "config.yaml").write_text("mask: {growth: -1}")
    done = run("makeMask.py", home, "--log", "run.log")
    assert done.returncode == 2
    assert read(home / "run.log")[1:] == [done.stderr.strip(), "exit status 2"]


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("nowhere/run.log", "cannot be written (No such file or directory)"),
        ("rates", "cannot be written (Is a directory)"),
        ("config.yaml", "it is no log of these scripts, and is left as it is"),
        (f"rates/{rate_name(1)}", "it is no log of these scripts"),
    ],
)
def test_what_cannot_be_the_log_is_wrong_use_and_is_left_as_it_is(home, name, words):
    path = home / name
    before = path.read_bytes() if path.is_file() else None
    done = run("queryData.py", home, "--log", name)
    assert done.returncode == 2
    assert done.stderr.startswith(f"--log {name}: {words}")
    assert len(done.stderr.splitlines()) == 1
    assert (path.read_bytes() if path.is_file() else None) == before
    assert not (home / "work").exists()


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is full")
def test_a_full_disk_ends_the_log_and_not_the_script(home):
    loud = run("queryData.py", home, "--combination", "GR150C-F115W")
    done = run("queryData.py", home, "--combination", "GR150C-F115W", "--log", "/dev/full")
    assert (done.returncode, done.stdout) == (loud.returncode, loud.stdout) == (0, loud.stdout)
    (line,) = done.stderr.splitlines()
    assert line.startswith("--log /dev/full: ")
    assert "No space left on device" in line


PROGRAM = """
from wfssbkg.run import command_line, messages
def main():
    command_line.start("", ["--config", "config.yaml", "--log", "run.log"])
    {body}
    return 0
command_line.run(main)
"""


def test_an_error_that_nobody_expected_is_in_the_log_with_all_that_helps(home):
    done = python("-c", PROGRAM.format(body="1 / 0"), cwd=home)
    assert done.returncode == 1
    text = (home / "run.log").read_text()
    assert "an error that should not happen" in text
    assert "Traceback" in text
    assert "ZeroDivisionError: division by zero" in text


@settings(max_examples=20)
@given(texts=st.lists(st.text(max_size=30), max_size=4))
def test_any_text_becomes_lines_with_a_time(tmp_path_factory, texts):
    home = tmp_path_factory.mktemp("log")
    (home / "config.yaml").write_text("")
    texts = [text.replace("\0", "") for text in texts]
    body = f"for text in {texts!r}: messages.note(text)"
    done = python("-c", PROGRAM.format(body=body), cwd=home)
    assert (done.returncode, done.stderr) == (0, "")
    expected = [line for text in texts for line in text.splitlines() if line]
    content = (home / "run.log").read_bytes().decode().split("\n")
    found = [LINE.fullmatch(line)[2] for line in content if line]
    assert found[1:-1] == [line.encode("utf-8", "backslashreplace").decode() for line in expected]
