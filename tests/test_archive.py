"""Finding and deciding, through astroquery from the demo server, and in folders."""

import shutil
import time

import numpy as np
import pytest
from astropy.io import fits
from hypothesis import given, settings
from hypothesis import strategies as st

from demo.server import Fault
from tests.test_server import keyword_row, rate_name, tiny_archive, write_rate
from wfssbkg import StepError, archive, config, exposures, network
from wfssbkg.layout import Combination

GR150C = Combination("GR150C", "F115W")
GR150R = Combination("GR150R", "F200W")
CLEAR = Combination("CLEAR", "F115W")
DEFAULTS = config.read(config.DEFAULTS).query

# astropy's remarks on files that are damaged on purpose
pytestmark = [
    pytest.mark.filterwarnings("ignore:File may have been truncated"),
    pytest.mark.filterwarnings("ignore:Error validating header"),
    pytest.mark.filterwarnings("ignore:Missing padding"),
]


@pytest.fixture
def tiny(tmp_path, monkeypatch):
    monkeypatch.setattr(network, "FIRST_PAUSE", 0.01)
    with tiny_archive(tmp_path / "archive") as made:
        yield made


def decide(*rows, combination=GR150C, **query):
    findings = archive.sift(rows, [combination])
    return archive.exposure_table(findings, combination, DEFAULTS.model_copy(update=query))


def found(findings):
    return [exposure["productFilename"] for exposure in findings.exposures]


# ---- searching


def test_one_search_finds_all_combinations_on_all_pages(tiny):
    rows = [keyword_row(rate_name(number)) for number in range(1, 8)]
    rows += [keyword_row(rate_name(8), filter="GR150R", pupil="F200W")]
    tiny.fill(rows)
    tiny.server.page_size = 3
    findings = archive.find(tiny.query(), [GR150C, GR150R])
    assert sorted(found(findings)) == [rate_name(number) for number in range(1, 9)]
    assert tiny.server.counts["search"] == 1


def test_one_search_finds_spectra_and_direct_images(tiny):
    direct = {"exp_type": "NIS_IMAGE", "filter": "CLEAR"}
    rows = [keyword_row(rate_name(1)), keyword_row(rate_name(2), **direct)]
    # Neither: a direct image through a grism, spectra through none.
    rows += [
        keyword_row(rate_name(3), exp_type="NIS_IMAGE"),
        keyword_row(rate_name(4), filter="CLEAR"),
    ]
    tiny.fill(rows)
    findings = archive.find(tiny.query(), [GR150C, CLEAR])
    assert {name["combination"]: name["productFilename"] for name in findings.exposures} == {
        GR150C: rate_name(1), CLEAR: rate_name(2),
    }  # fmt: skip
    assert findings.others == 2
    assert tiny.server.counts["search"] == 1
    assert found(archive.find(tiny.query(), [CLEAR])) == [rate_name(2)]


def test_the_server_filters_and_its_answer_is_checked_again(tiny, monkeypatch):
    decoys = [
        {"exp_type": "NIS_IMAGE"}, {"exp_type": "NIS_SOSS"}, {"productLevel": "2b"},
        {"productLevel": "1b"}, {"pupil": "F090W"}, {"filter": "CLEAR"}, {"filter": None},
        {"instrume": "NIRCAM"}, {"filename": "jw01571001001_02101_00001_nis_rateints.fits"},
        {"filename": None},
    ]  # fmt: skip
    rows = [keyword_row(rate_name(10 + n)) | decoy for n, decoy in enumerate(decoys)]
    rows.append(keyword_row(rate_name(1)))
    tiny.fill(rows)
    findings = archive.find(tiny.query(), [GR150C])
    assert found(findings) == [rate_name(1)]
    # A server that does not filter: the same exposures.
    monkeypatch.setattr("demo.server._passes", lambda value, condition: True)
    findings = archive.find(tiny.query(), [GR150C])
    assert found(findings) == [rate_name(1)]
    assert findings.others == len(decoys)
    assert findings.refused == []


