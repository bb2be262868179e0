"""queryData.py as a user runs it."""

import hashlib
import os
import re
import shutil
import signal
import time
from datetime import UTC, datetime

import numpy as np
import pytest
from astropy.io import fits

from demo.server import Fault
from tests import small
from tests.demo.test_server import keyword_row, rate_name, star, write_rate
from tests.query.conftest import NAMES, everything_below
from tests.query.test_archive import square
from wfssbkg.files import exposure_table, up_to_date


def mixed(archive):
    """Two combinations with everything that happens: 2 + 1 exposures to be taken."""
    rows = [archive.expose(n) for n in (1, 2)]
    rows += [archive.expose(3, filter="GR150R")]
    rows += [archive.expose(4, targ_ra="200.01", targ_dec=-60)]  # beside the star
    rows += [keyword_row(rate_name(5), isRestricted=True), keyword_row(rate_name(6), pupil="F090W")]
    rows += [keyword_row(rate_name(7), exp_type="NIS_IMAGE"), rows[0]]
    rows += [keyword_row("../" + rate_name(8))]
    archive.fill(rows, [star(200.0, -60.0, 7.5), star(10.0, 20.0, 9.6)])


def test_quiet_tells_only_what_went_wrong(user, archive):
    rows = [archive.expose(1), archive.expose(3, filter="GR150R")]
    archive.fill(rows, [star(200.0, -60.0, 7.5)])
    user.configure(fewest=1)
    assert user.run("--quiet") == ("", "")
    assert user.files() == ["GR150C-F115W.fits", rate_name(1)]
    (user.home / "work" / NAMES[0] / rate_name(1)).unlink()
    archive.server.faults.append(Fault(f".* {rate_name(1)}", "404", times=9))
    output, errors = user.run("--quiet", status=1)
    assert output == ""
    assert f"GR150C-F115W: {rate_name(1)}: download failed" in errors
    assert "GR150C-F115W: FAILED: no exposure can be used" in errors
    assert "Not made: GR150C-F115W." in errors
    assert "GR150R-F115W" not in errors


def test_first_and_second_run(user, archive):
    mixed(archive)
    output, errors = user.run()
    assert archive.server.counts["search"] == 1
    assert archive.server.counts["download"] == 3
    assert "found 4 exposures" in output
    assert "1 excluded: bright star" in output
    assert "1 excluded: not public" in output
    assert f"'../{rate_name(8)}' is not the name" in output
    assert "2 downloaded (0.2 MB), 0 there already" in output
    assert errors == ""
    assert "astroquery" not in output + errors
    assert user.files() == ["GR150C-F115W.fits", rate_name(1), rate_name(2)]
    assert not list(user.home.rglob(rate_name(8)))
    table = user.table()
    assert list(table["status"]) == ["accepted", "accepted", "excluded", "excluded"]
    assert table["star_gmag"][2] == 7.5
    assert table["star_sep"][2] == pytest.approx(0.3, abs=1e-3)
    asked = datetime.fromisoformat(table.meta["QDATE"]).replace(tzinfo=UTC)
    assert abs((datetime.now(UTC) - asked).total_seconds()) < 60

    # What later steps write, and a month later.
    table["level"][0], table["masked_fraction"][0] = 0.7, 0.2
    exposure_table.mark(table, rate_name(2), status="rejected", reason="crowded")
    exposure_table.write(table, user.folder().table, "2020-01-01T00:00:00")
    archive.server.counts.clear()
    output, errors = user.run()
    assert output.count("nothing to download") == 2
    assert errors == ""
    assert archive.server.counts["search"] == 1
    for what in ("download", "gaia job"):
        assert archive.server.counts[what] == 0
    table = user.table()
    assert table.meta["QDATE"] > "2020-01-02"
    assert (table["level"][0], table["masked_fraction"][0]) == (0.7, 0.2)
    assert (table["status"][1], table["reason"][1]) == ("rejected", "crowded")

    # Everything anew.
    user.run("--overwrite", "--combination", NAMES[0])
    assert archive.server.counts["search"] == 2
    assert archive.server.counts["gaia job"] == 2
    assert archive.server.counts["download"] == 2
    table = user.table()
    assert list(table["status"]) == ["accepted", "accepted", "excluded", "excluded"]
    assert np.isnan(table["level"]).all()


