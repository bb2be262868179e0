"""Effects of the real instrument: each alone does what it says, and changes nothing else."""

from dataclasses import asdict, replace
from itertools import pairwise

import numpy as np
import pytest
from astropy.io import fits

from demo import archive, defects, detector, effects, optics, scene
from demo.exposures import accuracy_exposures

NPIX = 128
SEED = 4
PAIR = ("GR150C", "F115W")
OFF = effects.NO_EFFECTS
# What each effect may change in an exposure, besides its contamination.
CHANGED = {
    "pedestal": {"pedestal"},
    "row jumps": {"row_jumps"},
    "common 1/f noise": {"common_noise"},
    "grism rotation": {"rotation"},
    "colour": {"sky_colour"},
    "light saber": {"light_saber"},
    "extended sources": {"large_galaxies", "cluster_light"},
    "starlight": {"starlight"},
    "bad pixels": {"bad_pixels"},
    "dark excess": {"dark_excess"},
    "distortion": {"distortion"},
    "cleaning": {"cleaning"},
}


def values(spec):
    """All values of an exposure in one dictionary."""
    return {name: value for name, value in vars(spec).items() if name != "effects"} | asdict(
        spec.effects
    )


def chosen(*names, **options):
    return accuracy_exposures(SEED, *PAIR, effects=names, **options)


@pytest.fixture(scope="module")
def plain():
    """An exposure without effects."""
    return chosen()[0]


@pytest.fixture(scope="module")
def plain_rate(plain):
    return archive.simulate_exposure(plain, NPIX, seed=SEED)


def light(spec, npix=NPIX):
    return archive.light_on_detector(spec, npix, seed=SEED)


def changed(spec, **some):
    """The exposure with other effects."""
    return replace(spec, effects=replace(spec.effects, **some))


def difference(plain, plain_rate, **some):
    """What effects change in the rate image of an exposure, and its flags."""
    rate = archive.simulate_exposure(changed(plain, **some), NPIX, seed=SEED)
    return optics.science_pixels(rate.data - plain_rate.data), rate.dq


def test_every_effect_is_known():
    assert set(CHANGED) == set(effects.EFFECTS)
    assert set(effects.EVERYTHING) == set(effects.EFFECTS) - {"cleaning"}
    with pytest.raises(ValueError, match="no such effect: comet"):
        chosen("comet")


@pytest.mark.parametrize("name", effects.EFFECTS)
def test_an_effect_changes_nothing_but_its_own_values(name):
    off, on = map(values, chosen()), map(values, chosen(name))
    found = set()
    for before, after in zip(off, on, strict=True):
        found |= {key for key in before if before[key] != after[key]}
    assert found - {"contamination"} == CHANGED[name]
    assert ("contamination" in found) == (name in effects.SPOILING)


@pytest.mark.parametrize("name", effects.EFFECTS)
def test_an_effect_is_the_same_whatever_else_is_on(name):
    alone, all_on = chosen(name), chosen(*reversed(effects.EFFECTS))
    for one, other in zip(alone, all_on, strict=True):
        for key in CHANGED[name]:
            assert values(one)[key] == values(other)[key]


def test_contaminated_exposures_do_not_change_the_effects_of_the_others():
    assert chosen(*effects.EVERYTHING, contaminated=True)[:24] == chosen(*effects.EVERYTHING)


def test_strengths():
    specs = [s for seed in range(20) for s in accuracy_exposures(seed, *PAIR, effects=CHANGED)]
    column = {key: np.array([values(s)[key] for s in specs]) for key in values(specs[0])}
    assert column["pedestal"].min() >= 0.005
    assert column["pedestal"].max() <= 0.02
    archives = column["pedestal"].reshape(20, 24)
    assert archives.std(axis=1).mean() < 0.5 * archives.mean(axis=1).std()
    assert set(column["common_noise"]) == {0, 0.5, 0.9}
    assert column["rotation"].std() == pytest.approx(0.12, rel=0.1)
    assert column["sky_colour"].std() == pytest.approx(0.25, rel=0.2)
    assert column["row_jumps"].mean() == pytest.approx(30, rel=0.05)
    contamination = column["contamination"]
    for kind in effects.SPOILING:  # one field of eight
        assert np.mean(contamination == kind) == pytest.approx(1 / 8)
    saber = column["light_saber"][contamination != "light saber"]
    assert np.mean(saber > 0) == pytest.approx(0.4, abs=0.07)
    assert saber.max() <= 0.02
    assert column["light_saber"][contamination == "light saber"].min() > 0.04
    assert np.mean(column["large_galaxies"] > 0) == pytest.approx(3 / 8)
    bright = contamination == "starlight"
    assert np.all(column["starlight"][bright] > 0.95 * column["sky_level"][bright])
    assert np.all((column["starlight"] + column["sky_level"])[bright] < 2.5)


def test_few_fields_can_have_all_effects():
    specs = chosen(*effects.EFFECTS, fields=1, dithers=2)
    assert [s.contamination for s in specs] == ["starlight"] * 2


