"""The four scripts as a user runs them, end to end, on small simulated frames."""

import os
import shutil
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
from astropy.io import fits
from astropy.table import Table
from scipy import ndimage
from stdatamodels.jwst.datamodels import WfssBkgModel
from stdatamodels.jwst.datamodels.dqflags import pixel

from demo import score
from demo.exposures import demo_exposures
from tests.conftest import NAMES, ROOT, SCRIPTS
from wfssbkg import detector
from wfssbkg.combine import bins, stack
from wfssbkg.combine.exposure import Common, Exposure
from wfssbkg.combine.stack import combine_band
from wfssbkg.config import read
from wfssbkg.files import combined_background, exposure_table, lock, masked_exposure
from wfssbkg.layout import Combination, Folder


def test_bright_star_is_excluded_and_not_downloaded(finished):
    _, folders, _ = finished
    tables = [exposure_table.read(folder.table) for folder in folders]
    starred = [
        (folder, row)
        for folder, table in zip(folders, tables, strict=True)
        for row in table
        if np.isfinite(row["star_gmag"])
    ]
    assert len(starred) == 1
    folder, row = starred[0]
    assert row["status"] == exposure_table.EXCLUDED
    assert 7 < row["star_gmag"] < 9.5
    assert 0 < row["star_sep"] < 2
    assert not folder.rate(row["productFilename"]).exists()


def test_pure_parallels_have_their_pointing_from_the_header(finished):
    """The archive has neither target nor footprint of them."""
    first, second = (exposure_table.read(folder.table) for folder in finished[1])
    parallel = second["visitype"] == "PARALLEL_PURE"
    assert np.count_nonzero(parallel) == 3
    assert set(second["pointing"][parallel]) == {"header"}
    for table in (first, second):
        taken = table["status"] != exposure_table.EXCLUDED
        assert np.isfinite(table["ra"][taken]).all()
        assert (table["s_clnfns"][taken] != "").all()
        assert (table["checksum"][taken] != "").all()
    assert sum(first["s_clnfns"] == "COMPLETE") == 1


def test_crowded_exposure_is_rejected_with_a_reason(finished):
    _, folders, _ = finished
    tables = [exposure_table.read(folder.table) for folder in folders]
    rejected = [
        row for table in tables for row in table if row["status"] == exposure_table.REJECTED
    ]
    assert len(rejected) == 1
    assert "masked" in rejected[0]["reason"]


def test_background_is_close_to_the_truth(finished, archive):
    _, folders, _ = finished
    for folder in folders:
        truth = fits.getdata(archive.folder / "truth" / f"{folder.combination}.fits", "SCI")
        with fits.open(folder.finished) as hdus:
            good = detector.science_pixels(truth.shape) & (hdus["NEXP"].data > 0)
            error = score.relative_error(hdus["SCI"].data, truth, good)
        assert score.rms(error) < 0.01


@pytest.fixture(scope="module")
def median_run(finished, archive, tmp_path_factory):
    """The masked exposures of the first combination, combined with a median."""
    place = tmp_path_factory.mktemp("median")
    shutil.copytree(
        finished[1][0].path,
        place / "work" / NAMES[0],
        ignore=shutil.ignore_patterns("*_rate.fits", "*_refined.fits"),
    )
    choice = {"estimator": "median", "refinements": 0, "standing_out_sigma": 1000}
    config = archive.config(place, gratings=["GR150C"], combine=choice)
    done = archive.run("makeBackgrounds.py", config)
    assert done.returncode == 0, done.stdout + done.stderr
    return config, Folder(Combination("GR150C", "F115W"), place / "work", place / "out")


def accepted(folder):
    table = exposure_table.read(folder.table)
    return table[table["status"] == exposure_table.ACCEPTED]