def test_new_exposures_are_added_and_a_failed_one_is_tried_again(user, archive):
    user.configure(gratings=["GR150C"], attempts=1)
    archive.fill([archive.expose(n) for n in (1, 2)])
    archive.server.faults.append(Fault("GET .*00002", "half"))
    output, _ = user.run()
    assert "1 could not be downloaded" in output
    assert f"{rate_name(2)}: download failed: the connection broke off" in output
    assert list(user.table()["status"]) == ["accepted", "failed"]
    assert user.files() == ["GR150C-F115W.fits", rate_name(1)]
    archive.fill([archive.expose(3), *(keyword_row(p.name, p.stat().st_size)
                  for p in archive.folder.glob("*0000[12]_nis_rate.fits"))])  # fmt: skip
    output, _ = user.run()
    assert "2 downloaded" in output
    assert list(user.table()["status"]) == ["accepted"] * 3


def test_a_combination_without_exposures_is_not_made_but_the_other_is(user, archive):
    archive.fill([archive.expose(1)])
    output, errors = user.run(status=1)
    assert "FAILED: no exposure" in output
    assert NAMES[1] in errors
    assert NAMES[0] not in errors
    assert len(user.table(NAMES[1])) == 0
    assert len(user.table(NAMES[0])) == 1
    # An empty answer, later: the old table stays.
    before = user.folder().table.read_bytes()
    archive.fill([])
    output, _ = user.run("--combination", NAMES[0], status=1)
    assert "is left as it was" in output
    assert user.folder().table.read_bytes() == before


def test_a_dead_network_is_one_message_and_harms_nothing(user, archive):
    archive.fill([archive.expose(1)])
    user.configure(gratings=["GR150C"])
    user.run()
    before = {path: path.read_bytes() for path in user.home.rglob("*.fits")}
    user.configure(gratings=["GR150C"], mast_url="http://127.0.0.1:9", attempts=1)
    _, errors = user.run(status=1)
    assert len(errors.splitlines()) == 1
    assert "http://127.0.0.1:9" in errors
    assert "Connection refused" in errors
    assert {path: path.read_bytes() for path in user.home.rglob("*.fits")} == before


def test_gaia_down_while_mast_is_up_says_what_to_do(user, archive):
    archive.fill([archive.expose(1)])
    user.configure(gratings=["GR150C"], gaia_url="http://127.0.0.1:9", attempts=1)
    _, errors = user.run(status=1)
    assert len(errors.splitlines()) == 1
    assert "Gaia at http://127.0.0.1:9" in errors
    assert "gaia_g_limit: null" in errors
    assert archive.server.counts["download"] == 0
    user.configure(gratings=["GR150C"], gaia_url="http://127.0.0.1:9", gaia_g_limit=None)
    output, _ = user.run()
    assert "no check for bright stars" in output


def test_an_unusual_filter_comes_with_a_warning(user, archive):
    archive.fill([archive.expose(1, pupil="F140M"), archive.expose(2)])
    user.configure(gratings=["GR150C"], filters=["F140M", "F115W"], gaia_g_limit=None)
    user.folder().path.mkdir(parents=True)
    user.folder().table.write_bytes(b"no table")
    output, _ = user.run()
    assert output.count("WARNING: F140M is not one of F115W, F150W, F200W") == 1
    assert "(exposures at hand: 1)" in output
    assert "is made again" in output
    assert len(user.table()) == 1


def test_local_files_are_used_where_they_are(user, archive):
    rates = user.home / "rates"
    rates.mkdir()
    for number in (1, 2):
        write_rate(rates / rate_name(number), TARG_RA=200.0 * (number - 1), TARG_DEC=-60.0)
    (rates / "broken_rate.fits").write_bytes(b"SIMPLE  = nothing")
    archive.fill([], [star(200.0, -60.0, 7.5)])
    nowhere = "http://127.0.0.1:9"
    user.configure(gratings=["GR150C"], source="rates", mast_url=nowhere)
    before = {path: path.stat().st_mtime_ns for path in rates.iterdir()}
    output, _ = user.run("--overwrite")
    assert "broken_rate.fits: cannot be read as FITS" in output
    table = user.table()
    assert list(table["dataURI"]) == [str(rates / rate_name(number)) for number in (1, 2)]
    assert list(table["status"]) == ["accepted", "excluded"]
    assert user.files() == ["GR150C-F115W.fits"]
    assert {path: path.stat().st_mtime_ns for path in rates.iterdir()} == before
    # And with no network at all.
    user.configure(gratings=["GR150C"], source="rates", gaia_g_limit=None, mast_url=nowhere,
                   gaia_url=nowhere)  # fmt: skip
    user.run()
    assert list(user.table()["status"]) == ["accepted", "accepted"]


