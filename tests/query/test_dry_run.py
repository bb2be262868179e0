"""What a real run would take, in numbers."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests import small
from tests.conftest import ROOT
from wfssbkg.query import dry_run
from wfssbkg.query.download import Wanted


def test_the_costs_are_those_that_the_documentation_has_measured():
    text = (ROOT / "docs" / "method.md").read_text()
    (disk,) = re.findall(r"\| disk, MB per exposure beyond its rate file \| ([\d.]+) \|", text)
    (once,) = re.findall(r"\| disk, MB per combination \| (\d+) \|", text)
    times = [
        re.search(rf"\| {name}[^|]*\| [\d.]+ / ([\d.]+) = ", text)[1]
        for name in ("masks", "combination", "finish")
    ]
    number, cores = re.search(r"on the same (\d+) exposures", text), "both cores"
    assert [float(disk), float(once), *map(float, times)] == [
        dry_run.MADE_MB, dry_run.MADE_ONCE_MB, dry_run.MASK_S, dry_run.COMBINE_S, dry_run.FINISH_S,
    ]  # fmt: skip
    assert int(number[1]) == dry_run.MEASURED_EXPOSURES
    assert cores in text
    assert dry_run.MEASURED_CORES == 2


def row(name, status, *, own=False, program="1"):
    address = f"/rates/{name}" if own else f"mast:JWST/product/{name}"
    return {
        "productFilename": name, "status": status, "dataURI": address, "size": 1000,
        "program": program,
    }  # fmt: skip


STATUS = st.sampled_from(["accepted", "excluded", "failed", "rejected"])


@given(st.lists(st.tuples(STATUS, st.booleans(), st.booleans()), max_size=12))
def test_every_accepted_exposure_is_own_present_or_downloaded(kinds):
    rows, missing = [], {}
    for number, (status, own, absent) in enumerate(kinds):
        name = f"{number:02d}_rate.fits"
        rows.append(row(name, status, own=own))
        if absent and not own and status != "excluded":
            missing[name] = Wanted(name, "", number % 3, "")
    table = small.table(*rows)
    dry_run.expect(table, missing)
    found = dry_run.costs(table, missing)
    assert found.accepted == found.own + found.present + found.downloads
    assert found.downloads == len(missing)
    assert found.download_size == sum(file.size for file in missing.values())
    assert dry_run.total([found, found]) == dry_run.Costs(*(2 * number for number in found))
    excluded = sum(status == "excluded" for status, *_ in kinds)
    assert sum(table["status"] == "excluded") == excluded


def test_nothing_at_all_costs_nothing():
    assert dry_run.total([]) == dry_run.Costs()


def test_an_exposure_of_unknown_size_is_counted():
    table = small.table(row("a_rate.fits", "accepted"))
    found = dry_run.costs(table, {"a_rate.fits": Wanted("a_rate.fits", "", 0, "")})
    assert "to download: 1 exposures (0.0 MB, and 1 of unknown size)" in found.describe()


def test_programmes_are_counted_those_with_the_most_exposures_first():
    table = small.table(
        row("a_rate.fits", "accepted", program="12"),
        row("b_rate.fits", "accepted", program="34"),
        row("c_rate.fits", "accepted", program="34"),
        row("d_rate.fits", "accepted", program=""),
        row("e_rate.fits", "excluded", program="5"),
    )
    words = "programmes, with the number of exposures: 34 (2), 12 (1), unknown (1)"
    assert dry_run.programs(table) == words


@pytest.mark.parametrize(("size", "warned"), [(0, False), (10**18, True)])
def test_a_disk_that_is_too_small_is_a_warning(tmp_path, size, warned):
    words = dry_run.lack_of_space(dry_run.Costs(download_size=size), tmp_path / "not" / "there")
    assert words.startswith("WARNING: 1000000000.00 GB are to be downloaded") == warned
    assert not list(tmp_path.iterdir())
