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


# First and last offset of the orders along the dispersion (GRISMCONF V5, at half transmission).
RANGES = {
    "F115W": {1: (-50, 8), 0: (214, 216), 2: (-300, -221), 3: (-559, -442), -1: (442, 482)},
    "F200W": {1: (-256, -154), 0: (206, 209), 2: (-754, -484), -1: (576, 713)},
    "F090W": {1: (7, 55), 0: (215, 217), 2: (-224, -155)},
}


@pytest.mark.parametrize(("grating", "filter_name"), COMBINATIONS)
def test_point_source_lands_in_its_orders_and_keeps_its_flux(grating, filter_name):
    npix = 2048
    image = extended(npix)
    # From this place all orders fall on the detector.
    x, y, margin = 1300, 1290, optics.field_margin(npix)
    image[y + margin, x + margin] = 50.0
    dispersed = optics.disperse(image, grating, filter_name)
    assert dispersed.sum() == pytest.approx(50, rel=1e-6)
    along, across = (x, y) if grating == "GR150C" else (y, x)
    trace = along_dispersion(dispersed, grating)[across - 8 : across + 9].sum(axis=0)
    assert trace.sum() == pytest.approx(50, rel=1e-6)
    fractions = optics.order_fractions(filter_name)
    for order, (first, last) in RANGES[filter_name].items():
        inside = trace[along + first - 1 : along + last + 2].sum() / 50
        # What is outside is in the soft edges of the band.
        assert 0.9 * fractions[order] < inside < 1.001 * fractions[order]


@pytest.mark.parametrize("filter_name", optics.FILTERS)
def test_orders_share_all_light_and_most_is_in_the_first(filter_name):
    fractions = optics.order_fractions(filter_name)
    assert sum(fractions.values()) == pytest.approx(1)
    assert max(fractions, key=fractions.get) == 1
    assert fractions[0] >= 0.0999 * fractions[1]
    for grating in ("GR150C", "GR150R"):
        _, _, wavelength, light, order = optics.trace_samples(grating, filter_name, 256)
        assert np.sum(light * wavelength) == pytest.approx(0, abs=1e-12)
        assert 1.9 < np.ptp(wavelength) <= 2
        for number, fraction in fractions.items():
            assert light[order == number].sum() == pytest.approx(fraction)


def test_medium_bands_are_parts_of_the_wide_one():
    def reach(filter_name):
        along, *_, order = optics.trace_samples("GR150C", filter_name, 2048)
        return along[order == 1].min(), along[order == 1].max()

    wide, blue, red = map(reach, ("F150W", "F140M", "F158M"))
    assert wide[0] < red[0] < red[1] < blue[0] < blue[1] < wide[1]


@pytest.mark.parametrize("grating", ["GR150C", "GR150R"])
def test_a_turned_grism_turns_the_traces_about_the_source(grating):
    def places(rotation):
        along, across, *_ = optics.trace_samples(grating, "F115W", 2048, rotation)
        return along + 1j * across if grating == "GR150C" else across + 1j * along

    turned = places(0.3) * np.exp(-1j * np.radians(0.3))
    np.testing.assert_allclose(turned, places(0), atol=1e-9)


def test_spectral_slope_moves_light_to_the_red_end_and_keeps_the_flux():
    npix = 256
    image = extended(npix)
    margin = optics.field_margin(npix)
    image[128 + margin, 160 + margin] = 1.0
    grey = optics.disperse(image, "GR150C", "F115W")
    red = optics.disperse(image, "GR150C", "F115W", sloped=0.5 * image)
    assert red.sum() == pytest.approx(grey.sum(), rel=1e-6)
    x = np.arange(npix)
    first = slice(160 - 12, 160 + 6)
    centre = [(i[:, first].sum(0) * x[first]).sum() / i[:, first].sum() for i in (grey, red)]
    # The red end of the first order is the one with the smaller x.
    assert centre[1] < centre[0] - 0.2


def test_light_from_outside_the_detector_enters_and_none_wraps_around():
    npix = 256
    margin = optics.field_margin(npix)
    along, _, _, fraction, order = optics.trace_samples("GR150C", "F115W", npix)
    for x in (npix + 2, npix // 2, -10):
        image = extended(npix)
        image[128 + margin, x + margin] = 1.0
        dispersed = optics.disperse(image, "GR150C", "F115W")
        on_detector = np.abs(x + along - (npix - 1) / 2) < npix / 2
        assert dispersed.sum() == pytest.approx(fraction[on_detector].sum(), abs=0.01)
        if x > npix:
            assert 0.1 < fraction[on_detector & (order == 1)].sum() < 0.8


def test_steps_are_where_the_mirror_ends():
    """Tilted as the mirror: of each order, from the first column to the last one it reaches."""
    steps = {5: 50, 233: 317, 1612: 1773, 1871: 1995}
    background = optics.sky_background("GR150C", "F115W", 2048, clean=True)
    assert np.median(optics.science_pixels(background)) == pytest.approx(1, abs=1e-12)
    change = np.abs(np.gradient(background, axis=1))
    within = np.zeros(2048, bool)
    for first, last in steps.items():
        within[max(first - 10, 0) : last + 11] = True
    within[:4] = within[-4:] = True
    assert change[:, ~within].max() < 1.5e-4  # the smooth vignetting
    # Zeroth order: at the bottom its step is at the left end of its range, at the top at the right.
    for row, column in ((4, 5), (2043, 50)):
        assert abs(np.argmax(change[row, :80]) - column) <= 4
        before, after = background[row, max(column - 10, 0)], background[row, column + 12]
        assert 0.07 < after - before < 0.1
    second = background[:, 1871] - background[:, 1996]
    assert 0.03 < np.median(second) < 0.06


def test_top_rows_of_the_other_grism_have_a_quarter_of_the_light():
    background = optics.sky_background("GR150R", "F200W", 2048)
    assert 0.15 < np.median(background[2020:2040]) < 0.3
    assert np.median(background[1930:1950]) > 0.5
    assert np.median(background[1850:1870]) > 0.9


def test_small_frames_show_the_same_instrument():
    full = optics.sky_background("GR150R", "F200W", 2048, clean=True)
    small = optics.sky_background("GR150R", "F200W", 512, clean=True)
    blocks = full.reshape(512, 4, 512, 4).mean(axis=(1, 3))
    assert np.abs(blocks / small - 1)[8:-8, 8:-8].mean() < 0.005


def test_spots_are_dark_where_they_should_be():
    npix = 2048
    spotted = optics.sky_background("GR150C", "F115W", npix)
    smooth = optics.sky_background("GR150C", "F115W", npix, clean=True)
    ratio = spotted / smooth
    largest = optics.coronagraphic_spots(npix)[-1]
    assert largest.diameter == pytest.approx(2.0 / optics.PIXEL_SCALE)
    y = round(largest.y)
    x = round(largest.x - 25)  # the middle of the first order
    first = ratio[y, x]
    assert 0.2 < 1 - first < 0.6
    assert ratio[y - 40, x] == pytest.approx(1, abs=0.02)
    spots, edges = optics.near_features("GR150C", "F115W", npix)
    assert spots[y, x]
    # The left edge of the zeroth order is tilted.
    assert edges[100, 7]
    assert edges[1950, 48]
    assert not edges[npix // 2, npix // 2]
    assert 0.005 < spots.mean() < 0.1


def test_colour_changes_the_shape_a_little():
    grey = optics.sky_background("GR150R", "F200W", 512)
    red = optics.sky_background("GR150R", "F200W", 512, 0.25)
    change = optics.science_pixels(red / grey)
    assert 1e-3 < change.std() < 3e-3


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
