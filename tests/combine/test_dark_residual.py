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
    found = dark_residual.fit(maps, weights, 1 - SKY, levels, apart(levels))
    assert abs(found.value - constant) < 5 * found.error
    assert found.error < 0.05


@pytest.mark.parametrize("number", [4, 12])
def test_its_error_is_what_it_scatters_by(number):
    """Also where a few exposures of a low level tell nearly all."""
    off = []
    for seed in range(40):
        rng = np.random.default_rng(seed)
        maps, weights, levels = exposures(rng, 0.003, number=number)
        found = dark_residual.fit(maps, weights, 1 - SKY, levels, apart(levels))
        off.append((found.value - 0.003) / found.error)
    assert np.sqrt(np.mean(np.square(off))) == pytest.approx(1, abs=0.3)
    assert np.abs(off).max() < 3.5


def test_extra_light_of_some_exposures_does_not_count():
    rng = np.random.default_rng(3)
    maps, weights, levels = exposures(rng, 0.005)
    without = dark_residual.fit(maps, weights, 1 - SKY, levels, apart(levels))
    maps[::3, 10:14, 5:25] += 0.01
    maps[1, 20:, 28:] += 0.1
    found = dark_residual.fit(maps, weights, 1 - SKY, levels, apart(levels))
    assert found.value == pytest.approx(0.005, abs=4 * found.error)
    assert found.error < 2 * without.error


def test_dithers_of_a_field_that_are_wrong_alike_tell_no_more_than_one():
    rng = np.random.default_rng(8)
    one = exposures(rng, 0.004, number=8)
    for place in range(8):
        one[0][place] += 0.01 * rng.standard_normal() * (1 - SKY)
    thrice = [np.repeat(each, 3, axis=0) for each in one]
    groups = [[3 * field, 3 * field + 1, 3 * field + 2] for field in range(8)]
    expected = dark_residual.fit(*one[:2], 1 - SKY, one[2], apart(one[2]))
    found = dark_residual.fit(*thrice[:2], 1 - SKY, thrice[2], groups)
    np.testing.assert_allclose(found, expected, rtol=0.02)
    alone = dark_residual.fit(*thrice[:2], 1 - SKY, thrice[2], apart(thrice[2]))
    assert alone.error < 0.7 * found.error


def test_boxes_that_do_not_count_may_hold_anything():
    rng = np.random.default_rng(4)
    maps, weights, levels = exposures(rng, 0.005)
    weights = weights * (rng.random(weights.shape) < 0.8)
    sky = np.where(rng.random(SHAPE) < 0.1, np.nan, SKY)
    one = dark_residual.fit(maps, weights, 1 - sky, levels, apart(levels))
    other = dark_residual.fit(
        np.where(weights > 0, maps, 99), weights, 1 - sky, levels, apart(levels)
    )
    assert one.value == pytest.approx(0.005, abs=4 * one.error)
    assert one.error < 0.01
    np.testing.assert_allclose(other, one, rtol=1e-6)


@pytest.mark.parametrize("dark", [0.01, -0.01])
def test_where_the_sky_is_fainter_a_positive_constant_shows_as_light(dark):
    """From an exposure as the pixels see it: a sky and a constant, and its level fitted to both."""
    levels = np.array([0.3, 0.6, 1.2])
    maps = np.array([(level * SKY + dark) / (level + dark) - SKY for level in levels])
    found = dark_residual.fit(maps, np.ones(maps.shape), 1 - SKY, levels + dark, apart(levels))
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
    found = dark_residual.fit(maps, np.full(maps.shape, NOISE**-2), 1 - sky, levels, apart(levels))
    assert found == dark_residual.DarkResidual()
    assert found.value == 0
    assert np.isinf(found.error)


def test_hardly_different_levels_give_a_large_error():
    rng = np.random.default_rng(7)
    maps, weights, levels = exposures(rng, 0.0, low=0.7, high=0.701)
    assert dark_residual.fit(maps, weights, 1 - SKY, levels, apart(levels)).error > 0.05


# ---- the flat field's imprint

SIDE = 128  # px
FLAT = 1 + 0.014 * np.random.default_rng(1).standard_normal((SIDE, SIDE), dtype=np.float32)
GRADIENT = 1 + 0.2 * np.linspace(-1, 1, SIDE)  # of the sky


