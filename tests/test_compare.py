"""The comparison of finished backgrounds with CRDS, and its cross-validation."""

import shutil
import subprocess
import sys

import numpy as np
import pytest
from astropy.io import fits
from astropy.table import Table

from benchmarks import crossvalidation as benchmark
from demo.exposures import demo_exposures
from tests.conftest import NAMES, ROOT, SCRIPTS, served
from wfssbkg import compare, crossvalidation, exposures, fields, layout, lock, residual
from wfssbkg.config import read
from wfssbkg.layout import Combination, Folder

SCRIPT = "compareBackgrounds.py"
UNREACHABLE = {"CRDS_MODE": "auto", "CRDS_SERVER_URL": "http://127.0.0.1:9"}


def copied(archive, folder, place, **sections):
    """A copy of the run of a combination, without its rate files; config and folder."""
    place.mkdir(parents=True, exist_ok=True)
    shutil.copytree(
        folder.path,
        place / "work" / folder.path.name,
        ignore=shutil.ignore_patterns("*_rate.fits"),
    )
    made = Folder(folder.combination, place / "work", place / "out")
    made.output_directory.mkdir(exist_ok=True)
    for path in (folder.finished, folder.finished_unflat):
        shutil.copy2(path, made.output_directory)
    grating = folder.combination.grating
    return archive.config(place, gratings=[grating], **sections), made


@pytest.fixture(scope="module")
def compared(archive, finished, tmp_path_factory):
    """A run of the script on both combinations: its config, folders, and what it said."""
    place = tmp_path_factory.mktemp("compared")
    folders = [copied(archive, folder, place)[1] for folder in finished[1]]
    config = archive.config(place)
    done = archive.run(SCRIPT, config)
    assert done.returncode == 0, done.stdout + done.stderr
    return config, folders, done.stdout


def figures(path):
    table = Table.read(path)
    return {
        (row["combination"], row["scored"]): {x: row[x] for x in table.colnames[2:]}
        for row in table
    }


def better(one, other):
    """The figures in which one score is not below another."""
    return [name for name in one if not abs(one[name]) < abs(other[name])]


@pytest.mark.parametrize("which", [0, 1], ids=NAMES)
def test_the_new_background_is_better_than_the_official_one(compared, which):
    _, folders, said = compared
    found = figures(layout.quality(folders[0].output_directory))
    own, out, official = (found[NAMES[which], x] for x in ("in", "out", "official"))
    assert not better(own, official)
    assert not better(out, official)
    assert own["rms"] < out["rms"]
    assert own["mean_rms"] < out["mean_rms"]
    assert layout.report(folders[0].output_directory).exists()
    assert "jwst_niriss_bkg_" in said
    assert "leaves more of its own exposures" not in said


def test_figures_are_in_the_headers_and_files_stay_up_to_date(archive, finished, compared):
    config, folders, _ = compared
    found = figures(layout.quality(folders[0].output_directory))
    for before, folder in zip(finished[1], folders, strict=True):
        for name in ("finished", "finished_unflat"):
            with (
                fits.open(getattr(before, name)) as old,
                fits.open(getattr(folder, name), checksum=True) as new,
            ):
                header = new[0].header
                for key, scored in (("XI", "in"), ("XV", "out")):
                    own = found[str(folder.combination), scored]
                    assert header[f"{key}RMS"] == pytest.approx(own["rms"], abs=1e-5)
                    assert header[f"{key}COL95"] == pytest.approx(own["column_95"], abs=1e-5)
                    assert header[f"{key}ROW100"] == pytest.approx(own["row_100"], abs=1e-5)
                    assert header[f"{key}MEAN"] == pytest.approx(own["mean_rms"], abs=1e-5)
                kept = [card for card in header.cards if not card[0].startswith(("XI", "XV"))]
                assert [c[:2] for c in kept if c[0] not in ("CHECKSUM", "DATASUM")] == [
                    c[:2] for c in old[0].header.cards if c[0] not in ("CHECKSUM", "DATASUM")
                ]
                assert [hdu.name for hdu in new] == [hdu.name for hdu in old]
                for one, other in zip(new[1:], old[1:], strict=True):
                    assert one.header["DATASUM"] == other.header["DATASUM"]
                    assert np.array(one.data).tobytes() == np.array(other.data).tobytes()
    done = archive.run("finalizeBackgrounds.py", config)
    assert done.returncode == 0
    assert done.stdout.count("nothing to do") == 2