def test_median_is_that_of_the_whole_stack(median_run):
    _, folder = median_run
    stack = []
    for row in accepted(folder):
        sci, _, mask = masked_exposure.read(folder.masked(row["productFilename"]))
        stack.append(np.where(mask == 0, sci / np.float32(row["level"]), np.nan))
    combined = combined_background.read(folder.background)
    with pytest.warns(RuntimeWarning, match="All-NaN"):
        expected = np.nanmedian(np.stack(stack), axis=0)
    np.testing.assert_allclose(combined.sci, expected, rtol=2e-7)
    np.testing.assert_array_equal(combined.number, np.isfinite(stack).sum(axis=0))


def sample_of(folder, number=5):
    members = [Exposure.of(folder, row["productFilename"]) for row in accepted(folder)[:number]]
    for exposure, row in zip(members, accepted(folder)[:number], strict=True):
        exposure.level = row["level"]
    return members


@pytest.mark.parametrize("height", [4, 12, 64])
@pytest.mark.parametrize("estimator", ["median", "clipped_median", "weighted_mean"])
def test_bands_of_any_height_give_the_same(median_run, height, estimator):
    config, folder = median_run
    settings = read(config).combine.model_copy(update={"estimator": estimator})
    members = sample_of(folder)
    memory = height * 256 * len(members) * stack.BYTES_PER_PIXEL
    found = list(stack.bands(256, 256, len(members), memory, step=bins.SIZE))
    assert found[0].stop == height
    equal = np.ones(len(members))
    parts = [combine_band(rows, members, equal, None, settings, False)[0] for rows in found]
    whole = combine_band(slice(0, 256), members, equal, None, settings, False)[0]
    np.testing.assert_array_equal(np.concatenate(parts), whole)


@pytest.mark.parametrize("which", [0, 1], ids=NAMES)
def test_bands_of_refined_exposures_give_the_same(finished, which):
    config, folders, _ = finished
    settings = read(config).combine
    members = sample_of(folders[which])
    shape, rng = members[0].bins_shape, np.random.default_rng(1)
    common = replace(
        Common.nothing(shape),
        stripes=rng.normal(0, 0.01, (4, shape[1])).astype(np.float32),
        faint=rng.normal(0, 0.01, shape).astype(np.float32),
        extra={each.name: rng.normal(0, 0.01, (4, 4)).astype(np.float32) for each in members},
    )
    cut, equal = [slice(0, 20), slice(20, 120), slice(120, 256)], np.ones(len(members))
    parts = [combine_band(rows, members, equal, common, settings, False) for rows in cut]
    whole = combine_band(slice(0, 256), members, equal, common, settings, False)
    *images, information = (np.concatenate(part) for part in zip(*parts, strict=True))
    for image, expected in zip(images, whole[:-1], strict=True):
        np.testing.assert_array_equal(image, expected)
    np.testing.assert_allclose(information.sum(axis=0), whole[-1][0])
    unrefined = combine_band(slice(0, 256), members, equal, None, settings, False)
    assert np.nanmax(np.abs(whole[0] - unrefined[0])) > 0.01


def test_any_number_of_workers_gives_the_same_to_the_last_bit(finished, archive, tmp_path):
    shutil.copytree(finished[1][1].path, tmp_path / "work" / NAMES[1])
    config = archive.config(tmp_path, gratings=["GR150R"])
    done = archive.run("makeBackgrounds.py", config, "--overwrite", "--workers", "1")
    assert done.returncode == 0, done.stdout + done.stderr
    again = Folder(Combination("GR150R", "F115W"), tmp_path / "work", tmp_path / "out")
    one, other = (combined_background.read(x.background) for x in (finished[1][1], again))
    np.testing.assert_array_equal(one.sci, other.sci)
    np.testing.assert_array_equal(one.err, other.err)
    assert one.systematic == other.systematic


def test_working_files_are_gone_in_the_end(finished):
    for folder in finished[1]:
        assert list(folder.path.glob("*_refined.fits"))
        assert not list(folder.path.glob(".*"))


