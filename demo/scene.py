"""What is on the sky: galaxies, stars and their direct image.

Positions are on the sky, so that all dithers of a field show the same sources. Fluxes are in DN/s,
summed over the orders of the grism.
"""

from typing import NamedTuple

import numpy as np
from astropy.wcs import WCS
from numpy.typing import ArrayLike
from scipy.special import erf

from demo.optics import PIXEL_MATRIX, PIXEL_SCALE, field_margin, trace_samples

ZERO_POINT = 27.4  # AB magnitude of 1 DN/s; a sky of 0.2 MJy/sr is then 0.5 DN/s per pixel
FAINTEST_GALAXY, FAINTEST_STAR = 28.5, 26.0  # AB mag
GALAXIES_PER_ARCMIN2 = 250.0  # brighter than FAINTEST_GALAXY (deep near-infrared counts)
STARS_PER_ARCMIN2 = 8.0  # brighter than FAINTEST_STAR, at high galactic latitude
LARGEST_DITHER = 8.0  # arcsec; sources are drawn up to this far beyond the extended field

# The point spread function has a core of FWHM 0.065 arcsec, wings that fall as r^-3, and spikes.
CORE_SIGMA = 0.42  # pixels; with the width of a pixel, the FWHM is about one pixel
WING_FRACTION, WING_SCALE = 0.20, 1.2  # of the flux; pixels
SPIKE_FRACTION, SPIKE_WIDTH, SPIKE_SCALE = 0.04, 0.8, 4.0  # of the flux; pixels; pixels
SPIKE_FLUX = 100.0  # DN/s; spikes of fainter stars are lost in the noise
STAMP_EDGE = 5e-5  # DN/s per pixel at which stamps end: 0.01 % of a typical sky
LARGEST_STAMP = 48  # half-width in pixels; larger stamps are drawn one at a time
WIDE_DISC = 20.0  # pixels; discs with a larger radius do not feel the size of the pixels
BATCH_PIXELS = 400_000


class Sources(NamedTuple):
    """The sources of a field; each array has one element per source."""

    ra: np.ndarray  # deg
    dec: np.ndarray  # deg
    flux: np.ndarray  # DN/s
    radius: np.ndarray  # half-light radius in pixels, 0 for a star
    axis_ratio: np.ndarray
    angle: np.ndarray  # rad, of the major axis from the detector's x axis
    slope: np.ndarray  # of the spectrum, see `demo.optics.disperse`
    line: np.ndarray  # flux of an emission line relative to `flux`, seen in the first order
    line_wavelength: np.ndarray  # -1 (blue) to 1 (red end of the filter)


def pointing_wcs(ra: float, dec: float, roll: float, npix: int) -> WCS:
    """World coordinates of a detector whose centre points at (ra, dec).

    Parameters
    ----------
    ra, dec : float
        Pointing in deg.
    roll : float
        Position angle of the detector's y axis in deg, north through east.
    npix : int
        Side of the detector in pixels.

    Returns
    -------
    astropy.wcs.WCS
        Tangential projection, without distortion.
    """
    wcs = WCS(naxis=2)
    wcs.wcs.ctype = ["RA---TAN", "DEC--TAN"]
    wcs.wcs.crval = [ra, dec]
    wcs.wcs.crpix = [(npix + 1) / 2] * 2
    wcs.wcs.cdelt = [PIXEL_SCALE / 3600] * 2
    cos, sin = np.cos(np.radians(roll)), np.sin(np.radians(roll))
    wcs.wcs.pc = np.array([[-cos, sin], [sin, cos]]) @ PIXEL_MATRIX / PIXEL_SCALE
    return wcs


def distorted(x: np.ndarray, y: np.ndarray, npix: int) -> tuple[np.ndarray, np.ndarray]:
    """Positions in pixels with the distortion of the optics, which a linear projection lacks.

    The scale changes over the field by 0.3 % from the centre to a corner (SIAF): a dither of 100
    pixels moves sources there by up to 0.3 pixels more or less.
    """
    u, v = ((axis - (npix - 1) / 2) / (npix / 2) for axis in (x, y))
    bend = 0.0005 * npix / 2
    return x + bend * (2 * u**2 + u * v), y + bend * (u * v + 2 * v**2)


def _magnitudes(rng: np.random.Generator, count: int, knots: tuple) -> np.ndarray:
    """Magnitudes drawn from cumulative counts, given as (magnitude, log10 N) knots."""
    magnitude, log_number = np.array(knots).T
    log_fraction = np.log10(1 - rng.random(count))
    return np.interp(log_fraction, log_number - log_number[-1], magnitude)


