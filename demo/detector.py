"""The detector: flat field, bad pixels, noise, cosmic rays, saturation.

Images are in the detector coordinates of a rate file, in which each of the four amplifiers reads a
quarter of the rows.
"""

from functools import lru_cache
from typing import NamedTuple

import numpy as np
from scipy.ndimage import gaussian_filter, zoom
from stdatamodels.jwst.datamodels import dqflags

from demo.optics import DEFAULT_INSTRUMENT, FILTERS, FULL_FRAME, REFERENCE_BORDER, frame_scale

FLAG = dqflags.pixel
GAIN = 1.6  # e-/DN (JDox, NIRISS detector performance)
READ_NOISE = 10.0  # e-, of the charge that a whole ramp gives
FULL_WELL = 45000.0  # DN
GROUP_TIME = {"NIS": 42.947, "NISRAPID": 10.737}  # s, full frame (JDox)
AMPLIFIERS = 4
FLAT_ERROR = 0.002  # relative error of the reference flat per pixel
# 1/f noise as the noise model of the NIRISS team and the pipeline's correction with reference
# pixels leave it: `python -m benchmarks.flicker_noise`.
STRIPE_RMS = 0.0016  # DN/s, of columns after STRIPE_TIME
STRIPE_TIME = 773.0  # s, 72 frames
STRIPE_POWER = -1.5  # of the exposure time
STRIPE_DRIFT = 0.77  # of the standard deviation of columns
COSMIC_RAYS = 1.1e-5  # hits per pixel and second


class Rate(NamedTuple):
    """The arrays of a rate file, each (npix, npix): DN/s, (DN/s)^2 and bit flags."""

    sci: np.ndarray
    err: np.ndarray
    dq: np.ndarray
    var_poisson: np.ndarray
    var_rnoise: np.ndarray


def reference_pixels(npix: int) -> np.ndarray:
    """The border of reference pixels, bool, shape (npix, npix)."""
    border = np.ones((npix, npix), dtype=bool)
    border[REFERENCE_BORDER:-REFERENCE_BORDER, REFERENCE_BORDER:-REFERENCE_BORDER] = False
    return border


def smooth_field(rng: np.random.Generator, npix: int, nodes: int) -> np.ndarray:
    """A smooth random field of standard deviation 1, float32, shape (npix, npix)."""
    coarse = rng.standard_normal((nodes, nodes)).astype(np.float32)
    field = zoom(coarse, npix / nodes, order=3, mode="nearest", grid_mode=True)
    return (field - field.mean()) / field.std()


@lru_cache(maxsize=2)
def true_flat(npix: int, filter_name: str, instrument: int = DEFAULT_INSTRUMENT) -> np.ndarray:
    """The detector's relative response, median 1.

    Parameters
    ----------
    npix : int
        Side of the detector in pixels.
    filter_name : str
        Blocking filter: on large scales, filters differ a little.
    instrument : int
        Seed of the detector's individual features.

    Returns
    -------
    ndarray, float32, shape (npix, npix)
    """
    rng = np.random.default_rng([instrument, 2])
    flat = 1 + 0.03 * smooth_field(rng, npix, 6) + 0.004 * smooth_field(rng, npix, 60)
    flat += 0.014 * rng.standard_normal((npix, npix), dtype=np.float32)
    scale = frame_scale(npix)
    y, x = np.ogrid[:npix, :npix]
    for _ in range(80):  # blobs of low quantum efficiency
        x0, y0 = rng.uniform(0, npix, 2)
        radius, depth = max(rng.uniform(2, 12) * scale, 1), rng.uniform(0.01, 0.15)
        near = (
            slice(max(int(y0 - 4 * radius), 0), int(y0 + 4 * radius) + 1),
            slice(max(int(x0 - 4 * radius), 0), int(x0 + 4 * radius) + 1),
        )
        r2 = (x[:, near[1]] - x0) ** 2 + (y[near[0]] - y0) ** 2
        flat[near] *= 1 - depth * np.exp(-0.5 * r2 / radius**2).astype(np.float32)
    flat[rng.random((npix, npix), dtype=np.float32) < 5e-4] *= 0.6
    by_filter = np.random.default_rng([instrument, 3, FILTERS.index(filter_name)])
    flat += 0.004 * smooth_field(by_filter, npix, 6)
    flat = (flat / np.median(flat)).astype(np.float32)
    flat.setflags(write=False)
    return flat


