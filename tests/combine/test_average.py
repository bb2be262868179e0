import functools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from wfssbkg.combine import average


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
    median, _, number = average.median(values, noise)
    empty = np.isnan(values).all(axis=0)
    with np.errstate(all="ignore"):
        expected = np.nanmedian(np.where(empty, 0, values), axis=0)
    np.testing.assert_allclose(median[~empty], expected[~empty], rtol=2e-7)
    assert np.isnan(median[empty]).all()
    np.testing.assert_array_equal(number, np.isfinite(values).sum(axis=0))


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("wild", [np.inf, -np.inf, 1e25])
def test_a_value_beyond_all_measure_does_not_count(wild):
    values, noise = stack(24, missing=0)
    expected = average.weighted_mean(values[:-1], noise[:-1], 8.0)
    values[-1] = wild
    found = average.weighted_mean(values, noise, 8.0)
    for image, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(image, other, rtol=1e-6)


@pytest.mark.parametrize("n", [1, 2, 3, 4, 5, 8, 15, 24])
def test_uncertainty_of_the_median_is_calibrated(n):
    rng = np.random.default_rng(n)
    noise = np.full((n, 200, 200), 0.05, dtype=np.float32)
    values = rng.normal(1, noise).astype(np.float32)
    median, uncertainty, _ = average.median(values, noise)
    assert np.std((median - 1) / uncertainty) == pytest.approx(1, abs=0.03)


def test_uncertainty_with_unequal_noise_and_gaps():
    values, noise = stack(24, shape=(200, 200))
    median, uncertainty, number = average.median(values, noise)
    pull = (median - 1) / uncertainty
    assert np.std(pull[number > 10]) == pytest.approx(1, abs=0.1)


def test_no_exposure_gives_nan_and_no_division_warning(recwarn):
    values, noise = stack(3, shape=(4, 4))
    values[:, 0, 0] = np.nan
    for estimator in (average.median, functools.partial(average.weighted_mean, clip_sigma=4.0)):
        value, uncertainty, number = estimator(values, noise)
        assert np.isnan(value[0, 0])
        assert np.isnan(uncertainty[0, 0])
        assert number[0, 0] == 0
    assert not [w for w in recwarn if issubclass(w.category, RuntimeWarning)]


def test_clipping_leaves_out_the_outlier():
    values = np.full((9, 2, 2), 1, dtype=np.float32)
    values += np.linspace(-0.01, 0.01, 9, dtype=np.float32)[:, None, None]
    values[0, 0, 0] = 50
    median, _, number = average.median(values, np.full_like(values, 0.01), clip_sigma=2)
    assert number[0, 0] == 8
    assert number[1, 1] == 9
    assert median[0, 0] == pytest.approx(np.median(values[1:, 0, 0]))


@given(n=st.integers(1, 12), seed=st.integers(0, 100), missing=st.sampled_from([0, 0.3, 0.9]))
def test_weighted_mean_without_outliers_is_the_weighted_mean(n, seed, missing):
    values, noise = stack(n, seed, (6, 7), missing)
    mean, uncertainty, number = average.weighted_mean(values, noise, 50.0)
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
    mean, uncertainty, number = average.weighted_mean(values, noise, 4.0)
    for coverage in np.unique(number[number > 0]):
        pull = ((mean - 1) / uncertainty)[number == coverage]
        if len(pull) > 1000:
            robust = 1.4826 * np.median(np.abs(pull - np.median(pull)))
            assert robust == pytest.approx(1, abs=0.1)


def test_weighted_mean_leaves_out_outliers_by_their_predicted_noise():
    values = np.full((6, 1, 2), 1, dtype=np.float32)
    noise = np.full_like(values, 0.01)
    values[5, 0, 0] = 1.2  # an outlier
    values[5, 0, 1], noise[5, 0, 1] = 1.2, 0.1  # as far off, but within its noise
    mean, _, number = average.weighted_mean(values, noise, 4.0)
    assert number.tolist() == [[5, 6]]
    assert mean[0, 0] == 1
    assert 1 < mean[0, 1] < 1.001


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
    mean, err, number = average.weighted_mean(values, noise, clip_sigma)
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
        if np.abs(off / clip_sigma**2 - 1).min() < 1e-6:  # rounding decides whether it is left out
            continue
        assert number[y, x] == kept.sum()
        assert mean[y, x] == pytest.approx(np.average(v[kept], weights=s[kept] ** -2), rel=1e-5)
        assert err[y, x] == pytest.approx(np.sum(s[kept] ** -2) ** -0.5, rel=1e-5)
