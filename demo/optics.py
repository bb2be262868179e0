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

from demo import traces

FULL_FRAME = 2048
# From pixels to the ideal frame, arcsec (SIAF PRDOPSSOC-075, NIS_CEN); it is a little sheared.
PIXEL_MATRIX = ((0.06532425, 0.0), (-0.00029946, 0.06581494))
PIXEL_SCALE = math.sqrt(PIXEL_MATRIX[0][0] * PIXEL_MATRIX[1][1])
REFERENCE_BORDER = 4  # rows and columns of reference pixels on each side
FIELD_MARGIN = 240  # pixels beyond the detector that are simulated: all that the mirror sees
SPOT_DIAMETERS = (0.58, 0.75, 1.5, 2.0)  # arcsec (JDox, NIRISS coronagraphic spots)
DEFAULT_INSTRUMENT = 150  # seed of the individual features of mirror and detector

GRATINGS = ("GR150C", "GR150R")
FILTERS = tuple(traces.WIDE_FILTER)


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


def _mirror_corners(npix: int) -> np.ndarray:
    """Corners of the mirror, counterclockwise: x, y in pixels from the centre of the detector."""
    return (np.array(traces.MIRROR_CORNERS) - (FULL_FRAME - 1) / 2) * frame_scale(npix)


def _edge_transmission(
    x: np.ndarray, y: np.ndarray, corners: np.ndarray, rng: np.random.Generator, scale: float
) -> np.ndarray:
    """Transmission of a mirror between ``corners``, with soft, slightly bent edges."""
    transmission = np.ones(np.broadcast_shapes(x.shape, y.shape))
    for start, end in zip(corners, np.roll(corners, -1, axis=0), strict=True):
        length = np.hypot(*(end - start))
        along_x, along_y = (end - start) / length
        inside = (y - start[1]) * along_x - (x - start[0]) * along_y
        u = 2 * ((x - start[0]) * along_x + (y - start[1]) * along_y) / length - 1
        bend = rng.uniform(-2, 2) * scale
        softness = max(rng.uniform(1.5, 4) * scale, 0.5)
        transmission *= 0.5 * (1 + erf((inside + bend * (u**2 - 0.5)) / softness))
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
    corners = _mirror_corners(npix)
    mirror = _edge_transmission(x, y, corners, rng, scale)

    centre, half = corners.mean(axis=0), np.abs(corners).mean()
    u, v = (x - centre[0]) / half, (y - centre[1]) / half
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


def _zodiacal_light(wavelength: np.ndarray) -> np.ndarray:
    """Brightness of the zodiacal light at wavelengths in um."""
    known, brightness = np.log(traces.ZODIACAL_LIGHT).T
    return np.exp(np.interp(np.log(wavelength), known, brightness))


def _band(filter_name: str) -> tuple[float, float]:
    """First and last wavelength that a filter passes, um."""
    table = traces.SENSITIVITY[traces.WIDE_FILTER[filter_name]]
    return traces.MEDIUM_BAND.get(filter_name, (table[0][0], table[-1][0]))


def _order_responses(filter_name: str) -> dict[int, tuple[np.ndarray, np.ndarray]]:
    """Of each order, wavelengths (um) and the light of the sky there (1 summed over the orders)."""
    wide = traces.WIDE_FILTER[filter_name]
    known, *sensitivities = np.array(traces.SENSITIVITY[wide]).T
    blue, red = _band(filter_name)
    lines = traces.TRACES["GR150C"][wide]
    responses = {}
    for order, sensitivity in zip(traces.ORDERS, sensitivities, strict=True):
        count = max(round(8 * abs(lines[order][1]) * (red - blue)), 32)  # eight samples a pixel
        wavelength = blue + (np.arange(count) + 0.5) / count * (red - blue)
        light = np.interp(wavelength, known, sensitivity) * _zodiacal_light(wavelength)
        responses[order] = wavelength, light / count
    zeroth, first = (responses[order][1].sum() for order in (0, 1))
    responses[0][1][:] *= max(traces.LEAST_ZEROTH * first / zeroth, 1)
    total = sum(light.sum() for _, light in responses.values())
    return {order: (wavelength, light / total) for order, (wavelength, light) in responses.items()}