def test_truth_knows_neither_rotation_nor_additive_light(plain):
    specs = [plain, replace(plain, dither=2)]
    dirty = [changed(s, rotation=0.3, pedestal=0.02, light_saber=0.1) for s in specs]
    one, other = (archive.truth_background(group, NPIX) for group in (specs, dirty))
    np.testing.assert_array_equal(one, other)


def test_truth_is_of_the_mean_colour_of_clean_exposures(plain):
    red = replace(plain, sky_colour=0.3)
    spoilt = replace(plain, sky_colour=-3.0, contamination="starlight")
    found = archive.truth_background([red, spoilt], NPIX)
    np.testing.assert_array_equal(found, optics.sky_background(*PAIR, NPIX, 0.3))


def test_pedestal_is_added_and_not_flat_fielded(plain, plain_rate):
    more, dq = difference(plain, plain_rate, pedestal=0.02)
    assert np.nanmedian(more) == pytest.approx(0.02, abs=5e-4)
    flat = optics.science_pixels(detector.true_flat(NPIX, PAIR[1]))
    low = flat < 0.95
    assert np.nanmedian(more[low]) == pytest.approx(0.02, abs=1e-3)
    np.testing.assert_array_equal(dq, plain_rate.dq)


def test_row_jumps_are_offsets_of_whole_rows(plain, plain_rate):
    number = 160  # on a full frame
    more, _ = difference(plain, plain_rate, row_jumps=number)
    np.testing.assert_allclose(np.nanmin(more, axis=1), np.nanmax(more, axis=1), atol=1e-6)
    offsets = np.nanmedian(more, axis=1)
    assert np.count_nonzero(np.abs(offsets) > 1e-4) == number * NPIX // 2048
    assert offsets.min() < 0 < offsets.max()
    noise = np.nanmedian(plain_rate.err)
    typical = np.median(np.abs(offsets[np.abs(offsets) > 1e-4]))
    assert 0.4 * noise < typical < 2.2 * noise


@pytest.mark.parametrize("share", [0, 0.5, 0.9])
def test_common_noise_is_shared_by_amplifiers_and_keeps_its_variance(share):
    images = [
        detector.stripes(np.random.default_rng(k), 1024, detector.STRIPE_TIME, share).reshape(
            4, 256, 1024
        )
        for k in range(4)
    ]
    middle = np.concatenate([image[:, 128] for image in images], axis=1)
    middle -= middle.reshape(4, 4, 1024).mean(axis=-1).repeat(1024, axis=1)
    found = np.corrcoef(middle)[np.triu_indices(4, 1)].mean()
    assert found == pytest.approx(share, abs=0.12)
    assert middle.std() == pytest.approx(detector.STRIPE_RMS, rel=0.12)


