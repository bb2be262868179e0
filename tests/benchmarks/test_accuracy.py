"""The figures of the benchmark on arrays with known answers, and a tiny run of all of it."""

import contextlib
import io
import os
from unittest import mock

import numpy as np
import pytest
import yaml
from astropy.io import fits
from astropy.table import Table
from stdatamodels.jwst.datamodels import dqflags

from benchmarks import accuracy, crossvalidation, metrics, programs, report, sets
from demo import archive, score
from demo import run as runner
from demo.effects import EFFECTS, NO_EFFECTS
from tests.conftest import SMALL_FRAME
from tests.script_server import python
from wfssbkg import config, detector

SIDE = 256
C, R = sets.BOTH
TINY = sets.Set((C,), 2, 2)
NOWHERE = np.zeros((SIDE, SIDE), dtype=bool)


@pytest.fixture
def rng():
    return np.random.default_rng(3)


def figures_of(error, spots=~NOWHERE, edges=~NOWHERE):
    return metrics.figures(error, spots, edges)


@pytest.mark.parametrize(("axis", "name", "other"), [(1, "column", "row"), (0, "row", "column")])
def test_stripes_show_in_their_own_profile_only(axis, name, other):
    index = np.indices((SIDE, SIDE))[axis]
    figures = figures_of(np.where(index % 2, 0.01, -0.01))
    assert figures[name] == pytest.approx(0.01)
    assert figures["pixel"] == pytest.approx(0.01)
    assert figures[other] == pytest.approx(0, abs=1e-12)
    assert figures["smooth"] < 2e-4


def test_white_noise_shows_in_a_pixel_and_not_smoothed(rng):
    figures = figures_of(0.01 * rng.standard_normal((SIDE, SIDE)))
    assert figures["pixel"] == pytest.approx(0.01, rel=0.02)
    assert figures["tail"] == pytest.approx(0.0329, rel=0.05)
    # A Gaussian of 8 px averages 4 pi 8^2 pixels.
    assert figures["smooth"] == pytest.approx(0.01 / np.sqrt(4 * np.pi * 64), rel=0.15)
    # The median of n values has pi / 2 times the variance of their mean.
    assert figures["column"] == pytest.approx(0.01 * np.sqrt(np.pi / 2 / SIDE), rel=0.15)


def test_error_near_spots_and_edges_is_told_apart():
    spots, edges = NOWHERE.copy(), NOWHERE.copy()
    spots[20:40, 20:40], edges[:, 100:110] = True, True
    error = 0.02 * spots + 0.03 * edges
    error[30] = np.nan
    figures = figures_of(error, spots, edges)
    assert figures["spots"] == pytest.approx(0.02)
    assert figures["edges"] == pytest.approx(0.03)


def test_calibration_is_one_for_honest_uncertainties(rng):
    truth = 1 + 0.1 * rng.random((SIDE, SIDE))
    number = rng.choice([0, 1, 4, 24], (SIDE, SIDE))
    err = 0.05 / np.sqrt(np.maximum(number, 1))
    background = 3 * (truth + err * rng.standard_normal(truth.shape))
    background[number == 0] = np.nan
    background[0, :50] += 100  # a robust figure does not change
    found = metrics.calibration(background, 3 * err, truth, number)
    for name in ("cal", "cal_1", "cal_3", "cal_17"):
        assert found[name] == pytest.approx(1, abs=0.03)
    assert np.isnan(found["cal_9"])
    twice = metrics.calibration(background, np.where(number == 4, 6, 3) * err, truth, number)
    assert twice["cal_3"] == pytest.approx(0.5, abs=0.02)
    assert twice["cal_1"] == found["cal_1"]


def test_photon_limit_of_equal_exposures_falls_with_their_root():
    nothing_bad = np.zeros((4, 4), dtype=bool)
    exposures = [(2.0, np.full((4, 4), 0.04), nothing_bad)] * 9
    assert metrics.photon_limit(exposures) == pytest.approx(0.1 / 3)


def test_photon_limit_counts_good_pixels_only():
    bad = np.array([[False, True, True]])
    variance = np.array([[0.01, np.nan, 0.01]])
    exposures = [(1.0, variance, bad), (1.0, np.full((1, 3), 0.01), bad[:, ::-1])]
    expected = np.sqrt(np.mean([0.01, 0.01]))  # the pixel in the middle is bad in both exposures
    assert metrics.photon_limit(exposures) == pytest.approx(expected)


