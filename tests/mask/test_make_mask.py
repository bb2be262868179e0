"""What makeMask.py and the scripts after it make of headers and of CRDS, on small archives."""

import os

import numpy as np
import pytest
from astropy.io import fits

from demo import crds_cache
from tests.mask.conftest import NOWHERE, NPIX, PAIR, exposures
from wfssbkg.files import exposure_table, masked_exposure

SCRIPTS = ("makeMask.py", "makeBackgrounds.py", "finalizeBackgrounds.py")


def rate_headers(folder, **changes):
    """Change the primary headers of all rate files; None removes a keyword."""
    for path in folder.glob("*_rate.fits"):
        with fits.open(path, mode="update") as hdus:
            for key, value in changes.items():
                if value is None:
                    del hdus[0].header[key]
                else:
                    hdus[0].header[key] = value


# ---- flat fields


@pytest.fixture
def two_epochs(tmp_path):
    """A CRDS cache whose flat fields change between the second and the third exposure."""
    dates = sorted(spec.date for spec in exposures(0))
    day = str(np.datetime64("1858-11-17") + int(np.mean(dates[1:3])))
    epoch = f"{day}T00:00:00"
    epochs = (crds_cache.USE_AFTER, epoch)
    return epoch, crds_cache.build_cache(tmp_path / "crds", NPIX, [PAIR], epochs=epochs)


def test_flat_fields_of_different_epochs_are_told(scripts, place, two_epochs):
    epoch, cache = two_epochs
    environment = crds_cache.environment(cache)
    said = scripts("none", *SCRIPTS[:1], environment=environment)
    assert "WARNING: the exposures were divided by different flat fields: " in said
    flats = list(exposure_table.read(place.table)["flat"])
    assert len(set(flats)) == 2
    for flat in flats:
        assert f"{flat} (2 exposures of 202" in said
    scripts("none", *SCRIPTS[1:], environment=environment)
    out, with_flat = (fits.getheader(path) for path in (place.finished, place.finished_unflat))
    for header in (out, with_flat):
        history = " ".join(map(str, header["HISTORY"]))
        for flat in flats:
            assert f"{flat} (2 exposures of 202" in history
        assert header["R_FLAT"].removeprefix("crds://") == sorted(flats)[-1]
    assert out["USEAFTER"] == crds_cache.USE_AFTER
    assert with_flat["USEAFTER"] == epoch
    assert f"which CRDS has for exposures since {epoch}" in history
    assert set(exposure_table.read(place.finished)["flat"]) == set(flats)


def test_a_single_flat_field_is_no_reason_to_warn(scripts, place):
    assert "WARNING" not in scripts("none", "makeMask.py")
    scripts("none", *SCRIPTS[1:])
    for path in (place.finished, place.finished_unflat):
        header = fits.getheader(path)
        assert header["USEAFTER"] == crds_cache.USE_AFTER
        assert "different flat fields" not in str(header["HISTORY"])


# ---- headers


def test_the_range_of_dates_is_known_without_expstart(scripts, place, own_rates):
    rate_headers(own_rates, EXPSTART=None)
    scripts(own_rates, *SCRIPTS)
    days = sorted(fits.getheader(path)["DATE-OBS"] for path in own_rates.glob("*_rate.fits"))
    assert fits.getheader(place.finished)["PEDIGREE"] == f"INFLIGHT {days[0]} {days[-1]}"
    assert np.isfinite(exposure_table.read(place.table)["mjd"]).all()


def test_unusual_headers_go_through(scripts, place, own_rates):
    long = "a title that is longer than one card " * 6
    rate_headers(own_rates, NINTS=3, READPATT="NISRAPID", TITLE=long)
    scripts(own_rates, *SCRIPTS)
    assert len(exposure_table.fates(exposure_table.read(place.table))["accepted"]) == 4
    header, _ = masked_exposure.read_headers(place.masked(exposures(0)[0].filename))
    assert (header["TITLE"], header["NINTS"]) == (long.strip(), 3)
    assert fits.getheader(place.finished)["PEDIGREE"].startswith("INFLIGHT 202")


@pytest.mark.parametrize(
    ("key", "words"),
    [("S_FLAT", "flat-fielded (S_FLAT)"), ("S_BKDSUB", "background subtracted (S_BKDSUB)")],
)
def test_a_file_replaced_by_a_processed_one_is_excluded(scripts, place, own_rates, key, words):
    """Since queryData.py, and by one with an older date, as with cp -p."""
    scripts(own_rates, "makeMask.py")
    first, second, *_ = sorted(own_rates.glob("*_rate.fits"))
    fits.setval(first, key, value="complete")
    fits.setval(second, "CAL_VER", value="9.0.0")
    for path in (first, second):
        os.utime(path, (1.6e9, 1.6e9))
    said = scripts(own_rates, "makeMask.py")
    assert f"{first.name} excluded: processed already, {words}" in said
    assert "1 masked, 2 were masked already" in said
    table = exposure_table.read(place.table)
    assert list(table["status"][:2]) == [exposure_table.EXCLUDED, exposure_table.ACCEPTED]
    assert table["cal_ver"][1] == "9.0.0"
    said = scripts(own_rates, "queryData.py")
    assert f"1 excluded: processed already, {words}" in said