def test_nothing_is_left_behind(compared):
    for folder in compared[1]:
        assert not list(folder.path.glob("compared_*"))
        assert not folder.lock.exists()


def in_process(config, folder, monkeypatch, archive, **others):
    """The comparison of a combination, in this process."""
    for name, value in archive.environment().items():
        monkeypatch.setenv(name, value)
    settings = read(config)
    compute = settings.compute.model_copy(update={"workers": 1})
    settings = settings.model_copy(update={"compute": compute})
    try:
        return compare.compare(settings, folder, others)
    finally:
        folder.remove_compared()


@pytest.fixture
def quick(archive, finished, tmp_path, monkeypatch):
    """A comparison of a copy without cross-validation, after something was done to the copy."""

    def made(change=lambda folder: None, which=0, **sections):
        sections = {"compare": {"groups": None}} | sections
        config, folder = copied(archive, finished[1][which], tmp_path / "copy", **sections)
        change(folder)
        return in_process(config, folder, monkeypatch, archive)

    return made


def test_a_spoilt_background_is_worse_in_every_figure(
    archive, finished, compared, tmp_path, monkeypatch
):
    """By a gradient of 2 % from one corner to the other."""
    config, folder = copied(archive, finished[1][0], tmp_path)
    y, x = np.mgrid[:256, :256] / 255
    with fits.open(folder.finished, mode="update") as hdus:
        hdus["SCI"].data *= (1 + 0.01 * (x**2 + y**2)).astype(np.float32)
    found = in_process(config, folder, monkeypatch, archive)
    sound = figures(layout.quality(compared[1][0].output_directory))[NAMES[0], "in"]
    spoilt = found.scores["in"].figures()
    assert not better(sound, spoilt)
    assert spoilt["rms"] > 1.3 * sound["rms"]
    assert any("leaves more of its own exposures" in note for note in found.notes)
    assert found.scores["out"].figures()["rms"] < spoilt["rms"]


def test_pictures_of_all_masked_exposures(quick, finished):
    found = quick(which=1)  # with a rejected one
    table = found.background.inputs
    fates = exposures.fates(table)
    assert len(fates[exposures.REJECTED]) == 1
    masked = fates[exposures.ACCEPTED] + fates[exposures.REJECTED]
    assert sorted(found.pictures) == sorted(masked)
    for name, picture in found.pictures.items():
        assert picture.residual.shape == picture.masked.shape == (128, 128)
        assert picture.residual.dtype == np.float32
        assert np.isfinite(picture.rms) == (name in fates[exposures.ACCEPTED])
        assert np.nanmin(picture.masked) >= 0
        assert np.nanmax(picture.masked) <= 1
        (row,) = table[table["productFilename"] == name]
        assert np.nanmean(picture.masked) == pytest.approx(row["masked_fraction"], abs=0.25)
    of_field = {}
    for name, picture in found.pictures.items():
        of_field.setdefault(name[:13], set()).add(picture.field)
    assert all(len(numbers) == 1 for numbers in of_field.values())
    assert len({x.field for x in found.pictures.values()}) == len(of_field)


def test_without_crds_the_rest_is_told(archive, finished, tmp_path):
    config, folder = copied(archive, finished[1][0], tmp_path, compare={"groups": None})
    nowhere = {"CRDS_PATH": str(tmp_path / "crds"), **UNREACHABLE}
    done = archive.run(SCRIPT, config, **nowhere)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "not compared with the reference file in CRDS" in done.stdout
    assert "Traceback" not in done.stdout + done.stderr
    found = figures(layout.quality(folder.output_directory))
    assert [scored for _, scored in found] == ["in"]


def without(pattern):
    def change(folder):
        gone = sorted(folder.path.glob(pattern))
        assert gone
        for path in gone[:1] if "masked" in pattern else gone:
            path.unlink()

    return change