def test_finished_files_are_reference_files(finished):
    _, folders, _ = finished
    for folder in folders:
        for path in (folder.finished, folder.finished_unflat):
            with WfssBkgModel(str(path)) as model:
                assert model.meta.reftype.upper() == "BKG"
                assert model.meta.instrument.filter == folder.combination.grating
                assert model.meta.instrument.pupil == folder.combination.filter
                assert model.meta.exposure.type == "NIS_WFSS"
                science = detector.science_pixels(model.data.shape)
                assert np.isfinite(model.data).all()
                assert np.isfinite(model.err).all()
                assert not model.data[~science].any()
            with fits.open(path) as hdus:
                good = science & (hdus["NEXP"].data > 0)
                assert np.median(hdus["SCI"].data[good]) == pytest.approx(1, abs=1e-6)
                assert "QDATE" in hdus[0].header
                history = str(hdus[0].header["HISTORY"])
                for word in ("jwst", "mask.threshold", "finalize.strength", "jwst_", "flat"):
                    assert word in history


def test_finished_files_tell_the_dark_residual_that_was_found(finished):
    for folder in finished[1]:
        paths = folder.background, folder.finished, folder.finished_unflat
        combined, *others = (fits.getheader(path) for path in paths)
        assert 0 < combined["DARKERR"] < 1
        limit = read(finished[0]).combine.dark_sigma * combined["DARKERR"]
        assert combined["DARKRES"] == 0 or abs(combined["DARKRES"]) > limit
        for header in others:
            assert header["DARKRES"] == combined["DARKRES"]
            assert header["DARKERR"] == combined["DARKERR"]