def test_where_nothing_was_found_that_is_the_message(scripts, tmp_path):
    (tmp_path / "rates").mkdir()
    scripts(tmp_path / "rates", "queryData.py", status=1)
    said = scripts(tmp_path / "rates", "makeMask.py", status=1)
    assert "has no exposure: queryData.py found none" in said
    assert "1/f noise" not in said


# ---- CRDS


def empty(tmp_path):
    return {"CRDS_PATH": str(tmp_path / "empty")}, {}, "the cache is empty"


def another_context(tmp_path):
    return {}, {"crds_context": "jwst_1234.pmap"}, "in the context jwst_1234.pmap"


def without_flats(tmp_path):
    cache = crds_cache.build_cache(tmp_path / "partial", NPIX, [PAIR])
    for path in cache.rglob("*_flat_*.fits"):
        path.unlink()
    return {"CRDS_PATH": str(cache)}, {}, "CRDS names jwst_niriss_flat_9002.fits, which the cache"


def without_the_middle_flat(tmp_path):
    """Four exposures, a flat field for each; that of the second one is not in the cache."""
    days = np.array(sorted(spec.date for spec in exposures(0))[1:], dtype=int)
    starts = [f"{np.datetime64('1858-11-17') + day}T00:00:00" for day in days]
    epochs = (crds_cache.USE_AFTER, *starts)
    cache = crds_cache.build_cache(tmp_path / "epochs", NPIX, [PAIR], epochs=epochs)
    (flat,) = cache.rglob("*_flat_9102.fits")
    flat.unlink()
    return {"CRDS_PATH": str(cache)}, {}, f"CRDS names {flat.name}, which the cache lacks"


@pytest.mark.parametrize("state", [empty, another_context, without_flats, without_the_middle_flat])
def test_crds_out_of_reach_is_one_message_before_any_work(
    scripts, place, own_rates, tmp_path, state
):
    environment, settings, words = state(tmp_path)
    nowhere = {"CRDS_MODE": "auto", "CRDS_SERVER_URL": NOWHERE} | environment
    said = scripts(own_rates, "makeMask.py", status=1, environment=nowhere, **settings)
    assert said.count("Reference files are looked for in CRDS_PATH=") == 1
    assert "the CRDS server" in said
    assert "SystemExit" not in said
    assert words in said
    assert not list(place.path.glob("*_masked.fits"))
    table = exposure_table.read(place.table)
    assert (table["status"] == exposure_table.ACCEPTED).all()
    assert "4 masked" in scripts(own_rates, "makeMask.py")


def test_one_exposure_that_crds_cannot_place_does_not_stop_the_others(scripts, own_rates, place):
    first = sorted(own_rates.glob("*_rate.fits"))[0]
    scripts(own_rates, "queryData.py")
    first.write_bytes(first.read_bytes()[:20_000])
    assert "3 masked, 0 were masked already, 1 failed" in scripts(own_rates, "makeMask.py")


def test_an_exposure_of_an_instrument_that_crds_does_not_know_has_failed_alone(
    scripts, own_rates, place
):
    first = sorted(own_rates.glob("*_rate.fits"))[0]
    with fits.open(first, mode="update") as hdus:
        hdus[0].header["INSTRUME"] = "NIRISS/WFSS"
    assert "3 masked, 0 were masked already, 1 failed" in scripts(own_rates, "makeMask.py")
    table = exposure_table.read(place.table)
    assert "INSTRUME is 'NIRISS/WFSS', expected NIRISS" in exposure_table.reason(table, first.name)


def test_the_background_of_a_context_that_knows_wfssbkg_only(scripts, place, tmp_path):
    cache = crds_cache.build_cache(tmp_path / "crds", NPIX, [PAIR], background_type="WFSSBKG")
    environment = crds_cache.environment(cache)
    said = scripts("none", *SCRIPTS, "compareBackgrounds.py", environment=environment)
    assert "jwst_niriss_bkg_900" in said
    assert "not compared" not in said
    assert "Unknown reference type" not in said


# ---- an option that has moved


def test_masks_for_the_pipeline_are_made_by_another_script(scripts, own_rates):
    path = sorted(own_rates.glob("*_rate.fits"))[0]
    said = scripts(own_rates, "makeMask.py", options=["--wfss-mask", path], status=2)
    assert "--wfss-mask has moved: use python subtractBackgrounds.py --mask-only RATE" in said
    assert not list(own_rates.glob("*_wfssmask.fits"))