def test_without_refined_masks_those_of_makemask_are_used(quick):
    found = quick(without("*_refined.fits"))
    assert any("refined masks are gone" in note for note in found.notes)
    assert found.scores["in"].rms < found.scores["official"].rms


def test_without_a_masked_exposure_the_others_are_scored(quick, finished):
    found = quick(without("*_masked.fits"))
    assert any(note.startswith("1 of 9 masked exposures are gone") for note in found.notes)
    assert len(found.pictures) == 8
    assert found.scores["in"].rms > 0


def test_without_any_masked_exposure_there_is_no_score(quick):
    def change(folder):
        for path in folder.path.glob("*_masked.fits"):
            path.write_bytes(b"")

    found = quick(change)
    assert any(note.startswith("9 of 9 masked exposures are gone") for note in found.notes)
    assert found.scores == found.pictures == {}
    assert len(found.figures()) == 0


def test_too_few_exposures_are_not_cross_validated(quick):
    found = quick(compare={"groups": 3}, combine={"minimum_exposures": 8})
    assert "out" not in found.scores
    assert any("without a part of the 9 exposures less than 8" in note for note in found.notes)
    assert compare.keywords(found.scores).keys() >= {"XIRMS", "XIMEAN"}
    assert not [key for key in compare.keywords(found.scores) if key.startswith("XV")]


@pytest.fixture(scope="module")
def one_field(tmp_path_factory):
    """Three spectra and three direct images of one field each, finished; archive and config."""
    wanted = [
        spec
        for spec in demo_exposures(7, (("CLEAR", "F115W"), ("GR150C", "F115W")))
        if spec.field == 1 and not spec.contamination
    ]
    with served(tmp_path_factory.mktemp("few"), wanted) as archive:
        place = tmp_path_factory.mktemp("run")
        config = archive.config(place, gratings=["CLEAR", "GR150C"])
        for script in (*SCRIPTS, SCRIPT):
            done = archive.run(script, config)
            assert done.returncode == 0, done.stdout + done.stderr
        folders = [
            Folder(Combination(x, "F115W"), place / "work", place / "out")
            for x in ("CLEAR", "GR150C")
        ]
        yield archive, config, folders, done.stdout


def test_three_exposures_of_one_field(one_field):
    _, _, (direct, _), said = one_field
    found = figures(layout.quality(direct.output_directory))
    assert sorted(found) == [
        ("CLEAR-F115W", "in"), ("CLEAR-F115W", "official"),
        ("GR150C-F115W", "in"), ("GR150C-F115W", "official"),
    ]  # fmt: skip
    assert said.count("not cross-validated: without a part of the 3 exposures, all of one") == 2
    assert said.count("compared with a constant instead") == 1
    assert found["CLEAR-F115W", "in"]["rms"] < found["CLEAR-F115W", "official"]["rms"]


def test_exposures_of_one_field_are_left_out_one_by_one(one_field, tmp_path, monkeypatch):
    archive, _, (_, folder), _ = one_field
    combine = {"minimum_exposures": 2}
    config, folder = copied(archive, folder, tmp_path, combine=combine)
    found = in_process(config, folder, monkeypatch, archive)
    assert any("all exposures are of one field" in note for note in found.notes)
    assert found.scores["in"].rms < found.scores["out"].rms


def test_first_things_first(archive, finished, tmp_path):
    config, folder = copied(archive, finished[1][0], tmp_path)
    folder.finished.unlink()
    done = archive.run(SCRIPT, config)
    assert done.returncode == 1
    assert "does not exist. Run finalizeBackgrounds.py first" in done.stdout
    assert not layout.report(folder.output_directory).exists()
    shutil.copy2(finished[1][0].finished, folder.finished)
    changed = archive.config(tmp_path, gratings=["GR150C"], finalize={"strength": 0.5})
    done = archive.run(SCRIPT, changed)
    assert done.returncode == 1
    assert "made with other settings" in done.stdout
    with lock.hold(folder.lock):
        done = archive.run(SCRIPT, config)
    assert done.returncode == 1
    assert "in use by process" in done.stdout


