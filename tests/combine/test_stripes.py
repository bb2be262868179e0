import numpy as np
import pytest

from wfssbkg.combine import stripes

SHAPE = (400, 600)


def stripes_of(rng, rms):
    return rms * rng.standard_normal((4, SHAPE[1]))


def test_stripes_of_an_exposure_are_the_mean_residuals():
    rng = np.random.default_rng(1)
    truth, sigma = stripes_of(rng, 0.003), 0.02
    residual = stripes.as_image(truth, SHAPE[0]) + rng.normal(0, sigma, SHAPE)
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


def test_what_stripes_share_does_not_follow_an_outlier():
    rng = np.random.default_rng(5)
    truth = stripes_of(rng, 0.002)
    weight = rng.uniform(0.5, 2, (9, *truth.shape)) * 0.001**-2
    found = truth + rng.normal(0, weight**-0.5)
    found[2, 1, 100:120] += 0.1  # light of a bright source
    mean = stripes.shared(found, weight)
    assert np.std(mean - truth) < 1.3 * 0.001 / 3
    assert not stripes.shared(found, np.zeros_like(weight)).any()
