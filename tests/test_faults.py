"""Whatever is wrong with a file: there is a reason, the others are done, none is half-written."""

import json
import shutil

import numpy as np
import pytest
from astropy.io import fits

from tests.conftest import NAMES, ROOT
from tests.script_server import python
from wfssbkg import config, detector, pipeline
from wfssbkg.combine import background, selection
from wfssbkg.errors import StepError
from wfssbkg.files import (
    combined_background,
    exposure_table,
    fits_file,
    lock,
    masked_exposure,
    rate,
    reference_file,
    up_to_date,
)
from wfssbkg.layout import Combination, Folder

GR150C = Combination("GR150C", "F115W")

# astropy's warnings about files that are damaged on purpose
pytestmark = [
    pytest.mark.filterwarnings("ignore:File may have been truncated"),
    pytest.mark.filterwarnings("ignore:Error validating header"),
    pytest.mark.filterwarnings("ignore:.*There may be extra bytes"),
]


def folder_of(config_file, name=NAMES[0]):
    settings = config.read(config_file)
    return Folder(
        Combination(*name.split("-")), settings.working_directory, settings.output_directory
    )


def says(done, *words):
    """The script printed these words, and no traceback."""
    for word in words:
        assert word in done.stdout + done.stderr
    assert "Traceback" not in done.stdout + done.stderr


def no_debris(*folders):
    for folder in folders:
        hidden = [path.name for path in folder.rglob(".*")]
        assert not hidden
        assert not [*folder.rglob("*_binned.fits")]


# ---- rate files


def change(name, function):
    """Change the pixels of an extension."""

    def spoil(path):
        with fits.open(path, mode="update") as hdus:
            hdus[name].data = function(hdus[name].data)

    return spoil


def header(**keywords):
    def spoil(path):
        with fits.open(path, mode="update") as hdus:
            for key, value in keywords.items():
                place = hdus["SCI" if key in ("BUNIT", "DEC_REF") else 0].header
                if value is None:
                    del place[key]
                else:
                    place[key] = value

    return spoil


def without(name):
    def spoil(path):
        with fits.open(path) as hdus:
            rest = fits.HDUList([hdu.copy() for hdu in hdus if hdu.name != name])
        rest.writeto(path, overwrite=True)

    return spoil


def smaller(path):
    with fits.open(path, mode="update") as hdus:
        for name in ("SCI", "ERR", "DQ", "VAR_POISSON", "VAR_RNOISE"):
            hdus[name].data = hdus[name].data[:128]


def folder_in_place(path):
    path.unlink()
    path.mkdir()


RATE_FAULTS = {
    "empty": (lambda path: path.write_bytes(b""), "empty"),
    "truncated": (lambda path: path.write_bytes(path.read_bytes()[:700_000]), "VAR_"),
    "the end is missing": (lambda path: path.write_bytes(path.read_bytes()[:-3000]), "ends within"),
    "no SCI": (without("SCI"), "no image extension SCI"),
    "no ERR": (without("ERR"), "no image extension ERR"),
    "no VAR_RNOISE": (without("VAR_RNOISE"), "no image extension VAR_RNOISE"),
    "wrong shape": (change("DQ", lambda image: image[:100]), "have the shapes"),
    "half a frame": (smaller, "its header says 256x256"),
    "all NaN": (change("SCI", lambda image: image * np.nan), "every pixel is bad"),
    "ERR zero": (change("ERR", lambda image: image * 0), "uncertainty above 0"),
    "ERR negative": (change("ERR", lambda image: -image), "uncertainty above 0"),
    "DQ of floats": (change("DQ", lambda image: image.astype("f4")), "DQ does not hold 32-bit"),
    "DQ signed": (change("DQ", lambda image: image.astype("i4")), "DQ does not hold 32-bit"),
    "SCI of integers": (change("SCI", lambda image: np.zeros(image.shape, "i2")), "floating-point"),
    "another instrument": (header(INSTRUME="NIRCAM"), "INSTRUME is 'NIRCAM', expected NIRISS"),
    "another filter": (header(PUPIL="F200W"), "PUPIL is 'F200W', expected F115W"),
    "another grating": (header(FILTER="GR150R"), "FILTER is 'GR150R', expected GR150C"),
    "a direct image": (header(EXP_TYPE="NIS_IMAGE"), "EXP_TYPE is 'NIS_IMAGE'"),
    "no keyword PUPIL": (header(PUPIL=None), "its header has no PUPIL"),
    "no keyword DETECTOR": (header(DETECTOR=None), "its header has no DETECTOR"),
    "another unit": (header(BUNIT="MJy/sr"), "expected DN/s"),
    "no place on the sky": (header(DEC_REF=95.0), "world coordinates make no sense"),
    "a card that is none": (
        lambda path: path.write_bytes(path.read_bytes().replace(b"CAL_VER = ", b"CAL_VER ==", 1)),
        "its header is damaged",
    ),
    "no FITS file": (lambda path: path.write_bytes(b"<!DOCTYPE html><html>"), "not a FITS file"),
    "a folder in its place": (folder_in_place, "directory"),
    "vanished": (lambda path: path.unlink(), "missing. Run queryData.py again"),
    "a link to nowhere": (
        lambda path: (path.unlink(), path.symlink_to("nowhere")), "missing. Run queryData.py again",
    ),
}  # fmt: skip