def test_nulls_and_numbers_as_text_are_alike(tiny):
    plain = keyword_row(rate_name(1), 4711)
    text = {key: str(value) if isinstance(value, float | int) else value
            for key, value in keyword_row(rate_name(2), 4711).items()}  # fmt: skip
    number = keyword_row(rate_name(3), 4711.0, program=1571, productLevel="2A")
    absent = (
        "effinttm", "targ_ra", "expstart", "program", "dataURI", "fileSize", "isRestricted",
        "isStale", "publicReleaseDate_mjd", "instrume",
    )  # fmt: skip
    nothing = keyword_row(rate_name(4)) | dict.fromkeys(absent)
    tiny.fill([plain, text, number, nothing])
    findings = archive.find(tiny.query(), [GR150C])
    table = archive.exposure_table(findings, GR150C, tiny.query())
    assert list(table["status"]) == ["accepted"] * 4
    assert list(table["size"]) == [4711] * 3 + [0]
    assert list(table["program"]) == ["1571"] * 3 + [""]
    np.testing.assert_array_equal(table["effinttm"], [300.5] * 3 + [np.nan])
    np.testing.assert_array_equal(table["ra"], [10.0] * 3 + [np.nan])
    np.testing.assert_array_equal(table["mjd"], [60000.2] * 3 + [60000.0])
    assert table["dataURI"][3] == f"mast:JWST/product/{rate_name(4)}"


values = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=30),
    st.lists(st.integers(), max_size=2), st.dictionaries(st.text(max_size=3), st.none()),
    st.sampled_from(["POLYGON ICRS 1 2 3", "NIS", "CIRCLE ICRS nan inf 1", "1e400", "../../x"]),
)  # fmt: skip


@settings(max_examples=100, deadline=None)
@given(st.dictionaries(st.sampled_from(sorted(keyword_row("x"))), values), st.booleans())
def test_whatever_a_row_holds_it_becomes_a_row_or_is_counted(tmp_path_factory, changes, twice):
    row = keyword_row(rate_name(1)) | changes
    rows = [row, row] if twice else [row, "no row"]
    findings = archive.sift(rows, [GR150C])
    assert len(findings.exposures) <= 1
    table = archive.exposure_table(findings, GR150C, DEFAULTS)
    for name in table["productFilename"]:
        assert archive.RATE_NAME.fullmatch(name)
    for uri in table["dataURI"]:
        assert uri == f"mast:JWST/product/{rate_name(1)}"
    path = tmp_path_factory.getbasetemp() / "any_row.fits"
    exposures.write(table, path, "2026-01-01T00:00:00")
    assert len(exposures.read(path)) == len(table)


@pytest.mark.parametrize(
    "name",
    [
        "../jw01571001001_02101_00001_nis_rate.fits", "/jw01571001001_02101_00001_nis_rate.fits",
        "jw01571001001_02101_00001_nis_rate.fits\n_rate.fits", "~/x_rate.fits", "_rate.fits",
        "jw01571001001_02101_00001_nis_rate.fits/../../x_rate.fits", "-rf_rate.fits",
        "jw\u0660\u0661571001001_02101_00001_nis_rate.fits", "C:\\x_rate.fits", "a\0_rate.fits",
    ],
)  # fmt: skip
def test_names_that_could_leave_the_folder_are_refused(name):
    findings = archive.sift([keyword_row(name), keyword_row(rate_name(1))], [GR150C])
    assert found(findings) == [rate_name(1)]
    assert len(findings.refused) == 1


def test_an_address_of_another_file_is_not_followed():
    table = decide(keyword_row(rate_name(1), dataURI="file:///etc/passwd"))
    assert table["status"][0] == exposures.EXCLUDED
    assert "file:///etc/passwd" in table["reason"][0]
    assert table["dataURI"][0] == f"mast:JWST/product/{rate_name(1)}"


@pytest.mark.parametrize(
    ("kind", "pattern"),
    [("refused", "columns"), ("500", "search page=1"), ("503", "search page=1"),
     ("half", "search page=2"), ("stall", "search page=1"), ("html", "search page=1"),
     ("empty", "search page=1"), ("malformed", "search page=2"), ("no rows", "search page=2"),
     ("500", "search page=2")],
)  # fmt: skip
def test_a_fault_of_the_search_is_tried_again(tiny, kind, pattern, capsys):
    from astroquery.mast.discovery_portal import PortalAPI

    PortalAPI._column_configs.clear()  # else only the first test asks for it
    tiny.server.page_size = 2
    tiny.server.faults.append(Fault(pattern, kind, value=0.1 if kind == "503" else 5))
    findings = archive.find(tiny.query(timeout=0.3), [GR150C])
    assert len(findings.exposures) == 3
    assert capsys.readouterr().out.count("trying again") == 1


