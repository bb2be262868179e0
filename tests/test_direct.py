"""Direct images, and filters that are not recommended, through the four scripts."""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits
from stdatamodels.jwst.datamodels import WfssBkgModel, dqflags

from demo import score
from demo.exposures import demo_exposures
from tests.conftest import SCRIPTS, Archive, served
from tests.script_server import python
from wfssbkg import detector
from wfssbkg.config import read
from wfssbkg.files import exposure_table
from wfssbkg.layout import Combination, Folder

DIRECT = ("CLEAR", "F115W")
UNUSUAL = (("GR150C", "F090W"), ("GR150R", "F140M"), ("GR150C", "F158M"))


@dataclass
class Finished:
    """A run of four scripts: the archive, what they printed, the folders of the combinations."""

    archive: Archive
    words: dict[str, str]
    folders: dict[tuple[str, str], Folder]

    def error(self, combination):
        """The error of a finished background against the truth."""
        folder = self.folders[combination]
        truth = fits.getdata(self.archive.folder / "truth" / f"{folder.combination}.fits", "SCI")
        with fits.open(folder.finished) as hdus:
            good = detector.science_pixels(truth.shape) & (hdus["NEXP"].data > 0)
            return score.relative_error(hdus["SCI"].data, truth, good)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """Seven direct images, one near a bright star, and three exposures of each unusual filter."""
    wanted = [
        spec
        for spec in demo_exposures(7, (DIRECT, *UNUSUAL))
        if spec.dither == 1 or (spec.grating == "CLEAR" and spec.field < 3)
        if spec.contamination != "crowded"
    ]
    with served(tmp_path_factory.mktemp("direct"), wanted) as archive:
        gratings, filters = (sorted({spec[k] for spec in (DIRECT, *UNUSUAL)}) for k in (0, 1))
        config = archive.config(tmp_path_factory.mktemp("run"), gratings=gratings, filters=filters)
        names = ["-".join(spec) for spec in (DIRECT, *UNUSUAL)]
        options = [word for name in names for word in ("--combination", name)]
        words = {}
        for script in SCRIPTS:
            done = archive.run(script, config, *options)
            assert done.returncode == 0, done.stdout + done.stderr
            words[script] = done.stdout
        settings = read(config)
        where = settings.working_directory, settings.output_directory
        folders = {spec: Folder(Combination(*spec), *where) for spec in (DIRECT, *UNUSUAL)}
        yield Finished(archive, words, folders)


def test_one_request_finds_direct_images_and_spectra(finished):
    table = exposure_table.read(finished.folders[DIRECT].table)
    fates = exposure_table.fates(table)
    assert len(fates[exposure_table.ACCEPTED]) == 7, list(table["reason"])
    for name in fates[exposure_table.ACCEPTED]:
        assert fits.getval(finished.folders[DIRECT].rate(name), "EXP_TYPE") == "NIS_IMAGE"
    reasons = list(table["reason"][table["status"] == exposure_table.EXCLUDED])
    assert sum(reason.startswith("bright star") for reason in reasons) == 1
    assert sum(reason.startswith("SUBARRAY SUB256") for reason in reasons) == 2
    for combination in UNUSUAL:
        table = exposure_table.read(finished.folders[combination].table)
        assert len(exposure_table.fates(table)[exposure_table.ACCEPTED]) == 3


def test_background_of_direct_images_is_close_to_the_truth(finished):
    error = finished.error(DIRECT)
    assert score.rms(error) < 0.003
    assert score.rms(score.smoothed(error)) < 0.002


def test_names_and_keywords_tell_direct_images(finished):
    folder = finished.folders[DIRECT]
    assert folder.path.name == "CLEAR-F115W"
    for path, suffix, flat_is_out in (
        (folder.finished, "", True),
        (folder.finished_unflat, "_unflat", False),
    ):
        assert path.name == f"nis-f115w-clear_skyflat{suffix}.fits"
        header = fits.getheader(path)
        keywords = [header[key] for key in ("EXP_TYPE", "FILTER", "PUPIL", "REFTYPE")]
        assert keywords == ["NIS_IMAGE", "CLEAR", "F115W", "BKG"]
        assert "direct image" in header["DESCRIP"]
        assert header["FIXFLAT"] is flat_is_out
        assert "DATE" not in header
        with WfssBkgModel(path) as model:
            assert model.meta.exposure.type == "NIS_IMAGE"


# The same as in the README.
SUBTRACT = """
import json, sys
import numpy as np
from astropy.io import fits
from jwst.background import BackgroundStep
from stdatamodels.jwst import datamodels

rate_file, masked_file, background_file = sys.argv[1:]
rate = datamodels.open(rate_file)
background = datamodels.open(background_file)
sky = fits.getdata(masked_file, "MASK") == 0
level = np.nanmedian(rate.data[sky] / background.data[sky])
background.data *= level
background.save("scaled.fits")
result = BackgroundStep.call(rate, bkg_list=["scaled.fits"])
result.save("subtracted.fits")
print(json.dumps({"status": result.meta.cal_step.bkg_subtract, "level": float(level)}))
"""


def test_pipeline_subtracts_the_background_of_direct_images(finished, tmp_path):
    folder = finished.folders[DIRECT]
    table = exposure_table.read(folder.table)
    row = table[table["status"] == exposure_table.ACCEPTED][0]
    name = row["productFilename"]
    done = python(
        "-c", SUBTRACT, folder.rate(name), folder.masked(name), folder.finished_unflat,
        env=finished.archive.environment(), cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout.strip().splitlines()[-1])
    assert told["status"] == "COMPLETE"
    assert told["level"] == pytest.approx(row["level"], rel=0.01)
    (truth,) = (
        spec.sky_level for spec in demo_exposures(7, (DIRECT,)) if spec.filename == Path(name).name
    )
    assert told["level"] == pytest.approx(truth, rel=0.01)
    with fits.open(tmp_path / "subtracted.fits") as hdus, fits.open(folder.finished) as made:
        left, dq = hdus["SCI"].data, hdus["DQ"].data
        filled = (made["DQ"].data & 2 > 0) & (fits.getdata(folder.rate(name), "DQ") == 0)
    sky = fits.getdata(folder.masked(name), "MASK") == 0
    assert abs(np.median(left[sky])) < 0.002 * told["level"]
    # The pipeline has translated the flags of the background into its own.
    assert filled.any()
    assert (dq[filled] & dqflags.pixel["FLUX_ESTIMATED"] > 0).all()
    assert not (dq[filled] & (dqflags.pixel["DO_NOT_USE"] | dqflags.pixel["SATURATED"])).any()


@pytest.mark.parametrize("script", SCRIPTS)
def test_every_script_warns_of_unusual_filters_only(finished, script):
    said = finished.words[script]
    assert said.count("WARNING: ") == len(UNUSUAL)
    assert said.count("(exposures at hand: 3)") == len(UNUSUAL)
    for _, name in UNUSUAL:
        assert f"WARNING: {name} is not one of F115W, F150W, F200W" in said
    assert "WARNING" not in said.partition("CLEAR-F115W")[2].partition("GR150")[0]


@pytest.mark.parametrize("combination", UNUSUAL, ids="-".join)
def test_unusual_filters_are_finished_all_the_same(finished, combination):
    folder = finished.folders[combination]
    assert score.rms(finished.error(combination)) < 0.008
    for path in (folder.finished, folder.finished_unflat):
        header = fits.getheader(path)
        assert (header["FILTER"], header["PUPIL"]) == combination
        assert header["EXP_TYPE"] == "NIS_WFSS"
