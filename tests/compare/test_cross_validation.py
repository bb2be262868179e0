"""Backgrounds that are made without some of the fields, and the scores of a background."""

import numpy as np
import pytest
from astropy.io import fits

from benchmarks import crossvalidation as benchmark
from tests import sky, small
from tests.compare.test_comparison import copied, in_process
from tests.conftest import NAMES
from wfssbkg.combine import bins
from wfssbkg.compare import cross_validation
from wfssbkg.compare.cross_validation import CombinedExposures
from wfssbkg.compare.figures import figures
from wfssbkg.config import read
from wfssbkg.detector import science_pixels
from wfssbkg.files import masked_exposure, residual_exposure
from wfssbkg.files.combined_background import Background
from wfssbkg.files.comparison_file import IN, OUT, SCATTERED, Comparison, write_background

NAME = "jw01_rate.fits"
SHAPE = (64, 96)


def scored(exposure, background, place, refined):
    """The comparison of a background with one exposure, from their files."""
    number = np.ones(SHAPE, dtype=np.int16)
    table = small.table({"productFilename": NAME})
    made = Background(background, number, number, number < 0, number, table)
    comparison = Comparison(place, made, made.bad)
    combined = CombinedExposures([exposure], refined, [])
    cross_validation.score(small.WORKERS, small.DEFAULTS, comparison, combined)
    return comparison


def test_an_error_that_goes_with_x_is_in_the_column_profile(tmp_path):
    """All the way from the file of an exposure to the figures."""
    place = small.folder(tmp_path)
    exposure = small.masked_exposure(place, NAME, np.full(SHAPE, 0.5), 0.02, level=0.5)
    error = np.where(np.arange(SHAPE[1]) % 2 == 0, 0.01, -0.01)
    found = scored(exposure, np.broadcast_to(1 + error, SHAPE), place, refined=False)
    score = found.scores[IN]
    np.testing.assert_allclose(score.column_profile[4:-4], -100 * error[4:-4], atol=0.05)
    assert len(score.row_profile) == SHAPE[0]
    found = figures(score)
    assert found["column_100"] == pytest.approx(1, abs=0.05)
    assert found["column_0"] == pytest.approx(-1, abs=0.05)
    assert found["row_100"] - found["row_0"] < 0.01


def test_the_picture_is_of_the_background_that_was_made_without_the_exposure(tmp_path):
    exposure = small.masked_exposure(
        small.folder(tmp_path), NAME, np.full(SHAPE, 0.5), 0.02, level=0.5
    )
    slope = np.broadcast_to(np.linspace(0.9, 1.1, SHAPE[1]), SHAPE)
    files = {IN: tmp_path / "in.fits", OUT: tmp_path / "out.fits"}
    for name, background in ((IN, np.ones(SHAPE)), (OUT, slope)):
        write_background(files[name], background)
    scores, picture = cross_validation.measure_exposure(
        exposure, files, small.DEFAULTS, refined=False
    )
    assert picture.scored == OUT
    assert picture.rms == scores[OUT].rms > 10 * scores[IN].rms
    assert picture.residual[30, 10] == pytest.approx(100 * (1 - slope[30, 10]), abs=1)


def scored_together(place, amplitudes, **changes):
    """The comparison of a flat background with exposures that have steps of these amplitudes."""
    steps = np.where(np.arange(SHAPE[1]) % 32 < 16, 1, -1)
    exposures = [
        small.masked_exposure(
            place, f"jw{k}_rate.fits", np.broadcast_to(0.5 + size * steps, SHAPE), 0.02, level=0.5
        )
        for k, size in enumerate(amplitudes)
    ]
    number = np.ones(SHAPE, dtype=np.int16)
    table = small.table(*({"productFilename": x.name} for x in exposures))
    sky = np.broadcast_to(np.linspace(0.9, 1.1, SHAPE[0])[:, np.newaxis], SHAPE)
    made = Background(sky.astype(np.float32), number, number, number < 0, number, table)
    found = Comparison(place, made, made.bad)
    combined = CombinedExposures(exposures, False, [])
    settings = small.settings(compare=changes)
    cross_validation.score(small.WORKERS, settings, found, combined)
    return found


def test_a_typical_exposure_and_the_worst_are_shown_before_and_after(tmp_path):
    found = scored_together(small.folder(tmp_path), [0.01, 0.2, 0.04, 0.02, 0.1])
    assert {kind: x.exposure for kind, x in found.examples.items()} == {
        "typical": "jw2_rate.fits", "worst": "jw1_rate.fits",
    }  # fmt: skip
    example = found.examples["worst"]
    assert example.scored == IN
    assert example.rms_after == found.pictures["jw1_rate.fits"].rms
    # A slope in y, which the exposure has not, is subtracted.
    assert np.nanstd(example.before, axis=0).max() < 0.01
    assert np.nanstd(example.after, axis=0).max() > 1
    assert example.before[3, 0] - example.before[3, 2] == pytest.approx(80, rel=0.05)
    only = scored_together(small.folder(tmp_path / "one"), [0.01])
    assert list(only.examples) == ["typical"]


