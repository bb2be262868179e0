import functools

import numpy as np
import pytest
from astropy.stats import sigma_clipped_stats
from hypothesis import given, settings
from hypothesis import strategies as st

from wfssbkg import StepError, combine


def test_level_is_the_clipped_median_of_the_unmasked_inner_pixels():
    rng = np.random.default_rng(3)
    sci = rng.normal(0.7, 0.02, (100, 120)).astype(np.float32)
    masked = np.zeros(sci.shape, dtype=bool)
    sci[40:60], masked[40:60] = 50, True
    sci[:10] = -3
    level = combine.sky_level(sci, masked, border=(10, 10), sigma=3)
    expected = sigma_clipped_stats(
        sci[10:-10, 10:-10][~masked[10:-10, 10:-10]].astype(float), sigma=3
    )[1]
    assert level == pytest.approx(expected, rel=1e-12)
    assert level == pytest.approx(0.7, abs=0.002)


@pytest.mark.parametrize("border", [50, 60])
def test_level_of_no_pixels_is_an_error(border):
    with pytest.raises(StepError, match="nothing is unmasked"):
        none = np.zeros((100, 100), bool)
        combine.sky_level(np.ones((100, 100)), none, border=(border, border), sigma=3)


def test_level_below_zero_is_an_error():
    with pytest.raises(StepError, match="expected above 0"):
        combine.sky_level(-np.ones((9, 9)), np.zeros((9, 9), bool), border=(0, 0), sigma=3)


@given(
    rows=st.integers(1, 300),
    columns=st.integers(1, 300),
    exposures=st.integers(1, 3000),
    memory=st.floats(1, 1e9),
)
def test_bands_cover_every_row_once_within_the_memory(rows, columns, exposures, memory):
    bands = list(combine.bands(rows, columns, exposures, memory))
    assert [row for band in bands for row in range(band.start, band.stop)] == list(range(rows))
    tallest = max(band.stop - band.start for band in bands)
    used = tallest * columns * exposures * combine.BYTES_PER_PIXEL
    assert used <= memory or tallest == 1
    assert tallest <= combine.BAND_ROWS


def stack(n, seed=0, shape=(40, 50), missing=0.3):
    rng = np.random.default_rng(seed)
    sigma = rng.uniform(0.01, 0.1, n).astype(np.float32)
    noise = np.broadcast_to(sigma[:, None, None], (n, *shape)).copy()
    values = rng.normal(1, noise).astype(np.float32)
    values[rng.random(values.shape) < missing] = np.nan
    return values, noise


@given(n=st.integers(1, 12), seed=st.integers(0, 100), missing=st.sampled_from([0, 0.3, 0.9]))
def test_median_equals_numpys(n, seed, missing):
    values, noise = stack(n, seed, (6, 7), missing)
    median, _, number = combine.median(values, noise)
    empty = np.isnan(values).all(axis=0)
    with np.errstate(all="ignore"):
        expected = np.nanmedian(np.where(empty, 0, values), axis=0)
    np.testing.assert_allclose(median[~empty], expected[~empty], rtol=2e-7)
    assert np.isnan(median[empty]).all()
    np.testing.assert_array_equal(number, np.isfinite(values).sum(axis=0))


@pytest.mark.parametrize("n", [1, 2, 3, 4, 5, 8, 15, 24])
def test_uncertainty_of_the_median_is_calibrated(n):
    rng = np.random.default_rng(n)
    noise = np.full((n, 200, 200), 0.05, dtype=np.float32)
    values = rng.normal(1, noise).astype(np.float32)
    median, uncertainty, _ = combine.median(values, noise)
    assert np.std((median - 1) / uncertainty) == pytest.approx(1, abs=0.03)


def test_uncertainty_with_unequal_noise_and_gaps():
    values, noise = stack(24, shape=(200, 200))
    median, uncertainty, number = combine.median(values, noise)
    pull = (median - 1) / uncertainty
    assert np.std(pull[number > 10]) == pytest.approx(1, abs=0.1)


