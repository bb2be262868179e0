"""From a combined background to a finished one: denoise, fill.

What `wfssbkg.denoise` does to arrays is here done to a background, by many workers.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from wfssbkg import denoise, parallel, products
from wfssbkg.config import Config, Finalize
from wfssbkg.products import Background


def denoise_tile(tile: np.ndarray, typical: float, settings: Finalize) -> np.ndarray:
    """Some rows of a background without noise."""
    return denoise.denoise(
        tile,
        typical,
        patch_size=settings.patch_size,
        patch_distance=settings.patch_distance,
        strength=settings.strength,
        discount=settings.noise == "propagated",
    )


def denoise_background(
    config: Config, sci: np.ndarray, err: np.ndarray
) -> tuple[np.ndarray, float]:
    """
    A background without noise, in tiles, and what share of the noise is left.

    Parameters
    ----------
    config : `~wfssbkg.config.Config`
    sci, err : (ny, nx) float32 arrays
        Without the reference pixels; NaN where there is no value.

    Returns
    -------
    smooth : (ny, nx) float32 array
        NaN where there was no value.
    left : float
    """
    settings = config.finalize
    ready, typical = denoise.prepare(sci, err, noise=settings.noise)
    sizes = {"patch_size": settings.patch_size, "patch_distance": settings.patch_distance}
    reach = denoise.reach(**sizes)
    smooth = _in_tiles(config, denoise_tile, ready, reach, "denoising", typical, settings)
    # What becomes of noise shows when it is added to parts that are free of it.
    trials = denoise.trials(smooth, typical, **sizes)
    jobs = [(noisy, typical, settings) for _, noisy in trials]
    options = {"compute": config.compute, "description": "uncertainty", "unit": "tile"}
    again = parallel.run_in_order(denoise_tile, jobs, **options)
    before = [clean for clean, _ in trials]
    left = denoise.noise_left(before, again, **sizes) / typical
    return np.where(np.isfinite(sci), smooth, np.nan), left


def _in_tiles(
    config: Config,
    function: Callable[..., np.ndarray],
    image: np.ndarray,
    reach: int,
    description: str,
    *others: Any,
) -> np.ndarray:
    """What `function(tile, *others)`, which looks `reach` px around, makes of an image."""
    tiles = list(denoise.tiles(len(image), reach))
    jobs = [(image[taken], *others) for taken, _ in tiles]
    options = {"compute": config.compute, "description": description, "unit": "tile"}
    parts = parallel.run_in_order(function, jobs, **options)
    return np.concatenate([part[kept] for part, (_, kept) in zip(parts, tiles, strict=True)])


def finish(config: Config, combined: Background) -> Background:
    """
    A combined background without noise and without gaps, scaled to a median of 1.

    Parameters
    ----------
    config : `~wfssbkg.config.Config`
    combined : `~wfssbkg.products.Background`

    Returns
    -------
    `~wfssbkg.products.Background`
        With its uncertainty; 0 in the reference pixels.
    """
    inner = products.inner_pixels()
    smooth, left = denoise_background(config, combined.sci[inner], combined.err[inner])
    # Where fewer exposures count, what they leave of sources and stripes grows as the noise does.
    typical = np.nanmedian(combined.err[inner])
    err = combined.err[inner] * np.hypot(left, combined.systematic / typical)
    # Next to nothing is known of a filled pixel: no more than of one before denoising.
    err[np.isnan(err)] = typical
    sci, uncertainty = np.full((2, *combined.sci.shape), np.nan, dtype=np.float32)
    size = config.finalize.fill_size
    reach = denoise.fill_reach(smooth, size)
    sci[inner] = _in_tiles(config, denoise.fill, smooth, reach, "filling", size)
    uncertainty[inner] = err
    return products.finished(sci, uncertainty, combined)
