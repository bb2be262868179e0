"""Nothing is assumed of the sky: whatever pattern all exposures have is in the background.

The background is compared with that of the same exposures without the pattern. They have the same
noise, so that only what the method makes of the pattern is left.
"""

import numpy as np
import pytest
from astropy.stats import mad_std

from tests import sky
from wfssbkg.combine import background, stack


@pytest.fixture(scope="module")
def seen():
    """A third of the fields have scattered light."""
    return sky.exposures(np.random.default_rng(1), sky.mirror(), extra=0.02)


@pytest.fixture(scope="module")
def plain(seen, tmp_path_factory):
    return sky.combined(tmp_path_factory.mktemp("plain"), seen).background


def check_same(found, plain, pattern=1.0):
    """The same background times the pattern, to half of the uncertainty, smoothed over 8 px.

    The uncertainty is that from ERR and SYSERR in quadrature. A second, narrower limit is set by
    ERR alone: that of SYSERR is what sources leave, which are the same in both.
    """
    rms, noise = sky.difference(found, plain, pattern)
    assert rms < 0.5 * np.hypot(noise, plain.systematic), f"{rms:.3%}, of noise {noise:.3%}"
    assert rms < 1.5 * noise, f"{rms:.3%}, of noise {noise:.3%}"


def test_the_background_is_right(plain):
    """So that what is compared is worth it: the error is what ERR and SYSERR tell."""
    truth = sky.mirror()
    rms, noise = sky.difference(plain, truth)
    assert rms < 1.5 * np.hypot(noise, plain.systematic)
    off = plain.sci / truth
    off /= np.nanmedian(off)
    pull = (off - 1) / np.hypot(plain.err, plain.systematic)
    assert 0.8 < mad_std(pull, ignore_nan=True) < 1.25


@pytest.mark.parametrize("strength", [0.01, 0.05])
@pytest.mark.parametrize("name", sky.patterns())
def test_a_pattern_of_all_exposures_is_in_the_background(name, strength, seen, plain, tmp_path):
    pattern = 1 + strength * sky.patterns()[name]
    found = sky.combined(tmp_path, seen, pattern=pattern)
    assert len(found.members) == len(seen)
    check_same(found.background, plain, pattern)


@pytest.mark.parametrize("wrong", ["a ramp", "a bright field"])
def test_refinement_ends_at_the_same_background_from_any_start(
    wrong, seen, plain, tmp_path, monkeypatch
):
    """Also where the first background has light in it that is rejected later."""
    ramp = 1 + 0.03 * sky.patterns()["diagonal ramp"]
    y, x = np.indices(ramp.shape) / len(ramp)
    bright = 1 + 0.05 * np.exp(-0.5 * ((y - 0.3) ** 2 + (x - 0.7) ** 2) / 0.15**2)
    image = ramp if wrong == "a ramp" else bright
    combine_all, calls = stack.combine_all, []

    def spoilt(*arguments, **options):
        made = combine_all(*arguments, **options)
        calls.append(options)
        if len(calls) == 1:
            assert options["binned"]
            made[0] = made[0] * image.reshape(len(image), -1, 4).mean(axis=2, dtype=np.float32)
        return made

    monkeypatch.setattr(background.stack, "combine_all", spoilt)
    found = sky.combined(tmp_path, seen)
    assert len(found.members) == len(seen)
    check_same(found.background, plain)


def test_a_constant_of_all_exposures_is_found_and_taken_out(tmp_path):
    """On a sky that is fainter in every second box, so that small frames tell the constant."""
    rng, dark = np.random.default_rng(4), 0.02
    y, x = np.indices((sky.NPIX, sky.NPIX)) // sky.SETTINGS["structure_box"]
    dim = 1 - 0.3 * ((x + y) % 2)
    seen = sky.exposures(rng, dim)
    without = sky.combined(tmp_path / "without", seen)
    found = sky.combined(tmp_path / "found", seen, dark=dark)
    value, error = found.background.dark
    assert error < 0.2 * dark
    assert without.background.dark[0] == 0
    assert value == pytest.approx(dark, abs=3 * error)
    check_same(found.background, without.background)
    kept = sky.combined(tmp_path / "kept", seen, dark=dark, dark_sigma=1000.0)
    assert kept.background.dark == (0, pytest.approx(error, rel=0.5))
    with pytest.raises(AssertionError):  # so much does it matter
        check_same(kept.background, without.background)
    scatter = [np.std(_levels(made) / _levels(without)) for made in (found, kept)]
    assert scatter[0] < 0.5 * scatter[1]


def test_the_flat_field_tells_the_constant_where_the_sky_does_not(tmp_path):
    rng, dark = np.random.default_rng(9), 0.05
    flat = 1 + 0.014 * rng.standard_normal((sky.NPIX, sky.NPIX), dtype=np.float32)
    flat *= 1 + 0.1 * np.linspace(-1, 1, sky.NPIX, dtype=np.float32)
    seen = sky.exposures(rng, np.ones(flat.shape), fields=8)
    without = sky.combined(tmp_path / "without", seen, flat=flat)
    found = sky.combined(tmp_path / "found", seen, flat=flat, dark=dark)
    value, error = found.background.dark
    assert without.background.dark[0] == 0
    assert value == pytest.approx(dark, abs=3 * error)
    assert error < 0.2 * dark
    kept = sky.combined(tmp_path / "kept", seen, flat=flat, dark=dark, dark_sigma=1000.0)
    off = [sky.difference(made.background, without.background)[0] for made in (found, kept)]
    assert off[0] < 0.3 * off[1]  # what is left is the error of the constant


def _levels(made):
    levels = np.array([exposure.level for exposure in made.members])
    return levels / levels.mean()
