"""The comparison of finished backgrounds with CRDS, and its cross-validation."""

import os
import shutil

import numpy as np
import pytest
from astropy.io import fits
from astropy.table import Table

from benchmarks import crossvalidation as benchmark
from demo.exposures import demo_exposures
from tests import small
from tests.conftest import NAMES, SCRIPTS, served
from tests.subtract.conftest import write_finished
from wfssbkg import layout
from wfssbkg.combine.background import WORKER_GB
from wfssbkg.compare import comparison
from wfssbkg.compare import figures as of_scores
from wfssbkg.config import read
from wfssbkg.files import exposure_table, lock, reference_file, up_to_date
from wfssbkg.files.temporary import unfinished
from wfssbkg.layout import Combination, Folder
from wfssbkg.run.parallel import Workers

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


def not_below(one, other):
    """The figures in which one score is not below another."""
    return [name for name in one if not abs(one[name]) < abs(other[name])]


@pytest.mark.parametrize("which", [0, 1], ids=NAMES)
def test_the_new_background_is_better_than_the_official_one(compared, which):
    _, folders, said = compared
    found = figures(layout.quality(folders[0].output_directory))
    own, out, official = (found[NAMES[which], x] for x in ("in", "out", "official"))
    assert not_below(own, official) == []
    assert not_below(out, official) == []
    assert own["rms"] < out["rms"]
    assert own["mean_rms"] < out["mean_rms"]
    page = layout.report(folders[0].output_directory).read_text()
    assert "<b>Simulated</b>: all combined exposures" in page
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
                kept = [
                    card for card in header.cards if not card[0].startswith(reference_file.FIGURES)
                ]
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
        assert not list(unfinished(folder.path))
        assert not folder.lock.exists()


def in_process(config, folder, monkeypatch, archive, **others):
    """The comparison of a combination, in this process."""
    for name, value in archive.environment().items():
        monkeypatch.setenv(name, value)
    settings = read(config)
    compute = settings.compute.model_copy(update={"workers": 1})
    workers = Workers(compute, need_gb=WORKER_GB)
    return benchmark.compared(workers, settings, folder, others)


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
    spoilt = of_scores.figures(found.scores["in"])
    assert not_below(sound, spoilt) == []
    assert spoilt["rms"] > 1.3 * sound["rms"]
    assert any("leaves more of its own exposures" in note for note in found.notes)
    assert found.scores["out"].rms < spoilt["rms"]


def test_pictures_of_all_masked_exposures(quick, finished):
    found = quick(which=1)  # with a rejected one
    table = found.background.inputs
    fates = exposure_table.fates(table)
    assert len(fates[exposure_table.REJECTED]) == 1
    masked = fates[exposure_table.ACCEPTED] + fates[exposure_table.REJECTED]
    assert sorted(found.pictures) == sorted(masked)
    for name, picture in found.pictures.items():
        assert picture.residual.shape == picture.masked.shape == (128, 128)
        assert picture.residual.dtype == np.float32
        assert np.isfinite(picture.rms) == (name in fates[exposure_table.ACCEPTED])
        assert picture.scored == ("in" if name in fates[exposure_table.ACCEPTED] else "out")
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
    assert len(of_scores.table([found])) == 0


def test_too_few_exposures_are_not_cross_validated(quick):
    found = quick(compare={"groups": 3}, combine={"minimum_exposures": 8})
    assert "out" not in found.scores
    assert any("without a part of the 9 exposures less than 8" in note for note in found.notes)
    assert of_scores.keywords(found.scores).keys() >= {"XIRMS", "XIMEAN"}
    assert not [key for key in of_scores.keywords(found.scores) if key.startswith("XV")]


# ---- another background, and residuals -----------------------------------------------------------


@pytest.fixture(scope="module")
def against(archive, finished, tmp_path_factory):
    """A run with another background of one combination, and residuals: config, folders, words."""
    place = tmp_path_factory.mktemp("against")
    folders = [copied(archive, folder, place)[1] for folder in finished[1]]
    other = place / "record $10686452" / folders[0].finished.name
    other.parent.mkdir()
    x = np.arange(256) / 255
    image = fits.getdata(folders[0].finished, "SCI") * (1 + 0.02 * x).astype(np.float32)
    fits.PrimaryHDU(image).writeto(other)
    config = archive.config(place, compare={"against": other.parent.name, "write_residuals": True})
    done = archive.run(SCRIPT, config)
    assert done.returncode == 0, done.stdout + done.stderr
    return config, folders, other, done.stdout + done.stderr


def test_another_background_is_scored_on_the_same_exposures(against):
    _, folders, other, said = against
    found = figures(layout.quality(folders[0].output_directory))
    assert (NAMES[1], "against") not in found
    new, other_one = found[NAMES[0], "out"], found[NAMES[0], "against"]
    assert new["rms"] < other_one["rms"]
    assert new["mean_rms"] < 0.5 * other_one["mean_rms"]
    assert other_one["column_0"] < new["column_0"]
    assert f"{other}, perhaps made of some of these exposures, leaves residuals of" in said
    missing = other.with_name(folders[1].finished.name)
    assert f"not compared with {missing}: there is no such file (compare.against)" in said
    page = layout.report(folders[0].output_directory).read_text()
    section = page.partition(f'<section id="{NAMES[0]}"')[2].partition("</section>")[0]
    assert section.count(str(other)) == 1
    assert "than record $10686452: RMS" in section
    assert "Which exposures it was made of is not known" in section