@pytest.mark.parametrize(
    "fault", [None, Fault("GET", "stall", times=9, value=300), Fault("GET", "503", 9, value=300)]
)
def test_ctrl_c_ends_a_download_without_debris(user, archive, fault):
    archive.fill([archive.expose(n) for n in range(1, 9)])
    user.configure(gratings=["GR150C"], gaia_g_limit=None, connections=3, timeout=300.0)
    archive.server.delay = 2.0
    archive.server.faults += [fault] if fault else []
    script = user.start("--log", "run.log")
    end = time.monotonic() + 60
    while archive.server.counts["download"] < 3 and time.monotonic() < end:
        time.sleep(0.05)
    time.sleep(0.3)
    os.kill(script.pid, signal.SIGINT)
    _, errors = script.communicate(timeout=60)  # less than any server's silence
    assert script.returncode == 130
    assert "Traceback" not in errors
    assert "Interrupted" in errors
    said = (user.home / "run.log").read_text()
    assert "Searching MAST" in said
    assert re.search(r"Z Interrupted\. Run the same .*\n.*Z exit status 130\n$", said)
    for name in set(user.files()) - {"GR150C-F115W.fits"}:
        assert user.folder().rate(name).read_bytes() == (archive.folder / name).read_bytes()
    if fault:
        return
    archive.server.delay = 0
    user.run()
    assert list(user.table()["status"]) == ["accepted"] * 8
    assert len(user.files()) == 9


# ---- the archive as it is: reprocessed, processed, without pointings, with other columns


def write(archive, number, primary=None, sci=None, **changes):
    """Write an exposure with some keywords, anew if it is there; returns its row."""
    path = archive.folder / rate_name(number)
    path.unlink(missing_ok=True)
    write_rate(path, **({"CAL_VER": "1.20.2", "CRDS_CTX": "jwst_1.pmap"} | (primary or {})))
    with fits.open(path, mode="update") as hdus:
        hdus["SCI"].header.update({"RA_REF": 10.0, "DEC_REF": 20.0} | (sci or {}))
    with fits.open(path) as hdus:
        versions = {"cal_ver": hdus[0].header["CAL_VER"], "crds_ctx": hdus[0].header["CRDS_CTX"]}
    content = path.read_bytes()
    row = keyword_row(path.name, len(content), checksum=hashlib.md5(content).hexdigest())
    return row | versions | changes


def forget_versions(user):
    """Let the table be one from before its columns for versions."""
    table = user.table()
    for column in ("checksum", "cal_ver", "crds_ctx", "s_clnfns", "pointing"):
        table[column] = ""
    exposure_table.write(table, user.folder().table)


def downloads(user, archive):
    """What a run says, and how many files it asks for."""
    before = archive.server.counts["download"]
    output, _ = user.run()
    return output, archive.server.counts["download"] - before


@pytest.fixture
def reprocessed(user, archive):
    """Somebody has two exposures; then the archive processes the first one again."""
    archive.fill([write(archive, 1), write(archive, 2)])
    user.configure(gratings=["GR150C"], gaia_g_limit=None)
    user.run()
    table = user.table()
    assert list(table["cal_ver"]) == ["1.20.2"] * 2
    table["level"] = [0.7, 0.8]
    exposure_table.mark(table, rate_name(1), status="rejected", reason="crowded", level=0.7)
    exposure_table.write(table, user.folder().table)
    rows = [
        write(archive, 1, {"CAL_VER": "2.0.00", "S_CLNFNS": "COMPLETE"}),
        write(archive, 2),
    ]
    assert rows[0]["fileSize"] == rows[1]["fileSize"]
    archive.fill(rows)
    small.masked_exposure(user.folder(), rate_name(1), np.ones((4, 4)), 0.1)
    return rows


