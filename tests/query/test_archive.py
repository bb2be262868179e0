"""The search at MAST, through astroquery from the demo server."""

import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from demo import server
from demo.server import Fault
from tests.demo.test_server import keyword_row, rate_name, tiny_archive
from wfssbkg import config
from wfssbkg.errors import StepError
from wfssbkg.files import exposure_table
from wfssbkg.layout import Combination
from wfssbkg.query import archive, network, selection

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


def found(result):
    return [exposure["productFilename"] for exposure in result.exposures]


def test_one_search_finds_all_combinations_on_all_pages(tiny):
    rows = [keyword_row(rate_name(number)) for number in range(1, 8)]
    rows += [keyword_row(rate_name(8), filter="GR150R", pupil="F200W")]
    tiny.fill(rows)
    tiny.server.page_size = 3
    result = archive.search(tiny.query(), [GR150C, GR150R])
    assert sorted(found(result)) == [rate_name(number) for number in range(1, 9)]
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
    result = archive.search(tiny.query(), [GR150C, CLEAR])
    assert {name["combination"]: name["productFilename"] for name in result.exposures} == {
        GR150C: rate_name(1), CLEAR: rate_name(2),
    }  # fmt: skip
    assert result.others.total() == 2
    assert tiny.server.counts["search"] == 1
    assert found(archive.search(tiny.query(), [CLEAR])) == [rate_name(2)]


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
    result = archive.search(tiny.query(), [GR150C])
    assert found(result) == [rate_name(1)]
    # A server that does not filter: the same exposures.
    monkeypatch.setattr("demo.server._passes", lambda value, condition: True)
    result = archive.search(tiny.query(), [GR150C])
    assert found(result) == [rate_name(1)]
    assert result.others.total() == len(decoys)
    assert result.refused == []


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
    result = archive.search(tiny.query(), [GR150C])
    table = selection.select(result, GR150C, tiny.query())
    assert list(table["status"]) == ["accepted"] * 4
    assert list(table["size"]) == [4711] * 3 + [0]
    assert list(table["program"]) == ["1571"] * 4  # it stands in the name as well
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
    result = archive.sift(rows, [GR150C])
    assert len(result.exposures) <= 1
    table = selection.select(result, GR150C, DEFAULTS)
    for name in table["productFilename"]:
        assert archive.RATE_NAME.fullmatch(name)
    for uri in table["dataURI"]:
        assert uri == f"mast:JWST/product/{rate_name(1)}"
    path = tmp_path_factory.getbasetemp() / "any_row.fits"
    exposure_table.write(table, path, "2026-01-01T00:00:00")
    assert len(exposure_table.read(path)) == len(table)


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
    result = archive.sift([keyword_row(name), keyword_row(rate_name(1))], [GR150C])
    assert found(result) == [rate_name(1)]
    assert len(result.refused) == 1


def test_an_address_of_another_file_is_not_followed():
    result = archive.sift([keyword_row(rate_name(1), dataURI="file:///etc/passwd")], [GR150C])
    (exposure,) = result.exposures
    assert exposure["status"] == exposure_table.EXCLUDED
    assert "file:///etc/passwd" in exposure["reason"]
    assert exposure["dataURI"] == f"mast:JWST/product/{rate_name(1)}"


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
    patience = 0.5 if kind == "stall" else 30.0
    result = archive.search(tiny.query(timeout=patience), [GR150C])
    assert len(result.exposures) == 3
    assert capsys.readouterr().out.count("trying again") == 1


@pytest.mark.parametrize("kind", ["refused", "500", "html", "malformed", "no rows", "stall"])
def test_a_lasting_fault_of_the_search_is_one_message(tiny, kind):
    tiny.server.faults.append(Fault("search", kind, times=9))
    with pytest.raises(StepError) as caught:
        archive.search(tiny.query(timeout=0.5 if kind == "stall" else 30.0), [GR150C])
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
        archive.search(tiny.query(timeout=0.1, attempts=1), [GR150C])
    assert time.monotonic() - start > 1


def test_nobody_there_is_one_message():
    query = DEFAULTS.model_copy(update={"mast_url": "http://127.0.0.1:9", "attempts": 1})
    with pytest.raises(StepError, match=r"http://127\.0\.0\.1:9.*Connection refused"):
        archive.search(query, [GR150C])


# ---- the pointing that a row tells


def pointing(**changes):
    exposure = archive.to_exposure(keyword_row(rate_name(1), **changes), [GR150C])
    return exposure["ra"], exposure["dec"]


def square(ra, dec, size=0.01):
    wide = size / np.cos(np.radians(dec)) if abs(dec) < 89 else size
    corners = [(-1, -1), (1, -1), (1, 1), (-1, 1), (-1, -1)]
    words = [f"{(ra + i * wide) % 360:.9f} {dec + j * size:.9f}" for i, j in corners]
    return "POLYGON ICRS  " + " ".join(words)


@pytest.mark.parametrize(("ra", "dec"), [(0.0, 0.0), (359.999, 60.0), (120.0, -75.0), (10.0, 1.0)])
def test_the_pointing_is_the_centre_of_the_footprint(ra, dec):
    found_ra, found_dec = pointing(s_region=square(ra, dec))
    assert (found_ra - ra + 180) % 360 - 180 == pytest.approx(0, abs=1e-5)
    assert 0 <= found_ra < 360
    assert found_dec == pytest.approx(dec, abs=1e-5)


def test_the_footprint_can_hold_a_pole():
    corners = "0 89.99 90 89.99 180 89.99 270 89.99"
    _, dec = pointing(s_region=f"POLYGON ICRS {corners}")
    assert dec == pytest.approx(90, abs=1e-6)


