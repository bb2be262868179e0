import numpy as np
import pytest

from tests import small
from wfssbkg import config
from wfssbkg.combine import bins, refinement, selection, traces
from wfssbkg.combine.exposure import Exposure
from wfssbkg.files import refined_exposure

SETTINGS = config.read(config.DEFAULTS).combine
FLUXES = np.array([0.004, 0.008, 0.016, 0.032])
LEVEL = 0.5  # DN/s
SLOPE = -0.6  # of the number of sources against flux, about that of galaxies


def outcome(name, *, noise, crowding=1.0, structure=0.05):
    """An exposure and its refinement; the light that it lacks is in units of its 1/f noise."""
    numbers = crowding * 300 * (FLUXES / 0.016) ** SLOPE
    faintest = traces.COUNTED * noise / traces.gain(SETTINGS.trace_scales[0])
    sources = np.where(faintest <= FLUXES, np.round(numbers), np.nan)
    nothing = np.zeros((4, 8), dtype=np.float32)
    exposure = Exposure(name, *[None] * 5, along_x=True, noise=noise)
    found = refinement.Refinement(LEVEL, nothing, nothing, sources)
    found.columns = noise / LEVEL
    found.structure = structure * noise / LEVEL
    return exposure, found


def rejected(outcomes, **changes):
    settings = SETTINGS.model_copy(update=changes)
    return {e.name: reason for e, reason in selection.unfit(outcomes, FLUXES, settings)}


@pytest.mark.parametrize("noise", [0.01, 0.02, 0.04])
def test_too_many_sources_show_at_any_depth(noise):
    clean = [outcome(f"clean {k}", noise=0.01 * (1 + k % 4)) for k in range(12)]
    crowded = outcome("crowded", noise=noise, crowding=3.0)
    assert list(rejected([*clean, crowded])) == ["crowded"]


def test_a_few_sources_where_the_others_have_none_are_chance():
    clean = [outcome(f"clean {k}", noise=0.02, crowding=0.0) for k in range(9)]
    for name, number in (("a few", 3.0), ("many", 40.0)):
        exposure, found = outcome(name, noise=0.02)
        found.sources = np.where(np.isnan(found.sources), np.nan, number)
        clean.append((exposure, found))
    reasons = rejected(clean)
    assert list(reasons) == ["many"]
    assert "40 sources" in reasons["many"] and "the median is 0" in reasons["many"]
    assert "inf" not in reasons["many"]


def test_deeper_exposures_are_not_taken_for_crowded():
    outcomes = [outcome(f"shallow {k}", noise=0.04) for k in range(9)]
    outcomes += [outcome("deep", noise=0.01), outcome("richer", noise=0.02, crowding=1.3)]
    assert rejected(outcomes) == {}


def test_reasons_say_what_was_found_and_what_is_allowed():
    outcomes = [outcome(f"clean {k}", noise=0.02) for k in range(9)]
    outcomes += [
        outcome("crowded", noise=0.02, crowding=3),
        outcome("unlike", noise=0.02, structure=0.25),
    ]
    reasons = rejected(outcomes, tolerated_structure=0.001)
    assert "3.0 times the median" in reasons["crowded"]
    assert "combine.maximum_crowding" in reasons["crowded"]
    assert "1.00% of the sky" in reasons["unlike"] and "more than 0.80%" in reasons["unlike"]
    assert "(combine.maximum_structure)" in reasons["unlike"]
    reasons = rejected(outcomes, tolerated_structure=0.009)
    assert "more than 0.90% (combine.tolerated_structure)" in reasons["unlike"]


@pytest.mark.parametrize("noise", [0.01, 0.02, 0.04])
def test_light_that_is_missing_shows_at_any_depth(noise):
    clean = [outcome(f"clean {k}", noise=0.01 * (1 + k % 4), structure=0.05) for k in range(12)]
    uneven = outcome("uneven", noise=noise, structure=0.19)
    unlike = outcome("unlike", noise=noise, structure=0.21)
    outcomes = [*clean, uneven, unlike]
    assert list(rejected(outcomes, tolerated_structure=0.0001)) == ["unlike"]


def test_structure_that_the_sky_itself_may_have_is_no_reason():
    clean = [outcome(f"clean {k}", noise=0.001, structure=0.05) for k in range(4)]
    assert rejected([*clean, outcome("other colour", noise=0.001, structure=0.8)]) == {}


def test_fluxes_to_count_span_the_depths_of_the_exposures():
    members = [Exposure(str(k), *[None] * 5, along_x=True, noise=0.01 * 2**k) for k in range(3)]
    fluxes = refinement.fluxes_to_count(members, SETTINGS)
    faintest = traces.COUNTED * np.array([e.noise for e in members])
    faintest /= traces.gain(SETTINGS.trace_scales[0])
    for flux in faintest:
        assert np.abs(np.log2(fluxes / flux)).min() < 1e-6


