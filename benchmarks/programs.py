"""Run programs whose time counts; if one fails, its last messages are shown."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

from demo import run as runner


class Failed(SystemExit):
    """A program has failed; unless somebody catches this, the benchmark ends with its message."""


def run_script(name: str, settings: Path, work: Path) -> runner.Usage:
    """Run a script and watch its memory; its messages go to log.txt beside the settings."""
    with (settings.parent / "log.txt").open("ab") as log:
        usage = runner.run_script(name, settings, work, log)
    _check(name, usage.status, settings.parent)
    return usage


def time_of(program: str, *arguments: str, place: Path, work: Path) -> float:
    """Run a Python program; returns its time, s. To watch its memory would take time as well."""
    command = [sys.executable, program, *arguments]
    with (place / "log.txt").open("ab") as log:
        began = time.monotonic()
        done = subprocess.run(
            command, env=runner.environment(work), stdout=log, stderr=subprocess.STDOUT
        )
        seconds = time.monotonic() - began
    _check(Path(program).name, done.returncode, place)
    return seconds


def _check(name: str, status: int, place: Path) -> None:
    if status:
        print((place / "log.txt").read_text()[-2000:], file=sys.stderr)
        raise Failed(f"{name} ended with exit status {status}: see {place}/log.txt")
