"""Whether a masked exposure has to be made again."""

import os

import numpy as np
import pytest

from tests import small
from wfssbkg import config, masked


@pytest.fixture
def made(tmp_path):
    """A masked exposure of one second, and a rate file as old."""
    place = small.folder(tmp_path)
    exposure = small.masked_exposure(place, "jw1_rate.fits", np.ones((32, 32)), 0.01)
    rate = place.rate(exposure.name)
    rate.write_text("a rate file")
    for path in (exposure.masked, rate):
        os.utime(path, (1.7e9, 1.7e9))
    return exposure.masked, rate


def is_current(made, mask=small.DEFAULTS.mask):
    path, rate = made
    return masked.is_current(path, rate=rate, settings=config.fingerprint(mask))


def test_a_newer_rate_file_is_masked_again(made):
    assert is_current(made)
    os.utime(made[1], (1.7e9 - 1, 1.7e9 - 1))
    assert is_current(made)
    os.utime(made[1], (1.7e9 + 1, 1.7e9 + 1))
    assert not is_current(made)
    made[1].unlink()  # query.keep_rates
    assert is_current(made)


def test_every_setting_of_the_mask_is_a_reason_to_mask_again(made):
    changes = {
        "crds_context": "jwst_1365.pmap", "bad_flags": "all", "background_box": 99,
        "background_filter": 9, "kernel_fwhm": 9.5, "threshold": 9.5, "minimum_area": 99,
        "growth": 99,
    }  # fmt: skip
    assert changes.keys() == type(small.DEFAULTS.mask).model_fields.keys()
    for name, value in changes.items():
        assert not is_current(made, small.settings(mask={name: value}).mask), name
