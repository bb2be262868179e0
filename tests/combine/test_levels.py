import numpy as np
import pytest
from astropy.stats import sigma_clipped_stats

from wfssbkg.combine import levels
from wfssbkg.errors import StepError


def test_level_is_the_clipped_median_of_the_unmasked_inner_pixels():
    rng = np.random.default_rng(3)
    sci = rng.normal(0.7, 0.02, (100, 120)).astype(np.float32)
    masked = np.zeros(sci.shape, dtype=bool)
    sci[40:60], masked[40:60] = 50, True
    sci[:10] = -3
    level = levels.sky_level(sci, masked, border=(10, 10), sigma=3)
    expected = sigma_clipped_stats(
        sci[10:-10, 10:-10][~masked[10:-10, 10:-10]].astype(float), sigma=3
    )[1]
    assert level == pytest.approx(expected, rel=1e-12)
    assert level == pytest.approx(0.7, abs=0.002)


@pytest.mark.parametrize("border", [50, 60])
def test_level_of_no_pixels_is_an_error(border):
    with pytest.raises(StepError, match="no unmasked pixel is inside"):
        none = np.zeros((100, 100), bool)
        levels.sky_level(np.ones((100, 100)), none, border=(border, border), sigma=3)


def test_level_below_zero_is_an_error():
    with pytest.raises(StepError, match="expected above 0"):
        levels.sky_level(-np.ones((9, 9)), np.zeros((9, 9), bool), border=(0, 0), sigma=3)


def test_fitted_level_is_right_whatever_the_background_looks_like():
    rng = np.random.default_rng(8)
    background = 1 + 0.1 * rng.random((100, 120))
    background[0, 0] = np.nan
    err = rng.uniform(0.01, 0.05, background.shape)
    sci = 0.7 * background + rng.normal(0, err)
    counts = rng.random(background.shape) < 0.8
    sci[~counts] = 99
    sci[50] += 5  # a trace that the mask missed
    weight = np.where(counts, err**-2.0, 0)
    assert levels.fit_level(sci, weight, background) == pytest.approx(0.7, abs=0.001)


def test_pixels_count_by_their_noise_when_the_level_is_fitted():
    background = np.linspace(0.9, 1.1, 600)
    err = np.where(np.arange(600) < 300, 0.01, 0.1)
    y = background * np.where(err < 0.05, 0.70, 0.72)
    squares = [(err[part] ** -2 * background[part] ** 2).sum() for part in np.split(np.r_[:600], 2)]
    expected = np.average([0.70, 0.72], weights=squares)
    assert expected < 0.7005
    assert levels.fit_level(y, err**-2, background) == pytest.approx(expected, abs=1e-6)


def test_fitted_level_of_no_pixels_is_an_error():
    with pytest.raises(StepError, match="no unmasked pixel is left"):
        levels.fit_level(np.ones((9, 9)), np.zeros((9, 9)), np.ones((9, 9)))