def same_bytes(user, archive, number):
    name = rate_name(number)
    return user.folder().rate(name).read_bytes() == (archive.folder / name).read_bytes()


def test_a_file_that_the_archive_has_processed_again_is_fetched_again(user, archive, reprocessed):
    _, fetched = downloads(user, archive)
    assert fetched == 1
    assert same_bytes(user, archive, 1)
    table = user.table()
    assert list(table["status"]) == ["accepted", "accepted"]  # what was rejected is judged again
    assert list(table["s_clnfns"]) == ["COMPLETE", "absent"]
    for column in ("cal_ver", "checksum"):
        assert list(table[column]) == [row[column] for row in reprocessed]
    np.testing.assert_array_equal(table["level"], [np.nan, 0.8])
    assert downloads(user, archive)[1] == 0


@pytest.mark.parametrize("options", [(), ("--overwrite",)])
def test_an_old_file_is_never_called_a_new_one(user, archive, reprocessed, options):
    """Where the download fails, the former version stays as it is, and is judged as it was."""
    archive.server.faults.append(Fault(f"GET {rate_name(1)}", "404", times=9))
    output, _ = user.run(*options)
    assert f"WARNING: {rate_name(1)}: the newer version in the archive could not be" in output
    assert "1 could not be downloaded: run queryData.py again" in output
    kept = "accepted" if options else "rejected"
    assert list(user.table()["status"]) == [kept, "accepted"]
    assert user.table()["cal_ver"][0] == "1.20.2"
    assert user.table()["checksum"][0] != reprocessed[0]["checksum"]
    archive.server.faults.clear()
    assert downloads(user, archive)[1] == 1
    assert same_bytes(user, archive, 1)
    assert user.table()["cal_ver"][0] == "2.0.00"


def test_what_was_fetched_by_a_run_that_was_killed_is_not_fetched_again(user, archive, reprocessed):
    shutil.copy(archive.folder / rate_name(1), user.folder().rate(rate_name(1)))
    assert downloads(user, archive)[1] == 0
    assert user.table()["checksum"][0] == reprocessed[0]["checksum"]
    assert user.table()["s_clnfns"][0] == "COMPLETE"


def test_without_kept_rates_a_new_version_is_fetched_and_no_other(user, archive, reprocessed):
    table = user.table()
    table["status"], table["masked_fraction"] = "accepted", 0.1
    exposure_table.write(table, user.folder().table)
    place, settled = user.folder(), small.settings(mask={"flicker_noise": "uncleaned"})
    settings = up_to_date.bearing(settled, up_to_date.MASKED, place.combination)
    for number in (1, 2):
        place.rate(rate_name(number)).unlink()
        small.masked_exposure(place, rate_name(number), np.ones((4, 4)), 0.1, settings=settings)
    user.configure(gratings=["GR150C"], gaia_g_limit=None, keep_rates=False)
    assert downloads(user, archive)[1] == 1
    assert same_bytes(user, archive, 1)
    assert not user.folder().rate(rate_name(2)).exists()


def test_tables_of_an_earlier_version_cause_no_needless_download(user, archive, reprocessed):
    forget_versions(user)
    assert downloads(user, archive)[1] == 1
    assert list(user.table()["cal_ver"]) == ["2.0.00", "1.20.2"]
    assert list(user.table()["s_clnfns"]) == ["COMPLETE", "absent"]
    user.folder().table.unlink()  # nor does a table that is gone
    assert downloads(user, archive)[1] == 0
    assert user.table()["checksum"][0] == reprocessed[0]["checksum"]


def test_a_file_of_another_checksum_has_failed(user, archive):
    archive.fill([write(archive, 1, checksum="0" * 32), write(archive, 2)])
    user.configure(gratings=["GR150C"], gaia_g_limit=None)
    output, _ = user.run()
    assert f"not {'0' * 32} as the archive says (after 2 tries)" in output
    assert list(user.table()["status"]) == ["failed", "accepted"]
    assert user.files() == ["GR150C-F115W.fits", rate_name(2)]