@pytest.mark.parametrize("number", sets.NUMBERS)
def test_subsets_spread_over_the_fields_and_are_of_average_worth(number):
    everything = sets.samples("N", C, 5)[-1].exposures
    chosen = sets.subset(everything, number)
    assert len(set(chosen)) == number
    by_field = np.bincount([spec.field for spec in chosen], minlength=13)[1:]
    assert by_field.max() - by_field.min() <= 1
    worth = [np.mean([sets.information(spec) for spec in part]) for part in (chosen, everything)]
    assert worth[0] == pytest.approx(worth[1], rel=0.05)


def places(exposures):
    """What effects leave alone."""
    return [(spec.filename, spec.ra, spec.sky_level, spec.exposure_time) for spec in exposures]


def test_effects_are_all_that_sets_differ_in():
    (plain,), (hard,), (cleaned,) = (sets.samples(x, C, 5) for x in ("plain", "hard", "cleaned"))
    assert len({spec.field for spec in plain.exposures}) == 8
    assert places(plain.exposures) == places(hard.exposures) == places(cleaned.exposures)
    assert {spec.effects for spec in plain.exposures} == {NO_EFFECTS}
    assert [spec.effects for spec in hard.exposures] == [x.effects for x in cleaned.exposures]
    assert all(spec.effects.pedestal for spec in hard.exposures)
    assert [sample.cleaned for sample in (plain, hard, cleaned)] == [False, False, True]
    assert len({sample.archive for sample in (plain, hard, cleaned)}) == 3


def test_each_effect_has_a_set_in_which_it_is_alone():
    assert [sets.SETS[name].effects for name in sets.ALONE] == [(name,) for name in EFFECTS]
    (sample,) = sets.samples("alone-row_jumps", C, 5)
    assert sum(spec.effects.row_jumps for spec in sample.exposures) > 100
    assert not any(spec.effects.pedestal or spec.cleaning for spec in sample.exposures)
    assert not any("/" in name or " " in name for name in sets.ALONE)  # they name folders


def test_held_out_seeds_are_not_those_of_development():
    seeds = [seed for seeds in sets.HELD_OUT.values() for seed in seeds]
    assert len(set(seeds)) == len(seeds)
    assert not {*seeds} & {5, 101, 102, *crossvalidation.HELD_OUT}


def row(**values):
    """A row like those of the benchmark."""
    figures = dict.fromkeys(report.FIGURES, 1.0) | dict.fromkeys(report.CALIBRATIONS, 1.0)
    names = {"set": "plain", "combination": C, "seed": 1, "exposures": 24, "recipe": "default"}
    others = {"stage": "finished", "limit": 1.0, "seconds": 10.0, "fates": []}
    return figures | names | others | values


def verdicts(rows, capsys):
    """A dictionary: target -> (result, verdict)."""
    report.print_targets(rows)
    found = {}
    for line in filter(str.strip, capsys.readouterr().out.splitlines()):
        words = line[: report.WIDTH + 2].split("  ")
        asked, *cells = filter(None, map(str.strip, words))
        found[asked] = (" ".join(" ".join(cells).split()), line[report.WIDTH + 2 :].strip())
    return found


def test_targets_are_medians_of_ratios_over_the_seeds(capsys):
    rows = [
        row(set=name, recipe=recipe, seed=seed, pixel=pixel, seconds=time)
        for name in ("plain", "hard")
        for seed, mine in ((1, 0.2), (2, 0.6))
        for recipe, pixel, time in (("reference", 1.0, 10.0), ("default", mine, 12.0))
    ]
    rows = [one | dict.fromkeys(report.RATED[1:], one["pixel"]) for one in rows]
    found = verdicts(rows, capsys)
    cells = "0.400 /0.50 0.400 /0.65 0.400 /1.00 0.400 /0.80 0.400 /0.55"
    assert found["1 plain GR150C-F115W"] == (cells, "met")
    cells = "0.400 /0.30! 0.400 /0.20! 0.400 /0.70 0.400 /0.20! 0.400 /0.40"
    assert found["1 hard GR150C-F115W"] == (cells, "NOT MET")
    asked = "5 plain GR150C-F115W, time over the reference's: at most 1"
    assert found[asked] == ("1.200", "NOT MET")
    assert not any("GR150R" in name or "N^-0.5" in name for name in found)
    rows = [one for one in rows if (one["recipe"], one["seed"]) != ("reference", 2)]
    assert verdicts(rows, capsys)["1 plain GR150C-F115W"][0].startswith("0.200 /")


