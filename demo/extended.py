"""Extended light on the sky: large galaxies, light within clusters, unresolved starlight.

It is as bright on small frames as on full ones, and smaller with them.
"""

import math

import numpy as np
from scipy.ndimage import gaussian_filter, shift

from demo.optics import PIXEL_SCALE, field_margin, frame_scale
from demo.scene import CORE_SIGMA, LARGEST_DITHER, Sources, flux_of, pointing_wcs

GALAXY_RADIUS = (5.0, 20.0)  # arcsec, half-light
GALAXY_MAGNITUDE = (15.0, 18.0)  # AB
CLUSTER_RADIUS = (20.0, 40.0)  # arcsec, half-light
LUMPY_SHARE = 0.3  # of the starlight is in single faint stars,
STARS_PER_PIXEL = 30.0  # which are too many to be told apart, or to be found by any mask
# Over half of the field: less, and the light cannot be told from zodiacal light by its shape; more,
# and it is easily found.
GRADIENT = (0.03, 0.12)


def large_sources(
    rng: np.random.Generator,
    centre: tuple[float, float, float],
    npix: int,
    galaxies: int,
    cluster_light: float,
) -> Sources:
    """Large galaxies, and the light within a cluster, of a field.

    Parameters
    ----------
    rng : numpy Generator
    centre : (float, float, float)
        Right ascension, declination and position angle of the field, deg.
    npix : int
        Side of the detector in pixels.
    galaxies : int
        Number of galaxies.
    cluster_light : float
        Central surface brightness of the light within the cluster, DN/s per pixel.

    Returns
    -------
    Sources
        The galaxies, then the light within the cluster, all as exponential discs.
    """
    scale, count = frame_scale(npix), galaxies + 1
    place = rng.uniform(-0.45, 0.45, (2, count))
    place[:, -1] *= 0.5
    ra, dec = pointing_wcs(*centre, npix).all_pix2world(*((place + 0.5) * npix), 0)
    radius = np.append(rng.uniform(*GALAXY_RADIUS, galaxies), rng.uniform(*CLUSTER_RADIUS))
    radius *= scale / PIXEL_SCALE
    axis_ratio = rng.uniform(0.4, 1, count)
    flux = flux_of(rng.uniform(*GALAXY_MAGNITUDE, count)) * scale**2
    flux[-1] = cluster_light * 2 * np.pi * (radius[-1] / 1.678) ** 2 * axis_ratio[-1]
    angle, none = rng.uniform(0, np.pi, count), np.zeros(count)
    slope = np.clip(rng.normal(0.1, 0.2, count), -0.8, 0.8)
    return Sources(ra, dec, flux, radius, axis_ratio, angle, slope, none, none)


def starlight(
    rng: np.random.Generator, level: float, npix: int, offset: tuple[float, float]
) -> np.ndarray:
    """The direct image of a part of a near galaxy: a gradient, and stars that nobody resolves.

    Parameters
    ----------
    rng : numpy Generator
        The same for all dithers of a field.
    level : float
        Mean surface brightness, DN/s per pixel.
    npix : int
        Side of the detector in pixels.
    offset : (float, float)
        Where the centre of the field is in the image, x and y from the centre of the detector,
        pixels.

    Returns
    -------
    ndarray, float32, shape (npix + 2 margin, npix + 2 margin)
        DN/s per pixel of the extended field, before the mirror.
    """
    pad = math.ceil(LARGEST_DITHER / PIXEL_SCALE)
    size = npix + 2 * (field_margin(npix) + pad)
    u = np.linspace(-1, 1, size, dtype=np.float32)
    x, y = u[np.newaxis, :], u[:, np.newaxis]
    slope_x, slope_y, bend = rng.uniform(*GRADIENT, 3) * rng.choice([-1, 1], 3)
    smooth = 1 + slope_x * x + slope_y * y + bend * (x**2 + y**2 - 2 / 3)
    density = STARS_PER_PIXEL / frame_scale(npix)  # shorter traces average over fewer pixels
    stars = rng.standard_gamma(rng.poisson(density * smooth)) / density
    stars = gaussian_filter(stars.astype(np.float32), CORE_SIGMA)
    light = level * ((1 - LUMPY_SHARE) * smooth + LUMPY_SHARE * stars)
    moved = shift(light, offset[::-1], order=1, mode="nearest")
    return moved[pad:-pad, pad:-pad].astype(np.float32)