def copy_name(number):
    return f"jw90001001001_02101_{number:05d}_nis_rate.fits"


def without_uncertainty(err):
    err[100, 100:103] = 0, -1, np.nan
    return err


@pytest.fixture(scope="module")
def spoilt(finished, archive, tmp_path_factory):
    """A run of makeMask.py on files that were still sound when queryData.py checked them."""
    place = tmp_path_factory.mktemp("spoilt")
    sound = sorted(finished[1][0].path.glob("*_02101_*_rate.fits"))[0]
    (place / "rates").mkdir()
    for number in range(1, len(RATE_FAULTS) + 3):
        shutil.copy(sound, place / "rates" / copy_name(number))
    query = {"source": str(place / "rates"), "gaia_g_limit": None}
    config_file = archive.config(place, gratings=["GR150C"], query=query)
    assert archive.run("queryData.py", config_file).returncode == 0
    for number, (spoil, _) in enumerate(RATE_FAULTS.values(), start=1):
        spoil(place / "rates" / copy_name(number))
    (place / "rates" / copy_name(len(RATE_FAULTS) + 1)).chmod(0o444)  # a read-only file is sound
    change("ERR", without_uncertainty)(place / "rates" / copy_name(len(RATE_FAULTS) + 2))
    return archive.run("makeMask.py", config_file), folder_of(config_file)


def test_the_sound_exposures_beside_spoilt_ones_are_masked(spoilt):
    done, folder = spoilt
    says(done, f"2 masked, 0 were masked already, {len(RATE_FAULTS)} failed")
    assert done.returncode == 0
    names = exposure_table.fates(exposure_table.read(folder.table))[exposure_table.ACCEPTED]
    assert names == [copy_name(len(RATE_FAULTS) + more) for more in (1, 2)]
    made = [path.name for path in sorted(folder.path.iterdir())]
    masks = [folder.masked(name).name for name in names]
    assert made == [folder.table.name, folder.flat.name, *masks]


def test_pixels_without_an_uncertainty_are_bad(spoilt):
    _, folder = spoilt
    names = [copy_name(len(RATE_FAULTS) + more) for more in (1, 2)]
    one, other = (
        masked_exposure.read(folder.masked(name))[2] & masked_exposure.BAD for name in names
    )
    assert other[100, 100:103].all()
    assert (one != other).sum() == 3 - one[100, 100:103].sum()


@pytest.mark.parametrize("fault", RATE_FAULTS)
def test_a_spoilt_rate_file_has_its_reason_in_the_table(spoilt, fault):
    done, folder = spoilt
    name, words = copy_name(list(RATE_FAULTS).index(fault) + 1), RATE_FAULTS[fault][1]
    table = exposure_table.read(folder.table)
    assert words in exposure_table.reason(table, name)
    assert name in exposure_table.fates(table)[exposure_table.FAILED]
    assert f"{name} failed: {exposure_table.reason(table, name)}" in done.stdout


def test_a_rate_file_cut_at_any_byte_does_not_pass(finished, tmp_path):
    path = tmp_path / "cut_rate.fits"
    sound = sorted(finished[1][0].path.glob("*_rate.fits"))[0]
    content = sound.read_bytes()
    with fits.open(sound) as hdus:
        edges = [hdu.fileinfo()[key] for hdu in hdus for key in ("hdrLoc", "datLoc")]
    complete = edges[-2]  # without its last extension, ASDF, it is still a rate file
    rng = np.random.default_rng(3)
    places = {place + more for place in edges for more in (-1, 0, 1)} - {-1, complete}
    for place in places | set(rng.integers(0, len(content), 200).tolist()):
        path.write_bytes(content[:place])
        with pytest.raises(StepError):
            rate.check(path)


