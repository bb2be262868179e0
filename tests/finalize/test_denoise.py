import numpy as np
import pytest

from tests import small
from wfssbkg.finalize import denoise, fill
from wfssbkg.finalize.finish import tiles

SETTINGS = small.settings(
    finalize={"patch_size": 5, "patch_distance": 6, "strength": 0.8, "noise": "propagated"}
).finalize
NOISE = 0.01


def sky_with_step_and_spot():
    y, x = np.indices((120, 140))
    truth = 1 + 0.0003 * x + np.where(x > 70, 0.05, 0)
    truth[np.hypot(x - 30, y - 60) < 8] -= 0.06
    return truth


def noisy(truth, seed=4):
    return (truth + np.random.default_rng(seed).normal(0, NOISE, truth.shape)).astype(np.float32)


def smooth(image, err=None, noise="propagated"):
    err = np.full(image.shape, NOISE) if err is None else err
    ready, typical = denoise.prepare(image, err, noise=noise)
    return denoise.denoise(ready, typical, SETTINGS.model_copy(update={"noise": noise}))


@pytest.mark.parametrize("noise", ["propagated", "estimated"])
def test_noise_goes_and_structure_stays(noise):
    truth = sky_with_step_and_spot()
    result = smooth(noisy(truth), noise=noise)
    assert np.std(result - truth) < 0.5 * NOISE
    assert result[60, 30] - result[60, 50] == pytest.approx(-0.06, abs=0.01)
    assert result[20, 73] - result[20, 68] == pytest.approx(0.0515, abs=0.01)


def test_the_noise_is_found_or_taken():
    image = noisy(np.ones((200, 200)))
    err = np.full(image.shape, 0.5)
    assert denoise.prepare(image, err, noise="estimated")[1] == pytest.approx(NOISE, rel=0.05)
    assert denoise.prepare(image, err, noise="propagated")[1] == 0.5


def test_pixels_without_a_value_do_no_harm():
    truth = sky_with_step_and_spot()
    image = noisy(truth)
    empty = np.random.default_rng(5).random(truth.shape) < 0.05
    empty[100:110, 100:110] = True
    image[empty] = np.nan
    err = np.where(empty, np.nan, NOISE)
    result = smooth(image, err)
    assert np.isfinite(result).all()
    assert np.std((result - truth)[~empty]) < 0.5 * NOISE


def test_a_large_hole_is_bridged():
    image = noisy(np.ones((120, 140)))
    image[:, 20:100] = np.nan
    ready, _ = denoise.prepare(image, np.full(image.shape, NOISE), noise="propagated")
    np.testing.assert_allclose(ready[:, 20:100], 1, atol=NOISE)


def test_noisy_pixels_do_not_stand_out():
    truth = sky_with_step_and_spot()
    rng = np.random.default_rng(6)
    few = rng.random(truth.shape) < 0.02
    err = np.where(few, 10 * NOISE, NOISE)
    image = (truth + rng.normal(0, err)).astype(np.float32)
    result = smooth(image, err)
    assert np.std((result - truth)[few]) < NOISE


def test_tiles_give_the_same_as_the_whole():
    image = noisy(np.tile(sky_with_step_and_spot(), (8, 1)))
    whole = smooth(image)
    ready, typical = denoise.prepare(image, np.full(image.shape, NOISE), noise="propagated")
    parts = [
        denoise.denoise(ready[taken], typical, SETTINGS)[inner]
        for taken, inner in tiles(len(ready), denoise.reach(SETTINGS))
    ]
    assert len(parts) == 4
    np.testing.assert_allclose(np.concatenate(parts), whole, atol=1e-3 * NOISE)


def test_no_strength_changes_nothing():
    image = noisy(sky_with_step_and_spot())
    unchanged = denoise.denoise(image, NOISE, SETTINGS.model_copy(update={"strength": 0.0}))
    np.testing.assert_array_equal(unchanged, image)
    assert unchanged is not image


def test_fill_takes_the_neighbours_and_leaves_the_rest():
    truth = sky_with_step_and_spot().astype(np.float32)
    image = truth.copy()
    image[50:55, 100:105] = np.nan
    image[0, 0] = np.nan
    filled = fill.fill(image, size=3)
    known = np.isfinite(image)
    np.testing.assert_array_equal(filled[known], truth[known])
    np.testing.assert_allclose(filled[~known], truth[~known], atol=0.003)


@pytest.mark.parametrize("size", [3, 5])
def test_tiles_are_filled_as_the_whole(size):
    image = noisy(np.tile(sky_with_step_and_spot(), (8, 1)))
    image[np.random.default_rng(6).random(image.shape) < 0.01] = np.nan
    image[245:265, 20:60] = np.nan  # across the edge of a tile
    image[:, 90] = np.nan
    reach = fill.reach(image, size)
    cut = list(tiles(len(image), reach))
    assert len(cut) == 4
    parts = [fill.fill(image[taken], size)[kept] for taken, kept in cut]
    np.testing.assert_array_equal(np.concatenate(parts), fill.fill(image, size))


def test_fill_of_a_whole_image_is_a_copy():
    image = np.ones((9, 9), np.float32)
    filled = fill.fill(image, size=3)
    np.testing.assert_array_equal(filled, image)
    assert filled is not image


def test_noise_that_denoising_leaves_is_found_without_the_truth():
    truth = np.tile(sky_with_step_and_spot(), (3, 1)).astype(np.float32)
    result = smooth(noisy(truth))
    true = 1.4826 * np.median(np.abs(result - truth))
    found = denoise.noise_left(result, NOISE, SETTINGS) * NOISE
    assert found == pytest.approx(true, rel=0.35)
    assert found < 0.5 * NOISE