def flux_of(magnitude: np.ndarray | float) -> np.ndarray:
    """DN/s, summed over the orders, of an AB magnitude."""
    return 10 ** (0.4 * (ZERO_POINT - np.asarray(magnitude, dtype=float)))


def point_sources(
    ra: ArrayLike, dec: ArrayLike, magnitude: ArrayLike, slope: ArrayLike = 0.0
) -> Sources:
    """Stars at given positions (deg) with given AB magnitudes, without lines."""
    columns = map(np.atleast_1d, (ra, dec, magnitude, slope))
    ra, dec, magnitude, slope = np.broadcast_arrays(*columns)
    none = np.zeros(ra.shape)
    return Sources(
        ra, dec, flux_of(magnitude), none, none + 1, none, slope.astype(float), none, none
    )


def merge(*groups: Sources) -> Sources:
    """Join several groups of sources."""
    return Sources(*(np.concatenate(columns) for columns in zip(*groups, strict=True)))


def field_sources(
    rng: np.random.Generator, ra: float, dec: float, roll: float, npix: int, *, crowding: float = 0
) -> Sources:
    """Galaxies and stars of a field.

    Parameters
    ----------
    rng : numpy Generator
    ra, dec : float
        Centre of the field in deg.
    roll : float
        Position angle of the detector's y axis in deg.
    npix : int
        Side of the detector in pixels; sources cover its extended field in all dithers.
    crowding : float
        Stars per arcmin^2 of a star cluster in the foreground.

    Returns
    -------
    Sources
    """
    half = npix / 2 + field_margin(npix) + LARGEST_DITHER / PIXEL_SCALE
    area = (2 * half * PIXEL_SCALE / 60) ** 2  # arcmin^2
    wcs = pointing_wcs(ra, dec, roll, npix)

    def positions(count: int) -> tuple[np.ndarray, np.ndarray]:
        x, y = rng.uniform(-half, half, (2, count)) + (npix - 1) / 2
        return wcs.all_pix2world(x, y, 0)

    def stars(count: int, knots: tuple) -> Sources:
        slope = np.clip(rng.normal(-0.1, 0.2, count), -0.8, 0.8)
        return point_sources(*positions(count), _magnitudes(rng, count, knots), slope)

    count = rng.poisson(GALAXIES_PER_ARCMIN2 * area)
    magnitude = _magnitudes(
        rng, count, ((14, -2.8), (20, -0.25), (23, 0.95), (26, 1.80), (FAINTEST_GALAXY, 2.40))
    )
    # Half-light radius 0.45 arcsec at 22 mag, 0.11 arcsec at 28 mag, scatter 0.2 dex.
    size = 0.45 * 10 ** (-0.1 * (magnitude - 22) + rng.normal(0, 0.2, count)) / PIXEL_SCALE
    galaxies = Sources(
        *positions(count),
        flux_of(magnitude),
        np.clip(size, 0.5, 60),
        rng.uniform(0.25, 1, count),
        rng.uniform(0, np.pi, count),
        np.clip(rng.normal(0.1, 0.3, count), -0.8, 0.8),
        np.where(rng.random(count) < 0.3, rng.exponential(0.08, count), 0),
        rng.uniform(-0.6, 0.6, count),
    )
    groups = [galaxies, stars(rng.poisson(STARS_PER_ARCMIN2 * area), ((15, 0), (26, 2)))]
    if crowding:
        groups.append(stars(rng.poisson(crowding * area), ((16, 0), (20, 1.5), (26.5, 4.0))))
    return merge(*groups)


def _star_profile(dx: np.ndarray, dy: np.ndarray, flux: np.ndarray) -> np.ndarray:
    """Surface brightness of stars at pixel offsets dx, dy (broadcast), DN/s per pixel."""
    root = np.sqrt(2) * CORE_SIGMA
    along_x = 0.5 * (erf((dx + 0.5) / root) - erf((dx - 0.5) / root))
    along_y = 0.5 * (erf((dy + 0.5) / root) - erf((dy - 0.5) / root))
    r2 = (dx**2 + dy**2) / WING_SCALE**2 + 1
    wings = WING_FRACTION / (2 * np.pi * WING_SCALE**2) / (r2 * np.sqrt(r2))
    return flux * ((1 - WING_FRACTION) * along_x * along_y + wings)


