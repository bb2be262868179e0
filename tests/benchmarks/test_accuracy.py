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

from benchmarks import accuracy, metrics, report
from demo import score
from demo.exposures import accuracy_exposures
from tests.conftest import ROOT, SMALL_FRAME
from wfssbkg import config, detector

SIDE = 256
TINY = ("GR150C", "F115W", 2, 2, False)
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


@pytest.mark.parametrize("number", accuracy.NUMBERS)
def test_subsets_spread_over_the_fields_and_are_of_average_worth(number):
    everything = accuracy.samples("N", 5)[-1].exposures
    chosen = accuracy.subset(everything, number)
    assert len(set(chosen)) == number
    by_field = np.bincount([spec.field for spec in chosen], minlength=13)[1:]
    assert by_field.max() - by_field.min() <= 1
    worth = [
        np.mean([accuracy.information(spec) for spec in part]) for part in (chosen, everything)
    ]
    assert worth[0] == pytest.approx(worth[1], rel=0.05)


def test_set_c_is_set_a_and_six_more():
    (a,), (c,) = accuracy.samples("A", 5), accuracy.samples("C", 5)
    assert c.exposures[: len(a.exposures)] == a.exposures
    assert sum(spec.contamination is not None for spec in c.exposures) == 6
    assert a.archive == c.archive


def test_held_out_seeds_are_not_those_of_development():
    seeds = {seed for seeds in accuracy.HELD_OUT.values() for seed in seeds}
    assert not seeds & {101, 102}


def test_published_recipe_does_not_follow_the_defaults():
    own = yaml.safe_load((ROOT / "benchmarks" / "published.yaml").read_text())
    for name in ("mask", "combine", "finalize"):
        section = config.Config.model_fields[name].annotation
        assert set(own[name]) == set(section.model_fields)
    assert config.read(ROOT / "benchmarks" / "published.yaml").mask.bad_flags == "all"


def row(**values):
    """A row like those of the benchmark."""
    figures = dict.fromkeys(report.FIGURES, 1.0) | dict.fromkeys(report.CALIBRATIONS, 1.0)
    names = {"set": "A", "seed": 1, "exposures": 24, "recipe": "default", "stage": "finished"}
    return figures | names | {"limit": 1.0, "seconds": 10.0, "fates": []} | values


def verdicts(rows, capsys):
    """A dictionary: target -> (result, whether the target is met)."""
    report.print_targets(rows)
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("  ")]
    return {line[2:66].strip(): (line[66:86].strip(), line[88:] == "met") for line in lines}


def test_targets_are_medians_of_ratios_over_the_seeds(capsys):
    rows = [
        row(recipe=recipe, seed=seed, stage=stage, pixel=pixel, seconds=time)
        for seed, mine in ((1, 0.2), (2, 0.6))
        for recipe, pixel, time in (("published", 1.0, 10.0), ("default", mine, 12.0))
        for stage in ("combined", "finished")
    ]
    found = verdicts(rows, capsys)
    assert found["1 A finished, pixel over published: at most 0.45"] == ("0.400", True)
    assert found["1 A finished, row over published: at most 0.75"] == ("1.000", False)
    assert found["1 A combined, pixel over photon limit: at most 1.12"] == ("0.400", True)
    assert found["6 A time over published: at most 1"] == ("1.200", False)
    assert not any(name.startswith(("1 B", "2", "3")) for name in found)


def test_targets_name_contaminated_and_lost_exposures(capsys):
    fates = [
        {"kind": "crowded", "file": "a", "status": "rejected", "reason": "crowded"},
        {"kind": "persistence", "file": "b", "status": "accepted", "reason": ""},
        {"kind": "clean", "file": "c", "status": "rejected", "reason": "an outlying level"},
    ]
    rows = [row(set=name, stage=stage) for name in "AC" for stage in ("combined", "finished")]
    rows = [one | {"fates": fates if one["set"] == "C" else []} for one in rows]
    found = verdicts(rows, capsys)
    assert found["2 C contaminated exposures named with a reason"] == ("1 of 2", False)
    assert found["2 C clean exposures rejected: none"] == ("1", False)
    assert found["2 C finished, tail over set A: at most 1.1"] == ("1.000", True)


def test_slope_with_the_number_of_exposures(capsys, tmp_path):
    rows = [
        row(set="N", exposures=n, stage=stage, pixel=3 * n**-0.5, cal_1=np.nan)
        for n in accuracy.NUMBERS
        for stage in ("combined", "finished")
    ]
    (line,) = (v for k, v in verdicts(rows, capsys).items() if k.startswith("3 "))
    assert line == ("0% (-0.500)", True)
    report.draw(rows, tmp_path / "n.png")
    assert (tmp_path / "n.png").stat().st_size > 5000
    rows[0]["pixel"] *= 2
    (line,) = (v for k, v in verdicts(rows, capsys).items() if k.startswith("3 "))
    assert not line[1]


