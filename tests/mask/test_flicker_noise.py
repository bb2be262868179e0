"""1/f noise that stage 1 cleaned, or did not: never both kinds in one background."""

import shutil

import numpy as np
import pytest
from astropy.io import fits
from hypothesis import given
from hypothesis import strategies as st
from stdatamodels.jwst.datamodels import WfssBkgModel

from demo import archive as simulator
from demo import crds_cache, score
from tests import small
from tests.mask.conftest import CLEANED, NPIX, NUMBER, PAIR, exposures
from wfssbkg import layout
from wfssbkg.files import exposure_table, flicker_noise, masked_exposure
from wfssbkg.files.flicker_noise import REASON

SCRIPTS = ("makeMask.py", "makeBackgrounds.py", "finalizeBackgrounds.py")


def masked(place):
    """What S_CLNFNS was and is in each masked exposure."""
    headers = [
        masked_exposure.read_headers(path)[0] for path in sorted(place.path.glob("*_masked.fits"))
    ]
    return [(header.get("S1CLNFNS"), header.get("S_CLNFNS")) for header in headers]


@pytest.mark.parametrize("setting", ["auto", "cleaned", "uncleaned"])
@pytest.mark.parametrize("kind", CLEANED)
def test_a_background_is_of_one_kind(scripts, place, kind, setting):
    number = CLEANED[kind]
    nothing_left = (kind, setting) == ("all", "uncleaned")
    if nothing_left:
        assert REASON in scripts(kind, "queryData.py", status=1, flicker_noise=setting)
    said = scripts(kind, "makeMask.py", status=int(nothing_left), flicker_noise=setting)
    assert f"{number or 'none'} of {NUMBER} exposures" in said
    assert f"(mask.flicker_noise: {setting})" in said
    assert ("has no accepted exposure" in said) == nothing_left
    table = exposure_table.read(place.table)
    assert list(table["s_clnfns"]) == ["COMPLETE"] * number + ["absent"] * (NUMBER - number)
    by_stage_1, by_us, neither = (None, "COMPLETE"), ("absent", "COMPLETE"), (None, None)
    fates = exposure_table.fates(table)
    if setting == "cleaned" or (setting == "auto" and number):
        assert masked(place) == [by_stage_1] * number + [by_us] * (NUMBER - number)
        assert len(fates[exposure_table.ACCEPTED]) == NUMBER
    else:
        assert masked(place) == [neither] * (NUMBER - number)
        assert fates[exposure_table.EXCLUDED] == list(table["productFilename"][:number])
        assert set(table["reason"][:number]) <= {REASON}


def test_exposures_come_back_with_the_setting_and_a_named_kind_is_no_reason(scripts, place):
    scripts("some", "makeMask.py")
    said = scripts("some", "makeMask.py", flicker_noise="cleaned")
    assert "nothing to do: 4 were masked already" in said
    said = scripts("some", "makeMask.py", flicker_noise="uncleaned")
    assert "3 masked, 0 were masked already" in said
    # Of the setting auto, a mixed archive makes a background of cleaned exposures.
    said = scripts("some", "makeBackgrounds.py", status=1)
    assert "mask.flicker_noise. Run makeMask.py first" in said
    said = scripts("some", "makeMask.py")
    assert "1 of 4 exposures was cleaned of 1/f noise in stage 1: the others are cleaned" in said
    assert "3 masked, 1 were masked already" in said
    assert (exposure_table.read(place.table)["status"] == exposure_table.ACCEPTED).all()


def test_an_archive_that_becomes_mixed_is_masked_again(scripts, place, archives, own_rates):
    assert "it stays in (mask.flicker_noise: auto)" in scripts(own_rates, "makeMask.py")
    shutil.copy(archives / "some" / exposures(1)[0].filename, own_rates)
    said = scripts(own_rates, "queryData.py", "makeMask.py")
    assert "1 of 4 exposures was cleaned of 1/f noise in stage 1: the others are" in said
    assert "3 of these, 3 of your own among them, would have to be cleaned" in said
    assert "4 masked" in said
    assert masked(place) == [(None, "COMPLETE")] + [("absent", "COMPLETE")] * 3


