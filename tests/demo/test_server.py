"""The demo server, asked by astroquery and pyvo; and small archives for other tests."""

import contextlib
import json
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import pyvo
import requests
from astropy.io import fits
from astroquery.mast import MastClass, ObservationsClass

from demo import server
from wfssbkg import config

COMBINATION = "GR150C-F115W"
SIDE = 64


def rate_name(number, program=1571):
    return f"jw{program:05d}001001_02101_{number:05d}_nis_rate.fits"


def write_rate(path, **keywords):
    """A small file in the rate format."""
    header = {
        "TELESCOP": "JWST", "INSTRUME": "NIRISS",
        "EXP_TYPE": "NIS_WFSS", "FILTER": "GR150C", "PUPIL": "F115W",
        "READPATT": "NIS", "SUBARRAY": "FULL", "PROGRAM": "01571", "EXPSTART": 60000.0,
        "EFFINTTM": 300.0, "TARG_RA": 10.0, "TARG_DEC": 20.0,
    }  # fmt: skip
    primary = fits.PrimaryHDU()
    primary.header.update(header | keywords)
    image = np.random.default_rng(1).normal(1, 0.1, (SIDE, SIDE)).astype("f4")
    hdus = [primary, fits.ImageHDU(image, name="SCI"), fits.ImageHDU(image, name="ERR")]
    hdus.append(fits.ImageHDU(np.zeros((SIDE, SIDE), "u4"), name="DQ"))
    hdus += [fits.ImageHDU(image**2, name=name) for name in ("VAR_POISSON", "VAR_RNOISE")]
    fits.HDUList(hdus).writeto(path)
    return path


def keyword_row(filename, size=0, **changes):
    """A row of MAST's keyword service for an exposure that is wanted."""
    return {
        "filename": filename, "fileSetName": filename.removesuffix("_nis_rate.fits"),
        "productLevel": "2a", "exp_type": "NIS_WFSS", "instrume": "NIRISS", "filter": "GR150C",
        "pupil": "F115W", "readpatt": "NIS", "subarray": "FULL", "effinttm": 300.5,
        "effexptm": 300.5, "targ_ra": 10.0, "targ_dec": 20.0, "s_region": None,
        "date_obs_mjd": 60000.0, "expstart": 60000.2, "program": "1571", "pi_name": "Nobody",
        "pcs_mode": "FINEGUIDE", "crds_ctx": "jwst_0000.pmap", "cal_ver": "1.20",
        "dataURI": f"mast:JWST/product/{filename}", "fileSize": size, "checksum": None,
        "publicReleaseDate": "2023-06-01T00:00:00", "publicReleaseDate_mjd": 60096.0,
        "isRestricted": False, "isStale": False,
    } | changes  # fmt: skip


def star(ra, dec, magnitude=8.0, **changes):
    row = {"source_id": 1, "ra": ra, "dec": dec, "pmra": None, "pmdec": None}
    return row | {"phot_g_mean_mag": magnitude} | changes


@dataclass
class Tiny:
    """A served archive of small exposures."""

    folder: Path
    server: server.Server
    url: str

    def fill(self, rows, stars=()):
        catalog = {"exposures": rows, "stars": list(stars) or [star(200.0, -60.0)]}
        (self.folder / "catalog.json").write_text(json.dumps(catalog))

    def expose(self, number, **changes):
        """Write an exposure; returns its row."""
        path = self.folder / rate_name(number)
        write_rate(path)
        return keyword_row(path.name, path.stat().st_size, **changes)

    def query(self, **changes):
        """The project's default settings, for this server and without patience."""
        here = {"mast_url": self.url, "gaia_url": self.url, "timeout": 2.0, "attempts": 2}
        return config.read(config.DEFAULTS).query.model_copy(update=here | changes)


@contextlib.contextmanager
def tiny_archive(folder, count=3, *, busy=False):
    """An archive of `count` exposures that are wanted."""
    folder.mkdir(parents=True)
    with server.serve(folder) as (running, url):
        running.busy = busy
        tiny = Tiny(folder, running, url)
        tiny.fill([tiny.expose(number) for number in range(1, count + 1)])
        yield tiny


@pytest.fixture
def tiny(tmp_path):
    with tiny_archive(tmp_path / "archive", busy=True) as made:
        yield made


def client(kind, tiny):
    made = kind()
    portal = made._portal_api_connection
    portal.MAST_REQUEST_URL = tiny.url + "/api/v0/invoke"
    portal.COLUMNS_CONFIG_URL = tiny.url + "/portal/Mashup/Mashup.asmx/columnsconfig"
    portal.MAST_DOWNLOAD_URL = tiny.url + "/api/v0.1/Download/file"
    return made


def names(table):
    return sorted(table["filename"])


def test_filters_are_honoured(tiny):
    rows = [tiny.expose(9), tiny.expose(8, pupil="F200W"), tiny.expose(7, exp_type="NIS_IMAGE")]
    rows.append(tiny.expose(6, effinttm="1500", filter=None))
    tiny.fill(rows)
    mast = client(MastClass, tiny)
    service = "Mast.Jwst.Filtered.Niriss"
    found = mast.mast_query(service, columns="filename,effinttm", pupil=["F200W"])
    assert names(found) == [rate_name(8)]
    assert found.colnames == ["filename", "effinttm"]
    found = mast.mast_query(service, exp_type=["NIS_WFSS"], filter=["GR150C", "GR150R"])
    assert names(found) == [rate_name(8), rate_name(9)]
    found = mast.mast_query(service, effinttm=[{"min": 1000, "max": 2000}])
    assert names(found) == [rate_name(6)]
    free = [{"paramName": "filename", "values": [], "freeText": "%_00007_nis_rate.fits"}]
    found = mast.service_request(service, {"columns": "*", "filters": free})
    assert names(found) == [rate_name(7)]


