import numpy as np
import pytest

from wfssbkg import config, refine, traces
from wfssbkg.sample import Exposure

SETTINGS = config.read(config.DEFAULTS).combine
FLUXES = np.array([0.004, 0.008, 0.016, 0.032])
LEVEL = 0.5  # DN/s
SLOPE = -0.6  # of the number of sources against flux, about that of galaxies


def outcome(name, *, noise, crowding=1.0, structure=0.05):
    """An exposure of some depth, and what was found in it; structure in units of its noise."""
    numbers = crowding * 300 * (FLUXES / 0.016) ** SLOPE
    faintest = traces.COUNTED * noise / traces.gain(SETTINGS.trace_scales[0])
    sources = np.where(faintest <= FLUXES, np.round(numbers), np.nan)
    nothing = np.zeros((4, 8), dtype=np.float32)
    exposure = Exposure(name, *[None] * 3, along_x=True, noise=noise)
    structure *= noise / LEVEL
    return exposure, refine.Findings(LEVEL, structure, sources, nothing, nothing)


def rejected(outcomes):
    return {e.name: reason for e, reason in refine.unfit(outcomes, FLUXES, SETTINGS)}


@pytest.mark.parametrize("noise", [0.01, 0.02, 0.04])
def test_too_many_sources_show_at_any_depth(noise):
    clean = [outcome(f"clean {k}", noise=0.01 * (1 + k % 4)) for k in range(12)]
    crowded = outcome("crowded", noise=noise, crowding=2.0)
    assert list(rejected([*clean, crowded])) == ["crowded"]


def test_deeper_exposures_are_not_taken_for_crowded():
    outcomes = [outcome(f"shallow {k}", noise=0.04) for k in range(9)]
    outcomes += [outcome("deep", noise=0.01), outcome("richer", noise=0.02, crowding=1.3)]
    assert rejected(outcomes) == {}


def test_reasons_say_what_was_found_and_what_is_allowed():
    outcomes = [outcome(f"clean {k}", noise=0.02) for k in range(9)]
    outcomes += [
        outcome("crowded", noise=0.02, crowding=2),
        outcome("lit", noise=0.02, structure=0.15),
    ]
    reasons = rejected(outcomes)
    assert "2.0 times the median" in reasons["crowded"]
    assert "combine.maximum_crowding" in reasons["crowded"]
    assert "0.60% of the sky" in reasons["lit"] and "more than 0.36%" in reasons["lit"]
    assert "combine.maximum_structure" in reasons["lit"]


@pytest.mark.parametrize("noise", [0.01, 0.02, 0.04])
def test_scattered_light_shows_at_any_depth(noise):
    clean = [outcome(f"clean {k}", noise=0.01 * (1 + k % 4), structure=0.05) for k in range(12)]
    uneven = outcome("uneven", noise=noise, structure=0.08)
    lit = outcome("lit", noise=noise, structure=0.12)
    assert list(rejected([*clean, uneven, lit])) == ["lit"]


def test_structure_that_the_sky_itself_may_have_is_no_reason():
    clean = [outcome(f"clean {k}", noise=0.001, structure=0.05) for k in range(4)]
    assert rejected([*clean, outcome("other colour", noise=0.001, structure=0.8)]) == {}


def test_fluxes_to_count_span_the_depths_of_a_sample():
    sample = [Exposure(str(k), *[None] * 3, along_x=True, noise=0.01 * 2**k) for k in range(3)]
    fluxes = refine.fluxes_to_count(sample, SETTINGS)
    faintest = traces.COUNTED * np.array([e.noise for e in sample])
    faintest /= traces.gain(SETTINGS.trace_scales[0])
    for flux in faintest:
        assert np.abs(np.log2(fluxes / flux)).min() < 1e-6


def test_nothing_is_unfit_of_nothing():
    assert rejected([]) == {}