@pytest.mark.parametrize("kind", ["refused", "500", "html", "malformed", "no rows", "stall"])
def test_a_lasting_fault_of_the_search_is_one_message(tiny, kind):
    tiny.server.faults.append(Fault("search", kind, times=9))
    with pytest.raises(StepError) as caught:
        archive.find(tiny.query(timeout=0.2), [GR150C])
    message = str(caught.value)
    assert tiny.url in message
    assert "query.mast_url" in message
    assert "after 2 tries" in message
    assert len(message.splitlines()) == 1
    assert len(message) < 400


def test_a_search_that_never_ends_is_given_up(tiny):
    tiny.server.faults.append(Fault("search", "executing", times=10**6))
    start = time.monotonic()
    with pytest.raises(StepError, match="no answer within"):
        archive.find(tiny.query(timeout=0.1, attempts=1), [GR150C])
    assert 1 < time.monotonic() - start < 10


def test_nobody_there_is_one_message():
    query = DEFAULTS.model_copy(update={"mast_url": "http://127.0.0.1:9", "attempts": 1})
    with pytest.raises(StepError, match=r"http://127\.0\.0\.1:9.*Connection refused"):
        archive.find(query, [GR150C])


# ---- deciding


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"readpatt": "NISFAST"}, "READPATT NISFAST"),
        ({"readpatt": None}, "READPATT unknown"),
        ({"subarray": "WFSS64R"}, "SUBARRAY WFSS64R"),
        ({"isRestricted": True}, "not public: restricted"),
        ({"isRestricted": "true"}, "not public: restricted"),
        ({"publicReleaseDate_mjd": 99999.0}, "not public: until 2132-08-31"),
        ({"publicReleaseDate_mjd": "99999"}, "not public: until"),
        ({"publicReleaseDate_mjd": None, "publicReleaseDate": "2132-08-31T00:00:00"}, "not public"),
        ({"publicReleaseDate_mjd": None, "publicReleaseDate": "/Date(5133369600000)/"}, "until 21"),
        ({"isStale": 1}, "superseded"),
        ({"program": "1089"}, "not among query.programs: 1089"),
    ],
)
def test_what_is_left_out_has_a_reason(changes, reason):
    table = decide(keyword_row(rate_name(1)) | changes, programs=["01571"])
    assert list(table["status"]) == [exposures.EXCLUDED]
    assert reason in table["reason"][0]


def test_programs_are_numbers_however_they_are_written():
    for program in ("1571", 1571, "01571", 1571.0):
        for wanted in (["1571"], ["01571", "2"]):
            table = decide(keyword_row(rate_name(1), program=program), programs=wanted)
            assert list(table["status"]) == [exposures.ACCEPTED]


def test_of_two_rows_for_a_file_the_usable_one_counts():
    stale = keyword_row(rate_name(1), 5, isStale=True)
    for rows in ([stale, keyword_row(rate_name(1), 7)], [keyword_row(rate_name(1), 7), stale]):
        table = decide(*rows)
        assert list(table["size"]) == [7]
        assert list(table["status"]) == [exposures.ACCEPTED]


def square(ra, dec, size=0.01):
    wide = size / np.cos(np.radians(dec)) if abs(dec) < 89 else size
    corners = [(-1, -1), (1, -1), (1, 1), (-1, 1), (-1, -1)]
    words = [f"{(ra + i * wide) % 360:.9f} {dec + j * size:.9f}" for i, j in corners]
    return "POLYGON ICRS  " + " ".join(words)


@pytest.mark.parametrize(("ra", "dec"), [(0.0, 0.0), (359.999, 60.0), (120.0, -75.0), (10.0, 1.0)])
def test_the_pointing_is_the_centre_of_the_footprint(ra, dec):
    table = decide(keyword_row(rate_name(1), s_region=square(ra, dec)))
    assert (table["ra"][0] - ra + 180) % 360 - 180 == pytest.approx(0, abs=1e-5)
    assert 0 <= table["ra"][0] < 360
    assert table["dec"][0] == pytest.approx(dec, abs=1e-5)


def test_the_footprint_can_hold_a_pole():
    corners = "0 89.99 90 89.99 180 89.99 270 89.99"
    table = decide(keyword_row(rate_name(1), s_region=f"POLYGON ICRS {corners}"))
    assert table["dec"][0] == pytest.approx(90, abs=1e-6)


@pytest.mark.parametrize(
    "region", [None, "", "POLYGON ICRS", "POLYGON ICRS 1 2 3", "POLYGON 1 2 3 4 5 200", "nonsense"]
)
def test_without_a_footprint_the_target_is_the_pointing(region):
    table = decide(keyword_row(rate_name(1), s_region=region, targ_ra="370.5", targ_dec=-3))
    assert (table["ra"][0], table["dec"][0]) == (10.5, -3.0)


