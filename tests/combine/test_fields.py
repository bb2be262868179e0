import numpy as np
import pysiaf
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pysiaf.utils import rotations

from demo import scene
from wfssbkg.combine import fields
from wfssbkg.detector import PIXEL_MATRIX, REFERENCE_PIXEL
from wfssbkg.errors import StepError
from wfssbkg.files.pointing import read_pointing

SIDE = 2048
# The real aperture, with its distortion.
SIAF = pysiaf.Siaf("NIRISS")["NIS_CEN"]


def header(ra, dec, roll):
    """FITS world coordinates, as direct images have."""
    return read_pointing(scene.pointing_wcs(ra, dec, roll, SIDE).to_header())


def reference(ra, dec, roll):
    """The keywords of spectra; `roll` is ROLL_REF."""
    place = {"RA_REF": ra, "DEC_REF": dec, "ROLL_REF": roll}
    return read_pointing(place | {"V3I_YANG": SIAF.V3IdlYAngle, "VPARITY": SIAF.VIdlParity})


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


def test_siaf():
    terms = [[SIAF.Sci2IdlX10, SIAF.Sci2IdlX11], [SIAF.Sci2IdlY10, SIAF.Sci2IdlY11]]
    np.testing.assert_allclose(PIXEL_MATRIX, terms, atol=1e-8)
    assert (SIAF.XSciRef, SIAF.YSciRef) == REFERENCE_PIXEL


def sees(sky, attitude):
    """Where the real aperture sees a place on the sky, (x, y) counted from 0."""
    x, y = SIAF.tel_to_sci(*rotations.getv2v3(attitude, *sky))
    return np.array([x, y]) - 1


def attitude(ra, dec, roll):
    return rotations.attitude(SIAF.V2Ref, SIAF.V3Ref, ra, dec, roll)


@settings(max_examples=40, deadline=None)
@given(
    ra=st.floats(0, 360, exclude_max=True),
    dec=st.floats(-89.9, 89.9),
    roll=st.floats(0, 360),
    dither=st.floats(5, 150),
    direction=st.floats(0, 2 * np.pi),
)
def test_offsets_of_dithers_are_those_of_the_real_aperture(ra, dec, roll, dither, direction):
    """Also at RA 0 and near a pole, where the roll differs though the telescope did not turn."""
    here = attitude(ra, dec, roll)
    # The telescope moves without turning: what it now points at, and the roll it has there.
    x, y = np.array(REFERENCE_PIXEL) + dither * np.array([np.cos(direction), np.sin(direction)])
    v2, v3 = SIAF.sci_to_tel(x, y)
    moved, turned = rotations.pointing(here, v2, v3), rotations.posangle(here, v2, v3)
    there = attitude(*moved, turned)
    pointings = [reference(ra, dec, roll), reference(*moved, turned)]
    ((numbers, offsets),) = fields.group(pointings, most=8)
    assert numbers == [0, 1]
    dy, dx = offsets[1]
    for place, tolerance in (
        ((1023.5, 1023.5), 0.1),
        *(((x, y), 0.5) for x in (0, 2047) for y in (0, 2047)),
    ):
        v2, v3 = SIAF.sci_to_tel(*np.add(place, 1))
        found = sees(rotations.pointing(here, v2, v3), there) - place
        assert np.abs(found - (dx, dy)).max() < tolerance, place


def test_fields_are_told_apart_in_right_ascension_as_well():
    """A tangential projection has the antipode where the field is."""
    pointings = [reference(ra, 0.0, 30.0) for ra in (10.0, 190.0, 10.1, 10.0005)]
    assert fields.members(pointings) == [[0, 3], [1], [2]]


def test_fields_with_and_without_fits_coordinates_are_the_same():
    pointings = [header(10, 20, 30 + SIAF.V3IdlYAngle), reference(10, 20, 30)]
    assert fields.members(pointings) == [[0, 1]]


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


def test_a_matrix_without_scales_and_distortion_do_not_matter():
    """As grizli writes them: CD beside CDELT 1, and SIP in CTYPE."""
    wcs = scene.pointing_wcs(10, 20, 30, SIDE)
    cards = wcs.to_header()
    for i, j in np.ndindex(2, 2):
        cards[f"CD{i + 1}_{j + 1}"] = wcs.pixel_scale_matrix[i, j]
        cards.remove(f"PC{i + 1}_{j + 1}", ignore_missing=True)
    cards["CDELT1"] = cards["CDELT2"] = 1.0
    cards["CTYPE1"], cards["CTYPE2"] = "RA---TAN-SIP", "DEC--TAN-SIP"
    groups = fields.group([header(10, 20, 30), read_pointing(cards)], most=2)
    np.testing.assert_allclose(groups[0][1], 0, atol=1e-6)


def test_keywords_that_make_no_sense():
    with pytest.raises(StepError, match="world coordinates make no sense"):
        reference(10, 95, 30)
    with pytest.raises(StepError, match="world coordinates make no sense"):
        reference(10, "north", 30)
    assert read_pointing({"RA_REF": 10.0, "DEC_REF": 20.0}) == {}


def test_pointings_that_a_source_does_not_move_between_are_the_same():
    """Nearer than 3 px across the dispersion and than a trace along it; here along x."""
    moves = [(0, 0), (2, 40), (2, 70), (4, 0), (-2, -40), (0, 0)]  # y, x in px
    pointings = []
    for dy, dx in moves:  # roll such that y is north and x is west
        west, north = PIXEL_MATRIX @ np.array([dx, dy]) / 3600
        dec, ra = 20 + north, 10 - west / np.cos(np.radians(20))
        pointings.append(reference(ra, dec, -SIAF.V3IdlYAngle))
    found = fields.distinct([*pointings, {}, reference(50, 20, 0), {}], nearest=(3, 58))
    assert found[:6] == [0, 0, 1, 2, 0, 0]
    assert len({*found[:6], found[7]}) == 4
    assert found[6] == found[8]  # not known, so perhaps the same
    assert found[6] not in (*found[:6], found[7])


@given(st.lists(st.floats(1e-3, 1e3), min_size=4, max_size=12), st.integers(1, 3))
@settings(max_examples=30)
def test_no_field_has_more_than_a_third_of_the_weight(information, dithers):
    groups = [list(range(dithers * k, dithers * (k + 1))) for k in range(len(information))]
    weights = np.repeat(information, dithers)
    factors = fields.limited(groups, weights)
    assert (factors > 0).all()
    assert (factors <= 1).all()
    shares = np.array([(factors * weights)[group].sum() for group in groups])
    shares /= shares.sum()
    assert shares.max() <= fields.MOST + 1e-6
    before = np.array(information) / np.sum(information)
    lowered = factors[::dithers] < 1
    np.testing.assert_allclose(shares[lowered], fields.MOST)
    if not lowered.any():
        np.testing.assert_allclose(shares, before)


def test_few_fields_may_have_as_much_weight_as_they_have():
    np.testing.assert_array_equal(fields.limited([[0], [1], [2]], np.array([1, 1, 98])), 1)
    unknown = np.array([1.0, 1.0, 98.0, np.nan, 1.0])  # before the first refinement
    np.testing.assert_array_equal(fields.limited([[k] for k in range(5)], unknown), 1)