def test_targets_count_lost_and_recognised_exposures(capsys):
    clean = {"kind": "clean", "file": "c", "status": "rejected", "reason": "an outlying level"}
    borderline = clean | {"status": "accepted", "reason": "has less weight"}
    spoilt = [
        {"kind": "starlight", "file": "a", "status": "rejected", "reason": "crowded"},
        {"kind": "light saber", "file": "b", "status": "accepted", "reason": ""},
    ]
    rows = [
        row(stage="combined", fates=[clean, borderline]), row(stage="finished", fates=[clean]),
        row(set="D", stage="combined", fates=[borderline]),
        row(set="hard", stage="combined", fates=[clean, *spoilt]),
    ]  # fmt: skip
    found = verdicts(rows, capsys)
    assert found["3 plain, clean exposures not accepted: none"] == ("1", "NOT MET")
    assert found["3 D, clean exposures not accepted: none"] == ("0", "met")
    assert found["3 hard, clean exposures not accepted"] == ("1", "")
    assert found["3 hard, spoilt exposures named with a reason"] == ("1 of 2", "")


def test_costs_of_effects_are_listed_below_plain_exposures_of_the_same_seed(capsys):
    rows = [row(seed=1, pixel=0.1), row(seed=2), row(set="alone-pedestal", pixel=0.3)]
    found = verdicts(rows, capsys)
    assert found["plain, seed 1"] == ("0.100 1.000 1.000 1.000 1.000", "")
    assert found["alone-pedestal, seed 1"] == ("0.300 1.000 1.000 1.000 1.000", "")
    assert "plain, seed 2" not in found
    assert "plain, seed 1" not in verdicts(rows[:2], capsys)


def test_slope_with_the_number_of_exposures(capsys, tmp_path):
    rows = [
        row(set="N", exposures=n, stage=stage, pixel=3 * n**-0.5, cal_1=np.nan)
        for n in sets.NUMBERS
        for stage in ("combined", "finished")
    ]
    asked = "4 N combined, seed 1, pixel: within 20% of N^-0.5 (and slope)"
    assert verdicts(rows, capsys)[asked] == ("0% (-0.500)", "met")
    report.draw(rows, tmp_path / "n.png")
    assert (tmp_path / "n.png").stat().st_size > 5000
    rows[0]["pixel"] *= 2
    assert verdicts(rows, capsys)[asked][1] == "NOT MET"


def test_hard_exposures_tell_how_far_the_error_falls(capsys):
    rows = [
        row(set="N-hard", exposures=n, stage="combined", pixel=4 * n**-0.5, smooth=error)
        for n, error in zip(sets.NUMBERS, (2, 1.4, 1, 1, 1), strict=True)
    ]
    found = verdicts(rows, capsys)
    asked = "4 N-hard combined, seed 1, {}: falls as N^-0.5, within 20%, up to"
    assert found[asked.format("pixel")] == ("48 exposures, 0.577 %", "")
    assert found[asked.format("smooth")] == ("24 exposures, 1.000 %", "")


def test_calibration_target_is_missed_by_a_single_coverage(capsys):
    rows = [row(stage="combined", cal_2=1.3, cal_33=np.nan), row(), row(set="D", cal_1=0.7)]
    found = verdicts(rows, capsys)
    asked = "ERR {}, std of (background - truth)/ERR: 0.8 to 1.25"
    assert found[asked.format("plain combined")] == ("1.00 to 1.30", "NOT MET")
    assert found[asked.format("plain finished")] == ("1.00 to 1.00", "met")
    assert found[asked.format("D finished")] == ("0.70 to 1.00", "NOT MET")


def test_direct_images_have_to_be_good_in_every_run(capsys):
    rows = [row(set="D", seed=seed, pixel=pixel) for seed, pixel in ((1, 0.1), (2, 0.7))]
    asked = "D finished, pixel, per cent of the sky: at most 0.6"
    assert verdicts(rows, capsys)[asked] == ("0.700", "NOT MET")
    assert verdicts(rows[:1], capsys)[asked] == ("0.100", "met")
    assert asked not in verdicts([row()], capsys)


def test_finished_backgrounds_are_scored_where_they_were_filled_as_well(rng, tmp_path):
    science = detector.science_pixels((SIDE, SIDE))
    truth = accuracy.Truth(np.ones((SIDE, SIDE)), science, (science, science), 0.01)
    err, number = np.full((SIDE, SIDE), 0.01), np.full((SIDE, SIDE), 4)
    sci = 1 + err * rng.standard_normal((SIDE, SIDE))
    number[50:60, 50:60], sci[50:60, 50:60] = 0, 2
    images = {"SCI": sci, "ERR": err, "NEXP": number}
    hdus = [fits.ImageHDU(image, name=name) for name, image in images.items()]
    fits.HDUList([fits.PrimaryHDU(), *hdus]).writeto(tmp_path / "made.fits")
    combined, finished = (
        accuracy.score_file(tmp_path / "made.fits", truth, stage) for stage in report.STAGES
    )
    assert combined["pixel"] == pytest.approx(1, rel=0.02)
    assert finished["tail"] == pytest.approx(100, rel=0.02)
    assert combined["cal"] == finished["cal"] == pytest.approx(1, abs=0.03)


