"""From a combined background to a finished one: denoised and filled, by many workers."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np

from wfssbkg.config import Finalize
from wfssbkg.detector import inner_pixels, science_pixels
from wfssbkg.files import reference_file
from wfssbkg.files.combined_background import Background
from wfssbkg.finalize import denoise, fill
from wfssbkg.run.parallel import Workers

# An eighth of a frame; fixed, so that the result does not depend on the number of workers.
TILE_ROWS = 255
# The error of a finished pixel grows with the uncertainty of the combined one to this power, on
# simulated archives: denoising takes what is noisier from around, and exposures have errors in
# common.
_GROWTH = 0.75


def finish(workers: Workers, settings: Finalize, combined: Background) -> Background:
    """
    A combined background without noise and without gaps, scaled to a median of 1.

    Parameters
    ----------
    workers : `~wfssbkg.run.parallel.Workers`
    settings : `~wfssbkg.config.Finalize`
    combined : `~wfssbkg.files.combined_background.Background`

    Returns
    -------
    `~wfssbkg.files.combined_background.Background`
        With its uncertainty; 0 in the reference pixels.
    """
    inner = inner_pixels()
    sci, err = np.full((2, *combined.sci.shape), np.nan, dtype=np.float32)
    ready, typical = denoise.prepare(combined.sci[inner], combined.err[inner], noise=settings.noise)
    reach = denoise.reach(settings)
    smooth = _in_tiles(workers, denoise.denoise, ready, reach, "denoising", typical, settings)
    left = denoise.noise_left(smooth, typical, settings)
    smooth[~np.isfinite(combined.sci[inner])] = np.nan
    reach = fill.reach(smooth, settings.fill_size)
    sci[inner] = _in_tiles(workers, fill.fill, smooth, reach, "filling", settings.fill_size)
    err[inner] = _uncertainty(combined.err[inner], left, combined.systematic)
    return scaled(sci, err, combined)


def _in_tiles(
    workers: Workers,
    function: Callable[..., np.ndarray],
    image: np.ndarray,
    reach: int,
    description: str,
    *others: Any,
) -> np.ndarray:
    """What `function(tile, *others)`, which looks `reach` px around, makes of an image."""
    parts = list(tiles(len(image), reach))
    jobs = [(image[taken], *others) for taken, _ in parts]
    made = workers.run_in_order(function, jobs, description=description, unit="tiles")
    return np.concatenate([part[kept] for part, (_, kept) in zip(made, parts, strict=True)])


def tiles(rows: int, margin: int) -> Iterator[tuple[slice, slice]]:
    """
    Cut an image into tiles that can be worked on apart.

    Parameters
    ----------
    rows : int
        Rows of the image.
    margin : int
        How far the work reaches from a pixel, px.

    Yields
    ------
    taken, inner : slice
        The rows to work on, and which of them to keep.
    """
    for first in range(0, rows, TILE_ROWS):
        last = min(first + TILE_ROWS, rows)
        taken = slice(max(first - margin, 0), min(last + margin, rows))
        yield taken, slice(first - taken.start, last - taken.start)


def _uncertainty(err: np.ndarray, left: float, systematic: float) -> np.ndarray:
    """
    The uncertainty of a finished background, from that of the combined one, `err`.

    `left` is the share of the noise that denoising leaves, `systematic` the error that many pixels
    share. Where fewer exposures count, both grow (`_GROWTH`). A filled pixel, where `err` is NaN,
    has those of a typical one: most are alone, and known from their surroundings.
    """
    typical = np.nanmedian(err)
    relative = np.where(np.isnan(err), 1, err / typical)
    return relative**_GROWTH * np.hypot(left * typical, systematic)


def scaled(smooth: np.ndarray, err: np.ndarray, background: Background) -> Background:
    """
    Scale a denoised, filled background to a median of 1 and blank its reference pixels.

    Parameters
    ----------
    smooth, err : (ny, nx) float arrays
    background : `~wfssbkg.files.combined_background.Background`
        The combined one; the median is taken over the pixels in which it has exposures.

    Returns
    -------
    `~wfssbkg.files.combined_background.Background`
    """
    science = science_pixels(smooth.shape)
    scale = np.median(smooth[science & (background.number > 0)])
    sci, err = (np.where(science, x / scale, 0).astype(np.float32) for x in (smooth, err))
    return replace(background, sci=sci, err=err)


def flags(background: Background, *, fewest: int, pointings: int) -> np.ndarray:
    """
    The data-quality flags of a background.

    Parameters
    ----------
    background : `~wfssbkg.files.combined_background.Background`
    fewest : int
        A pixel in which fewer exposures count gets a flag.
    pointings : int
        So does one in which exposures of fewer distinct pointings count.

    Returns
    -------
    (ny, nx) uint32 array
        Bits of `wfssbkg.files.reference_file`.
    """
    science = science_pixels(background.number.shape)
    dq = np.where(science, np.uint32(0), np.uint32(reference_file.REFERENCE))
    for flag, where in (
        (reference_file.FILLED, background.number == 0),
        (reference_file.FEW, (background.number > 0) & (background.number < fewest)),
        (reference_file.BAD, background.bad),
        (reference_file.SAME, (background.number > 0) & (background.pointings < pointings)),
    ):
        dq[science & where] |= np.uint32(flag)
    return dq
