"""subtractBackgrounds.py as a user runs it, on small simulated frames."""

import os
import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits
from astropy.table import Table
from stdatamodels.jwst import datamodels

from demo import crds_cache
from tests.conftest import ROOT
from tests.script_server import python, without_crds
from tests.subtract import conftest
from tests.test_killed import disk
from wfssbkg import layout
from wfssbkg.detector import science_pixels
from wfssbkg.files import exposure_table

SUBARRAYS = {"WFSS64R": "GR150R", "WFSS64C": "GR150C", "WFSS128R": "GR150R", "WFSS128C": "GR150C"}
SCIENCE = science_pixels((conftest.NPIX, conftest.NPIX))
ALL = ("GR150C", "GR150R", "CLEAR")


def difference(rate, subtracted):
    """What was subtracted, DN/s; NaN where the rate file has no number."""
    return fits.getdata(rate, "SCI").astype(float) - fits.getdata(subtracted, "SCI")


def parts(path):
    """The bytes of the data, and the cards, of each extension of a file."""
    content = path.read_bytes()
    with fits.open(path) as hdus:
        places = [(hdu.name, hdu.fileinfo(), hdu.header.tostring()) for hdu in hdus]
    return {
        name: (content[info["datLoc"] : info["datLoc"] + info["datSpan"]], cards)
        for name, info, cards in places
    }


def trace(grating, peak=20.0, length=50, width=1.5):
    """A trace as long and bright as they get, in the middle of the frame."""
    light = np.zeros((conftest.NPIX, conftest.NPIX))
    y, x = conftest.NPIX * conftest.Y - 130, conftest.NPIX * conftest.X - 120
    along, across = (x, y) if grating == "GR150C" else (y, x)
    light += peak * np.exp(-0.5 * (across / width) ** 2) * np.exp(-0.5 * (along / length) ** 6)
    return light + 0.002 * peak / (1 + (across / 4) ** 2) * (np.abs(along) < 1.2 * length)


def galaxy():
    """A galaxy with a half-light radius of 20 arcsec on a frame of full size."""
    y, x = conftest.NPIX * conftest.Y - 110, conftest.NPIX * conftest.X - 140
    return 0.6 * np.exp(-1.678 * np.hypot(x, y / 0.6) / 38)


SOURCES = {
    ("GR150C", "trace"): trace("GR150C"),
    ("GR150R", "trace"): trace("GR150R"),
    ("GR150C", "galaxy"): galaxy(),
}


@dataclass
class Subtracted:
    """A run of the script: the folder of the rate files, their bytes before, what it said."""

    folder: Path
    before: dict
    said: str
    table: Table

    def rate(self, spec, extra=""):
        return self.folder / spec.filename.replace("_nis_", f"{extra}_nis_")


@pytest.fixture(scope="module")
def subtracted(made, tmp_path_factory):
    """All kinds of exposures at once, by two workers."""
    place = tmp_path_factory.mktemp("run")
    (place / "rates").mkdir()
    for simulated in made.exposures.values():
        shutil.copy2(simulated.path, place / "rates")
    for (grating, extra), light in SOURCES.items():
        path = place / "rates" / made.exposures[grating].path.name
        copy = shutil.copy2(path, path.with_name(path.name.replace("_nis_", f"{extra}_nis_")))
        conftest.add_light(copy, light)
    for name, grating in SUBARRAYS.items():
        conftest.cut(place / "rates" / made.exposures[grating].path.name, name)
    before = {path: path.read_bytes() for path in (place / "rates").iterdir()}
    archive = conftest.Archive(place, made.crds, conftest.NOWHERE)
    config = archive.config(
        place, gratings=list(ALL), output_directory=str(made.finished), compute={"workers": 2}
    )
    done = archive.run("subtractBackgrounds.py", config, "rates")
    assert done.returncode == 0, done.stdout + done.stderr
    table = Table.read(made.finished / "subtracted.ecsv")
    return Subtracted(place / "rates", before, done.stdout, table)


# ---- what is written


