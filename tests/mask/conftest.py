"""Small archives of one combination, and one process that runs all scripts on them."""

import json
import shutil
import subprocess
import sys
from dataclasses import replace

import pytest

from demo import archive as simulator
from demo import crds_cache
from demo.exposures import accuracy_exposures
from tests.conftest import ROOT, Archive
from wfssbkg.layout import Combination, Folder

NPIX, NUMBER = 128, 4
PAIR = ("GR150C", "F115W")
CLEANED = {"none": 0, "some": 1, "all": NUMBER}  # how many of the exposures stage 1 cleaned
NOWHERE = "http://127.0.0.1:9"
SMALL = {
    "gratings": [PAIR[0]],
    "combine": {"level_border": 8, "structure_box": 16, "maximum_structure": 9.0},
    "finalize": {"patch_size": 3, "patch_distance": 2},
    "compute": {"workers": 1},
}

# The libraries are loaded once for all scripts, which takes longer than what they do here.
DRIVER = """
import contextlib, io, json, os, runpy, sys

answers = sys.stdout
for line in sys.stdin:
    sys.argv, changes = json.loads(line)
    os.environ.update(changes)
    said, status = io.StringIO(), 0
    with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
        try:
            runpy.run_path(sys.argv[0], run_name="__main__")
        except SystemExit as end:
            status = end.code
    print(json.dumps([status, said.getvalue()]), file=answers, flush=True)
"""


def exposures(cleaned):
    """Some exposures, the first of which stage 1 cleaned."""
    specs = accuracy_exposures(5, *PAIR, fields=2, dithers=2)
    return [
        replace(spec, cleaning="COMPLETE" if number < cleaned else None)
        for number, spec in enumerate(specs)
    ]


@pytest.fixture(scope="session")
def driver(tmp_path_factory):
    """Runs a script with arguments and changes to the environment: exit status, what it said."""
    place = tmp_path_factory.mktemp("driver")
    cache = crds_cache.build_cache(place / "crds", NPIX, [PAIR])
    with (place / "errors.txt").open("w") as errors, subprocess.Popen(
        [sys.executable, "-c", DRIVER], cwd=ROOT, text=True, stderr=errors,
        env=Archive(place, cache, NOWHERE).environment(),
        stdin=subprocess.PIPE, stdout=subprocess.PIPE,
    ) as process:  # fmt: skip

        def run(*arguments, **changes):
            environment = crds_cache.environment(cache) | changes
            process.stdin.write(json.dumps([[*map(str, arguments)], environment]) + "\n")
            process.stdin.flush()
            return json.loads(process.stdout.readline())

        yield run
        process.stdin.close()


@pytest.fixture(scope="session")
def archives(tmp_path_factory):
    """Archives whose exposures were cleaned in stage 1: none, some and all of them."""
    place = tmp_path_factory.mktemp("archives")
    for name, number in CLEANED.items():
        simulator.simulate_archive(place / name, exposures(number), npix=NPIX, seed=5)
    return place


@pytest.fixture
def place(tmp_path):
    """The folder of the combination in a run of `scripts`."""
    return Folder(Combination(*PAIR), tmp_path / "work", tmp_path / "out")


@pytest.fixture
def scripts(driver, archives, place, tmp_path):
    """Runs scripts on an archive; what the last one said."""

    def run(rates, *names, status=0, environment=None, options=(), **mask):
        source = archives / rates if isinstance(rates, str) else rates
        query = {"source": str(source), "gaia_g_limit": None}
        mask = {"background_box": 16, "flicker_noise": "auto"} | mask
        config = Archive(source, source, NOWHERE).config(tmp_path, **SMALL, query=query, mask=mask)
        if names != ("queryData.py",) and not place.table.exists():
            names = ("queryData.py", *names)
        for name in names:
            last = name == names[-1]
            arguments = "--config", config, *(options if last else ())
            code, said = driver(ROOT / name, *arguments, **(environment or {}))
            assert "Traceback" not in said, said
            assert code == (status if last else 0), said
        return said

    return run


@pytest.fixture
def own_rates(archives, tmp_path):
    """A folder with a copy of the rate files that nothing was done to."""
    return shutil.copytree(archives / "none", tmp_path / "rates")
