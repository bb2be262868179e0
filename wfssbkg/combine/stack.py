"""Many exposures combined into one image, by many workers in bounded memory."""

from collections.abc import Iterator

import numpy as np

from wfssbkg.combine import average, bins, fields
from wfssbkg.combine.exposure import Common, Exposure
from wfssbkg.config import Combine
from wfssbkg.run.parallel import Workers

# Bytes a pixel of one exposure takes while a band is combined: values and noise in float32, the
# mask, the normalised copies, and the estimator's own copy.
BYTES_PER_PIXEL = 24
# Higher bands are not faster: memory that is used again is faster than new memory.
BAND_PIXELS = 64 * 2048


def combine_all(
    workers: Workers,
    settings: Combine,
    members: list[Exposure],
    common: Common | None,
    *,
    binned: bool = False,
    description: str = "combining",
) -> list[np.ndarray]:
    """
    Combine exposures, or their bins, in as many bands of rows as the memory asks for.

    Parameters
    ----------
    workers : `~wfssbkg.run.parallel.Workers`
    settings : Combine
    members : list of `~wfssbkg.combine.exposure.Exposure`
    common : `~wfssbkg.combine.exposure.Common` or None
        As for `Exposure.read`.
    binned : bool
        Combine their bins instead of their pixels.
    description : str
        For the progress bar.

    Returns
    -------
    background, uncertainty : (ny, nx) float32 arrays
    number : (ny, nx) int16 array
        Exposures that count.
    bad : (ny, nx) bool array
        Pixels that are bad in all exposures.
    pointings : (ny, nx) int16 array
        Distinct pointings of the exposures that count.
    information : (bands, n) float array
        In each exposure, as for `wfssbkg.combine.average.shares`.
    """
    rows, columns = members[0].bins_shape if binned else members[0].shape
    memory = _band_memory(workers)
    information = np.array([(exposure.level / exposure.noise) ** 2 for exposure in members])
    groups = fields.units([exposure.pointing for exposure in members])
    factors = fields.limited(groups, information)
    jobs = [
        (band, members, factors, common, settings, binned)
        for band in bands(rows, columns, len(members), memory, step=bins.SIZE)
    ]
    results = workers.run_in_order(combine_band, jobs, description=description, unit="bands")
    return [np.concatenate(images) for images in zip(*results, strict=True)]


def bands(
    rows: int,
    columns: int,
    exposures: int,
    memory_bytes: float,
    *,
    step: int = 1,
) -> Iterator[slice]:
    """
    Slices of rows that fit into memory for all exposures at once; of about `BAND_PIXELS` at most.

    Parameters
    ----------
    rows, columns : int
        Size of the frame.
    exposures : int
    memory_bytes : float
        What one band may take.
    step : int
        The heights are multiples of this, but for the last.

    Yields
    ------
    slice
        From the first row to the last, without a gap; at least `step` rows each.
    """
    most = min(memory_bytes / (BYTES_PER_PIXEL * max(exposures, 1)), BAND_PIXELS)
    height = max(int(most / columns) // step * step, step)
    for first in range(0, rows, height):
        yield slice(first, min(first + height, rows))


def _band_memory(workers: Workers) -> float:
    """Bytes one worker may use for a band."""
    # What Python and its libraries take, in each worker and in the main process with its frames.
    overhead = 0.25e9 * workers.number + 0.5e9
    return max(workers.memory_gb * 1e9 - overhead, 0.1e9) / workers.number


def combine_band(
    rows: slice,
    members: list[Exposure],
    factors: np.ndarray,
    common: Common | None,
    settings: Combine,
    binned: bool,
) -> tuple[np.ndarray, ...]:
    """Some rows of what `combine_all` returns; the weights of the members are times `factors`."""
    columns = (members[0].bins_shape if binned else members[0].shape)[1]
    values, noise = np.empty((2, len(members), rows.stop - rows.start, columns), dtype=np.float32)
    bad = np.ones(values.shape[1:], dtype=bool)
    information = np.empty((1, len(members)))
    weighted = settings.estimator == "weighted_mean"
    for number, exposure in enumerate(members):
        read = exposure.read_bins if binned else exposure.read
        values[number], noise[number], unusable = read(rows, common)
        if weighted:
            noise[number] /= np.sqrt(np.float32(factors[number]))
        bad &= unusable
        some_rows = noise[number, :: bins.SIZE]  # enough to tell the shares
        counted = 1 / np.square(some_rows) if weighted else np.isfinite(some_rows)
        information[0, number] = np.nansum(counted, dtype=np.float64)
    pointings = distinct_pointings(np.isfinite(noise), [each.place for each in members])
    if weighted:
        combined = average.weighted_mean(values, noise, settings.clip_sigma)
    else:
        clip_sigma = settings.clip_sigma if settings.estimator == "clipped_median" else None
        combined = average.median(values, noise, clip_sigma=clip_sigma)
    return *combined, bad, pointings, information


def distinct_pointings(counts: np.ndarray, places: list[int]) -> np.ndarray:
    """
    How many distinct pointings the exposures have that count in each pixel.

    Parameters
    ----------
    counts : (n, ny, nx) bool array
        Where each exposure counts.
    places : list of int
        The number of the pointing of each exposure.

    Returns
    -------
    (ny, nx) int16 array
    """
    number = np.zeros(counts.shape[1:], dtype=np.int16)
    for place in set(places):
        number += counts[np.equal(places, place)].any(axis=0)
    return number
