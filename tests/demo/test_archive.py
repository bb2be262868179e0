"""The simulated archive: files, truth, catalogue."""

import hashlib
import json
from dataclasses import replace

import numpy as np
import pytest
from astropy.coordinates import SkyCoord
from astropy.io import fits
from stdatamodels.jwst import datamodels

from demo import archive, detector, exposures, optics
from demo.optics import science_pixels

NPIX = 128
SEED = 3


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """The demo's exposures as an archive of 128 x 128 pixels."""
    folder = tmp_path_factory.mktemp("archive")
    specs = archive.demo_exposures(SEED)
    archive.simulate_archive(folder, specs, npix=NPIX, seed=SEED)
    return folder, specs, json.loads((folder / "catalog.json").read_text())


def test_demo_has_two_combinations_and_two_spoilt_exposures():
    specs = archive.demo_exposures(SEED)
    for combination in exposures.COMBINATIONS:
        members = [s for s in specs if (s.grating, s.filter) == combination]
        clean = [s for s in members if s.contamination is None]
        assert len(clean) >= 8
        assert len(members) - len(clean) == 1
        assert 2 <= len({s.field for s in clean}) <= 3
        for spec in clean:
            assert 0.38 < spec.sky_level < 1.25
            assert 580 < spec.exposure_time < 1520
    assert len({s.filename for s in specs}) == len(specs)
    assert archive.demo_exposures(SEED) == specs
    assert archive.demo_exposures(SEED + 1) != specs


def test_accuracy_sets():
    clean = archive.accuracy_exposures(5, "GR150C", "F115W")
    assert len(clean) == 24
    assert len({s.field for s in clean}) == 8
    assert all(0.19 < s.sky_level < 1.55 and 290 < s.exposure_time < 1510 for s in clean)
    spoilt = archive.accuracy_exposures(5, "GR150C", "F115W", contaminated=True)
    assert spoilt[:24] == clean
    assert [s.contamination for s in spoilt[24:]] == list(exposures.CONTAMINATIONS)
    assert len({s.filename for s in spoilt}) == 30
    assert len(archive.accuracy_exposures(5, "GR150R", "F200W", fields=12, dithers=4)) == 48


def test_dithers_are_as_far_apart_as_their_pattern():
    specs = archive.accuracy_exposures(5, "GR150C", "F115W", fields=30)
    sizes = []
    for field in range(1, 31):
        members = [s for s in specs if s.field == field]
        (size,) = {s.pattern for s in members}
        places = SkyCoord([(s.ra, s.dec) for s in members], unit="deg")
        for first, second in ((0, 1), (0, 2), (1, 2)):
            assert 0.3 < places[first].separation(places[second]).arcsec / size < 2.2
        sizes.append(size)
    # One field in three follows the pattern of another instrument.
    prime, parallel = [x for x in sizes if x in exposures.PATTERNS], sizes[2::3]
    assert len(prime) == 20
    assert prime.count(0.6) > 8
    assert all(1 <= x <= 4 for x in parallel)


def test_direct_images_are_of_their_own_type(tmp_path):
    combinations = (("CLEAR", "F115W"), ("GR150R", "F115W"), ("GR150C", "F158M"))
    specs = [spec for spec in archive.demo_exposures(SEED, combinations) if spec.dither == 1]
    assert len({spec.filename for spec in specs}) == len(specs)
    archive.simulate_archive(tmp_path, specs, npix=NPIX, seed=SEED)
    catalog = json.loads((tmp_path / "catalog.json").read_text())
    rows = {row["filename"]: row for row in catalog["exposures"]}
    for spec in specs:
        expected = "NIS_IMAGE" if spec.grating == "CLEAR" else "NIS_WFSS"
        assert rows[spec.filename]["exp_type"] == expected
        assert fits.getval(tmp_path / spec.filename, "EXP_TYPE") == expected
    # No row without a file looks like one of them.
    for row in catalog["exposures"]:
        if (row["filter"], row["pupil"]) in combinations and row["subarray"] == "FULL":
            left_out = row["productLevel"] != "2a" or row["isRestricted"] or row["isStale"]
            left_out |= row["readpatt"] != "NIS" or "rateints" in row["filename"]
            assert left_out or (tmp_path / row["filename"]).exists()


