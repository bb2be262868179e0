"""A folder of the user's own rate files as source."""

import shutil

import numpy as np
import pytest
from astropy.io import fits

from tests.demo.test_server import rate_name, write_rate
from tests.query.test_archive import square
from wfssbkg import config
from wfssbkg.errors import ConfigError
from wfssbkg.files import exposure_table
from wfssbkg.layout import Combination
from wfssbkg.query import rate_folder, selection

GR150C = Combination("GR150C", "F115W")

# astropy's remarks on files that are damaged on purpose
pytestmark = [
    pytest.mark.filterwarnings("ignore:File may have been truncated"),
    pytest.mark.filterwarnings("ignore:Error validating header"),
    pytest.mark.filterwarnings("ignore:Missing padding"),
]


@pytest.fixture
def local(tmp_path):
    rates = tmp_path / "rates"
    (rates / "JWST" / "deeper").mkdir(parents=True)
    write_rate(rates / rate_name(1), EFFINTTM=250.0)
    write_rate(rates / "JWST" / "deeper" / "mine_rate.fits", SUBARRAY="WFSS64R")
    write_rate(rates / rate_name(3), EXP_TYPE="NIS_IMAGE", FILTER="CLEAR")
    write_rate(rates / rate_name(4), PUPIL="F200W", FILTER="GR150R")
    write_rate(rates / rate_name(5), INSTRUME="NIRCAM")
    return rates


def search_local(rates):
    result = rate_folder.search(rates, [GR150C])
    return result, selection.select(result, GR150C, config.read(config.DEFAULTS).query)


def test_local_files_are_decided_on_their_headers(local):
    before = {path: path.stat().st_mtime_ns for path in local.rglob("*")}
    result, table = search_local(local)
    assert result.others == {
        "*_rate.fits of CLEAR-F115W (NIS_IMAGE)": 1,
        "*_rate.fits of GR150R-F200W (NIS_WFSS)": 1,
        "*_rate.fits of GR150C-F115W (NIS_WFSS, INSTRUME NIRCAM)": 1,
    }
    assert list(table["productFilename"]) == [rate_name(1), "mine_rate.fits"]
    assert list(table["dataURI"]) == [
        str(local / rate_name(1)), str(local / "JWST" / "deeper" / "mine_rate.fits"),
    ]  # fmt: skip
    assert list(table["status"]) == ["accepted", "excluded"]
    assert "WFSS64R" in table["reason"][1]
    assert list(table["effinttm"]) == [250.0, 300.0]
    assert list(table["program"]) == ["1571", "1571"]
    assert (table["ra"][0], table["dec"][0], table["mjd"][0]) == (10.0, 20.0, 60000.0)
    assert table["size"][0] == (local / rate_name(1)).stat().st_size
    assert {path: path.stat().st_mtime_ns for path in local.rglob("*")} == before


def test_what_mast_withholds_does_not_matter_for_the_users_own_files(local):
    write_rate(local / rate_name(2), ISSTALE=True, DATAURI="elsewhere")
    _, table = search_local(local)
    assert exposure_table.fates(table)[exposure_table.ACCEPTED] == [rate_name(1), rate_name(2)]


@pytest.mark.parametrize(
    ("primary", "sci", "words"),
    [
        ({"S_FLAT": "COMPLETE"}, {}, "flat-fielded (S_FLAT)"),
        ({"S_BKDSUB": "COMPLETE"}, {}, "background subtracted (S_BKDSUB)"),
        ({"GSKY101": 0.7}, {"CTYPE1": "RA---TAN-SIP", "CD1_1": 1e-5},
         "background subtracted by grizli (GSKY101) and world coordinates changed"),
    ],
)  # fmt: skip
def test_files_that_were_processed_further_are_excluded(local, primary, sci, words):
    with fits.open(local / rate_name(1), mode="update") as hdus:
        hdus[0].header.update(primary)
        hdus["SCI"].header.update(sci)
    _, table = search_local(local)
    assert table["status"][0] == exposure_table.EXCLUDED
    assert table["reason"][0].startswith(f"processed already, {words}")


