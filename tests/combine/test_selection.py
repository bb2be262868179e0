"""Which exposures are fit for a background, and what the table says about the others."""

import numpy as np
import pytest

from tests import small
from wfssbkg.combine import background, selection
from wfssbkg.errors import StepError
from wfssbkg.files import exposure_table, masked_exposure

SATURATED = masked_exposure.SATURATED | masked_exposure.BAD


def judged(tmp_path, flags, **settings):
    """The exposures that are fit, and the table, of name to its saturated pixels and its field."""
    config = small.settings(combine={"level_border": 8, "minimum_exposures": 1} | settings)
    place = small.folder(tmp_path)
    for name, (box, field) in flags.items():
        bits = np.zeros((64, 128), dtype=np.uint8)
        bits[box] = SATURATED
        pointing = {"DEC_REF": 20.0, "ROLL_REF": 0.0, "V3I_YANG": 0.57, "VPARITY": -1}
        if field is not None:
            pointing["RA_REF"] = 10.0 * field
        small.masked_exposure(
            place, name, np.full(bits.shape, 0.5), 0.01, bits=bits, pointing=pointing
        )
    table = small.table(*({"productFilename": name} for name in flags))
    fit = background.normalise(small.WORKERS, config, place, table, list(flags))
    return [exposure.name for exposure in fit], table


def test_a_long_saturated_trace_is_a_reason_to_reject(tmp_path):
    lengths = {"a": 0, "b": 60, "c": 61}
    flags = {name: (np.s_[20:22, 10 : 10 + x], x) for name, x in lengths.items()}
    fit, table = judged(tmp_path, flags, maximum_saturated=60)
    assert fit == ["a", "b"]
    assert exposure_table.fates(table)[exposure_table.REJECTED] == ["c"]
    assert "61 px of its trace are saturated" in exposure_table.reason(table, "c")
    assert "more than 60 (combine.maximum_saturated)" in exposure_table.reason(table, "c")


def test_what_is_flagged_in_all_fields_is_no_saturated_star(tmp_path):
    """A row of the detector that is always flagged, as the real detector has them."""
    flags = {name: (np.s_[20:22, 5:120], number) for number, name in enumerate("abcd")}
    fit, _ = judged(tmp_path, flags)
    assert fit == list("abcd")


@pytest.mark.parametrize("known", [True, False])
def test_a_star_in_all_dithers_is_told_from_a_defect_only_by_known_pointings(tmp_path, known):
    flags = {
        name: (np.s_[20:22, 5:120], number if known else None) for number, name in enumerate("abcd")
    }
    fit, table = judged(tmp_path, flags, minimum_exposures=0)
    assert fit == list("abcd") * known
    assert ("115 px of its trace are saturated" in table["reason"][0]) != known


def test_a_reason_that_rejects_many_is_named_with_its_setting(tmp_path, capsys):
    flags = {"a": (np.s_[10:12, 5:120], 1), "b": (np.s_[20:22, 5:120], 2)} | dict.fromkeys(
        "cdef", (np.s_[0:0], 5)
    )
    fit, table = judged(tmp_path, flags)
    assert fit == list("cdef")
    (said,) = selection.common_reasons(table, "here")
    assert said == (
        "2 of 6 exposures are rejected for one reason (combine.maximum_saturated): look at them "
        "here. If they are sound, raise that setting"
    )
    # Where no background is made, there is no report to look at.
    capsys.readouterr()
    with pytest.raises(StepError, match="4 exposures are fit"):
        judged(tmp_path, flags, minimum_exposures=5)
    said = capsys.readouterr().out
    assert "rejected for one reason (combine.maximum_saturated): look at them (" in said
    assert "_masked.fits). If they are sound, raise that setting" in said
    assert "report" not in said
    exposure_table.mark(table, "a", status=exposure_table.ACCEPTED, reason="")
    assert not selection.common_reasons(table, "here")


def test_per_cent_with_enough_digits():
    assert selection.percent(0.41, 0.4) == ["41%", "40%"]
    assert selection.percent(0.0312, 0.03) == ["3.1%", "3.0%"]
    assert selection.percent(0.50001, 0.5, digits=2) == ["50.001%", "50.000%"]


def test_a_masked_fraction_differs_from_its_limit_in_the_reason():
    config = small.settings(combine={"maximum_masked_fraction": 0.03})
    table = small.table({"productFilename": "a", "masked_fraction": 0.0312})
    selection.judge_measured(table, [], config.combine)
    assert table["reason"][0] == (
        "3.1% of the pixels masked, more than 3.0% (combine.maximum_masked_fraction)"
    )


@pytest.mark.filterwarnings("ignore:File may have been truncated")
def test_an_exposure_that_cannot_be_read_is_told_and_has_failed(tmp_path, capsys):
    config = small.settings(combine={"level_border": 8, "minimum_exposures": 1})
    place = small.folder(tmp_path)
    for name in "abc":
        small.masked_exposure(place, name, np.full((64, 64), 0.5), 0.01)
    place.masked("b").write_bytes(place.masked("b").read_bytes()[:-2880])
    table = small.table(*({"productFilename": name} for name in "abc"))
    fit = background.normalise(small.WORKERS, config, place, table, list("abc"))
    assert [exposure.name for exposure in fit] == ["a", "c"]
    assert f"b failed: {place.masked('b')} cannot be read" in capsys.readouterr().out
    written = exposure_table.read(place.table)
    assert exposure_table.fates(written)[exposure_table.FAILED] == ["b"]