@pytest.mark.parametrize(
    "region", [None, "", "POLYGON ICRS", "POLYGON ICRS 1 2 3", "POLYGON 1 2 3 4 5 200", "nonsense"]
)
def test_without_a_footprint_the_target_is_the_pointing(region):
    assert pointing(s_region=region, targ_ra="370.5", targ_dec=-3) == (10.5, -3.0)


@pytest.mark.parametrize(("ra", "dec"), [(0, 0), ("0.0", "0"), (None, None), (10.0, None)])
def test_no_target_is_no_pointing(ra, dec):
    np.testing.assert_array_equal(pointing(targ_ra=ra, targ_dec=dec), [np.nan, np.nan])
    assert pointing(targ_ra=ra, targ_dec=dec, s_region=square(120.0, 0.0)) == pytest.approx(
        (120.0, 0.0), abs=1e-6
    )


def test_what_gave_the_pointing_is_noted():
    regions = {"s_region": square(1.0, 2.0)}, {}, {"targ_ra": 0, "targ_dec": 0}
    exposures = [archive.to_exposure(keyword_row(rate_name(1)) | row, [GR150C]) for row in regions]
    assert [row["pointing"] for row in exposures] == ["footprint", "target", ""]


# ---- the columns of the service


@pytest.mark.parametrize("name", ["NIRISS", "niriss", "NIRISS/WFSS", "NIRISS/IMAGE", None])
def test_names_of_the_instrument(name):
    assert archive.to_exposure(keyword_row(rate_name(1), instrume=name), [GR150C])


def test_columns_that_are_taken_over():
    told = {"checksum": "D41D8CD98F00B204E9800998ECF8427E", "cal_ver": "2.0.0", "category": "GO",
            "crds_ctx": "jwst_1.pmap", "pi_name": "Somebody", "visitype": "PARALLEL_PURE",
            "pcs_mode": "FINEGUIDE"}  # fmt: skip
    exposure = archive.to_exposure(keyword_row(rate_name(1)) | told, [GR150C])
    told["checksum"] = told["checksum"].lower()
    assert {key: exposure[key] for key in told} == told
    exposure = archive.to_exposure(keyword_row(rate_name(1), checksum="sha1:1234"), [GR150C])
    assert exposure["checksum"] == ""


@pytest.mark.parametrize("gone", [archive.USEFUL, ("s_region",)])
def test_without_useful_columns_the_search_goes_on(tiny, gone, capsys):
    tiny.server.gone = set(gone)
    result = archive.search(tiny.query(), [GR150C])
    assert len(result.exposures) == 3
    assert tiny.server.counts["search"] == 2
    assert capsys.readouterr().out.count("WARNING") == 1


@pytest.mark.parametrize("name", archive.REQUIRED)
def test_without_a_required_column_one_message_says_which(tiny, name):
    tiny.server.gone = {name}
    with pytest.raises(StepError, match=f"does not know {name} any more.* needs an update"):
        archive.search(tiny.query(attempts=5), [GR150C])
    assert tiny.server.counts["search"] == 1


@pytest.mark.parametrize(
    ("words", "gone"),
    [
        ("Invalid column name 'PCS_MODE'.", ("pcs_mode",)),
        ("Unknown Columns: pi_name, category", ("category", "pi_name")),
        ('column "s_region" does not exist', ("s_region",)),
        ("Invalid column name 'checksum'. The filter of this program is left out", ("checksum",)),
        ("no such column", archive.USEFUL),
    ],
)
def test_the_columns_that_an_error_names(words, gone):
    kept = archive._known(archive.COLUMNS, f"status ERROR: {words}")
    assert [name for name in archive.COLUMNS if name not in kept] == list(gone)


@pytest.mark.parametrize(
    "words",
    [
        "Database connection timed out",
        "the filter of this program has timed out",
        "Internal Server Error: the query column store is busy, program restarted",
    ],
)
@pytest.mark.parametrize("times", [1, 99])
def test_an_error_of_another_kind_is_tried_again_with_all_columns(
    tiny, monkeypatch, capsys, words, times
):
    asked = []

    def refuse(rows, request, gone):
        asked.append(request["params"]["columns"].split(","))
        if len(asked) <= times:
            raise ValueError(words)
        return answer(rows, request, gone)

    answer = server.search
    monkeypatch.setattr("demo.server.search", refuse)
    tiny.fill([keyword_row(rate_name(1)), keyword_row(rate_name(2), isStale=True)])
    if times == 1:
        result = archive.search(tiny.query(), [GR150C])
        reasons = [exposure["reason"] for exposure in result.exposures]
        assert sorted(reasons) == ["", archive.SUPERSEDED]
    else:
        with pytest.raises(StepError, match=r"gives no list of exposures.*\(after 2 tries\)"):
            archive.search(tiny.query(), [GR150C])
    assert [set(columns) for columns in asked] == [set(archive.COLUMNS)] * 2
    said = capsys.readouterr().out
    assert said.count("trying again") == 1
    assert "WARNING" not in said


def test_columns_that_are_missed_one_by_one_are_one_warning(tiny, monkeypatch, capsys):
    tiny.server.gone = {"pcs_mode", "category"}
    answer = server.search

    def refuse(rows, request, gone):
        return answer(
            rows, request, sorted(gone & set(request["params"]["columns"].split(",")))[:1]
        )

    monkeypatch.setattr("demo.server.search", refuse)
    assert len(archive.search(tiny.query(), [GR150C]).exposures) == 3
    said = capsys.readouterr().out
    assert said.count("WARNING") == 1
    assert "without the columns category, pcs_mode: what they tell is unknown" in said


def test_without_its_column_the_programme_is_in_the_name(tiny):
    tiny.server.gone = {"program"}
    result = archive.search(tiny.query(), [GR150C])
    assert {exposure["program"] for exposure in result.exposures} == {"1571"}