@pytest.mark.parametrize("combination", sets.BOTH)
def test_cleaned_exposures_have_their_own_truth_without_steps_along_columns(combination, tmp_path):
    tiny_set = sets.Set((combination,), 2, 1, ("cleaning",))
    with mock.patch.dict(sets.SETS, cleaned=tiny_set):
        (sample,) = sets.samples("cleaned", combination, 5)
    archive.simulate_archive(tmp_path, sample.exposures, SIDE, seed=5)
    truth = accuracy.truth_of(sample, tmp_path, SIDE)
    np.testing.assert_array_equal(truth.sky, archive.cleaned_truth(sample.exposures, SIDE))
    science = detector.science_pixels((SIDE, SIDE))
    left_out = (science & ~truth.scored).any(axis=0)
    np.testing.assert_array_equal(truth.scored, science & ~left_out)  # whole columns
    if combination == C:
        assert 0.05 < left_out.mean() < 0.3
        sky = archive.truth_background(sample.exposures, SIDE)
        steepness = np.abs(np.diff(sky, axis=1))[:, 4:-4].mean(axis=0)
        assert left_out[4:-5][np.argmax(steepness)]
    else:
        assert not left_out.any()
    with mock.patch.object(archive, "cleaned_truth", side_effect=AssertionError):
        again = accuracy.truth_of(sample, tmp_path, SIDE)
    np.testing.assert_array_equal(again.sky, truth.sky)


def test_a_program_that_fails_shows_its_messages(tmp_path, capsys):
    program = tmp_path / "program.py"
    program.write_text("print('the disk is full')\nraise SystemExit(3)\n")
    with pytest.raises(programs.Failed, match="ended with exit status 3"):
        programs.time_of(str(program), place=tmp_path, work=tmp_path)
    assert "the disk is full" in capsys.readouterr().err


def test_the_rest_is_measured_when_a_background_cannot_be_made(tmp_path, capsys):
    arguments = ["--sets", "plain", "D", "--seeds", "5", "6", "--combination", C, "--npix", "256"]
    options = ["--work", str(tmp_path), "--recipes", "default"]
    truth = accuracy.Truth(NOWHERE, NOWHERE, (NOWHERE, NOWHERE), 0.01)
    with (
        mock.patch.dict(os.environ),
        mock.patch.object(accuracy.crds_cache, "build_cache"),
        mock.patch.object(accuracy.archive, "simulate_archive"),
        mock.patch.object(accuracy, "truth_of", return_value=truth),
        mock.patch.object(accuracy, "measure", side_effect=programs.Failed("no exposure")) as runs,
        mock.patch.object(accuracy.shutil, "rmtree") as removed,
    ):
        assert accuracy.main(arguments + options) == 1
    seeds = [call.args[0].seed for call in runs.call_args_list]
    assert {call.args[0].name for call in runs.call_args_list} == {"plain"}
    assert set(seeds) == {5, 6}
    assert removed.call_count == 2
    words = capsys.readouterr().out
    assert words.count("default FAILED: no exposure") == 2
    assert "2 backgrounds could NOT be made" in words


def run_forked(program, *arguments, place, work):
    """As `programs.time_of`, without the seconds that loading libraries takes."""
    done = python(program, *arguments, cwd=place, env=runner.environment(work))
    assert done.returncode == 0, done.stdout + done.stderr
    return 1.5


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    """A run of the benchmark on four frames of 256 x 256: its folder, and what it printed."""
    folder, words = tmp_path_factory.mktemp("benchmark"), io.StringIO()
    recipe = folder / "default.yaml"
    recipe.write_text(yaml.safe_dump(SMALL_FRAME))
    arguments = ["--sets", "plain", "--seeds", "5", "--keep", "--workers", "1"]
    arguments += ["--npix", str(SIDE), "--recipes", "reference", "--config", str(recipe)]
    with (
        mock.patch.dict(os.environ),
        mock.patch.dict(sets.SETS, plain=TINY),
        mock.patch.object(accuracy, "time_of", run_forked),
        mock.patch.object(accuracy, "warm_up") as warm_up,  # only times become better by it
        contextlib.redirect_stdout(words),
    ):
        assert accuracy.main([*arguments, "--work", str(folder / "work")]) == 0
    warm_up.assert_called_once()
    return folder / "work", words.getvalue()


