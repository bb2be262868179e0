"""What exposures have on large scales over one another, told from maps with known answers."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wfssbkg.combine import bins, extra_light
from wfssbkg.detector import AMPLIFIERS, amplifier_of

SHAPE = (32, 32)  # boxes of a full frame
NOISE = 0.001  # of a box, in units of the level
STRONG = 0.01
# Standard deviation of white noise of 1 after the smoothing of maps.
SMOOTHED = 1 / (np.sqrt(4 * np.pi) * 0.7)
Y, X = np.mgrid[:32, :32] / 31 - 0.5
BAND = np.exp(-0.5 * ((Y - 0.1 + 0.2 * X) / 0.1) ** 2)


def found(maps, *, noise=NOISE, strong=STRONG):
    return extra_light.find(maps, np.full(maps.shape, noise**-2.0), strong=strong)


def noisy(rng, number, *, noise=NOISE):
    return rng.normal(0, noise, (number, *SHAPE))


@given(number=st.integers(6, 40), deepest=st.floats(0.5, 1), seed=st.integers(0, 2**32 - 1))
@settings(max_examples=20)
def test_the_least_light_of_pure_noise_is_its_mean(number, deepest, seed):
    """As nearly as the clip allows: of few exposures, the lowest of them pull it down."""
    rng = np.random.default_rng(seed)
    sigma = deepest ** rng.uniform(-1, 1, (number, 1))
    values = rng.normal(0, sigma, (number, 4000))
    variance = np.broadcast_to(sigma**2, values.shape)
    least = extra_light.least_light(values, variance)
    best = np.sum(sigma**-2.0) ** -0.5  # the error of the weighted mean
    assert abs(least.mean()) < 3 / number * best + 4 * best / np.sqrt(4000)
    assert np.std(least) < (1.15 + 4 / number) * best


@given(
    number=st.integers(9, 40),
    brightness=st.floats(6, 1000),
    seed=st.integers(0, 2**32 - 1),
)
@settings(max_examples=20)
def test_the_least_light_does_not_follow_a_third_of_the_exposures(number, brightness, seed):
    rng = np.random.default_rng(seed)
    values = rng.normal(0, 1, (number, 2000))
    lit = number // 3
    values[:lit] += brightness
    least = extra_light.least_light(values, np.ones(values.shape))
    best = (number - lit) ** -0.5
    assert abs(least.mean()) < 0.25 * best
    assert np.std(least) < 1.4 * best


@pytest.mark.parametrize("lit", [0, 4, 5])
def test_light_that_some_exposures_have_is_told_from_what_all_share(lit):
    """The error of the background is in all of them, a band of light in up to two in five."""
    rng, number = np.random.default_rng(lit), 12
    shared = 0.01 * (X + Y * X) + 0.002 * np.sign(X)
    light = np.zeros((number, *SHAPE))
    light[:lit] = rng.uniform(0.004, 0.008, (lit, 1, 1)) * BAND
    level = rng.normal(0, 0.003, number)
    maps = noisy(rng, number) + shared + light + level[:, None, None]
    result = found(maps)
    extra, offset = result.extra, result.level
    # What is left of each exposure without its extra light and its offset is what all share.
    clean = maps - extra - offset[:, None, None]
    common = np.median(clean, axis=0) - np.median(clean) - shared + np.median(shared)
    clean_error = SMOOTHED * NOISE / np.sqrt(number)
    _, of_band = np.polyfit(BAND.ravel(), common.ravel(), 1)[::-1]
    assert abs(of_band) < 6 * clean_error
    inner = np.s_[:, 2:-2, 2:-2]
    off = (extra - light)[inner]
    off -= np.median(off, axis=(1, 2), keepdims=True)
    assert np.std(off) < 1.5 * SMOOTHED * NOISE
    offsets = offset - level
    np.testing.assert_allclose(offsets, np.median(offsets), atol=5e-4)
    assert not np.isnan(extra).any()


def test_levels_are_not_moved_by_light():
    """In a quarter of the frame, in a third of the exposures."""
    rng = np.random.default_rng(7)
    light = np.zeros((12, *SHAPE))
    light[::3] = 0.02 * np.exp(-0.5 * (Y / 0.08) ** 2)
    level = found(noisy(rng, 12) + light).level
    assert np.abs(level - np.median(level)).max() < 3e-4


def test_strong_light_is_not_known_and_the_wings_around_it_are():
    rng = np.random.default_rng(3)
    maps = noisy(rng, 9)
    maps[4] += 0.05 * BAND
    extra = found(maps).extra
    strong = np.isnan(extra)
    assert not np.delete(strong, 4, axis=0).any()
    assert strong[4][BAND > 0.3].all()
    assert not strong[4][BAND < 0.1].any()
    fainter = (BAND > 0.05) & (BAND < 0.15)
    np.testing.assert_allclose(extra[4][fainter], 0.05 * BAND[fainter], atol=0.0035)


@pytest.mark.parametrize("depth", [0.01, 0.05])
def test_a_dip_of_one_exposure_is_not_the_least_light(depth):
    """As cleaning leaves beside a bright source: the others do not have more there."""
    maps = noisy(np.random.default_rng(4), 12)
    dip = (np.abs(X) < 0.125) & (np.abs(Y) < 0.125)
    maps[3][dip] -= depth
    result = found(maps)
    others = np.delete(result.extra, 3, axis=0)
    assert np.abs(others).max() < 6 * SMOOTHED * NOISE
    assert np.median(result.extra[3][dip]) == pytest.approx(-depth, rel=0.2)
    assert result.missing[3] > 4 * np.median(result.missing)


def test_noise_beyond_the_limit_for_strong_light_is_not_left_out():
    """Of a shallow exposure: what is not significant is no light."""
    rng = np.random.default_rng(5)
    maps, weights = noisy(rng, 9), np.full((9, *SHAPE), NOISE**-2)
    maps[2], weights[2] = rng.normal(0, 0.02, SHAPE), 0.02**-2
    extra = extra_light.find(maps, weights, strong=STRONG).extra
    assert not np.isnan(extra).any()


@pytest.mark.parametrize("slope", [pytest.param(X, id="x"), pytest.param(Y, id="y")])
def test_a_slope_is_missing_light_and_1_over_f_noise_of_an_amplifier_is_not(slope):
    rng = np.random.default_rng(11)
    maps = noisy(rng, 12)
    stripes = 0.02 * rng.standard_normal((AMPLIFIERS, SHAPE[1]))
    stripes -= np.median(stripes, axis=1)[:, np.newaxis]
    maps[1, amplifier_of(32) == 2] += stripes[2]
    maps[3] += 0.05 * slope
    maps[5] += 0.05 * BAND
    missing = found(maps).missing
    usual = np.median(missing)
    assert usual == pytest.approx(SMOOTHED * NOISE, rel=0.3)
    # Half of a slope is below its middle: as if there were as much above, 0.05 / sqrt(12).
    assert missing[3] == pytest.approx(0.05 / np.sqrt(12), rel=0.25)
    assert missing[1] < 0.1 * 0.02  # of the stripes; some leaves the amplifier by the smoothing
    assert missing[5] < 2 * usual


def test_boxes_without_data_tell_nothing():
    rng = np.random.default_rng(13)
    maps, weights = noisy(rng, 6), np.full((6, *SHAPE), NOISE**-2)
    maps[0, :8], weights[0, :8] = 0, 0
    weights[:, 20:26, 20:26] = 0
    result = extra_light.find(maps, weights, strong=STRONG)
    assert np.isfinite(result.extra).all()
    assert np.isfinite(result.level).all()
    assert np.isfinite(result.missing).all()
    assert not result.extra[0, :6].any()
    nothing = extra_light.find(maps, np.zeros_like(weights), strong=STRONG)
    assert not nothing.extra.any()
    assert not nothing.level.any()


def test_a_single_exposure_has_no_extra_light():
    rng = np.random.default_rng(14)
    assert np.abs(found(noisy(rng, 1) + 0.05 * BAND).extra).max() < 0.1 * NOISE


def test_a_map_has_means_of_boxes_with_enough_data():
    rng, box = np.random.default_rng(15), (8, 4)
    mean = rng.normal(0, 0.1, (6, 5))
    residual = bins.repeated(mean, box) + rng.normal(0, 0.01, (48, 20))
    weight = np.where(rng.random(residual.shape) < 0.8, 0.01**-2, 0)
    weight[:8, :4] = 0
    weight[1, 1] = 0.01**-2  # one of 32 is too few
    residual[weight == 0] = 99
    image, information = extra_light.map_of(residual, weight, box)
    assert image[0, 0] == information[0, 0] == 0
    known = information > 0
    assert known.sum() == 29
    assert np.std((image - mean)[known] * np.sqrt(information[known])) == pytest.approx(1, abs=0.3)


def test_large_scale_structure_is_followed_and_its_sources_are_not():
    rng, box = np.random.default_rng(16), (16, 16)
    y, x = np.indices((256, 256)) / 255 - 0.5
    truth = 0.1 * np.sin(4 * x) * np.cos(3 * y)
    residual = truth + rng.normal(0, 0.02, truth.shape)
    weight = np.full(truth.shape, 0.02**-2)
    residual[rng.random(truth.shape) < 0.05] = 3  # sources that are not masked
    weight[40:80, 100:160] = 0
    residual[40:80, 100:160] = 99
    smooth = extra_light.large_scale(residual, weight, box)
    error = (smooth - truth)[16:-16, 16:-16]
    assert np.abs(error).max() < 0.02
    assert np.sqrt(np.mean(error**2)) < 0.005


def test_large_scale_structure_may_jump_from_one_amplifier_to_the_next():
    jumps = np.repeat([0.1, -0.1, 0.3, 0.0], 32)[:, np.newaxis]
    residual = jumps + np.zeros((128, 128))
    smooth = extra_light.large_scale(residual, np.ones(residual.shape), (16, 16))
    np.testing.assert_allclose(smooth, residual, atol=1e-6)


@given(
    rows=st.integers(1, 8),
    columns=st.integers(1, 8),
    box=st.tuples(st.sampled_from([1, 2, 8]), st.sampled_from([1, 4])),
    cuts=st.tuples(st.integers(0, 64), st.integers(0, 64)),
    seed=st.integers(0, 2**32 - 1),
)
def test_rows_of_an_enlarged_map_are_those_of_the_whole(rows, columns, box, cuts, seed):
    rng = np.random.default_rng(seed)
    image = rng.normal(0, 0.1, (rows, columns))
    shape = rows * box[0], columns * box[1]
    some = slice(*sorted(cuts))
    whole = extra_light.enlarged(image, shape)
    assert whole.shape == shape
    assert whole.min() >= image.min() - 1e-6
    assert whole.max() <= image.max() + 1e-6
    np.testing.assert_allclose(extra_light.enlarged(image, shape, some), whole[some], atol=1e-7)
    image[rng.random(image.shape) < 0.3] = np.nan
    whole = extra_light.image_of(image, shape, slice(None))
    part = extra_light.image_of(image, shape, some)
    np.testing.assert_allclose(part, whole[some], atol=1e-7)
    np.testing.assert_array_equal(np.isnan(whole), bins.repeated(np.isnan(image), box))


def test_an_enlarged_map_is_linear_between_the_middles_of_its_boxes():
    image = 0.1 * np.arange(5)[:, np.newaxis] + 0.01 * np.arange(3)
    large = extra_light.enlarged(image, (40, 12))
    middles = large[11:35:8] + large[12:36:8]
    np.testing.assert_allclose(middles[:, 5:7].mean(axis=1) / 2, image[1:4, 1], atol=1e-6)
    np.testing.assert_allclose(np.diff(large[4:36, 5]), 0.1 / 8, atol=1e-6)
    np.testing.assert_allclose(np.diff(large[5, 2:10]), 0.01 / 4, atol=1e-6)
    np.testing.assert_allclose(np.diff(large[:4, 5]), 0, atol=1e-6)  # at the edges as in the box
