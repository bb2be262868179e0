"""queryData.py as a user runs it."""

import os
import signal
import subprocess
import sys
import time
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
import yaml

from demo.server import Fault
from tests.demo.test_server import keyword_row, rate_name, star, tiny_archive, write_rate
from wfssbkg.files import exposure_table
from wfssbkg.layout import Combination, Folder

ROOT = Path(__file__).resolve().parents[2]
NAMES = ("GR150C-F115W", "GR150R-F115W")


class User:
    """Somebody with a config, a working folder and a small archive."""

    def __init__(self, home, archive):
        self.home = home
        self.archive = archive
        home.mkdir()
        self.configure()

    def configure(self, filters=("F115W",), gratings=("GR150C", "GR150R"), **query):
        here = {"mast_url": self.archive.url, "gaia_url": self.archive.url}
        settings = {
            "gratings": list(gratings), "filters": list(filters), "working_directory": "work",
            "output_directory": "out",
            "query": here | {"timeout": 2.0, "attempts": 2} | query,
        }  # fmt: skip
        (self.home / "config.yaml").write_text(yaml.safe_dump(settings))

    def start(self, *options):
        command = [sys.executable, ROOT / "queryData.py", "--config", "config.yaml", *options]
        return subprocess.Popen(
            command,
            cwd=self.home,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            # Tests in the background of a shell inherit that Ctrl-C is ignored; a user does not.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )

    def run(self, *options, status=0):
        """What the script said; it must end with `status` and without a traceback."""
        script = self.start(*options)
        output, errors = script.communicate(timeout=300)
        assert script.returncode == status, output + errors
        assert "Traceback" not in errors
        return output, errors

    def folder(self, name=NAMES[0]):
        combination = Combination(*name.split("-"))
        return Folder(combination, self.home / "work", self.home / "out")

    def table(self, name=NAMES[0]):
        return exposure_table.read(self.folder(name).table)

    def files(self, name=NAMES[0]):
        return sorted(path.name for path in self.folder(name).path.iterdir())


@pytest.fixture
def archive(tmp_path):
    with tiny_archive(tmp_path / "archive", count=0) as made:
        yield made


@pytest.fixture
def user(tmp_path, archive):
    return User(tmp_path / "user", archive)


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
    script = user.start()
    end = time.monotonic() + 60
    while archive.server.counts["download"] < 3 and time.monotonic() < end:
        time.sleep(0.05)
    time.sleep(0.3)
    os.kill(script.pid, signal.SIGINT)
    _, errors = script.communicate(timeout=60)  # less than any server's silence
    assert script.returncode == 130
    assert "Traceback" not in errors
    assert "Interrupted" in errors
    for name in set(user.files()) - {"GR150C-F115W.fits"}:
        assert user.folder().rate(name).read_bytes() == (archive.folder / name).read_bytes()
    if fault:
        return
    archive.server.delay = 0
    user.run()
    assert list(user.table()["status"]) == ["accepted"] * 8
    assert len(user.files()) == 9