def test_nothing_is_unfit_of_nothing():
    assert rejected([]) == {}


SHAPE = (128, 128)
QUIET = {"trace_threshold": 100.0, "trace_depth": 100.0, "remove_stripes": False}


def refined(members, offsets, **changes):
    """The refinements of the dithers of a field, with a background of 1."""
    settings = SETTINGS.model_copy(update=QUIET | changes)
    sky = small.bins_of(SHAPE, along_x=members[0].along_x) + 1
    common = small.nothing_common(members[0])
    return refinement.refine_field(members, offsets, sky, common, FLUXES, settings)


@pytest.mark.parametrize("grating", ["GR150C", "GR150R"])
def test_dithers_are_laid_on_one_another_whatever_the_dispersion(grating, tmp_path):
    """A trace too faint for one exposure is found, at the right place, in two dithers."""
    place, noise = small.folder(tmp_path, grating), 0.02
    (along, across), threshold = SETTINGS.trace_scales[0], SETTINGS.faint_threshold
    offsets = [(0.0, 0.0), (32.0, -20.0)]
    once = noise / traces.gain((along, across))  # the noise of the average over a trace
    y, x = np.indices(SHAPE)
    widths = (along, across) if place.combination.along_x else (across, along)
    members, middles = [], []
    for number, (dy, dx) in enumerate(offsets):
        middles.append((48 + dy, 64 + dx))
        off = ((x - 64 - dx) / widths[0]) ** 2 + ((y - 48 - dy) / widths[1]) ** 2
        trace = 2 * 0.85 * threshold * once * np.exp(-off / 2)  # smoothing halves it
        members.append(
            small.masked_exposure(place, f"jw{number}_rate.fits", LEVEL + trace, noise, level=LEVEL)
        )
    refined(members, offsets)
    for exposure, (y0, x0) in zip(members, middles, strict=True):
        faint, *_ = refined_exposure.read(exposure.next_refined)
        faint = bins.expand(faint, along_x=exposure.along_x)
        assert faint.max() > 0.5 * threshold * once
        assert faint[int(y0), int(x0)] > 0.9 * faint.max()
    refined(members[:1], offsets[:1])
    assert refined_exposure.read(members[0].next_refined)[0].max() == 0


@pytest.mark.parametrize("grating", ["GR150C", "GR150R"])
@pytest.mark.parametrize("level", [0.25, 4.0])
def test_what_differs_on_large_scales_is_in_units_of_the_level(level, grating, tmp_path):
    """Whatever the dispersion, the map is as it is on the detector."""
    place = small.folder(tmp_path, grating)
    sci = np.full(SHAPE, level)
    sci[:64] *= 1.01
    sci[64:] *= 0.99
    sci[64:96, :32] *= 1.02
    exposure = small.masked_exposure(place, "jw1_rate.fits", sci, 0.01 * level, level=level)
    (found,) = refined([exposure], [(0.0, 0.0)], structure_box=32)
    assert found.level == pytest.approx(level, rel=0.015)
    expected = np.where(np.arange(4)[:, np.newaxis] < 2, 1.01, np.full((4, 4), 0.99))
    expected[2, 0] *= 1.02
    np.testing.assert_allclose(found.difference, expected * level / found.level - 1, atol=3e-3)
    np.testing.assert_allclose(found.weight, 32 * 32 / 0.01**2, rtol=0.04)
    kept = refined_exposure.read(exposure.next_refined)
    np.testing.assert_allclose(kept.difference, found.difference, atol=1e-6)
    np.testing.assert_allclose(kept.difference_weight, found.weight, rtol=1e-6)


def test_a_slope_of_the_sky_is_not_taken_for_stripes_nor_for_sources(tmp_path):
    """Whatever the background made so far lacks on large scales."""
    place, rng = small.folder(tmp_path), np.random.default_rng(3)
    y, x = np.indices(SHAPE) / 127 - 0.5
    sky = LEVEL * (1 + 0.05 * x + 0.05 * y)
    exposure = small.masked_exposure(
        place, "jw1_rate.fits", sky + rng.normal(0, 0.01, SHAPE), 0.01, level=LEVEL
    )
    loud = {name: getattr(SETTINGS, name) for name in QUIET}
    (found,) = refined([exposure], [(0.0, 0.0)], structure_box=32, **loud)
    kept = refined_exposure.read(exposure.next_refined)
    assert np.isnan(kept.faint).mean() < 0.003
    noise = 0.01 / np.sqrt(32 * bins.SIZE)  # of the mean of a column of bins of an amplifier
    inner = kept.stripes[:, 4:-4]  # beyond the middles of the outer boxes structure is not known
    assert np.sqrt(np.mean(np.square(inner))) < 1.2 * noise
    assert found.difference[0, 0] == pytest.approx(-0.0375, abs=0.003)
    assert found.difference[3, 3] == pytest.approx(0.0375, abs=0.003)
