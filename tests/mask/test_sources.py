import numpy as np
import pytest
from scipy import ndimage
from skimage.morphology import disk
from stdatamodels.jwst.datamodels.dqflags import pixel

from tests import small
from wfssbkg.errors import StepError
from wfssbkg.mask import sources

SHAPE = (200, 220)
SETTINGS = small.settings(
    mask={"kernel_fwhm": 2.5, "threshold": 2.5, "minimum_area": 10, "growth": 0}
).mask
NONE_BAD = np.zeros(SHAPE, dtype=bool)


def noise_image(seed=1, sigma=0.02):
    return np.random.default_rng(seed).normal(0, sigma, SHAPE).astype(np.float32)


def test_flag_bits():
    assert sources.flag_bits(["DO_NOT_USE", "SATURATED"]) == 3
    assert sources.flag_bits([]) == 0
    assert sources.flag_bits("all") & pixel["REFERENCE_PIXEL"]


def test_bad_pixels_by_flag_value_and_variance():
    sci, variance = np.ones((2, 4), np.float32), np.ones((2, 4), np.float32)
    dq = np.zeros((2, 4), np.uint32)
    dq[0] = [pixel["DO_NOT_USE"], pixel["JUMP_DET"], 2**31, 0]
    sci[1, 0] = np.nan
    sci[0, 3] = 0
    variance[1, 1:] = [np.nan, 0, -1]
    bits = sources.flag_bits(["DO_NOT_USE", "SATURATED"])
    expected = [[True, False, False, True], [True] * 4]
    np.testing.assert_array_equal(sources.bad_pixels(sci, variance, dq, bits), expected)
    assert sources.bad_pixels(sci, variance, dq, sources.flag_bits("all"))[0].tolist() == [
        1,
        1,
        1,
        1,
    ]


def test_pixels_that_were_saturated_at_once():
    lost, late = pixel["SATURATED"] | pixel["DO_NOT_USE"], pixel["SATURATED"]
    dq = np.array([[lost, late, lost | pixel["JUMP_DET"]], [0, pixel["DO_NOT_USE"], 2**31]])
    expected = [[True, False, True], [False] * 3]
    np.testing.assert_array_equal(sources.saturated_at_once(dq.astype(np.uint32)), expected)


def test_sky_background_follows_a_gradient_below_bad_pixels():
    _, x = np.indices(SHAPE)
    sky = 0.5 + 0.0005 * x
    bad = NONE_BAD.copy()
    bad[50:60, 50:60] = True
    image = (sky + noise_image()).astype(np.float32)
    image[bad] = np.nan
    background = sources.sky_background(image, bad, box=32, filter_size=3)
    assert np.abs(background - sky)[20:-20, 20:-20].max() < 0.01
    assert np.isfinite(background).all()


def test_sky_background_of_nothing_is_an_error():
    with pytest.raises(StepError, match="every pixel is bad"):
        sources.sky_background(np.ones(SHAPE), ~NONE_BAD, box=32, filter_size=3)


def test_sky_noise_does_not_follow_the_pixels_own_noise():
    rng = np.random.default_rng(2)
    level, per_rate, var_rnoise = 0.5, 1 / (1.6 * 500), 1e-4
    sci = level + rng.normal(0, np.sqrt(level * per_rate + var_rnoise), SHAPE)
    var_poisson = per_rate * sci
    sky = np.full(SHAPE, level)
    noise = sources.sky_noise(sci, var_poisson, np.full(SHAPE, var_rnoise), sky, NONE_BAD)
    np.testing.assert_allclose(noise, np.sqrt(level * per_rate + var_rnoise), rtol=1e-3)


def test_sky_noise_keeps_what_a_jump_added_and_leaves_out_what_a_source_added():
    sci, var_poisson = np.full(SHAPE, 0.5), np.full(SHAPE, 0.5 / 800)
    var_poisson[3, 3] *= 4  # a ramp that a jump has cut short
    sci[9, 9], var_poisson[9, 9] = 5.0, 5.0 / 800  # a source
    bad = NONE_BAD.copy()
    bad[5, 5] = True
    noise = sources.sky_noise(sci, var_poisson, np.zeros(SHAPE), np.full(SHAPE, 0.5), bad)
    assert noise[3, 3] == pytest.approx(2 * noise[0, 0])
    assert noise[9, 9] == pytest.approx(noise[0, 0])
    assert np.isnan(noise[5, 5])


def test_a_faint_trace_is_found_and_the_rest_left_alone():
    image, sigma = noise_image(), 0.02
    trace = np.zeros(SHAPE, dtype=bool)
    trace[100:104, 40:160] = True
    image[trace] += 1.5 * sigma
    found = sources.find_sources(image, np.full(SHAPE, sigma), NONE_BAD, SETTINGS)
    assert found[trace].mean() > 0.7
    elsewhere = ~ndimage.binary_dilation(trace, disk(4))
    assert found[elsewhere].mean() < 0.002


def test_any_number_of_peaks_in_one_region():
    """The field is so crowded that sep could not deblend its sources, which is not needed."""
    image = np.full(SHAPE, 10, np.float32)
    image[::4, ::4] += np.random.default_rng(3).uniform(5, 500, image[::4, ::4].shape)
    found = sources.find_sources(image, np.ones(SHAPE), NONE_BAD, SETTINGS)
    assert found.all()


def test_growth_and_minimum_area():
    image = np.zeros(SHAPE, np.float32)
    image[50:53, 50:53] = 100
    image[150:157, 150:157] = 100
    settings = SETTINGS.model_copy(update={"kernel_fwhm": 0.0, "growth": 2})
    found = sources.find_sources(image, np.ones(SHAPE), NONE_BAD, settings)
    assert not found[:100].any()
    assert found[148, 153]
    assert not found[147, 153]
    assert found.sum() == ndimage.binary_dilation(image > 50, disk(2))[100:].sum()


def test_bad_pixels_are_no_sources():
    image = np.zeros(SHAPE, np.float32)
    bad = NONE_BAD.copy()
    bad[60:80, 60:80] = True
    image[bad] = np.nan
    found = sources.find_sources(image, np.ones(SHAPE), bad, SETTINGS)
    assert not found.any()