def reference_flat(
    npix: int, filter_name: str, instrument: int = DEFAULT_INSTRUMENT
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The flat field in the reference file: the true one with an error.

    Parameters
    ----------
    npix, filter_name, instrument
        As for `true_flat`.

    Returns
    -------
    flat, error : ndarray, float32, shape (npix, npix)
        NaN where there is no flat field; 1 and 0 on reference pixels.
    dq : ndarray, uint32, shape (npix, npix)
        NO_FLAT_FIELD and DO_NOT_USE where there is no flat field.
    """
    rng = np.random.default_rng([instrument, 4, FILTERS.index(filter_name)])
    flat = true_flat(npix, filter_name, instrument)
    flat = flat * (1 + FLAT_ERROR * rng.standard_normal(flat.shape, dtype=np.float32))
    error = np.full_like(flat, FLAT_ERROR) * flat
    missing = np.random.default_rng([instrument, 5]).random(flat.shape) < 0.0012
    border = reference_pixels(npix)
    missing &= ~border
    flat[missing], error[missing] = np.nan, np.nan
    flat[border], error[border] = 1, 0
    dq = np.where(missing, FLAG["NO_FLAT_FIELD"] | FLAG["DO_NOT_USE"], 0).astype(np.uint32)
    return flat, error, dq


@lru_cache(maxsize=2)
def bad_pixels(npix: int, instrument: int = DEFAULT_INSTRUMENT) -> np.ndarray:
    """Permanent flags of the detector: reference pixels and about 0.5 % bad ones.

    Returns
    -------
    ndarray, uint32, shape (npix, npix)
    """
    rng = np.random.default_rng([instrument, 6])
    unusable = FLAG["DO_NOT_USE"]
    kinds = (
        (0.0010, FLAG["DEAD"] | unusable),
        (0.0016, FLAG["HOT"] | unusable),
        (0.0004, FLAG["HOT"]),
        (0.0008, FLAG["WARM"]),
        (0.0003, FLAG["RC"] | FLAG["OTHER_BAD_PIXEL"] | unusable),
        (0.0002, FLAG["TELEGRAPH"] | unusable),
        (0.0003, FLAG["UNRELIABLE_SLOPE"]),
    )
    dq = np.zeros((npix, npix), np.uint32)
    draw = rng.random((npix, npix))
    for fraction, flags in kinds:
        dq[draw < fraction] |= np.uint32(flags)
        draw -= fraction
        draw[draw < 0] = 1
    y, x = np.ogrid[:npix, :npix]
    for _ in range(max(round(60 * frame_scale(npix) ** 2), 2)):  # clusters
        x0, y0, radius = rng.uniform(8, npix - 8), rng.uniform(8, npix - 8), rng.uniform(0.8, 4)
        disc = (x - x0) ** 2 + (y - y0) ** 2 < radius**2
        dq[disc] |= np.uint32(rng.choice([FLAG["DEAD"], FLAG["HOT"]]) | unusable)
    dq[reference_pixels(npix)] = FLAG["REFERENCE_PIXEL"] | unusable
    dq.setflags(write=False)
    return dq


def stripes(
    rng: np.random.Generator, npix: int, exposure_time: float, common_noise: float = 0.0
) -> np.ndarray:
    """1/f noise of a rate image: stripes along the columns of each amplifier.

    Parameters
    ----------
    rng : numpy Generator
    npix : int
        Side of the detector in pixels.
    exposure_time : float
        Integration time in s.
    common_noise : float
        Share of the variance that all amplifiers have in common.

    Returns
    -------
    ndarray, float32, shape (npix, npix)
        DN/s.
    """
    rms = STRIPE_RMS * (exposure_time / STRIPE_TIME) ** STRIPE_POWER
    (of_all,) = rng.spawn(1)  # so that what else is drawn does not depend on the share
    own = np.stack([_amplifier_stripes(rng, npix, offset=0.6) for _ in range(AMPLIFIERS)])
    # What the amplifiers share, the reference pixels beside the columns show as well. Their running
    # median over 11 columns takes away what varies more slowly (`refpix` of the pipeline).
    common = _amplifier_stripes(of_all, npix, offset=0.1, slowest=1 / 11) if common_noise else 0.0
    image = np.sqrt(1 - common_noise) * own + np.sqrt(common_noise) * common
    return (rms * image).astype(np.float32).reshape(npix, npix)


def _amplifier_stripes(
    rng: np.random.Generator, npix: int, *, offset: float, slowest: float = 0.0
) -> np.ndarray:
    """1/f noise of one amplifier: columns with a standard deviation of 1, and an offset.

    Below the frequency `slowest`, in columns^-1, the noise is white.
    """
    height = npix // AMPLIFIERS
    frequency = np.maximum(np.fft.rfftfreq(npix), max(slowest, 1 / npix))
    noise, drift = rng.standard_normal((2, npix)).astype(np.float32)
    columns = np.fft.irfft(np.fft.rfft(noise) / np.sqrt(frequency), npix).astype(np.float32)
    columns = (columns - columns.mean()) / columns.std()
    # While a column is read the offset drifts, in each column anew.
    along = np.linspace(-1, 1, height, dtype=np.float32)[:, np.newaxis]
    return columns + STRIPE_DRIFT * drift * along + np.float32(offset * rng.standard_normal())


def pixel_noise(level: float, exposure_time: float) -> float:
    """The noise, DN/s, of a pixel that sees a sky of some level (DN/s) for some time (s)."""
    electrons = level * exposure_time * GAIN
    return np.sqrt(electrons + READ_NOISE**2) / (exposure_time * GAIN)


def row_jumps(
    rng: np.random.Generator, npix: int, number: int, level: float, exposure_time: float
) -> np.ndarray:
    """Offsets of rows that jump: of both signs, half to twice the noise of a pixel.

    Columns of the detector, which are the rows of a rate file, change their level during a ramp.

    Parameters
    ----------
    rng : numpy Generator
    npix : int
        Side of the detector in pixels.
    number : int
        Of such rows on a full frame; a smaller one has fewer.
    level : float
        Sky level, DN/s.
    exposure_time : float
        Integration time in s.

    Returns
    -------
    ndarray, float32, shape (npix, 1)
        DN/s.
    """
    count = -(-number * npix // FULL_FRAME)
    noise = pixel_noise(level, exposure_time)
    rows = rng.choice(np.arange(REFERENCE_BORDER, npix - REFERENCE_BORDER), count, replace=False)
    offsets = np.zeros((npix, 1), np.float32)
    offsets[rows, 0] = noise * rng.uniform(0.5, 2, count) * rng.choice([-1, 1], count)
    return offsets


def _spread(mask: np.ndarray) -> np.ndarray:
    """A mask to which the four direct neighbours of its pixels are added."""
    grown = mask.copy()
    grown[1:] |= mask[:-1]
    grown[:-1] |= mask[1:]
    grown[:, 1:] |= mask[:, :-1]
    grown[:, :-1] |= mask[:, 1:]
    return grown


def _cosmic_rays(rng: np.random.Generator, npix: int, exposure_time: float) -> np.ndarray:
    """Pixels in which the pipeline finds a jump, bool, shape (npix, npix)."""
    count = rng.poisson(COSMIC_RAYS * exposure_time * npix**2)
    y, x = rng.integers(0, npix, (2, count))
    hit = np.zeros((npix, npix), bool)
    hit[y, x] = True
    for _ in range(2):  # short tracks
        longer = rng.random(count) < 0.3
        x, y = x[longer], y[longer]
        step = rng.integers(-1, 2, (2, x.size))
        x, y = np.clip([x + step[0], y + step[1]], 0, npix - 1)
        hit[y, x] = True
        count = x.size
    return _spread(hit)


def _snowballs(
    rng: np.random.Generator, npix: int, exposure_time: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Snowballs: saturated cores, flagged pixels, and the signal of the halos (DN/s)."""
    core, flagged = np.zeros((2, npix, npix), bool)
    halo = np.zeros((npix, npix), np.float32)
    y, x = np.ogrid[:npix, :npix]
    for _ in range(rng.poisson(0.002 * exposure_time * frame_scale(npix) ** 2)):
        x0, y0, radius = rng.uniform(0, npix), rng.uniform(0, npix), rng.uniform(3, 9)
        reach = int(8 * radius)
        near = (
            slice(max(int(y0) - reach, 0), int(y0) + reach),
            slice(max(int(x0) - reach, 0), int(x0) + reach),
        )
        r = np.hypot(x[:, near[1]] - x0, y[near[0]] - y0) / radius
        core[near] |= r < 1
        flagged[near] |= r < 2.5
        halo[near] += rng.uniform(0.01, 0.06) * np.exp(-0.5 * (r / 2.2) ** 2)
    return core, flagged, halo


def expose(
    light: np.ndarray,
    filter_name: str,
    exposure_time: float,
    readpatt: str,
    rng: np.random.Generator,
    *,
    dark: np.ndarray | float = 0.0,
    flags: np.ndarray | int = 0,
    common_noise: float = 0.0,
    instrument: int = DEFAULT_INSTRUMENT,
) -> Rate:
    """The rate image that the detector and Stage 1 of the pipeline make of the incident light.

    Parameters
    ----------
    light : ndarray, float32, shape (npix, npix)
        Light on the detector, as DN/s in a pixel of response 1.
    filter_name : str
        Blocking filter.
    exposure_time : float
        Integration time in s.
    readpatt : str
        NIS or NISRAPID, which sets the time of a group.
    rng : numpy Generator
    dark : ndarray or float
        Dark rate that stage 1 leaves, DN/s.
    flags : ndarray or int
        Flags besides those of `bad_pixels`.
    common_noise : float
        Share of the variance of the 1/f noise that all amplifiers have in common.
    instrument : int
        Seed of the detector's individual features.

    Returns
    -------
    Rate
    """
    npix = light.shape[0]
    features = np.random.default_rng([instrument, 7])
    dq = bad_pixels(npix, instrument).copy()
    rate = light * true_flat(npix, filter_name, instrument)
    hot = (dq & (FLAG["HOT"] | FLAG["TELEGRAPH"])) > 0
    warm = (dq & FLAG["WARM"]) > 0
    rate[hot] += features.exponential(2.0, hot.sum()).astype(np.float32)
    rate[warm] += features.exponential(0.05, warm.sum()).astype(np.float32)
    rate[(dq & FLAG["DEAD"]) > 0] *= 0.02
    read_noise = READ_NOISE * (1 + 0.08 * features.standard_normal(dq.shape, dtype=np.float32))
    read_noise[hot | warm] *= 3
    rate += dark
    dq |= np.asarray(flags, dtype=np.uint32)

    group = GROUP_TIME[readpatt]
    time = np.full(dq.shape, exposure_time, np.float32)
    read_loss = np.ones(dq.shape, np.float32)

    core, flagged, halo = _snowballs(rng, npix, exposure_time)
    jump = _cosmic_rays(rng, npix, exposure_time) | flagged
    # A jump splits the ramp. The read noise of two short slopes is larger than that of a long one,
    # and the group with the jump is lost.
    when = rng.random(np.count_nonzero(jump), dtype=np.float32)
    read_loss[jump] = 1 / (when**3 + (1 - when) ** 3)
    time[jump] = max(exposure_time - group, 0.3 * exposure_time)

    full = _spread(rate * exposure_time > FULL_WELL)
    groups = np.floor(FULL_WELL / (np.maximum(rate[full], 1e-3) * group))
    time[full] = np.minimum(np.maximum(groups, 1) * group, exposure_time)
    read_loss[full] = exposure_time / time[full]
    lost = np.zeros_like(full)
    lost[full] = groups < 1
    lost = _spread(lost) | core
    full |= lost

    read_variance = (read_noise / (GAIN * time)) ** 2 * read_loss
    noise = np.sqrt(np.maximum(rate, 0) / (GAIN * time) + read_variance)
    sci = rate + noise * rng.standard_normal(dq.shape, dtype=np.float32)
    sci += stripes(rng, npix, exposure_time, common_noise) + halo
    left = jump & (rng.random(dq.shape, dtype=np.float32) < 0.06)
    sci[left] += noise[left] * rng.exponential(2.0, left.sum()).astype(np.float32)
    missed = rng.random(dq.shape, dtype=np.float32) < 4e-7 * exposure_time
    sci[missed] += noise[missed] * rng.exponential(5.0, missed.sum()).astype(np.float32)
    sci[lost] = FULL_WELL / group

    dq[jump] |= FLAG["JUMP_DET"]
    dq[full] |= FLAG["SATURATED"]
    dq[lost] |= FLAG["DO_NOT_USE"]
    poisson_variance = np.maximum(sci, 0) / (GAIN * time)
    error = np.sqrt(poisson_variance + read_variance)

    unusable = (dq & FLAG["DO_NOT_USE"]) > 0
    blank = unusable & (rng.random(dq.shape, dtype=np.float32) < 0.9)
    border = reference_pixels(npix)
    dq[border] = FLAG["REFERENCE_PIXEL"] | FLAG["DO_NOT_USE"]
    for array in (sci, error, poisson_variance, read_variance):
        array[blank] = np.nan
        array[border] = 0
    return Rate(sci, error, dq, poisson_variance, read_variance)


def afterglow(rng: np.random.Generator, dispersed: np.ndarray) -> np.ndarray:
    """Persistence: a faint, blurred image of earlier, brighter traces.

    Parameters
    ----------
    rng : numpy Generator
    dispersed : ndarray, float32, shape (npix, npix)
        Sources of an earlier exposure on the detector, DN/s.

    Returns
    -------
    ndarray, float32, shape (npix, npix)
        DN/s.
    """
    # Charge traps fill in proportion to the accumulated charge, up to the full well.
    filled = np.minimum(dispersed, 60.0)
    return rng.uniform(0.05, 0.1) * gaussian_filter(filled, 0.8)


def scattered_light(rng: np.random.Generator, npix: int, level: float) -> np.ndarray:
    """A band of scattered light across the middle of the detector.

    Parameters
    ----------
    rng : numpy Generator
    npix : int
        Side of the detector in pixels.
    level : float
        Sky level, DN/s; the band has about 5 to 15 % of it.

    Returns
    -------
    ndarray, float32, shape (npix, npix)
        DN/s.
    """
    angle, width = rng.uniform(-0.3, 0.3), rng.uniform(0.05, 0.1)
    y0 = rng.uniform(0.4, 0.6)
    return level * rng.uniform(0.05, 0.15) * _band(npix, angle, width, y0)


def light_saber(features: np.random.Generator, rng: np.random.Generator, npix: int) -> np.ndarray:
    """The band of scattered light that is at nearly the same place in all exposures.

    Parameters
    ----------
    features : numpy Generator
        Of the place and width of the band.
    rng : numpy Generator
        Of the small differences between exposures.
    npix : int
        Side of the detector in pixels.

    Returns
    -------
    ndarray, float32, shape (npix, npix)
        About 1 along the middle of the band.
    """
    angle, width = features.uniform(-0.3, 0.3), features.uniform(0.05, 0.1)
    y0 = features.uniform(0.4, 0.6)
    angle, y0 = angle + rng.normal(0, 0.01), y0 + rng.normal(0, 0.01)
    return _band(npix, angle, width * rng.uniform(0.9, 1.1), y0)


def _band(npix: int, angle: float, width: float, y0: float) -> np.ndarray:
    """A Gaussian band; lengths in units of the frame, angle in rad; 1 in the middle, float32."""
    y, x = np.ogrid[:npix, :npix]
    distance = (y - y0 * npix) * np.cos(angle) - (x - npix / 2) * np.sin(angle)
    strength = 1 + 0.3 * (x / npix - 0.5)
    return (strength * np.exp(-0.5 * (distance / (width * npix)) ** 2)).astype(np.float32)