def test_every_rate_file_has_one_without_sky_beside_it(subtracted):
    assert len(subtracted.before) == 10
    for path in subtracted.before:
        assert layout.subtracted(path).name == path.name.replace("_rate", "_bkgsub_rate")
        assert layout.subtracted(path).is_file()
    assert len(list(subtracted.folder.iterdir())) == 20
    assert "10 exposures done, 0 failed" in subtracted.said
    assert "FAILED" not in subtracted.said


def test_the_rate_files_are_never_touched(subtracted):
    for path, content in subtracted.before.items():
        assert path.read_bytes() == content


def test_all_but_sci_and_the_primary_header_is_the_same_to_the_last_bit(subtracted):
    for path in subtracted.before:
        before, after = parts(path), parts(layout.subtracted(path))
        assert list(before) == list(after)
        assert {"SCI", "ERR", "DQ", "VAR_POISSON", "VAR_RNOISE", "ASDF"} < set(before)
        for name in before:
            if name not in ("PRIMARY", "SCI"):
                assert after[name] == before[name], name
        assert after["SCI"][1] == before["SCI"][1]


def test_the_header_tells_what_was_done_and_keeps_the_rest(subtracted, made):
    for path in subtracted.before:
        before, after = (fits.getheader(p) for p in (path, layout.subtracted(path)))
        grating = before["FILTER"]
        changed = ("FILENAME", "HISTORY", "")
        for key in before:
            if key not in changed:
                assert after[key] == before[key], key
                assert after.comments[key] == before.comments[key]
        assert after["FILENAME"] == layout.subtracted(path).name
        assert after["S_BKDSUB"] == "COMPLETE"
        assert after["BKGNAME"] == made.background(grating).name
        assert after["BKGLVL"] == pytest.approx(0.6, rel=0.02)
        assert 0 < after["BKGLVERR"] < 0.02
        assert after["BKGDARK"] == 0
        assert 0.4 < after["BKGSKY"] < 1
        assert "BKGSC1" not in after
        assert f"WFSSBackgrounds with {after['BKGNAME']}" in str(after["HISTORY"])
        assert f"{after['BKGSKY']:.1%} of the pixels taken for sky" in str(after["HISTORY"])


@pytest.mark.parametrize("grating", ALL)
def test_the_sky_that_is_subtracted_is_the_true_one(subtracted, made, grating):
    simulated = made.exposures[grating]
    path = subtracted.rate(simulated.spec)
    taken = difference(path, layout.subtracted(path))
    assert (taken[~SCIENCE] == 0).all()
    off = (taken - simulated.sky)[SCIENCE] / simulated.spec.sky_level
    assert abs(np.nanmedian(off)) < 0.004
    assert np.nanpercentile(np.abs(off), 90) < 0.01  # with the error of the flat field


@pytest.mark.parametrize("name", SUBARRAYS)
def test_subarrays_take_their_part_of_it(subtracted, made, name):
    simulated = made.exposures[SUBARRAYS[name]]
    path = subtracted.rate(simulated.spec, name.lower())
    taken = difference(path, layout.subtracted(path))
    y, x = (fits.getval(path, key) - 1 for key in ("SUBSTRT2", "SUBSTRT1"))
    off = (taken - simulated.sky[y:, x:])[SCIENCE[y:, x:]] / simulated.spec.sky_level
    assert taken.shape in ((256, 64), (64, 256), (256, 128), (128, 256))
    assert abs(np.nanmedian(off)) < 0.02  # on so few pixels the sources do not average out
    assert np.nanstd(off) < 0.02


@pytest.mark.parametrize(("grating", "extra"), SOURCES)
def test_the_flux_of_sources_is_what_it_was(subtracted, made, grating, extra):
    """In units of the sky per pixel, over the source and over its faint outer parts."""
    simulated, light = made.exposures[grating], SOURCES[grating, extra]
    limit = {"trace": 0.005, "galaxy": 0.02}[extra]
    path = subtracted.rate(simulated.spec, extra)
    off = (difference(path, layout.subtracted(path)) - simulated.sky) / simulated.spec.sky_level
    for brightest, faintest in ((np.inf, 0.1), (0.1, 0.01)):
        part = SCIENCE & (light > faintest * 0.6) & (light < brightest * 0.6)
        assert part.sum() > 300
        assert abs(np.nanmean(off[part])) < limit
    paths = path, subtracted.rate(simulated.spec)
    level, without = (fits.getval(layout.subtracted(each), "BKGLVL") for each in paths)
    assert level == pytest.approx(without, rel=limit)


