"""Bright stars: matching against brute force, and the catalogue from the demo server."""

import time

import astropy.units as u
import numpy as np
import pytest
from astropy.coordinates import SkyCoord
from astropy.io import fits
from astropy.table import Table
from astropy.time import Time
from hypothesis import given, settings
from hypothesis import strategies as st

from demo.server import Fault
from tests.test_server import star, tiny_archive
from wfssbkg import StepError, exposures, network, stars

GAIA_EPOCH = Time("J2016.0")


@pytest.fixture
def tiny(tmp_path, monkeypatch):
    monkeypatch.setattr(network, "FIRST_PAUSE", 0.01)
    with tiny_archive(tmp_path / "archive", count=0) as made:
        yield made


def catalogue(rows):
    names = ("ra", "dec", "pmra", "pmdec", "phot_g_mean_mag")
    return Table({name: np.array([row[name] for row in rows], dtype=float) for name in names})


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
        for _ in range(draw(st.integers(0, 5)))
    ]
    pointings = [(*near(), draw(st.floats(59700, 63000))) for _ in range(draw(st.integers(1, 4)))]
    return rows, pointings, draw(st.floats(0.1, 5))


@pytest.mark.filterwarnings("ignore:ERFA")
@settings(max_examples=40, deadline=None)
@given(fields())
def test_nearest_agrees_with_brute_force(field):
    rows, pointings, radius = field
    ra, dec, mjd = np.array(pointings).T
    index, separation = stars.nearest(ra, dec, mjd, catalogue(rows), radius=radius)
    for number, pointing in enumerate(pointings):
        expected, apart = brute_force(*pointing, rows, radius)
        if expected != index[number]:  # a tie, or just on the rim
            both = [value for value in (apart, separation[number]) if np.isfinite(value)]
            assert np.ptp(both) < 1e-4 if len(both) == 2 else abs(both[0] - radius) < 1e-4
        elif expected >= 0:
            assert separation[number] == pytest.approx(apart, abs=1e-4)


def test_barnards_star_is_where_it_moved_to():
    """10.4 arcsec a year: nine years after Gaia's epoch it is 1.6 arcmin away."""
    barnard = catalogue([star(269.4485025, 4.7394200, 8.2, pmra=-801.551, pmdec=10362.394)])
    mjd = np.array([GAIA_EPOCH.mjd + 9 * 365.25])
    there = np.array([269.4485025 - 9 * 0.801551 / 3600 / np.cos(np.radians(4.7394))])
    index, separation = stars.nearest(
        there, np.array([4.73942 + 9 * 10.362394 / 3600]), mjd, barnard, radius=0.1
    )
    assert index[0] == 0
    assert separation[0] < 0.001
    old = np.array([269.4485025]), np.array([4.73942])
    assert stars.nearest(*old, mjd, barnard, radius=1.5)[0][0] == -1
    assert stars.nearest(*old, mjd, barnard, radius=1.6)[0][0] == 0


def test_one_star_serves_many_pointings_and_nan_none():
    ra = np.array([359.99, 0.01, np.nan, 180.0])
    dec, mjd = np.zeros(4), np.full(4, 60000.0)
    index, separation = stars.nearest(ra, dec, mjd, catalogue([star(0.0, 0.0)]), radius=1)
    np.testing.assert_array_equal(index, [0, 0, -1, -1])
    np.testing.assert_allclose(separation, [0.6, 0.6, np.nan, np.nan], rtol=1e-6)


def test_a_pole_is_one_place():
    index, separation = stars.nearest(
        np.array([10.0]), np.array([89.999]), np.array([6e4]), catalogue([star(190.0, 89.999)]),
        radius=1,
    )  # fmt: skip
    assert index[0] == 0
    assert separation[0] == pytest.approx(0.12)


def exposure_rows(*rows):
    return exposures.new({"productFilename": f"{n}.fits"} | row for n, row in enumerate(rows))