def test_its_settings_make_no_background_out_of_date(archive, finished, tmp_path):
    sections = {"groups": 7, "smoothing": 4, "known": 0.1}
    config, _ = copied(archive, finished[1][0], tmp_path, compare=sections)
    for script in ("makeBackgrounds.py", "finalizeBackgrounds.py"):
        assert "nothing to do" in archive.run(script, config).stdout


def test_help_and_wrong_use(archive, tmp_path):
    done = subprocess.run(
        [sys.executable, str(ROOT / SCRIPT), "--help"], capture_output=True, text=True
    )
    assert "Step 5 of 5" in done.stdout
    config = archive.config(tmp_path, compare={"groups": 1})
    done = archive.run(SCRIPT, config)
    assert done.returncode == 2
    assert "compare.groups is 1. Expected a whole number from 2 to 100, or null" in done.stderr


def test_a_mean_leaves_the_error_and_its_noise(tmp_path):
    """After smoothing, in quadrature."""
    rng = np.random.default_rng(3)
    y, x = np.mgrid[:256, :256]
    sky = 1 + 0.1 * np.sin(x / 60)
    wrong = sky * (1 + 0.004 * np.sin(y / 20))
    background, mean = tmp_path / "background.fits", tmp_path / "mean.fits"
    crossvalidation.write_image(background, wrong)
    crossvalidation.write_image(mean, sky + rng.normal(0, 0.07, sky.shape), np.full_like(sky, 0.07))
    settings = read(ROOT / "config.yaml").compare
    found = residual.of_mean(mean, {"wrong": background}, settings)
    known = residual.smooth(np.ones(sky.shape), settings.smoothing)
    error = residual.smoothed((100 * (sky - wrong)).astype(np.float32), known, settings)
    error = residual.root_mean_square(error - error.mean())
    of_noise = 100 * 0.07 / (2 * np.sqrt(np.pi) * settings.smoothing)
    assert found["wrong"] == pytest.approx(np.hypot(error, of_noise), rel=0.1)


def test_smoothing_knows_only_what_counts():
    settings = read(ROOT / "config.yaml").compare
    left = np.full((128, 128), 3, dtype=np.float32)
    left[:, 60:] = np.nan
    left[::3] = np.nan
    known = residual.smooth(np.isfinite(left), settings.smoothing)
    smooth = residual.smoothed(left, known, settings)
    np.testing.assert_allclose(smooth[1::3, :50], 3, rtol=1e-5)
    assert np.isnan(smooth[::3]).all()
    assert np.isnan(smooth[:, 59:]).all()  # half of the Gaussian is empty there


def test_fields_are_shared_out_evenly():
    groups, information = [[0, 1, 2], [3], [4], [5, 6]], np.array([1, 1, 1, 2, 2, 1, 1.0])
    parts = fields.share_out(groups, information, 3)
    assert parts == [[0, 1, 2], [3, 5, 6], [4]]
    assert fields.share_out(groups, information, 9)[4:] == [[]] * 5


def test_keywords_fit_into_a_header():
    profile = np.linspace(-1, 1, 50)
    scores = dict.fromkeys(("in", "out"), compare.Score(0.3, profile, profile, 0.1))
    cards = compare.keywords(scores)
    assert len(cards) == 24
    header = fits.Header()
    for keyword, (value, comment) in cards.items():
        assert len(keyword) <= 8
        header[keyword] = (value, comment)
        assert len(header.cards[keyword].image) == 80
    assert header["XVCOL95"] == pytest.approx(0.9)


def test_cross_validation_agrees_with_the_truth(archive, finished, tmp_path, monkeypatch):
    """The check of benchmarks/crossvalidation.py, on small frames."""
    config, folder = copied(archive, finished[1][0], tmp_path)
    truth = fits.getdata(archive.folder / "truth" / f"{NAMES[0]}.fits", "SCI")
    found = in_process(config, folder, monkeypatch, archive, **{benchmark.TRUTH: truth})
    rows = {name: x for name, *x in benchmark.check(found, truth, read(config))}
    for name in ("an exposure", "mean of exposures"):
        measured, predicted, _ = rows[name]
        assert measured == pytest.approx(predicted, rel=benchmark.TOLERANCE)