def exposure(rng, level, constant, *, wrong=0.0, noise=0.01):
    """An exposure divided by a flat field that is wrong, with 1/f noise of its columns."""
    light = level * GRADIENT * FLAT + constant + 0.01 * rng.standard_normal(SIDE)
    return (light + noise * rng.standard_normal(FLAT.shape)) / (FLAT * (1 + wrong))


def imprints(rng, constant, levels, *, wrong=0.0, **options):
    wrong = wrong * rng.standard_normal(FLAT.shape)
    inverse, sky = 1 / (FLAT * (1 + wrong)), np.ones(FLAT.shape, dtype=bool)
    seen = [exposure(rng, level, constant, wrong=wrong, **options) for level in levels]
    return [dark_residual.imprint(sci, sky, inverse) for sci in seen]


@given(
    constant=st.floats(-0.05, 0.05),
    number=st.integers(6, 24),
    wrong=st.sampled_from([0.0, 0.002]),
    seed=st.integers(0, 2**32 - 1),
)
@settings(max_examples=20)
def test_imprints_tell_a_constant_whatever_the_sky_and_the_error_of_the_flat_field(
    constant, number, wrong, seed
):
    rng = np.random.default_rng(seed)
    levels = np.linspace(0.2, 1.2, number)
    found = dark_residual.of_imprints(imprints(rng, constant, levels, wrong=wrong), levels)
    assert abs(found.value - constant) < 7 * found.error  # of four degrees of freedom and more
    assert found.error < 0.02


def test_the_error_of_an_imprint_is_what_it_scatters_by():
    rng = np.random.default_rng(2)
    found = imprints(rng, 0.01, np.zeros(60))
    off = [(each.value - 0.01) / each.error for each in found]
    assert np.std(off) == pytest.approx(1, abs=0.25)
    assert abs(np.mean(off)) < 0.4


def test_the_error_of_the_flat_field_alone_would_pass_for_a_constant():
    rng, levels = np.random.default_rng(3), np.linspace(0.3, 1.2, 12)
    found = imprints(rng, 0.0, levels, wrong=0.005, noise=0.001)
    assert min(each.value for each in found) > 0.01
    assert dark_residual.of_imprints(found, levels).value == pytest.approx(0, abs=0.005)


def test_pixels_that_are_masked_or_have_a_dark_current_of_their_own_do_not_count():
    rng = np.random.default_rng(4)
    sci, counts = exposure(rng, 0.5, 0.02), rng.random(FLAT.shape) > 0.1
    without = dark_residual.imprint(sci, counts, 1 / FLAT)
    sci[~counts] = np.where(rng.random(np.sum(~counts)) > 0.5, 99, np.nan)
    sci[10:100:10, 5:100:9] += 5 * (1 / FLAT > 1)[10:100:10, 5:100:9]
    found = dark_residual.imprint(sci, counts, 1 / FLAT)
    assert found.value == pytest.approx(without.value, abs=without.error)


@pytest.mark.parametrize(
    ("counts", "inverse"),
    [
        pytest.param(np.zeros(FLAT.shape, dtype=bool), 1 / FLAT, id="no sky"),
        pytest.param(np.ones(FLAT.shape, dtype=bool), np.ones_like(FLAT), id="no flat field"),
    ],
)
def test_where_nothing_makes_an_imprint_it_tells_nothing(counts, inverse):
    sci = exposure(np.random.default_rng(5), 0.5, 0.02)
    assert dark_residual.imprint(sci, counts, inverse) == dark_residual.Imprint()


def test_imprints_of_one_level_or_of_few_exposures_tell_no_constant():
    nothing = dark_residual.DarkResidual()
    known = [dark_residual.Imprint(0.01 * k, 0.001) for k in range(6)]
    assert dark_residual.of_imprints(known, np.full(6, 0.5)) == nothing
    assert dark_residual.of_imprints(known[:3], np.array([0.3, 0.5, 0.9])) == nothing
    unknown = [dark_residual.Imprint()] * 6
    assert dark_residual.of_imprints(unknown, np.linspace(0.3, 1, 6)) == nothing


def test_the_mean_of_what_is_measured_is_weighted():
    one, other = dark_residual.DarkResidual(1.0, 0.1), dark_residual.DarkResidual(2.0, 0.2)
    unknown = dark_residual.DarkResidual()
    assert dark_residual.mean([one, other]).value == pytest.approx(1.2)
    assert dark_residual.mean([one, other]).error == pytest.approx(0.2 / np.sqrt(5))
    assert dark_residual.mean([one, unknown]) == pytest.approx(one)
    assert dark_residual.mean([unknown, unknown]) == unknown
