"""Whether a masked exposure has to be made again."""

import os

import numpy as np
import pytest

from tests import small
from wfssbkg.files import up_to_date


@pytest.fixture
def made(tmp_path):
    """A masked exposure, and a rate file of the same age."""
    place = small.folder(tmp_path)
    exposure = small.masked_exposure(place, "jw1_rate.fits", np.ones((32, 32)), 0.01)
    rate = place.rate(exposure.name)
    rate.write_text("a rate file")
    for path in (exposure.masked, rate):
        os.utime(path, (1.7e9, 1.7e9))
    return exposure.masked, rate


def is_current(made, settings=small.DEFAULTS):
    path, rate = made
    wanted = up_to_date.bearing(settings, up_to_date.MASKED, small.COMBINATION)
    return up_to_date.is_masked(rate, path, wanted)  # made before the rate file was noted


def test_a_newer_rate_file_is_masked_again(made):
    assert is_current(made)
    os.utime(made[1], (1.7e9 - 1, 1.7e9 - 1))
    assert is_current(made)
    os.utime(made[1], (1.7e9 + 1, 1.7e9 + 1))
    assert not is_current(made)
    made[1].unlink()  # as with query.keep_rates: false
    assert is_current(made)


def test_a_rate_file_that_was_replaced_by_an_older_one_is_masked_again(tmp_path):
    """As with cp -p: its date tells nothing, that it is another one does."""
    place = small.folder(tmp_path)
    rate = place.rate("jw1_rate.fits")
    rate.write_text("a rate file")
    header = small.fits.Header()
    header.update(up_to_date.stamp(rate))
    masked = small.masked_exposure(place, rate.name, np.ones((32, 32)), 0.01, header=header).masked
    wanted = up_to_date.bearing(small.DEFAULTS, up_to_date.MASKED, small.COMBINATION)
    assert up_to_date.is_masked(rate, masked, wanted)
    noted = rate.stat().st_mtime_ns
    rate.write_text("a longer rate file")
    os.utime(rate, ns=(noted, noted))
    assert not up_to_date.is_masked(rate, masked, wanted)
    rate.write_text("b rate file")
    os.utime(rate, (1.6e9, 1.6e9))
    assert not up_to_date.is_masked(rate, masked, wanted)
    os.utime(rate, ns=(noted, noted))  # a change that nothing tells: see docs/reliability.md
    assert up_to_date.is_masked(rate, masked, wanted)
    rate.unlink()
    assert up_to_date.is_masked(rate, masked, wanted)


def test_masks_without_the_bit_of_saturated_pixels_are_made_again(made):
    assert is_current(made)
    with small.fits.open(made[0], mode="update") as hdus:
        hdus[0].header["SATLEN"] = 7  # as masks of before had it
    assert not is_current(made)


def test_every_setting_of_the_mask_is_a_reason_to_mask_again(made):
    cleaning = small.DEFAULTS.mask.cleaning.model_copy(update={"n_sigma": 9.5})
    changes = {
        "crds_context": "jwst_1365.pmap", "bad_flags": "all", "background_box": 99,
        "background_filter": 9, "kernel_fwhm": 9.5, "threshold": 9.5, "minimum_area": 99,
        "growth": 99, "flicker_noise": "cleaned", "cleaning": cleaning,
    }  # fmt: skip
    assert changes.keys() == type(small.DEFAULTS.mask).model_fields.keys()
    for name, value in changes.items():
        assert not is_current(made, small.settings(mask={name: value})), name
