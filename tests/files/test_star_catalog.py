"""The catalogue of bright stars on disk."""

import numpy as np
import pytest
from astropy.io import fits

from wfssbkg.errors import StepError
from wfssbkg.files import star_catalog

META = {
    "QDATE": "2026-01-02T03:04:05",
    "GLIMIT": 9.5,
    "GAIATAB": "gaiadr3.gaia_source_lite",
    "GAIAURL": "https://gea.esac.esa.int",
}


def columns(**changes):
    number = np.arange(3)
    values = {"source_id": number + 2**60, "ra": 10.0 * number, "dec": -10.0 * number}
    values |= {"pmra": np.ma.masked_equal(number, 1), "pmdec": -1.0 * number}
    return values | {"phot_g_mean_mag": 7.0 + number} | changes


def test_a_catalogue_comes_back_as_it_was_written(tmp_path):
    stars = star_catalog.new(columns(), 9.5)
    stars.meta = META
    path = tmp_path / "gaia.fits"
    star_catalog.write(stars, path)
    again = star_catalog.read(path, 9.5)
    assert again.colnames == list(star_catalog.COLUMNS)
    for name in again.colnames:
        np.testing.assert_array_equal(again[name], stars[name])
        assert again[name].unit == stars[name].unit
    np.testing.assert_array_equal(again["pmra"], [0.0, np.nan, 2.0])
    assert again.meta == META
    header = fits.getheader(path)
    assert {keyword: header[keyword] for keyword in META} == META


@pytest.mark.parametrize(
    "changes",
    [
        {"ra": [0.0, 361.0, 1.0]},
        {"dec": [0.0, np.nan, 1.0]},
        {"dec": [0.0, -90.5, 1.0]},
        {"phot_g_mean_mag": [7.0, 9.6, 8.0]},
    ],
)
def test_stars_that_make_no_sense_are_refused(changes):
    with pytest.raises(ValueError, match="1 of 3 stars make no sense"):
        star_catalog.new(columns(**changes), 9.5)


def test_a_catalogue_of_fainter_stars_is_not_read(tmp_path):
    stars = star_catalog.new(columns(), 9.5)
    stars.meta = META
    star_catalog.write(stars, tmp_path / "gaia.fits")
    with pytest.raises(StepError, match="1 of 3 stars"):
        star_catalog.read(tmp_path / "gaia.fits", 8.5)
