"""The flat field that is kept in the folder of a combination."""

import numpy as np
import pytest

from tests import small
from wfssbkg.errors import StepError
from wfssbkg.files import flat_field

SHAPE = (8, 12)
FLAT = np.random.default_rng(1).uniform(0.9, 1.1, SHAPE).astype(np.float32)


@pytest.fixture
def place(tmp_path):
    return small.folder(tmp_path)


def test_some_rows_are_those_of_the_whole(place):
    small.keep_flat(place, FLAT)
    whole = flat_field.inverse(place.flat, slice(None), SHAPE)
    np.testing.assert_allclose(whole, 1 / FLAT)
    some = flat_field.inverse(place.flat, slice(2, 5), SHAPE)
    np.testing.assert_array_equal(some, whole[2:5])


def test_where_there_is_none_it_is_1(place):
    np.testing.assert_array_equal(flat_field.inverse(place.flat, slice(2, 5), SHAPE), 1)
    small.keep_flat(place, np.where(FLAT > 1, FLAT, 0))
    inverse = flat_field.inverse(place.flat, slice(None), SHAPE)
    np.testing.assert_array_equal(inverse[FLAT <= 1], 1)


def test_another_size_or_a_damaged_file_is_told_in_words(place):
    small.keep_flat(place, FLAT[:4])
    with pytest.raises(StepError, match=r"is not of 12 x 8 px\. Run makeMask\.py"):
        flat_field.inverse(place.flat, slice(None), SHAPE)
    place.flat.write_bytes(place.flat.read_bytes()[:3000])
    with pytest.raises(StepError, match=r"Remove it and run makeMask\.py"):
        flat_field.inverse(place.flat, slice(None), SHAPE)
