"""Downloads of rate files, from the demo server."""

import contextlib
import errno
import time

import numpy as np
import pytest
from astropy.io import fits

from demo.server import Fault
from tests import small
from tests.demo.test_server import keyword_row, rate_name, tiny_archive, write_rate
from wfssbkg.errors import StepError
from wfssbkg.files import exposure_table, temporary
from wfssbkg.layout import Combination, Folder
from wfssbkg.query import archive, download, network, selection

GR150C = Combination("GR150C", "F115W")

# astropy's remarks on files that are damaged on purpose
pytestmark = [
    pytest.mark.filterwarnings("ignore:File may have been truncated"),
    pytest.mark.filterwarnings("ignore:Error validating header"),
    pytest.mark.filterwarnings("ignore:Missing padding"),
]


@pytest.fixture
def tiny(tmp_path, monkeypatch):
    monkeypatch.setattr(network, "FIRST_PAUSE", 0.01)
    with tiny_archive(tmp_path / "archive") as made:
        yield made


@pytest.fixture
def folder(tmp_path):
    return Folder(GR150C, tmp_path / "work", tmp_path / "out")


def accepted(tiny, **query):
    settings = tiny.query(**query)
    return selection.select(archive.search(settings, [GR150C]), GR150C, settings), settings


def files(folder):
    return sorted(path.name for path in folder.path.iterdir())


def test_downloads_are_the_same_bytes_and_happen_once(tiny, folder):
    table, query = accepted(tiny)
    done = download.download(table, folder, query)
    assert (done.downloaded, done.present, done.failed) == (3, 0, 0)
    assert files(folder) == [rate_name(n) for n in (1, 2, 3)]
    for name in files(folder):
        assert folder.rate(name).read_bytes() == (tiny.folder / name).read_bytes()
    assert done.size == sum(path.stat().st_size for path in folder.path.iterdir())
    before = tiny.server.counts.copy()
    again = download.download(table, folder, query)
    assert (again.downloaded, again.present, again.failed) == (0, 3, 0)
    assert tiny.server.counts == before
    download.download(table, folder, query, overwrite=True)
    assert tiny.server.counts["download"] == 6


def test_only_what_is_missing_or_of_the_wrong_size_is_fetched(tiny, folder):
    table, query = accepted(tiny)
    download.download(table, folder, query)
    folder.rate(rate_name(1)).unlink()
    folder.rate(rate_name(2)).write_bytes(b"SIMPLE  =")
    table["level"] = 0.5
    done = download.download(table, folder, query)
    assert (done.downloaded, done.present) == (2, 1)
    assert tiny.server.counts["download"] == 5
    np.testing.assert_array_equal(table["level"], [np.nan, np.nan, 0.5])


def test_excluded_and_rejected_exposures_are_not_fetched(tiny, folder):
    table, query = accepted(tiny)
    table["status"] = np.array(["excluded", "rejected", "accepted"], dtype=object)
    assert download.download(table, folder, query).downloaded == 1
    assert files(folder) == [rate_name(3)]
    assert list(table["status"]) == ["excluded", "rejected", "accepted"]


def test_an_unknown_size_is_no_hindrance(tiny, folder):
    tiny.fill([tiny.expose(11) | {"fileSize": None}])
    table, query = accepted(tiny)
    assert download.download(table, folder, query).downloaded == 1
    assert download.download(table, folder, query).present == 1
    folder.rate(rate_name(11)).write_bytes(b"SIMPLE  =")
    assert download.download(table, folder, query).downloaded == 1


def test_what_failed_is_looked_at_again(tiny, folder):
    table, query = accepted(tiny)
    download.download(table, folder, query)
    size = folder.rate(rate_name(1)).stat().st_size
    folder.rate(rate_name(1)).write_bytes(bytes(size))  # the right size, but no FITS file
    for name in (rate_name(1), rate_name(2)):
        exposure_table.mark(table, name, status="failed", reason="something")
    done = download.download(table, folder, query)
    assert (done.downloaded, done.present) == (1, 2)
    assert list(table["status"]) == ["accepted"] * 3
    assert list(table["reason"]) == [""] * 3


def test_a_new_version_is_fetched_although_the_former_one_is_masked(tiny, folder):
    """With the rate files removed, the masked exposures are what is there."""
    table, query = accepted(tiny, keep_rates=False)
    folder.path.mkdir(parents=True)
    for name in table["productFilename"]:
        small.masked_exposure(folder, name, np.ones((16, 16)), 0.01)
    table["masked_fraction"] = [0.1, np.nan, 0.1]
    done = download.download(table, folder, query)
    assert (done.downloaded, done.present) == (1, 2)
    assert folder.rate(rate_name(2)).exists()


KINDS = ["refused", "500", "503", "half", "stall", "short", "html", "empty", "malformed"]


@pytest.mark.parametrize("kind", KINDS)
def test_a_fault_of_a_download_is_tried_again(tiny, folder, kind):
    value = 0.1 if kind == "503" else 5
    tiny.server.faults.append(Fault("GET .*00002", kind, value=value))
    table, query = accepted(tiny, timeout=0.5 if kind == "stall" else 30.0)
    done = download.download(table, folder, query)
    assert (done.downloaded, done.failed) == (3, 0)
    assert tiny.server.counts["download"] == 4
    assert files(folder) == [rate_name(n) for n in (1, 2, 3)]
    for name in files(folder):
        assert folder.rate(name).read_bytes() == (tiny.folder / name).read_bytes()


