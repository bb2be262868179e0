import numpy as np
import pytest

from tests import small
from wfssbkg.combine import halves


def test_excess_is_what_noise_does_not_explain():
    rng = np.random.default_rng(12)
    err = np.full((400, 500), 0.02)
    image = rng.normal(0, err)
    image[rng.random(err.shape) < 0.1] = np.nan
    assert halves.excess(image, err, (4, 1)) < 0.0015
    left = np.repeat(rng.normal(0, 0.005, (10, 500)), 40, axis=0)  # long in y
    left = np.repeat(left[:, ::20], 20, axis=1)
    found = halves.excess(image + left, err, (4, 1))
    assert found == pytest.approx(0.005, rel=0.2)
    assert halves.excess(np.full((9, 9), np.nan), np.ones((9, 9)), (1, 1)) == 0


def test_the_error_of_a_background_is_half_of_the_difference_of_its_halves(tmp_path):
    """Two exposures with errors of their own, large in size: their mean has 1/sqrt(2) of one."""
    rng, place = np.random.default_rng(13), small.folder(tmp_path)
    members = []
    for name in ("a_rate.fits", "b_rate.fits"):
        left = np.kron(rng.normal(0, 0.01, (16, 16)), np.ones((32, 32)))
        sky = 0.5 * (1 + left + rng.normal(0, 0.004, left.shape))
        members.append(small.masked_exposure(place, name, sky, 0.002, level=0.5))
    settings = small.settings().combine
    found = halves.difference_of_halves(small.WORKERS, settings, members)
    assert found == pytest.approx(0.01 / np.sqrt(2), rel=0.2)
