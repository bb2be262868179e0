"""Does a background fit an exposure, and which part of it."""

import os

import numpy as np
import pytest
from astropy.io import fits

from tests.subtract import conftest
from wfssbkg.detector import science_pixels
from wfssbkg.errors import StepError
from wfssbkg.files import any_background, subtracted_exposure
from wfssbkg.layout import Combination
from wfssbkg.subtract import background, exposure

SHAPE = (64, 64)
SCIENCE = science_pixels(SHAPE)
IMAGE = np.where(SCIENCE, np.random.default_rng(1).uniform(0.5, 1.5, SHAPE), 0).astype(np.float32)
GR150C = Combination("GR150C", "F115W")


def write(path, *hdus, **keywords):
    primary = fits.PrimaryHDU()
    primary.header.update(keywords)
    fits.HDUList([primary, *hdus]).writeto(path)
    return path


def header(**changes):
    """Primary header of an exposure."""
    told = {"FILTER": "GR150C", "PUPIL": "F115W", "S_CLNFNS": "SKIPPED"}
    place = {"SUBSTRT1": 1, "SUBSTRT2": 1, "SUBSIZE1": 64, "SUBSIZE2": 64}
    return fits.Header(told | place | changes)


# ---- does it fit an exposure?


def one(tmp_path, **keywords):
    return any_background.read(write(tmp_path / "a.fits", fits.ImageHDU(IMAGE), **keywords))


@pytest.mark.parametrize(
    ("told", "words"),
    [
        ({"FILTER": "GR150R", "PUPIL": "F115W"}, "a.fits has FILTER GR150R, the exposure GR150C"),
        ({"FILTER": "GR150C", "PUPIL": "F200W"}, "a.fits has PUPIL F200W, the exposure F115W"),
        ({"FILTER": "CLEAR", "PUPIL": "F115W"}, "a.fits has FILTER CLEAR, the exposure GR150C"),
        ({"PUPIL": "f150w"}, "a.fits has PUPIL F150W, the exposure F115W"),
    ],
)
def test_a_background_of_another_combination_is_refused(tmp_path, told, words):
    with pytest.raises(StepError, match=words):
        background.check_fits(one(tmp_path, **told), header(), GR150C)


@pytest.mark.parametrize("of_exposure", ["COMPLETE", "SKIPPED", "absent"])
@pytest.mark.parametrize("of_background", ["COMPLETE", "SKIPPED", "absent"])
def test_cleaned_exposures_take_backgrounds_of_cleaned_ones_only(
    tmp_path, of_exposure, of_background
):
    """Where a background does not tell, there is a warning."""
    given = {} if of_background == "absent" else {"S_CLNFNS": of_background}
    read = one(tmp_path, FILTER="GR150C", PUPIL="F115W", **given)
    of = header()
    if of_exposure == "absent":
        del of["S_CLNFNS"]
    else:
        of["S_CLNFNS"] = of_exposure
    if of_background == "absent":
        other = "not cleaned" if of_exposure == "COMPLETE" else "cleaned"
        told = background.check_fits(read, of, GR150C)
        assert "does not tell its S_CLNFNS: it may be for exposures" in told
        assert f"whose 1/f noise was {other}" in told
    elif (of_exposure == "COMPLETE") == (of_background == "COMPLETE"):
        assert background.check_fits(read, of, GR150C) == ""
    else:
        wanted = "cleaned" if of_exposure == "COMPLETE" else "uncleaned"
        with pytest.raises(StepError, match=rf"\(mask.flicker_noise: {wanted}\)"):
            background.check_fits(read, of, GR150C)


# ---- parts of the frame


@pytest.mark.parametrize(
    ("corner", "size", "expected"),
    [
        ((1, 1), (256, 256), np.s_[0:256, 0:256]),
        ((193, 1), (64, 256), np.s_[0:256, 192:256]),
        ((1, 193), (256, 64), np.s_[192:256, 0:256]),
        ((129, 1), (128, 256), np.s_[0:256, 128:256]),
        ((11, 21), (8, 4), np.s_[20:24, 10:18]),
    ],
)
def test_the_part_of_a_subarray_is_where_its_header_says(corner, size, expected):
    place = dict(zip(("SUBSTRT1", "SUBSTRT2", "SUBSIZE1", "SUBSIZE2"), corner + size, strict=True))
    part = background.window(fits.Header(place), (256, 256))
    assert part == expected