def test_calibration_target_is_missed_by_a_single_coverage(capsys):
    rows = [row(stage="combined", cal_2=1.2, cal_33=np.nan), row()]
    found = verdicts(rows, capsys)
    asked = "4 {}, std of (background - truth)/ERR: {} to {}"
    assert found[asked.format("combined", 0.9, 1.1)] == ("1.00 to 1.20", False)
    assert found[asked.format("finished", 0.7, 1.3)] == ("1.00 to 1.00", True)


def test_direct_images_have_to_be_good_in_every_run(capsys):
    rows = [row(set="D", seed=seed, pixel=pixel) for seed, pixel in ((1, 0.1), (2, 0.7))]
    asked = "D finished, pixel, per cent of the sky: at most 0.6"
    assert verdicts(rows, capsys)[asked] == ("0.700", False)
    assert verdicts(rows[:1], capsys)[asked] == ("0.100", True)
    assert asked not in verdicts([row()], capsys)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    """A run of the benchmark on four frames of 256 x 256: its folder, and what it printed."""
    folder, words = tmp_path_factory.mktemp("benchmark"), io.StringIO()
    recipe = folder / "default.yaml"
    recipe.write_text(yaml.safe_dump(SMALL_FRAME))
    arguments = ["--sets", "A", "--seeds", "5", "--keep", "--workers", "1", "--npix", str(SIDE)]
    arguments += ["--recipes", "--config", str(recipe), "--work", str(folder / "work")]
    with (
        mock.patch.dict(os.environ),
        mock.patch.dict(accuracy.SETS, {"A": TINY}, clear=True),
        mock.patch.object(accuracy, "warm_up") as warm_up,  # only times become better by it
        contextlib.redirect_stdout(words),
    ):
        assert accuracy.main(arguments) == 0
    warm_up.assert_called_once()
    return folder / "work", words.getvalue()


def test_each_recipe_is_run_on_few_exposures_before_times_count():
    (sample,) = accuracy.samples("A", 5)
    with mock.patch.object(accuracy, "measure") as measure:
        accuracy.warm_up(sample, accuracy.read_options(["--npix", str(SIDE)]))
    runs = [call.args for call in measure.call_args_list]
    assert [recipe for _, recipe, *_ in runs] == list(accuracy.RECIPES)
    for few, *_ in runs:
        assert few.exposures == sample.exposures[:4]


def test_tiny_run_prints_its_table(tiny):
    _, words = tiny
    assert "Set A, seed 5, 4 exposures" in words
    for stage in ("combined", "finished"):
        (line,) = (x for x in words.splitlines() if x.split()[:2] == ["default", stage])
        assert 0.1 < float(line.split()[2]) < 3
    assert "peak memory" in words
    assert "1 A combined, pixel over photon limit: at most 1.12" in words


def test_tiny_run_writes_its_table(tiny):
    work, _ = tiny
    table = Table.read(work / "accuracy.ecsv")
    assert list(table["stage"]) == ["combined", "finished"]
    assert table["pixel"].unit == "percent"
    (folder,) = (work / "runs").iterdir()
    (archive,) = (work / "archives").iterdir()
    truth = fits.getdata(archive / "truth" / "GR150C-F115W.fits", "SCI")
    with fits.open(folder / "wfssbackgrounds" / "nis-f115w-gr150c_skyflat.fits") as hdus:
        good = detector.science_pixels(truth.shape) & (hdus["NEXP"].data > 0)
        error = score.relative_error(hdus["SCI"].data, truth, good)
    assert table["pixel"][1] == pytest.approx(100 * score.rms(error), rel=1e-6)


def test_photon_limit_of_files_agrees_with_a_direct_computation(tiny):
    """It is computed pixel by pixel, with the flat field of the CRDS cache."""
    work, _ = tiny
    (folder,) = (work / "archives").iterdir()
    (flat_file,) = (
        path
        for path in work.glob("crds/references/jwst/niriss/*flat*.fits")
        if fits.getheader(path)["FILTER"] == "GR150C"
    )
    with fits.open(flat_file) as hdus:
        flat, flat_bad = hdus["SCI"].data, hdus["DQ"].data & 1 != 0
    bits = sum(dqflags.pixel[name] for name in config.read(config.DEFAULTS).mask.bad_flags)
    total = np.zeros((SIDE, SIDE))
    for spec in accuracy_exposures(5, *TINY):
        with fits.open(folder / spec.filename) as hdus:
            bad = (hdus["DQ"].data & bits != 0) | flat_bad
            variance = (hdus["VAR_POISSON"].data + hdus["VAR_RNOISE"].data) / flat**2
        for y, x in np.argwhere(~bad & (variance > 0)):
            total[y, x] += spec.sky_level**2 / variance[y, x]
    limit = 100 * np.sqrt(np.mean(1 / total[total > 0]))
    assert Table.read(work / "accuracy.ecsv")["limit"][0] == pytest.approx(limit, rel=1e-4)
