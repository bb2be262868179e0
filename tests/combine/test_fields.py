import numpy as np
import pytest

from demo import scene
from wfssbkg.combine import fields
from wfssbkg.files.pointing import read_pointing

SIDE = 2048


def header(ra, dec, roll):
    return read_pointing(scene.pointing_wcs(ra, dec, roll, SIDE).to_header())


def test_dithers_of_a_field_are_found_with_where_they_see_its_sources():
    ra, dec, roll = 359.9995, 40.0, 73.0
    first, second = (
        scene.pointing_wcs(ra, dec, roll, SIDE),
        scene.pointing_wcs(0.0008, 40.0007, roll, SIDE),
    )
    pointings = [
        header(ra, dec, roll),
        header(120, dec, roll),
        header(0.0008, 40.0007, roll),
        header(ra, dec, roll + 1),
        header(ra, -dec, roll),
        {},
        {},
    ]
    groups = fields.group(pointings, most=8)
    assert [numbers for numbers, _ in groups] == [[0, 2], [1], [3], [4], [5], [6]]
    y, x = groups[0][1][1]
    star = first.all_pix2world(700, 300, 0)
    there = second.all_world2pix(*star, 0)
    np.testing.assert_allclose([x + 700, y + 300], np.ravel(there), atol=0.1)


def test_groups_have_a_largest_size():
    pointings = [header(10, 20, 30)] * 7
    assert [len(numbers) for numbers, _ in fields.group(pointings, most=3)] == [3, 3, 1]


def test_fields_are_shared_out_evenly():
    groups, information = [[0, 1, 2], [3], [4], [5, 6]], np.array([1, 1, 1, 2, 2, 1, 1.0])
    parts = fields.share_out(groups, information, 3)
    assert parts == [[0, 1, 2], [3, 5, 6], [4]]
    assert fields.share_out(groups, information, 9)[4:] == [[]] * 5


@pytest.mark.parametrize("roll", [0, 45, 90, 135, 180, 225, 270, 315])
def test_dithers_are_found_at_any_roll(roll):
    """Also where the angle jumps by 360 degrees between one dither and the next."""
    pointings = [header(10, 20, roll - 0.004), header(10, 20, roll + 0.004)]
    assert fields.members(pointings) == [[0, 1]]
