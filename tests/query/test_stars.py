"""Bright stars: matching against brute force, and the catalogue from the demo server."""

import astropy.units as u
import numpy as np
import pytest
from astropy.coordinates import SkyCoord
from astropy.table import Table
from astropy.time import Time
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.demo.test_server import star, tiny_archive
from wfssbkg.files import exposure_table
from wfssbkg.query import network, stars

GAIA_EPOCH = Time("J2016.0")


@pytest.fixture
def tiny(tmp_path, monkeypatch):
    monkeypatch.setattr(network, "FIRST_PAUSE", 0.01)
    with tiny_archive(tmp_path / "archive", count=0) as made:
        yield made


def catalogue(rows):
    names = ("ra", "dec", "pmra", "pmdec", "phot_g_mean_mag")
    return Table({name: np.array([row[name] for row in rows], dtype=float) for name in names})


def exposure_rows(*rows):
    return exposure_table.new({"productFilename": f"{n}.fits"} | row for n, row in enumerate(rows))


def brute_force(ra, dec, mjd, rows, radius):
    """One pair after the other, with astropy's own space motion."""
    best, separation = -1, np.nan
    pointing = SkyCoord(ra, dec, unit="deg")
    for number, row in enumerate(rows):
        proper = {
            f"pm_{name}": np.nan_to_num(row[key]) * u.mas / u.yr
            for name, key in (("ra_cosdec", "pmra"), ("dec", "pmdec"))
        }
        position = SkyCoord(row["ra"], row["dec"], unit="deg", obstime=GAIA_EPOCH, **proper)
        then = position.apply_space_motion(new_obstime=Time(mjd, format="mjd"))
        apart = then.separation(pointing).arcmin
        if apart <= radius and not apart >= separation:
            best, separation = number, apart
    return best, separation


def nearest(ra, dec, mjd, rows, radius):
    """Number (-1: none) and separation of the star that each pointing is excluded for."""
    table = exposure_rows(
        *({"ra": x, "dec": y, "mjd": date} for x, y, date in zip(ra, dec, mjd, strict=True))
    )
    known = catalogue(rows)
    known["phot_g_mean_mag"] = np.arange(len(rows))
    stars.exclude(table, known, radius=radius)
    return np.nan_to_num(table["star_gmag"], nan=-1).astype(int), np.asarray(table["star_sep"])


angle = st.floats(-3, 3)  # arcmin
centre = st.sampled_from(
    [(0.0, 0.0), (359.999, 40.0), (123.0, 89.99), (77.0, -89.99), (10.0, -60.0)]
)
motion = st.one_of(st.just(float("nan")), st.floats(-11000, 11000))


@st.composite
def fields(draw):
    ra0, dec0 = draw(centre)
    middle = SkyCoord(ra0, dec0, unit="deg")

    def near():
        place = middle.spherical_offsets_by(draw(angle) * u.arcmin, draw(angle) * u.arcmin)
        return place.ra.deg, place.dec.deg

    rows = [
        dict(zip(("ra", "dec"), near(), strict=True))
        | {"pmra": draw(motion), "pmdec": draw(motion), "phot_g_mean_mag": 8.0}
        for _ in range(draw(st.integers(1, 5)))
    ]
    pointings = [(*near(), draw(st.floats(59700, 61000))) for _ in range(draw(st.integers(1, 4)))]
    return rows, pointings, draw(st.floats(0.1, 5))


@pytest.mark.filterwarnings("ignore:ERFA")
@settings(max_examples=40, deadline=None)
@given(fields())
def test_nearest_agrees_with_brute_force(field):
    rows, pointings, radius = field
    ra, dec, mjd = np.array(pointings).T
    index, separation = nearest(ra, dec, mjd, rows, radius)
    for number, pointing in enumerate(pointings):
        expected, apart = brute_force(*pointing, rows, radius)
        if expected != index[number]:  # a tie, or just on the rim
            both = [value for value in (apart, separation[number]) if np.isfinite(value)]
            assert np.ptp(both) < 1e-4 if len(both) == 2 else abs(both[0] - radius) < 1e-4
        elif expected >= 0:
            assert separation[number] == pytest.approx(apart, abs=1e-4)


def test_barnards_star_is_where_it_moved_to():
    """10.4 arcsec a year: nine years after Gaia's epoch it is 1.6 arcmin away."""
    barnard = [star(269.4485025, 4.7394200, 8.2, pmra=-801.551, pmdec=10362.394)]
    mjd = np.array([GAIA_EPOCH.mjd + 9 * 365.25])
    there = np.array([269.4485025 - 9 * 0.801551 / 3600 / np.cos(np.radians(4.7394))])
    index, separation = nearest(there, [4.73942 + 9 * 10.362394 / 3600], mjd, barnard, 0.1)
    assert index[0] == 0
    assert separation[0] < 0.001
    old = np.array([269.4485025]), np.array([4.73942])
    assert nearest(*old, mjd, barnard, 1.5)[0][0] == -1
    assert nearest(*old, mjd, barnard, 1.6)[0][0] == 0