def test_the_table_has_a_row_for_each(subtracted):
    table = subtracted.table
    assert sorted(table["rate"]) == sorted(path.name for path in subtracted.before)
    assert (table["status"] == "subtracted").all()
    assert table["level"].unit == "DN/s"
    for row in table:
        header = fits.getheader(subtracted.folder.parent / row["output"])
        assert row["level"] == pytest.approx(header["BKGLVL"])
        assert row["level_error"] == pytest.approx(header["BKGLVERR"])
        assert row["sky_fraction"] == pytest.approx(header["BKGSKY"])
        assert row["background"] == header["BKGNAME"]


# ---- through the pipeline

STEPS = """
import json, sys
import numpy as np
from jwst.flatfield import FlatFieldStep
from stdatamodels.jwst import datamodels

for path in sys.argv[1:]:
    with datamodels.open(path) as model:
        before = model.meta.cal_step.bkg_subtract, model.meta.background.level
        result = FlatFieldStep.call(model)
        after = result.meta.cal_step.flat_field, float(np.nanmedian(result.data))
        print(json.dumps([*before, *after, result.meta.cal_step.bkg_subtract]))
"""


def test_the_pipeline_goes_on_with_it(subtracted, made):
    """With no level of the background as its own steps tell one: skymatch would refuse that."""
    paths = [layout.subtracted(subtracted.rate(each.spec)) for each in made.exposures.values()]
    paths.append(layout.subtracted(subtracted.rate(made.exposures["GR150R"].spec, "wfss64r")))
    environment = without_crds() | crds_cache.environment(made.crds)
    done = python("-c", STEPS, *paths, cwd=subtracted.folder, env=environment)
    assert done.returncode == 0, done.stderr
    lines = [line for line in done.stdout.splitlines() if line.startswith("[")]
    assert len(lines) == 4
    for line in lines:
        assert line.startswith('["COMPLETE", null, "COMPLETE", ')
        assert line.endswith(', "COMPLETE"]')
        assert abs(float(line.split(",")[3])) < 0.02 * 0.6


def test_its_data_model_has_the_metadata_of_the_rate_file(subtracted, made):
    path = subtracted.rate(made.exposures["GR150C"].spec)
    with (
        datamodels.open(str(path)) as before,
        datamodels.open(str(layout.subtracted(path))) as after,
    ):
        assert type(after) is type(before)
        for name in ("exposure", "subarray", "target", "pointing", "wcsinfo", "instrument"):
            told = [getattr(model.meta, name).instance for model in (before, after)]
            assert told[0] == told[1]
        np.testing.assert_array_equal(before.dq, after.dq)


# ---- again


def test_a_second_run_does_nothing_and_writes_the_same_table(script, rate, made, tmp_path):
    found = conftest.band_components()
    background = conftest.write_finished(tmp_path / "a.fits", "GR150C", components=found)
    path = conftest.add_light(rate(), 0.6 * 0.08 * conftest.BAND)
    options, output, tables = (path, "--background", background), layout.subtracted(path), []
    for number in range(2):
        said = script(*options)
        assert "1 exposures done, 0 failed" in said
        assert ("1 are up to date" in said) == (number == 1)
        assert (f"wrote {output}" in said) == (number == 0)
        tables.append(Table.read(made.finished / "subtracted.ecsv"))
        if number == 0:
            before = output.stat().st_mtime_ns
    assert output.stat().st_mtime_ns == before
    assert tables[0].colnames == tables[1].colnames
    for name in tables[0].colnames:
        one, other = (list(table[name]) for table in tables)
        assert one == (pytest.approx(other) if isinstance(one[0], float) else other), name
    assert "up to date" not in script(*options, "--overwrite")
    assert output.stat().st_mtime_ns > before


