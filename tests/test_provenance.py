"""What a finished file tells about how it was made, and making it again from that alone."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import yaml
from astropy.io import fits
from astropy.table import Table

from tests import small
from tests.conftest import NAMES, ROOT, SCRIPTS, Archive
from tests.script_server import python
from wfssbkg import provenance
from wfssbkg.config import read
from wfssbkg.files import combined_background, exposure_table, masked_exposure, reference_file
from wfssbkg.finalize.reference_header import all_settings
from wfssbkg.layout import Combination


def rebuild_command(path):
    return python("-m", "wfssbkg.provenance", path, cwd=ROOT)


def move_on(crds):
    """Make a context without flat fields the operational one of a CRDS cache; the old one stays."""
    from crds.refactoring.checksum import update_checksum

    mappings = crds / "mappings" / "jwst"
    for kind in ("jwst_9001.pmap", "jwst_niriss_9001.imap"):
        text = (mappings / kind).read_text().replace("9001", "9002")
        text = text.replace("'jwst_niriss_flat_9002.rmap'", "'N/A'")
        text = text.replace("jwst_niriss_bkg_9002.rmap", "jwst_niriss_bkg_9001.rmap")
        path = mappings / kind.replace("9001", "9002")
        path.write_text(text)
        update_checksum(str(path))
    server = crds / "config" / "jwst" / "server_config"
    server.write_text(server.read_text().replace("'jwst_9001.pmap'", "'jwst_9002.pmap'"))


def test_a_rebuilding_config_has_every_setting_that_bears_on_the_result(tmp_path):
    combination, context = Combination("GR150R", "F200W"), "jwst_9001.pmap"
    settings = small.settings(
        query={"programs": ["1", "2"], "exclude": ["2"], "source": ["mast", "/home/me/mine"]},
        mask={"threshold": 3.5},
        combine={"trace_depth": 0.9, "estimator": "median"},
        finalize={"strength": 0.5, "author": "A. Author"},
        compare={"smoothing": 5.0, "against": Path("/home/me/zenodo")},
    )
    name = "jw00001001001_02101_00001_nis_rate.fits"
    inputs = small.table({"productFilename": name, "crds_context": context})
    image = np.ones((16, 16), dtype=np.float32)
    background = combined_background.Background(image, image, image, image < 0, image, inputs)
    header = fits.Header()
    header["FILTER"], header["PUPIL"] = combination.grating, combination.filter
    header["WFSSBKG"], header["QDATE"] = "1", inputs.meta["QDATE"]
    path, config = tmp_path / "made.fits", tmp_path / "config.yaml"
    header["AUTHOR"] = settings.finalize.author
    dq = np.zeros(image.shape, dtype=np.uint32)
    reference_file.write(path, background, dq, header, all_settings(settings))
    config.write_text(provenance.rebuilding_config(path))
    assert "Not all rate files were from MAST" in config.read_text()
    assert "/home/me" not in config.read_text()
    again = read(config)
    assert again.query.source == ["mast", str(tmp_path / "mine")]
    assert (again.gratings, again.filters) == ([combination.grating], [combination.filter])
    assert again.mask == settings.mask.model_copy(update={"crds_context": context})
    for section in ("combine", "finalize"):
        assert getattr(again, section) == getattr(settings, section)
    assert again.compare.smoothing == 5
    assert again.compare.against == tmp_path / "zenodo"
    kept = {"programs": None, "exclude": None, "exposures": [name], "gaia_g_limit": None}
    kept["source"] = again.query.source
    assert again.query == settings.query.model_copy(update=kept)


def test_rebuilding_from_a_finished_file_alone_gives_the_same(finished, archive, tmp_path):
    original = finished[1][1]
    assert exposure_table.REJECTED in exposure_table.read(original.finished)["status"]
    told = rebuild_command(original.finished)
    assert told.returncode == 0, told.stderr
    config = tmp_path / "config.yaml"
    config.write_text(told.stdout)
    shutil.copytree(archive.crds, tmp_path / "crds")
    move_on(tmp_path / "crds")
    later = Archive(archive.folder, tmp_path / "crds", archive.url)
    for script in SCRIPTS:
        done = later.run(script, config)
        assert done.returncode == 0, done.stdout + done.stderr
    for path in (original.finished, original.finished_unflat):
        with (
            fits.open(path) as before,
            fits.open(tmp_path / "wfssbackgrounds" / path.name) as after,
        ):
            for name in ("SCI", "ERR", "NEXP", "DQ"):
                np.testing.assert_array_equal(before[name].data, after[name].data)
            weights = [hdus["EXPOSURES"].data["weight"] for hdus in (before, after)]
            assert sorted(weights[0][weights[0] > 0]) == sorted(weights[1][weights[1] > 0])


def test_an_unpinned_context_would_not_have_done(finished, archive, tmp_path):
    """Without a context in the config, the test above would fail: `move_on` has an effect."""
    shutil.copytree(archive.crds, tmp_path / "crds")
    move_on(tmp_path / "crds")
    rate = next(finished[1][0].path.glob("*_rate.fits"))
    later = Archive(archive.folder, tmp_path / "crds", archive.url)
    done = later.run("subtractBackgrounds.py", finished[0], str(shutil.copy(rate, tmp_path)))
    assert done.returncode == 1
    assert "no flat-field reference file" in done.stdout


def test_every_exposure_is_told_with_its_part_or_the_reason(finished, archive):
    for folder in finished[1]:
        inputs = exposure_table.read(folder.finished)
        accepted = inputs["status"] == exposure_table.ACCEPTED
        assert len(inputs) == len(exposure_table.read(folder.table))
        assert (inputs["reason"][~accepted] != "").all()
        for name in ("effinttm", "level", "masked_fraction", "weight"):
            assert np.isfinite(inputs[name][accepted]).all()
        assert (inputs["program"] != "").all()
        assert np.isnan(inputs["weight"][~accepted]).all()
        assert inputs["weight"][accepted].sum() == pytest.approx(1, abs=1e-5)
        for row in inputs[accepted]:
            header, _ = masked_exposure.read_headers(folder.masked(row["productFilename"]))
            assert header["R_FLAT"] == f"crds://{row['flat']}"
            assert row["crds_context"] == "jwst_9001.pmap"


def test_longer_exposures_of_a_brighter_sky_weigh_more(finished):
    inputs = exposure_table.read(finished[1][0].finished)
    inputs = inputs[inputs["status"] == exposure_table.ACCEPTED]
    electrons = np.argsort(inputs["level"] * inputs["effinttm"])
    assert inputs["weight"][electrons[-1]] > 1.2 * inputs["weight"][electrons[0]]


def test_the_settings_are_all_there(finished):
    config, folders, _ = finished
    settings = read(config)
    rows = Table.read(folders[0].finished_unflat, "SETTINGS")
    text = dict(zip(rows["name"], rows["value"], strict=True))
    assert text["query.star_radius"] == "2.0"
    assert text["mask.background_box"] == "32"
    assert yaml.safe_load(text["gratings"]) == ["GR150C", "GR150R"]
    for section in ("query", "mask", "combine", "finalize", "compute"):
        for key in getattr(settings, section).model_dump():
            assert f"{section}.{key}" in text


def test_several_contexts_are_a_warning(finished, tmp_path):
    path = tmp_path / "again.fits"
    shutil.copy(finished[1][0].finished, path)
    with fits.open(path, mode="update") as hdus:
        rows = hdus["EXPOSURES"].data
        rows["crds_context"][np.argmax(rows["status"] == exposure_table.ACCEPTED)] = (
            "jwst_8000.pmap"
        )
    text = provenance.rebuilding_config(path)
    assert "several CRDS contexts, jwst_8000.pmap, jwst_9001.pmap" in text.replace("\n# ", " ")
    assert yaml.safe_load(text)["mask"]["crds_context"] == "jwst_9001.pmap"


def test_another_file_is_a_message_and_exit_1(finished, tmp_path):
    for path in (finished[1][0].background, finished[0], tmp_path / "none.fits"):
        told = rebuild_command(path)
        assert told.returncode == 1
        assert told.stdout == ""
        assert str(path) in told.stderr
        assert "Traceback" not in told.stderr


def test_exposures_that_are_not_found_are_named(finished, archive, tmp_path):
    known = exposure_table.fates(exposure_table.read(finished[1][0].table))[
        exposure_table.ACCEPTED
    ][3]
    query = {"exposures": [known, "jw00001001001_02101_00001_nis_rate.fits"]}
    config = archive.config(tmp_path, gratings=["GR150C"], query=query)
    done = archive.run("queryData.py", config)
    assert "not found: jw00001001001_02101_00001_nis_rate.fits" in done.stdout
    table = exposure_table.read(tmp_path / "work" / NAMES[0] / f"{NAMES[0]}.fits")
    assert exposure_table.fates(table)[exposure_table.ACCEPTED] == [known]
    assert "not among query.exposures" in set(table["reason"])


@pytest.mark.parametrize(
    ("change", "script", "before"),
    [("mask", "makeBackgrounds.py", "makeMask.py"), ("combine", "finalizeBackgrounds.py", "make")],
)
def test_what_was_made_with_other_settings_is_not_claimed(
    finished, archive, tmp_path, change, script, before
):
    settings = yaml.safe_load(finished[0].read_text())
    settings |= {"output_directory": str(tmp_path)}
    settings[change] |= {"growth": 3} if change == "mask" else {"trace_depth": 0.9}
    config = finished[0].with_name("other.yaml")
    config.write_text(yaml.safe_dump(settings))
    done = archive.run(script, config, "--combination", NAMES[0])
    assert done.returncode == 1
    assert f"other settings than the config has: {change}." in done.stdout
    assert f"Run {before}" in done.stdout
    assert not list(tmp_path.glob("*.fits"))
