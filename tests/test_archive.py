"""Finding, deciding and downloading, through astroquery from the demo server."""

import errno
import shutil
import time

import numpy as np
import pytest
from astropy.io import fits
from hypothesis import given, settings
from hypothesis import strategies as st

from demo.server import Fault
from tests.test_server import keyword_row, rate_name, tiny_archive, write_rate
from wfssbkg import StepError, archive, config, exposures, layout
from wfssbkg.layout import Combination, Folder

GR150C = Combination("GR150C", "F115W")
GR150R = Combination("GR150R", "F200W")
DEFAULTS = config.read(config.DEFAULTS).query

# astropy's remarks on files that are damaged on purpose
pytestmark = [
    pytest.mark.filterwarnings("ignore:File may have been truncated"),
    pytest.mark.filterwarnings("ignore:Error validating header"),
    pytest.mark.filterwarnings("ignore:Missing padding"),
]


@pytest.fixture
def tiny(tmp_path):
    with tiny_archive(tmp_path / "archive") as made:
        made.server.busy = False
        yield made


@pytest.fixture
def folder(tmp_path):
    return Folder(GR150C, tmp_path / "work", tmp_path / "out")


def decide(*rows, combination=GR150C, **query):
    findings = archive.sift(rows, [combination])
    return archive.exposure_table(findings, combination, DEFAULTS.model_copy(update=query))


# ---- searching


def test_one_search_finds_all_combinations_on_all_pages(tiny):
    rows = [keyword_row(rate_name(number)) for number in range(1, 8)]
    rows += [keyword_row(rate_name(8), filter="GR150R", pupil="F200W")]
    tiny.fill(rows)
    tiny.server.page_size = 3
    findings = archive.find(tiny.query(), [GR150C, GR150R])
    assert sorted(exposure.filename for exposure in findings.exposures) == [
        rate_name(number) for number in range(1, 9)
    ]
    assert tiny.server.counts["search"] == 1


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
    assert [exposure.filename for exposure in findings.exposures] == [rate_name(1)]
    # A server that does not filter: the same exposures.
    monkeypatch.setattr("demo.server._passes", lambda value, condition: True)
    findings = archive.find(tiny.query(), [GR150C])
    assert [exposure.filename for exposure in findings.exposures] == [rate_name(1)]
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
    path = tmp_path_factory.mktemp("table") / "table.fits"
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
    assert [exposure.filename for exposure in findings.exposures] == [rate_name(1)]
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
    assert "ends within the extension DQ" in table["reason"][0]


def test_a_source_that_is_no_folder_is_an_error_of_the_config(tmp_path):
    with pytest.raises(config.ConfigError, match=r"query\.source"):
        search_local(tmp_path / "nowhere")


# ---- rate files


def test_a_whole_rate_file_passes(tmp_path):
    path = write_rate(tmp_path / "x_rate.fits")
    archive.check_rate(path)
    archive.check_rate(path, path.stat().st_size)
    with pytest.raises(StepError, match="bytes instead of"):
        archive.check_rate(path, 17)


@settings(max_examples=60, deadline=None)
@given(st.floats(0, 1, exclude_max=True))
def test_a_file_cut_anywhere_does_not_pass(tmp_path_factory, part):
    tmp_path = tmp_path_factory.getbasetemp() / "cut"
    tmp_path.mkdir(exist_ok=True)
    whole = tmp_path / "whole_rate.fits"
    if not whole.exists():
        write_rate(whole)
    content = whole.read_bytes()
    path = tmp_path / "cut_rate.fits"
    path.write_bytes(content[: int(part * len(content))])
    with pytest.raises(StepError):
        archive.check_rate(path)


def remove(name):
    return lambda hdus: hdus.pop(name)


def reshape(hdus):
    hdus["ERR"].data = np.zeros((3, 4), "f4")


def to_cubes(hdus):
    for name in ("SCI", "ERR", "DQ"):
        hdus[name].data = np.zeros((2, 3, 4), "f4")


def to_table(hdus):
    hdus["DQ"] = fits.BinTableHDU.from_columns(
        [fits.Column("x", "E", array=[1.0])], name="DQ"
    )  # fmt: skip


def without_data(hdus):
    hdus["SCI"].data = None


@pytest.mark.parametrize(
    "spoil",
    [remove("SCI"), remove("ERR"), remove("DQ"), reshape, to_cubes, to_table, without_data],
)
def test_a_file_of_another_structure_does_not_pass(tmp_path, spoil):
    whole = write_rate(tmp_path / "whole_rate.fits")
    with fits.open(whole) as hdus:
        spoil(hdus)
        hdus.writeto(tmp_path / "spoilt_rate.fits")
    with pytest.raises(StepError):
        archive.check_rate(tmp_path / "spoilt_rate.fits")