def test_whatever_it_is_made_of_is_a_reason_to_make_it_again(script, rate, made, tmp_path):
    path = rate()
    background = shutil.copy(made.background("GR150C"), tmp_path / "a.fits")
    options = path, "--background", background
    script(*options)
    for change in (
        lambda: os.utime(path, (1.6e9, 1.6e9)),  # another one, with an older date
        lambda: os.utime(background),
        lambda: layout.subtracted(path).write_bytes(layout.subtracted(path).read_bytes()[:99_999]),
    ):
        change()
        assert "up to date" not in script(*options)
    assert "up to date" not in script(*options, subtract={"components": False})
    mask = {"background_box": 32, "flicker_noise": "uncleaned", "growth": 2}
    assert "up to date" not in script(*options, mask=mask)
    assert "1 are up to date" in script(*options, mask=mask, finalize={"author": "A. N. Author"})


# ---- where to read and to write


def test_another_folder_is_made_and_holds_all_that_is_written(script, rate, tmp_path):
    path, out = rate(), tmp_path / "new" / "folder"
    script(path, "--output", out, "--plots")
    names = ["bkgsub.png", "bkgsub_rate.fits", "subtracted.ecsv"]
    expected = sorted(path.name.replace("rate.fits", name) for name in names[:2]) + names[2:]
    assert sorted(file.name for file in out.iterdir()) == expected
    assert list(path.parent.iterdir()) == [path]
    picture = next(out.glob("*.png")).read_bytes()
    assert picture.startswith(b"\x89PNG")
    assert len(picture) > 20_000


def test_files_without_sky_in_a_folder_are_no_rate_files(script, rate):
    path = rate()
    script(path.parent)
    assert "1 exposures done, 0 failed" in script(path.parent)
    done = layout.subtracted(path)
    assert f"{done}: its sky is subtracted already" in script(done, status=2)
    renamed = done.rename(path)
    said = script(renamed, status=1)
    assert f"FAILED: {path}: processed already, background subtracted (S_BKDSUB)" in said


def test_combinations_are_those_that_the_query_found(script, made, tmp_path):
    folder = layout.Folder(layout.Combination("GR150C", "F115W"), tmp_path / "work", made.finished)
    folder.path.mkdir(parents=True)
    assert "Run queryData.py first" in script("--combination", "GR150C-F115W", status=1)
    path = made.exposures["GR150C"].path
    names = {path.name: "rejected", "jw1_rate.fits": "accepted", "jw2_rate.fits": "excluded"}
    rows = [
        {"productFilename": name, "dataURI": f"mast:JWST/{name}", "status": status}
        for name, status in names.items()
    ]
    exposure_table.write(exposure_table.new(rows), folder.table, "2026-01-02T03:04:05")
    said = script("--combination", "GR150C-F115W", status=1)
    assert "none of the 2 rate files of" in said
    shutil.copy(path, folder.path)
    said = script("--combination", "GR150C-F115W")
    assert "1 of 2 rate files are not there" in said
    assert layout.subtracted(folder.rate(path.name)).is_file()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((), "nothing to do: name rate files, folders with rate files, or --combination"),
        (("nowhere_rate.fits",), "there is no such file. Expected rate files, or folders"),
        (("empty",), "no file *_rate.fits is in this folder"),
        (("a_rate.fits.gz",), "it is compressed. Unpack it first"),
        (("a_cal.fits",), "the name of a rate file ends in _rate.fits"),
        (("one", "two", "--output", "out"), "two of the rate files would be written to"),
        (("one/a_rate.fits", "--workers", "none"), "expected a whole number above 0"),
        (("one/a_rate.fits", "--combination", "GR150C-F999W"), "not among the config's"),
        (
            ("one/a_rate.fits", "--output", "a_cal.fits"),
            "--output a_cal.fits: it is a file, expected a folder",
        ),
        (
            ("one/a_rate.fits", "--background", "nowhere.fits"),
            "--background nowhere.fits: there is no",
        ),
    ],
    ids=lambda x: " ".join(x) if isinstance(x, tuple) else "",
)
def test_a_wrong_command_line_is_told_in_words(script, tmp_path, arguments, words):
    for name in ("empty", "one", "two"):
        (tmp_path / name).mkdir()
    for name in ("a_rate.fits.gz", "a_cal.fits", "one/a_rate.fits", "two/a_rate.fits"):
        (tmp_path / name).write_bytes(b"SIMPLE")
    assert words in script(*arguments, status=2)