def test_exposures_near_a_star_are_excluded_with_the_reason():
    table = exposure_rows(
        {"ra": 10.0, "dec": 0.0, "mjd": 6e4},
        {"ra": 50.0, "dec": 0.0, "mjd": np.nan},
        {"mjd": 6e4},
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


def test_the_catalogue_is_fetched_once_and_kept(tiny, tmp_path):
    faint = star(3.0, 4.0, 9.6)
    tiny.fill([], [star(1.0, 2.0, 9.4, pmra=5.0, source_id=2**60 + 1), faint])
    path = tmp_path / "new folder" / "gaia_g9.5.fits"
    first = stars.catalog(path, tiny.query())
    assert len(first) == 1
    assert tiny.server.counts["gaia job"] == 2
    header = fits.getheader(path)
    assert header["QDATE"] == first.meta["QDATE"]
    assert Time.now() - Time(header["QDATE"]) < 1 * u.min
    assert header["GLIMIT"] == 9.5
    offline = tiny.query(gaia_url="http://127.0.0.1:9")
    again = stars.catalog(path, offline)
    assert tiny.server.counts["gaia job"] == 2
    assert again.meta["QDATE"] == first.meta["QDATE"]
    for name in first.colnames:
        np.testing.assert_array_equal(again[name], first[name])
    assert again["source_id"][0] == 2**60 + 1
    assert np.isnan(again["pmdec"][0])
    stars.catalog(path, tiny.query(), overwrite=True)
    assert tiny.server.counts["gaia job"] == 4


def test_a_failed_renewal_leaves_the_old_catalogue(tiny, tmp_path):
    path = tmp_path / "gaia.fits"
    stars.catalog(path, tiny.query())
    before = path.read_bytes()
    with pytest.raises(StepError):
        gone = tiny.query(gaia_url="http://127.0.0.1:9", attempts=1)
        stars.catalog(path, gone, overwrite=True)
    assert path.read_bytes() == before


@pytest.mark.parametrize("content", [b"", b"SIMPLE  =", b"<html>"])
def test_a_spoilt_catalogue_is_fetched_anew(tiny, tmp_path, content, capsys):
    path = tmp_path / "gaia.fits"
    path.write_bytes(content)
    assert len(stars.catalog(path, tiny.query())) == 1
    assert "asking Gaia again" in capsys.readouterr().out


@pytest.mark.parametrize(
    "fault",
    [
        "gaia job: refused", "gaia job: 500", "gaia job: 503", "gaia job: html",
        "gaia phase: 500", "gaia phase: refused", "gaia result: half", "gaia result: stall",
        "gaia result: html", "gaia result: empty", "gaia result: malformed",
        "gaia result SELECT COUNT: no rows", "gaia result SELECT source_id: short",
        "gaia result SELECT source_id: no rows", "gaia result SELECT source_id: half",
    ],
)  # fmt: skip
def test_a_fault_of_gaia_is_tried_again(tiny, tmp_path, fault, capsys):
    tiny.fill([], [star(10.0 * number, 0.0) for number in range(6)])
    pattern, kind = fault.split(": ")
    tiny.server.faults.append(Fault(pattern, kind, value=0.1 if kind == "503" else 5))
    assert len(stars.catalog(tmp_path / "gaia.fits", tiny.query(timeout=0.2))) == 6
    printed = capsys.readouterr()
    assert printed.out.count("trying again") == 1
    assert printed.err == ""


@pytest.mark.parametrize("kind", ["500", "short", "no rows", "malformed"])
def test_a_lasting_fault_of_gaia_is_one_message(tiny, tmp_path, kind):
    tiny.fill([], [star(10.0 * number, 0.0) for number in range(6)])
    tiny.server.faults.append(Fault("gaia result SELECT source_id", kind, times=9))
    path = tmp_path / "gaia.fits"
    with pytest.raises(StepError, match="gaia_g_limit: null") as caught:
        stars.catalog(path, tiny.query(timeout=0.2))
    assert tiny.url in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1
    assert list(tmp_path.glob("*.fits")) == []


def test_gaia_is_not_asked_again_before_it_wants(tiny, tmp_path):
    tiny.server.faults.append(Fault("gaia result", "503", value=3600))
    with pytest.raises(StepError, match=r"HTTP 503 .*asks to wait for 3600 s"):
        stars.catalog(tmp_path / "gaia.fits", tiny.query())


def test_a_job_that_never_ends_is_given_up(tiny, tmp_path):
    tiny.server.faults.append(Fault("gaia phase", "executing", times=10**6))
    start = time.monotonic()
    with pytest.raises(StepError, match="its job is still EXECUTING after 1 s"):
        stars.catalog(tmp_path / "gaia.fits", tiny.query(timeout=0.1, attempts=1))
    assert 1 < time.monotonic() - start < 10


def test_no_star_at_all_cannot_be(tiny, tmp_path):
    tiny.fill([], [star(1.0, 2.0, 12.0)])
    with pytest.raises(StepError, match="0 of 0 stars"):
        stars.catalog(tmp_path / "gaia.fits", tiny.query(timeout=0.1))
