"""What a background leaves of an exposure, told from small files."""

import numpy as np
import pytest

from tests import small
from wfssbkg import cellfiles, cells, compare, crossvalidation, masked, products, residual

NAME = "jw01_rate.fits"
SHAPE = (64, 96)


def test_profiles_are_medians_of_columns_and_of_rows():
    left = np.zeros((3, 5))
    left[:, 1], left[2, 4] = 7, 99
    left[0] = np.nan
    columns, rows = residual.profiles(left)
    np.testing.assert_array_equal(columns, [0, 7, 0, 0, 49.5])
    np.testing.assert_array_equal(rows, [np.nan, 0, 0])


def scored(exposure, background, place, refined):
    """The comparison of a background with one exposure, from their files."""
    path = place.compared(compare.IN)
    crossvalidation.write_image(path, background)
    number = np.ones(SHAPE, dtype=np.int16)
    made = products.Background(
        background, number, number, number < 0, small.table({"productFilename": NAME})
    )
    comparison = compare.Comparison(place, made, made.bad)
    sample = crossvalidation.Sample([exposure], np.ones(1), refined)
    compare.score_exposures(comparison, small.settings(), sample, [{compare.IN: path}])
    return comparison


def test_an_error_that_goes_with_x_is_in_the_column_profile(tmp_path):
    """All the way from the file of an exposure to the figures."""
    place = small.folder(tmp_path)
    exposure = small.masked_exposure(place, NAME, np.full(SHAPE, 0.5), 0.02)
    error = np.where(np.arange(SHAPE[1]) % 2 == 0, 0.01, -0.01)
    found = scored(exposure, np.broadcast_to(1 + error, SHAPE), place, refined=False)
    score = found.scores[compare.IN]
    np.testing.assert_allclose(score.column_profile[4:-4], -100 * error[4:-4], atol=0.05)
    assert len(score.row_profile) == SHAPE[0]
    figures = score.figures()
    assert figures["column_100"] == pytest.approx(1, abs=0.05)
    assert figures["column_0"] == pytest.approx(-1, abs=0.05)
    assert figures["row_100"] - figures["row_0"] < 0.01


@pytest.mark.parametrize("grating", ["GR150C", "GR150R"])
@pytest.mark.parametrize("refined", [True, False])
def test_exposures_are_scored_outside_the_mask_that_is_asked_for(grating, refined, tmp_path):
    """A bright source is in the one mask only; the other hides another place."""
    place = small.folder(tmp_path, grating)
    along_x = place.combination.along_x
    found = small.cells_of(SHAPE, along_x=along_x) > 0
    found[8:12, 8:12] = True
    of_makemask = np.zeros(SHAPE, dtype=bool)
    of_makemask[50:54, 60:70] = True
    source = cells.expand(found, along_x=along_x) if refined else of_makemask
    exposure = small.masked_exposure(
        place, NAME, np.where(source, 5.0, 0.5), 0.02,
        bits=of_makemask * np.uint8(masked.SOURCE), level=0.5,
    )  # fmt: skip
    nothing = np.zeros((4, found.shape[1]), dtype=np.float32)
    cellfiles.write_refined(exposure.refined, found, np.zeros(found.shape), nothing, 0.02)
    comparison = scored(exposure, np.ones(SHAPE), place, refined)
    science = products.science_pixels(SHAPE)
    hidden = comparison.pictures[NAME].masked
    np.testing.assert_array_equal(hidden[science], source[science])
    assert comparison.scores[compare.IN].rms < 1e-3
