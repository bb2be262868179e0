"""What became of the exposures of a combination."""

import numpy as np
import pytest

from wfssbkg.compare.exposures import LeftOut, accepted_first, hours, left_out, programmes
from wfssbkg.files import exposure_table


def row(number, status="accepted", reason="", program="1571", **values):
    name = f"jw0{program}001001_02101_{number:05d}_nis_rate.fits"
    return {
        "productFilename": name,
        "status": status,
        "reason": reason,
        "program": program,
    } | values


def test_reasons_that_differ_in_their_numbers_are_one():
    masked = "{}% of the pixels masked, more than 40% (combine.maximum_masked_fraction)"
    table = exposure_table.new(
        [
            row(1),
            row(2, "excluded", "bright star: G = 8.00 at 0.57 arcmin"),
            row(3, "rejected", masked.format(55)),
            row(4, "rejected", masked.format(61)),
            row(5, "excluded", "bright star: G = 7.10 at 1.50 arcmin"),
            row(6, "rejected", masked.format(47)),
            row(7, "excluded", "superseded in the archive"),
            row(8, "failed", "bright star: G = 7.10 at 1.50 arcmin"),
        ]
    )
    assert left_out(table) == [
        LeftOut("rejected", f"e.g. {masked.format(55)}", 3),
        LeftOut("excluded", "e.g. bright star: G = 8.00 at 0.57 arcmin", 2),
        LeftOut("excluded", "superseded in the archive", 1),
        LeftOut("failed", "bright star: G = 7.10 at 1.50 arcmin", 1),
    ]


def test_accepted_exposures_come_first_each_status_in_its_order():
    statuses = ("excluded", "rejected", "accepted", "failed", "accepted", "excluded")
    table = exposure_table.new([row(k, status) for k, status in enumerate(statuses)])
    numbers = [int(name[20:25]) for name in accepted_first(table)["productFilename"]]
    assert numbers == [2, 4, 1, 3, 0, 5]


def test_nothing_left_out():
    assert left_out(exposure_table.new([row(1), row(2)])) == []


def test_a_programme_has_the_sums_and_medians_of_its_accepted_exposures():
    table = exposure_table.new(
        [
            row(1, effinttm=1800, level=0.5, weight=0.2, pi_name="A"),
            row(2, effinttm=900, level=0.7, weight=0.1, pi_name="A"),
            row(3, "rejected", "dark", effinttm=7200, level=9.0, pi_name="A"),
            row(1, "excluded", "dark", program="1324", effinttm=3600),
        ]
    )
    table["rms"] = [np.nan, 0.3, 0.5, np.nan]
    first, second = programmes(table)
    assert (first["program"], first["pi_name"]) == ("1571", "A")
    assert [first[fate] for fate in ("accepted", "rejected", "excluded", "failed")] == [2, 1, 0, 0]
    assert first["hours"] == pytest.approx(0.75)
    assert first["weight"] == pytest.approx(0.3)
    assert first["level"] == pytest.approx(0.6)
    assert first["rms"] == pytest.approx(0.4)
    assert (second["accepted"], second["excluded"], second["hours"]) == (0, 1, 0)
    assert np.isnan(second["level"])


def test_exposure_time_that_is_not_known_does_not_count():
    assert hours(exposure_table.new([row(1, effinttm=1800), row(2)])) == pytest.approx(0.5)
