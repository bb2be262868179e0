"""Files of a refinement: they are read as they were written."""

import os

import numpy as np

from wfssbkg.files import refined_exposure

SHAPE = (64, 48)


def test_refined_files_keep_all_that_was_found(tmp_path):
    rng, path = np.random.default_rng(5), tmp_path / "refined.fits"
    source = rng.random(SHAPE) < 0.2
    faint = rng.uniform(0, 0.02, SHAPE).astype(np.float32)
    stripes, weight = rng.normal(0, 0.01, (2, 4, SHAPE[1])).astype(np.float32)
    difference, of_difference = rng.normal(0, 0.01, (2, 3, 5)).astype(np.float32)
    faint[source] = np.nan
    written = refined_exposure.Refined(faint, stripes, weight, difference, of_difference, -0.002)
    refined_exposure.write(path, written)
    found = refined_exposure.read(path, slice(7, 9))
    np.testing.assert_array_equal(found.faint, faint[7:9])
    assert found.dark == np.float32(-0.002)
    for name in ("stripes", "weight", "difference", "difference_weight"):
        np.testing.assert_array_equal(getattr(found, name), getattr(written, name))


def test_bins_come_back_as_they_were(tmp_path):
    rng, path = np.random.default_rng(6), tmp_path / "binned.fits"
    value, noise = rng.normal(0.7, 0.01, (2, *SHAPE)).astype(np.float32)
    noise[1, 2] = np.nan
    refined_exposure.write_bins(path, value, noise)
    found = refined_exposure.read_bins(path, slice(0, 5))
    np.testing.assert_array_equal(found, [value[:5], noise[:5]])


def test_a_file_that_was_written_again_is_read_as_it_is_now(tmp_path):
    rng, path = np.random.default_rng(7), tmp_path / "binned.fits"
    for when, shape in enumerate([SHAPE, (32, 80)]):
        value = rng.normal(0.7, 0.01, shape).astype(np.float32)
        refined_exposure.write_bins(path, value, value)
        os.utime(path, (1.7e9 + when, 1.7e9 + when))
        found = refined_exposure.read_bins(path)
        np.testing.assert_array_equal(found, [value, value])