def test_a_table_that_cannot_be_written_does_not_lose_the_exposures(script, rate, made, tmp_path):
    """The folder of finished backgrounds need not be there if another background is named."""
    path = rate()
    said = script(
        path, "--background", made.background("GR150C"), output_directory=str(tmp_path / "none")
    )
    assert "1 exposures done, 0 failed" in said
    assert layout.subtracted(path).is_file()


# ---- hostile files


def truncated(path):
    path.write_bytes(path.read_bytes()[:300_000])


def not_a_number(path):
    with fits.open(path, mode="update") as hdus:
        hdus["SCI"].data[:] = np.nan


def flagged(path):
    with fits.open(path, mode="update") as hdus:
        hdus["DQ"].data[:] |= 1


def no_pointing(path):
    with fits.open(path, mode="update") as hdus:
        del hdus[0].header["SUBSTRT1"]


HOSTILE = {
    "truncated": (truncated, "no image extension DQ, VAR_POISSON, VAR_RNOISE"),
    "empty": (lambda path: path.write_bytes(b""), "not a FITS file (empty)"),
    "not FITS": (lambda path: path.write_text("<html>"), "not a FITS file (starts with '<html>')"),
    "not a number": (not_a_number, "every pixel is bad"),
    "flagged": (flagged, "every pixel is bad"),
    "without a place": (no_pointing, "its part of the frame is not known"),
    "another instrument": (
        lambda path: fits.setval(path, "INSTRUME", value="NIRCAM"), "INSTRUME is 'NIRCAM'",
    ),
    "a spectrograph": (lambda path: fits.setval(path, "PUPIL", value="GR700XD"), "PUPIL GR700XD"),
    "cleaned": (lambda path: fits.setval(path, "S_CLNFNS", value="COMPLETE"), "S_CLNFNS"),
    "flat-fielded": (lambda path: fits.setval(path, "S_FLAT", value="COMPLETE"), "(S_FLAT)"),
}  # fmt: skip


def test_each_hostile_file_fails_in_words_and_the_others_are_done(script, rate, made, tmp_path):
    good = rate()
    background = conftest.write_finished(tmp_path / "a.fits", "GR150C", S_CLNFNS="SKIPPED")
    for number, (spoil, _) in enumerate(HOSTILE.values()):
        spoil(rate(name=f"jw{number}_rate.fits"))
    said = script(good.parent, "--background", background, "--workers", "2", status=1)
    table = Table.read(made.finished / "subtracted.ecsv")
    assert f"1 exposures done, {len(HOSTILE)} failed" in said
    reasons = dict(zip(table["rate"], table["reason"], strict=True))
    for number, (name, (_, words)) in enumerate(HOSTILE.items()):
        assert words in reasons[f"jw{number}_rate.fits"], name
        assert not layout.subtracted(good.parent / f"jw{number}_rate.fits").exists()
    assert f"FAILED: {good.parent / 'jw1_rate.fits'}: not a FITS file (empty)" in said
    assert list(good.parent.glob("*_bkgsub_rate.fits")) == [layout.subtracted(good)]
    assert not list(good.parent.glob(".*"))


def test_a_combination_without_a_background_says_what_to_do(script, rate, tmp_path):
    path = rate()
    said = script(path, status=1, output_directory=str(tmp_path))
    assert "nis-f115w-gr150c_skyflat.fits does not exist. Make the background of GR150C" in said
    assert "or name one with --background" in said
    assert not layout.subtracted(path).exists()


