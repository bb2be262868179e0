"""An exposure in units of its level: what is subtracted from it, and what is not."""

import numpy as np
import pytest

from tests import small
from wfssbkg.combine import bins, stripes
from wfssbkg.files import masked_exposure, refined_exposure

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
    refined_exposure.write(exposure.refined, source, faint, found, np.zeros_like(found))
    return exposure, source


def nothing_shared(exposure):
    return stripes.none(exposure.bins_shape[1])


def test_faint_flux_and_stripes_are_subtracted_from_the_pixels(lit):
    exposure, source = lit
    value, noise, bad = exposure.read(slice(0, SHAPE[0]), nothing_shared(exposure))
    hidden = bins.expand(source, along_x=exposure.along_x)
    np.testing.assert_allclose(value[~hidden], 1, atol=1e-4)
    np.testing.assert_allclose(noise[~hidden], NOISE / LEVEL, rtol=1e-6)
    assert np.isnan(value[hidden]).all()
    assert not bad.any()


def test_faint_flux_and_stripes_are_subtracted_from_the_bins(lit):
    exposure, source = lit
    value, _, _ = exposure.read_bins(slice(0, len(source)), nothing_shared(exposure))
    np.testing.assert_allclose(value[~source], 1, atol=1e-3)
    assert np.isnan(value[source]).all()


def test_what_all_exposures_share_stays(lit):
    exposure, source = lit
    shared = nothing_shared(exposure) + np.float32(0.02)
    value, _, _ = exposure.read(slice(0, SHAPE[0]), shared)
    hidden = bins.expand(source, along_x=exposure.along_x)
    np.testing.assert_allclose(value[~hidden], 1.02, atol=1e-4)


def test_before_a_refinement_nothing_is_subtracted(place):
    sci = np.full(SHAPE, LEVEL)
    sci[10:20, 10:20] *= 1.2
    bits = np.zeros(SHAPE, dtype=np.uint8)
    bits[10:20, 10:15] = masked_exposure.SOURCE
    exposure = small.masked_exposure(place, NAME, sci, NOISE, bits=bits, level=LEVEL)
    value, _, _ = exposure.read(slice(0, SHAPE[0]), None)
    np.testing.assert_allclose(value, np.where(bits, np.nan, sci / LEVEL), rtol=1e-6)
