"""From normalised exposures to a background: combine, refine, destripe.

What `wfssbkg.combine`, `refine` and `stripes` do to arrays is here done to all exposures of a
combination, by many workers in bounded memory.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from wfssbkg import StepError, cells, combine, fields, parallel, refine, stripes
from wfssbkg.config import Combine, Config
from wfssbkg.sample import Exposure

WORKER_GB = 0.6  # with one full frame, or the cells of a field, and what is made of it; measured


def combine_all(
    config: Config,
    members: list[Exposure],
    common: np.ndarray | None,
    *,
    in_cells: bool = False,
    bands: list[slice] | None = None,
    description: str = "combining",
) -> list[np.ndarray]:
    """
    Combine exposures, or their cells, in as many bands of rows as the memory asks for.

    Parameters
    ----------
    config : `~wfssbkg.config.Config`
    members : list of `~wfssbkg.sample.Exposure`
    common : (4, columns) array or None
        As for `Exposure.read`.
    in_cells : bool
        Combine their cells instead of their pixels.
    bands : list of slice, optional
        Only these rows; default: all.
    description : str
        For the progress bar.

    Returns
    -------
    background, uncertainty : (ny, nx) float32 arrays
    number : (ny, nx) int16 array
        Exposures that count.
    bad : (ny, nx) bool array
        Pixels that are bad in all exposures.
    information : (bands, n) float array
        In each exposure, as for `wfssbkg.combine.shares`.
    """
    workers, _ = parallel.capacity(config.compute)
    bands = bands or all_bands(config, members, in_cells=in_cells)
    size = -(-len(bands) // (2 * workers))
    parts = [bands[first : first + size] for first in range(0, len(bands), size)]
    jobs = [(part, members, common, config.combine, in_cells) for part in parts]
    options = {"compute": config.compute, "description": description, "unit": "part"}
    results = parallel.run_in_order(combine_bands, jobs, **options)
    return [np.concatenate(images) for images in zip(*results, strict=True)]


def all_bands(
    config: Config, members: list[Exposure], *, in_cells: bool, every: int = 1
) -> list[slice]:
    """
    Bands of rows that fit into the memory, from the first row to the last.

    With `every`, only those in one of so many blocks of rows: the same, whatever the memory.
    """
    rows, columns = members[0].cells_shape if in_cells else members[0].shape
    workers, memory_gb = parallel.capacity(config.compute)
    memory = combine.band_memory(memory_gb, workers)
    bands = []
    for first in range(0, rows, every * combine.BAND_ROWS):
        block = min(combine.BAND_ROWS, rows - first)
        for band in combine.bands(block, columns, len(members), memory, step=cells.SIZE):
            bands.append(slice(first + band.start, first + band.stop))
    return bands


def combine_bands(bands: list[slice], *others: Any) -> list[np.ndarray]:
    """Some bands, one below the other, of what `combine_all` returns."""
    results = [combine_band(rows, *others) for rows in bands]
    return [np.concatenate(images) for images in zip(*results, strict=True)]


def combine_band(
    rows: slice,
    members: list[Exposure],
    common: np.ndarray | None,
    settings: Combine,
    in_cells: bool,
) -> tuple[np.ndarray, ...]:
    """Some rows of what `combine_all` returns."""
    columns = (members[0].cells_shape if in_cells else members[0].shape)[1]
    values, noise = np.empty((2, len(members), rows.stop - rows.start, columns), dtype=np.float32)
    bad = np.ones(values.shape[1:], dtype=bool)
    information = np.empty((1, len(members)))
    weighted = settings.estimator == "weighted_mean"
    for number, exposure in enumerate(members):
        read = exposure.read_cells if in_cells else exposure.read
        values[number], noise[number], unusable = read(rows, common)
        bad &= unusable
        some = noise[number, :: cells.SIZE]  # enough to tell the shares
        counted = 1 / np.square(some) if weighted else np.isfinite(some)
        information[0, number] = np.nansum(counted, dtype=np.float64)
    if weighted:
        return *combine.weighted_mean(values, noise, settings.clip_sigma), bad, information
    clip_sigma = settings.clip_sigma if settings.estimator == "clipped_median" else None
    return *combine.median(values, noise, clip_sigma=clip_sigma), bad, information


def refine_all(
    config: Config,
    members: list[Exposure],
    sky: np.ndarray,
    common: np.ndarray | None,
    fluxes: np.ndarray,
    *,
    description: str = "refining",
) -> Iterator[tuple[Exposure, refine.Findings | StepError]]:
    """
    Find sources and stripes in each exposure minus the background so far.

    Parameters
    ----------
    config : `~wfssbkg.config.Config`
    members : list of `~wfssbkg.sample.Exposure`
        Their levels are fitted anew, and their refined files written.
    sky : (ny, nx) float32 array
        The cells of the background so far.
    common : (4, nx) array or None
        As for `Exposure.read_cells`.
    fluxes : (k,) float array
        From `wfssbkg.refine.fluxes_to_count`.
    description : str
        For the progress bar.

    Yields
    ------
    exposure : `~wfssbkg.sample.Exposure`
    outcome : `~wfssbkg.refine.Findings` or StepError
        In the order in which they are done.
    """
    groups = fields.group([e.pointing for e in members], most=refine.MOST_EXPOSURES)
    jobs = [
        ([members[k] for k in numbers], offsets, sky, common, fluxes, config.combine)
        for numbers, offsets in groups
    ]
    options = {"compute": config.compute, "need_gb": WORKER_GB, "unit": "field"}
    for (field, *_), outcomes in parallel.run(
        refine.refine_field, jobs, description=description, **options
    ):
        if isinstance(outcomes, StepError):
            outcomes = [outcomes] * len(field)
        for exposure, outcome in zip(field, outcomes, strict=True):
            if not isinstance(outcome, StepError):
                exposure.level = outcome.level
                exposure.findings.replace(exposure.refined)
            yield exposure, outcome


def difference_of_halves(config: Config, members: list[Exposure], common: np.ndarray) -> float:
    """
    The error that sources leave in the background, beyond the noise.

    It shows in the difference of the backgrounds of two halves of the fields.
    """
    groups = fields.units([e.pointing for e in members])
    information = np.array([(e.level / e.noise) ** 2 for e in members])
    halves = fields.share_out(groups, information, 2)
    weights = [information[half].sum() for half in halves]
    if not all(halves):
        return 0.0
    bands = all_bands(config, members, in_cells=True, every=4)  # enough to tell how large it is
    (one, one_err, *_), (other, other_err, *_) = (
        combine_all(config, [members[k] for k in half], common, in_cells=True, bands=bands)
        for half in halves
    )
    widths = (cells.SIZE, 1) if members[0].along_x else (1, cells.SIZE)
    excess = combine.excess(one - other, np.hypot(one_err, other_err), widths)
    # The difference has the errors of both halves, the mean that of both together.
    return excess * float(np.sqrt(weights[0] * weights[1]) / sum(weights))


def destripe(config: Config, sci: np.ndarray, chance: np.ndarray | None, *, along_x: bool) -> float:
    """
    Take out the stripes that are left in a combined background, in place.

    Parameters
    ----------
    config : `~wfssbkg.config.Config`
    sci : (ny, nx) float32 array
    chance : (4, columns) array or None
        From `wfssbkg.stripes.common`.
    along_x : bool
        Whether the grism disperses along x.

    Returns
    -------
    float
        The error that stripes still leave; 0 if `chance` is None.
    """
    if chance is not None and along_x:
        chance = cells.expand(chance, along_x=True)
    if not config.combine.remove_stripes:
        return 0.0 if chance is None else float(np.std(chance))
    noise = stripes.of_background(sci, along_x=along_x)
    sci *= 1 - stripes.spread(noise, len(sci))
    if chance is None:
        return 0.0
    return stripes.error_left(sci, chance, along_x=along_x)