def test_residuals_are_written_only_over_files_of_ours(tmp_path):
    place = small.folder(tmp_path)
    names = [f"jw{k}_rate.fits" for k in range(3)]
    place.residuals.mkdir(parents=True)
    old, other = place.residual("jw9_rate.fits"), place.residual(names[1])
    for path in (old, place.residual(names[0])):
        residual_exposure.write(path, np.zeros((2, 2)), np.zeros((2, 2), np.uint8), {})
    other.write_bytes(b"of somebody else")
    found = scored_together(place, [0.01, 0.02, 0.03], write_residuals=True)
    (note,) = (note for note in found.notes if "residuals are not written" in note)
    assert note.startswith("1 of 3")
    assert str(other) in note
    assert other.read_bytes() == b"of somebody else"
    assert sorted(place.residuals.iterdir()) == [place.residual(name) for name in names]
    with fits.open(place.residual(names[2])) as hdus:
        header, mask = hdus[0].header, hdus["MASK"].data
        assert header["INSAMPLE"] is True
        sci, _, _ = masked_exposure.read(place.masked(names[2]))
        sky = header["BKGLVL"] * found.background.sci
        np.testing.assert_allclose(hdus["SCI"].data, sci - sky, atol=1e-5)
    np.testing.assert_array_equal(mask == 0, science_pixels(SHAPE))
    scored_together(place, [0.01, 0.02, 0.03])
    assert list(place.residuals.iterdir()) == [other]


def test_what_is_left_of_the_mean_is_where_the_background_is_wrong(tmp_path):
    place = small.folder(tmp_path)
    exposure = small.masked_exposure(place, NAME, np.full(SHAPE, 0.5), 0.02, level=0.5)
    background = np.ones(SHAPE)
    background[16:24, 40:48] = 1.02
    left = scored(exposure, background, place, refined=False).scores[IN].mean
    assert left.shape == (SHAPE[0] // 8, SHAPE[1] // 8)
    assert left[2, 5] == pytest.approx(-2, abs=0.01)
    left[2, 5] = 0
    assert np.nanmax(np.abs(left)) < 0.01


@pytest.mark.parametrize("grating", ["GR150C", "GR150R"])
@pytest.mark.parametrize("refined", [True, False])
def test_exposures_are_scored_outside_the_mask_that_is_asked_for(grating, refined, tmp_path):
    """A bright source is in the one mask only; the other hides another place."""
    place = small.folder(tmp_path, grating)
    along_x = place.combination.along_x
    found = small.bins_of(SHAPE, along_x=along_x) > 0
    found[8:12, 8:12] = True
    of_makemask = np.zeros(SHAPE, dtype=bool)
    of_makemask[50:54, 60:70] = True
    source = bins.expand(found, along_x=along_x) if refined else of_makemask
    exposure = small.masked_exposure(
        place, NAME, np.where(source, 5.0, 0.5), 0.02,
        bits=of_makemask * np.uint8(masked_exposure.SOURCE), level=0.5,
    )  # fmt: skip
    small.write_refined(exposure, np.where(found, np.nan, 0))
    comparison = scored(exposure, np.ones(SHAPE), place, refined)
    science = science_pixels(SHAPE)
    hidden = comparison.pictures[NAME].masked
    np.testing.assert_array_equal(hidden[science], source[science])
    assert comparison.scores[IN].rms < 1e-3


def test_cross_validation_agrees_with_the_truth(archive, finished, tmp_path, monkeypatch):
    """The check of benchmarks/crossvalidation.py, on small frames."""
    config, folder = copied(archive, finished[1][0], tmp_path)
    truth = fits.getdata(archive.folder / "truth" / f"{NAMES[0]}.fits", "SCI")
    found = in_process(config, folder, monkeypatch, archive, **{benchmark.TRUTH: truth})
    rows = {name: x for name, *x in benchmark.check(found, truth, read(config))}
    for name in ("an exposure", "mean of exposures"):
        measured, predicted, _ = rows[name]
        assert measured == pytest.approx(predicted, rel=benchmark.TOLERANCE)


def test_scattered_light_is_subtracted_from_exposures_that_have_it(tmp_path):
    """As subtractBackgrounds.py would, with a background that was made without them."""
    seen = sky.exposures(np.random.default_rng(8), sky.mirror(), fields=9, dithers=2, extra=0.05)
    made = sky.combined(tmp_path, seen, refinements=2)
    part = [k for k, member in enumerate(made.members) if member.name[2] in "01"]
    combined = CombinedExposures(made.members, True, [part])
    config = small.settings(combine=sky.SETTINGS)
    without = cross_validation.combine_without(
        small.WORKERS, config.combine, combined, part, made.background
    )
    path = tmp_path / "without.fits"
    write_background(path, without.sci, light=without.components)
    for k in part:
        exposure = made.members[k]
        scores, _ = cross_validation.measure_exposure(exposure, {OUT: path}, config, True)
        if exposure.name.startswith("jw0"):  # of a field that has it
            assert scores[SCATTERED].rms < 0.8 * scores[OUT].rms
        else:
            assert scores[SCATTERED].rms == pytest.approx(scores[OUT].rms, rel=0.05)
