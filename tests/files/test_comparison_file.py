"""What is kept of a comparison survives the disk."""

import numpy as np
import pytest
from astropy.io import fits

from tests import small
from wfssbkg.errors import StepError
from wfssbkg.files import combined_background, comparison_file, reference_file, up_to_date
from wfssbkg.files.comparison_file import Comparison, Example, Picture, Score

SHAPE = (64, 96)
SETTINGS = up_to_date.bearing(small.DEFAULTS, up_to_date.COMPARED, small.COMBINATION)


@pytest.fixture
def comparison(tmp_path):
    """Without anything found yet, of a finished background that is there."""
    folder = small.folder(tmp_path)
    number = np.ones(SHAPE, dtype=np.int16)
    table = small.table({"productFilename": "jw01_nis_rate.fits"})
    background = combined_background.Background(number, number, number, number < 0, number, table)
    dq = np.zeros(SHAPE, dtype=np.uint32)
    header = fits.Header({"QDATE": table.meta["QDATE"]})
    reference_file.write(folder.finished, background, dq, header, SETTINGS)
    return Comparison(folder, background, number < 0)


def test_scores_pictures_reference_and_notes_are_read_as_they_were_written(comparison):
    rng = np.random.default_rng(3)
    column, row = rng.normal(size=SHAPE[1]), rng.normal(size=SHAPE[0])
    row[3] = np.nan
    comparison.scores = {"in": Score(0.4, column, row, 0.1), "official": Score(1.5, column, row)}
    small_one = rng.normal(size=(64, 96)).astype(np.float32)
    small_one[0] = np.nan
    comparison.pictures = {
        "jw01_nis_rate.fits": Picture(small_one, np.abs(small_one), 0.5, 0),
        "jw0002_nis_rate.fits": Picture(-small_one, np.abs(small_one), np.nan, 3),
    }
    comparison.official = small_one
    comparison.official_name = "jwst_niriss_bkg_0001.fits"
    comparison.against = 2 * small_one
    comparison.against_file = "/home/jürgen/" + 9 * "a long way/" + "zenodo/nis.fits"
    comparison.examples = {
        kind: Example(name, small_one[::8, ::8], -small_one[::8, ::8], 3.2, 0.5, "out")
        for kind, name in (("typical", "jw01_nis_rate.fits"), ("worst", "jw0002_nis_rate.fits"))
    }
    comparison.notes = ["gone from /home/jürgen/work", "not cross-validated"]
    comparison_file.write(comparison, settings=SETTINGS)
    found = comparison_file.read(comparison.folder)
    for name in ("scores", "pictures", "examples"):
        expected, got = getattr(comparison, name), getattr(found, name)
        assert list(got) == list(expected)
        for key, value in expected.items():
            for attribute, wanted in vars(value).items():
                read = getattr(got[key], attribute)
                np.testing.assert_array_equal(read, wanted)
                assert np.asarray(read).dtype.newbyteorder("=") == np.asarray(wanted).dtype
    np.testing.assert_array_equal(found.official, small_one)
    assert found.official_name == comparison.official_name
    np.testing.assert_array_equal(found.against, comparison.against)
    assert found.against_file == comparison.against_file
    assert found.against_name == "zenodo"
    assert found.notes == comparison.notes
    assert list(found.background.inputs["productFilename"]) == ["jw01_nis_rate.fits"]
    assert up_to_date.made_with(comparison.folder.comparison) == SETTINGS


def test_a_comparison_with_nothing_in_it_is_one(comparison):
    comparison_file.write(comparison, settings=SETTINGS)
    found = comparison_file.read(comparison.folder)
    assert found.scores == found.pictures == found.examples == {}
    assert found.against is None
    assert found.notes == []
    assert found.official is None


@pytest.mark.parametrize("damage", [lambda data: data[:-2880], lambda data: b"", lambda data: b"x"])
def test_a_spoilt_comparison_is_named_with_what_to_do(comparison, damage):
    comparison_file.write(comparison, settings=SETTINGS)
    path = comparison.folder.comparison
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(StepError, match=r"comparison\.fits cannot be read .* compareBackgrounds"):
        comparison_file.read(comparison.folder)
