"""With --help, the programs beside the scripts tell what they do, and do nothing."""

import os
import subprocess
import sys

import pytest

from tests.conftest import ROOT


@pytest.mark.parametrize(
    "program",
    [
        ["-m", "demo.run"],
        ["-m", "demo.screenshot"],
        ["-m", "interop.run"],
        ["-m", "interop.pipeline"],
        [str(ROOT / "interop" / "grizli_sky.py")],
        ["-m", "tests.fuzz"],
    ],
    ids=lambda program: program[-1].rpartition("/")[-1],
)
def test_help_only_helps(program, tmp_path):
    done = subprocess.run(
        [sys.executable, *program, "--help"],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    usage, _, rest = done.stdout.partition("\n\n")
    assert usage.startswith("usage: ")
    assert not rest.startswith("options")  # first what it does
    assert done.stderr == ""
    assert not list(tmp_path.iterdir())
