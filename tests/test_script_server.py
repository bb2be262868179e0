"""A forked program finds what it would find in a process of its own, and ends as that does."""

import json
import signal
import subprocess
import sys
import time

import pytest

from tests.conftest import Archive
from tests.script_server import LIBRARIES, python

STATE = f"""
import importlib, json, logging, os, signal, sys, threading, warnings
for library in {LIBRARIES}:
    importlib.import_module(library)
import crds
import matplotlib as mpl
import numpy as np

loggers = {{name: logging.getLogger(name) for name in sorted(logging.Logger.manager.loggerDict)}}
print(json.dumps({{
    "arguments": sys.argv, "path": sys.path, "folder": os.getcwd(),
    "environment": sorted(os.environ.items()), "input": sys.stdin.read(),
    "terminal": [stream.isatty() for stream in (sys.stdin, sys.stdout, sys.stderr)],
    "buffered": [stream.line_buffering for stream in (sys.stdout, sys.stderr)],
    "threads": threading.active_count(), "signals": str(signal.getsignal(signal.SIGINT)),
    "files": sorted(os.listdir("/proc/self/fd")) if os.path.exists("/proc/self/fd") else None,
    "warnings": sorted(map(repr, warnings.filters)), "numpy": np.geterr(),
    "loggers": [(name, one.level, len(one.handlers)) for name, one in loggers.items()],
    "root": [logging.root.level, len(logging.root.handlers)],
    "matplotlib": [mpl.get_backend(), mpl.get_configdir()],
    "crds": [crds.client.api.get_crds_server(), crds.core.config.get_crds_cfgpath("jwst")],
}}))
"""


@pytest.mark.parametrize("url", ["https://one.invalid", "https://other.invalid"])
def test_a_forked_program_is_as_a_new_process(tmp_path, url):
    archive = Archive(tmp_path, tmp_path / "crds", "")
    environment = archive.environment(CRDS_SERVER_URL=url, LC_ALL="C.UTF-8")
    arguments = ["-c", STATE, "one", "two words"]
    new = subprocess.run(
        [sys.executable, *arguments], cwd=tmp_path, env=environment, stdin=subprocess.DEVNULL,
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    forked = python(*arguments, cwd=tmp_path, env=environment)
    assert forked.returncode == 0, forked.stderr
    assert forked.stderr == new.stderr
    found, expected = json.loads(forked.stdout), json.loads(new.stdout)
    for name, value in expected.items():
        assert found[name] == value, name


@pytest.mark.parametrize(
    ("code", "status", "words"),
    [
        ("print('done')", 0, ""),
        ("import sys; sys.exit()", 0, ""),
        ("import sys; sys.exit(3)", 3, ""),
        ("import sys; sys.exit('a reason')", 1, "a reason\n"),
        ("1 / 0", 1, "ZeroDivisionError"),
        ("import os, signal; os.kill(os.getpid(), signal.SIGKILL)", -signal.SIGKILL, ""),
        ("import atexit, sys; atexit.register(print, 'last', file=sys.stderr)", 0, "last\n"),
    ],
)
def test_a_program_ends_with_its_own_status(tmp_path, code, status, words):
    done = python("-c", code, cwd=tmp_path)
    assert done.returncode == status
    assert done.stderr.endswith(words) if "\n" in words else words in done.stderr
    assert done.stdout == ("done\n" if "done" in code else "")


def test_scripts_and_modules_are_run_as_the_main_program(tmp_path):
    (tmp_path / "beside.py").write_text("NAME = 'beside'\n")
    text = "import sys, beside\nprint(__name__, beside.NAME, sys.argv[1:])\n"
    (tmp_path / "program.py").write_text(text)
    for arguments in ([tmp_path / "program.py", "--one"], ["-m", "program", "--one"]):
        done = python(*arguments, cwd=tmp_path)
        assert done.stdout == "__main__ beside ['--one']\n", done.stderr


def test_what_one_program_does_the_next_one_does_not_find(tmp_path):
    code = "import os, numpy\nprint(hasattr(numpy, 'spoilt'), 'SPOILT' in os.environ)\n"
    code += "numpy.spoilt = os.environ['SPOILT'] = 'yes'\n"
    for _ in range(2):
        assert python("-c", code, cwd=tmp_path).stdout == "False False\n"


def test_a_program_that_takes_too_long_is_killed(tmp_path):
    code = "import os, time; print(os.getpid(), flush=True); time.sleep(60)"
    begin = time.monotonic()
    with pytest.raises(subprocess.TimeoutExpired):
        python("-c", code, cwd=tmp_path, timeout=0.5)
    assert time.monotonic() - begin < 30
    assert python("-c", "print(1)", cwd=tmp_path).stdout == "1\n"
