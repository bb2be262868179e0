"""Which settings make a file out of date, and which do not."""

import pytest

from tests import small
from wfssbkg.errors import StepError
from wfssbkg.files import fits_file, up_to_date
from wfssbkg.layout import Combination


def bearing(sections, combination=small.COMBINATION, **changes):
    return up_to_date.bearing(small.settings(**changes), sections, combination)


def differing(sections, combination=small.COMBINATION, **changes):
    """The settings for which a file that was made with the defaults is out of date."""
    recorded = bearing(sections, combination)
    return up_to_date.differing(recorded, bearing(sections, combination, **changes))


def test_settings_of_a_section_bear_on_what_it_makes_and_all_that_follows():
    assert differing(up_to_date.MASKED, mask={"growth": 9}) == ["mask.growth"]
    assert differing(up_to_date.COMBINED, mask={"growth": 9}) == ["mask.growth"]
    assert differing(up_to_date.MASKED, combine={"refinements": 0}) == []
    assert differing(up_to_date.FINISHED, combine={"refinements": 0}) == ["combine.refinements"]
    assert differing(up_to_date.COMBINED, finalize={"strength": 0.1}) == []


def test_what_does_not_bear_on_the_pixels_does_not_make_a_file_out_of_date():
    assert differing(up_to_date.FINISHED, finalize={"author": "Somebody else"}) == []
    assert differing(up_to_date.FINISHED, compute={"memory_gb": 1.0}) == []
    direct, grism = Combination("CLEAR", "F115W"), small.COMBINATION
    round_ones, traces = {"direct_scales": [3.0]}, {"trace_scales": [[9.0, 1.0]]}
    assert differing(up_to_date.COMBINED, grism, combine=round_ones) == []
    assert differing(up_to_date.COMBINED, grism, combine=traces) == ["combine.trace_scales"]
    assert differing(up_to_date.COMBINED, direct, combine=traces) == []
    assert differing(up_to_date.COMBINED, direct, combine=round_ones) == ["combine.direct_scales"]


def test_a_setting_that_is_younger_than_a_file_had_its_default_then():
    recorded = bearing(up_to_date.MASKED)
    del recorded["mask.growth"]
    assert up_to_date.differing(recorded, bearing(up_to_date.MASKED)) == []
    other = bearing(up_to_date.MASKED, mask={"growth": 9})
    assert up_to_date.differing(recorded, other) == ["mask.growth"]
    recorded["mask.of_a_later_version"] = 3
    assert up_to_date.differing(recorded, bearing(up_to_date.MASKED)) == []


def test_settings_survive_the_disk_and_a_file_of_others_is_named(tmp_path):
    path = tmp_path / "a.fits"
    wanted = bearing(up_to_date.COMBINED)
    fits_file.write(path, [small.fits.PrimaryHDU(), fits_file.settings_hdu(wanted)])
    assert up_to_date.made_with(path) == wanted
    check = (up_to_date.COMBINED, small.COMBINATION, "makeMask.py")
    up_to_date.check_made_with(path, small.DEFAULTS, *check)
    with pytest.raises(StepError, match=r"mask\.growth, combine\.clip_sigma\. Run makeMask"):
        changes = {"mask": {"growth": 9}, "combine": {"clip_sigma": 9.0}}
        up_to_date.check_made_with(path, small.settings(**changes), *check)
