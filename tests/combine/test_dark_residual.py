"""What the subtraction of the dark left, told from maps of exposures with a known constant."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wfssbkg.combine import dark_residual
from wfssbkg.detector import AMPLIFIERS, amplifier_of

SHAPE = (32, 32)  # boxes of a full frame
NOISE = 0.002  # DN/s, of a box
Y, X = np.mgrid[:32, :32] / 31 - 0.5
SKY = 1 + 0.02 * np.cos(4 * X) * Y - 0.2 * (X > 0.4) - 0.1 * (Y > 0.3)  # edges of the mirror


def exposures(rng, constant, *, number=12, low=0.3, high=1.5, noise=NOISE, stripes=0.003):
    """Maps of exposures that differ from the background, their weights and their levels."""
    levels = np.exp(rng.uniform(np.log(low), np.log(high), number))
    over = levels[:, None, None]
    wrong = 0.01 * X * Y  # the error of the background, in all of them
    maps = wrong + constant * (1 - SKY) / over + rng.normal(0, noise, (number, *SHAPE)) / over
    columns = stripes * rng.standard_normal((number, AMPLIFIERS, SHAPE[1]))
    maps += columns[:, amplifier_of(SHAPE[0])] / over
    return maps, np.broadcast_to((over / noise) ** 2, maps.shape), levels


def apart(levels):
    """As if each exposure were a field of its own."""
    return [[number] for number in range(len(levels))]


@given(
    constant=st.floats(-0.02, 0.02),
    number=st.integers(4, 24),
    stripes=st.floats(0, 0.01),
    seed=st.integers(0, 2**32 - 1),
)
@settings(max_examples=20)
def test_a_constant_is_found_to_its_error(constant, number, stripes, seed):
    rng = np.random.default_rng(seed)
    maps, weights, levels = exposures(rng, constant, number=number, stripes=stripes)
    found = dark_residual.fit(maps, weights, SKY, levels, apart(levels))
    assert abs(found.value - constant) < 5 * found.error
    assert found.error < 0.05


@pytest.mark.parametrize("number", [4, 12])
def test_its_error_is_what_it_scatters_by(number):
    """Also where a few exposures of a low level tell nearly all."""
    off = []
    for seed in range(40):
        rng = np.random.default_rng(seed)
        maps, weights, levels = exposures(rng, 0.003, number=number)
        found = dark_residual.fit(maps, weights, SKY, levels, apart(levels))
        off.append((found.value - 0.003) / found.error)
    assert np.sqrt(np.mean(np.square(off))) == pytest.approx(1, abs=0.3)
    assert np.abs(off).max() < 3.5


def test_extra_light_of_some_exposures_does_not_count():
    rng = np.random.default_rng(3)
    maps, weights, levels = exposures(rng, 0.005)
    without = dark_residual.fit(maps, weights, SKY, levels, apart(levels))
    maps[::3, 10:14, 5:25] += 0.01
    maps[1, 20:, 28:] += 0.1
    found = dark_residual.fit(maps, weights, SKY, levels, apart(levels))
    assert found.value == pytest.approx(0.005, abs=4 * found.error)
    assert found.error < 2 * without.error


def test_dithers_of_a_field_that_are_wrong_alike_tell_no_more_than_one():
    rng = np.random.default_rng(8)
    one = exposures(rng, 0.004, number=8)
    for place in range(8):
        one[0][place] += 0.01 * rng.standard_normal() * (1 - SKY)
    thrice = [np.repeat(each, 3, axis=0) for each in one]
    groups = [[3 * field, 3 * field + 1, 3 * field + 2] for field in range(8)]
    expected = dark_residual.fit(*one[:2], SKY, one[2], apart(one[2]))
    found = dark_residual.fit(*thrice[:2], SKY, thrice[2], groups)
    np.testing.assert_allclose(found, expected, rtol=0.02)
    alone = dark_residual.fit(*thrice[:2], SKY, thrice[2], apart(thrice[2]))
    assert alone.error < 0.7 * found.error


def test_boxes_that_do_not_count_may_hold_anything():
    rng = np.random.default_rng(4)
    maps, weights, levels = exposures(rng, 0.005)
    weights = weights * (rng.random(weights.shape) < 0.8)
    sky = np.where(rng.random(SHAPE) < 0.1, np.nan, SKY)
    one = dark_residual.fit(maps, weights, sky, levels, apart(levels))
    other = dark_residual.fit(np.where(weights > 0, maps, 99), weights, sky, levels, apart(levels))
    assert one.value == pytest.approx(0.005, abs=4 * one.error)
    assert one.error < 0.01
    np.testing.assert_allclose(other, one, rtol=1e-6)


@pytest.mark.parametrize("dark", [0.01, -0.01])
def test_where_the_sky_is_fainter_a_positive_constant_shows_as_light(dark):
    """From an exposure as the pixels see it: a sky and a constant, and its level fitted to both."""
    levels = np.array([0.3, 0.6, 1.2])
    maps = np.array([(level * SKY + dark) / (level + dark) - SKY for level in levels])
    found = dark_residual.fit(maps, np.ones(maps.shape), SKY, levels + dark, apart(levels))
    assert found.value == pytest.approx(dark, rel=1e-3)


@pytest.mark.parametrize(
    ("sky", "levels"),
    [
        pytest.param(SKY, [0.7] * 6, id="levels are equal"),
        pytest.param(np.ones(SHAPE), np.linspace(0.3, 1, 6), id="the sky is flat"),
        pytest.param(np.full(SHAPE, 0.97), np.linspace(0.3, 1, 6), id="the sky is flat, not 1"),
        pytest.param(SKY, [0.3, 1.0], id="two exposures"),
    ],
)
def test_where_nothing_tells_it_the_error_is_infinite(sky, levels):
    rng, levels = np.random.default_rng(6), np.asarray(levels)
    maps = rng.normal(0, NOISE, (len(levels), *SHAPE))
    found = dark_residual.fit(maps, np.full(maps.shape, NOISE**-2), sky, levels, apart(levels))
    assert found == dark_residual.DarkResidual()
    assert found.value == 0
    assert np.isinf(found.error)


def test_hardly_different_levels_give_a_large_error():
    rng = np.random.default_rng(7)
    maps, weights, levels = exposures(rng, 0.0, low=0.7, high=0.701)
    assert dark_residual.fit(maps, weights, SKY, levels, apart(levels)).error > 0.05
