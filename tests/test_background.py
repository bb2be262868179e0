"""The combination of exposures from their files."""

import numpy as np
import pytest

from tests import small
from wfssbkg import background, cells, masked


@pytest.mark.parametrize("in_cells", [False, True])
def test_a_pixel_is_bad_if_it_is_bad_in_all_exposures(in_cells, tmp_path):
    config, place = small.settings(), small.folder(tmp_path)
    nowhere = np.zeros((64, 64), dtype=np.uint8)
    bits = {"a": nowhere.copy(), "b": nowhere.copy(), "c": nowhere.copy()}
    for name in bits:
        bits[name][8:12, 8:12] = masked.BAD
    bits["a"][20:24, 20:24] = masked.BAD  # bad in some
    bits["b"][20:24, 20:28] = masked.BAD
    for name in bits:  # the light of a source is no fault of the pixel
        bits[name][40:44, 40:44] = masked.SOURCE
    members = [
        small.masked_exposure(place, name, nowhere + 0.5, 0.01, bits=where, level=0.5)
        for name, where in bits.items()
    ]
    _, _, number, bad, _ = background.combine_all(config, members, None, in_cells=in_cells)
    if in_cells:
        number, bad = (cells.expand(image, along_x=True) for image in (number, bad))
    expected = nowhere > 0
    expected[8:12, 8:12] = True
    np.testing.assert_array_equal(bad, expected)
    assert (number[8:12, 8:12] == 0).all()
    assert (number[20:24, 20:24] == 1).all()
    assert (number[20:24, 24:28] == 2).all()
    assert (number[40:44, 40:44] == 0).all()