def _spikes(dx: np.ndarray, dy: np.ndarray, flux: np.ndarray) -> np.ndarray:
    """Diffraction spikes: three lines through the star, DN/s per pixel."""
    peak = SPIKE_FRACTION / 3 / (np.sqrt(2 * np.pi) * SPIKE_WIDTH * np.pi * SPIKE_SCALE)
    light = 0.0
    for angle in np.radians([30, 90, 150]):
        along = dx * np.cos(angle) + dy * np.sin(angle)
        across = dx * np.sin(angle) - dy * np.cos(angle)
        light = light + np.exp(-0.5 * (across / SPIKE_WIDTH) ** 2) / (
            1 + (along / SPIKE_SCALE) ** 2
        )
    return flux * peak * light


def _galaxy_profile(
    dx: np.ndarray,
    dy: np.ndarray,
    flux: np.ndarray,
    radius: np.ndarray,
    axis_ratio: np.ndarray,
    angle: np.ndarray,
) -> np.ndarray:
    """Exponential discs, widened by the point spread function, DN/s per pixel."""
    cos, sin = np.cos(angle), np.sin(angle)
    soft2 = CORE_SIGMA**2 + 1 / 12  # variance of the core and of the pixel
    major2, minor2 = radius**2 + soft2, (radius * axis_ratio) ** 2 + soft2
    major = (dx * cos + dy * sin) ** 2 / major2
    minor = (dy * cos - dx * sin) ** 2 / minor2
    centre = soft2 / major2
    light = np.exp(-1.678 * np.sqrt(major + minor + centre))
    # The stamp of a large one may be cut by the edge of the field; its integral is not.
    depth = 1.678 * np.sqrt(centre)
    integral = 2 * np.pi * np.sqrt(major2 * minor2) * (1 + depth) * np.exp(-depth) / 1.678**2
    total = np.where(radius > WIDE_DISC, integral, light.sum(axis=(-2, -1), keepdims=True))
    return flux * light / total


def _stamp_half_widths(sources: Sources, edge: float) -> np.ndarray:
    """Half-width in pixels at which each source has fallen to `edge`, DN/s per pixel."""
    wing = (WING_FRACTION * WING_SCALE * sources.flux / (2 * np.pi * edge)) ** (1 / 3)
    scale = np.maximum(sources.radius, 0.7) / 1.678
    centre = sources.flux / (2 * np.pi * scale**2 * sources.axis_ratio)
    disc = scale * np.log(np.maximum(centre / edge, 2))
    return np.ceil(np.where(sources.radius > 0, disc, wing)).astype(int) + 2


def _stamps(
    dx: np.ndarray, dy: np.ndarray, sources: Sources, chosen: np.ndarray | int, star: bool
) -> np.ndarray:
    """Stamps of the chosen sources, stacked along the first axis."""
    columns = (np.asarray(c[chosen])[..., np.newaxis, np.newaxis] for c in sources[2:6])
    flux, radius, axis_ratio, angle = (c.astype(np.float32) for c in columns)
    if star:
        return _star_profile(dx, dy, flux)
    return _galaxy_profile(dx, dy, flux, radius, axis_ratio, angle)