def test_common_noise_leaves_the_rest_of_the_noise_alone(plain, plain_rate):
    more, dq = difference(plain, plain_rate, common_noise=0.9)
    np.testing.assert_array_equal(dq, plain_rate.dq)
    # Within an amplifier, columns have a straight profile.
    bent = np.diff(more[: NPIX // 4 - 4], n=2, axis=0)
    assert np.nanmax(np.abs(bent)) < 1e-5
    assert np.nanstd(more) > 1e-4


def test_rotation_turns_sky_and_sources_and_shows_in_the_header(plain, tmp_path):
    np.testing.assert_array_equal(light(plain), light(changed(plain, rotation=0.0)))
    turned = light(changed(plain, rotation=2.0))
    assert np.abs(turned / light(plain) - 1).max() > 0.01
    sky = optics.sky_background(*PAIR, NPIX)
    assert np.abs(optics.sky_background(*PAIR, NPIX, rotation=0.5) / sky - 1).max() > 0.001
    spec = changed(plain, rotation=0.11)
    archive.simulate_archive(tmp_path, [spec], npix=NPIX, seed=SEED)
    header = fits.getheader(tmp_path / spec.filename)
    assert header["FWCPOS"] == pytest.approx(354.32 + 0.11)


def test_light_saber_is_a_band_at_nearly_the_same_place(plain):
    bands = []
    for dither in (1, 2):
        spec = replace(plain, dither=dither)
        bands.append((light(changed(spec, light_saber=0.1)) - light(spec)) / spec.sky_level)
        assert bands[-1].min() >= 0
        assert bands[-1].max() == pytest.approx(0.1, rel=0.2)
        assert np.mean(bands[-1] > 0.03) < 0.5
    assert np.corrcoef(bands[0].ravel(), bands[1].ravel())[0, 1] > 0.9
    assert np.abs(bands[0] - bands[1]).max() > 1e-3


def test_large_sources_cover_much_and_move_with_the_sky(plain):
    npix = 256
    more = light(changed(plain, large_galaxies=3, cluster_light=0.02), npix) - light(plain, npix)
    assert more.min() > -1e-3
    assert np.median(more) > 0.001
    assert np.mean(more > 0.01) > 0.1
    assert more.max() > 0.05
    small = light(changed(plain, large_galaxies=3, cluster_light=0.02), 128) - light(plain, 128)
    blocks = more.reshape(128, 2, 128, 2).mean(axis=(1, 3))
    assert np.corrcoef(blocks.ravel(), small.ravel())[0, 1] > 0.95
    assert small.mean() == pytest.approx(more.mean(), rel=0.1)


def test_starlight_is_bright_smooth_and_fixed_on_the_sky(plain):
    npix = 256
    extra = light(changed(plain, starlight=2.0), npix) - light(plain, npix)
    assert np.median(extra) == pytest.approx(2, rel=0.2)
    assert np.median(extra[:, 32:64]) != pytest.approx(np.median(extra[:, -64:-32]), rel=0.01)
    # At the same pointing, another exposure shows the same stars.
    again = light(changed(replace(plain, dither=2), starlight=2.0), npix)
    np.testing.assert_allclose(again - light(replace(plain, dither=2), npix), extra, atol=1e-5)
    # No single star stands out; the spots of the mirror do.
    detail = (extra - 0.5 * (np.roll(extra, 3, axis=0) + np.roll(extra, -3, axis=0)))[8:-8]
    assert np.percentile(np.abs(detail), 95) < 0.02 * np.median(extra)


def test_bad_pixels_have_the_density_of_the_real_maps():
    npix = 512
    bad = defects.bad_pixels(npix)
    both = np.isinf(bad.since) & np.isinf(bad.until)
    area = (npix - 8) ** 2 / (2048 - 8) ** 2
    assert both.sum() == pytest.approx(36450 * area, rel=0.1)
    assert (both | np.isinf(bad.since)).sum() == pytest.approx(75122 * area, rel=0.1)
    assert (both | np.isinf(bad.until)).sum() == pytest.approx(53051 * area, rel=0.1)
    assert np.mean(~bad.flagged) == pytest.approx(1 / 3, abs=0.03)
    ends = np.concatenate([bad.since, bad.until])
    ends = ends[np.isfinite(ends)]
    assert ends.min() >= defects.EPOCHS[0]
    assert ends.max() <= defects.EPOCHS[1]
    assert np.sum(bad.dark > 0.5) > 10
    assert 0.3 < np.mean(bad.dark < 0.02) < 0.7


def test_bad_pixels_come_and_go_with_the_date():
    on = replace(OFF, bad_pixels=True)
    dates = (59000.0, 60300.0, 61000.0)
    dark, flags = zip(*(defects.dark_and_flags(on, date, NPIX) for date in dates), strict=True)
    for one, other in pairwise(flags):
        np.testing.assert_array_equal(one, other)  # flags are those of one reference file
    assert [np.sum(d > 0) for d in dark] != [np.sum(dark[0] > 0)] * 3
    always = (dark[0] > 0) & (dark[2] > 0)
    assert 0.002 < np.mean(always) < 0.03
    assert np.any(dark[0] > dark[2])
    assert np.any(dark[0] < dark[2])


def test_unflagged_bad_pixels_show_as_an_excess(plain, plain_rate):
    more, dq = difference(plain, plain_rate, bad_pixels=True)
    unflagged = optics.science_pixels(dq & detector.FLAG["DO_NOT_USE"] == 0)
    hot = (more > 0.005) & unflagged
    assert 0.002 < hot.mean() < 0.01
    assert more[hot].max() > 10 * np.nanmedian(plain_rate.err)
    assert np.nanmedian(more[unflagged]) == 0


def test_small_dark_excess_is_not_flagged(plain, plain_rate):
    more, dq = difference(plain, plain_rate, dark_excess=True)
    np.testing.assert_array_equal(dq, plain_rate.dq)
    affected = np.nan_to_num(more) > 1e-3
    assert affected.mean() == pytest.approx(defects.EXCESS_FRACTION, abs=0.002)
    assert 0.01 < np.median(more[affected]) < 0.05
    later = defects.dark_and_flags(replace(OFF, dark_excess=True), 70000.0, NPIX)[0]
    np.testing.assert_array_equal(later, defects.dark_excess(NPIX))


def test_distortion_moves_sources_in_the_corners_by_more_or_less():
    for npix in (512, 2048):
        shift = 100 * npix / 2048
        centre, corner = (npix - 1) / 2, npix - 1.0
        for place, expected in ((centre, 0.0), (corner, 0.003), (0.0, -0.003)):
            ends = place - shift / 2, place + shift / 2
            before, after = (np.array(scene.distorted(end, end, npix)) for end in ends)
            np.testing.assert_allclose((after - before) / shift - 1, expected, atol=1e-5)


def test_distortion_leaves_the_sky_alone(plain):
    there, here = light(changed(plain, distortion=True), 256), light(plain, 256)
    assert np.median(there) == pytest.approx(np.median(here), rel=1e-3)
    assert np.abs(there - here).max() > 0.002


def test_all_effects_together_repeat_with_the_seed(tmp_path):
    specs = chosen(*effects.EVERYTHING, fields=3, dithers=1)
    archive.simulate_archive(tmp_path / "one", specs, npix=NPIX, workers=1, seed=SEED)
    archive.simulate_archive(tmp_path / "two", specs, npix=NPIX, workers=2, seed=SEED)
    for spec in specs:
        one, two = (fits.getdata(tmp_path / k / spec.filename, "SCI") for k in ("one", "two"))
        np.testing.assert_array_equal(one, two)