def test_pages_come_one_by_one_and_executing_first(tiny):
    tiny.fill([tiny.expose(number) for number in range(11, 18)])
    tiny.server.page_size = 3
    found = client(MastClass, tiny).mast_query("Mast.Jwst.Filtered.Niriss", exp_type=["NIS_WFSS"])
    assert len(found) == 7
    assert tiny.server.counts["search"] == 1
    assert tiny.server.counts["search page"] == 6  # three pages, each EXECUTING once


def test_a_wrong_request_is_an_error(tiny):
    from astroquery.exceptions import RemoteServiceError

    mast = client(MastClass, tiny)
    with pytest.raises(RemoteServiceError, match="unknown columns colour"):
        mast.mast_query("Mast.Jwst.Filtered.Niriss", columns="colour", exp_type=["NIS_WFSS"])


def test_downloads_are_whole_and_resumed(tiny, tmp_path):
    observations = client(ObservationsClass, tiny)
    source = tiny.folder / rate_name(1)
    target = tmp_path / "got.fits"
    uri = f"mast:JWST/product/{source.name}"
    assert observations.download_file(uri, local_path=target, verbose=False)[0] == "COMPLETE"
    assert target.read_bytes() == source.read_bytes()
    url = f"{tiny.url}/api/v0.1/Download/file?uri={uri}"
    part = requests.get(url, headers={"Range": "bytes=100-199"}, timeout=5)
    assert (part.status_code, part.content) == (206, source.read_bytes()[100:200])
    assert requests.head(url, timeout=5).headers["Content-Length"] == str(source.stat().st_size)


@pytest.mark.parametrize(
    ("uri", "status"),
    [
        ("mast:JWST/product/nothing_rate.fits", 404),
        ("mast:JWST/product/../catalog.json", 404),
        ("mast:JWST/product/catalog.json", 404),
        (f"mast:JWST/product/{rate_name(5)}", 401),
    ],
)
def test_what_is_not_public_is_not_served(tiny, uri, status):
    tiny.fill([tiny.expose(5, isRestricted=True)])
    url = f"{tiny.url}/api/v0.1/Download/file?uri={uri}"
    assert requests.get(url, timeout=5).status_code == status


def tap(tiny):
    return pyvo.dal.TAPService(f"{tiny.url}/tap-server/tap")


def test_gaia_jobs(tiny):
    stars = [star(1.5, -2.5, 9.0, source_id=2**60 + 1, pmra=3.5), star(3.0, 4.0, 10.0)]
    tiny.fill([], stars)
    query = "SELECT source_id, ra, pmra, pmdec FROM gaiadr3.gaia_source WHERE phot_g_mean_mag < 9.5"
    job = tap(tiny).submit_job(query)
    assert job.phase == "PENDING"
    job.run()  # looks at it as well
    assert [job.phase, job.phase] == ["EXECUTING", "COMPLETED"]
    (row,) = job.fetch_result().to_table()
    assert (row["SOURCE_ID"], row["ra"], row["pmra"]) == (2**60 + 1, 1.5, 3.5)
    assert row["pmdec"] is np.ma.masked
    count = "SELECT COUNT(*) AS n FROM gaiadr3.gaia_source_lite"
    assert tap(tiny).run_sync(count)["n"][0] == 2


def test_synchronous_jobs_are_cut(tiny):
    tiny.fill([], [star(0.1 * i, 0.0) for i in range(server.SYNC_LIMIT + 5)])
    query = "SELECT ra FROM gaiadr3.gaia_source_lite"
    assert len(tap(tiny).run_sync(query)) == server.SYNC_LIMIT
    assert len(tap(tiny).run_async(query, delete=False)) == server.SYNC_LIMIT + 5


def test_wrong_adql_is_refused(tiny):
    with pytest.raises(pyvo.dal.DALQueryError, match="does not understand"):
        tap(tiny).run_sync("DROP TABLE gaiadr3.gaia_source")
    with pytest.raises(pyvo.dal.DALQueryError, match="does not understand"):
        tap(tiny).run_async("DROP TABLE gaiadr3.gaia_source", delete=False)


@pytest.mark.parametrize("kind", server.Fault.KINDS)
def test_faults_happen_as_often_as_asked(tiny, kind):
    tiny.server.faults.append(server.Fault("GET jw", kind, times=1, value=0.1))
    url = f"{tiny.url}/api/v0.1/Download/file?uri=mast:JWST/product/{rate_name(1)}"
    whole = (tiny.folder / rate_name(1)).read_bytes()
    start = time.monotonic()
    try:
        first = requests.get(url, timeout=5)
        assert first.content != whole or kind in ("no rows", "executing")
        if kind.isdigit():
            assert first.status_code == int(kind)
            assert first.headers.get("Retry-After") == ("0.1" if kind == "503" else None)
    except requests.RequestException:
        assert kind in ("refused", "half", "stall")
    assert time.monotonic() - start < 2
    assert requests.get(url, timeout=5).content == whole


@pytest.mark.parametrize("kind", ["refused", "half", "stall"])
def test_a_head_request_can_stay_without_an_answer(tiny, kind):
    tiny.server.faults.append(server.Fault("HEAD", kind, value=5))
    url = f"{tiny.url}/api/v0.1/Download/file?uri=mast:JWST/product/{rate_name(1)}"
    with pytest.raises(requests.RequestException):
        requests.head(url, timeout=0.2)
    assert requests.head(url, timeout=5).ok


def test_an_unknown_fault_is_an_error():
    with pytest.raises(ValueError, match="expected one of"):
        server.Fault("GET", "gremlins")