def test_parameters_bear_on_cleaned_exposures_only_and_those_of_crds_count_first(
    scripts, place, tmp_path
):
    median = {"cleaning": {"background_method": "median"}}
    scripts("none", "makeMask.py")
    assert "nothing to do" in scripts("none", "makeMask.py", **median)
    images = []
    named = {"background_method": "median", "apply_flat_field": True, "skip": False}
    for number, (crds, settings) in enumerate([({}, {}), ({}, median), (named, {})]):
        cache = crds_cache.build_cache(
            tmp_path / f"crds{number}", NPIX, [PAIR], cleaning=crds or None
        )
        said = scripts(
            "none", "makeMask.py", options=["--overwrite"], flicker_noise="cleaned", **settings,
            environment=crds_cache.environment(cache),
        )  # fmt: skip
        assert "all are cleaned now" in said
        images.append(masked_exposure.read(place.masked(exposures(0)[0].filename))[0])
    assert np.nanstd(images[1] - images[0]) > 1e-5
    np.testing.assert_array_equal(images[1], images[2])


def test_what_is_finished_tells_its_kind(scripts, place):
    scripts("some", *SCRIPTS, "compareBackgrounds.py")
    words = "1/f noise cleaned, in 1 of 4 exposures by stage 1"
    for path in (place.finished, place.finished_unflat):
        header = fits.getheader(path)
        assert header["S_CLNFNS"] == "COMPLETE"
        assert words in str(header["HISTORY"])
        with WfssBkgModel(str(path)) as model:
            assert model.meta.reftype == "BKG"
    page = layout.report(place.output_directory).read_text()
    assert words in page.partition("<dl")[0]
    for script in (*SCRIPTS, "compareBackgrounds.py"):
        assert "to do" in scripts("some", script, flicker_noise="cleaned")
    scripts("some", *SCRIPTS, flicker_noise="uncleaned")
    assert fits.getheader(place.finished)["S_CLNFNS"] == "SKIPPED"


def test_each_kind_is_near_its_own_truth(scripts, place):
    kinds = simulator.truth_background, simulator.cleaned_truth
    truths = [truth(exposures(0), NPIX) for truth in kinds]
    for setting in ("uncleaned", "cleaned"):
        scripts("none", *SCRIPTS, flicker_noise=setting)
        image, number = (fits.getdata(place.finished, name) for name in ("SCI", "NEXP"))
        errors = [
            score.rms(score.smoothed(score.relative_error(image, truth, number > 0)))
            for truth in truths
        ]
        assert errors[0] < 0.7 * errors[1]
        truths.reverse()


def test_we_clean_as_stage_1_does(scripts, place):
    found = []
    for rates in ("none", "all"):
        shutil.rmtree(place.path, ignore_errors=True)
        scripts(rates, "makeMask.py", flicker_noise="cleaned")
        found.append([masked_exposure.read(path) for path in sorted(place.path.glob("*_ma*"))])
    for one, other in zip(*found, strict=True):
        for image, expected in zip(one, other, strict=True):
            np.testing.assert_array_equal(image, expected)


STATES = st.sampled_from(["accepted", "excluded", "failed", "rejected"])
STEPS = st.sampled_from(["COMPLETE", "SKIPPED", "FAILED", "absent", ""])


@given(
    rows=st.lists(st.tuples(STATES, STEPS), max_size=6),
    settings=st.lists(st.sampled_from(["auto", "cleaned", "uncleaned"]), min_size=1, max_size=4),
)
def test_no_sequence_of_settings_mixes_kinds_or_loses_an_exposure(rows, settings):
    table = small.table(
        *(
            {"productFilename": f"{number}", "status": status, "s_clnfns": step, "reason": "own"}
            for number, (status, step) in enumerate(rows)
        )
    )
    for setting in settings:
        config = flicker_noise.settled(small.settings(mask={"flicker_noise": setting}), table)
        kind = config.mask.flicker_noise
        flicker_noise.exclude(table, kind)
        for (status, step), row in zip(rows, table, strict=True):
            unfit = kind == "uncleaned" and step == "COMPLETE" and status != "excluded"
            assert (row["reason"] == REASON) == unfit
            assert row["status"] == "excluded" or not unfit
            assert row["status"] != "excluded" or unfit or status == "excluded"
        assert flicker_noise.settled(config, table) == config
        complete = [step == "COMPLETE" and status != "excluded" for status, step in rows]
        if setting == "auto":
            assert kind == ("cleaned" if any(complete) else "uncleaned")
        assert flicker_noise.in_words(table, setting, kind).count("stage 1") == 1
