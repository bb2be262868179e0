import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import ndimage

from wfssbkg.combine import traces
from wfssbkg.combine.bins import SIZE

SHAPE = (200, 120)  # bins
SIGMA = 0.02  # of a pixel
SETTINGS = {
    "scales": [[10, 1.1], [16, 4]],
    "threshold": 3.0,
    "depth": 0.4,
    "fluxes": np.array([1.0]),
}


def noise_image(seed=1):
    """Bins with noise only, and their weight."""
    sigma = SIGMA / np.sqrt(SIZE)
    image = np.random.default_rng(seed).normal(0, sigma, SHAPE).astype(np.float32)
    return image, np.full(SHAPE, sigma**-2, np.float32)


def trace(row=100, first=20, last=60):
    place = np.zeros(SHAPE, dtype=bool)
    place[row : row + 4, first:last] = True
    return place


def near(place, rows, columns):
    y, x = np.nonzero(place)
    grown = np.zeros(SHAPE, dtype=bool)
    grown[y.min() - rows : y.max() + rows, x.min() - columns : x.max() + columns] = True
    return grown


def test_traces_below_the_noise_of_a_pixel_are_found():
    image, weight = noise_image()
    image[trace()] += 0.8 * SIGMA
    found, _ = traces.find(image, weight, **SETTINGS)
    assert found[trace()].mean() > 0.8
    assert found[~near(trace(), 12, 8)].mean() < 0.002
    across, _ = traces.find(
        np.ascontiguousarray(image[:120].T), weight[:, :].T[:, :120], **SETTINGS
    )
    assert across[trace()[:120].T].mean() < 0.8


def test_traces_are_found_across_unknown_bins_and_odd_shapes():
    image, weight = (x[:193, :111].copy() for x in noise_image())
    unknown = np.random.default_rng(9).random(image.shape) < 0.1
    image[trace()[:193, :111]] += SIGMA
    weight[unknown], image[unknown] = 0, 0
    found, _ = traces.find(image, weight, **SETTINGS)
    assert found.shape == image.shape
    assert found[100:104, 20:60].mean() > 0.9
    assert found[:80].mean() < 0.02


def test_what_is_significant_but_faint_stays():
    _, weight = noise_image()
    image = np.full(SHAPE, SIGMA / 2, np.float32)
    found, _ = traces.find(image, weight, **(SETTINGS | {"depth": 0.6}))
    assert not found.any()


def test_nothing_is_found_where_nothing_is_known():
    nothing = np.zeros(SHAPE, np.float32)
    found, numbers = traces.find(nothing, nothing, **SETTINGS)
    assert not found.any()
    assert np.isnan(numbers).all()


def test_noise_of_the_average_is_calibrated():
    image, weight = noise_image()
    for scale in SETTINGS["scales"]:
        mean, sigma = traces.average(image, weight, scale)
        inner = np.s_[20:-20, 15:-15]
        assert np.std((mean / sigma)[inner]) == pytest.approx(1, abs=0.25)


def test_sources_brighter_than_each_flux_are_counted_once_each():
    image, weight = noise_image()
    for row, bright in ((30, 3), (80, 3), (130, 10), (180, 0.2)):
        image[trace(row)] += bright * SIGMA
    fluxes = np.array([0.1, 1, 5, 50]) * SIGMA
    _, numbers = traces.find(image, weight, **(SETTINGS | {"fluxes": fluxes}))
    np.testing.assert_array_equal(numbers, [np.nan, 3, 1, 0])


def test_faint_flux_is_found_in_the_dithers_together():
    """In each exposure the trace is elsewhere, and too faint for that exposure alone."""
    offsets, members, truth = [(0, 0), (7.2, -21.0), (-13.0, 16.3), (3.0, 9.0)], [], []
    for seed, (across, along) in enumerate(offsets):
        place = np.roll(trace(), (round(across), round(along / SIZE)), axis=(0, 1))
        image, weight = noise_image(seed)
        members.append((image + place * np.float32(0.35 * SIGMA), weight))
        truth.append(place)
    settings = {"scale": (10, 1.1), "threshold": 3.0}
    light = traces.faint_flux(members, offsets, **settings)
    for found, place in zip(light, truth, strict=True):
        assert found[place].mean() == pytest.approx(0.3 * SIGMA, rel=0.25)
        assert np.mean(found[~near(place, 8, 8)] > 0) < 0.01
    alone = traces.faint_flux(members[:1], offsets[:1], **settings)[0]
    assert alone[truth[0]].mean() < 0.7 * light[0][truth[0]].mean()
    for (image, _), found, place in zip(members, light, truth, strict=True):
        left = (image - found)[place].mean()
        assert abs(left) < 0.15 * SIGMA


@given(st.integers(0, 2**32 - 1), st.floats(0.1, 2), st.booleans())
def test_sources_are_counted_as_by_scipy(seed, width, with_ties):
    rng = np.random.default_rng(seed)
    image = ndimage.gaussian_filter(rng.standard_normal(rng.integers(1, 50, 2)), width)
    image = np.round(image, 1) if with_ties else image
    limits = np.sort(rng.uniform(image.min() - 0.1, image.max() + 0.1, 6))
    expected = [ndimage.label(image > limit)[1] for limit in limits]
    assert traces.count(image, limits).tolist() == expected
    assert len(traces.count(image, limits[:0])) == 0
