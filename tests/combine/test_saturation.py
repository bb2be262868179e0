import numpy as np
import pytest

from wfssbkg.combine import saturation

SHAPE = (128, 160)


def pixels(*boxes):
    image = np.zeros(SHAPE, dtype=bool)
    for y, x in boxes:
        image[y, x] = True
    return np.flatnonzero(image).astype(np.int32)


@pytest.mark.parametrize("along_x", [True, False])
def test_length_of_the_longest_trace(along_x):
    trace = slice(60, 64), slice(30, 100)
    snowball = slice(100, 115), slice(100, 115)
    found = saturation.longest_trace(pixels(trace, snowball), SHAPE, along_x=along_x)
    assert found == (70 if along_x else 15)
    assert saturation.longest_trace(pixels(), SHAPE, along_x=along_x) == 0


def test_what_is_flagged_in_most_exposures_of_several_fields_is_permanent():
    column = slice(0, 128), slice(7, 8)
    star = slice(60, 64), slice(30, 100)
    fields = [[0, 1, 2], [3, 4], [5]]
    flagged = [pixels(column, star)] * 3 + [pixels(column)] * 2 + [pixels()]
    made = saturation.permanent(flagged, fields, SHAPE)
    np.testing.assert_array_equal(np.flatnonzero(made), [])  # in two fields: it may be chance
    flagged[5] = pixels(column)
    made = saturation.permanent(flagged, fields, SHAPE)
    # The star is in half of the exposures, all of one field.
    np.testing.assert_array_equal(np.flatnonzero(made), pixels(column))
