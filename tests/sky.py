"""Masked exposures of a sky, with a known answer, for tests of a whole combination."""

import shutil
from typing import NamedTuple

import numpy as np
from scipy import ndimage

from demo import detector, optics
from tests import small
from wfssbkg.combine import background
from wfssbkg.detector import PIXEL_MATRIX, science_pixels
from wfssbkg.files import masked_exposure as files
from wfssbkg.smoothing import gaussian_mean

SMOOTHING = 8  # px
NPIX = 256
# As in tests.conftest, for small frames.
SETTINGS = {"level_border": 16, "structure_box": 32}


class Seen(NamedTuple):
    """A masked exposure: its images, and where it points."""

    name: str
    sci: np.ndarray
    err: np.ndarray
    mask: np.ndarray
    pointing: dict


class Made(NamedTuple):
    """A combined background, its exposures, what they have in common, and their table."""

    background: object
    members: list
    common: object
    table: object


def exposures(rng, sky, *, fields=6, dithers=2, extra=0.0):
    """Exposures of a sky, with sources, 1/f noise and bad pixels; a third of the fields have more.

    `extra` is the strength of a band of scattered light in them, in units of the level. Traces are
    along x, and bright ones are masked.
    """
    made, shape = [], sky.shape
    y, x = np.indices(shape)
    for number in range(fields):
        level, seconds = np.exp(rng.uniform(*np.log([0.4, 1.2]))), rng.uniform(600, 1500)
        noise = detector.pixel_noise(level, seconds)
        count = sky.size // 900
        flux = np.minimum(0.002 + 0.01 * rng.pareto(1.0, count), 5)
        places = rng.uniform(-20, np.array(shape)[:, np.newaxis] + 20, (2, count))
        sizes = rng.uniform([[1.0], [18.0]], [[2.5], [26.0]], (2, count))
        light = level * sky
        if number % 3 == 0:
            band = np.exp(-0.5 * ((y / len(y) - 0.6 + 0.2 * x / len(x)) / 0.08) ** 2)
            light = light + extra * level * band
        for dither in range(dithers):
            dy, dx = rng.uniform(-12, 12, 2) if dither else (0.0, 0.0)
            (wide, long), (y0, x0) = sizes, places + np.array([[dy], [dx]])
            profiles = (
                np.exp(-0.5 * ((np.arange(length)[:, np.newaxis] - middle) / size) ** power)
                for length, middle, size, power in zip(
                    shape, (y0, x0), (wide, long), (2, 4), strict=True
                )
            )
            across, along = profiles
            sources = (across * flux) @ along.T
            sci = light + sources + rng.normal(0, noise, shape)
            sci += detector.stripes(rng, len(sci), seconds, 0.5)
            bright = ndimage.binary_dilation(sources > 2 * noise, iterations=2)
            mask = files.SOURCE * bright.astype(np.uint8)
            mask[(rng.random(shape) < 0.01) | ~science_pixels(shape)] |= files.BAD
            west, north = PIXEL_MATRIX @ np.array([-dx, -dy]) / 3600
            pointing = {
                "RA_REF": 10 + 20 * number - west / np.cos(np.radians(20)),
                "DEC_REF": 20 + north, "ROLL_REF": -0.57, "V3I_YANG": 0.57, "VPARITY": -1,
            }  # fmt: skip
            name = f"jw{number}{dither}_rate.fits"
            err = np.full(shape, noise)
            made.append(Seen(name, *(x.astype(np.float32) for x in (sci, err)), mask, pointing))
    return made


def mirror(npix=NPIX):
    """The sky as the simulator has it, GR150C and F115W."""
    return optics.sky_background(small.COMBINATION.grating, "F115W", npix)


def combined(path, seen, *, pattern=1.0, dark=0.0, flat=None, **settings):
    """The background of exposures times a pattern, and a constant divided by the flat field."""
    shutil.rmtree(path, ignore_errors=True)
    place, names = small.folder(path), [each.name for each in seen]
    if flat is not None:
        small.keep_flat(place, flat)
        dark = dark / flat
    for name, sci, err, mask, pointing in seen:
        images = sci * pattern + dark, err * pattern
        small.masked_exposure(place, name, *images, bits=mask, pointing=pointing)
    table = small.table(*({"productFilename": name} for name in names))
    config = small.settings(combine=SETTINGS | settings)
    members = background.normalise(small.WORKERS, config, place, table, names)
    members, common = background.refine(small.WORKERS, config, place, table, members)
    made = background.combine_exposures(small.WORKERS, config, table, members, common)
    return Made(made, members, common, table)


def difference(one, other, pattern=1.0):
    """How much a background differs from another times a pattern, whatever its scale.

    Parameters
    ----------
    one, other : Background
        The other may be an image without errors.
    pattern : (ny, nx) array

    Returns
    -------
    rms, noise : float
        The root mean square of the ratio smoothed over SMOOTHING px, and the part of the
        uncertainty of the smoothed background that comes from ERR: it averages over 4 pi
        SMOOTHING^2 pixels where all are known.
    """
    with np.errstate(invalid="ignore"):
        ratio = one.sci / (getattr(other, "sci", other) * pattern)
    known = np.isfinite(ratio)
    off = ratio / np.median(ratio[known]) - 1
    mean, filled = gaussian_mean(off, 1.0 * known, SMOOTHING)
    counts = known & (filled > 0.5)
    variance, _ = gaussian_mean(np.square(one.err / one.sci), 1.0 * known, SMOOTHING)
    variance /= 4 * np.pi * SMOOTHING**2 * np.where(filled > 0, filled, 1)
    return tuple(float(np.sqrt(np.mean(x[counts]))) for x in (np.square(mean), variance))


def patterns(npix=NPIX):
    """What all exposures may be multiplied with, but for the strength: name to image, -1 to 1."""
    rng = np.random.default_rng(5)
    y, x = np.indices((npix, npix)) / (npix - 1)
    quarter = np.ones((npix // 4, npix // 4))
    return {
        "ramp in x": 2 * x - 1,
        "ramp in y": 2 * y - 1,
        "diagonal ramp": x + y - 1,
        "blocks": np.kron(rng.uniform(-1, 1, (4, 4)), quarter),
        "edge along": np.where(y > 0.37, 0.5, -0.5),
        "edge across": np.where(x > 0.37, 0.5, -0.5),
        "smooth": detector.smooth_field(rng, npix, 6),
    }
