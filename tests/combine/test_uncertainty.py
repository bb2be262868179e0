"""The uncertainty of backgrounds against a known truth, on frames of a quarter of the size."""

import contextlib
import io
import os
from unittest import mock

import numpy as np
import pytest
import yaml
from astropy.table import Table

from benchmarks import accuracy, report, sets
from demo import run as runner
from tests.conftest import ROOT
from tests.script_server import python

SETTINGS = {"mask": {"background_box": 32}, "combine": {"level_border": 32, "structure_box": 32}}


def run_forked(name, settings, work, output):
    """As `demo.run.run_script`, without the time and memory, which nothing here is about."""
    environment = runner.environment(work)
    done = python(ROOT / name, "--config", settings, cwd=work, env=environment)
    output.write((done.stdout + done.stderr).encode())
    return runner.Usage(name, status=done.returncode)


@pytest.fixture(scope="module")
def rows(tmp_path_factory):
    """The benchmark's rows for 12 exposures of 512 x 512 pixels, with the default recipe."""
    folder = tmp_path_factory.mktemp("uncertainty")
    recipe = folder / "default.yaml"
    recipe.write_text(yaml.safe_dump(SETTINGS))
    arguments = ["--sets", "plain", "--seeds", "5", "--workers", "1", "--npix", "512"]
    arguments += ["--recipes", "--config", str(recipe), "--work", str(folder / "work")]
    with (
        mock.patch.dict(os.environ),
        mock.patch.object(accuracy, "warm_up"),  # only times become better by it
        mock.patch.object(runner, "run_script", run_forked),
        mock.patch.dict(sets.SETS, plain=sets.Set(("GR150C-F115W",), 4, 3)),
        contextlib.redirect_stdout(io.StringIO()),
    ):
        assert accuracy.main(arguments) == 0
    return Table.read(folder / "work" / "accuracy.ecsv")


@pytest.mark.parametrize("stage", report.STAGES)
def test_uncertainty_is_calibrated_at_every_coverage(rows, stage):
    low, high = report.CALIBRATED
    (row,) = rows[rows["stage"] == stage]
    pulls = [row[name] for name in report.CALIBRATIONS if np.isfinite(row[name])]
    assert len(pulls) >= 2
    assert low <= min(pulls)
    assert max(pulls) <= high
