"""Several sources at once: each exposure counts once, and none is lost."""

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from wfssbkg.query.archive import SearchResult
from wfssbkg.query.search import merge

names = st.lists(st.sampled_from("abcdef"), unique=True)


def result(place, listed, *, of_archive=False):
    exposures = [{"productFilename": name, "dataURI": f"{place}/{name}"} for name in listed]
    return SearchResult(
        exposures=exposures, source=place, of_archive=of_archive, others=Counter({"*_cal.fits": 1}),
        refused=[f"{place}: a file"],
    )  # fmt: skip


@given(mast=names, one=names, two=names, order=st.permutations(range(3)))
def test_own_files_come_first_and_the_first_folder_before_the_second(mast, one, two, order):
    results = [result("mast", mast, of_archive=True), result("one", one), result("two", two)]
    results = [results[number] for number in order]
    merged = merge(results)
    folders = [found.source for found in results if not found.of_archive]
    listed = {"mast": mast, "one": one, "two": two}
    expected = {}
    for place in ["mast", *reversed(folders)]:
        expected |= {name: f"{place}/{name}" for name in listed[place]}
    assert {row["productFilename"]: row["dataURI"] for row in merged.exposures} == expected
    assert len(merged.exposures) == len(expected)
    assert merged.others == {"*_cal.fits": 3}
    assert sorted(merged.refused) == ["mast: a file", "one: a file", "two: a file"]
    assert merged.source == " together with ".join(found.source for found in results)
    assert merged.of_archive


def test_what_is_there_twice_is_told_once_with_its_number(capsys):
    merge([result("mast", "abc", of_archive=True), result("one", "bcd"), result("two", "e")])
    assert capsys.readouterr().out == (
        "  2 exposures of mast are in a folder of your own as well, and that file is used "
        "(e.g. one/b)\n"
    )


def test_a_single_source_is_left_as_it_is(capsys):
    found = result("one", "ab")
    assert merge([found]) == found
    assert capsys.readouterr().out == ""