def test_no_exposure_gives_nan_and_no_division_warning(recwarn):
    values, noise = stack(3, shape=(4, 4))
    values[:, 0, 0] = np.nan
    for estimator in (combine.median, functools.partial(combine.weighted_mean, clip_sigma=4.0)):
        value, uncertainty, number = estimator(values, noise)
        assert np.isnan(value[0, 0])
        assert np.isnan(uncertainty[0, 0])
        assert number[0, 0] == 0
    assert not [w for w in recwarn if issubclass(w.category, RuntimeWarning)]


def test_clipping_leaves_out_the_outlier():
    values = np.full((9, 2, 2), 1, dtype=np.float32)
    values += np.linspace(-0.01, 0.01, 9, dtype=np.float32)[:, None, None]
    values[0, 0, 0] = 50
    median, _, number = combine.median(values, np.full_like(values, 0.01), clip_sigma=2)
    assert number[0, 0] == 8
    assert number[1, 1] == 9
    assert median[0, 0] == pytest.approx(np.median(values[1:, 0, 0]))


@settings(deadline=None)  # the first call compiles
@given(n=st.integers(1, 12), seed=st.integers(0, 100), missing=st.sampled_from([0, 0.3, 0.9]))
def test_weighted_mean_without_outliers_is_the_weighted_mean(n, seed, missing):
    values, noise = stack(n, seed, (6, 7), missing)
    mean, uncertainty, number = combine.weighted_mean(values, noise, 50.0)
    counts = np.isfinite(values)
    weight = np.where(counts, 1 / noise.astype(float) ** 2, 0)
    total = np.where(counts, values, 0).astype(float)
    known = counts.any(axis=0)
    expected = (weight * total).sum(axis=0)[known] / weight.sum(axis=0)[known]
    np.testing.assert_allclose(mean[known], expected, rtol=1e-6)
    np.testing.assert_allclose(uncertainty[known], weight.sum(axis=0)[known] ** -0.5, rtol=1e-6)
    np.testing.assert_array_equal(number, counts.sum(axis=0))


@pytest.mark.parametrize("n", [1, 2, 4, 8, 24])
def test_uncertainty_of_the_weighted_mean_is_calibrated_at_every_coverage(n):
    values, noise = stack(n, seed=n, shape=(200, 200), missing=0.4)
    mean, uncertainty, number = combine.weighted_mean(values, noise, 4.0)
    for coverage in np.unique(number[number > 0]):
        pull = ((mean - 1) / uncertainty)[number == coverage]
        if len(pull) > 1000:
            robust = 1.4826 * np.median(np.abs(pull - np.median(pull)))
            assert robust == pytest.approx(1, abs=0.1)


def test_weighted_mean_leaves_out_outliers_by_their_predicted_noise():
    values = np.full((6, 1, 2), 1, dtype=np.float32)
    noise = np.full_like(values, 0.01)
    values[5, 0, 0] = 1.2  # far off
    values[5, 0, 1], noise[5, 0, 1] = 1.2, 0.1  # as far, but noisy
    mean, _, number = combine.weighted_mean(values, noise, 4.0)
    assert number.tolist() == [[5, 6]]
    assert mean[0, 0] == 1
    assert 1 < mean[0, 1] < 1.001


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
    assert combine.fit_level(sci, weight, background) == pytest.approx(0.7, abs=0.001)


def test_pixels_count_by_their_noise_when_the_level_is_fitted():
    background = np.linspace(0.9, 1.1, 600)
    err = np.where(np.arange(600) < 300, 0.01, 0.1)
    y = background * np.where(err < 0.05, 0.70, 0.72)
    squares = [(err[part] ** -2 * background[part] ** 2).sum() for part in np.split(np.r_[:600], 2)]
    expected = np.average([0.70, 0.72], weights=squares)
    assert expected < 0.7005
    assert combine.fit_level(y, err**-2, background) == pytest.approx(expected, abs=1e-6)


