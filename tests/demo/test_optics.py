"""The simulated optics: the places of the orders, and that the flux is conserved."""

import numpy as np
import pytest

from demo import optics

COMBINATIONS = (("GR150C", "F115W"), ("GR150R", "F200W"), ("GR150C", "F090W"))


def extended(npix):
    return np.zeros((npix + 2 * optics.field_margin(npix),) * 2)


def along_dispersion(image, grating):
    """The image with the dispersion along its last axis."""
    return image if grating == "GR150C" else image.T


@pytest.mark.parametrize(("grating", "filter_name"), COMBINATIONS)
def test_point_source_lands_in_its_orders_and_keeps_its_flux(grating, filter_name):
    npix = 2048
    image = extended(npix)
    x, y, margin = 1300, 1290, optics.field_margin(npix)
    image[y + margin, x + margin] = 50.0
    dispersed = optics.disperse(image, grating, filter_name)
    # From this place all orders fall on the detector.
    assert dispersed.sum() == pytest.approx(50, rel=1e-6)
    along, across = (x, y) if grating == "GR150C" else (y, x)
    trace = along_dispersion(dispersed, grating)
    assert trace[across - 8 : across + 9].sum() == pytest.approx(50, rel=1e-6)
    # GR150R's offsets are within 6 pixels of the table, which is for GR150C.
    slack = 1 if grating == "GR150C" else 7
    profile = trace[across - 8 : across + 9].sum(axis=0)
    ranges = {
        "F115W": {1: (-172, -39), 0: (208, 214), 2: (-532, -291), -1: (467, 583)},
        "F200W": {1: (-268, -1), 0: (205, 213)},
        "F090W": {1: (-53, 47), 0: (213, 217), 2: (-316, -121), -1: (387, 481)},
    }[filter_name]
    fractions = {"F115W": (0.8, 0.1), "F200W": (0.82, 0.09), "F090W": (0.46, 0.09)}[filter_name]
    for order, (first, last) in ranges.items():
        inside = profile[along + first - slack : along + last + slack + 1].sum() / 50
        # In F200W the orders overlap.
        expected = fractions[0] if order == 1 else fractions[1] if order == 0 else None
        if expected and filter_name != "F200W":
            assert inside == pytest.approx(expected, abs=0.003)
        assert inside > 0.02


def test_order_fractions_add_up():
    for fractions in optics.ORDER_FRACTIONS.values():
        assert sum(fractions.values()) == pytest.approx(1)


def test_spectral_slope_moves_light_to_the_red_end_and_keeps_the_flux():
    npix = 256
    image = extended(npix)
    margin = optics.field_margin(npix)
    image[128 + margin, 160 + margin] = 1.0
    grey = optics.disperse(image, "GR150C", "F115W")
    red = optics.disperse(image, "GR150C", "F115W", sloped=0.5 * image)
    assert red.sum() == pytest.approx(grey.sum(), rel=1e-6)
    x = np.arange(npix)
    first = slice(160 - 24, 160 - 3)
    centre = [(i[:, first].sum(0) * x[first]).sum() / i[:, first].sum() for i in (grey, red)]
    # The red end of the first order is the one with the smaller x.
    assert centre[1] < centre[0] - 0.3


def test_light_from_outside_the_detector_enters_and_none_wraps_around():
    npix = 256
    margin = optics.field_margin(npix)
    along, _, _, fraction, order = optics.trace_samples("GR150C", "F115W", npix)
    for x in (npix + 10, npix // 2, -10):
        image = extended(npix)
        image[128 + margin, x + margin] = 1.0
        dispersed = optics.disperse(image, "GR150C", "F115W")
        on_detector = np.abs(x + along - (npix - 1) / 2) < npix / 2
        assert dispersed.sum() == pytest.approx(fraction[on_detector].sum(), abs=0.01)
        if x > npix:
            assert 0.1 < fraction[on_detector & (order == 1)].sum() < 0.8


@pytest.mark.parametrize("npix", [512, 2048])
def test_steps_are_where_the_mirror_ends(npix):
    background = optics.sky_background("GR150C", "F115W", npix)
    assert np.median(optics.science_pixels(background)) == pytest.approx(1, abs=1e-12)
    scale = npix / 2048
    # In the middle rows the tilt and the bend of the edge have little effect.
    profile = np.median(background[npix * 3 // 8 : npix * 5 // 8], axis=0)
    left = slice(round(20 * scale), round(150 * scale))
    step = np.argmax(np.gradient(profile)[left]) + left.start
    expected = (-optics.MIRROR_MARGIN + 211) * scale
    assert abs(step - expected) <= 6 * scale + 1
    before, after = profile[step - round(15 * scale) - 2], profile[step + round(15 * scale) + 2]
    assert 0.07 < after - before < 0.12


def test_spots_are_dark_where_they_should_be():
    npix = 2048
    spotted = optics.sky_background("GR150C", "F115W", npix)
    smooth = optics.sky_background("GR150C", "F115W", npix, clean=True)
    ratio = spotted / smooth
    largest = optics.coronagraphic_spots(npix)[-1]
    assert largest.diameter == pytest.approx(2.0 / optics.PIXEL_SCALE)
    y = round(largest.y)
    first = ratio[y, round(largest.x - 105)]
    assert 0.03 < 1 - first < 0.3
    assert ratio[y - 40, round(largest.x - 105)] == pytest.approx(1, abs=0.02)
    spots, edges = optics.near_features("GR150C", "F115W", npix)
    assert spots[y, round(largest.x - 105)]
    assert edges[npix // 2, 74]
    assert not edges[npix // 2, npix // 2]
    assert 0.005 < spots.mean() < 0.1


def test_colour_changes_the_shape_a_little():
    grey = optics.sky_background("GR150R", "F200W", 512)
    red = optics.sky_background("GR150R", "F200W", 512, 0.05)
    change = optics.science_pixels(red / grey)
    assert 1e-4 < change.std() < 2e-3


def test_instruments_differ_and_each_is_reproducible():
    one = optics.mirror_illumination(256, 1)
    optics.mirror_illumination.cache_clear()
    np.testing.assert_array_equal(one, optics.mirror_illumination(256, 1))
    assert np.abs(one - optics.mirror_illumination(256, 2)).max() > 0.01
    assert one.min() >= 0
    assert one.max() < 1.05


def test_clear_shows_the_mirror_itself():
    direct = optics.sky_background("CLEAR", "F115W", 2048)
    for spot in optics.coronagraphic_spots(2048):
        assert direct[round(spot.y), round(spot.x)] < 0.5


@pytest.mark.parametrize("npix", [128, 200, 256, 1024, 2048])
def test_detector_side_follows_from_the_extended_field(npix):
    image = np.ones((npix + 2 * optics.field_margin(npix),) * 2, np.float32)
    assert optics.disperse(image, "CLEAR", "F115W").shape == (npix, npix)
