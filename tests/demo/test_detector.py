"""The simulated detector: flat field, flags, noise and uncertainties."""

import numpy as np
import pytest

from demo import detector, optics

NPIX = 512
FLAG = detector.FLAG


def robust_std(values):
    return 1.4826 * np.median(np.abs(values - np.median(values)))


@pytest.fixture(scope="module")
def empty_sky():
    """A sky without sources, times the flat field, and an exposure of 900 s of it."""
    light = 0.6 * optics.sky_background("GR150C", "F115W", NPIX).astype(np.float32)
    rng = np.random.default_rng(8)
    rate = detector.expose(light, "F115W", 900.0, "NIS", rng)
    return light * detector.true_flat(NPIX, "F115W"), rate


def test_errors_match_the_noise(empty_sky):
    truth, rate = empty_sky
    for flags in (0, FLAG["JUMP_DET"]):
        chosen = rate.dq == flags
        assert chosen.sum() > 1000
        pull = (rate.sci - truth)[chosen] / rate.err[chosen]
        assert robust_std(pull) == pytest.approx(1, abs=0.06)
    np.testing.assert_allclose(rate.err**2, rate.var_poisson + rate.var_rnoise, rtol=1e-4)


def test_repaired_jumps_are_noisier(empty_sky):
    _, rate = empty_sky
    jump = (rate.dq & FLAG["JUMP_DET"]) > 0
    assert 0.01 < jump.mean() < 0.15
    assert np.nanmedian(rate.err[jump]) > 1.05 * np.nanmedian(rate.err[rate.dq == 0])


def test_poisson_variance_is_estimated_from_the_noisy_rate(empty_sky):
    _, rate = empty_sky
    good = rate.dq == 0
    np.testing.assert_allclose(
        rate.var_poisson[good], rate.sci[good] / (detector.GAIN * 900), rtol=1e-4
    )


def test_stripes_are_common_to_an_amplifiers_columns(monkeypatch):
    light = np.full((NPIX, NPIX), 0.6, np.float32)
    rates = []
    for rms in (detector.STRIPE_RMS, 0.0):
        monkeypatch.setattr(detector, "STRIPE_RMS", rms)
        rates.append(detector.expose(light, "F115W", 900.0, "NIS", np.random.default_rng(8)).sci)
    monkeypatch.undo()
    height = NPIX // 4
    stripes = (rates[0] - rates[1])[:, 8:-8]
    middle = np.nanmedian(stripes.reshape(8, height // 2, -1), 1).reshape(4, 2, -1)
    assert all(np.corrcoef(halves)[0, 1] > 0.6 for halves in middle)
    stripes = detector.stripes(np.random.default_rng(2), NPIX, 900.0)
    quarter = height // 4  # a drift within the columns makes the first and the last rows differ
    assert np.corrcoef(stripes[quarter], stripes[3 * quarter])[0, 1] > 0.6
    assert abs(np.corrcoef(stripes[quarter], stripes[height + quarter])[0, 1]) < 0.5


def test_stripe_strength_falls_with_time():
    short, long = (detector.stripes(np.random.default_rng(1), 2048, time) for time in (400, 1600))
    assert short.std() == pytest.approx(8 * long.std(), rel=0.01)
    columns = detector.stripes(np.random.default_rng(1), 2048, detector.STRIPE_TIME)[256]
    assert columns.std() == pytest.approx(detector.STRIPE_RMS, rel=0.15)
    assert np.corrcoef(columns[1:], columns[:-1])[0, 1] > 0.2


def test_reference_and_bad_pixels(empty_sky):
    _, rate = empty_sky
    border = detector.reference_pixels(NPIX)
    assert border.sum() == NPIX**2 - (NPIX - 8) ** 2
    assert (rate.sci[border] == 0).all()
    assert (rate.dq[border] == (FLAG["REFERENCE_PIXEL"] | FLAG["DO_NOT_USE"])).all()
    inside = ~border
    unusable = (rate.dq & FLAG["DO_NOT_USE"]) > 0
    blank = np.isnan(rate.sci)
    assert not (blank & ~unusable).any()
    assert 0.8 < blank[inside & unusable].mean() < 1
    permanent = detector.bad_pixels(NPIX)[inside]
    assert 0.003 < (permanent > 0).mean() < 0.009
    for name in ("DEAD", "HOT", "WARM"):
        assert (permanent & FLAG[name]).any()


def test_saturation():
    light = np.full((128, 128), 0.5, np.float32)
    light[60, 60] = 300.0  # saturates after 150 s
    light[90, 90] = 1e5  # saturates in the first group
    rate = detector.expose(light, "F115W", 900.0, "NIS", np.random.default_rng(3))
    assert rate.dq[60, 60] & FLAG["SATURATED"]
    assert not rate.dq[60, 60] & FLAG["DO_NOT_USE"]
    flat = detector.true_flat(128, "F115W")
    assert rate.sci[60, 60] == pytest.approx(300 * flat[60, 60], rel=0.05)
    assert rate.dq[90, 90] & FLAG["SATURATED"]
    assert rate.dq[90, 90] & FLAG["DO_NOT_USE"]
    assert not rate.sci[90, 90] > detector.FULL_WELL


def test_reference_flat_is_the_true_one_with_its_error():
    true = detector.true_flat(NPIX, "F115W")
    flat, error, dq = detector.reference_flat(NPIX, "F115W")
    missing = np.isnan(flat)
    assert 0.0005 < missing.mean() < 0.003
    assert (dq[missing] == (FLAG["NO_FLAT_FIELD"] | FLAG["DO_NOT_USE"])).all()
    assert (dq[~missing] == 0).all()
    inside = ~missing & ~detector.reference_pixels(NPIX)
    relative = flat[inside] / true[inside] - 1
    assert relative.std() == pytest.approx(detector.FLAT_ERROR, rel=0.03)
    assert error[inside].mean() == pytest.approx(detector.FLAT_ERROR, rel=0.05)
    assert 0.02 < true.std() < 0.08


def test_exposures_repeat_by_seed():
    light = np.full((128, 128), 0.5, np.float32)
    one, same, other = (
        detector.expose(light, "F115W", 500.0, "NIS", np.random.default_rng(seed))
        for seed in (1, 1, 2)
    )
    np.testing.assert_array_equal(one.sci, same.sci)
    np.testing.assert_array_equal(one.dq, same.dq)
    assert np.nanstd(one.sci - other.sci) > 0.01
