"""Pixels that are worse than the detector's own flags say: bad ones of two epochs, dark excess."""

from functools import lru_cache
from typing import NamedTuple

import numpy as np

from demo.detector import FLAG
from demo.effects import Effects
from demo.optics import DEFAULT_INSTRUMENT, FULL_FRAME, REFERENCE_BORDER

# grizli's maps of NIRISS pixels that flags of rate files miss have these dates, and so many pixels:
# in the first, in the second (without its border), in both.
EPOCHS = (60135.0, 60584.0)  # MJD of 2023-07-10 and 2024-10-01
NUMBERS = (75122, 53051, 36450)
UNFLAGGED = 1 / 3
# Dark excess, DN/s: from the noise of a deep exposure on. The number of pixels with more than some
# excess falls as its inverse, about as the hot pixels of infrared detectors do.
BAD_RANGE = (0.01, 3.0)
GROUPED = 0.04  # of them have neighbours that are bad as well: a fifth of the maps' pixels
NEIGHBOUR = 0.2  # of the excess: what a hot pixel does to its neighbours
EXCESS_FRACTION = 0.005  # of all pixels
EXCESS_RANGE = (0.005, 0.05)  # DN/s: 1 to 10 % of a sky of 0.5 DN/s


class BadPixels(NamedTuple):
    """Bad pixels, each array with one element a pixel."""

    y: np.ndarray
    x: np.ndarray
    dark: np.ndarray  # DN/s
    since: np.ndarray  # MJD
    until: np.ndarray  # MJD
    flagged: np.ndarray  # bool


@lru_cache(maxsize=2)
def bad_pixels(npix: int, instrument: int = DEFAULT_INSTRUMENT) -> BadPixels:
    """Pixels that are bad all the time, up to a day between the two epochs, or from one on."""
    rng = np.random.default_rng([instrument, 20])
    first, second, both = NUMBERS
    side = FULL_FRAME - 2 * REFERENCE_BORDER
    density = np.array([both, first - both, second - both]) / side**2 / (1 + 4 * GROUPED)
    inner = npix - 2 * REFERENCE_BORDER
    count = rng.poisson(density * inner**2)
    kind = np.repeat([0, 1, 2], count)
    y, x = rng.integers(REFERENCE_BORDER, npix - REFERENCE_BORDER, (2, kind.size))
    day = rng.uniform(*EPOCHS, kind.size)
    since, until = np.where(kind == 2, day, -np.inf), np.where(kind == 1, day, np.inf)
    dark = 1 / rng.uniform(1 / BAD_RANGE[1], 1 / BAD_RANGE[0], kind.size)
    flagged = rng.random(kind.size) >= UNFLAGGED
    pixels = BadPixels(y, x, dark, since, until, flagged)
    chosen = rng.random(kind.size) < GROUPED
    centres = BadPixels(*(column[chosen] for column in pixels))
    neighbours = [
        centres._replace(y=centres.y + dy, x=centres.x + dx, dark=NEIGHBOUR * centres.dark)
        for dy, dx in ((0, 1), (0, -1), (1, 0), (-1, 0))
    ]
    return BadPixels(*map(np.concatenate, zip(pixels, *neighbours, strict=True)))


@lru_cache(maxsize=2)
def dark_excess(npix: int, instrument: int = DEFAULT_INSTRUMENT) -> np.ndarray:
    """A small dark rate of some pixels that nobody flags, float32 DN/s, shape (npix, npix)."""
    rng = np.random.default_rng([instrument, 21])
    affected = rng.random((npix, npix)) < EXCESS_FRACTION
    rate = np.where(affected, rng.uniform(*EXCESS_RANGE, (npix, npix)), 0).astype(np.float32)
    rate.setflags(write=False)
    return rate


def dark_and_flags(
    effects: Effects, date: float, npix: int, instrument: int = DEFAULT_INSTRUMENT
) -> tuple[np.ndarray, np.ndarray]:
    """The dark rate that is left in an exposure, and the flags of its bad pixels.

    Parameters
    ----------
    effects : Effects
        Of the exposure: pedestal, bad pixels and dark excess count.
    date : float
        MJD of the exposure.
    npix : int
        Side of the detector in pixels.
    instrument : int
        Seed of the detector's individual features.

    Returns
    -------
    dark : ndarray, float32, shape (npix, npix)
        DN/s.
    flags : ndarray, uint32, shape (npix, npix)
        Of the pixels that are known to be bad, whether or not they are at that date.
    """
    dark = np.full((npix, npix), effects.pedestal, np.float32)
    flags = np.zeros((npix, npix), np.uint32)
    if effects.dark_excess:
        dark += dark_excess(npix, instrument)
    if effects.bad_pixels:
        bad = bad_pixels(npix, instrument)
        now = (bad.since <= date) & (date < bad.until)
        np.add.at(dark, (bad.y[now], bad.x[now]), bad.dark[now])
        flags[bad.y[bad.flagged], bad.x[bad.flagged]] = FLAG["OTHER_BAD_PIXEL"] | FLAG["DO_NOT_USE"]
    return dark, flags