@pytest.mark.parametrize("kind", ["another filter", "another grism", "damaged", "cleaned"])
def test_a_background_of_the_wrong_kind_is_refused(script, rate, tmp_path, kind):
    path, background = rate(), tmp_path / "a.fits"
    grating = "GR150R" if kind == "another grism" else "GR150C"
    changes = {
        "another filter": {"PUPIL": "F200W"}, "cleaned": {"S_CLNFNS": "COMPLETE"},
    }.get(kind, {})  # fmt: skip
    conftest.write_finished(background, grating, **changes)
    if kind == "damaged":
        background.write_bytes(background.read_bytes()[:5000])
    words = {
        "another filter": "a.fits has PUPIL F200W, the exposure F115W",
        "another grism": "a.fits has FILTER GR150R, the exposure GR150C",
        "damaged": "a.fits cannot be read",
        "cleaned": "Make the other background (mask.flicker_noise: uncleaned)",
    }
    assert words[kind] in script(path, "--background", background, status=1)
    assert not layout.subtracted(path).exists()


def test_a_folder_that_cannot_be_written_to_gets_advice_that_fits(script, rate, tmp_path):
    path = rate()
    with disk(tmp_path / "disk", 4000) as change:
        copy = shutil.copy(path, tmp_path / "disk")
        change("ro")
        (tmp_path / "other").mkdir()
        other = shutil.copy(path, tmp_path / "other" / path.name)
        said = script(copy, other, status=1)
    assert f"the folder {tmp_path / 'disk'} cannot be written to. Name another one with" in said
    assert "--output" in said
    assert layout.subtracted(Path(other)).is_file()


def test_crds_out_of_reach_is_told_in_words(script, rate, tmp_path):
    path = rate()
    away = {"CRDS_PATH": str(tmp_path / "none"), "CRDS_SERVER_URL": conftest.NOWHERE}
    said = script(path, status=1, environment=away | {"CRDS_MODE": "auto"})
    assert "Reference files are looked for in CRDS_PATH=" in said
    assert "SystemExit" not in said
    assert not layout.subtracted(path).exists()


def test_checksums_of_what_has_changed_are_no_longer_claimed(script, rate):
    path = rate()
    with fits.open(path) as hdus:
        hdus.writeto(path, overwrite=True, checksum=True)
    script(path)
    with fits.open(layout.subtracted(path), checksum=True) as hdus:
        for hdu in hdus:
            assert hdu.verify_datasum() != 0
            assert hdu.verify_checksum() != 0


# ---- other backgrounds


def test_a_file_of_the_zenodo_record_is_as_good(script, rate, made, tmp_path):
    """One image, with any factor, flat field out; whatever its name."""
    path, name = rate(), "Hintergründe" * 8 + ".fits"
    background = tmp_path / name
    image = 3 * conftest.truth("GR150C").astype(np.float32)
    fits.HDUList([fits.PrimaryHDU(), fits.ImageHDU(image)]).writeto(background)
    said = script(path, "--background", background)
    assert "does not tell its FILTER, PUPIL, S_CLNFNS" in said
    off = (difference(path, layout.subtracted(path)) - made.exposures["GR150C"].sky)[SCIENCE]
    assert abs(np.nanmedian(off)) < 0.004 * 0.6
    told = fits.getval(layout.subtracted(path), "BKGNAME")
    assert len(told) == len(name)
    assert "1 are up to date" in script(path, "--background", background)


def test_a_reference_file_of_crds_is_taken_with_its_flat_field(script, rate, made, tmp_path):
    """The one that CRDS has is wrong by a few per cent, but not by its flat field."""
    path, official = rate(), made.official("GR150C")
    said = script(path, "--background", official)
    assert "does not tell its S_CLNFNS" in said
    taken = difference(path, layout.subtracted(path))
    scaled = fits.getdata(official, "SCI")[SCIENCE]
    factor = np.nanmedian(taken[SCIENCE] / scaled)
    left = taken[SCIENCE] / (factor * scaled) - 1
    assert np.nanpercentile(np.abs(left), 99) < 1e-4
    assert fits.getval(layout.subtracted(path), "BKGLVL") == pytest.approx(0.6, rel=0.02)


