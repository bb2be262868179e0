"""Equivariance as in test_equivariance.py, of full frames with every effect of the simulator."""

import shutil

import numpy as np
import pytest
from astropy.io import fits

from benchmarks import sets
from demo import archive as simulator
from demo import crds_cache, optics
from tests import sky
from tests.conftest import Archive
from wfssbkg.combine import background, selection
from wfssbkg.config import read
from wfssbkg.files import exposure_table, flat_field, flicker_noise
from wfssbkg.layout import Combination, Folder
from wfssbkg.run.parallel import Workers

NPIX = optics.FULL_FRAME
pytestmark = pytest.mark.soak


@pytest.fixture(scope="module", params=sets.BOTH)
def masked(request, tmp_path_factory):
    """The masked exposures of six fields with two dithers each: config, folder, dark residuals."""
    place, (grating, name) = tmp_path_factory.mktemp("full"), request.param.split("-")
    options = {"fields": 6, "dithers": 2, "effects": sets.EVERYTHING}
    chosen = simulator.accuracy_exposures(11, grating, name, **options)
    crds = crds_cache.build_cache(place / "crds", NPIX, [(grating, name)])
    simulator.simulate_archive(place / "rates", chosen, NPIX, workers=2, seed=11)
    config = place / "config.yaml"
    config.write_text(
        f"gratings: [{grating}]\nfilters: [{name}]\nworking_directory: work\n"
        "query: {source: rates, gaia_g_limit: null}\n"
    )
    used = Archive(place / "rates", crds, "http://127.0.0.1:9")
    for script in ("queryData.py", "makeMask.py"):
        done = used.run(script, config)
        assert done.returncode == 0, done.stdout + done.stderr
    settings = read(config)
    folder = Folder(Combination(grating, name), settings.working_directory, place)
    return settings, folder, {folder.masked(x.filename).name: x.effects.pedestal for x in chosen}


def combined(masked, place, pattern):
    """The background of exposures whose light is multiplied, and the names of those in it."""
    config, folder, darks = masked
    there = Folder(folder.combination, place / "work", place)
    there.path.mkdir(parents=True)
    inverse = flat_field.inverse(folder.flat, slice(None), (NPIX, NPIX))
    shutil.copy(folder.flat, there.flat)
    for path in folder.path.glob("*_masked.fits"):
        with fits.open(path) as hdus:
            dark = darks[path.name] * inverse  # is no light
            hdus["SCI"].data = ((hdus["SCI"].data - dark) * pattern + dark).astype(np.float32)
            hdus["ERR"].data = (hdus["ERR"].data * pattern).astype(np.float32)
            hdus.writeto(there.path / path.name)
    table = exposure_table.read(folder.table)
    config = flicker_noise.settled(config, table)
    names = selection.candidates(table, there)
    workers = Workers(config.compute, need_gb=background.WORKER_GB)
    members = background.normalise(workers, config, there, table, names)
    members, common = background.refine(workers, config, there, table, members)
    made = background.combine_exposures(workers, config, table, members, common)
    workers.close()
    shutil.rmtree(there.path)
    return made, [exposure.name for exposure in members]


@pytest.fixture(scope="module")
def plain(masked, tmp_path_factory):
    return combined(masked, tmp_path_factory.mktemp("plain"), 1.0)


@pytest.mark.parametrize("name", sky.patterns(8))
def test_a_pattern_of_all_full_frames_is_in_the_background(name, masked, plain, tmp_path):
    pattern = 1 + 0.05 * sky.patterns(NPIX)[name]
    found, names = combined(masked, tmp_path, pattern)
    expected, members = plain
    assert names == members
    rms, noise = sky.difference(found, expected, pattern)
    print(f"{name}: {rms:.4%}, noise {noise:.4%}, SYSERR {expected.systematic:.4%}")
    assert rms < 0.5 * np.hypot(noise, expected.systematic)