def test_the_sky_of_exposures_is_subtracted_with_what_was_finished(finished, archive, tmp_path):
    config, folders, _ = finished
    specs = {spec.filename: spec for spec in demo_exposures(seed=7)}
    wanted = [
        folder.rate(row["productFilename"]) for folder in folders for row in accepted(folder)[:2]
    ]
    done = archive.run("subtractBackgrounds.py", config, *wanted, "--output", tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    table = Table.read(tmp_path / "subtracted.ecsv")
    assert len(table) == len(wanted)
    for row in table:
        assert row["level"] == pytest.approx(specs[row["rate"]].sky_level, rel=0.015)
        header = fits.getheader(row["output"])
        assert header["S_BKDSUB"] == "COMPLETE"
        assert header["BKGNAME"] in {folder.finished.name for folder in folders}
        assert "does not tell" not in done.stdout


def test_grizli_keeps_the_flat_out_file(finished):
    """No DATE in the primary header: else grizli calls the file out of date and replaces it."""
    _, folders, _ = finished
    for folder in folders:
        header = fits.getheader(folder.finished)
        assert "DATE" not in header
        assert header["FIXFLAT"] is True
        assert fits.getheader(folder.finished_unflat)["FIXFLAT"] is False


def test_flat_is_put_back_by_the_pipelines_own_flat(finished, archive):
    _, folders, _ = finished
    for folder in folders:
        flat_name = fits.getheader(folder.finished_unflat)["R_FLAT"].removeprefix("crds://")
        (flat_path,) = archive.crds.rglob(flat_name)
        with fits.open(flat_path) as flat:
            usable = np.isfinite(flat["SCI"].data) & (flat["DQ"].data & 1 == 0)
            flat_image = flat["SCI"].data
        usable &= detector.science_pixels(flat_image.shape)
        ratio = fits.getdata(folder.finished_unflat, "SCI") / np.where(
            usable, fits.getdata(folder.finished, "SCI"), 1
        )
        scaled = (ratio / flat_image)[usable]
        assert scaled.std() / scaled.mean() < 1e-5


def test_uncertainty_goes_with_the_flat_as_the_sky_does(finished):
    for folder in finished[1]:
        without, with_flat = (
            [fits.getdata(path, name).astype(float) for name in ("SCI", "ERR")]
            for path in (folder.finished, folder.finished_unflat)
        )
        science = detector.science_pixels(without[0].shape) & (with_flat[0] > 0)
        relative = [err[science] / sci[science] for sci, err in (without, with_flat)]
        np.testing.assert_allclose(*relative, rtol=1e-5)
        assert np.std(with_flat[0][science] / without[0][science]) > 0.005


def test_running_again_does_nothing_and_says_so(finished, archive):
    config, folders, _ = finished
    made = [folder.background for folder in folders] + [folder.finished for folder in folders]
    made += [path for folder in folders for path in folder.path.glob("*_masked.fits")]
    times = {path: path.stat().st_mtime_ns for path in made}
    words = {
        "queryData.py": "nothing",
        "makeMask.py": "nothing to do",
        "makeBackgrounds.py": "nothing to do",
        "finalizeBackgrounds.py": "nothing to do",
    }
    for script in SCRIPTS:
        again = archive.run(script, config)
        assert again.returncode == 0, again.stderr
        assert again.stdout.count(words[script]) >= len(folders), again.stdout
    assert {path: path.stat().st_mtime_ns for path in made} == times


def test_a_changed_setting_is_a_reason_to_work_again(finished, archive, tmp_path):
    config, folders, _ = finished
    before = folders[0].finished.stat().st_mtime_ns
    own = config.read_text() + "finalize:\n  strength: 0.5\n"
    changed = config.with_name("changed.yaml")
    changed.write_text(own)
    again = archive.run("finalizeBackgrounds.py", changed, "--combination", NAMES[0])
    assert again.returncode == 0
    assert folders[0].finished.stat().st_mtime_ns > before
    assert archive.run("finalizeBackgrounds.py", config).returncode == 0


def masked_before(finished, archive, place, **mask):
    """A copy of the masked exposures, without rate files: its config and folder."""
    shutil.copytree(
        finished[1][0].path, place / "work" / NAMES[0], ignore=shutil.ignore_patterns("*_rate.fits")
    )
    made = Folder(Combination("GR150C", "F115W"), place / "work", place / "out")
    return archive.config(place, gratings=["GR150C"], mask=mask), made


def test_another_crds_context_is_a_reason_to_mask_again(finished, archive, tmp_path):
    config, folder = masked_before(finished, archive, tmp_path, crds_context="jwst_9001.pmap")
    number = len(list(folder.path.glob("*_masked.fits")))
    done = archive.run("makeMask.py", config)
    assert done.returncode == 1
    assert f"{number} exposures have to be masked again, and their rate files" in done.stdout


def test_an_exposure_with_a_newer_rate_file_is_masked_again(finished, archive, tmp_path):
    config, folder = masked_before(finished, archive, tmp_path)
    before = sorted(folder.path.glob("*_masked.fits"))
    name = accepted(folder)["productFilename"][0]
    shutil.copy2(finished[1][0].rate(name), folder.rate(name))
    newer = folder.masked(name).stat().st_mtime + 1
    os.utime(folder.rate(name), (newer, newer))
    done = archive.run("makeMask.py", config)
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"1 masked, {len(before) - 1} were masked already, 0 failed" in done.stdout


def test_local_files_go_through_without_any_network(finished, archive, tmp_path):
    rates = tmp_path / "rates"
    rates.mkdir()
    for folder in finished[1]:
        for path in folder.path.glob("*_rate.fits"):
            shutil.copy(path, rates)
    nowhere = "http://127.0.0.1:9"
    query = {"source": str(rates), "gaia_g_limit": None, "mast_url": nowhere, "gaia_url": nowhere}
    config = archive.config(tmp_path / "run", query=query)
    for script in SCRIPTS:
        done = archive.run(script, config, CRDS_SERVER_URL=nowhere)
        assert done.returncode == 0, done.stdout + done.stderr
    for folder in finished[1]:
        ours = tmp_path / "run" / "out" / folder.finished.name
        np.testing.assert_array_equal(
            fits.getdata(ours, "SCI"), fits.getdata(folder.finished, "SCI")
        )
        assert str(tmp_path).encode() not in ours.read_bytes()  # it may be given to others
    assert not list((tmp_path / "run" / "work").rglob("*_rate.fits"))


@pytest.mark.parametrize(
    ("script", "before"), list(zip(SCRIPTS[1:], SCRIPTS[:-1], strict=True)), ids=SCRIPTS[1:]
)
def test_run_before_its_predecessor_names_it(archive, tmp_path, script, before):
    done = archive.run(script, archive.config(tmp_path))
    assert done.returncode == 1
    # Without an exposure table, the later scripts too name the first script.
    assert f"Run {before} first" in done.stdout or "Run queryData.py first" in done.stdout
    assert "Traceback" not in done.stdout + done.stderr


def test_backgrounds_before_masks_names_make_mask(archive, finished, tmp_path):
    config = archive.config(tmp_path)
    folder = tmp_path / "work" / NAMES[0]
    folder.mkdir(parents=True)
    shutil.copy(finished[1][0].table, folder)
    done = archive.run("makeBackgrounds.py", config, "--combination", NAMES[0])
    assert done.returncode == 1
    assert "Run makeMask.py first" in done.stdout


@pytest.mark.parametrize("script", SCRIPTS)
def test_a_folder_in_use_is_left_alone(archive, tmp_path, script):
    config = archive.config(tmp_path, gratings=["GR150C"])
    with lock.hold(tmp_path / "work" / NAMES[0] / ".lock"):
        done = archive.run(script, config)
        assert [path.name for path in (tmp_path / "work" / NAMES[0]).iterdir()] == [".lock"]
    assert done.returncode == 1
    assert f"in use by process {os.getpid()}" in done.stdout
    assert "Traceback" not in done.stdout + done.stderr


@pytest.mark.parametrize("script", SCRIPTS)
def test_a_bad_config_is_one_message_and_exit_2(archive, tmp_path, script):
    config = archive.config(tmp_path)
    config.write_text("mask:\n  treshold: 3\n")
    done = archive.run(script, config)
    assert done.returncode == 2
    assert done.stdout == ""
    assert len(done.stderr.splitlines()) == 1
    assert "mask.threshold" in done.stderr


@pytest.mark.parametrize("script", SCRIPTS)
def test_wrong_command_lines_exit_2(archive, tmp_path, script):
    config = archive.config(tmp_path)
    assert archive.run(script, config, "--combination", "GR150C-F444W").returncode == 2
    assert archive.run(script, config, "--workers", "0").returncode == 2
    assert archive.run(script, config, "--fast").returncode == 2


@pytest.mark.parametrize("script", SCRIPTS)
def test_help_tells_what_the_step_does_and_what_is_next(script):
    done = subprocess.run(
        [sys.executable, str(ROOT / script), "--help"], capture_output=True, text=True
    )
    assert done.returncode == 0
    for word in ("Step", "--config", "--combination", "--overwrite", "--workers", "Exit status"):
        assert word in done.stdout


@pytest.mark.parametrize("added", [0.05, -0.05])
def test_light_that_one_exposure_has_or_lacks_does_no_harm(finished, archive, tmp_path, added):
    """Scattered light is subtracted or left out; an exposure of another sky is rejected."""
    rates = tmp_path / "rates"
    rates.mkdir()
    for path in finished[1][0].path.glob("*_rate.fits"):
        shutil.copy(path, rates)
    spoilt = sorted(rates.iterdir())[2]
    with fits.open(spoilt, mode="update") as hdus:
        band = added * np.exp(-(((np.arange(256) - 128) / 40) ** 2))
        hdus["SCI"].data += band * np.nanmedian(hdus["SCI"].data)
    query = {"source": str(rates), "gaia_g_limit": None}
    config = archive.config(tmp_path / "run", gratings=["GR150C"], query=query)
    for script in SCRIPTS[:3]:
        assert archive.run(script, config).returncode == 0
    folder = Folder(Combination("GR150C", "F115W"), tmp_path / "run" / "work", tmp_path / "run")
    table = exposure_table.read(folder.table)
    rejected = exposure_table.fates(table)[exposure_table.REJECTED]
    assert rejected == ([spoilt.name] if added < 0 else [])
    assert added > 0 or "on large scales" in exposure_table.reason(table, spoilt.name)
    without, with_it = (combined_background.read(x.background) for x in (finished[1][0], folder))
    off = np.nanmedian(with_it.sci / without.sci, axis=0)
    # The mean of the exposures would have a band of half a per cent.
    assert np.nanstd(ndimage.gaussian_filter1d(off[8:-8], 8)) < 0.0015


def test_a_defect_in_all_exposures_is_no_saturated_star(finished, archive, tmp_path):
    """Rows that are always flagged, as on the real detector; one exposure has a star as well."""
    rates = tmp_path / "rates"
    rates.mkdir()
    lost = pixel["SATURATED"] | pixel["DO_NOT_USE"]
    for number, path in enumerate(sorted(finished[1][0].path.glob("*_rate.fits"))):
        shutil.copy(path, rates)
        with fits.open(rates / path.name, mode="update") as hdus:
            hdus["DQ"].data[100:102, 20:200] |= lost
            if number == 4:
                spoilt = path.name
                hdus["DQ"].data[150:152, 40:140] |= lost
    query = {"source": str(rates), "gaia_g_limit": None}
    config = archive.config(tmp_path / "run", gratings=["GR150C"], query=query)
    for script in SCRIPTS[:3]:
        assert archive.run(script, config).returncode == 0
    table = exposure_table.read(tmp_path / "run" / "work" / NAMES[0] / f"{NAMES[0]}.fits")
    assert exposure_table.fates(table)[exposure_table.REJECTED] == [spoilt]
    assert "100 px of its trace are saturated" in exposure_table.reason(table, spoilt)


def test_one_broken_exposure_is_recorded_and_passed_over(finished, archive, tmp_path):
    rates = tmp_path / "rates"
    rates.mkdir()
    for path in finished[1][0].path.glob("*_rate.fits"):
        shutil.copy(path, rates)
    query = {"source": str(rates), "gaia_g_limit": None}
    config = archive.config(tmp_path / "run", gratings=["GR150C"], query=query)
    assert archive.run("queryData.py", config).returncode == 0
    broken = sorted(rates.iterdir())[0]
    broken.write_bytes(broken.read_bytes()[:100_000])
    done = archive.run("makeMask.py", config)
    assert done.returncode == 0, done.stderr
    assert broken.name in done.stdout
    table = exposure_table.read(tmp_path / "run" / "work" / NAMES[0] / f"{NAMES[0]}.fits")
    fates = exposure_table.fates(table)
    assert fates[exposure_table.FAILED] == [broken.name]
    left = len(table) - len(fates[exposure_table.EXCLUDED])  # one was cleaned of 1/f noise
    assert len(fates[exposure_table.ACCEPTED]) == left - 1


def test_another_author_is_noted_and_nothing_is_made_anew(finished, archive, tmp_path):
    shutil.copytree(finished[1][0].path.parent, tmp_path / "work", ignore=no_rates)
    shutil.copytree(finished[1][0].output_directory, tmp_path / "out")
    config = archive.config(tmp_path, gratings=["GR150C"], finalize={"author": "B. Author"})
    done = archive.run("finalizeBackgrounds.py", config)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "nothing to do" in done.stdout and "noted the author" in done.stdout
    for path in (finished[1][0].finished, finished[1][0].finished_unflat):
        with fits.open(path) as before, fits.open(tmp_path / "out" / path.name) as after:
            assert after[0].header["AUTHOR"] == "B. Author"
            assert [hdu.name for hdu in after] == [hdu.name for hdu in before]
            assert after["SCI"].header["DATASUM"] == before["SCI"].header["DATASUM"]
    again = archive.run("finalizeBackgrounds.py", config)
    assert "noted the author" not in again.stdout


no_rates = shutil.ignore_patterns("*_rate.fits")
