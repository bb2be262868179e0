"""The simulated sky: counts, fluxes, positions."""

import numpy as np
import pytest

from demo import scene
from demo.optics import PIXEL_MATRIX, PIXEL_SCALE, field_margin

NPIX = 512


def at(x, y, magnitude, slope=0.0):
    """Stars with given positions in pixels."""
    stars = scene.point_sources(np.zeros(len(x)), np.zeros(len(x)), magnitude, slope)
    return scene.render(stars, np.asarray(x, float), np.asarray(y, float), NPIX)


def test_sky_level_and_zero_point_agree():
    # 0.2 MJy/sr is about 0.5 DN/s per pixel.
    jansky = 0.2e6 * (PIXEL_SCALE * np.pi / 648000) ** 2
    assert scene.flux_of(-2.5 * np.log10(jansky / 3631)) == pytest.approx(0.5, rel=0.02)


def test_star_has_its_flux_place_and_slope():
    image, sloped = at([200.3], [150.8], 22.0, -0.3)
    assert image.sum() == pytest.approx(scene.flux_of(22.0), rel=0.05)
    np.testing.assert_allclose(sloped, -0.3 * image, rtol=1e-5, atol=1e-12)
    y, x = np.indices(image.shape) - field_margin(NPIX)
    core = np.hypot(x - 200.3, y - 150.8) < 8
    assert (image * x)[core].sum() / image[core].sum() == pytest.approx(200.3, abs=0.05)
    assert (image * y)[core].sum() / image[core].sum() == pytest.approx(150.8, abs=0.05)


def test_bright_star_fills_the_frame_and_faint_one_does_not():
    bright, faint = (at([250.0], [250.0], magnitude)[0] for magnitude in (8.0, 24.0))
    assert (bright > 0.01).mean() > 0.5
    assert np.count_nonzero(faint) < 0.01 * faint.size
    # The spikes are brighter than the wings.
    ring = bright[250 + field_margin(NPIX) + 150]
    assert ring[250 + field_margin(NPIX)] > 3 * ring[250 + field_margin(NPIX) + 40]


def test_galaxies_follow_the_counts():
    rng = np.random.default_rng(5)
    npix = 2048
    sources = scene.field_sources(rng, 30.0, -20.0, 77.0, npix)
    galaxies = sources.radius > 0
    side = npix + 2 * field_margin(npix) + 2 * scene.LARGEST_DITHER / PIXEL_SCALE
    area = (side * PIXEL_SCALE / 60) ** 2
    magnitude = scene.ZERO_POINT - 2.5 * np.log10(sources.flux)
    assert galaxies.sum() / area == pytest.approx(250, rel=0.1)
    assert magnitude[galaxies].max() < scene.FAINTEST_GALAXY + 1e-6
    per_magnitude = np.log10(np.sum(magnitude[galaxies] < 27) / np.sum(magnitude[galaxies] < 25))
    assert 0.2 < per_magnitude / 2 < 0.4
    bright, faint = magnitude < 23, magnitude > 27
    assert np.median(sources.radius[galaxies & bright]) > 2 * np.median(
        sources.radius[galaxies & faint]
    )
    assert magnitude[~galaxies].min() > 14


def test_galaxy_keeps_its_flux_and_orientation():
    one = np.ones(1)
    galaxy = scene.Sources(
        one, one, 50 * one, 6 * one, 0.4 * one, 0 * one, 0.2 * one, 0 * one, 0 * one
    )
    image, sloped = scene.render(galaxy, 100 * one, 120 * one, NPIX)
    assert image.sum() == pytest.approx(50, rel=1e-3)
    assert sloped.sum() == pytest.approx(10, rel=1e-3)
    y, x = np.indices(image.shape) - field_margin(NPIX)
    wide = ((x - 100) ** 2 * image).sum()
    high = ((y - 120) ** 2 * image).sum()
    assert np.sqrt(high / wide) == pytest.approx(0.4, abs=0.05)


def test_pointing_moves_sources_by_the_dither():
    ra, dec, roll = 150.0, 2.0, 30.0
    field = scene.pointing_wcs(ra, dec, roll, NPIX)
    moved = scene.pointing_wcs(ra, dec + 2 / 3600, roll, NPIX)
    sky = field.all_pix2world([[100, 300]], 0)
    shift = moved.all_world2pix(sky, 0)[0] - (100, 300)
    shift = PIXEL_MATRIX @ shift
    assert np.hypot(*shift) == pytest.approx(2, rel=1e-3)
    # The detector has moved north, so the sources move south on it.
    assert shift[1] == pytest.approx(-2 * np.cos(np.radians(roll)), rel=1e-2)
