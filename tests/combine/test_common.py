"""What exposures have in common of what was found in each: it stays in them."""

import numpy as np
import pytest

from tests import small
from wfssbkg.combine import bins, extra_light
from wfssbkg.combine.common import common_to
from wfssbkg.combine.dark_residual import DarkResidual
from wfssbkg.combine.exposure import Common

SHAPE = (128, 128)
BOX = (8, 8)  # boxes of structure in a frame
SETTINGS = small.DEFAULTS.combine
LEVELS = np.array([0.3, 0.5, 0.7, 0.9, 1.4])  # DN/s


@pytest.fixture(params=["GR150C", "GR150R"])
def place(request, tmp_path):
    return small.folder(tmp_path, request.param)


def members_of(place, *, faint=0.0, own=0.0, maps=None, spread=0.0):
    """Exposures in which something was found, relative to their levels, with flux of their own."""
    rng, made = np.random.default_rng(8), []
    for number, level in enumerate(LEVELS):
        sci = np.full(SHAPE, level)
        exposure = small.masked_exposure(place, f"jw{number}_rate.fits", sci, 0.01, level=level)
        common = np.broadcast_to(faint, len(LEVELS))[number]
        flux = np.zeros(exposure.bins_shape, dtype=np.float32) + level * common
        flux[rng.random(flux.shape) < 0.1] += 0.05 * level  # traces of single sources
        flux[rng.random(flux.shape) < 0.1] = np.nan
        columns = exposure.bins_shape[1]
        stripes = own + rng.normal(0, spread, (4, columns)) if spread else own + np.zeros(columns)
        stripes = np.broadcast_to(stripes, (4, columns))
        small.write_refined(
            exposure,
            flux,
            stripes=level * stripes,
            weight=np.full_like(stripes, 0.001**-2) / level**2,
            maps=None if maps is None else (maps[number], np.full(BOX, 0.0005**-2)),
            dark=0.003,
        )
        made.append(exposure)
    return made


def test_faint_flux_that_all_have_is_common_and_that_of_single_sources_is_not(place):
    members = members_of(place, faint=0.004)
    common = common_to(members, SETTINGS)
    # A tenth of the bins has 0.05 of a source; they are in other places in each exposure.
    np.testing.assert_allclose(common.faint, 0.004 + 0.1 * 0.05, atol=0.0015)
    without = common_to(members_of(place), SETTINGS)
    np.testing.assert_allclose(common.faint - without.faint, 0.004, atol=1e-5)
    assert common.faint.shape == members[0].bins_shape


@pytest.mark.parametrize(("number", "with_halo", "common"), [(3, 2, 0), (3, 3, 1), (5, 3, 1)])
def test_halos_that_meet_by_chance_in_few_fields_are_not_common(place, number, with_halo, common):
    """Exposures without a pointing are a field of their own each."""
    halo = np.where(np.arange(len(LEVELS)) < with_halo, 0.02, 0)
    found = common_to(members_of(place, faint=halo)[:number], SETTINGS)
    without = common_to(members_of(place)[:number], SETTINGS)
    np.testing.assert_allclose(found.faint - without.faint, 0.02 * common, atol=0.006)
    assert np.mean(found.faint - without.faint) == pytest.approx(0.02 * common, abs=0.002)


def test_stripes_that_all_have_are_common(place):
    rng = np.random.default_rng(9)
    columns = bins.shape(SHAPE, along_x=place.combination.along_x)[1]
    shared = rng.normal(0, 0.01, (4, columns))
    common = common_to(members_of(place, own=shared, spread=0.002), SETTINGS)
    assert np.std(common.stripes - shared) < 1.2 * 0.002 / np.sqrt(len(LEVELS))


def test_what_all_have_stays_in_the_exposures_and_the_rest_goes(place):
    """Whatever the level of each."""
    common = common_to(members_of(place, faint=0.004, own=0.01), SETTINGS)
    assert common.dark == DarkResidual(pytest.approx(0.003))
    for exposure in members_of(place, faint=0.004, own=0.03):
        value, _, _ = exposure.read_bins(slice(0, exposure.bins_shape[0]), common)
        dark = 0.003 / exposure.level
        assert np.nanmedian(value) == pytest.approx(1 - 0.02 - dark + 0.005, abs=0.0015)


def test_structure_that_all_have_is_common_and_what_one_has_is_extra(place):
    rng = np.random.default_rng(10)
    maps = rng.normal(0, 0.0005, (len(LEVELS), *BOX)) + 0.02 * rng.standard_normal(BOX)
    maps[2, :4, :5] += 0.006
    members = members_of(place, maps=maps)
    common = common_to(members, SETTINGS)
    assert set(common.extra) == {exposure.name for exposure in members}
    extra = np.array([common.extra[exposure.name] for exposure in members])
    assert extra[2, :3, :4].mean() == pytest.approx(0.006, abs=0.0015)
    assert np.abs(np.delete(extra, 2, axis=0)).max() < 0.002
    image = extra_light.image_of(common.extra[members[2].name], members[2].bins_shape, slice(None))
    value, _, _ = members[2].read_bins(slice(0, len(image)), common)
    known = np.isfinite(value) & (value > 0.97)
    taken = 1 - 0.003 / LEVELS[2] + common.faint - image
    np.testing.assert_allclose(value[known], taken[known], atol=1e-4)


def test_before_a_refinement_nothing_is_common():
    common = Common.nothing((32, 8))
    assert not common.stripes.any()
    assert not common.faint.any()
    assert common.extra == common.level == {}
    assert common.dark == DarkResidual()
    assert common.stripes.shape == (4, 8)
    assert common.faint.shape == (32, 8)
