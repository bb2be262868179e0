"""Backgrounds in files of all kinds: ours, those of others, and what is none."""

import numpy as np
import pytest
from astropy.io import fits

from tests.subtract import conftest
from tests.subtract.test_background import GR150C, IMAGE, SCIENCE, SHAPE, header, write
from wfssbkg.errors import StepError
from wfssbkg.files import any_background
from wfssbkg.subtract import background


def test_a_finished_background_tells_what_it_is(tmp_path):
    found = conftest.band_components()
    path = conftest.write_finished(
        tmp_path / "a.fits", "GR150C", components=found, DARKRES=0.01, S_CLNFNS="COMPLETE"
    )
    read = any_background.read(path)
    truth = conftest.truth("GR150C")
    good = truth > 0
    ratio = read.image[good] / truth[good]
    assert np.std(ratio) / np.mean(ratio) < 1e-5
    assert np.median(read.image[good]) == pytest.approx(1)
    assert (read.image[~good] == 0).all()
    assert read.flat_is_out
    assert read.dark == 0.01
    np.testing.assert_array_equal(read.components.maps, found.maps)
    assert background.check_fits(read, header(S_CLNFNS="COMPLETE"), GR150C) == ""


def test_the_unflat_file_has_the_flat_field_in(tmp_path):
    path = conftest.write_finished(tmp_path / "a_unflat.fits", "GR150C", FIXFLAT=False)
    assert not any_background.read(path).flat_is_out


@pytest.mark.parametrize("place", ["primary", "extension"])
def test_a_file_of_one_image_has_the_flat_field_out(tmp_path, place):
    """As those of the Zenodo record."""
    path = tmp_path / "nis-gr150c-f115w_skyflat.fits"
    if place == "primary":
        fits.PrimaryHDU(7 * IMAGE).writeto(path)
    else:
        write(path, fits.ImageHDU(7 * IMAGE))
    read = any_background.read(path)
    assert read.flat_is_out
    assert read.dark == 0
    assert len(read.components.maps) == 0
    np.testing.assert_allclose(read.image, IMAGE / np.median(IMAGE[SCIENCE]), rtol=1e-5)
    told = background.check_fits(read, header(), GR150C)
    assert told.startswith(f"WARNING: {path.name} does not tell its FILTER, PUPIL, S_CLNFNS: ")


def test_a_reference_file_has_the_flat_field_in_and_flags(tmp_path):
    dq = np.zeros(SHAPE, dtype=np.uint32)
    dq[20:24, 20:24], dq[30:34, 30:34] = 1, 2
    path = write(
        tmp_path / "jwst_niriss_bkg_0001.fits",
        fits.ImageHDU(IMAGE, name="SCI"),
        fits.ImageHDU(0 * IMAGE, name="ERR"),
        fits.ImageHDU(dq, name="DQ"),
        REFTYPE="BKG",
    )
    read = any_background.read(path)
    assert not read.flat_is_out
    assert (read.image[20:24, 20:24] == 0).all()
    assert (read.image[30:34, 30:34] > 0).all()


def test_the_flags_of_our_own_files_have_other_bits(tmp_path):
    """Bit 1 there is a reference pixel."""
    dq = np.ones(SHAPE, dtype=np.uint32)
    images = fits.ImageHDU(IMAGE, name="SCI"), fits.ImageHDU(dq, name="DQ")
    read = any_background.read(write(tmp_path / "a.fits", *images, FIXFLAT=True, REFTYPE="BKG"))
    assert (read.image[SCIENCE] > 0).all()


def test_pixels_that_are_no_numbers_are_not_known(tmp_path):
    image = IMAGE.copy()
    image[10:12, 10:12] = np.nan
    image[50, 50] = np.inf
    read = any_background.read(write(tmp_path / "a.fits", fits.ImageHDU(image)))
    assert np.isfinite(read.image).all()
    assert (read.image[10:12, 10:12] == 0).all()
    assert read.image[50, 50] == 0


NO_BACKGROUNDS = {
    "nothing": (lambda path: None, "No such file"),
    "empty": (lambda path: path.touch(), "cannot be read"),
    "no FITS": (lambda path: path.write_text("level: 1"), "cannot be read"),
    "no image": (write, "it has no image"),
    "a cube": (lambda path: write(path, fits.ImageHDU(np.ones((2, 64, 64)))), "it has no image"),
    "a spectrum": (lambda path: write(path, fits.ImageHDU(np.ones(64))), "it has no image"),
    "zeros": (lambda path: write(path, fits.ImageHDU(0 * IMAGE)), "no pixel of it is above 0"),
    "not a number": (lambda path: write(path, fits.ImageHDU(np.nan * IMAGE)), "is above 0"),
    "negative": (lambda path: write(path, fits.ImageHDU(-IMAGE)), "no pixel of it is above 0"),
}


@pytest.mark.parametrize("kind", NO_BACKGROUNDS)
def test_what_is_no_background_is_told_in_words(tmp_path, kind):
    make, words = NO_BACKGROUNDS[kind]
    path = tmp_path / "a.fits"
    make(path)
    with pytest.raises(StepError, match=words) as caught:
        any_background.read(path)
    assert str(path) in str(caught.value)


def test_a_truncated_background_is_told_in_words(tmp_path):
    path = conftest.write_finished(tmp_path / "a.fits", "GR150C")
    path.write_bytes(path.read_bytes()[:200_000])
    with pytest.raises(StepError, match=r"a\.fits cannot be read"):
        any_background.read(path)
