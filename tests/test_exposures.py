import numpy as np
import pytest
from astropy.io import fits

from wfssbkg import StepError, exposures
from wfssbkg.layout import Combination, Folder


def test_a_table_survives_the_disk(tmp_path):
    path = tmp_path / "t.fits"
    rows = [
        {"productFilename": "b_rate.fits", "size": 3, "star_gmag": 8.5, "reason": "star"},
        {"productFilename": "a_rate.fits", "ra": 1.25, "program": "1089"},
    ]
    exposures.write(exposures.new(rows), path, "2026-11-23T00:00:00")
    table = exposures.read(path)
    assert list(table["productFilename"]) == ["a_rate.fits", "b_rate.fits"]
    assert list(table["reason"]) == ["", "star"]
    assert table["size"][1] == 3
    assert np.isnan(table["star_gmag"][0])
    assert table["program"][0] == "1089"
    assert list(table["status"]) == ["accepted", "accepted"]
    assert fits.getheader(path)["QDATE"] == "2026-11-23T00:00:00"
    assert fits.getheader(path, 1)["TUNIT16"] == "DN/s"


def test_an_empty_table_survives_the_disk(tmp_path):
    exposures.write(exposures.new([]), tmp_path / "t.fits", "2026-11-23T00:00:00")
    assert len(exposures.read(tmp_path / "t.fits")) == 0


def test_a_reason_longer_than_any_before_fits(tmp_path):
    path = tmp_path / "t.fits"
    exposures.write(exposures.new([{"productFilename": "a"}]), path, "now")
    table = exposures.read(path)
    exposures.mark(table, "a", status=exposures.FAILED, reason="x" * 300)
    exposures.write(table, path)
    assert exposures.read(path)["reason"][0] == "x" * 300
    assert exposures.read(path).meta["QDATE"] == "now"


def test_a_missing_table_names_the_script_to_run(tmp_path):
    with pytest.raises(StepError, match=r"Run queryData\.py first"):
        exposures.read(tmp_path / "t.fits")


@pytest.mark.parametrize(
    "content", [b"", b"no FITS", b"SIMPLE  =                    T" + b" " * 3000]
)
def test_a_broken_table_is_named(tmp_path, content):
    path = tmp_path / "t.fits"
    path.write_bytes(content)
    with pytest.raises(StepError, match=r"t\.fits is not an exposure table"):
        exposures.read(path)


def test_marking_an_unknown_exposure_is_an_error():
    with pytest.raises(KeyError):
        exposures.mark(exposures.new([{"productFilename": "a"}]), "b", status="failed")


def test_local_files_are_used_where_they_are(tmp_path):
    folder = Folder(Combination("GR150C", "F115W"), tmp_path, tmp_path)
    table = exposures.new(
        [
            {"productFilename": "a_rate.fits", "dataURI": "mast:JWST/product/a_rate.fits"},
            {"productFilename": "b_rate.fits", "dataURI": "/data/b_rate.fits"},
        ]
    )
    assert exposures.rate_path(table[0], folder) == folder.rate("a_rate.fits")
    assert str(exposures.rate_path(table[1], folder)) == "/data/b_rate.fits"


def test_exposures_whose_download_failed_are_not_processed(tmp_path):
    folder = Folder(Combination("GR150C", "F115W"), tmp_path, tmp_path)
    names = ("a", "b", "c", "d", "e")
    table = exposures.new([{"productFilename": name, "dataURI": f"mast:{name}"} for name in names])
    for name, status in zip(
        names, ("accepted", "failed", "failed", "excluded", "rejected"), strict=True
    ):
        exposures.mark(table, name, status=status)
    folder.path.mkdir()
    folder.rate("c").write_text("there")
    assert [path.name for path in exposures.to_process(table, folder)] == ["a", "c", "e"]


def test_latest_exposure():
    rows = [{"productFilename": "a", "mjd": 2.0}, {"productFilename": "b", "mjd": 1.0}]
    assert exposures.latest(exposures.new(rows)) == "a"
    with pytest.raises(StepError):
        exposures.latest(exposures.new([]))