def test_the_unflat_file_gives_the_same_as_the_other(script, rate, made, subtracted, tmp_path):
    """It has the pipeline's own flat field in."""
    first, second = subtracted.rate(made.exposures["GR150C"].spec), rate()
    flat = next(
        fits.getdata(path, "SCI")
        for path in made.crds.rglob("jwst_niriss_flat_*.fits")
        if fits.getval(path, "FILTER") == "GR150C"
    )
    unflat = conftest.write_finished(tmp_path / "a_unflat.fits", "GR150C", FIXFLAT=False)
    with fits.open(unflat, mode="update") as hdus:
        hdus["SCI"].data *= np.where(np.isfinite(flat), flat, 1)
    script(second, "--background", unflat)
    one, other = (difference(path, layout.subtracted(path)) for path in (first, second))
    np.testing.assert_allclose(other, one, atol=0.002 * 0.6)
    assert np.nanstd((other - one)[SCIENCE]) < 1e-4


# ---- scattered light, stripes, the dark


@pytest.fixture(scope="module")
def with_band(tmp_path_factory):
    """A finished background with a component, and a dark residual."""
    path = tmp_path_factory.mktemp("band") / "nis-f115w-gr150c_skyflat.fits"
    found = conftest.band_components()
    return conftest.write_finished(path, "GR150C", components=found, DARKRES=0.01)


def test_scattered_light_is_subtracted_and_told(script, rate, made, with_band):
    path = conftest.add_light(rate(), 0.6 * 0.1 * conftest.BAND)
    with fits.open(path, mode="update") as hdus:
        hdus["SCI"].data[SCIENCE] += np.float32(0.01)
    said = script(path, "--background", with_band)
    header = fits.getheader(layout.subtracted(path))
    assert header["BKGSC1"] == pytest.approx(0.1, abs=0.015)
    assert 0 < header["BKGSE1"] < 0.01
    assert header["BKGDARK"] == 0.01
    assert header["BKGLVL"] == pytest.approx(0.6, rel=0.005)
    assert f"scattered light {header['BKGSC1']:.5f}".rstrip("0") in said
    table = Table.read(made.finished / "subtracted.ecsv")
    assert float(table["scattered_light"][0]) == pytest.approx(header["BKGSC1"], abs=1e-5)
    true = made.exposures["GR150C"].sky + 0.06 * conftest.BAND + 0.01
    off = (difference(path, layout.subtracted(path)) - true)[SCIENCE] / 0.6
    assert np.nanstd(off) < 0.015
    assert abs(np.nanmedian(off)) < 0.005


def test_the_dark_residual_is_a_constant_in_the_rate_file(script, rate, made):
    """It was never divided by the flat field, so no flat field is in it."""
    path, images = rate(), []
    for dark in (0.0, 0.02):
        found = made.finished.parent / f"dark_{dark}.fits"
        conftest.write_finished(found, "GR150C", DARKRES=dark)
        with fits.open(path, mode="update") as hdus:
            hdus["SCI"].data[SCIENCE] += np.float32(dark)
        script(path, "--background", found, "--overwrite")
        images.append(difference(path, layout.subtracted(path)))
    more = (images[1] - images[0])[SCIENCE]
    assert np.nanmedian(more) == pytest.approx(0.02, rel=0.01)
    assert np.nanstd(more) < 1e-4


def test_without_components_the_background_is_all_there_is(script, rate, with_band):
    path = conftest.add_light(rate(), 0.6 * 0.1 * conftest.BAND)
    script(path, "--background", with_band, subtract={"components": False})
    assert "BKGSC1" not in fits.getheader(layout.subtracted(path))


