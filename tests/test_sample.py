"""An exposure in units of its level: what is subtracted from it, and what stays."""

import numpy as np
import pytest

from tests import small
from wfssbkg import cellfiles, cells, masked

NAME = "jw01_rate.fits"
SHAPE = (64, 96)
LEVEL, NOISE = 0.5, 0.01  # DN/s


@pytest.fixture(params=["GR150C", "GR150R"])
def place(request, tmp_path):
    return small.folder(tmp_path, request.param)


@pytest.fixture
def lit(place):
    """A flat sky of 1 with faint light and stripes on it, both found, and a source masked."""
    along_x = place.combination.along_x
    light = small.cells_of(SHAPE, along_x=along_x)
    light[2:5, 6:9] = 0.05
    source = light < 0
    source[-3:, -3:] = True
    stripes = np.zeros((4, light.shape[1]), dtype=np.float32)
    stripes[1], stripes[3, ::2] = 0.04, -0.03
    found = light + stripes[np.arange(len(light)) * 4 // len(light)]
    sci = LEVEL + cells.expand(found, along_x=along_x)
    exposure = small.masked_exposure(place, NAME, sci, NOISE, level=LEVEL)
    cellfiles.write_refined(exposure.refined, source, light, stripes, NOISE)
    return exposure, source


def nothing_common(exposure):
    return np.zeros((4, exposure.cells_shape[1]), dtype=np.float32)


def test_faint_light_and_stripes_are_subtracted_from_the_pixels(lit):
    exposure, source = lit
    value, noise, bad = exposure.read(slice(0, SHAPE[0]), nothing_common(exposure))
    hidden = cells.expand(source, along_x=exposure.along_x)
    np.testing.assert_allclose(value[~hidden], 1, atol=1e-4)
    np.testing.assert_allclose(noise[~hidden], NOISE / LEVEL, rtol=1e-6)
    assert np.isnan(value[hidden]).all()
    assert not bad.any()


def test_faint_light_and_stripes_are_subtracted_from_the_cells(lit):
    exposure, source = lit
    value, _, _ = exposure.read_cells(slice(0, len(source)), nothing_common(exposure))
    np.testing.assert_allclose(value[~source], 1, atol=1e-3)
    assert np.isnan(value[source]).all()


def test_what_all_exposures_have_in_common_stays(lit):
    exposure, source = lit
    common = nothing_common(exposure) + np.float32(0.02)
    value, _, _ = exposure.read(slice(0, SHAPE[0]), common)
    hidden = cells.expand(source, along_x=exposure.along_x)
    np.testing.assert_allclose(value[~hidden], 1.02, atol=1e-4)


def test_before_a_refinement_nothing_is_subtracted(place):
    sci = np.full(SHAPE, LEVEL)
    sci[10:20, 10:20] *= 1.2
    bits = np.zeros(SHAPE, dtype=np.uint8)
    bits[10:20, 10:15] = masked.SOURCE
    exposure = small.masked_exposure(place, NAME, sci, NOISE, bits=bits, level=LEVEL)
    value, _, _ = exposure.read(slice(0, SHAPE[0]), None)
    np.testing.assert_allclose(value, np.where(bits, np.nan, sci / LEVEL), rtol=1e-6)
