"""The catalogue of bright stars, asked for with pyvo from the demo server, and kept."""

import time

import astropy.units as u
import numpy as np
import pytest
from astropy.io import fits
from astropy.time import Time

from demo.server import Fault
from tests.demo.test_server import star, tiny_archive
from wfssbkg.errors import StepError
from wfssbkg.query import gaia, network


@pytest.fixture
def tiny(tmp_path, monkeypatch):
    monkeypatch.setattr(network, "FIRST_PAUSE", 0.01)
    with tiny_archive(tmp_path / "archive", count=0) as made:
        yield made


def test_the_catalogue_is_fetched_once_and_kept(tiny, tmp_path):
    faint = star(3.0, 4.0, 9.6)
    tiny.fill([], [star(1.0, 2.0, 9.4, pmra=5.0, source_id=2**60 + 1), faint])
    path = tmp_path / "new folder" / "gaia_g9.5.fits"
    first = gaia.bright_stars(path, tiny.query())
    assert len(first) == 1
    assert tiny.server.counts["gaia job"] == 2
    header = fits.getheader(path)
    assert header["QDATE"] == first.meta["QDATE"]
    assert Time.now() - Time(header["QDATE"]) < 1 * u.min
    assert header["GLIMIT"] == 9.5
    offline = tiny.query(gaia_url="http://127.0.0.1:9")
    again = gaia.bright_stars(path, offline)
    assert tiny.server.counts["gaia job"] == 2
    assert again.meta["QDATE"] == first.meta["QDATE"]
    for name in first.colnames:
        np.testing.assert_array_equal(again[name], first[name])
    assert again["source_id"][0] == 2**60 + 1
    assert np.isnan(again["pmdec"][0])
    gaia.bright_stars(path, tiny.query(), overwrite=True)
    assert tiny.server.counts["gaia job"] == 4


def test_a_failed_renewal_leaves_the_old_catalogue(tiny, tmp_path):
    path = tmp_path / "gaia.fits"
    gaia.bright_stars(path, tiny.query())
    before = path.read_bytes()
    with pytest.raises(StepError):
        gone = tiny.query(gaia_url="http://127.0.0.1:9", attempts=1)
        gaia.bright_stars(path, gone, overwrite=True)
    assert path.read_bytes() == before


@pytest.mark.parametrize("content", [b"", b"SIMPLE  =", b"<html>"])
def test_a_spoilt_catalogue_is_fetched_anew(tiny, tmp_path, content, capsys):
    path = tmp_path / "gaia.fits"
    path.write_bytes(content)
    assert len(gaia.bright_stars(path, tiny.query())) == 1
    assert "asking Gaia again" in capsys.readouterr().out


@pytest.mark.parametrize(
    "fault",
    [
        "gaia job: refused", "gaia job: 500", "gaia job: 503", "gaia job: html",
        "gaia start: 500", "gaia phase PENDING: 500", "gaia phase COMPLETED: 500",
        "gaia phase COMPLETED: refused", "gaia result: half", "gaia result: stall",
        "gaia result: html", "gaia result: empty", "gaia result: malformed",
        "gaia result SELECT COUNT: no rows", "gaia result SELECT source_id: short",
        "gaia result SELECT source_id: no rows", "gaia result SELECT source_id: half",
    ],
)  # fmt: skip
def test_a_fault_of_gaia_is_tried_again(tiny, tmp_path, fault, capsys):
    tiny.fill([], [star(10.0 * number, 0.0) for number in range(6)])
    pattern, kind = fault.split(": ")
    tiny.server.faults.append(Fault(pattern, kind, value=0.1 if kind == "503" else 5))
    patience = 0.5 if kind == "stall" else 30.0
    assert len(gaia.bright_stars(tmp_path / "gaia.fits", tiny.query(timeout=patience))) == 6
    printed = capsys.readouterr()
    assert printed.out.count("trying again") == 1
    assert printed.err == ""


@pytest.mark.parametrize("kind", ["500", "short", "no rows", "malformed"])
def test_a_lasting_fault_of_gaia_is_one_message(tiny, tmp_path, kind):
    tiny.fill([], [star(10.0 * number, 0.0) for number in range(6)])
    tiny.server.faults.append(Fault("gaia result SELECT source_id", kind, times=9))
    path = tmp_path / "gaia.fits"
    with pytest.raises(StepError, match="gaia_g_limit: null") as caught:
        gaia.bright_stars(path, tiny.query())
    assert tiny.url in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1
    assert list(tmp_path.glob("*.fits")) == []


def test_gaia_is_not_asked_again_before_it_wants(tiny, tmp_path):
    tiny.server.faults.append(Fault("gaia result", "503", value=3600))
    with pytest.raises(StepError, match=r"HTTP 503 .*asks to wait for 3600 s"):
        gaia.bright_stars(tmp_path / "gaia.fits", tiny.query())


def test_a_job_that_never_ends_is_given_up(tiny, tmp_path):
    tiny.server.faults.append(Fault("gaia phase", "executing", times=10**6))
    start = time.monotonic()
    with pytest.raises(StepError, match="its job is still EXECUTING after 5 s"):
        gaia.bright_stars(tmp_path / "gaia.fits", tiny.query(timeout=0.5, attempts=1))
    assert time.monotonic() - start > 5


def test_a_query_that_gaia_refuses_is_told_in_its_words(tiny, tmp_path, monkeypatch):
    monkeypatch.setattr(gaia, "_TABLE", "gaiadr3.nothing")
    with pytest.raises(StepError, match=r"refused .*does not understand: SELECT COUNT"):
        gaia.bright_stars(tmp_path / "gaia.fits", tiny.query())


def test_jobs_that_take_a_while_are_waited_for(tiny, tmp_path):
    tiny.server.busy = True
    tiny.fill([], [star(10.0 * number, 0.0) for number in range(6)])
    assert len(gaia.bright_stars(tmp_path / "gaia.fits", tiny.query())) == 6


def test_more_stars_than_synchronous_queries_give(tiny, tmp_path):
    tiny.fill([], [star(0.1 * number, 0.0) for number in range(2500)])
    assert len(gaia.bright_stars(tmp_path / "gaia.fits", tiny.query(timeout=30.0))) == 2500


def test_no_star_at_all_cannot_be(tiny, tmp_path):
    tiny.fill([], [star(1.0, 2.0, 12.0)])
    with pytest.raises(StepError, match="0 of 0 stars"):
        gaia.bright_stars(tmp_path / "gaia.fits", tiny.query())
