import numpy as np
import pytest

from wfssbkg import stripes

SHAPE = (400, 600)


def stripes_of(rng, rms):
    return rms * rng.standard_normal((4, SHAPE[1]))


def sky(along_x, tilt=0.0):
    """Steps along the dispersion, vignetting, a tilted edge and a spot."""
    y, x = np.indices(SHAPE)
    along, across = (x, y) if along_x else (y, x)
    edge = SHAPE[1 if along_x else 0] // 3 + tilt * (across - across.mean())
    image = 1 + 0.05 / (1 + np.exp(-(along - edge) / 20)) - 1e-7 * (x - 300) ** 2
    image[np.hypot(x - 450, y - 150) < 12] -= 0.1
    return image


def test_stripes_of_an_exposure_are_the_mean_residuals():
    rng = np.random.default_rng(1)
    truth, sigma = stripes_of(rng, 0.003), 0.02
    residual = stripes.spread(truth, SHAPE[0]) + rng.normal(0, sigma, SHAPE)
    counts = rng.random(SHAPE) < 0.9
    residual[~counts] = 50
    found, information = stripes.of_exposure(residual, np.where(counts, sigma**-2.0, 0))
    assert np.std((found - truth) * np.sqrt(information)) == pytest.approx(1, abs=0.1)


def test_a_column_without_enough_pixels_has_no_stripe():
    weight = np.zeros(SHAPE)
    weight[:5] = 1
    found, information = stripes.of_exposure(np.ones(SHAPE), weight)
    assert not found.any()
    assert not information.any()


def test_what_stripes_have_in_common_does_not_follow_an_outlier():
    rng = np.random.default_rng(5)
    truth = stripes_of(rng, 0.002)
    weight = rng.uniform(0.5, 2, (9, *truth.shape)) * 0.001**-2
    found = truth + rng.normal(0, weight**-0.5)
    found[2, 1, 100:120] += 0.1  # light of a bright source
    mean, _ = stripes.common(found, weight)
    assert np.std(mean - truth) < 1.3 * 0.001 / 3
    assert not stripes.common(found, np.zeros_like(weight))[0].any()


def test_stripes_by_chance_are_as_large_as_the_mean_of_the_true_ones():
    rng = np.random.default_rng(6)
    true = rng.normal(0, 0.003, (16, 4, SHAPE[1]))
    weight = np.full(true.shape, 0.0001**-2)
    weight[8:] /= 4
    _, chance = stripes.common(true, weight)
    mean = (weight * true).sum(axis=0) / weight.sum(axis=0)
    assert np.std(chance) == pytest.approx(np.std(mean), rel=0.1)
    assert abs(np.corrcoef(chance.ravel(), mean.ravel())[0, 1]) < 0.2


@pytest.mark.parametrize("along_x", [True, False])
def test_error_that_stripes_leave_is_told(along_x):
    expected, told = [], []
    for seed in range(8):
        rng = np.random.default_rng(seed)
        image = sky(along_x) * (1 + rng.normal(0, 0.0005, SHAPE))
        true, chance = stripes_of(rng, 0.001), stripes_of(rng, 0.001)
        found = stripes.of_background(image * (1 + stripes.spread(true, SHAPE[0])), along_x=along_x)
        expected.append(np.std(true - found))
        clean = image * (1 + stripes.spread(true - found, SHAPE[0]))
        told.append(stripes.error_left(clean, chance, along_x=along_x))
    assert np.mean(told) == pytest.approx(np.mean(expected), rel=0.2)


@pytest.mark.parametrize("along_x", [True, False])
def test_offsets_of_the_amplifiers_show_at_their_borders(along_x):
    rng = np.random.default_rng(8)
    truth = np.array([[0.3], [-0.5], [0.4], [-0.2]]) * 0.002 * np.ones(SHAPE[1])
    truth[1] += 0.001 * np.linspace(-1, 1, SHAPE[1]) ** 3
    truth -= truth.mean(axis=0)
    image = sky(along_x) * (1 + stripes.spread(truth, SHAPE[0]) + rng.normal(0, 0.001, SHAPE))
    found = stripes.of_background(image, along_x=along_x)
    assert np.std(truth - found) < 0.35 * np.std(truth)


def test_structure_of_the_sky_at_a_border_is_no_step():
    """The image of the mirror's edge in the zeroth order is a few pixels wide."""
    y = np.arange(SHAPE[0])[:, np.newaxis]
    image = 1 + 0.1 / (1 + np.exp(-(y - 200) / 3)) + np.zeros(SHAPE)
    image += np.random.default_rng(9).normal(0, 0.003, SHAPE)
    found = stripes.of_background(image, along_x=False)
    assert np.abs(found.mean(axis=1)).max() < 5e-4


@pytest.mark.parametrize(("along_x", "left"), [(True, 0.8), (False, 0.4)])
def test_stripes_of_a_background_go_and_the_sky_stays(along_x, left):
    rng = np.random.default_rng(2)
    truth = stripes_of(rng, 0.001)
    image = sky(along_x) * (1 + stripes.spread(truth, SHAPE[0]) + rng.normal(0, 0.003, SHAPE))
    image[10, 10] = np.nan
    found = stripes.of_background(image, along_x=along_x)
    assert np.std(truth - found) < left * np.std(truth)


@pytest.mark.parametrize("along_x", [True, False])
def test_a_sky_without_stripes_is_left_alone(along_x):
    """Even where the edge of the mirror is tilted, and in front of a spot."""
    found = stripes.of_background(sky(along_x, tilt=0.01), along_x=along_x)
    assert np.abs(found).max() < 2e-4


def test_columns_without_data_have_no_stripes():
    image = sky(True)
    image[:, :8] = np.nan
    found = stripes.of_background(image, along_x=True)
    assert np.abs(found[:, :8]).max() < 1e-9
    assert np.isfinite(found).all()


@pytest.mark.parametrize("along_x", [True, False])
def test_a_background_without_data_has_no_stripes(along_x):
    assert not stripes.of_background(np.full(SHAPE, np.nan), along_x=along_x).any()
