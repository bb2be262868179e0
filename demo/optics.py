"""The pick-off mirror and the grisms: how light reaches the detector.

Everything is computed on the *extended field*: the detector's ``npix x npix`` pixels and a
margin on each side that the pick-off mirror sees as well. Frames smaller than 2048 pixels show
the same instrument at a smaller scale: offsets, margin and spots scale with ``npix / 2048``.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import scipy.fft
from scipy.ndimage import distance_transform_edt
from scipy.special import erf

FULL_FRAME = 2048
# From pixels to the ideal frame, arcsec (SIAF PRDOPSSOC-075, NIS_CEN); it is a little sheared.
PIXEL_MATRIX = ((0.06532425, 0.0), (-0.00029946, 0.06581494))
PIXEL_SCALE = math.sqrt(PIXEL_MATRIX[0][0] * PIXEL_MATRIX[1][1])
REFERENCE_BORDER = 4  # rows and columns of reference pixels on each side
MIRROR_MARGIN = 137  # pixels beyond the detector that the pick-off mirror sees
FIELD_MARGIN = 150  # pixels beyond the detector that are simulated, so that soft edges fit
SPOT_DIAMETERS = (0.58, 0.75, 1.5, 2.0)  # arcsec (JDox, NIRISS coronagraphic spots)
DEFAULT_INSTRUMENT = 150  # seed of the individual features of mirror and detector

GRATINGS = ("GR150C", "GR150R")
# The medium bands are inside the wide ones and use their traces.
WIDE_FILTER = {
    "F090W": "F090W",
    "F115W": "F115W",
    "F140M": "F150W",
    "F150W": "F150W",
    "F158M": "F150W",
    "F200W": "F200W",
}
FILTERS = tuple(WIDE_FILTER)

# First and last pixel with response of each order, relative to the direct image along the
# dispersion axis (GRISMCONF for NIRISS, V3). The end nearer the zeroth order is the blue one.
TRACE_RANGES = {
    "F090W": {1: (-53, 47), 0: (213, 217), 2: (-316, -121), 3: (-583, -291), -1: (387, 481)},
    "F115W": {1: (-172, -39), 0: (208.5, 213.5), 2: (-532, -291), 3: (-905, -544), -1: (467, 583)},
    "F150W": {
        1: (-268, -160),
        0: (207.5, 210.5),
        2: (-744, -572),
        3: (-1217, -973),
        -1: (605, 682),
    },
    "F200W": {1: (-268, -1), 0: (205, 213), 2: (-744, -113), 3: (-1217, -279), -1: (391, 682)},
}
# GR150R's traces lie within 6 pixels of GR150C's.
GR150R_SHIFTS = {1: 3.0, 0: -2.5, 2: 4.5, 3: 5.5, -1: -4.0}
# Cross-dispersion offset in the middle of a trace, and its change from one end to the other.
CROSS_OFFSETS = {1: (0.4, 1.2), 0: (-1.1, 0.0), 2: (1.3, 2.4), 3: (2.1, 3.5), -1: (-1.8, -1.5)}

ORDER_FRACTIONS = {
    "F090W": {1: 0.46, 0: 0.09, 2: 0.38, 3: 0.03, -1: 0.04},
    "F115W": {1: 0.80, 0: 0.10, 2: 0.055, 3: 0.015, -1: 0.03},
    "F150W": {1: 0.81, 0: 0.10, 2: 0.045, 3: 0.015, -1: 0.03},
    "F200W": {1: 0.82, 0: 0.09, 2: 0.045, 3: 0.015, -1: 0.03},
}


def exposure_type(grating: str) -> str:
    """EXP_TYPE of exposures through a grism, or of direct images, without one (CLEAR)."""
    return "NIS_IMAGE" if grating == "CLEAR" else "NIS_WFSS"


def frame_scale(npix: int) -> float:
    """Size of a frame relative to the full detector."""
    return npix / FULL_FRAME


def field_margin(npix: int) -> int:
    """Width, in pixels, of the margin of the extended field on each side."""
    return round(FIELD_MARGIN * frame_scale(npix))


@dataclass(frozen=True)
class Spot:
    """A coronagraphic spot on the mirror: centre and diameter in detector pixels."""

    x: float
    y: float
    diameter: float


def coronagraphic_spots(npix: int) -> list[Spot]:
    """The four coronagraphic spots of a frame of ``npix x npix`` pixels."""
    centres = ((1240, 1865), (1462, 1790), (1688, 1902), (1904, 1768))
    scale = frame_scale(npix)
    return [
        Spot(x * scale, y * scale, arcsec / PIXEL_SCALE * scale)
        for (x, y), arcsec in zip(centres, SPOT_DIAMETERS, strict=True)
    ]


def _edge_transmission(
    x: np.ndarray, y: np.ndarray, half: float, rng: np.random.Generator, scale: float
) -> np.ndarray:
    """Transmission of a mirror of half-width ``half`` with soft, tilted, slightly bent edges."""
    transmission = np.ones(np.broadcast_shapes(x.shape, y.shape))
    for across, along in ((x, y), (-x, y), (y, x), (-y, x)):
        u = along / half
        tilt, bend = rng.uniform(-4, 4) * scale, rng.uniform(-2, 2) * scale
        softness = max(rng.uniform(1.5, 4) * scale, 0.5)
        position = half + tilt * u + bend * (u**2 - 0.5)
        transmission = transmission * 0.5 * (1 + erf((position - across) / softness))
    return transmission


@lru_cache(maxsize=2)
def mirror_illumination(
    npix: int, instrument: int = DEFAULT_INSTRUMENT, clean: bool = False
) -> np.ndarray:
    """Fraction of the light that the pick-off mirror passes on.

    Parameters
    ----------
    npix : int
        Side of the detector in pixels.
    instrument : int
        Seed of the mirror's individual features: edges, dust, vignetting.
    clean : bool
        Leave out the coronagraphic spots and the dust.

    Returns
    -------
    ndarray, float64, shape (npix + 2 margin, npix + 2 margin)
        Transmission, 0 to 1, of the extended field; ``margin = field_margin(npix)``.
    """
    rng = np.random.default_rng([instrument, 1])
    scale, margin = frame_scale(npix), field_margin(npix)
    detector = np.arange(-margin, npix + margin, dtype=float)
    centred = detector - (npix - 1) / 2
    x, y = centred[np.newaxis, :], centred[:, np.newaxis]
    half = npix / 2 + MIRROR_MARGIN * scale
    mirror = _edge_transmission(x, y, half, rng, scale)

    u, v = x / half, y / half
    for term in (u, v, u * v, u**2, v**2, u**3, v**3):
        mirror *= 1 + rng.uniform(-0.008, 0.008) * term
    mirror *= 1 - 0.01 * (u**2 + v**2) ** 2

    if clean:
        mirror.setflags(write=False)
        return mirror

    def darken(
        x0: float, y0: float, depth: float, profile: Callable[[np.ndarray], np.ndarray]
    ) -> None:
        reach = int(40 * scale) + 4
        rows = slice(max(int(y0) + margin - reach, 0), max(int(y0) + margin + reach, 0))
        columns = slice(max(int(x0) + margin - reach, 0), max(int(x0) + margin + reach, 0))
        r = np.hypot(detector[np.newaxis, columns] - x0, detector[rows, np.newaxis] - y0)
        mirror[rows, columns] *= 1 - depth * profile(r)

    for _ in range(60):  # dust and blemishes of many sizes, most of them faint
        x0, y0 = rng.uniform(-margin, npix + margin, 2)
        radius = max(rng.uniform(2, 12) * scale, 0.7)
        depth = min(0.004 * rng.pareto(1.3), 0.15)
        darken(x0, y0, depth, lambda r, radius=radius: np.exp(-0.5 * (r / radius) ** 2))
    rim = max(1.2 * scale, 0.4)
    for spot in coronagraphic_spots(npix):
        radius = spot.diameter / 2
        darken(
            spot.x,
            spot.y,
            0.75,  # the engraved spots scatter a part of the light
            lambda r, radius=radius: 0.5 * (1 - erf((r - radius) / rim)),
        )
    mirror.setflags(write=False)
    return mirror


def _order_response(order: int, first: float, last: float) -> tuple[np.ndarray, ...]:
    """Sampled response of an order: offsets (pixels), wavelength coordinate, weights (sum 1).

    The wavelength coordinate runs from about -1 (blue) to +1 (red), with weighted mean 0.
    """
    count = max(round(8 * (last - first)), 16)
    t = (np.arange(count) + 0.5) / count
    offsets = first + t * (last - first)
    wavelength = (2 * t - 1) * (-1 if order > 0 else 1)
    # The table has the range with any response; most of the response is in the middle.
    band = 1 / (1 + np.exp(-24 * (t - 0.2))) / (1 + np.exp(24 * (t - 0.8)))
    # Because of the blaze, each order has its peak at another place in the band.
    blaze = 1 + 0.25 * np.cos(2.2 * (wavelength - 0.3 * order)) + 0.03 * np.sin(9 * wavelength)
    weights = band * blaze
    weights /= weights.sum()
    return offsets, wavelength - np.sum(weights * wavelength), weights


def trace_samples(grating: str, filter_name: str, npix: int) -> np.ndarray:
    """How the light of a point source is spread over the detector.

    Parameters
    ----------
    grating : str
        GR150C (dispersion along x) or GR150R (along y).
    filter_name : str
        Blocking filter.
    npix : int
        Side of the detector in pixels.

    Returns
    -------
    ndarray, float64, shape (5, n)
        Offset along the dispersion axis and across it (pixels), wavelength coordinate
        (-1 blue to 1 red), fraction of the light (sum 1), and the order.
    """
    wide, scale = WIDE_FILTER[filter_name], frame_scale(npix)
    columns = []
    for order, (first, last) in TRACE_RANGES[wide].items():
        shift = GR150R_SHIFTS[order] if grating == "GR150R" else 0.0
        offsets, wavelength, weights = _order_response(order, first, last)
        offset, tilt = CROSS_OFFSETS[order]
        cross = (offset + 0.5 * tilt * wavelength) * (-1 if grating == "GR150R" else 1)
        fractions = weights * ORDER_FRACTIONS[wide][order]
        columns.append(
            [(offsets + shift) * scale, cross * scale, wavelength, fractions, 0 * cross + order]
        )
    return np.concatenate(columns, axis=1)


def _transform_shape(npix: int, samples: np.ndarray) -> tuple[int, int]:
    """Shape in which a circular convolution wraps no light around onto the detector."""
    size = npix + 2 * field_margin(npix)
    reach = np.ceil(np.abs(samples[0])).max() + field_margin(npix) + 2
    along = scipy.fft.next_fast_len(int(npix + reach), real=True)
    return scipy.fft.next_fast_len(size + 8), max(along, scipy.fft.next_fast_len(size, real=True))


def _trace_image(samples: np.ndarray, weights: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """Distribute sampled weights bilinearly over pixels; negative offsets wrap around."""
    image = np.zeros(shape)
    along, across = np.floor(samples[0]).astype(int), np.floor(samples[1]).astype(int)
    u, v = samples[0] - along, samples[1] - across
    for dy, wy in ((0, 1 - v), (1, v)):
        for dx, wx in ((0, 1 - u), (1, u)):
            rows, columns = (across + dy) % shape[0], (along + dx) % shape[1]
            np.add.at(image, (rows, columns), weights * wy * wx)
    return image


@lru_cache(maxsize=1)
def _trace_transforms(grating: str, filter_name: str, npix: int, dtype: str) -> tuple:
    """Fourier transforms of the trace of a flat spectrum, and of its change with the slope."""
    samples = trace_samples(grating, filter_name, npix)
    shape = _transform_shape(npix, samples)
    flat, slope = samples[3], samples[3] * samples[2]
    return shape, *(
        scipy.fft.rfft2(_trace_image(samples, weights, shape).astype(dtype))
        for weights in (flat, slope)
    )


def disperse(
    image: np.ndarray,
    grating: str,
    filter_name: str,
    *,
    sloped: np.ndarray | None = None,
) -> np.ndarray:
    """Disperse a direct image that the mirror has reflected, as the grism does.

    Parameters
    ----------
    image : ndarray, float, shape (npix + 2 margin, npix + 2 margin)
        Direct image of the extended field behind the mirror, DN/s summed over the orders.
    grating : str
        GR150C, GR150R, or CLEAR (no dispersion).
    filter_name : str
        Blocking filter.
    sloped : ndarray, optional
        The same image with each source multiplied by the slope of its spectrum. A slope s
        means a spectrum 1 + s w, where w runs from -1 (blue) to 1 (red).

    Returns
    -------
    ndarray, same dtype, shape (npix, npix)
        Dispersed image on the detector, DN/s.
    """
    npix = _detector_side(image.shape[0])
    margin = field_margin(npix)
    inner = slice(margin, margin + npix)
    if grating == "CLEAR":
        return image[inner, inner].copy()
    if grating == "GR150R":
        image, sloped = image.T, None if sloped is None else sloped.T
    shape, flat, slope = _trace_transforms(grating, filter_name, npix, image.dtype.name)
    spectrum = scipy.fft.rfft2(image, shape) * flat
    if sloped is not None:
        spectrum += scipy.fft.rfft2(sloped, shape) * slope
    # Along the dispersion axis, only the rows of the detector are transformed back.
    spectrum = scipy.fft.ifft(spectrum, axis=0, overwrite_x=True)[inner]
    dispersed = scipy.fft.irfft(spectrum, shape[1], axis=1, overwrite_x=True)[:, inner]
    return np.ascontiguousarray(dispersed.T if grating == "GR150R" else dispersed)


def _detector_side(extended: int) -> int:
    """Side of the detector that belongs to an extended field of ``extended`` pixels."""
    estimate = round(extended / (1 + 2 * FIELD_MARGIN / FULL_FRAME))
    for npix in range(estimate - 2, estimate + 3):
        if npix + 2 * field_margin(npix) == extended:
            return npix
    raise ValueError(f"no detector has an extended field of {extended} pixels")


def science_pixels(image: np.ndarray) -> np.ndarray:
    """A view of an image without its border of reference pixels."""
    return image[REFERENCE_BORDER:-REFERENCE_BORDER, REFERENCE_BORDER:-REFERENCE_BORDER]


@lru_cache(maxsize=2)
def _sky_components(
    grating: str, filter_name: str, npix: int, instrument: int, clean: bool
) -> tuple[np.ndarray, np.ndarray]:
    """A uniform sky of flat spectrum, dispersed, and its change per unit of spectral slope."""
    mirror = mirror_illumination(npix, instrument, clean)
    if grating == "CLEAR":
        grey = disperse(mirror, grating, filter_name)
        return grey, np.zeros_like(grey)
    nothing = np.zeros_like(mirror)
    grey = disperse(mirror, grating, filter_name)
    return grey, disperse(nothing, grating, filter_name, sloped=mirror)


def sky_background(
    grating: str,
    filter_name: str,
    npix: int,
    colour: float = 0.0,
    *,
    instrument: int = DEFAULT_INSTRUMENT,
    clean: bool = False,
) -> np.ndarray:
    """The noise-free background of a uniform sky, without flat field.

    Parameters
    ----------
    grating, filter_name : str
        Grism (or CLEAR) and blocking filter.
    npix : int
        Side of the detector in pixels.
    colour : float
        Slope of the sky's spectrum: 0.1 makes the red end 10 % brighter than the middle.
    instrument : int
        Seed of the mirror's individual features.
    clean : bool
        Leave out the mirror's coronagraphic spots and dust.

    Returns
    -------
    ndarray, float64, shape (npix, npix)
        Background with median 1 over the pixels that are not reference pixels.
    """
    grey, slope = _sky_components(grating, filter_name, npix, instrument, clean)
    background = grey + colour * slope
    return background / np.median(science_pixels(background))


def near_features(
    grating: str,
    filter_name: str,
    npix: int,
    *,
    distance: float = 20,
    instrument: int = DEFAULT_INSTRUMENT,
) -> tuple[np.ndarray, np.ndarray]:
    """Where the background has sharp structure.

    Parameters
    ----------
    grating, filter_name, npix, instrument
        As for `sky_background`.
    distance : float
        Pixels up to this far from the structure count as near it.

    Returns
    -------
    spots, edges : ndarray, bool, shape (npix, npix)
        Near the dispersed images of the spots (and of the darkest dust), and near the steps
        that the edges of the mirror make.
    """
    smooth = sky_background(grating, filter_name, npix, instrument=instrument, clean=True)
    spotted = sky_background(grating, filter_name, npix, instrument=instrument)
    steepness = np.hypot(*np.gradient(smooth)) * frame_scale(npix)

    def near(mask: np.ndarray) -> np.ndarray:
        if not mask.any():
            return mask
        return distance_transform_edt(~mask) <= distance

    return near(np.abs(smooth - spotted) > 0.004), near(steepness > 0.00025)
