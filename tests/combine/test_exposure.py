"""An exposure in units of its level: what is subtracted from it, and what is not."""

from dataclasses import replace

import numpy as np
import pytest

from tests import small
from wfssbkg.combine import bins, stripes
from wfssbkg.combine.dark_residual import DarkResidual
from wfssbkg.files import masked_exposure

NAME = "jw01_rate.fits"
SHAPE = (64, 96)
LEVEL, NOISE = 0.5, 0.01  # DN/s


@pytest.fixture(params=["GR150C", "GR150R"])
def place(request, tmp_path):
    return small.folder(tmp_path, request.param)


@pytest.fixture
def lit(place):
    """A flat sky of 1 with faint flux and stripes, both known, and a masked source."""
    along_x = place.combination.along_x
    faint = small.bins_of(SHAPE, along_x=along_x)
    faint[2:5, 6:9] = 0.05
    source = faint < 0
    source[-3:, -3:] = True
    found = stripes.none(faint.shape[1])
    found[1], found[3, ::2] = 0.04, -0.03
    spurious = faint + found[np.arange(len(faint)) * 4 // len(faint)]
    sci = LEVEL + bins.expand(spurious, along_x=along_x)
    exposure = small.masked_exposure(place, NAME, sci, NOISE, level=LEVEL)
    small.write_refined(exposure, np.where(source, np.nan, faint), stripes=found)
    return exposure, source


def read(exposure, common, *, binned):
    """An exposure, or its bins as an image of its pixels."""
    if not binned:
        return exposure.read(slice(0, SHAPE[0]), common)
    images = exposure.read_bins(slice(0, exposure.bins_shape[0]), common)
    return [bins.expand(image, along_x=exposure.along_x) for image in images]


def test_faint_flux_and_stripes_are_subtracted_from_the_pixels(lit):
    exposure, source = lit
    value, noise, bad = exposure.read(slice(0, SHAPE[0]), small.nothing_common(exposure))
    hidden = bins.expand(source, along_x=exposure.along_x)
    np.testing.assert_allclose(value[~hidden], 1, atol=1e-4)
    np.testing.assert_allclose(noise[~hidden], NOISE / LEVEL, rtol=1e-6)
    assert np.isnan(value[hidden]).all()
    assert not bad.any()


def test_faint_flux_and_stripes_are_subtracted_from_the_bins(lit):
    exposure, source = lit
    value, _, _ = exposure.read_bins(slice(0, len(source)), small.nothing_common(exposure))
    np.testing.assert_allclose(value[~source], 1, atol=1e-3)
    assert np.isnan(value[source]).all()


@pytest.mark.parametrize("binned", [True, False])
def test_what_all_exposures_share_stays(binned, lit):
    exposure, source = lit
    common = small.nothing_common(exposure)
    common = replace(common, stripes=common.stripes + np.float32(0.02), faint=common.faint + 0.01)
    value, _, _ = read(exposure, common, binned=binned)
    hidden = bins.expand(source, along_x=exposure.along_x)
    np.testing.assert_allclose(value[~hidden], 1.03, atol=1e-3)


@pytest.mark.parametrize("binned", [True, False])
def test_extra_light_and_what_the_dark_left_are_subtracted(binned, place):
    """In any rows; what is too bright to be subtracted does not count."""
    side = 32
    rows, columns = SHAPE[0] // side, SHAPE[1] // side
    extra = np.zeros((rows, columns))
    extra[0, :] = 0.04
    extra[1, 0] = np.nan
    dark, flat = 0.03, np.random.default_rng(1).uniform(0.9, 1.1, SHAPE)
    small.keep_flat(place, flat)
    lit = LEVEL + dark / flat
    exposure = small.masked_exposure(place, NAME, lit, NOISE, level=LEVEL)
    common = replace(
        small.nothing_common(exposure), extra={NAME: extra}, dark=DarkResidual(dark, 0.001)
    )
    value, _, _ = read(exposure, common, binned=binned)
    np.testing.assert_array_equal(
        np.isnan(value), np.repeat(np.isnan(extra), side, 0).repeat(side, 1)
    )
    np.testing.assert_allclose(value[:8, 48:], 1 - 0.04, atol=1e-4)
    np.testing.assert_allclose(value[-8:, 48:], 1, atol=1e-4)
    some, _, _ = exposure.read(slice(16, 40), common)
    if not binned:
        np.testing.assert_array_equal(some, value[16:40])
    others = replace(common, extra={"another_rate.fits": extra})
    value, _, _ = read(exposure, others, binned=binned)
    np.testing.assert_allclose(value, 1, atol=1e-4)


def test_before_a_refinement_nothing_is_subtracted(place):
    sci = np.full(SHAPE, LEVEL)
    sci[10:20, 10:20] *= 1.2
    bits = np.zeros(SHAPE, dtype=np.uint8)
    bits[10:20, 10:15] = masked_exposure.SOURCE
    exposure = small.masked_exposure(place, NAME, sci, NOISE, bits=bits, level=LEVEL)
    value, _, _ = exposure.read(slice(0, SHAPE[0]), None)
    np.testing.assert_allclose(value, np.where(bits, np.nan, sci / LEVEL), rtol=1e-6)