def test_a_file_that_is_put_there_or_replaced_is_compared_again_whatever_its_date(against):
    config, folders, other, _ = against
    settings = read(config)
    assert all(comparison.is_current(settings, folder) for folder in folders)
    before = other.stat()
    os.utime(other, ns=(before.st_atime_ns, before.st_mtime_ns - 10**15))
    assert not comparison.is_current(settings, folders[0])
    os.utime(other, ns=(before.st_atime_ns, before.st_mtime_ns))
    later = other.with_name(folders[1].finished.name)
    later.write_bytes(b"")
    os.utime(later, ns=(0, 0))
    assert not comparison.is_current(settings, folders[1])
    later.unlink()
    without = settings.compare.model_copy(update={"write_residuals": False})
    off = settings.model_copy(update={"compare": without})
    assert all(comparison.is_current(off, folder) for folder in folders)


def test_each_exposure_has_a_residual_that_the_report_links(against):
    _, folders, _, _ = against
    page = layout.report(folders[0].output_directory).read_text()
    for folder in folders:
        fates = exposure_table.fates(exposure_table.read(folder.finished))
        names = fates[exposure_table.ACCEPTED] + fates[exposure_table.REJECTED]
        assert sorted(folder.residuals.iterdir()) == sorted(map(folder.residual, names))
        for name in names:
            with fits.open(folder.residual(name)) as hdus:
                header, left, mask = hdus[0].header, hdus["SCI"], hdus["MASK"].data
                assert left.header["BUNIT"] == "DN/s"
                assert header["RATEFILE"] == name
                assert header["BKGNAME"] == folder.finished.name
                assert header["INSAMPLE"] is False  # all were cross-validated
                assert abs(np.median(left.data[mask == 0])) < 0.01 * header["BKGLVL"]
            assert f'href="residuals/{folder.combination}/{folder.residual(name).name}"' in page


def zenodo(path):
    """A folder for another background, and where that of the finished one is to be."""
    folder = small.folder(path)
    folder.output_directory.mkdir()
    write_finished(folder.finished, "GR150C")
    (path / "zenodo").mkdir()
    return folder, path / "zenodo" / folder.finished.name


def mostly_zero():
    image = np.zeros((256, 256))
    image[100:104] = 1
    return image


def begun(folder, other):
    settings = small.settings(compare={"against": other.parent})
    return comparison.begin(settings, folder)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda path, _: None, "there is no such file (compare.against)"),
        (lambda path, _: path.write_bytes(b"SIMPLE"), "cannot be read as a background"),
        (lambda path, _: fits.PrimaryHDU().writeto(path), "it has no image"),
        (lambda path, _: fits.PrimaryHDU(np.ones((64, 32))).writeto(path), "it has 32 x 64 pixels"),
        (lambda path, _: fits.PrimaryHDU(mostly_zero()).writeto(path), "only 2% of its pixels"),
        (lambda path, _: write_finished(path, "GR150R"), "has FILTER GR150R, the exposure GR150C"),
        (lambda path, own: path.symlink_to(own), "it is the new background itself"),
    ],
    ids=[
        "missing",
        "damaged",
        "no image",
        "another size",
        "hardly known",
        "another grating",
        "itself",
    ],
)
def test_what_cannot_be_compared_with_is_told_and_the_rest_goes_on(tmp_path, make, words):
    folder, other = zenodo(tmp_path)
    make(other, folder.finished)
    found = begun(folder, other)
    (note,) = (note for note in found.notes if note.startswith(f"not compared with {other}: "))
    assert words in note
    assert found.against is None
    assert found.against_file == ""


def test_a_background_for_exposures_of_the_other_kind_is_compared_with_and_that_is_told(tmp_path):
    folder, other = zenodo(tmp_path)
    write_finished(other, "GR150C", S_CLNFNS="COMPLETE", DARKRES=0.002)
    found = begun(folder, other)
    assert found.against_dark == 0.002
    np.testing.assert_allclose(np.nanmedian(found.against), 1)
    assert any("were cleaned of 1/f noise in stage 1, and these were not" in x for x in found.notes)