def test_an_exposure_without_a_date_is_taken_to_be_of_today():
    years = (Time.now() - GAIA_EPOCH).to_value("yr")
    moved = {"ra": -0.801551 / np.cos(np.radians(4.7394)), "dec": 10.362394}  # arcsec a year
    table = exposure_rows(
        {
            "ra": 269.4485025 + years * moved["ra"] / 3600,
            "dec": 4.73942 + years * moved["dec"] / 3600,
        }
    )
    barnard = star(269.4485025, 4.7394200, 8.2, pmra=-801.551, pmdec=10362.394)
    stars.exclude(table, catalogue([barnard]), radius=0.1)
    assert list(table["status"]) == ["excluded"]


def test_one_star_serves_many_pointings_and_nan_none():
    ra = np.array([359.99, 0.01, np.nan, 180.0])
    dec, mjd = np.zeros(4), np.full(4, 60000.0)
    index, separation = nearest(ra, dec, mjd, [star(0.0, 0.0)], 1)
    np.testing.assert_array_equal(index, [0, 0, -1, -1])
    np.testing.assert_allclose(separation, [0.6, 0.6, np.nan, np.nan], rtol=1e-6)


def test_a_pole_is_one_place():
    index, separation = nearest([10.0], [89.999], [6e4], [star(190.0, 89.999)], 1)
    assert index[0] == 0
    assert separation[0] == pytest.approx(0.12)


def test_exposures_near_a_star_are_excluded_with_the_reason():
    table = exposure_rows(
        {"ra": 10.0, "dec": 0.0, "mjd": 6e4},
        {"ra": 50.0, "dec": 0.0, "mjd": np.nan},
        {"mjd": 6e4, "s_clnfns": "absent"},
        {"ra": 10.0, "dec": 0.0, "mjd": 6e4, "status": "excluded", "reason": "not public"},
    )
    rows = [star(10.0, 0.02, 9.0), star(10.0, 0.01, 7.123), star(50.0, 0.04)]
    stars.exclude(table, catalogue(rows), radius=2.0)
    assert list(table["status"]) == ["excluded", "accepted", "excluded", "excluded"]
    assert table["reason"][0] == "bright star: G = 7.12 at 0.60 arcmin"
    assert table["star_gmag"][0] == 7.123
    assert table["star_sep"][0] == pytest.approx(0.6)
    assert np.isnan(table["star_gmag"][1])
    assert "pointing" in table["reason"][2]
    assert table["reason"][3] == "not public"


def test_a_pointing_that_only_the_header_can_tell_is_waited_for():
    table = exposure_rows({"mjd": 6e4})
    stars.exclude(table, catalogue([star(10.0, 0.0)]), radius=2.0)
    assert list(table["status"]) == ["accepted"]
    table["ra"], table["dec"], table["s_clnfns"] = 10.0, 0.0, "absent"
    stars.exclude(table, catalogue([star(10.0, 0.0)]), radius=2.0)
    assert list(table["reason"]) == ["bright star: G = 8.00 at 0.00 arcmin"]
    table["ra"] = 50.0
    stars.exclude(table, catalogue([star(10.0, 0.0)]), radius=2.0)
    assert np.isnan(table["star_gmag"][0])


@pytest.mark.parametrize("status", ["rejected", "failed"])
def test_a_star_excludes_what_was_rejected_or_failed_as_well(status):
    table = exposure_rows({"ra": 10.0, "dec": 0.0, "mjd": 6e4, "status": status})
    stars.exclude(table, catalogue([star(10.0, 0.0)]), radius=2.0)
    assert list(table["status"]) == ["excluded"]


@pytest.mark.parametrize("mjd", [np.nan, 0.0, -5.0, 1e12])
def test_a_date_that_cannot_be_does_no_harm(mjd):
    table = exposure_rows({"ra": 10.0, "dec": 0.0, "mjd": mjd})
    stars.exclude(table, catalogue([star(10.0, 0.01)]), radius=2.0)
    assert list(table["status"]) == ["excluded"]


def test_without_exposures_or_stars_nearby_nothing_is_near():
    index, separation = nearest([], [], [], [star(1.0, 2.0)], 2.0)
    assert (len(index), len(separation)) == (0, 0)
    index, separation = nearest([1.0], [1.0], [6e4], [star(1.0, 2.0)], 2.0)
    assert index[0] == -1
    assert np.isnan(separation[0])
