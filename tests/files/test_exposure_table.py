import warnings

import numpy as np
import pytest
from astropy.io import fits
from astropy.table import Table

from wfssbkg.errors import StepError
from wfssbkg.files import exposure_table
from wfssbkg.layout import Combination, Folder


def test_a_table_survives_the_disk(tmp_path):
    path = tmp_path / "t.fits"
    rows = [
        {"productFilename": "b_rate.fits", "size": 3, "star_gmag": 8.5, "reason": "star"},
        {"productFilename": "a_rate.fits", "ra": 1.25, "program": "1089"},
    ]
    exposure_table.write(exposure_table.new(rows), path, "2026-11-23T00:00:00")
    table = exposure_table.read(path)
    assert list(table["productFilename"]) == ["a_rate.fits", "b_rate.fits"]
    assert list(table["reason"]) == ["", "star"]
    assert table["size"][1] == 3
    assert np.isnan(table["star_gmag"][0])
    assert table["program"][0] == "1089"
    assert list(table["status"]) == ["accepted", "accepted"]
    assert fits.getheader(path)["QDATE"] == "2026-11-23T00:00:00"


def test_an_empty_table_survives_the_disk(tmp_path):
    exposure_table.write(exposure_table.new([]), tmp_path / "t.fits", "2026-11-23T00:00:00")
    assert len(exposure_table.read(tmp_path / "t.fits")) == 0


def test_a_reason_longer_than_any_before_fits(tmp_path):
    path = tmp_path / "t.fits"
    exposure_table.write(exposure_table.new([{"productFilename": "a"}]), path, "now")
    table = exposure_table.read(path)
    exposure_table.mark(table, "a", status=exposure_table.FAILED, reason="x" * 300)
    exposure_table.write(table, path)
    assert exposure_table.read(path)["reason"][0] == "x" * 300
    assert exposure_table.read(path).meta["QDATE"] == "now"


def test_a_missing_table_names_the_script_to_run(tmp_path):
    with pytest.raises(StepError, match=r"Run queryData\.py first"):
        exposure_table.read(tmp_path / "t.fits")


@pytest.mark.parametrize(
    "content", [b"", b"no FITS", b"SIMPLE  =                    T" + b" " * 3000]
)
def test_a_broken_table_is_named(tmp_path, content):
    path = tmp_path / "t.fits"
    path.write_bytes(content)
    with pytest.raises(StepError, match=r"t\.fits is not an exposure table"):
        exposure_table.read(path)


def test_marking_an_unknown_exposure_is_an_error():
    with pytest.raises(KeyError):
        exposure_table.mark(exposure_table.new([{"productFilename": "a"}]), "b", status="failed")


def test_local_files_are_used_where_they_are(tmp_path):
    folder = Folder(Combination("GR150C", "F115W"), tmp_path, tmp_path)
    table = exposure_table.new(
        [
            {"productFilename": "a_rate.fits", "dataURI": "mast:JWST/product/a_rate.fits"},
            {"productFilename": "b_rate.fits", "dataURI": "/data/b_rate.fits"},
        ]
    )
    assert exposure_table.rate_path(table[0], folder) == folder.rate("a_rate.fits")
    assert str(exposure_table.rate_path(table[1], folder)) == "/data/b_rate.fits"


def test_exposures_whose_download_failed_are_not_processed(tmp_path):
    folder = Folder(Combination("GR150C", "F115W"), tmp_path, tmp_path)
    names = ("a", "b", "c", "d", "e")
    table = exposure_table.new(
        [{"productFilename": name, "dataURI": f"mast:{name}"} for name in names]
    )
    for name, status in zip(
        names, ("accepted", "failed", "failed", "excluded", "rejected"), strict=True
    ):
        exposure_table.mark(table, name, status=status)
    folder.path.mkdir()
    folder.rate("c").write_text("there")
    assert [path.name for path in exposure_table.to_process(table, folder)] == ["a", "c", "e"]


def test_latest_exposure():
    rows = [{"productFilename": "a", "mjd": 2.0}, {"productFilename": "b", "mjd": 1.0}]
    assert exposure_table.latest(exposure_table.new(rows)) == "a"
    rows = [{"productFilename": "a"}, {"productFilename": "b", "mjd": 1.0}]  # a without a date
    assert exposure_table.latest(exposure_table.new(rows)) == "b"
    with pytest.raises(StepError):
        exposure_table.latest(exposure_table.new([]))


def test_other_programs_read_a_table_without_a_warning(tmp_path):
    path = tmp_path / "t.fits"
    exposure_table.write(exposure_table.new([{"productFilename": "a", "level": 0.5}]), path, "now")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        table = Table.read(path)
    assert table["level"][0] == 0.5
    header = fits.getheader(path, 1)
    column = next(card.keyword for card in header.cards if card.value == "level")
    assert "DN/s" in header.comments[column]


def test_the_folders_of_the_user_can_be_left_out():
    rows = [
        {"productFilename": "a_rate.fits", "dataURI": "mast:JWST/product/a_rate.fits"},
        {"productFilename": "b_rate.fits", "dataURI": "/home/me/data/b_rate.fits"},
    ]
    table = exposure_table.new(rows)
    plain = exposure_table.without_folders(table)
    assert list(plain["dataURI"]) == ["mast:JWST/product/a_rate.fits", "b_rate.fits"]
    assert table["dataURI"][1] == "/home/me/data/b_rate.fits"
