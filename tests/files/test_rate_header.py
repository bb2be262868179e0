"""What the headers of rate files tell."""

import numpy as np
import pytest
from astropy.io import fits

from tests import small
from tests.demo.test_server import write_rate
from wfssbkg.files import exposure_table, rate_header


def told(primary=None, sci=None):
    return rate_header.told(fits.Header(primary or {}), fits.Header(sci or {}))


@pytest.mark.parametrize(
    ("primary", "sci", "words"),
    [
        ({"S_FLAT": "COMPLETE"}, {}, "flat-fielded (S_FLAT)"),
        ({"S_BKDSUB": "complete "}, {}, "background subtracted (S_BKDSUB)"),
        ({"GSKYCOL1": False, "GSKYN1": 1, "GSKY101": 0.5, "GSKY101F": "x.fits"}, {},
         "background subtracted by grizli (GSKY101)"),
        ({"ONEFEXP": True}, {}, "1/f noise subtracted by grizli (ONEFEXP)"),
        ({"FIXFLAT": True, "S_BKDSUB": "COMPLETE"}, {},
         "background subtracted (S_BKDSUB) and flat-fielded by grizli (FIXFLAT)"),
        ({"GRIZLWCS": True}, {"CTYPE1": "RA---TAN-SIP", "CD1_1": 1.0},
         "world coordinates changed by grizli (GRIZLWCS)"),
        ({}, {"CTYPE1": "RA---TAN-SIP", "CD1_1": 1.0},
         "world coordinates changed (CTYPE1 RA---TAN-SIP)"),
        ({"S_FLAT": "SKIPPED", "S_BKDSUB": "SKIPPED", "ONEFEXP": False}, {}, ""),
        ({}, {"CTYPE1": "RA---TAN", "PC1_1": 1.0}, ""),
    ],
)  # fmt: skip
def test_what_was_done_to_a_file_is_in_words(primary, sci, words):
    assert told(primary, sci).processed == words


@pytest.mark.parametrize(
    ("sci", "pointing"),
    [
        ({"RA_REF": 370.0, "DEC_REF": -5}, (10.0, -5.0)),
        ({"RA_REF": 0.0, "DEC_REF": 1.0}, (0.0, 1.0)),
        ({"RA_REF": 0.0, "DEC_REF": 0.0}, None),
        ({"RA_REF": 1.0, "DEC_REF": 91.0}, None),
        ({"RA_REF": "1", "DEC_REF": 2.0}, None),
        ({"RA_REF": 1.0}, None),
        ({}, None),
    ],
)
def test_the_pointing_is_that_of_the_reference_point(sci, pointing):
    assert told(sci=sci).pointing == pointing


@pytest.mark.parametrize("key", ["COMPLETE", "SKIPPED", "FAILED", None])
def test_whether_stage_1_cleaned_the_noise(key):
    assert told({"S_CLNFNS": key} if key else None).cleaning == (key or "absent")


def test_of_a_rate_file_that_was_removed_the_masked_exposure_tells(tmp_path):
    place, name = small.folder(tmp_path), "jw1_rate.fits"
    header = fits.Header({"S_CLNFNS": "COMPLETE", "CAL_VER": "of the flat field"})
    small.masked_exposure(place, name, np.ones((4, 4)), 0.1, header=header)
    table = small.table({"productFilename": name, "dataURI": "mast:x"})
    rate_header.note(table, place)
    assert (table["s_clnfns"][0], table["cal_ver"][0]) == ("COMPLETE", "")
    # Once a version is looked at, it is not looked at again.
    write_rate(place.rate(name), S_CLNFNS="SKIPPED")
    rate_header.note(table, place)
    assert table["s_clnfns"][0] == "COMPLETE"


def test_a_header_that_is_damaged_is_left_to_the_next_step(tmp_path):
    place, name = small.folder(tmp_path), "jw1_rate.fits"
    place.rate(name).write_bytes(b"SIMPLE  = nothing")
    table = small.table({"productFilename": name, "dataURI": "mast:x"})
    rate_header.note(table, place)
    assert list(table["status"]) == [exposure_table.ACCEPTED]
