"""The sky of exposures that are sums of known parts."""

from typing import NamedTuple

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from demo import detector
from tests import sky as simulated
from tests import small
from wfssbkg.combine import sky
from wfssbkg.detector import science_pixels
from wfssbkg.errors import StepError
from wfssbkg.subtract.exposure import stripes_of

NPIX = simulated.NPIX
LEVEL, SECONDS = 0.6, 1000.0
NOISE = detector.pixel_noise(LEVEL, SECONDS)
SETTINGS = small.settings(combine=simulated.SETTINGS).combine
SCIENCE = science_pixels((NPIX, NPIX))
MIRROR = np.where(SCIENCE, simulated.mirror(), 0).astype(np.float32)
Y, X = np.indices((NPIX, NPIX)) / NPIX
BAND = np.where(SCIENCE, np.exp(-0.5 * ((Y - 0.6 + 0.2 * X) / 0.08) ** 2), 0).astype(np.float32)
ALONE = sky.Model(MIRROR, 0.0, BAND[:0].reshape(0, NPIX, NPIX), np.zeros(0))
WITH_BAND = sky.Model(MIRROR, 0.0, BAND[np.newaxis], np.array([0.05]))


class Exposure(NamedTuple):
    """Its pixels, their noise, those that are bad, and what a first search takes for sources."""

    value: np.ndarray
    noise: np.ndarray
    bad: np.ndarray
    source: np.ndarray

    def plus(self, light):
        return self._replace(value=(self.value + light).astype(np.float32))


def traces(rng, count):
    """Light of sources, most of them too faint to see."""
    flux = np.minimum(0.002 + 0.01 * rng.pareto(1.0, count), 5)
    light, rows, columns = np.zeros((NPIX, NPIX)), np.arange(NPIX)[:, np.newaxis], np.arange(NPIX)
    for peak in flux:
        y, x = rng.uniform(-20, NPIX + 20, 2)
        width, length = rng.uniform(1.0, 2.5), rng.uniform(18, 26)
        across = np.exp(-0.5 * ((rows - y) / width) ** 2)
        light += peak * across * np.exp(-0.5 * ((columns - x) / length) ** 4)
    return light


def galaxy(x, y, peak, half_light):
    """An exponential disc."""
    radius = np.hypot(NPIX * X - x, (NPIX * Y - y) / 0.6)
    return peak * np.exp(-1.678 * radius / half_light)


def exposure(seed, light=0.0, *, band=0.0, level=LEVEL, count=70):
    rng = np.random.default_rng(seed)
    sources = traces(rng, count) + light
    value = level * (MIRROR + band * BAND) + sources + rng.normal(0, NOISE, (NPIX, NPIX))
    value += detector.stripes(rng, NPIX, SECONDS, 0.5)
    bad = (rng.random((NPIX, NPIX)) < 0.01) | ~SCIENCE
    noise = np.full(value.shape, NOISE, dtype=np.float32)
    return Exposure(value.astype(np.float32), noise, bad, sources > 2 * NOISE)


def fit(seen, model=ALONE, *, along_x=True, direct=False, minimum_sky=0.05):
    return sky.fit(
        *seen, model, SETTINGS, along_x=along_x, direct=direct, minimum_sky=minimum_sky
    )  # fmt: skip


def turned(model):
    """A model without scattered light, of the other grism."""
    return sky.Model(np.ascontiguousarray(model.background.T), 0.0, model.shapes, model.typical)


@pytest.fixture(scope="module")
def ordinary():
    return exposure(1)


# ---- known answers


@given(seed=st.integers(0, 2**32 - 1), level=st.floats(0.2, 2))
@settings(max_examples=10)
def test_the_level_is_that_of_the_sky_whatever_sources_are_in_it(seed, level):
    found = fit(exposure(seed, level=level))
    assert found.relaxed == ""
    assert 0.6 < found.fraction < 1
    # In DN/s, what faint sources and 1/f noise do is the same in a bright and in a dark sky.
    assert abs(found.level - level) < 0.007 * LEVEL
    assert 0 < found.level_error < 0.01 * LEVEL


def test_errors_of_the_level_average_out_and_are_told():
    found = [fit(exposure(seed)) for seed in range(20)]
    levels = [each.level for each in found]
    assert abs(np.mean(levels) / LEVEL - 1) < 0.003
    assert np.std(levels) / LEVEL < 0.003
    told = np.sqrt(np.mean([each.level_error**2 for each in found]))
    assert 0.5 < np.std(levels) / told < 2


