"""The finished files in the real JWST pipeline and CRDS, on simulated exposures."""

import json
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits
from astropy.time import Time
from stdatamodels.jwst import datamodels

from demo import archive as simulator
from demo import crds_cache, subarrays
from demo.exposures import Exposure
from interop import pipeline
from tests.conftest import ROOT, SCRIPTS, Archive
from tests.script_server import python
from wfssbkg import layout
from wfssbkg.config import RECOMMENDED_FILTERS

GRATINGS = ("GR150C", "GR150R")


@dataclass
class Subtracted:
    """The result of the step on an exposure; errors are in units of its sky level."""

    spec: Exposure
    rate: Path
    status: str
    factor: float
    residual: float


@pytest.fixture(scope="module")
def subtracted(archive, finished, tmp_path_factory):
    """Results of the background step on an exposure of each field, FULL and cut to subarrays."""
    place = tmp_path_factory.mktemp("rates")
    rates = {}
    for spec in simulator.demo_exposures(seed=7):
        if spec.contamination or spec.dither > 1:
            continue
        letter = spec.grating[-1]
        with datamodels.open(str(archive.folder / spec.filename)) as frame:
            for name in ("FULL", f"WFSS64{letter}", f"WFSS128{letter}"):
                exposure = frame if name == "FULL" else subarrays.cut(frame, name)
                rates[place / f"{name}_{spec.filename}"] = replace(spec, subarray=name)
                exposure.save(place / f"{name}_{spec.filename}")
    done = archive.run("subtractBackgrounds.py", finished[0], "--mask-only", *map(str, rates))
    assert done.returncode == 0, done.stdout + done.stderr
    return [result for folder in finished[1] for result in subtract(archive, folder, rates)]


def subtract(archive, folder, rates):
    """Run the step on the exposures of a combination."""
    own = [path for path, spec in rates.items() if spec.combination == str(folder.combination)]
    done = python(
        "-m", "interop.pipeline", "--background", folder.finished_unflat, *own,
        env=archive.environment(), cwd=ROOT,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    truth = fits.getdata(archive.folder / "truth" / f"{folder.combination}.fits", "SCI")
    lines = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    assert len(lines) == len(own)
    for told in lines:
        spec = rates[Path(told["rate"])]
        level = pipeline.true_factor(spec, truth)
        factor, residual = told["factor"] / level - 1, told["residual"] / level
        yield Subtracted(spec, Path(told["rate"]), told["status"], factor, residual)


def test_the_step_subtracts_the_background_of_full_frames(subtracted):
    full = [result for result in subtracted if result.spec.subarray == "FULL"]
    assert len(full) == 6
    for result in full:
        assert result.status == "COMPLETE"
        assert abs(result.factor) < pipeline.FACTOR, result
        assert abs(result.residual) < pipeline.RESIDUAL, result


@pytest.mark.parametrize("name", ["WFSS64R", "WFSS64C", "WFSS128R", "WFSS128C"])
def test_subarrays_take_their_part_of_it(subtracted, name):
    part = [result for result in subtracted if result.spec.subarray == name]
    assert len(part) == 3
    for result in part:
        assert result.status == "COMPLETE"
        assert abs(result.residual) < pipeline.RESIDUAL, result
    # On such small frames the residuals of the sources average out only over all fields.
    assert abs(np.mean([result.factor for result in part])) < pipeline.FACTOR, part


def test_masks_are_what_the_step_expects(subtracted):
    for result in subtracted:
        with datamodels.ImageModel(str(layout.wfss_mask(result.rate))) as model:
            sky = model.mask.astype(bool)
            assert model.meta.subarray.name == result.spec.subarray
        assert 0.25 < sky.mean() < 0.75  # without traces that are too faint to find
        assert sky.shape == fits.getdata(result.rate, "SCI").shape


@pytest.fixture(scope="module")
def all_combinations(tmp_path_factory):
    """The finished files of the six default combinations, each made of three tiny exposures."""
    place, npix = tmp_path_factory.mktemp("all"), 128
    combinations = [(grating, name) for grating in GRATINGS for name in RECOMMENDED_FILTERS]
    crds = crds_cache.build_cache(place / "crds", npix, combinations)
    (place / "rates").mkdir()
    for spec in simulator.demo_exposures(7, combinations):
        if spec.field == 1:
            path = place / "rates" / spec.filename
            simulator.simulate_exposure(spec, npix, seed=7).save(path)
    archive = Archive(place / "rates", crds, "http://127.0.0.1:9")
    config = archive.config(
        place,
        filters=list(RECOMMENDED_FILTERS),
        query={"source": "rates", "gaia_g_limit": None},
        mask={"background_box": 16},
        combine={
            # One galaxy fills so much of such a frame that it cannot be refined.
            "level_border": 8, "structure_box": 8, "refinements": 0, "maximum_masked_fraction": 1,
        },
        finalize={"author": "A. N. Author"},
    )  # fmt: skip
    for script in SCRIPTS:
        done = archive.run(script, config)
        assert done.returncode == 0, done.stdout + done.stderr
    return archive, sorted((place / "out").glob("*_unflat.fits"))


def test_crds_certifies_every_default_combination_without_a_warning(all_combinations):
    archive, files = all_combinations
    assert len(files) == 6
    done = python("-m", "crds.certify", *files, env=archive.environment(), cwd=ROOT)
    told = done.stdout + done.stderr
    assert done.returncode == 0, told
    assert told.count("conforms to FITS standards") == 6, told
    # The counts must be printed: they show that certify has looked at the files.
    assert "0 errors" in told, told
    assert "0 warnings" in told, told


def test_what_a_submission_to_crds_needs_is_in_the_header(all_combinations):
    for path in all_combinations[1]:
        with fits.open(path) as hdus:
            header = hdus[0].header
            assert "ASDF" not in [hdu.name for hdu in hdus]
            assert list(hdus["DQ_DEF"].data["NAME"])
            dates = sorted(Time(hdus["EXPOSURES"].data["mjd"], format="mjd").strftime("%Y-%m-%d"))
        assert header["PEDIGREE"] == f"INFLIGHT {dates[0]} {dates[-1]}"
        assert header["AUTHOR"] == "A. N. Author"
        assert header["REFTYPE"] == "BKG"
        assert header["USEAFTER"] <= dates[0]
        assert f"{header['FILTER']}-{header['PUPIL']}" in header["DESCRIP"]
        assert path.name == f"nis-{header['PUPIL']}-{header['FILTER']}_skyflat_unflat.fits".lower()
        assert len(header["HISTORY"]) > 10