@pytest.mark.parametrize("known", [True, False])
def test_a_size_that_is_a_little_off_is_a_warning(user, archive, known):
    row = write(archive, 1)
    size, off = row["fileSize"], row["fileSize"] + 500
    archive.fill([row | {"fileSize": off, "checksum": row["checksum"] if known else None}])
    user.configure(gratings=["GR150C"], gaia_g_limit=None)
    output, fetched = downloads(user, archive)
    assert fetched == 1
    assert f"WARNING: {rate_name(1)} is whole, but has {size} bytes, not {off}" in output
    assert list(user.table()["size"]) == [size]
    output, fetched = downloads(user, archive)
    assert (fetched, list(user.table()["size"])) == (0, [size])
    assert "is whole, but has" not in output


def test_what_was_processed_further_is_excluded_once_its_header_tells(user, archive):
    archive.fill([write(archive, 1, {"S_BKDSUB": "COMPLETE"}), write(archive, 2)])
    user.configure(gratings=["GR150C"], gaia_g_limit=None)
    for expected in (2, 0):
        output, fetched = downloads(user, archive)
        assert fetched == expected
        assert "1 excluded: processed already, background subtracted (S_BKDSUB)" in output
        assert list(user.table()["status"]) == ["excluded", "accepted"]


def test_the_star_check_is_repeated_on_the_pointing_of_the_header(user, archive):
    """Of pure parallels, MAST has neither target nor footprint."""
    unknown = {"targ_ra": 0.0, "targ_dec": 0.0}
    rows = [
        write(archive, 1, sci={"RA_REF": 200.01, "DEC_REF": -60.0}, **unknown),  # beside the star
        write(archive, 2, sci={"RA_REF": 100.0, "DEC_REF": -60.0}, **unknown),
        write(archive, 3, sci={"RA_REF": None, "DEC_REF": None}, targ_ra=None, targ_dec=None),
        write(archive, 4),
        write(archive, 5, s_region=square(50.0, 0.0)),
        # The target is not where the detector looks.
        write(archive, 6, sci={"RA_REF": 200.01, "DEC_REF": -60.0}),
    ]
    # A star at 0, 0 has nothing to do with the exposures that have no target.
    archive.fill(rows, [star(200.0, -60.0, 7.5), star(0.0, 0.0, 5.0)])
    user.configure(gratings=["GR150C"])
    for expected in (6, 0):
        output, fetched = downloads(user, archive)
        assert fetched == expected
        assert "2 excluded: bright star" in output
        assert "1 excluded: no pointing known, so bright stars cannot be checked" in output
        table = user.table()
        status = ["excluded", "accepted", "excluded", "accepted", "accepted", "excluded"]
        assert list(table["status"]) == status
        assert list(table["pointing"]) == ["header", "header", "", "header", "footprint", "header"]
        np.testing.assert_allclose(table["ra"], [200.01, 100, np.nan, 10, 50, 200.01], atol=1e-4)
    assert table["star_sep"][0] == pytest.approx(0.3, abs=1e-3)


@pytest.mark.parametrize("lost", [None, "table", "rates"])
def test_where_mast_no_longer_tells_the_pointing_what_is_at_hand_does(user, archive, lost):
    """A footprint at first, then no pointing, or only a target, which here is beside a star."""
    pointing = {"RA_REF": 50.0, "DEC_REF": 0.0}
    rows = [write(archive, number, sci=pointing) for number in (1, 2)]
    archive.fill([row | {"s_region": square(50.0, 0.0)} for row in rows], [star(10.0, 20.0, 7.5)])
    user.configure(gratings=["GR150C"])
    user.run()
    rows[0] |= {"targ_ra": 0.0, "targ_dec": 0.0}
    archive.fill(rows, [star(10.0, 20.0, 7.5)])
    if lost == "table":
        user.folder().table.unlink()
    elif lost == "rates":  # only the masked exposures and the table are left
        for row in rows:
            user.folder().rate(row["filename"]).unlink()
            small.masked_exposure(user.folder(), row["filename"], np.ones((4, 4)), 0.1)
    for _ in range(2):
        user.run()
        table = user.table()
        assert list(table["status"]) == ["accepted"] * 2
        np.testing.assert_allclose(table["ra"], [50.0] * 2, atol=1e-4)


