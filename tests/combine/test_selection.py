"""Which exposures are fit for a background, and what the table says about the others."""

import numpy as np
import pytest

from tests import small
from wfssbkg.combine import background
from wfssbkg.files import exposure_table


def test_a_long_saturated_trace_is_a_reason_to_reject(tmp_path):
    config = small.settings(
        combine={"level_border": 8, "minimum_exposures": 1, "maximum_saturated": 60}
    )
    place, lengths = small.folder(tmp_path), {"a": 0, "b": 60, "c": 61}
    for name, length in lengths.items():
        small.masked_exposure(place, name, np.full((64, 64), 0.5), 0.01, saturated=length)
    table = small.table(*({"productFilename": name} for name in lengths))
    fit = background.normalise(small.WORKERS, config, place, table, list(lengths))
    assert [exposure.name for exposure in fit] == ["a", "b"]
    assert exposure_table.fates(table)[exposure_table.REJECTED] == ["c"]
    assert "61 px of its trace are saturated" in exposure_table.reason(table, "c")
    assert "more than 60 (combine.maximum_saturated)" in exposure_table.reason(table, "c")


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