# ---- downloading


def accepted(tiny, **query):
    settings = tiny.query(**query)
    return archive.exposure_table(archive.find(settings, [GR150C]), GR150C, settings), settings


def files(folder):
    return sorted(path.name for path in folder.path.iterdir())


def test_downloads_are_the_same_bytes_and_happen_once(tiny, folder):
    table, query = accepted(tiny)
    done = archive.download(table, folder, query)
    assert (done.downloaded, done.present, done.failed) == (3, 0, 0)
    assert files(folder) == [rate_name(n) for n in (1, 2, 3)]
    for name in files(folder):
        assert folder.rate(name).read_bytes() == (tiny.folder / name).read_bytes()
    assert done.size == sum(path.stat().st_size for path in folder.path.iterdir())
    before = tiny.server.counts.copy()
    again = archive.download(table, folder, query)
    assert (again.downloaded, again.present, again.failed) == (0, 3, 0)
    assert tiny.server.counts == before
    archive.download(table, folder, query, overwrite=True)
    assert tiny.server.counts["download"] == 6


def test_only_what_is_missing_or_of_the_wrong_size_is_fetched(tiny, folder):
    table, query = accepted(tiny)
    archive.download(table, folder, query)
    folder.rate(rate_name(1)).unlink()
    folder.rate(rate_name(2)).write_bytes(b"SIMPLE  =")
    table["level"] = 0.5
    done = archive.download(table, folder, query)
    assert (done.downloaded, done.present) == (2, 1)
    assert tiny.server.counts["download"] == 5
    np.testing.assert_array_equal(table["level"], [np.nan, np.nan, 0.5])


def test_excluded_and_rejected_exposures_are_not_fetched(tiny, folder):
    table, query = accepted(tiny)
    table["status"] = np.array(["excluded", "rejected", "accepted"], dtype=object)
    assert archive.download(table, folder, query).downloaded == 1
    assert files(folder) == [rate_name(3)]
    assert list(table["status"]) == ["excluded", "rejected", "accepted"]


def test_an_unknown_size_is_no_hindrance(tiny, folder):
    tiny.fill([tiny.expose(11) | {"fileSize": None}])
    table, query = accepted(tiny)
    assert archive.download(table, folder, query).downloaded == 1
    assert archive.download(table, folder, query).present == 1
    folder.rate(rate_name(11)).write_bytes(b"SIMPLE  =")
    assert archive.download(table, folder, query).downloaded == 1


def test_what_failed_is_looked_at_again(tiny, folder):
    table, query = accepted(tiny)
    archive.download(table, folder, query)
    size = folder.rate(rate_name(1)).stat().st_size
    folder.rate(rate_name(1)).write_bytes(bytes(size))  # the right size, but no FITS file
    for name in (rate_name(1), rate_name(2)):
        exposures.mark(table, name, status="failed", reason="something")
    done = archive.download(table, folder, query)
    assert (done.downloaded, done.present) == (1, 2)
    assert list(table["status"]) == ["accepted"] * 3
    assert list(table["reason"]) == [""] * 3


KINDS = ["refused", "500", "503", "half", "stall", "short", "html", "empty", "malformed"]


@pytest.mark.parametrize("kind", KINDS)
def test_a_fault_of_a_download_is_tried_again(tiny, folder, kind):
    value = 0.1 if kind == "503" else 5
    tiny.server.faults.append(Fault("GET .*00002", kind, value=value))
    table, query = accepted(tiny, timeout=0.4)
    done = archive.download(table, folder, query)
    assert (done.downloaded, done.failed) == (3, 0)
    assert tiny.server.counts["download"] == 4
    assert files(folder) == [rate_name(n) for n in (1, 2, 3)]
    for name in files(folder):
        assert folder.rate(name).read_bytes() == (tiny.folder / name).read_bytes()


@pytest.mark.parametrize(
    ("kind", "words"),
    [("refused", "broke off"), ("500", "HTTP 500"), ("half", "broke off"), ("stall", "no answer"),
     ("short", "bytes instead of"), ("html", "not a FITS file"), ("empty", "not a FITS file")],
)  # fmt: skip
def test_a_lasting_fault_fails_one_exposure_only(tiny, folder, kind, words):
    tiny.server.faults.append(Fault("GET .*00002", kind, times=9, value=5))
    table, query = accepted(tiny, timeout=0.3)
    done = archive.download(table, folder, query)
    assert (done.downloaded, done.failed) == (2, 1)
    assert list(table["status"]) == ["accepted", "failed", "accepted"]
    assert table["reason"][1].startswith("download failed: ")
    assert words in table["reason"][1]
    assert "after 2 tries" in table["reason"][1]
    assert files(folder) == [rate_name(1), rate_name(3)]