def test_each_recipe_is_run_on_few_exposures_before_times_count():
    (sample,) = sets.samples("plain", C, 5)
    with mock.patch.object(accuracy, "measure") as measure:
        accuracy.warm_up(sample, None, accuracy.read_options(["--npix", str(SIDE)]))
    runs = [call.args for call in measure.call_args_list]
    assert [recipe for _, recipe, *_ in runs] == list(accuracy.RECIPES)
    for few, *_ in runs:
        assert few.exposures == sample.exposures[:4]


def test_tiny_run_prints_its_table(tiny):
    _, words = tiny
    assert "Set plain, GR150C-F115W, seed 5, 4 exposures" in words
    for run in ("reference finished", "default combined", "default finished"):
        (line,) = (x for x in words.splitlines() if x.split()[:2] == run.split())
        assert 0.1 < float(line.split()[2]) < 5
    assert "peak memory" in words
    assert "mask 2 s, combine 2 s, again 2 s, finish 2 s: 6 s" in words
    assert "1 plain GR150C-F115W " in words
    assert "5 plain GR150C-F115W, time over the reference's: at most 1" in words


def test_tiny_run_writes_its_table(tiny):
    work, _ = tiny
    table = Table.read(work / "accuracy.ecsv")
    assert list(table["stage"]) == ["finished", "combined", "finished"]
    assert list(table["recipe"]) == ["reference", "default", "default"]
    assert table["pixel"].unit == "percent"
    (folder,) = (work / "runs").iterdir()
    (rates,) = (work / "archives").iterdir()
    (reference,) = rates.glob("reference-*.fits")
    made = folder / "wfssbackgrounds" / "nis-f115w-gr150c_skyflat.fits"
    truth = fits.getdata(rates / "truth" / "GR150C-F115W.fits", "SCI")
    for number, path, part in ((0, reference, 0), (2, made, "SCI")):
        image = fits.getdata(path, part)
        error = score.relative_error(image, truth, detector.science_pixels(truth.shape))
        assert table["pixel"][number] == pytest.approx(100 * score.rms(error), rel=1e-6)


def test_reference_on_kept_exposures_is_not_run_again(tiny, tmp_path):
    work, _ = tiny
    with mock.patch.dict(sets.SETS, plain=TINY):
        (sample,) = sets.samples("plain", C, 5)
    options = accuracy.read_options(["--work", str(work), "--npix", str(SIDE)])
    rates = work / "archives" / sample.archive
    truth = accuracy.truth_of(sample, rates, SIDE)
    with mock.patch.object(accuracy, "time_of", side_effect=programs.Failed) as run:
        (found,) = accuracy.run_reference(sample, "reference", tmp_path, truth, options)
        assert found["again_s"] == 1.5
        table = Table.read(work / "accuracy.ecsv")
        assert found["pixel"] == pytest.approx(table["pixel"][0], rel=1e-6)
        run.assert_not_called()
        fits.setval(rates / sample.exposures[0].filename, archive.RECIPE_KEYWORD, value="another")
        with pytest.raises(programs.Failed):
            next(accuracy.run_reference(sample, "reference", tmp_path, truth, options))


def test_photon_limit_of_files_agrees_with_a_direct_computation(tiny):
    """It is computed pixel by pixel, with the flat field of the CRDS cache."""
    work, _ = tiny
    (rates,) = (work / "archives").iterdir()
    (flat_file,) = (
        path
        for path in work.glob("crds/references/jwst/niriss/*flat*.fits")
        if fits.getheader(path)["FILTER"] == "GR150C"
    )
    with fits.open(flat_file) as hdus:
        flat, flat_bad = hdus["SCI"].data, hdus["DQ"].data & 1 != 0
    bits = sum(dqflags.pixel[name] for name in config.read(config.DEFAULTS).mask.bad_flags)
    total = np.zeros((SIDE, SIDE))
    for spec in archive.accuracy_exposures(5, *C.split("-"), 2, 2):
        with fits.open(rates / spec.filename) as hdus:
            bad = (hdus["DQ"].data & bits != 0) | flat_bad
            variance = (hdus["VAR_POISSON"].data + hdus["VAR_RNOISE"].data) / flat**2
        for y, x in np.argwhere(~bad & (variance > 0)):
            total[y, x] += spec.sky_level**2 / variance[y, x]
    limit = 100 * np.sqrt(np.mean(1 / total[total > 0]))
    assert Table.read(work / "accuracy.ecsv")["limit"][0] == pytest.approx(limit, rel=1e-4)
