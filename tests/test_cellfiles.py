"""Cells and refined files in scaled integers: what comes back is what was given."""

import numpy as np
import pytest
from astropy.io import fits

from wfssbkg import cellfiles, files

SHAPE = (64, 48)


@pytest.fixture
def rng():
    return np.random.default_rng(5)


def write_cells(path, value, noise):
    files.write(path, [fits.PrimaryHDU(), *cellfiles.of_cells(value, noise)])


def read_cells(path, rows=slice(None)):
    return cellfiles.read(path, dict.fromkeys(cellfiles.OF_CELLS, rows), "makeMask.py")


def test_cells_come_back_to_a_small_part_of_their_noise(tmp_path, rng):
    path = tmp_path / "cells.fits"
    noise = rng.uniform(0.005, 0.03, SHAPE).astype(np.float32)
    value = (0.7 + noise * rng.standard_normal(SHAPE)).astype(np.float32)
    noise[1, 2] = np.nan  # a bad cell
    noise[3, 4] = 10.0  # next to nothing is known of it
    value[5, 6] = 1e4  # a bright star
    write_cells(path, value, noise)
    found, err = read_cells(path)
    known = np.isfinite(noise) & (value < 100) & (noise < 1)
    assert np.abs((found - value) / noise)[known].max() < 0.07
    np.testing.assert_allclose(err[known], noise[known], rtol=1e-3)
    assert np.isnan(err[1, 2])
    assert np.isnan(err[3, 4])
    assert found[5, 6] > 10
    part, _ = read_cells(path, slice(7, 9))
    np.testing.assert_array_equal(part, found[7:9])


def test_other_programs_read_the_same(tmp_path, rng):
    path = tmp_path / "cells.fits"
    noise = np.full(SHAPE, 0.01, dtype=np.float32)
    noise[2] = np.nan
    write_cells(path, rng.normal(0.7, 0.01, SHAPE).astype(np.float32), noise)
    with fits.open(path) as hdus:
        for name, ours in zip(("VALUE", "NOISE"), read_cells(path), strict=True):
            np.testing.assert_allclose(hdus[name].data, ours, rtol=1e-6)


def test_cells_of_which_nothing_is_known(tmp_path):
    nothing = np.full(SHAPE, np.nan, dtype=np.float32)
    write_cells(tmp_path / "cells.fits", nothing, nothing)
    assert np.isnan(read_cells(tmp_path / "cells.fits")).all()


def test_refined_files_keep_sources_light_and_stripes(tmp_path, rng):
    path = tmp_path / "refined.fits"
    source = rng.random(SHAPE) < 0.2
    light = np.where(rng.random(SHAPE) < 0.5, rng.uniform(0, 0.02, SHAPE), 0)
    stripes = rng.normal(0, 0.01, (4, SHAPE[1])).astype(np.float32)
    cellfiles.write_refined(path, source, light, stripes, 0.03)
    found = cellfiles.read_refined(path)
    np.testing.assert_allclose(found[0], np.where(source, np.nan, light), atol=0.03 / 4096)
    assert not found[0][(light == 0) & ~source].any()
    np.testing.assert_array_equal(found[1], stripes)
