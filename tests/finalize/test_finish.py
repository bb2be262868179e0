"""The uncertainty of a finished background."""

import numpy as np
import pytest

from tests import small
from wfssbkg.files import combined_background
from wfssbkg.finalize import finish

SHAPE = (104, 104)
ERR = 0.01
SETTINGS = small.settings(finalize={"patch_distance": 2, "patch_size": 3}).finalize


def combined(systematic=0.0):
    """A flat background; some pixels have another uncertainty, others no value."""
    sci, err = np.ones(SHAPE, dtype=np.float32), np.full(SHAPE, ERR, dtype=np.float32)
    number = np.full(SHAPE, 9, dtype=np.int16)
    err[20:30, 20:30] = 1.5 * ERR
    err[80:84, 20:30], err[80:84, 40:50] = 5 * ERR, 0.5 * ERR
    empty = np.zeros(SHAPE, dtype=bool)
    empty[60:64, 60:64] = True
    sci[empty] = err[empty] = np.nan
    number[empty] = 0
    return combined_background.Background(
        sci, err, number, empty, number, small.table(), systematic
    )


def test_the_error_that_sources_leave_is_part_of_the_uncertainty():
    """It is added in quadrature to the noise that is left, and grows as the noise does."""
    without, with_it = (
        finish.finish(small.WORKERS, SETTINGS, combined(value)).err for value in (0.0, 0.02)
    )
    added = np.sqrt(with_it.astype(float) ** 2 - without.astype(float) ** 2)
    assert added[50, 50] == pytest.approx(0.02, rel=1e-3)
    assert added[25, 25] == pytest.approx(0.02 * 1.5**0.75, rel=1e-3)
    assert 0 < without[50, 50] < ERR


@pytest.mark.parametrize("systematic", [0.0, 0.02])
def test_the_uncertainty_grows_where_fewer_exposures_count(systematic):
    finished = finish.finish(small.WORKERS, SETTINGS, combined(systematic))
    np.testing.assert_allclose(finished.sci[60:64, 60:64], 1, rtol=1e-5)
    typical = finished.err[50, 50]
    np.testing.assert_allclose(finished.err[60:64, 60:64], typical, rtol=1e-5)  # filled
    for columns, more in ((slice(20, 30), 5), (slice(40, 50), 0.5)):
        np.testing.assert_allclose(finished.err[80:84, columns], more**0.75 * typical, rtol=1e-5)