def test_columns_that_mast_no_longer_has_are_done_without(user, archive):
    archive.fill([write(archive, 1, pi_name="Somebody")])
    user.configure(gratings=["GR150C"], gaia_g_limit=None)
    user.run()
    assert user.table()["pi_name"][0] == "Somebody"
    archive.server.gone = {"pcs_mode", "category"}
    output, errors = user.run()
    assert output.count("WARNING: MAST refuses the request") == 1
    assert "without the columns category, pcs_mode: what they tell is unknown" in output
    assert errors == ""
    assert (user.table()["pcs_mode"][0], user.table()["pi_name"][0]) == ("", "Somebody")
    archive.server.gone = {"readpatt", "category"}
    archive.server.counts.clear()
    output, errors = user.run(status=1)
    assert "does not know readpatt any more" in errors
    assert "WFSSBackgrounds needs an update" in errors
    assert archive.server.counts["search"] == 1


def test_many_exposures_that_are_stale_or_restricted_are_a_warning(user, archive):
    rows = [write(archive, 1)] + [keyword_row(rate_name(number)) for number in range(2, 11)]
    for row in rows[1:3]:
        row["isStale"] = True
    rows[3]["isRestricted"] = True
    for row in rows[4:]:
        row["subarray"] = "WFSS64R"
    archive.fill(rows)
    user.configure(gratings=["GR150C"], gaia_g_limit=None)
    output, _ = user.run()
    assert "WARNING: 2 of 10 exposures are excluded as 'superseded in the archive'" in output
    assert "as 'not public: restricted'" not in output


# ---- files with other names


def test_a_folder_of_other_files_is_told_by_kind_and_combination(user, archive):
    rates = user.home / "rates"
    rates.mkdir()
    user.configure(gratings=["GR150C"], source="rates", gaia_g_limit=None)
    output, _ = user.run(status=1)
    assert f"no exposure found. {rates} has no FITS file" in output
    assert "Expected *_rate.fits of GR150C-F115W" in output
    write_rate(rates / rate_name(1), FILTER="GR150R")
    write_rate(rates / rate_name(2), FILTER="CLEAR", EXP_TYPE="NIS_IMAGE")
    for name in ("a_cal.fits", "a_rateints.fits", "b_rateints.fits", "a_RATE.FITS", "readme.txt",
                 "a_rate.fits.gz", "b_uncal.fits.gz"):  # fmt: skip
        (rates / name).touch()
    output, _ = user.run(status=1)
    assert (
        f"no exposure found. {rates} has 1 *_RATE.FITS, 1 *_cal.fits, "
        "1 *_rate.fits of CLEAR-F115W (NIS_IMAGE), 1 *_rate.fits of GR150R-F115W (NIS_WFSS), "
        "1 *_rate.fits.gz, 2 *_rateints.fits, 1 *_uncal.fits.gz. "
        "Expected *_rate.fits of GR150C-F115W"
    ) in output
    assert (
        "refused: 1 x *_RATE.FITS: only names that end in _rate.fits, in lower case, are read. "
        "Rename them"
    ) in output
    assert "refused: 1 x *_rate.fits.gz: compressed. Unpack them, e.g. with gunzip" in output
    assert "above" not in output


def test_where_nothing_can_be_used_the_message_says_why(user, archive):
    archive.fill([write(archive, 1, {"S_FLAT": "COMPLETE"}), write(archive, 2, subarray="WFSS64R")])
    user.configure(gratings=["GR150C"], gaia_g_limit=None)
    _, errors = user.run("--quiet", status=1)
    assert (
        "GR150C-F115W: FAILED: no exposure can be used: 1 excluded: processed already, "
        "flat-fielded (S_FLAT); 1 excluded: SUBARRAY WFSS64R (accepted FULL). See "
    ) in errors
    archive.fill([write(archive, 3, filter="GR150R"), keyword_row("x_uncal.fits")])
    user.configure(gratings=["GR150R"], filters=["F200W"], gaia_g_limit=None)
    output, _ = user.run(status=1)
    assert "no exposure found. MAST (http" in output
    assert "Expected *_rate.fits of GR150R-F200W" in output


def test_too_few_exposures_for_a_background_are_told_by_the_query(user, archive):
    user.configure(gratings=["GR150C"], gaia_g_limit=None)
    rows = []
    for number in range(1, 5):
        rows.append(archive.expose(number))
        archive.fill(rows)
        for options in (("--quiet", "--dry-run"), ("--quiet",)):
            _, errors = user.run(*options)
            told = (
                f"{NAMES[0]}: WARNING: too few exposures for a background: {number} accepted, and "
                "makeBackgrounds.py expects at least 3 (combine.minimum_exposures)\n"
            )
            assert errors == (told if number < 3 else "")