@pytest.mark.parametrize("along_x", [True, False])
def test_more_rounds_of_the_fit_change_nothing(monkeypatch, along_x):
    seen = exposure(2)
    if not along_x:
        seen = Exposure(*(np.ascontiguousarray(image.T) for image in seen))
    model = ALONE if along_x else turned(ALONE)
    few = fit(seen, model, along_x=along_x)
    monkeypatch.setattr(sky, "_ROUNDS", 12)
    assert fit(seen, model, along_x=along_x).level == pytest.approx(few.level, rel=2e-4)


@given(seed=st.integers(0, 2**32 - 1), band=st.floats(0.01, 0.15))
@settings(max_examples=10)
def test_scattered_light_is_found_with_its_amplitude(seed, band):
    found = fit(exposure(seed, band=band), WITH_BAND)
    assert found.amplitudes[0] == pytest.approx(band, abs=0.008 + 0.1 * band)
    assert found.level == pytest.approx(LEVEL, rel=0.01)
    image = found.image(WITH_BAND)[SCIENCE]
    assert np.std(image - LEVEL * (MIRROR + band * BAND)[SCIENCE]) < 0.005 * LEVEL


@pytest.mark.parametrize("seed", range(8))
def test_where_there_is_no_scattered_light_none_is_found(seed):
    found = fit(exposure(seed), WITH_BAND)
    assert 0 <= found.amplitudes[0] < 0.004
    assert 0 < found.errors[0] < 0.005


def test_one_of_two_kinds_of_scattered_light_is_told_from_the_other():
    other = np.where(SCIENCE, np.exp(-0.5 * ((X - 0.3) / 0.08) ** 2), 0).astype(np.float32)
    model = sky.Model(MIRROR, 0.0, np.array([BAND, other]), np.array([0.05, 0.05]))
    for light, wanted in (((0.08, 0.0), (0.08, 0)), ((0.0, 0.06), (0, 0.06))):
        seen = exposure(3).plus(LEVEL * (light[0] * BAND + light[1] * other))
        np.testing.assert_allclose(fit(seen, model).amplitudes, wanted, atol=0.016)


@pytest.mark.parametrize("peak", [0.1, 0.5, 3.0])
@pytest.mark.parametrize("place", [(60, 90), (128, 140), (200, 120)])
def test_a_large_galaxy_is_neither_sky_nor_scattered_light(place, peak):
    """In the middle of the band; 20 arcsec on a frame of this size."""
    found = fit(exposure(2, galaxy(*place, peak * LEVEL, 38)), WITH_BAND)
    assert found.amplitudes[0] < 0.01
    assert found.level == pytest.approx(LEVEL, rel=0.005)


def test_direct_images_have_round_sources(ordinary):
    rng = np.random.default_rng(4)
    stars = sum(galaxy(*rng.uniform(0, NPIX, 2), 0.4, 3) for _ in range(60))
    seen = exposure(4, stars, count=0)
    found = fit(seen, along_x=False, direct=True)
    assert found.level == pytest.approx(LEVEL, rel=0.005)
    assert found.source[seen.source].mean() > 0.8


def test_pixels_without_a_background_have_no_sky(ordinary):
    model = sky.Model(MIRROR.copy(), 0.01, BAND[np.newaxis], np.array([0.05]))
    model.background[100:110, 50:60] = 0
    image = fit(ordinary, model).image(model)
    assert (image[100:110, 50:60] == 0).all()
    assert (image[~SCIENCE] == 0).all()
    assert (image[20:100, 20:200] > 0).all()


