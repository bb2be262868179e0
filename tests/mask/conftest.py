"""Small archives of one combination, and what runs scripts on them."""

import shutil
from dataclasses import replace

import pytest

from demo import archive as simulator
from demo import crds_cache
from demo.exposures import accuracy_exposures
from tests.conftest import Archive
from wfssbkg.layout import Combination, Folder

NPIX, NUMBER = 128, 4
PAIR = ("GR150C", "F115W")
CLEANED = {"none": 0, "some": 1, "all": NUMBER}  # how many of the exposures stage 1 cleaned
NOWHERE = "http://127.0.0.1:9"
SMALL = {
    "gratings": [PAIR[0]],
    "combine": {"level_border": 8, "structure_box": 16},
    "finalize": {"patch_size": 3, "patch_distance": 2},
    "compute": {"workers": 1},
}


def exposures(cleaned):
    """Some exposures, the first of which stage 1 cleaned."""
    specs = accuracy_exposures(5, *PAIR, fields=2, dithers=2)
    return [
        replace(spec, cleaning="COMPLETE" if number < cleaned else None)
        for number, spec in enumerate(specs)
    ]


@pytest.fixture(scope="session")
def cache(tmp_path_factory):
    """The folder of the CRDS cache that scripts use, if a test has none of its own."""
    return crds_cache.build_cache(tmp_path_factory.mktemp("crds"), NPIX, [PAIR])


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
def scripts(cache, archives, place, tmp_path):
    """Runs scripts on an archive; what the last one said."""

    def run(rates, *names, status=0, environment=None, options=(), **mask):
        source = archives / rates if isinstance(rates, str) else rates
        query = {"source": str(source), "gaia_g_limit": None}
        mask = {"background_box": 16, "flicker_noise": "auto"} | mask
        archive = Archive(source, cache, NOWHERE)
        config = archive.config(tmp_path, **SMALL, query=query, mask=mask)
        if names != ("queryData.py",) and not place.table.exists():
            names = ("queryData.py", *names)
        for name in names:
            last = name == names[-1]
            done = archive.run(name, config, *(options if last else ()), **(environment or {}))
            said = done.stdout + done.stderr
            assert "Traceback" not in said, said
            assert done.returncode == (status if last else 0), said
        return said

    return run


@pytest.fixture
def own_rates(archives, tmp_path):
    """A folder with a copy of the rate files that nothing was done to."""
    return shutil.copytree(archives / "none", tmp_path / "rates")