def fuzz(archive, rate_file, folder, number, seed, *options):
    """The results of tests/fuzz.py, which must end by itself."""
    done = python(
        "-m", "tests.fuzz", rate_file, folder, number, seed, *options,
        env=archive.environment(), cwd=ROOT, timeout=1800,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-500:] + done.stderr[-3000:]
    return [json.loads(line) for line in done.stdout.splitlines()]


def is_told(found):
    """Whether the file is refused with a reason, or only a few pixels of the exposure differ."""
    if "reason" in found:
        return found["reason"].strip() != "" and found["left"] == 0
    return 0 <= found["fraction"] <= 1 and found["differs"] < 0.02 and found["left"] == 0


def test_damage_by_chance_is_told_or_harmless(finished, archive, tmp_path):
    sound = sorted(finished[1][0].path.glob("*_rate.fits"))[0]
    found = fuzz(archive, sound, tmp_path, 100, 1)
    assert len(found) > 95
    assert [what for what in found if not is_told(what)] == []
    assert sum("reason" in what for what in found) > 50


SECOND_TRY = """
import sys
from pathlib import Path
from wfssbkg.files import exposure_table
from wfssbkg.mask import combination
from wfssbkg.run import command_line

late, flat, *rates = map(Path, sys.argv[2:])
mask = combination.mask_exposure

def mask_exposure(rate, *others):
    if rate.name == "broken_rate.fits" and late.exists():
        late.rename(flat)
    return mask(rate, *others)

combination.mask_exposure = mask_exposure
run = command_line.start("", ["--config", sys.argv[1], "--workers", "1"])
table = exposure_table.new({"productFilename": path.name} for path in rates)
table.meta["QDATE"] = "now"
combination.mask_all(run, run.folders[0], table, rates)
for row in table:
    print(row["productFilename"], row["status"])
"""


