import numpy as np
import pytest

from tests import small
from wfssbkg.combine import jackknife


def test_excess_is_what_noise_does_not_explain():
    rng = np.random.default_rng(12)
    err = np.full((400, 500), 0.02)
    image = rng.normal(0, err)
    image[rng.random(err.shape) < 0.1] = np.nan
    assert jackknife.excess(image, err, (4, 1)) < 0.0015
    left = np.repeat(rng.normal(0, 0.005, (10, 500)), 40, axis=0)  # long in y
    left = np.repeat(left[:, ::20], 20, axis=1)
    found = jackknife.excess(image + left, err, (4, 1))
    assert found == pytest.approx(0.005, rel=0.2)
    assert jackknife.excess(np.full((9, 9), np.nan), np.ones((9, 9)), (1, 1)) == 0


@pytest.mark.parametrize(("number", "odd"), [(2, 0), (5, 0), (7, 0), (5, 1)])
def test_the_error_of_a_background_is_that_of_a_mean_of_fields(tmp_path, number, odd):
    """Fields with errors of their own; one with ten times as much tells nothing of the others."""
    rng, place = np.random.default_rng(13), small.folder(tmp_path)
    members = []
    for k in range(number):
        left = np.kron(rng.normal(0, 0.1 if k < odd else 0.01, (16, 16)), np.ones((32, 32)))
        sky = 0.5 * (1 + left + rng.normal(0, 0.004, left.shape))
        members.append(small.masked_exposure(place, f"{k}_rate.fits", sky, 0.002, level=0.5))
    settings = small.settings().combine
    found = jackknife.systematic_error(small.WORKERS, settings, members)
    assert found == pytest.approx(0.01 / np.sqrt(number), rel=0.25)


def test_one_exposure_tells_no_error(tmp_path):
    exposure = small.masked_exposure(
        small.folder(tmp_path), "a_rate.fits", np.ones((128, 128)), 0.1, level=1
    )
    assert jackknife.systematic_error(small.WORKERS, small.settings().combine, [exposure]) == 0
