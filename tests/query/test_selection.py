"""Which exposures are taken, the reasons of the others, and what stays of an earlier query."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.demo.test_server import keyword_row, rate_name
from wfssbkg import config
from wfssbkg.files import exposure_table
from wfssbkg.layout import Combination
from wfssbkg.query import archive, selection

GR150C = Combination("GR150C", "F115W")
DEFAULTS = config.read(config.DEFAULTS).query


def decide(*rows, combination=GR150C, **query):
    found = archive.sift(rows, [combination])
    return selection.select(found, combination, DEFAULTS.model_copy(update=query))


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
        ({"publicReleaseDate_mjd": 1e9}, "not public: until"),
        ({"publicReleaseDate_mjd": None, "publicReleaseDate": "2132-08-31T00:00:00"}, "not public"),
        ({"publicReleaseDate_mjd": None, "publicReleaseDate": "/Date(5133369600000)/"}, "until 21"),
        ({"isStale": 1}, "superseded"),
        ({"program": "1089"}, "not among query.programs: 1089"),
    ],
)
def test_what_is_left_out_has_a_reason(changes, reason):
    table = decide(keyword_row(rate_name(1)) | changes, programs=["01571"])
    assert list(table["status"]) == [exposure_table.EXCLUDED]
    assert reason in table["reason"][0]


def test_programs_are_numbers_however_they_are_written():
    for program in ("1571", 1571, "01571", 1571.0):
        for wanted in (["1571"], ["01571", "2"]):
            table = decide(keyword_row(rate_name(1), program=program), programs=wanted)
            assert list(table["status"]) == [exposure_table.ACCEPTED]


@pytest.mark.parametrize(
    ("entry", "left"),
    [
        (rate_name(1), [1]),
        ("jw01571001001", [1, 2]),
        ("1571", [1, 2]),
        ("01571", [1, 2]),
        ("jw01089001001", [3]),
        ("1089", [3]),
        ("157", []),
        ("jw01571001002", []),
        ("jw01571001001_02101_00001_nis_rate.fit", []),
    ],
)
def test_files_visits_and_programmes_can_be_left_out(entry, left):
    rows = [keyword_row(rate_name(number)) for number in (1, 2)]
    rows += [keyword_row(rate_name(3, program=1089), program="1089")]
    table = decide(*rows, exclude=[entry])
    reasons = [f"named in query.exclude: {entry}" if n in left else "" for n in (3, 1, 2)]
    assert list(table["reason"]) == reasons
    assert list(table["status"] == exposure_table.EXCLUDED) == [bool(reason) for reason in reasons]
    found = archive.sift(rows, [GR150C]).exposures
    told = selection.unmatched(found, DEFAULTS.model_copy(update={"exclude": [entry]}))
    assert len(told) == (not left)
    assert all(f"query.exclude names {entry}, which is none" in line for line in told)


programs = st.integers(1, 99999)


@given(exposed=st.lists(programs, max_size=5), excluded=st.lists(programs, unique=True, max_size=5))
def test_what_is_left_out_and_what_was_named_in_vain_is_all_told(exposed, excluded):
    rows = [
        keyword_row(rate_name(n, program=number), program=str(number))
        for n, number in enumerate(exposed)
    ]
    entries = [f"jw{number:05d}001001" if number % 2 else f"{number}" for number in excluded]
    table = decide(*rows, exclude=entries)
    wanted = [number in excluded for number in exposed]
    assert sum(table["status"] == exposure_table.EXCLUDED) == sum(wanted)
    query = DEFAULTS.model_copy(update={"exclude": entries})
    told = selection.unmatched(archive.sift(rows, [GR150C]).exposures, query)
    assert len(told) == len(set(excluded) - set(exposed))


def test_what_the_archive_withholds_keeps_that_reason():
    table = decide(keyword_row(rate_name(1), isRestricted=True), exclude=["1571"])
    assert list(table["reason"]) == ["not public: restricted"]


def test_of_two_rows_for_a_file_the_usable_one_counts():
    stale = keyword_row(rate_name(1), 5, isStale=True)
    for rows in ([stale, keyword_row(rate_name(1), 7)], [keyword_row(rate_name(1), 7), stale]):
        table = decide(*rows)
        assert list(table["size"]) == [7]
        assert list(table["status"]) == [exposure_table.ACCEPTED]


def test_describe_groups_the_reasons():
    rows = [keyword_row(rate_name(n), 10**9) for n in range(1, 8)]
    rows[0]["subarray"] = rows[1]["subarray"] = "WFSS64R"
    rows[2]["isRestricted"] = True
    rows[3]["publicReleaseDate_mjd"] = 99999
    lines = selection.describe(decide(*rows)).splitlines()
    assert lines[0] == "found 7 exposures (7.00 GB), 3 accepted"
    assert sorted(lines[1:]) == [
        "  2 excluded: SUBARRAY WFSS64R (accepted FULL)", "  2 excluded: not public",
    ]  # fmt: skip


# ---- what later steps wrote


def keep_results(table, earlier):
    return selection.keep_results(table, earlier, of_archive=True)


def former(**values):
    table = decide(*(keyword_row(rate_name(n), 100) for n in (1, 2, 3)))
    exposure_table.mark(table, rate_name(1), **values)
    return table


def test_results_of_later_steps_stay():
    old = former(level=0.7, masked_fraction=0.3)
    kept = keep_results(former(), old)
    assert kept["level"][0] == 0.7
    assert kept["masked_fraction"][0] == 0.3
    assert np.isnan(kept["level"][1])


def test_what_a_header_tells_now_counts_more_than_what_it_told_then():
    """Headers of own files have just been read; those of downloads are read later, if need be."""
    old = former(s_clnfns="absent")
    assert keep_results(former(s_clnfns="COMPLETE"), old)["s_clnfns"][0] == "COMPLETE"
    assert keep_results(former(), old)["s_clnfns"][0] == "absent"


def test_rejected_stays_rejected_unless_the_rules_exclude_it():
    old = former(status="rejected", reason="crowded")
    kept = keep_results(former(), old)
    assert (kept["status"][0], kept["reason"][0]) == ("rejected", "crowded")
    kept = keep_results(former(status="excluded", reason="not public"), old)
    assert (kept["status"][0], kept["reason"][0]) == ("excluded", "not public")


def test_results_of_a_file_that_was_replaced_do_not_stay():
    old = former(level=0.7, size=90, status="rejected")
    kept = keep_results(former(), old)
    assert np.isnan(kept["level"][0])
    assert kept["status"][0] == "accepted"


def test_what_the_archive_no_longer_lists_keeps_its_row():
    new = decide(keyword_row(rate_name(2), 100))
    kept = keep_results(new, former(level=0.7))
    assert list(kept["status"]) == ["excluded", "accepted", "excluded"]
    assert kept["reason"][0] == "no longer in the archive"
    assert kept["level"][0] == 0.7
