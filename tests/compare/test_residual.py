"""What a background leaves of an image of the sky."""

import numpy as np
import pytest

from tests import small
from wfssbkg.combine.sky import Model
from wfssbkg.compare import residual
from wfssbkg.files.combined_background import Components

SETTINGS = small.DEFAULTS.compare


def test_profiles_are_medians_of_columns_and_of_rows():
    left = np.zeros((3, 5))
    left[:, 1], left[2, 4] = 7, 99
    left[0] = np.nan
    columns, rows = residual.profiles(left)
    np.testing.assert_array_equal(columns, [0, 7, 0, 0, 49.5])
    np.testing.assert_array_equal(rows, [np.nan, 0, 0])


def test_a_mean_leaves_the_error_and_its_noise():
    """After smoothing, in quadrature."""
    rng = np.random.default_rng(3)
    y, x = np.mgrid[:256, :256]
    sky = 1 + 0.1 * np.sin(x / 60)
    wrong = sky * (1 + 0.004 * np.sin(y / 20))
    mean, noise = sky + rng.normal(0, 0.07, sky.shape), np.full_like(sky, 0.07)
    counts = np.isfinite(mean)
    model = Model.of(wrong, 0.0, Components.none())
    found, _ = residual.scores_of(mean, noise, counts, {"wrong": model}, small.DEFAULTS)
    error = residual.smoothed((100 * (sky - wrong)).astype(np.float32), SETTINGS)
    error = residual.root_mean_square(error - error.mean())
    of_noise = 100 * 0.07 / (2 * np.sqrt(np.pi) * SETTINGS.smoothing)
    assert found["wrong"].rms == pytest.approx(np.hypot(error, of_noise), rel=0.1)


def test_smoothing_knows_only_what_counts():
    left = np.full((128, 128), 3, dtype=np.float32)
    left[:, 60:] = np.nan
    left[::3] = np.nan
    smooth = residual.smoothed(left, SETTINGS)
    np.testing.assert_allclose(smooth[1::3, :50], 3, rtol=1e-5)
    assert np.isnan(smooth[::3]).all()
    assert np.isnan(smooth[:, 59:]).all()  # half of the Gaussian is empty there


def test_the_root_mean_square_of_a_full_frame_is_exact():
    assert residual.root_mean_square(np.full((2048, 2048), 1.3, np.float32)) == pytest.approx(1.3)