@pytest.mark.parametrize("kind", ["404", "401"])
def test_what_will_not_change_is_not_tried_again(tiny, folder, kind):
    tiny.server.faults.append(Fault("HEAD .*00002", kind, times=9))
    table, query = accepted(tiny)
    archive.download(table, folder, query)
    assert f"HTTP {kind}" in table["reason"][1]
    assert tiny.server.counts["head"] == 3


def test_retry_after_is_kept(tiny, folder):
    tiny.server.faults.append(Fault("HEAD .*00002", "503", value=1.5))
    table, query = accepted(tiny, timeout=2.0)
    start = time.monotonic()
    assert archive.download(table, folder, query).failed == 0
    assert 1.5 < time.monotonic() - start < 4


def test_a_server_that_wants_too_much_patience_is_left(tiny, folder):
    tiny.server.faults.append(Fault("HEAD .*00002", "503", value=3600))
    table, query = accepted(tiny)
    assert archive.download(table, folder, query).failed == 1
    assert "asks to wait for 3600 s" in table["reason"][1]


def test_a_folder_in_place_of_a_file_fails_only_that_one(tiny, folder):
    folder.rate(rate_name(2)).mkdir(parents=True)
    table, query = accepted(tiny)
    assert archive.download(table, folder, query).downloaded == 2
    assert "directory" in table["reason"][1]
    assert files(folder) == [rate_name(n) for n in (1, 2, 3)]


def test_debris_of_a_killed_run_is_removed(tiny, folder):
    folder.path.mkdir(parents=True)
    (folder.path / f".0123abcd.{rate_name(2)}").write_text("half")
    table, query = accepted(tiny)
    archive.download(table, folder, query)
    assert files(folder) == [rate_name(n) for n in (1, 2, 3)]


def test_a_disk_that_is_too_small_is_said_before(tiny, folder):
    tiny.fill([keyword_row(rate_name(1), 10**18)])
    table, query = accepted(tiny)
    with pytest.raises(StepError, match="Make room"):
        archive.download(table, folder, query)
    assert tiny.server.counts["head"] == 0


def test_a_full_disk_ends_it(tiny, folder, monkeypatch):
    tiny.fill([tiny.expose(number) for number in range(11, 19)])

    def full(*arguments):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(layout.Path, "replace", full)
    table, query = accepted(tiny, connections=1)
    assert archive.download(table, folder, query).failed == 8
    assert table["reason"][0] == "download failed: No space left on device"
    assert "not tried" in table["reason"][7]
    assert tiny.server.counts["download"] == 1
    assert files(folder) == []


def test_a_line_that_is_gone_does_not_take_hours(tiny, folder):
    tiny.fill([tiny.expose(number) for number in range(11, 31)])
    table, query = accepted(tiny, connections=2, timeout=0.1)
    query = query.model_copy(update={"mast_url": "http://127.0.0.1:9"})
    assert archive.download(table, folder, query).failed == 20
    reasons = list(table["reason"])
    assert sum("not tried" in reason for reason in reasons) >= 10
    assert sum("Connection refused" in reason for reason in reasons) == 20


def test_the_bar_moves_during_a_file(tiny, folder, monkeypatch):
    shown = []

    class Bar(archive.tqdm):
        def update(self, size=1):
            super().update(size)
            shown.append(self.n)

    monkeypatch.setattr(archive, "tqdm", Bar)
    path = tiny.folder / rate_name(21)
    write_rate(path)
    with fits.open(path, mode="append") as hdus:
        hdus.append(fits.ImageHDU(np.zeros((512, 512)), name="MORE"))
    size = path.stat().st_size
    tiny.fill([keyword_row(path.name, size)])
    tiny.server.delay = 0.006
    table, query = accepted(tiny)
    archive.download(table, folder, query)
    assert len({n for n in shown if 0 < n < size}) >= 2
    assert shown[-1] == size


# ---- trying again


def test_pauses_grow_and_end_at_the_timeout():
    pauses = []

    def fail():
        raise ConnectionResetError(errno.ECONNRESET, "Connection reset by peer")

    query = DEFAULTS.model_copy(update={"attempts": 6, "timeout": 5.0})
    with pytest.raises(StepError, match=r"Connection reset by peer \(after 6 tries\)"):
        archive.with_retries(fail, query, pause=pauses.append)
    assert pauses == [1, 2, 4, 5, 5]


def test_a_date_as_retry_after_is_understood():
    import email.utils

    date = email.utils.formatdate(time.time() + 30, usegmt=True)
    assert archive.ServerError(503, "", date).retry_after == pytest.approx(30, abs=2)
    for value in (None, "", "soon", "-5", "nan", "inf"):
        assert archive.ServerError(503, "", value).retry_after == 0


def test_ctrl_c_is_not_tried_again():
    def stop():
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        archive.with_retries(stop, DEFAULTS)