def render(
    sources: Sources, x: np.ndarray, y: np.ndarray, npix: int, *, edge: float = STAMP_EDGE
) -> np.ndarray:
    """The direct image of sources, and the same with each source times its spectral slope.

    Parameters
    ----------
    sources : Sources
    x, y : ndarray
        Positions in detector pixels, 0 at the centre of the first pixel.
    npix : int
        Side of the detector in pixels.
    edge : float
        Surface brightness, DN/s per pixel, at which the image of a source is cut off.

    Returns
    -------
    ndarray, float32, shape (2, npix + 2 margin, npix + 2 margin)
        DN/s per pixel of the extended field.
    """
    size = npix + 2 * field_margin(npix)
    pad = LARGEST_STAMP + 1
    side = size + 2 * pad
    canvas = np.zeros((2, side * side), np.float32)
    x, y = x + field_margin(npix) + pad, y + field_margin(npix) + pad
    half = _stamp_half_widths(sources, edge)
    star = sources.radius == 0
    small = half <= LARGEST_STAMP
    from_centre = np.maximum(np.abs(x - side / 2), np.abs(y - side / 2))
    inside = small & (from_centre < size / 2)
    column, row = np.rint(x).astype(int), np.rint(y).astype(int)
    # Sizes grow in steps of about a quarter, so that many stamps have the same shape.
    steps = np.unique(np.minimum(np.rint(1.25 ** np.arange(6, 19)).astype(int), LARGEST_STAMP))
    step_of = np.searchsorted(steps, np.minimum(half, LARGEST_STAMP))
    for is_star, step in {(s, k) for s, k in zip(star[inside], step_of[inside], strict=True)}:
        members = np.flatnonzero(inside & (star == is_star) & (step_of == step))
        grid = np.arange(-steps[step], steps[step] + 1)
        batch = max(BATCH_PIXELS // grid.size**2, 1)
        for first in range(0, members.size, batch):
            chosen = members[first : first + batch]
            dx = (grid - (x - column)[chosen, np.newaxis]).astype(np.float32)[:, np.newaxis, :]
            dy = (grid - (y - row)[chosen, np.newaxis]).astype(np.float32)[:, :, np.newaxis]
            stamps = _stamps(dx, dy, sources, chosen, is_star)
            index = (row[chosen, np.newaxis] + grid)[:, :, np.newaxis] * side
            index = index + (column[chosen, np.newaxis] + grid)[:, np.newaxis, :]
            _add(canvas, index, stamps, sources.slope[chosen])

    image = canvas.reshape(2, side, side)
    for k in np.flatnonzero(~small):
        columns = slice(max(column[k] - half[k], 0), max(column[k] + half[k] + 1, 0))
        rows = slice(max(row[k] - half[k], 0), max(row[k] + half[k] + 1, 0))
        dx = (np.arange(side)[np.newaxis, columns] - x[k]).astype(np.float32)
        dy = (np.arange(side)[rows, np.newaxis] - y[k]).astype(np.float32)
        if not dx.size or not dy.size:
            continue
        light = _stamps(dx, dy, sources, k, star[k])
        if star[k] and sources.flux[k] > SPIKE_FLUX:
            light += _spikes(dx, dy, np.float32(sources.flux[k]))
        image[0, rows, columns] += light
        image[1, rows, columns] += np.float32(sources.slope[k]) * light
    return image[:, pad:-pad, pad:-pad]


def _add(canvas: np.ndarray, index: np.ndarray, stamps: np.ndarray, slope: np.ndarray) -> None:
    """Add stamps, and stamps times slope, to the flattened canvases at the given indices."""
    np.add.at(canvas[0], index, stamps)
    np.add.at(canvas[1], index, stamps * slope[:, np.newaxis, np.newaxis].astype(np.float32))


def emission_lines(
    sources: Sources,
    x: np.ndarray,
    y: np.ndarray,
    mirror: np.ndarray,
    combination: tuple[str, str],
    npix: int,
    rotation: float = 0.0,
) -> np.ndarray:
    """First-order images of the emission lines of the sources.

    Parameters
    ----------
    sources : Sources
    x, y : ndarray
        Positions in the direct image in detector pixels.
    mirror : ndarray, shape (npix + 2 margin, npix + 2 margin)
        Transmission of the pick-off mirror.
    combination : (str, str)
        Grism and blocking filter.
    npix : int
        Side of the detector in pixels.
    rotation : float
        Angle, in deg, by which the grism is turned.

    Returns
    -------
    ndarray, float32, shape (npix, npix)
        DN/s on the detector.
    """
    margin = field_margin(npix)
    samples = trace_samples(*combination, npix, rotation)
    along, across, wavelength, fraction, _ = samples[:, samples[4] == 1]
    order = np.argsort(wavelength)
    shift_x = np.interp(sources.line_wavelength, wavelength[order], along[order])
    shift_y = np.interp(sources.line_wavelength, wavelength[order], across[order])
    if combination[0] == "GR150R":
        shift_x, shift_y = shift_y, shift_x
    column, row = np.rint(x).astype(int) + margin, np.rint(y).astype(int) + margin
    on_mirror = (np.minimum(column, row) >= 0) & (np.maximum(column, row) < mirror.shape[0])
    chosen = np.flatnonzero(on_mirror & (sources.line * sources.flux > 0.02))
    passed = mirror[row[chosen], column[chosen]] * fraction.sum()
    lines = Sources(*(c[chosen] for c in sources))
    lines = lines._replace(flux=lines.flux * lines.line * passed)
    image = render(lines, (x + shift_x)[chosen], (y + shift_y)[chosen], npix)[0]
    return image[margin : margin + npix, margin : margin + npix]
