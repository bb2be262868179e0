"""Somebody who runs queryData.py on a small archive."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from tests.demo.test_server import tiny_archive
from tests.script_server import python
from wfssbkg.files import exposure_table
from wfssbkg.layout import Combination, Folder

ROOT = Path(__file__).resolve().parents[2]
NAMES = ("GR150C-F115W", "GR150R-F115W")


class User:
    """Somebody with a config, a working folder and a small archive."""

    def __init__(self, home, archive):
        self.home = home
        self.archive = archive
        home.mkdir()
        self.configure()

    def configure(self, filters=("F115W",), gratings=("GR150C", "GR150R"), fewest=3, **query):
        here = {"mast_url": self.archive.url, "gaia_url": self.archive.url}
        settings = {
            "gratings": list(gratings), "filters": list(filters), "working_directory": "work",
            "output_directory": "out",
            "query": here | {"timeout": 2.0, "attempts": 2} | query,
            "combine": {"minimum_exposures": fewest},
        }  # fmt: skip
        (self.home / "config.yaml").write_text(yaml.safe_dump(settings))

    def start(self, *options):
        command = [sys.executable, ROOT / "queryData.py", "--config", "config.yaml", *options]
        return subprocess.Popen(
            command,
            cwd=self.home,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            # Tests in the background of a shell inherit that Ctrl-C is ignored; a user does not.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )

    def run(self, *options, status=0, token=None):
        """What the script said; it must end with `status` and without a traceback."""
        script = ROOT / "queryData.py"
        env = {key: value for key, value in os.environ.items() if key != "MAST_API_TOKEN"}
        env |= {} if token is None else {"MAST_API_TOKEN": token}
        done = python(script, "--config", "config.yaml", *options, cwd=self.home, env=env)
        assert done.returncode == status, done.stdout + done.stderr
        assert "Traceback" not in done.stderr
        return done.stdout, done.stderr

    def folder(self, name=NAMES[0]):
        combination = Combination(*name.split("-"))
        return Folder(combination, self.home / "work", self.home / "out")

    def table(self, name=NAMES[0]):
        return exposure_table.read(self.folder(name).table)

    def files(self, name=NAMES[0]):
        return sorted(path.name for path in self.folder(name).path.iterdir())


@pytest.fixture
def archive(tmp_path):
    with tiny_archive(tmp_path / "archive", count=0) as made:
        yield made


@pytest.fixture
def user(tmp_path, archive):
    return User(tmp_path / "user", archive)


def everything_below(folder):
    """All files and folders, and when each was changed."""
    return {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
