"""The pointing that a row of the keyword service tells."""

import numpy as np
import pytest

from tests.demo.test_server import keyword_row, rate_name
from wfssbkg.query.keyword_row import plain, to_exposure


def pointing(**changes):
    exposure = to_exposure(plain(keyword_row(rate_name(1), **changes)), "", "accepted", "")
    return exposure["ra"], exposure["dec"]


def square(ra, dec, size=0.01):
    wide = size / np.cos(np.radians(dec)) if abs(dec) < 89 else size
    corners = [(-1, -1), (1, -1), (1, 1), (-1, 1), (-1, -1)]
    words = [f"{(ra + i * wide) % 360:.9f} {dec + j * size:.9f}" for i, j in corners]
    return "POLYGON ICRS  " + " ".join(words)


@pytest.mark.parametrize(("ra", "dec"), [(0.0, 0.0), (359.999, 60.0), (120.0, -75.0), (10.0, 1.0)])
def test_the_pointing_is_the_centre_of_the_footprint(ra, dec):
    found_ra, found_dec = pointing(s_region=square(ra, dec))
    assert (found_ra - ra + 180) % 360 - 180 == pytest.approx(0, abs=1e-5)
    assert 0 <= found_ra < 360
    assert found_dec == pytest.approx(dec, abs=1e-5)


def test_the_footprint_can_hold_a_pole():
    corners = "0 89.99 90 89.99 180 89.99 270 89.99"
    _, dec = pointing(s_region=f"POLYGON ICRS {corners}")
    assert dec == pytest.approx(90, abs=1e-6)


@pytest.mark.parametrize(
    "region", [None, "", "POLYGON ICRS", "POLYGON ICRS 1 2 3", "POLYGON 1 2 3 4 5 200", "nonsense"]
)
def test_without_a_footprint_the_target_is_the_pointing(region):
    assert pointing(s_region=region, targ_ra="370.5", targ_dec=-3) == (10.5, -3.0)