def test_fitted_level_of_no_pixels_is_an_error():
    with pytest.raises(StepError, match="nothing is left unmasked"):
        combine.fit_level(np.ones((9, 9)), np.zeros((9, 9)), np.ones((9, 9)))


def test_structure_is_what_boxes_differ_by_beyond_their_noise():
    rng = np.random.default_rng(10)
    noise = rng.normal(0, 0.05, (256, 320))
    counts = rng.random(noise.shape) < 0.8
    weight = np.where(counts, 0.05**-2, 0)
    assert combine.structure(noise, weight, box=(64, 32)) < 0.0005
    band = noise.copy()
    band[128:192] += 0.02
    band[~counts] = 99
    measured = combine.structure(band, weight, box=(64, 32))
    assert measured == pytest.approx(0.02 / 2, rel=0.1)  # in one row of boxes of four
    assert np.isnan(combine.structure(band, np.zeros_like(weight), box=(64, 32)))


@given(rows=st.integers(1, 80), memory=st.floats(1, 1e6))
def test_bands_are_of_whole_steps(rows, memory):
    bands = list(combine.bands(4 * rows, 50, 3, memory, step=4))
    assert [row for band in bands for row in range(band.start, band.stop)] == list(range(4 * rows))
    assert not any(band.start % 4 or band.stop % 4 for band in bands)


@given(
    n=st.integers(1, 30),
    seed=st.integers(0, 9999),
    outliers=st.floats(0, 0.3),
    clip_sigma=st.floats(0.5, 6),
)
def test_weighted_mean_leaves_out_what_is_far_from_the_weighted_median(
    n, seed, outliers, clip_sigma
):
    rng = np.random.default_rng(seed)
    noise = rng.uniform(0.01, 0.1, (n, 4, 5)).astype(np.float32)
    values = rng.normal(1, noise).astype(np.float32)
    values[rng.random(values.shape) < outliers] += 0.5
    missing = rng.random(values.shape) < 0.2
    values[missing] = noise[missing] = np.nan
    mean, err, number = combine.weighted_mean(values, noise, clip_sigma)
    for y, x in np.ndindex(4, 5):
        known = np.isfinite(values[:, y, x])
        v, s = values[known, y, x].astype(float), noise[known, y, x].astype(float)
        if not len(v):
            assert np.isnan([mean[y, x], err[y, x]]).all()
            assert number[y, x] == 0
            continue
        order = np.argsort(v, kind="stable")
        reached = np.cumsum(1 / s[order]) >= 0.5 * np.sum(1 / s) * (1 - 1e-12)
        middle = v[order][np.argmax(reached)]
        off = (v - middle) ** 2 / (s**2 + np.pi / 2 / np.sum(s**-2))
        kept = off <= clip_sigma**2
        if np.abs(off / clip_sigma**2 - 1).min() < 1e-6:  # rounding decides
            continue
        assert number[y, x] == kept.sum()
        assert mean[y, x] == pytest.approx(np.average(v[kept], weights=s[kept] ** -2), rel=1e-5)
        assert err[y, x] == pytest.approx(np.sum(s[kept] ** -2) ** -0.5, rel=1e-5)


def test_excess_is_what_noise_does_not_explain():
    rng = np.random.default_rng(12)
    err = np.full((400, 500), 0.02)
    image = rng.normal(0, err)
    image[rng.random(err.shape) < 0.1] = np.nan
    assert combine.excess(image, err, (4, 1)) < 0.0015
    left = np.repeat(rng.normal(0, 0.005, (10, 500)), 40, axis=0)  # long in y
    left = np.repeat(left[:, ::20], 20, axis=1)
    found = combine.excess(image + left, err, (4, 1))
    assert found == pytest.approx(0.005, rel=0.2)
    assert combine.excess(np.full((9, 9), np.nan), np.ones((9, 9)), (1, 1)) == 0