def order_fractions(filter_name: str) -> dict[int, float]:
    """The share of each order in the light of the sky."""
    return {order: light.sum() for order, (_, light) in _order_responses(filter_name).items()}


def trace_samples(grating: str, filter_name: str, npix: int, rotation: float = 0.0) -> np.ndarray:
    """How the light of a point source is spread over the detector.

    Parameters
    ----------
    grating : str
        GR150C (dispersion along x) or GR150R (along y).
    filter_name : str
        Blocking filter.
    npix : int
        Side of the detector in pixels.
    rotation : float
        Angle, in deg, by which the grism is turned, from the detector's x axis to its y axis.

    Returns
    -------
    ndarray, float64, shape (5, n)
        Offset along the dispersion axis and across it (pixels), wavelength coordinate
        (-1 blue to 1 red, mean 0 over the light), fraction of the light (sum 1), and the order.
    """
    wide = traces.WIDE_FILTER[filter_name]
    columns = []
    for order, (wavelength, light) in _order_responses(filter_name).items():
        offset, dispersion, cross, tilt, bend = traces.TRACES[grating][wide][order]
        step = wavelength - traces.REFERENCE_WAVELENGTH[wide]
        along, across = offset + dispersion * step, cross + tilt * step + bend * step**2
        columns.append([along, across, wavelength, light, np.full(light.shape, order)])
    along, across, wavelength, light, orders = np.concatenate(columns, axis=1)
    turn = np.radians(rotation if grating == "GR150C" else -rotation)
    along, across = (
        along * np.cos(turn) - across * np.sin(turn),
        along * np.sin(turn) + across * np.cos(turn),
    )
    coordinate = 2 * (wavelength - np.sum(light * wavelength)) / np.ptp(wavelength)
    scale = frame_scale(npix)
    return np.array([along * scale, across * scale, coordinate, light, orders])


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
def _trace_transforms(
    grating: str, filter_name: str, npix: int, rotation: float, dtype: str
) -> tuple:
    """Fourier transforms of the trace of a flat spectrum, and of its change with the slope."""
    samples = trace_samples(grating, filter_name, npix, rotation)
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
    rotation: float = 0.0,
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
    rotation : float
        Angle, in deg, by which the grism is turned, see `trace_samples`.

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
    shape, flat, slope = _trace_transforms(grating, filter_name, npix, rotation, image.dtype.name)
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
    grating: str, filter_name: str, npix: int, instrument: int, clean: bool, rotation: float
) -> tuple[np.ndarray, np.ndarray]:
    """A uniform sky of flat spectrum, dispersed, and its change per unit of spectral slope."""
    mirror = mirror_illumination(npix, instrument, clean)
    if grating == "CLEAR":
        grey = disperse(mirror, grating, filter_name)
        return grey, np.zeros_like(grey)
    nothing = np.zeros_like(mirror)
    grey = disperse(mirror, grating, filter_name, rotation=rotation)
    return grey, disperse(nothing, grating, filter_name, sloped=mirror, rotation=rotation)


def sky_background(
    grating: str,
    filter_name: str,
    npix: int,
    colour: float = 0.0,
    *,
    instrument: int = DEFAULT_INSTRUMENT,
    clean: bool = False,
    rotation: float = 0.0,
) -> np.ndarray:
    """The noise-free background of a uniform sky, without flat field.

    Parameters
    ----------
    grating, filter_name : str
        Grism (or CLEAR) and blocking filter.
    npix : int
        Side of the detector in pixels.
    colour : float
        Exponent by which the sky's spectrum, as a power law in wavelength, differs from that of
        `demo.traces.ZODIACAL_LIGHT`.
    instrument : int
        Seed of the mirror's individual features.
    clean : bool
        Leave out the mirror's coronagraphic spots and dust.
    rotation : float
        Angle, in deg, by which the grism is turned, see `trace_samples`.

    Returns
    -------
    ndarray, float64, shape (npix, npix)
        Background with median 1 over the pixels that are not reference pixels.
    """
    grey, sloped = _sky_components(grating, filter_name, npix, instrument, clean, rotation)
    blue, red = _band(filter_name)
    background = grey + 0.5 * math.log(red / blue) * colour * sloped
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