def test_files_are_rate_files(small):
    folder, specs, _ = small
    spec = specs[0]
    with datamodels.open(folder / spec.filename) as model:
        assert isinstance(model, datamodels.ImageModel)
        meta = model.meta
        assert (meta.instrument.name, meta.instrument.detector) == ("NIRISS", "NIS")
        assert (meta.instrument.filter, meta.instrument.pupil) == ("GR150C", "F115W")
        assert (meta.exposure.type, meta.cal_step.ramp_fit) == ("NIS_WFSS", "COMPLETE")
        assert meta.subarray.name == "FULL"
        assert (meta.subarray.xsize, meta.subarray.ysize) == (NPIX, NPIX)
        assert meta.exposure.integration_time == spec.exposure_time
        assert model.data.shape == (NPIX, NPIX)
    with fits.open(folder / spec.filename) as hdus:
        names = [hdu.name for hdu in hdus]
        assert names == ["PRIMARY", "SCI", "ERR", "DQ", "VAR_POISSON", "VAR_RNOISE", "ASDF"]
        assert hdus[0].header["FILENAME"] == spec.filename
        assert hdus["SCI"].header["BUNIT"] == "DN/s"
        assert hdus["SCI"].header["S_REGION"].startswith("POLYGON ICRS")
        assert hdus["DQ"].data.dtype == np.uint32
        assert hdus["SCI"].data.dtype.itemsize == 4


def test_level_is_what_the_exposure_says(small):
    folder, specs, _ = small
    for spec in specs[:9:3]:
        sci = fits.getdata(folder / spec.filename, "SCI")
        truth = fits.getdata(folder / "truth" / f"{spec.combination}.fits", "SCI")
        level = np.nanpercentile(science_pixels(sci / truth), 35)
        assert level == pytest.approx(spec.sky_level, rel=0.1)


def test_truth_is_normalised_and_has_the_mean_colour(small):
    folder, specs, _ = small
    members = [s for s in specs if s.grating == "GR150C" and s.contamination is None]
    truth = fits.getdata(folder / "truth" / "GR150C-F115W.fits", "SCI")
    assert truth.dtype.newbyteorder("=") == np.float64
    assert np.median(science_pixels(truth)) == pytest.approx(1, abs=1e-12)
    colour = np.mean([s.sky_colour for s in members])
    expected = optics.sky_background("GR150C", "F115W", NPIX, colour)
    np.testing.assert_allclose(truth, expected, rtol=1e-12)


def test_dithers_share_sources_and_the_mirror_stays():
    spec = replace(archive.demo_exposures(SEED)[0], sky_colour=0.0)
    npix = 512
    shift = 40 * optics.PIXEL_SCALE / 3600
    # The field moves along the y axis of the detector, by whole pixels.
    moved = replace(
        spec,
        ra=spec.ra + shift * np.sin(np.radians(spec.roll)) / np.cos(np.radians(spec.dec)),
        dec=spec.dec + shift * np.cos(np.radians(spec.roll)),
        dither=2,
    )
    sky = spec.sky_level * optics.sky_background("GR150C", "F115W", npix)
    one, two = (archive.light_on_detector(s, npix, seed=SEED) - sky for s in (spec, moved))
    inner = slice(100, -100)
    first, second = one[inner, inner], np.roll(two, 40, axis=0)[inner, inner]
    assert (
        np.corrcoef(np.arcsinh(first.ravel() / 0.01), np.arcsinh(second.ravel() / 0.01))[0, 1] > 0.9
    )
    still = np.corrcoef(
        np.arcsinh(first.ravel() / 0.01), np.arcsinh(two[inner, inner].ravel() / 0.01)
    )
    assert still[0, 1] < 0.5


def test_seed_repeats_and_instrument_can_change():
    spec = archive.demo_exposures(SEED)[0]
    one, same = (archive.simulate_exposure(spec, NPIX, seed=1).data for _ in range(2))
    np.testing.assert_array_equal(one, same)
    other = archive.simulate_exposure(spec, NPIX, seed=1, instrument=99)
    assert np.nanstd(one - other.data) > 0.01
    mine = np.isnan(detector.reference_flat(NPIX, "F115W")[0])
    assert (mine != np.isnan(detector.reference_flat(NPIX, "F115W", 99)[0])).any()


@pytest.mark.parametrize("kind", exposures.CONTAMINATIONS)
def test_contamination_leaves_its_mark(kind):
    specs = archive.accuracy_exposures(2, "GR150C", "F115W", contaminated=True)
    (spec,) = (s for s in specs if s.contamination == kind)
    npix = 256
    light = archive.light_on_detector(spec, npix, seed=2)
    clean = archive.light_on_detector(replace(spec, contamination=None), npix, seed=2)
    excess = (light - clean) / spec.sky_level
    affected = np.mean(excess > 0.03)
    least = {"crowded": 0.2, "scattered light": 0.1, "star in field": 0.5, "star outside": 0.3}
    assert affected > least.get(kind, 0.02)
    if kind == "saturated star":
        rate = archive.simulate_exposure(spec, npix, seed=2)
        assert (rate.dq & detector.FLAG["SATURATED"] > 0).sum() > 10
    if kind == "star outside":
        bright = np.unravel_index(np.argmax(excess), excess.shape)
        assert bright[1] > 0.8 * npix