def columns_of_amplifiers(rng, columns):
    """Offsets of groups of columns of each amplifier, which a background does not have."""
    offsets = np.repeat(rng.choice([-0.01, 0.01], (4, NPIX // columns)), columns, axis=1)
    offsets -= offsets.mean(axis=1, keepdims=True)
    return np.where(SCIENCE, np.repeat(offsets, NPIX // 4, axis=0), 0)


def noise_left(columns, *, along_x):
    """What is left of such offsets, and what of a level there is in what was found of them."""
    rng = np.random.default_rng(5)
    own = columns_of_amplifiers(rng, columns)
    value = LEVEL * SCIENCE + own + rng.normal(0, NOISE, own.shape)
    noise = np.full(own.shape, NOISE, dtype=np.float32)
    seen = Exposure(value.astype(np.float32), noise, ~SCIENCE, np.zeros_like(SCIENCE))
    flat = sky.Model(SCIENCE.astype(np.float32), 0.0, ALONE.shapes, ALONE.typical)
    found = fit(seen, flat, along_x=along_x)
    stripes = stripes_of(seen.value - found.image(flat), noise, found.free)
    return np.std((stripes - own)[SCIENCE]) / 0.01, stripes[SCIENCE].mean() / LEVEL


@pytest.mark.parametrize(("columns", "along_x"), [(4, True), (4, False), (1, True), (1, False)])
def test_stripes_are_those_of_the_exposure_and_have_no_level(columns, along_x):
    left, level = noise_left(columns, along_x=along_x)
    assert left < 0.5
    assert abs(level) < 1e-3  # of stripes of 0.017, whose mean where there is sky is of the level


def test_values_that_are_no_numbers_do_not_count(ordinary):
    broken = ordinary.value.copy()
    broken[30:50, 30:50] = np.nan
    found = fit(ordinary._replace(value=broken))
    assert found.level == pytest.approx(fit(ordinary).level, rel=0.002)
    assert np.isfinite(found.image(ALONE)).all()


# ---- what has to follow whatever the exposure


@given(more=st.floats(0, 3), seed=st.integers(0, 50))
@settings(max_examples=8)
def test_more_of_the_background_raises_the_level_by_as_much_and_leaves_the_same(more, seed):
    seen = exposure(seed)
    raised = seen.plus(more * MIRROR)
    before, after = fit(seen), fit(raised)
    assert after.level - before.level == pytest.approx(more, abs=5e-4)
    left = [each.value - found.image(ALONE) for each, found in ((seen, before), (raised, after))]
    np.testing.assert_allclose(*left, atol=1e-3)
    assert np.mean(before.source != after.source) < 1e-3


@given(power=st.integers(-6, 6), seed=st.integers(0, 50))
@settings(max_examples=8)
def test_another_unit_changes_nothing_but_the_level(power, seed):
    factor = 2.0**power  # which rounds nothing: at a threshold a last bit decides
    seen = exposure(seed, band=0.05)
    scaled = seen._replace(
        value=seen.value * np.float32(factor), noise=seen.noise * np.float32(factor)
    )
    before, after = fit(seen, WITH_BAND), fit(scaled, WITH_BAND)
    assert after.level / factor == pytest.approx(before.level, rel=1e-6)
    np.testing.assert_allclose(after.amplitudes, before.amplitudes, atol=1e-6)


def test_the_dark_residual_is_no_part_of_the_level(ordinary):
    dark = sky.Model(MIRROR, 0.05, ALONE.shapes, ALONE.typical)
    before, after = fit(ordinary), fit(ordinary.plus(np.float32(0.05)), dark)
    assert after.level == pytest.approx(before.level, rel=1e-4)
    expected = np.where(SCIENCE, before.image(ALONE) + 0.05, 0)
    np.testing.assert_allclose(after.image(dark), expected, atol=1e-4)


def test_the_other_grism_is_the_same_turned():
    """Without 1/f noise, which does not turn with the grism."""
    rng = np.random.default_rng(6)
    light = traces(rng, 70)
    value = (LEVEL * MIRROR + light + rng.normal(0, NOISE, MIRROR.shape)).astype(np.float32)
    noise = np.full(value.shape, NOISE, dtype=np.float32)
    seen = Exposure(value, noise, ~SCIENCE, light > 2 * NOISE)
    other_seen = Exposure(*(np.ascontiguousarray(image.T) for image in seen))
    one, other = fit(seen), fit(other_seen, turned(ALONE), along_x=False)
    assert other.level == pytest.approx(one.level, rel=0.001)
    assert np.mean(one.source != other.source.T) < 0.04


@pytest.mark.parametrize("part", [np.s_[:, 192:], np.s_[192:], np.s_[:, 128:], np.s_[128:]])
def test_a_part_of_the_frame_has_the_level_of_all_of_it(part):
    for seed in (1, 2, 3):
        seen = Exposure(*(np.ascontiguousarray(image[part]) for image in exposure(seed)))
        model = sky.Model(MIRROR[part], 0.0, BAND[part][np.newaxis], np.array([0.05]))
        found = fit(seen, model)
        assert found.level == pytest.approx(LEVEL, rel=0.015)
        assert found.source.shape == seen.value.shape


# ---- busy fields


def walled(clean, bright=0.3):
    """Light everywhere but in some lines along the dispersion, brighter the farther from them."""
    beyond = np.clip(np.abs(NPIX * Y - 100) - clean / 2, 0, None)
    return np.minimum(0.02 * beyond, bright)


def test_in_a_busy_field_only_brighter_sources_are_masked():
    found = fit(exposure(3, walled(8, bright=10), count=0))
    assert "times brighter than else are masked" in found.relaxed
    assert found.fraction >= 0.05
    assert found.level == pytest.approx(LEVEL, rel=0.02)
    assert abs(found.level - LEVEL) < 3 * found.level_error


def test_in_the_end_the_darkest_lines_along_the_dispersion_are_the_sky():
    light = np.where(np.abs(NPIX * Y - 100) < 8, 0, 0.5 * LEVEL)
    found = fit(exposure(3, light, count=0), WITH_BAND, minimum_sky=0.9)
    assert found.relaxed == "fitted to the darkest lines along the dispersion"
    assert found.level == pytest.approx(LEVEL, rel=0.01)
    assert found.amplitudes == [0]
    assert found.fraction == pytest.approx(0.02, abs=0.01)
    free = ~found.source
    assert free.any()
    assert (np.abs(NPIX * Y - 100)[free] < 8).all()


def test_without_any_line_that_has_no_source_the_sky_is_not_known():
    with pytest.raises(StepError, match="even the darkest lines along the dispersion have light"):
        fit(exposure(3, walled(0, bright=10), count=0), minimum_sky=0.5)


def test_a_busy_direct_image_has_no_lines_to_fall_back_on():
    with pytest.raises(StepError, match=r"% of the pixels are left as sky \(subtract.minimum_sky"):
        fit(exposure(3, walled(0, bright=10), count=0), direct=True, minimum_sky=0.9)


def test_where_a_search_leaves_nothing_the_darkest_lines_are_left_to_try():
    """Clean lines here and there, each of them narrower than what the search smooths with."""
    rng = np.random.default_rng(7)
    light = rng.uniform(0.3, 0.6, (NPIX, 1)) * np.ones((1, NPIX))
    light[rng.permutation(np.arange(4, NPIX - 4))[:30]] = 0
    found = fit(exposure(7, light, count=0))
    assert found.relaxed == "fitted to the darkest lines along the dispersion"
    assert found.level == pytest.approx(LEVEL, rel=0.01)


def test_a_field_full_of_light_is_not_fitted_as_if_that_were_its_sky():
    light = np.where(np.abs(NPIX * Y - 43) < 3, 0, 0.5 * LEVEL)
    try:
        found = fit(exposure(3, light, count=0))
    except StepError:
        return
    assert found.level == pytest.approx(LEVEL, rel=0.05)


@pytest.mark.parametrize("nothing", ["bad", "not a number", "without a background", "negative"])
def test_without_any_sky_there_is_an_error_in_words(ordinary, nothing):
    model, seen = ALONE, ordinary
    if nothing == "bad":
        seen = seen._replace(bad=np.ones_like(seen.bad))
    elif nothing == "not a number":
        seen = seen._replace(value=np.full_like(seen.value, np.nan))
    elif nothing == "without a background":
        model = sky.Model(np.zeros_like(MIRROR), 0.0, ALONE.shapes, ALONE.typical)
    else:
        seen = seen._replace(value=-seen.value)
    with pytest.raises(StepError, match=r"sky|background"):
        fit(seen, model)


# ---- maps of the whole frame


def test_maps_are_enlarged_to_the_frame_without_its_reference_pixels():
    maps = np.array([np.full((8, 8), 1.0), np.eye(8)])
    images = sky.shapes(maps, (NPIX, NPIX))
    assert images.dtype == np.float32
    assert images.shape == (2, NPIX, NPIX)
    assert (images[0] == SCIENCE).all()
    assert images[1][16, 16] > images[1][16, 240] == 0
    assert sky.shapes(maps[:0], (NPIX, NPIX)).shape == (0, NPIX, NPIX)