def test_where_the_flat_field_is_in_it_is_divided_out(finished, tmp_path):
    folder = finished[1][0]
    other = shutil.copy(folder.finished_unflat, tmp_path / folder.finished.name)
    found = begun(folder, tmp_path / folder.finished.name)
    known = np.isfinite(found.against)
    assert other.exists()
    np.testing.assert_allclose(found.against[known], found.background.sci[known], rtol=1e-4)


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
    """One folder is in use, one is of other settings, and two have no background yet."""
    folders = [copied(archive, folder, tmp_path)[1] for folder in finished[1]]
    config = archive.config(tmp_path, filters=["F115W", "F150W"], finalize={"strength": 0.5})
    with lock.hold(folders[0].lock):
        done = archive.run(SCRIPT, config)
    assert done.returncode == 1
    assert f"{folders[0].path} is in use by process" in done.stdout
    assert f"{folders[1].finished} was made with other settings" in done.stdout
    assert done.stdout.count("does not exist. Run finalizeBackgrounds.py first") == 2
    assert not layout.report(folders[0].output_directory).exists()


def test_its_settings_make_no_background_out_of_date(archive, finished, tmp_path):
    sections = {"groups": 7, "smoothing": 4, "known": 0.1}
    settings = read(archive.config(tmp_path, compare=sections))
    for folder in finished[1]:
        for path, bear in (
            (folder.background, up_to_date.COMBINED),
            (folder.finished, up_to_date.FINISHED),
        ):
            wanted = up_to_date.bearing(settings, bear, folder.combination)
            assert up_to_date.is_current(path, wanted, [])


def test_help_and_wrong_use(archive, tmp_path):
    config = archive.config(tmp_path, compare={"groups": 1})
    assert "Step 5 of 5" in archive.run(SCRIPT, config, "--help").stdout
    done = archive.run(SCRIPT, config)
    assert done.returncode == 2
    assert "compare.groups is 1. Expected a whole number from 2 to 100, or null" in done.stderr


# ---- what is kept ------------------------------------------------------------------------------


def written(folders):
    """When each file that the script writes was written."""
    output = folders[0].output_directory
    paths = [layout.report(output), layout.quality(output)]
    paths += [path for x in folders for path in (x.comparison, x.finished, x.finished_unflat)]
    return {path.name if path.parent == output else path: path.stat().st_mtime_ns for path in paths}


def test_on_unchanged_input_nothing_is_done_again(archive, compared):
    config, folders, _ = compared
    before = written(folders)
    done = archive.run(SCRIPT, config)
    assert done.returncode == 0
    assert done.stdout.count("up to date: nothing to do") == 2
    assert f"Report: {layout.report(folders[0].output_directory)}" in done.stdout
    assert written(folders) == before


@pytest.fixture
def copy(archive, compared, tmp_path):
    """A copy of the run, to do something to; config and folders."""
    place = tmp_path / "copy"
    shutil.copytree(compared[0].parent, place)
    folders = [Folder(x.combination, place / "work", place / "out") for x in compared[1]]
    return archive.config(place), folders


def again(archive, copy, *options):
    """What a second run says."""
    done = archive.run(SCRIPT, copy[0], *options)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_with_one_combination_the_report_is_of_all_and_says_what_is_out_of_date(archive, copy):
    _, folders = copy
    output = folders[0].output_directory
    folders[1].finished.touch()
    found, before = figures(layout.quality(output)), written(folders)
    said = again(archive, copy, "--combination", NAMES[0], "--overwrite")
    assert "nothing to do" not in said
    assert figures(layout.quality(output)) == found
    page = layout.report(output).read_text()
    assert all(f'<section id="{name}"' in page for name in NAMES)
    assert page.count("this comparison is out of date") == 2  # in the summary and in its section
    after = written(folders)
    assert {path for path in before if after[path] == before[path]} == {
        folders[1].comparison, folders[1].finished.name, folders[1].finished_unflat.name
    }  # fmt: skip


def test_a_changed_exposure_is_compared_again_and_what_a_killed_run_left_is_removed(archive, copy):
    _, folders = copy
    output = folders[0].output_directory
    next(folders[1].path.glob("*_masked.fits")).touch()
    for path in (layout.report(output), layout.quality(output)):
        path.rename(path.with_name(f"{layout.TEMPORARY}0123abcd.{path.name}"))
    said = again(archive, copy)
    assert said.count("nothing to do") == 1
    assert said.count(f"{NAMES[1]}/comparison.fits") == 0
    assert not list(unfinished(output))
    assert layout.report(output).exists()
    assert layout.quality(output).exists()


def test_other_settings_are_compared_again_another_author_is_not(archive, copy):
    place, folders = copy[0].parent, copy[1]
    settings = read(archive.config(place, compare={"smoothing": 4}))
    assert not any(comparison.is_current(settings, folder) for folder in folders)
    archive.config(place, finalize={"author": "Somebody else"})
    assert again(archive, copy).count("nothing to do") == 2
    assert "Somebody else" in layout.report(folders[0].output_directory).read_text()


def test_a_comparison_that_cannot_be_read_is_named_and_not_in_the_report(copy, capsys):
    config, folders = copy
    folders[0].comparison.write_bytes(folders[0].comparison.read_bytes()[:20000])
    found = comparison.kept(read(config), [])
    assert [str(one.folder.combination) for one in found] == [NAMES[1]]
    assert found[0].notes == []
    said = capsys.readouterr().out
    assert f"{NAMES[0]} is not in the report: {folders[0].comparison} cannot be read" in said
