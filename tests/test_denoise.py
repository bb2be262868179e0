import numpy as np
import pytest

from wfssbkg import denoise

SETTINGS = {"patch_size": 5, "patch_distance": 6, "strength": 0.8}
NOISE = 0.01


def sky_with_step_and_spot():
    y, x = np.indices((120, 140))
    truth = 1 + 0.0003 * x + np.where(x > 70, 0.05, 0)
    truth[np.hypot(x - 30, y - 60) < 8] -= 0.06
    return truth


def noisy(truth, seed=4):
    return (truth + np.random.default_rng(seed).normal(0, NOISE, truth.shape)).astype(np.float32)


def test_noise_goes_and_structure_stays():
    truth = sky_with_step_and_spot()
    smooth = denoise.denoise(noisy(truth), NOISE, **SETTINGS)
    assert np.std(smooth - truth) < 0.5 * NOISE
    assert smooth[60, 30] - smooth[60, 50] == pytest.approx(-0.06, abs=0.01)
    assert smooth[20, 73] - smooth[20, 68] == pytest.approx(0.0515, abs=0.01)


def test_pixels_without_a_value_stay_so_and_do_no_harm():
    truth = sky_with_step_and_spot()
    image = noisy(truth)
    empty = np.random.default_rng(5).random(truth.shape) < 0.05
    empty[100:110, 100:110] = True
    image[empty] = np.nan
    smooth = denoise.denoise(image, NOISE, **SETTINGS)
    np.testing.assert_array_equal(np.isnan(smooth), empty)
    assert np.std((smooth - truth)[~empty]) < 0.5 * NOISE


def test_no_strength_changes_nothing():
    image = noisy(sky_with_step_and_spot())
    unchanged = denoise.denoise(image, NOISE, **(SETTINGS | {"strength": 0}))
    np.testing.assert_array_equal(unchanged, image)
    assert unchanged is not image


def test_fill_takes_the_neighbours_and_leaves_the_rest():
    truth = sky_with_step_and_spot().astype(np.float32)
    image = truth.copy()
    image[50:55, 100:105] = np.nan
    image[0, 0] = np.nan
    filled = denoise.fill(image, size=3)
    known = np.isfinite(image)
    np.testing.assert_array_equal(filled[known], truth[known])
    np.testing.assert_allclose(filled[~known], truth[~known], atol=0.003)


def test_fill_of_a_whole_image_is_a_copy():
    image = np.ones((9, 9), np.float32)
    filled = denoise.fill(image, size=3)
    np.testing.assert_array_equal(filled, image)
    assert filled is not image
