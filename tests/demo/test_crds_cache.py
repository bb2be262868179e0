"""The real crds client and the real pipeline on the simulated reference files."""

import json
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits
from stdatamodels.jwst import datamodels

from demo import archive, crds_cache, detector, optics, score
from tests.script_server import python, without_crds
from wfssbkg.files import any_background

NPIX = 128
COMBINATIONS = (("GR150C", "F115W"), ("GR150R", "F200W"))

PIPELINE = """
import json, sys
import crds
import numpy as np
from jwst.flatfield import FlatFieldStep
from stdatamodels.jwst import datamodels

path = sys.argv[1]
rate = datamodels.open(path)
found = crds.getreferences(rate.get_crds_parameters(), ["flat", "bkg"], observatory="jwst")
flat = FlatFieldStep.call(path)
flat.save(sys.argv[2])
back = FlatFieldStep.call(flat, inverse=True)
both = np.isfinite(rate.data) & np.isfinite(back.data)
print(json.dumps({
    "found": found,
    "status": flat.meta.cal_step.flat_field,
    "flat": flat.meta.ref_file.flat.name,
    "context": flat.meta.ref_file.crds.context_used,
    "compared": float(both.mean()),
    "round_trip": float(np.abs(back.data - rate.data)[both].max()),
}))
"""


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    folder = tmp_path_factory.mktemp("crds")
    return crds_cache.build_cache(folder, NPIX, COMBINATIONS)


def run_pipeline(cache, folder, spec, **environment):
    """Flat-field a simulated exposure in a process with the environment of the cache only."""
    path, result = folder / spec.filename, folder / "flat_fielded.fits"
    archive.simulate_exposure(spec, NPIX, seed=1).save(path)
    done = python("-c", PIPELINE, path, result, env=without_crds() | environment, cwd=folder)
    assert done.returncode == 0, done.stderr
    return path, result, json.loads(done.stdout.strip().splitlines()[-1])


def test_pipeline_flat_fields_with_the_cache_and_back(cache, tmp_path):
    spec = archive.demo_exposures(1)[0]
    path, result, told = run_pipeline(cache, tmp_path, spec, **crds_cache.environment(cache))
    assert set(told["found"]) == {"flat", "bkg"}
    for file in told["found"].values():
        header = fits.getheader(file)
        assert (header["FILTER"], header["PUPIL"]) == ("GR150C", "F115W")
    assert told["status"] == "COMPLETE"
    assert told["flat"].endswith(Path(told["found"]["flat"]).name)
    assert told["context"] == crds_cache.CONTEXT
    assert told["compared"] > 0.85
    assert told["round_trip"] < 1e-5
    # The exposure was divided by this flat field, and flagged where that has no value.
    flat, _, flat_dq = detector.reference_flat(NPIX, "F115W")
    with datamodels.open(path) as rate, datamodels.open(result) as done:
        good = done.dq & detector.FLAG["DO_NOT_USE"] == 0
        np.testing.assert_allclose(done.data[good], rate.data[good] / flat[good], rtol=1e-5)
        assert flat_dq.any()
        assert (done.dq[flat_dq > 0] & detector.FLAG["NO_FLAT_FIELD"] > 0).all()


def test_path_alone_is_enough_without_a_network(cache, tmp_path):
    spec = next(s for s in archive.demo_exposures(1, COMBINATIONS) if s.grating == "GR150R")
    _, _, told = run_pipeline(cache, tmp_path, spec, CRDS_PATH=str(cache))
    assert told["status"] == "COMPLETE"


def test_references_are_what_crds_takes(cache):
    files = sorted((cache / "references/jwst/niriss").iterdir())
    # There are flat fields for grisms and direct images, and backgrounds for grisms.
    assert len([f for f in files if "_flat_" in f.name]) == 4
    assert len([f for f in files if "_bkg_" in f.name]) == 2
    for file in files:
        with fits.open(file) as hdus:
            assert {h.name for h in hdus} == {"PRIMARY", "SCI", "ERR", "DQ", "DQ_DEF"}
            header = hdus[0].header
            for keyword in ("PEDIGREE", "USEAFTER", "AUTHOR", "DESCRIP", "REFTYPE", "SUBARRAY"):
                assert header[keyword]
            assert header["FILENAME"] == file.name
    mappings = {file.name for file in (cache / "mappings/jwst").iterdir()}
    assert crds_cache.CONTEXT in mappings


def test_direct_images_have_a_flat_and_no_background(tmp_path):
    direct = ("CLEAR", "F115W")
    own = crds_cache.build_cache(tmp_path / "crds", NPIX, [direct])
    spec = archive.demo_exposures(1, (direct,))[0]
    _, _, told = run_pipeline(own, tmp_path, spec, **crds_cache.environment(own))
    assert told["found"]["bkg"] == "NOT FOUND n/a"
    assert told["status"] == "COMPLETE"
    header = fits.getheader(told["found"]["flat"])
    assert (header["EXP_TYPE"], header["FILTER"], header["PUPIL"]) == ("NIS_IMAGE", *direct)


def test_flags_survive_their_own_definition(cache):
    for file in (cache / "references/jwst/niriss").glob("*_flat_*"):
        with datamodels.FlatModel(file) as model:
            missing = np.isnan(model.data)
            assert missing.any()
            expected = detector.FLAG["DO_NOT_USE"] | detector.FLAG["NO_FLAT_FIELD"]
            assert (model.dq[missing] == expected).all()
            assert (model.dq[~missing] == 0).all()


def test_official_background_is_close_to_the_truth_and_not_right():
    npix = 1024
    official = crds_cache.official_background("GR150C", "F115W", npix)
    truth = optics.sky_background("GR150C", "F115W", npix)
    ratio = official / detector.true_flat(npix, "F115W") / truth
    inner = optics.science_pixels(ratio)
    inner = inner / np.median(inner) - 1
    assert 0.01 < inner.std() < 0.05
    spots, _ = optics.near_features("GR150C", "F115W", npix, distance=3)
    assert np.abs(ratio[spots] / np.median(ratio) - 1).max() > 0.05
    assert (official[detector.reference_pixels(npix)] == 0).all()


def test_cache_is_kept_until_something_changes(tmp_path):
    folder = crds_cache.build_cache(tmp_path, NPIX, COMBINATIONS[:1])
    files = [f for f in folder.rglob("*") if f.is_file()]
    before = {f: f.stat().st_mtime_ns for f in files}
    crds_cache.build_cache(tmp_path, NPIX, COMBINATIONS[:1])
    assert {f: f.stat().st_mtime_ns for f in files} == before
    crds_cache.build_cache(tmp_path, NPIX, COMBINATIONS)
    assert len(list((folder / "references/jwst/niriss").iterdir())) == 6


def test_the_background_of_2025_is_one_per_cent_from_the_truth(tmp_path):
    path = tmp_path / "like-2025" / "nis-f115w-gr150c_skyflat.fits"
    crds_cache.write_background_of_2025(path, "GR150C", "F115W", 256)
    found = any_background.read(path)
    assert found.flat_is_out
    truth = optics.sky_background("GR150C", "F115W", 256)
    good = found.image != 0
    error = score.relative_error(found.image, truth, good)
    assert score.rms(error) == pytest.approx(0.01, rel=0.1)
    official = crds_cache.official_background("GR150C", "F115W", 256)
    official /= detector.true_flat(256, "F115W")
    assert score.rms(score.relative_error(official, truth, good)) > 0.012
    written = path.stat().st_mtime_ns
    crds_cache.write_background_of_2025(path, "GR150C", "F115W", 256)
    assert path.stat().st_mtime_ns == written
