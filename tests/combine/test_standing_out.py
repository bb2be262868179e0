"""Pixels that no sky can have."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wfssbkg.combine import standing_out

SHAPE = (96, 120)
Y, X = np.indices(SHAPE)
SKY = 1 + 0.05 * np.sin(X / 9) - 0.2 * np.exp(-((X - 40) ** 2 + (Y - 30) ** 2) / 2 / 6**2)


@given(
    noise=st.floats(0.001, 0.02),
    gaps=st.floats(0, 0.3),
    sigma=st.floats(4.5, 8),
    seed=st.integers(0, 2**32 - 1),
)
@settings(max_examples=20)
def test_pixels_that_stand_out_are_found_and_hardly_any_other(noise, gaps, sigma, seed):
    rng = np.random.default_rng(seed)
    err = noise * rng.uniform(0.8, 1.25, SHAPE)
    sci = 1 + rng.normal(0, err)
    spoilt = rng.random(SHAPE) < 0.005
    sci[spoilt] += (2 * sigma * noise) * rng.choice([-1, 1], spoilt.sum())
    unknown = rng.random(SHAPE) < gaps
    sci[unknown], err[unknown] = np.nan, np.nan
    found = standing_out.find(sci, err, sigma)
    assert not found[unknown].any()
    known = spoilt & ~unknown
    assert found[known].mean() > 0.9 if known.any() else True
    assert found[~spoilt].mean() < 5e-4


def test_the_sky_of_the_mirror_does_not_stand_out():
    """Its spots, the darkest of them here, are several pixels wide."""
    err = np.full(SHAPE, 0.003)
    assert not standing_out.find(SKY, err, 5).any()
    sky = SKY.copy()
    sky[30, 40] -= 0.03
    found = standing_out.find(sky, err, 5)
    assert found[30, 40]
    assert found.sum() == 1


def test_a_noisy_pixel_may_differ_by_more():
    sci, err = np.ones(SHAPE), np.full(SHAPE, 0.01)
    sci[20, 20] = sci[60, 60] = 1.08
    err[60, 60] = 0.03  # few exposures count there
    found = standing_out.find(sci, err, 5)
    assert found[20, 20]
    assert not found[60, 60]
    assert standing_out.find(sci, err, 2)[60, 60]


@pytest.mark.parametrize("place", [(0, 0), (-1, 50), (48, -1)])
def test_pixels_at_the_edge_are_compared_with_those_inside(place):
    sci, err = np.ones(SHAPE), np.full(SHAPE, 0.01)
    sci[place] = 0.9
    found = standing_out.find(sci, err, 5)
    assert found[place]
    assert found.sum() == 1


def test_among_gaps_a_lone_pixel_is_no_reason():
    sci, err = np.full((2, *SHAPE), np.nan)
    assert not standing_out.find(sci, err, 5).any()
    sci[50, 50], err[50, 50] = 5, 0.01
    assert not standing_out.find(sci, err, 5)[50, 50]