@pytest.mark.parametrize("arrives", [True, False])
def test_a_flat_field_that_is_late_costs_no_exposure(finished, archive, tmp_path, arrives):
    first, second, other = sorted(finished[1][0].path.glob("*_rate.fits"))[:3]
    broken = tmp_path / "broken_rate.fits"
    broken.write_bytes(b"no FITS file")
    cache = tmp_path / "crds"
    shutil.copytree(archive.crds, cache)
    name = fits.getheader(finished[1][0].masked(first.name))["R_FLAT"].removeprefix("crds://")
    (flat,) = cache.rglob(name)
    flat.rename(tmp_path / "late.fits")
    late = str(tmp_path / "late.fits") if arrives else "nowhere"
    config_file = archive.config(tmp_path, gratings=["GR150C"])
    folder_of(config_file).path.mkdir(parents=True)
    done = python(
        "-c", SECOND_TRY, config_file, late, flat, first, broken, second, other,
        env=archive.environment(CRDS_PATH=str(cache)), cwd=ROOT,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    status = "accepted" if arrives else "failed"
    told = {f"{path.name} {status}" for path in (first, second, other)}
    assert told | {f"{broken.name} failed"} <= set(done.stdout.splitlines())


@pytest.mark.soak
@pytest.mark.parametrize("seed", [2, 3])
def test_more_damage_by_chance_is_told_or_harmless(finished, archive, tmp_path, seed):
    sound = sorted(finished[1][seed - 2].path.glob("*_02101_*_rate.fits") if seed == 2 else
                   finished[1][0].path.glob("*_rate.fits"))[-1]  # fmt: skip
    found = fuzz(archive, sound, tmp_path, 600, seed, "all")
    assert [what for what in found if not is_told(what)] == []


# ---- masked exposures, tables, combined backgrounds


def test_an_unfinished_masked_exposure_is_not_taken_for_one(finished, archive, tmp_path):
    """No run leaves such a file, but a copy that was interrupted may."""
    whole = sorted(finished[1][0].path.glob("*_masked.fits"))[0]
    wanted = up_to_date.bearing(config.read(finished[0]), up_to_date.MASKED, GR150C)
    path = tmp_path / "cut_masked.fits"
    content = whole.read_bytes()
    path.write_bytes(content)
    assert up_to_date.is_current(path, wanted, [whole])
    for part in np.random.default_rng(4).integers(0, len(content), 50):
        path.write_bytes(content[:part])
        assert not up_to_date.is_current(path, wanted, [whole])
    path.unlink()
    path.mkdir()
    assert not up_to_date.is_current(path, wanted, [whole])
    with pytest.raises(StepError, match="is a folder"):
        fits_file.write(path, [fits.PrimaryHDU()])


MASKED_FAULTS = {
    "empty": (lambda path: path.write_bytes(b""), "cannot be read", exposure_table.FAILED),
    "truncated": (
        lambda path: path.write_bytes(path.read_bytes()[:400_000]), "cannot be read",
        exposure_table.FAILED,
    ),
    "no ERR": (without("ERR"), "cannot be read", exposure_table.FAILED),
    "wrong shape": (
        lambda path: [change(name, lambda image: image[:128])(path)
                      for name in ("SCI", "ERR", "MASK")],
        "256x128 pixels, the others are 256x256", exposure_table.FAILED,
    ),
    "all masked": (
        change("MASK", lambda image: image * 0 + masked_exposure.BAD), "no unmasked pixel",
        exposure_table.REJECTED,
    ),
    "all NaN": (change("SCI", lambda image: image * np.nan), "sky level", exposure_table.REJECTED),
    "negative": (change("SCI", lambda image: -image), "expected above 0", exposure_table.REJECTED),
}  # fmt: skip


def test_spoilt_masked_exposures_are_left_out_with_a_reason(finished, archive, tmp_path):
    """The spoilt files are copies of sound ones, so that enough sound ones are left."""
    place = tmp_path / "work" / NAMES[0]
    shutil.copytree(
        finished[1][0].path, place, ignore=shutil.ignore_patterns("*_rate.fits", "background*")
    )
    choice = {"refinements": 0, "remove_stripes": False}
    config_file = archive.config(tmp_path, gratings=["GR150C"], combine=choice)
    folder = folder_of(config_file)
    table = exposure_table.read(folder.table)
    names = exposure_table.fates(table)[exposure_table.ACCEPTED]
    for name, (spoil, *_) in zip(names, MASKED_FAULTS.values(), strict=False):
        spoil(folder.masked(name))
    done = archive.run("makeBackgrounds.py", config_file, "--verbose")
    says(done, "2 exposures are fit for a background, expected at least 3")
    assert done.returncode == 1
    assert "RuntimeWarning" not in done.stderr
    assert not folder.background.exists()
    table = exposure_table.read(folder.table)
    for name, (_, words, fate) in zip(names, MASKED_FAULTS.values(), strict=False):
        assert words in exposure_table.reason(table, name)
        assert f"{name} {fate}: {exposure_table.reason(table, name)}" in done.stdout
        if fate == exposure_table.REJECTED:  # with one more sound exposure there are enough
            shutil.copy(finished[1][0].masked(name), folder.masked(name))
    done = archive.run("makeBackgrounds.py", config_file)
    says(done, "exposures combined into")
    assert done.returncode == 0
    assert folder.background.exists()
    no_debris(tmp_path / "work")


def damaged_background(path, fault):
    match fault:
        case "empty":
            path.write_bytes(b"")
        case "truncated":
            path.write_bytes(path.read_bytes()[:500_000])
        case "no FITS file":
            path.write_bytes(b"<html>")
        case "no ERR":
            without("ERR")(path)
        case "no SYSERR":
            header(SYSERR=None)(path)
        case "no exposures":
            without("EXPOSURES")(path)
        case "wrong shape":
            change("NEXP", lambda image: image[:9])(path)
        case "all NaN":
            change("SCI", lambda image: image * np.nan)(path)
        case "ERR zero":
            change("ERR", lambda image: image * 0)(path)
        case "a folder":
            folder_in_place(path)


@pytest.mark.parametrize(
    "fault",
    ["empty", "truncated", "no FITS file", "no ERR", "no SYSERR", "no exposures", "wrong shape",
     "all NaN", "ERR zero", "a folder"],
)  # fmt: skip
def test_a_spoilt_background_names_the_script_that_makes_it(finished, tmp_path, fault):
    path = tmp_path / "background.fits"
    shutil.copy(finished[1][0].background, path)
    combined_background.read(path)
    damaged_background(path, fault)
    with pytest.raises(StepError, match=r"background\.fits .*makeBackgrounds\.py again"):
        combined_background.read(path)


def test_a_spoilt_background_is_made_anew(finished, tmp_path, capsys):
    config_file, folders, _ = finished
    settings = config.read(config_file)
    shutil.copytree(
        folders[0].path, tmp_path / NAMES[0], ignore=shutil.ignore_patterns("*_rate.fits")
    )
    folder = Folder(GR150C, tmp_path, tmp_path)
    names = selection.candidates(exposure_table.read(folder.table), folder)
    made_with = up_to_date.bearing(settings, up_to_date.COMBINED, GR150C)
    assert background.is_current(folder, names, made_with)
    without("EXPOSURES")(folder.background)
    assert not background.is_current(folder, names, made_with)
    assert "it is made again" in capsys.readouterr().out
    damaged_background(folder.background, "truncated")
    assert not background.is_current(folder, names, made_with)
    folder.masked(names[3]).unlink()
    with pytest.raises(StepError, match=r"does not exist\. Run makeMask\.py first"):
        selection.candidates(exposure_table.read(folder.table), folder)


def test_masks_of_other_settings_are_not_combined(finished, archive, tmp_path):
    shutil.copytree(
        finished[1][0].path, tmp_path / "work" / NAMES[0],
        ignore=shutil.ignore_patterns("*_rate.fits"),
    )  # fmt: skip
    config_file = archive.config(tmp_path, gratings=["GR150C"], mask={"threshold": 3.0})
    done = archive.run("makeBackgrounds.py", config_file)
    assert done.returncode == 1
    says(done, "other settings than the config has: mask.threshold. Run makeMask.py first")


def copied(finished, archive, place):
    """A copy of everything that is made for one combination, except the rate files."""
    folder = finished[1][0]
    shutil.copytree(
        folder.path, place / "work" / NAMES[0], ignore=shutil.ignore_patterns("*_rate.fits")
    )
    config_file = archive.config(place, gratings=["GR150C"])
    return config_file, folder_of(config_file)


def test_one_combination_with_spoilt_files_does_not_stop_the_other(finished, archive, tmp_path):
    """One has a background, the other a finished file that is cut short."""
    _, folders, _ = finished
    shutil.copytree(
        folders[0].path.parent, tmp_path / "work", ignore=shutil.ignore_patterns("*_rate.fits")
    )
    shutil.copytree(folders[0].output_directory, tmp_path / "out")
    config_file = archive.config(tmp_path)
    first, second = (folder_of(config_file, name) for name in NAMES)
    before = first.finished.read_bytes()
    damaged_background(first.background, "truncated")
    second.finished.write_bytes(second.finished.read_bytes()[:-2880])
    done = archive.run("finalizeBackgrounds.py", config_file)
    says(done, f"{first.background} cannot be read", f"wrote {second.finished}")
    assert done.returncode == 1
    assert done.stderr.count("Not made: GR150C-F115W.") == 1
    assert first.finished.read_bytes() == before
    sci, expected = (fits.getdata(x.finished, "SCI") for x in (second, folders[1]))
    np.testing.assert_array_equal(sci, expected)
    no_debris(tmp_path)


def test_a_masked_exposure_that_vanished_before_the_end_is_named(tmp_path):
    gone = tmp_path / "jw_masked.fits"
    with pytest.raises(StepError, match=r"jw_masked\.fits.*run makeMask\.py again"):
        pipeline.flat_of(gone, tmp_path / "flat.fits")


@pytest.mark.parametrize("kept", ["whole", "truncated", "of another exposure", "gone"])
def test_the_flat_field_that_is_kept_is_used_if_it_is_the_right_one(
    finished, archive, tmp_path, kept
):
    """CRDS and the pipeline are asked again only if it is not."""
    config_file, folder = copied(finished, archive, tmp_path)
    if kept == "truncated":
        folder.flat.write_bytes(folder.flat.read_bytes()[:-2880])
    elif kept == "of another exposure":
        header(R_FLAT="crds://another.fits")(folder.flat)
    elif kept == "gone":
        folder.flat.unlink()
    nowhere = {"CRDS_PATH": str(tmp_path / "crds")} if kept == "whole" else {}
    done = archive.run("finalizeBackgrounds.py", config_file, "--overwrite", **nowhere)
    assert done.returncode == 0, done.stdout + done.stderr
    expected = finished[1][0]
    for ours, theirs in (
        (fits.getdata(folder.flat, "FLAT"), fits.getdata(expected.flat, "FLAT")),
        (fits.getdata(folder.finished_unflat), fits.getdata(expected.finished_unflat)),
    ):
        np.testing.assert_array_equal(ours, theirs)


def test_masked_exposures_that_do_not_tell_their_settings_are_made_anew(
    finished, archive, tmp_path
):
    """An earlier version made them."""
    config_file, folder = copied(finished, archive, tmp_path)
    name = exposure_table.fates(exposure_table.read(folder.table))[exposure_table.ACCEPTED][0]
    shutil.copy(finished[1][0].rate(name), folder.rate(name))
    without("SETTINGS")(folder.masked(name))
    done = archive.run("makeMask.py", config_file)
    says(done, "1 masked")
    wanted = up_to_date.bearing(config.read(config_file), up_to_date.MASKED, GR150C)
    assert up_to_date.is_current(folder.masked(name), wanted, [folder.rate(name)])


@pytest.mark.parametrize("damage", ["truncated", "a folder"])
def test_a_spoilt_exposure_table_is_named(finished, tmp_path, damage):
    path = tmp_path / "GR150C-F115W.fits"
    shutil.copy(finished[1][0].table, path)
    damaged_background(path, damage) if damage == "a folder" else path.write_bytes(
        path.read_bytes()[:-2880]
    )
    with pytest.raises(StepError, match=r"GR150C-F115W\.fits is not an exposure table"):
        exposure_table.read(path)


# ---- too few, none


def test_all_excluded_is_a_reason_in_every_script(archive, tmp_path):
    config_file = archive.config(tmp_path, gratings=["GR150C"], query={"programs": ["1"]})
    done = archive.run("queryData.py", config_file)
    says(done, "not among query.programs", "no exposure can be used")
    assert done.returncode == 1
    done = archive.run("makeMask.py", config_file)
    says(done, "has no accepted exposure. See its column 'reason'")
    assert done.returncode == 1
    done = archive.run("makeBackgrounds.py", config_file)
    says(done, "has no masked exposure. Run makeMask.py first")
    assert done.returncode == 1
    no_debris(tmp_path)


def test_pixels_masked_in_all_exposures_are_filled_and_flagged(finished, archive, tmp_path):
    """Rows, a corner and a hole have no value; there is no NaN and no warning about a division."""
    shutil.copytree(
        finished[1][0].path, tmp_path / "work" / NAMES[0],
        ignore=shutil.ignore_patterns("*_rate.fits", "background*"),
    )  # fmt: skip
    config_file = archive.config(tmp_path, gratings=["GR150C"])
    folder = folder_of(config_file)
    hole = np.zeros((256, 256), dtype=bool)
    hole[100:104], hole[:40, :40], hole[180:230, 90:140] = True, True, True
    for path in folder.path.glob("*_masked.fits"):
        change("MASK", lambda bits: np.where(hole, bits | masked_exposure.BAD, bits))(path)
    for script in ("makeBackgrounds.py", "finalizeBackgrounds.py"):
        done = archive.run(script, config_file, "--verbose")
        assert done.returncode == 0, done.stdout + done.stderr
        says(done, "")
        assert "RuntimeWarning" not in done.stderr, done.stderr
    science = detector.science_pixels(hole.shape)
    for path in (folder.finished, folder.finished_unflat):
        with fits.open(path) as hdus:
            assert np.isfinite(hdus["SCI"].data).all()
            assert np.isfinite(hdus["ERR"].data).all()
            assert (hdus["NEXP"].data[hole] == 0).all()
            assert (hdus["DQ"].data[hole & science] & reference_file.FILLED > 0).all()
            assert hdus["SCI"].data[hole & science].min() > 0.5
            assert hdus["SCI"].data[hole & science].max() < 2


# ---- two runs at once


def test_two_runs_do_not_ask_gaia_at_the_same_time(archive, tmp_path):
    config_file = archive.config(tmp_path, gratings=["GR150C"])
    with lock.hold(tmp_path / "work" / ".gaia_g9.5.lock"):
        done = archive.run("queryData.py", config_file)
    assert done.returncode == 1
    says(done, "in use by process")