@pytest.mark.parametrize(
    ("kind", "words"),
    [("refused", "broke off"), ("500", "HTTP 500"), ("half", "broke off"), ("stall", "no answer"),
     ("short", "bytes instead of"), ("html", "not a FITS file"), ("empty", "not a FITS file")],
)  # fmt: skip
def test_a_lasting_fault_fails_one_exposure_only(tiny, folder, kind, words):
    tiny.server.faults.append(Fault("GET .*00002", kind, times=9, value=5))
    table, query = accepted(tiny, timeout=0.5 if kind == "stall" else 30.0)
    done = download.download(table, folder, query)
    assert (done.downloaded, done.failed) == (2, 1)
    assert list(table["status"]) == ["accepted", "failed", "accepted"]
    assert table["reason"][1].startswith("download failed: ")
    assert words in table["reason"][1]
    assert "after 2 tries" in table["reason"][1]
    assert files(folder) == [rate_name(1), rate_name(3)]


@pytest.mark.parametrize("kind", ["404", "401"])
def test_what_will_not_change_is_not_tried_again(tiny, folder, kind):
    tiny.server.faults.append(Fault("GET .*00002", kind, times=9))
    table, query = accepted(tiny)
    download.download(table, folder, query)
    assert f"HTTP {kind}" in table["reason"][1]
    assert tiny.server.counts["download"] == 3


def test_retry_after_is_kept(tiny, folder):
    tiny.server.faults.append(Fault("GET .*00002", "503", value=1))
    table, query = accepted(tiny, timeout=2.0)
    start = time.monotonic()
    assert download.download(table, folder, query).failed == 0
    assert time.monotonic() - start > 1


def test_a_server_that_wants_too_much_patience_is_left(tiny, folder):
    tiny.server.faults.append(Fault("GET .*00002", "503", value=3600))
    table, query = accepted(tiny)
    assert download.download(table, folder, query).failed == 1
    assert "asks to wait for 3600 s" in table["reason"][1]


def test_a_folder_in_place_of_a_file_fails_only_that_one(tiny, folder):
    folder.rate(rate_name(2)).mkdir(parents=True)
    table, query = accepted(tiny)
    assert download.download(table, folder, query).downloaded == 2
    assert "directory" in table["reason"][1]
    assert files(folder) == [rate_name(n) for n in (1, 2, 3)]


def test_debris_of_a_killed_run_is_removed(tiny, folder):
    folder.path.mkdir(parents=True)
    (folder.path / f".wfssbkg.0123abcd.{rate_name(2)}").write_text("half")
    table, query = accepted(tiny)
    download.download(table, folder, query)
    assert files(folder) == [rate_name(n) for n in (1, 2, 3)]


def test_a_disk_that_is_too_small_is_said_before(tiny, folder):
    tiny.fill([keyword_row(rate_name(1), 10**18)])
    table, query = accepted(tiny)
    with pytest.raises(StepError, match="Make room"):
        download.download(table, folder, query)
    assert tiny.server.counts["download"] == 0


def test_a_full_disk_ends_it(tiny, folder, monkeypatch):
    tiny.fill([tiny.expose(number) for number in range(11, 19)])

    def full(*arguments):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(temporary.Path, "replace", full)
    table, query = accepted(tiny, connections=1)
    assert download.download(table, folder, query).failed == 8
    assert table["reason"][0] == "download failed: No space left on device"
    assert "not tried" in table["reason"][7]
    assert tiny.server.counts["download"] == 1
    assert files(folder) == []


def test_a_line_that_is_gone_does_not_take_hours(tiny, folder):
    tiny.fill([tiny.expose(number) for number in range(11, 31)])
    table, query = accepted(tiny, connections=2)
    query = query.model_copy(update={"mast_url": "http://127.0.0.1:9"})
    assert download.download(table, folder, query).failed == 20
    reasons = list(table["reason"])
    assert sum("not tried" in reason for reason in reasons) >= 10
    assert sum("Connection refused" in reason for reason in reasons) == 20


def test_the_bar_moves_during_a_file(tiny, folder, monkeypatch):
    shown = []

    class Bar:
        n = 0

        def update(self, size=1):
            self.n += size
            shown.append(self.n)

    monkeypatch.setattr(download.messages, "bar", lambda *_, **__: contextlib.nullcontext(Bar()))
    path = tiny.folder / rate_name(21)
    write_rate(path)
    with fits.open(path, mode="append") as hdus:
        hdus.append(fits.ImageHDU(np.zeros((512, 512)), name="MORE"))
    size = path.stat().st_size
    tiny.fill([keyword_row(path.name, size)])
    tiny.server.delay = 0.02
    table, query = accepted(tiny)
    download.download(table, folder, query)
    assert len({n for n in shown if 0 < n < size}) >= 2
    assert shown[-1] == size
