"""Which exposures are fit for a background, and what the table says of the others."""

import numpy as np

from tests import small
from wfssbkg import exposures, selection


def test_a_long_saturated_trace_is_a_reason_to_reject(tmp_path):
    config = small.settings(
        combine={"level_border": 8, "minimum_exposures": 1, "maximum_saturated": 60}
    )
    place, lengths = small.folder(tmp_path), {"a": 0, "b": 60, "c": 61}
    for name, length in lengths.items():
        small.masked_exposure(place, name, np.full((64, 64), 0.5), 0.01, saturated=length)
    table = small.table(*({"productFilename": name} for name in lengths))
    fit = selection.normalise(config, place, table, list(lengths))
    assert [exposure.name for exposure in fit] == ["a", "b"]
    assert exposures.fates(table)[exposures.REJECTED] == ["c"]
    assert "61 px of its trace are saturated" in exposures.reason(table, "c")
    assert "more than 60 (combine.maximum_saturated)" in exposures.reason(table, "c")