def test_describe_groups_the_reasons():
    rows = [keyword_row(rate_name(n), 10**9) for n in range(1, 8)]
    rows[0]["subarray"] = rows[1]["subarray"] = "WFSS64R"
    rows[2]["isRestricted"] = True
    rows[3]["publicReleaseDate_mjd"] = 99999
    lines = archive.describe(decide(*rows)).splitlines()
    assert lines[0] == "found 7 exposures (7.00 GB), 3 accepted"
    assert sorted(lines[1:]) == [
        "  2 excluded: SUBARRAY WFSS64R (accepted FULL)", "  2 excluded: not public",
    ]  # fmt: skip


# ---- what later steps wrote


def former(**values):
    table = decide(*(keyword_row(rate_name(n), 100) for n in (1, 2, 3)))
    exposures.mark(table, rate_name(1), **values)
    return table


def test_results_of_later_steps_stay():
    old = former(level=0.7, masked_fraction=0.3)
    kept = archive.keep_results(former(), old)
    assert kept["level"][0] == 0.7
    assert kept["masked_fraction"][0] == 0.3
    assert np.isnan(kept["level"][1])


def test_rejected_stays_rejected_unless_the_rules_exclude_it():
    old = former(status="rejected", reason="crowded")
    kept = archive.keep_results(former(), old)
    assert (kept["status"][0], kept["reason"][0]) == ("rejected", "crowded")
    kept = archive.keep_results(former(status="excluded", reason="not public"), old)
    assert (kept["status"][0], kept["reason"][0]) == ("excluded", "not public")


def test_results_of_a_file_that_was_replaced_do_not_stay():
    old = former(level=0.7, size=99, status="rejected")
    kept = archive.keep_results(former(), old)
    assert np.isnan(kept["level"][0])
    assert kept["status"][0] == "accepted"


def test_what_the_archive_no_longer_lists_keeps_its_row():
    new = decide(keyword_row(rate_name(2), 100))
    kept = archive.keep_results(new, former(level=0.7))
    assert list(kept["status"]) == ["excluded", "accepted", "excluded"]
    assert kept["reason"][0] == "no longer in the archive"
    assert kept["level"][0] == 0.7


# ---- a folder of rate files


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


def search_local(rates, **query):
    query = DEFAULTS.model_copy(update={"source": str(rates)} | query)
    findings = archive.find(query, [GR150C])
    return findings, archive.exposure_table(findings, GR150C, query)


def test_local_files_are_decided_on_their_headers(local):
    before = {path: path.stat().st_mtime_ns for path in local.rglob("*")}
    findings, table = search_local(local)
    assert findings.others == 3
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


def test_the_pointing_of_the_aperture_counts_before_that_of_the_target(local):
    with fits.open(local / rate_name(1), mode="update") as hdus:
        hdus["SCI"].header.update(RA_REF=11.0, DEC_REF=21.0)
    assert search_local(local)[1]["ra"][0] == 11.0
    with fits.open(local / rate_name(1), mode="update") as hdus:
        hdus["SCI"].header["S_REGION"] = square(12.0, 22.0)
    assert search_local(local)[1]["dec"][0] == pytest.approx(22.0, abs=1e-4)


def test_local_files_that_cannot_be_read_are_named(local, tmp_path):
    (local / "empty_rate.fits").touch()
    (local / "text_rate.fits").write_text("hello")
    (local / "folder_rate.fits").mkdir()
    (local / "lost_rate.fits").symlink_to(tmp_path / "nowhere")
    shutil.copy(local / rate_name(1), local / "JWST")
    shutil.copy(local / rate_name(1), local / "s\u00fcd_rate.fits")
    findings, table = search_local(local)
    assert len(table) == 2
    refused = "\n".join(findings.refused)
    for name in ("empty", "text", "folder", "lost", "s\u00fcd"):
        assert f"{name}_rate.fits: " in refused
    assert f"{rate_name(1)}: the same name as" in refused
    assert len(findings.refused) == 6


def test_a_local_file_that_is_cut_short_is_failed(local):
    path = local / rate_name(1)
    path.write_bytes(path.read_bytes()[:-5000])
    _, table = search_local(local)
    assert table["status"][0] == exposures.FAILED
    assert "ends within the extension VAR_RNOISE" in table["reason"][0]


def test_a_source_that_is_no_folder_is_an_error_of_the_config(tmp_path):
    with pytest.raises(config.ConfigError, match=r"query\.source"):
        search_local(tmp_path / "nowhere")