def test_stripes_are_subtracted_from_full_frames_only(script, rate, made):
    path = rate("GR150R")
    part = conftest.cut(path, "WFSS64R")
    script(path)
    without = difference(path, layout.subtracted(path))
    said = script(path, part, status=1, subtract={"remove_stripes": True})
    assert (
        "it is of the subarray WFSS64R, and 1/f noise is only subtracted from full frames" in said
    )
    assert not layout.subtracted(part).exists()
    stripes = difference(path, layout.subtracted(path)) - without
    assert 0.0005 < np.nanstd(stripes[SCIENCE]) < 0.01
    assert (stripes[~SCIENCE] == 0).all()
    columns = stripes[64 + 8 : 128 - 8]  # of one amplifier; the flat field is in
    assert np.nanstd(np.nanmean(columns, axis=0)) > 5 * np.nanmean(np.nanstd(columns, axis=0))


# ---- busy fields


def wall(clean):
    """Bright traces in all lines but some."""
    rng = np.random.default_rng(1)
    beyond = np.abs(conftest.NPIX * conftest.Y - 128) > clean / 2
    return np.where(beyond, rng.uniform(0.5, 5, (conftest.NPIX, 1)), 0)


def test_a_busy_field_is_fitted_to_what_is_left_of_the_sky(script, rate):
    path = conftest.add_light(rate(), wall(60))
    said = script(path, subtract={"minimum_sky": 0.5})
    header = fits.getheader(layout.subtracted(path))
    assert header["BKGLVL"] == pytest.approx(0.6, rel=0.02)
    words = "fitted to the darkest lines along the dispersion"
    assert words in said
    assert words in str(header["HISTORY"]).replace("\n", " ")
    assert header["BKGSKY"] < 0.08


def test_a_field_without_any_sky_fails_in_words_and_writes_nothing(script, rate):
    path = conftest.add_light(rate(), wall(0))
    said = script(path, status=1)
    assert "even the darkest lines along the dispersion have light of sources" in said
    assert "(subtract.minimum_sky)" in said
    assert not layout.subtracted(path).exists()


# ---- masks for the pipeline's background step


def test_a_mask_alone_is_what_the_pipeline_takes(script, rate, made):
    paths = [rate(), conftest.cut(rate("GR150R"), "WFSS64R")]
    said = script(*paths, "--mask-only")
    for path in paths:
        mask = layout.wfss_mask(path)
        assert f"wrote {mask}: level 0." in said
        with datamodels.ImageModel(str(mask)) as model:
            sky = model.mask.astype(bool)
            assert model.meta.subarray.name == fits.getval(path, "SUBARRAY")
        assert sky.shape == fits.getdata(path, "SCI").shape
        # Without the traces that are too faint to find, and as much of the noise.
        assert 0.25 < sky.mean() < 0.75
        assert not (sky & (fits.getdata(path, "DQ") & 1 > 0)).any()
        assert not layout.subtracted(path).exists()
    assert not list(paths[0].parent.glob("*.ecsv"))


def test_the_mask_hides_the_sources(script, rate):
    path = conftest.add_light(rate(), trace("GR150C"))
    script(path, "--mask-only")
    sky = fits.getdata(layout.wfss_mask(path), "MASK") > 0
    light = trace("GR150C")
    assert not sky[light > 0.1 * 0.6].any()
    assert sky[SCIENCE & (light < 1e-4)].mean() > 0.5


def test_masks_of_files_that_cannot_be_masked_are_not_written(script, rate, tmp_path):
    good, flat_fielded, broken = rate(), rate(name="jwa_rate.fits"), rate(name="jwb_rate.fits")
    fits.setval(flat_fielded, "S_FLAT", value="COMPLETE")
    broken.write_bytes(b"SIMPLE")
    said = script(good.parent, "--mask-only", "--output", tmp_path / "masks", status=1)
    assert f"FAILED: {flat_fielded}: processed already, flat-fielded (S_FLAT)" in said
    assert f"FAILED: {broken}: not a FITS file" in said
    assert [path.name for path in (tmp_path / "masks").iterdir()] == [layout.wfss_mask(good).name]


# ---- the command line


def test_the_help_tells_what_it_does():
    done = python(ROOT / "subtractBackgrounds.py", "--help", cwd=ROOT)
    assert done.returncode == 0
    for word in ("--background", "--output", "--mask-only", "--plots", "--steps.bkg_subtract.skip"):
        assert word in done.stdout