@pytest.mark.parametrize(
    "changes",
    [
        {"SUBSTRT1": 2}, {"SUBSTRT2": 100}, {"SUBSIZE1": 65}, {"SUBSIZE2": 2048}, {"SUBSTRT1": 0},
        {"SUBSTRT2": -3}, {"SUBSTRT1": None}, {"SUBSIZE2": None},
    ],
)  # fmt: skip
def test_a_part_beyond_the_frame_is_told_in_words(changes):
    of = header()
    for key, value in changes.items():
        if value is None:
            del of[key]
        else:
            of[key] = value
    with pytest.raises(
        StepError, match="its part of the frame is not known, or beyond the 64 x 64"
    ):
        background.window(of, SHAPE)


def test_the_model_of_a_subarray_is_its_part_of_everything(tmp_path):
    found = conftest.band_components()
    path = conftest.write_finished(tmp_path / "a.fits", "GR150C", components=found)
    read = any_background.read(path)
    of = header(SUBSTRT2=193, SUBSIZE1=256, SUBSIZE2=64)
    whole = header(SUBSIZE1=256, SUBSIZE2=256)
    part, frame = (
        background.model(read, tmp_path / "jw_rate.fits", each, None, light=True)
        for each in (of, whole)
    )
    np.testing.assert_array_equal(part.background, frame.background[192:])
    np.testing.assert_array_equal(part.shapes, frame.shapes[:, 192:])
    assert part.dark == 0
    assert part.typical == pytest.approx([0.05])
    alone = background.model(read, tmp_path / "jw_rate.fits", of, None, light=False)
    assert alone.shapes.shape == (0, 64, 256)


# ---- rate files that are none


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"S_FLAT": "COMPLETE"}, r"processed already, flat-fielded \(S_FLAT\)"),
        ({"S_BKDSUB": "COMPLETE"}, r"processed already, background subtracted \(S_BKDSUB\)"),
        ({"FIXFLAT": True}, "flat-fielded by grizli"),
        ({"FILTER": "F277W"}, "FILTER is F277W, PUPIL F115W: not of NIRISS slitless spectra"),
        ({"PUPIL": "GR700XD"}, "FILTER is GR150C, PUPIL GR700XD: not of"),
        ({"PUPIL": "CLEARP"}, "not of NIRISS slitless spectra or direct images"),
    ],
)
def test_what_is_no_rate_file_of_spectra_or_direct_images_is_refused(rate, changes, words):
    path = rate()
    for key, value in changes.items():
        fits.setval(path, key, value=value)
    with pytest.raises(StepError, match=words):
        exposure.combination_of(path)


def test_the_combination_of_a_rate_file_is_in_its_header(rate):
    for grating in ("GR150C", "GR150R", "CLEAR"):
        assert exposure.combination_of(rate(grating)) == Combination(grating, "F115W")


# ---- is a file of these up to date?


def test_a_file_is_of_its_rate_file_its_background_and_the_settings(tmp_path):
    rate, other, path = (tmp_path / name for name in ("a_rate.fits", "b.fits", "c.fits"))
    rate.write_bytes(b"rate")
    other.write_bytes(b"background")
    stamp = subtracted_exposure.stamp(rate, other, {"mask.growth": 1})
    assert not subtracted_exposure.is_current(path, stamp)
    primary = fits.PrimaryHDU()
    primary.header.update(stamp)
    primary.writeto(path)
    assert subtracted_exposure.is_current(path, stamp)
    assert not subtracted_exposure.is_current(
        path, subtracted_exposure.stamp(rate, other, {"mask.growth": 2})
    )
    for source in (rate, other):
        before = source.stat()
        source.touch()
        again = subtracted_exposure.stamp(rate, other, {"mask.growth": 1})
        assert not subtracted_exposure.is_current(path, again)
        os.utime(source, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert subtracted_exposure.is_current(path, stamp)
    path.write_bytes(path.read_bytes()[:1000])
    assert not subtracted_exposure.is_current(path, stamp)