def test_what_the_config_names_is_left_out_with_the_reason(user, archive):
    archive.fill([archive.expose(n) for n in range(1, 6)])
    unknown = ["jw01571002001", "1089"]
    exclude = [rate_name(2), *unknown]
    user.configure(gratings=["GR150C"], gaia_g_limit=None, exclude=exclude)
    output, _ = user.run()
    assert archive.server.counts["download"] == 4
    assert "1 excluded: named in query.exclude\n" in output
    for entry in unknown:
        assert f"WARNING: query.exclude names {entry}, which is none of the exposures" in output
    table = user.table()
    assert table["reason"][1] == f"named in query.exclude: {rate_name(2)}"
    assert list(table["status"]) == ["accepted", "excluded", "accepted", "accepted", "accepted"]
    # A file that is there already stays where it is, and comes back when it is not named any more.
    user.configure(gratings=["GR150C"], gaia_g_limit=None, exclude=[rate_name(1)])
    user.run()
    assert list(user.table()["status"][:2]) == ["excluded", "accepted"]
    assert rate_name(1) in user.files()
    user.configure(gratings=["GR150C"], gaia_g_limit=None)
    user.run()
    assert list(user.table()["status"]) == ["accepted"] * 5
    assert archive.server.counts["download"] == 5


# ---- several sources


@pytest.fixture
def mixture(user, archive):
    """Exposures 1 and 2 at MAST, 2 and 3 in one folder of the user's own, 3 and 4 in another."""
    archive.fill([write(archive, 1), write(archive, 2)])
    for folder, numbers in (("mine", (2, 3)), ("hers", (3, 4))):
        (user.home / folder).mkdir()
        for number in numbers:
            write_rate(user.home / folder / rate_name(number))
    user.configure(gratings=["GR150C"], gaia_g_limit=None, source=["mast", "mine", "hers"])
    return user


def places(user):
    """What a table says of each exposure: where it is, and its status."""
    home = str(user.home)
    return [
        (row["dataURI"].replace(home, "").removesuffix(row["productFilename"]), row["status"])
        for row in user.table()
    ]


def test_own_files_are_used_together_with_those_of_the_archive(mixture, archive):
    before = everything_below(mixture.home / "mine") | everything_below(mixture.home / "hers")
    output, errors = mixture.run()
    assert errors == ""
    assert archive.server.counts["download"] == 1
    assert output.count("1 exposures of MAST (") == output.count(" as well, and that file") - 1 == 1
    assert f"1 exposures of {mixture.home}/hers are in a folder of your own" in output
    assert "4 exposures of these combinations" in output
    expected = [("mast:JWST/product/", "accepted"), ("/mine/", "accepted"), ("/mine/", "accepted"),
                ("/hers/", "accepted")]  # fmt: skip
    assert places(mixture) == expected
    assert mixture.files() == ["GR150C-F115W.fits", rate_name(1)]
    output, _ = mixture.run("--dry-run", "--overwrite")
    assert "to download: 1 exposures (0.1 MB); 0 there already, 3 of your own" in output
    mixture.run("--overwrite")
    assert archive.server.counts["download"] == 2
    assert places(mixture) == expected
    after = everything_below(mixture.home / "mine") | everything_below(mixture.home / "hers")
    assert after == before


def test_what_leaves_the_archive_keeps_its_row_beside_own_files(mixture, archive):
    mixture.run()
    archive.fill([])
    mixture.run()
    assert places(mixture)[:2] == [("mast:JWST/product/", "excluded"), ("/mine/", "accepted")]
    assert mixture.table()["reason"][0] == "no longer in the archive"


def test_without_the_own_file_that_of_the_archive_is_taken_and_the_other_way_round(
    mixture, archive
):
    mixture.run()
    own = mixture.home / "mine" / rate_name(2)
    own.rename(mixture.home / "aside.fits")
    mixture.run()
    assert places(mixture)[1] == ("mast:JWST/product/", "accepted")
    assert archive.server.counts["download"] == 2
    (mixture.home / "aside.fits").rename(own)
    mixture.run()
    assert places(mixture)[1] == ("/mine/", "accepted")
    assert archive.server.counts["download"] == 2