def test_a_header_tells_versions_and_noise_of_a_local_file(local):
    versions = {"CAL_VER": "2.0.0", "CRDS_CTX": "jwst_1.pmap", "S_CLNFNS": "COMPLETE"}
    others = {"CATEGORY": "GO", "PI_NAME": "Nobody", "PCS_MODE": "FINEGUIDE"}
    write_rate(local / rate_name(2), CHECKSUM="0" * 32, **versions, **others)
    _, table = search_local(local)
    for key, value in (versions | others).items():
        assert table[key.lower()][1] == value
    assert list(table["checksum"][:2]) == ["", ""]  # that keyword is FITS's own
    assert table["s_clnfns"][0] == "absent"


@pytest.mark.parametrize(
    ("keywords", "mjd"),
    [
        ({"DATE-OBS": "2023-02-25", "TIME-OBS": "12:00:00.000"}, 60000.5),
        ({"DATE-OBS": "2023-02-25"}, 60000.0),
        ({"DATE-OBS": "2023-02-25T06:00:00"}, 60000.25),
        ({"DATE-OBS": "yesterday"}, np.nan),
        ({"TIME-OBS": "12:00:00"}, np.nan),
        ({}, np.nan),
    ],
)
def test_without_expstart_the_date_tells_when_an_exposure_began(local, keywords, mjd):
    with fits.open(local / rate_name(1), mode="update") as hdus:
        del hdus[0].header["EXPSTART"]
        hdus[0].header.update(keywords)
    np.testing.assert_allclose(search_local(local)[1]["mjd"][0], mjd)


def test_the_pointing_of_the_aperture_counts_before_that_of_the_target(local):
    with fits.open(local / rate_name(1), mode="update") as hdus:
        hdus["SCI"].header.update(RA_REF=11.0, DEC_REF=21.0)
    assert search_local(local)[1]["ra"][0] == 11.0
    assert search_local(local)[1]["pointing"][0] == "header"
    with fits.open(local / rate_name(1), mode="update") as hdus:
        hdus["SCI"].header["S_REGION"] = square(12.0, 22.0)
    assert search_local(local)[1]["dec"][0] == pytest.approx(22.0, abs=1e-4)
    assert search_local(local)[1]["pointing"][0] == "footprint"


def test_local_files_that_cannot_be_read_are_named(local, tmp_path):
    (local / "empty_rate.fits").touch()
    (local / "text_rate.fits").write_text("hello")
    (local / "folder_rate.fits").mkdir()
    (local / "lost_rate.fits").symlink_to(tmp_path / "nowhere")
    shutil.copy(local / rate_name(1), local / "JWST")
    shutil.copy(local / rate_name(1), local / "s\u00fcd_rate.fits")
    result, table = search_local(local)
    assert len(table) == 2
    refused = "\n".join(result.refused)
    for name in ("empty", "text", "folder", "lost", "s\u00fcd"):
        assert f"{name}_rate.fits: " in refused
    assert f"{rate_name(1)}: the same name as" in refused
    assert len(result.refused) == 6


def test_whatever_looks_like_fits_is_counted(tmp_path):
    names = ("c.fits", "rate.fits", "b_rate.fit", "a_rate.fits.bz2", "A_UNCAL.FITS.GZ", "x.txt")
    for name in names:
        (tmp_path / name).touch()
    result, _ = search_local(tmp_path)
    assert result.others == {
        "*.fits": 2, "*_rate.fit": 1, "*_rate.fits.bz2": 1, "*_UNCAL.FITS.GZ": 1,
    }  # fmt: skip
    renamed, unpacked = sorted(result.refused)
    assert renamed.startswith("1 x *_rate.fit: only names that end in _rate.fits")
    assert unpacked == "1 x *_rate.fits.bz2: compressed. Unpack them, e.g. with gunzip"


def test_a_local_file_that_is_cut_short_is_failed(local):
    path = local / rate_name(1)
    path.write_bytes(path.read_bytes()[:-5000])
    _, table = search_local(local)
    assert table["status"][0] == exposure_table.FAILED
    assert "ends within the extension VAR_RNOISE" in table["reason"][0]


def test_a_source_that_is_no_folder_is_an_error_of_the_config(tmp_path):
    with pytest.raises(ConfigError, match=r"query\.source"):
        search_local(tmp_path / "nowhere")
