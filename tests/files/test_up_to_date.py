"""Which settings make a file out of date, and which do not."""

import pytest
from astropy.io import fits
from hypothesis import given
from hypothesis import strategies as st

from tests import small
from wfssbkg.errors import StepError
from wfssbkg.files import exposure_table, fits_file, up_to_date
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


def test_how_1f_noise_is_cleaned_bears_on_what_is_cleaned():
    finer = small.DEFAULTS.mask.cleaning.model_copy(update={"n_sigma": 3.0})
    for kind, expected in (("cleaned", ["mask.cleaning"]), ("uncleaned", [])):
        recorded = bearing(up_to_date.FINISHED, mask={"flicker_noise": kind})
        other = bearing(up_to_date.FINISHED, mask={"flicker_noise": kind, "cleaning": finer})
        assert up_to_date.differing(recorded, other) == expected
    before_it_was_a_setting = dict(recorded)
    del before_it_was_a_setting["mask.flicker_noise"]
    assert up_to_date.differing(before_it_was_a_setting, recorded) == []


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


def made_of(path, *rows):
    """A background whose own table has these rows."""
    primary = fits.PrimaryHDU(header=fits.Header({"QDATE": "now"}))
    fits_file.write(path, [primary, exposure_table.to_hdu(small.table(*rows))])


def test_a_background_of_reprocessed_exposures_is_out_of_date(tmp_path):
    place = small.folder(tmp_path)
    old = {"size": 100, "checksum": "a" * 32, "cal_ver": "1.0", "crds_ctx": "jwst_1.pmap"}
    rows = [old | {"productFilename": name} for name in "abc"]
    made_of(place.background, *rows)
    assert up_to_date.outdated(place, small.table(*rows)) == ""
    place.masked("c").touch()
    words = up_to_date.outdated(place, small.table(*rows))
    assert "is out of date (exposures since: 1 masked again). Run makeMask.py, make" in words
    rows[0] |= {"checksum": "b" * 32}
    rows[1] |= {"checksum": "", "cal_ver": "2.0"}
    words = up_to_date.outdated(place, small.table(*rows, {"productFilename": "d"}))
    assert "(exposures since: 1 new, 2 reprocessed, 1 masked again)" in words


versions = st.fixed_dictionaries(
    {
        "size": st.sampled_from([0, 1000, 1005, 2000]),
        "checksum": st.sampled_from(["", "a", "b"]),
        "cal_ver": st.sampled_from(["", "1", "2"]),
        "crds_ctx": st.sampled_from(["", "x", "y"]),
    }
)


@given(versions, versions)
def test_versions_are_told_apart_by_what_is_known_of_both(one, other):
    same = exposure_table.same_version(one, other)
    assert same == exposure_table.same_version(other, one)
    if one["checksum"] and other["checksum"]:
        assert same == (one["checksum"] == other["checksum"])
    else:
        both = [
            (one[key], other[key]) for key in ("cal_ver", "crds_ctx") if one[key] and other[key]
        ]
        sizes = one["size"], other["size"]
        near = 0 in sizes or max(sizes) < 1.01 * min(sizes)
        assert same == (near and all("" in pair or len(set(pair)) == 1 for pair in both))