def test_catalogue_describes_the_files(small):
    folder, specs, catalog = small
    rows = {row["filename"]: row for row in catalog["exposures"]}
    assert len(rows) == len(catalog["exposures"])
    for spec in specs:
        row, content = rows[spec.filename], (folder / spec.filename).read_bytes()
        assert int(row["fileSize"]) == len(content)
        assert row["checksum"] == hashlib.md5(content).hexdigest()
        assert row["dataURI"] == f"mast:JWST/product/{spec.filename}"
        assert float(row["targ_ra"]) == pytest.approx(0 if spec.parallel else spec.field_ra)
        assert not row["isRestricted"]


def test_catalogue_has_rows_to_filter(small):
    folder, specs, catalog = small
    files = {spec.filename for spec in specs}
    decoys = [row for row in catalog["exposures"] if row["filename"] not in files]
    assert not any((folder / row["filename"]).exists() for row in decoys)
    assert any(row["isRestricted"] for row in decoys)
    assert any(row["isStale"] for row in decoys)
    assert {row["exp_type"] for row in decoys} >= {"NIS_WFSS", "NIS_IMAGE", "NIS_SOSS"}
    assert {row["productLevel"] for row in decoys} == {"1b", "2a", "2b"}
    assert any("rateints" in row["filename"] for row in decoys)
    assert any(row["subarray"] == "WFSS64R" for row in decoys)
    assert any(row["s_region"] is None for row in catalog["exposures"])
    assert any(isinstance(row["effinttm"], str) for row in catalog["exposures"])
    # For each row that remains after filtering there is a file.
    for row in decoys:
        usable = (
            row["exp_type"] == "NIS_WFSS"
            and row["productLevel"] == "2a"
            and row["filename"].endswith("_rate.fits")
            and row["subarray"] == "FULL"
            and not (row["isRestricted"] or row["isStale"])
            and (row["filter"], row["pupil"]) in exposures.COMBINATIONS
        )
        assert not usable


def test_stars_avoid_clean_fields_and_one_spoils_its_exposure(small):
    _, specs, catalog = small
    stars = catalog["stars"]
    assert len(stars) > 200
    bright = [s for s in stars if s["phot_g_mean_mag"] < 9.5]
    assert 10 < len(bright) < len(stars)
    positions = SkyCoord([(s["ra"], s["dec"]) for s in stars], unit="deg")
    for spec in specs:
        separation = positions.separation(SkyCoord(spec.ra, spec.dec, unit="deg")).arcmin
        if spec.contamination == "star in field":
            star = stars[int(np.argmin(separation))]
            assert separation.min() < 2
            assert star["phot_g_mean_mag"] == pytest.approx(8)
            assert np.hypot(star["pmra"], star["pmdec"]) > 100
            # Moved by its proper motion, it is where it is in the exposure.
            years = (spec.date - 57388) / 365.25
            ra, dec, _ = exposures.star_position(spec, NPIX)
            moved = star["dec"] + star["pmdec"] * years / 3.6e6
            assert moved == pytest.approx(dec, abs=1e-7)
            assert abs(star["ra"] - ra) * 3600 > 0.5
        else:
            assert separation.min() > 2.9


def test_second_run_keeps_what_is_there_and_mends_the_rest(small):
    folder, specs, catalog = small
    paths = [folder / spec.filename for spec in specs]
    before = [path.stat().st_mtime_ns for path in paths]
    paths[3].unlink()
    paths[5].write_bytes(b"half a file")
    archive.simulate_archive(folder, specs, npix=NPIX, workers=2, seed=SEED)
    after = [path.stat().st_mtime_ns for path in paths]
    changed = [k for k, (old, new) in enumerate(zip(before, after, strict=True)) if old != new]
    assert changed == [3, 5]
    assert not list(folder.rglob(".partial*"))
    again = {
        r["filename"]: r for r in json.loads((folder / "catalog.json").read_text())["exposures"]
    }
    for path in paths:
        assert int(again[path.name]["fileSize"]) == path.stat().st_size
    assert len(again) == len(catalog["exposures"])


def test_another_seed_makes_other_exposures(small, tmp_path):
    folder, specs, _ = small
    archive.simulate_archive(tmp_path, specs[:1], npix=NPIX, seed=SEED)
    kept = fits.getdata(tmp_path / specs[0].filename, "SCI")
    np.testing.assert_array_equal(kept, fits.getdata(folder / specs[0].filename, "SCI"))
    archive.simulate_archive(tmp_path, specs[:1], npix=NPIX, seed=SEED + 1)
    assert np.nanstd(kept - fits.getdata(tmp_path / specs[0].filename, "SCI")) > 0.01
