"""Exposures minus their sky, and files of others in their place."""

import numpy as np
from astropy.io import fits

from wfssbkg.files import residual_exposure
from wfssbkg.layout import TEMPORARY


def write(path):
    mask = np.array([[0, 1], [2, 4]], dtype=np.uint8)
    cards = {"RATEFILE": ("jw01_rate.fits", "exposure")}
    residual_exposure.write(path, np.arange(4.0).reshape(2, 2), mask, cards)


def test_it_is_read_as_it_was_written(tmp_path):
    path = tmp_path / "residuals" / "jw01_residual.fits"
    write(path)
    with fits.open(path) as hdus:
        assert [hdu.name for hdu in hdus] == ["PRIMARY", "SCI", "MASK"]
        assert hdus[0].header["FILENAME"] == path.name
        assert hdus[0].header["RATEFILE"] == "jw01_rate.fits"
        assert hdus["SCI"].header["BUNIT"] == "DN/s"
        assert hdus["SCI"].data.dtype == np.dtype(">f4")
        np.testing.assert_array_equal(hdus["SCI"].data, [[0, 1], [2, 3]])
        np.testing.assert_array_equal(hdus["MASK"].data, [[0, 1], [2, 4]])
    assert residual_exposure.is_ours(path)
    assert list(path.parent.iterdir()) == [path]


def test_only_files_of_ours_are_removed(tmp_path):
    kept, old, damaged, other = (tmp_path / f"jw0{k}_residual.fits" for k in range(4))
    for path in (kept, old):
        write(path)
    damaged.write_bytes(old.read_bytes()[:100])
    fits.PrimaryHDU(np.ones((2, 2))).writeto(other)
    (tmp_path / f"{TEMPORARY}0123abcd.jw09_residual.fits").write_bytes(b"half a file")
    residual_exposure.remove_others(tmp_path, {kept})
    assert sorted(tmp_path.iterdir()) == [kept, damaged, other]


def test_there_may_be_no_folder(tmp_path):
    residual_exposure.remove_others(tmp_path / "residuals", set())