def test_a_download_that_failed_is_tried_again_beside_own_files(mixture, archive):
    archive.server.faults.append(Fault(f"GET {rate_name(1)}", "404", times=1))
    mixture.run()
    assert places(mixture)[0] == ("mast:JWST/product/", "failed")
    mixture.run()
    assert places(mixture)[0] == ("mast:JWST/product/", "accepted")


def test_a_folder_that_is_not_there_is_an_error_of_the_config(mixture):
    (mixture.home / "hers").rename(mixture.home / "his")
    _, errors = mixture.run(status=2)
    assert f"query.source is '{mixture.home}/hers'. Expected mast, or an existing folder" in errors


def test_what_nobody_has_is_told_of_all_sources(mixture):
    mixture.configure(filters=["F200W"], gaia_g_limit=None, source=["mine", "mast"])
    output, _ = mixture.run(status=1)
    assert f"no exposure found. {mixture.home}/mine together with MAST (http" in output
    assert "2 *_rate.fits of GR150C-F115W" in output


# ---- without doing it


def test_a_dry_run_tells_what_a_real_run_takes_and_writes_nothing(user, archive, tmp_path):
    mixed(archive)
    before = everything_below(tmp_path)
    output, errors = user.run("--dry-run")
    assert errors == ""
    assert everything_below(tmp_path) == before
    assert archive.server.counts["download"] == 0
    assert "found 4 exposures" in output
    assert "1 excluded: bright star" in output
    assert "1 excluded: not public" in output
    assert "programmes, with the number of exposures: 1571 (2)" in output
    of_first, of_second, altogether = re.findall(r"to download: (\d+) exposures", output)
    assert (of_first, of_second, altogether) == ("2", "1", "3")
    assert "nothing was downloaded or written" in output
    output, _ = user.run()
    assert archive.server.counts["download"] == 3
    # With everything at hand, and files that are to be left as they are.
    before = everything_below(tmp_path)
    output, _ = user.run("--dry-run")
    assert everything_below(tmp_path) == before
    assert "to download: 0 exposures (0.0 MB); 3 there already, 0 of your own" in output
    output, _ = user.run("--dry-run", "--overwrite", "--combination", NAMES[0])
    assert everything_below(tmp_path) == before
    assert "to download: 2 exposures" in output
    assert archive.server.counts["download"] == 3


def test_a_dry_run_expects_that_what_failed_is_downloaded(user, archive):
    archive.fill([archive.expose(n) for n in (1, 2)])
    user.configure(gratings=["GR150C"], gaia_g_limit=None, attempts=1)
    archive.server.faults.append(Fault(f"GET {rate_name(2)}", "404"))
    user.run()
    assert list(user.table()["status"]) == ["accepted", "failed"]
    output, _ = user.run("--dry-run")
    assert "found 2 exposures (0.2 MB), 2 accepted" in output
    assert "to download: 1 exposures (0.1 MB); 1 there already" in output
    assert list(user.table()["status"]) == ["accepted", "failed"]


def test_a_dry_run_ends_as_the_real_run_does(user, archive):
    archive.fill([archive.expose(1, fileSize=10**15), keyword_row(rate_name(2), subarray="SUB64")])
    output, errors = user.run("--dry-run", status=1)
    assert "FAILED: no exposure found" in output
    assert f"Not made: {NAMES[1]}" in errors
    assert "WARNING: 1000000.00 GB are to be downloaded, and" in output
    archive.fill([archive.expose(2, fileSize=None, subarray="SUB64")])
    _, errors = user.run("--quiet", "--dry-run", "--combination", NAMES[0], status=1)
    assert f"{NAMES[0]}: FAILED: no exposure can be used: 1 excluded: SUBARRAY SUB64" in errors


def test_a_dry_run_of_own_files_has_nothing_to_download(user):
    rates = user.home / "rates"
    rates.mkdir()
    write_rate(rates / rate_name(1))
    user.configure(gratings=["GR150C"], source="rates", gaia_g_limit=None)
    before = everything_below(user.home)
    output, _ = user.run("--dry-run")
    assert "to download: 0 exposures (0.0 MB); 0 there already, 1 of your own" in output
    assert everything_below(user.home) == before
