"""What an exposure shows when the background so far is subtracted from it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from wfssbkg import StepError, cells, combine, masked, stripes, traces
from wfssbkg.config import Combine
from wfssbkg.sample import Exposure

MOST_EXPOSURES = 8  # of a field, searched for faint light together
# Structure that sources too faint to mask leave in a clean exposure, in units of a pixel's noise,
# is at most 0.07 (simulated, 48 exposures); of scattered light, 0.2.
UNMASKED = 0.1
COUNTED = 5.0  # sigma of the average over a trace; sources brighter than this are counted


@dataclass
class Findings:
    """What was found in an exposure.

    Attributes
    ----------
    level : float
        Fitted to the background, DN/s.
    structure : float
        How much it differs from the background on large scales, relative to its level.
    sources : int
        Number of sources brighter than a flux that all exposures share.
    stripes, information : (4, columns) float32 arrays
        Its 1/f noise relative to its level, and 1/noise^2 of that.
    """

    level: float
    structure: float
    sources: int
    stripes: np.ndarray
    information: np.ndarray


def refine_field(
    members: list[Exposure],
    offsets: list[tuple[float, float]],
    background: np.ndarray,
    common: np.ndarray | None,
    flux: float,
    settings: Combine,
) -> list[Findings | StepError]:
    """
    Find sources and stripes in the dithers of a field, and write them to their refined files.

    Parameters
    ----------
    members : list of Exposure
    offsets : list of (float, float)
        From `wfssbkg.fields.group`.
    background : (ny, nx) float array
        Of cells; NaN where it is not known.
    common : (4, nx) array or None
        As for `Exposure.read_cells`.
    flux : float
        Sources of which the average over a trace is brighter are counted, DN/s.
    settings : Combine

    Returns
    -------
    list of Findings or StepError
        One for each member.
    """
    outcomes: list[Findings | StepError] = []
    residuals, places, pending = [], [], []
    for exposure, (y, x) in zip(members, offsets, strict=True):
        try:
            findings, residual, weight, source = _examine(
                exposure, background, common, flux, settings
            )
        except StepError as error:
            outcomes.append(error)
            continue
        outcomes.append(findings)
        residuals.append((residual, np.where(source, 0, weight)))
        places.append((y, x) if exposure.along_x else (x, y))
        pending.append((exposure, findings, source))
    if not pending:
        return outcomes
    light = traces.faint_light(
        residuals, places, scale=settings.trace_scales[0], threshold=settings.faint_threshold
    )
    for (exposure, findings, source), faint in zip(pending, light, strict=True):
        source, faint = (_turned(image, exposure.along_x) for image in (source, faint))
        noise = findings.stripes * np.float32(findings.level)
        masked.write_refined(exposure.refined, source, faint, noise)
    return outcomes


def _examine(
    exposure: Exposure,
    background: np.ndarray,
    common: np.ndarray | None,
    flux: float,
    settings: Combine,
) -> tuple[Findings, np.ndarray, np.ndarray, np.ndarray]:
    """Findings; and residual, weight and sources, with the dispersion along the second axis."""
    everything = slice(None)
    value, counts = exposure.read_cells(everything, common)
    level = combine.fit_level(value, counts, background)
    value, weight = masked.read_cells(exposure.cells)
    light = masked.read_refined(exposure.refined)[1]
    residual = value - np.float32(level) * background
    weight = np.where(np.isfinite(residual), weight, 0)
    residual = np.where(weight > 0, residual, 0)

    noise, information = stripes.of_exposure(residual - light, np.where(weight > 0, counts, 0))
    noise *= settings.remove_stripes
    residual -= stripes.spread(noise, len(residual))

    residual, weight = (_turned(image, exposure.along_x) for image in (residual, weight))
    source, number = traces.find(
        residual,
        weight,
        scales=settings.trace_scales,
        threshold=settings.trace_threshold,
        depth=settings.trace_depth,
        flux=flux,
    )
    box = settings.structure_box, settings.structure_box // cells.SIZE
    structure = combine.structure(residual, np.where(source, 0, weight), box=box)
    findings = Findings(
        level=level,
        structure=structure / level,
        sources=number,
        stripes=noise / np.float32(level),
        information=information * np.float32(level) ** 2,
    )
    return findings, residual, weight, source


def _turned(image: np.ndarray, along_x: bool) -> np.ndarray:
    """Cells with the dispersion along the second axis; or back."""
    return np.ascontiguousarray(image if along_x else image.T)


def flux_to_count(sample: list[Exposure], settings: Combine) -> float:
    """The flux, DN/s in the average over a trace, from which sources show in most exposures."""
    noise = np.percentile([exposure.noise for exposure in sample], 90)
    return COUNTED * noise / _gain(settings)


def _gain(settings: Combine) -> float:
    """By how much the average over a trace is less noisy than a pixel."""
    along, across = settings.trace_scales[0]
    return np.sqrt(4 * np.pi * along * across)


def unfit(
    outcomes: list[tuple[Exposure, Findings]], flux: float, settings: Combine
) -> Iterator[tuple[Exposure, str]]:
    """
    The exposures that differ too much from the others, and why.

    Parameters
    ----------
    outcomes : list of (Exposure, Findings)
    flux : float
        Above which sources were counted, DN/s.
    settings : Combine

    Yields
    ------
    exposure : Exposure
    reason : str
    """
    deepest = flux * _gain(settings) / COUNTED
    # In noisier exposures what is counted would be noise: beyond 4 sigma of the average, a frame of
    # it has 16 peaks, beyond 3.3 sigma 170 (Adler 1981, The Geometry of Random Fields).
    counts = {e.name: found.sources for e, found in outcomes if e.noise <= 1.2 * deepest}
    typical = np.median(list(counts.values()) or [0])
    most = settings.maximum_crowding * typical
    most += 3 * np.sqrt(most)  # of chance
    for exposure, found in outcomes:
        limit = max(settings.maximum_structure, UNMASKED * exposure.noise / found.level)
        if found.structure > limit:
            reason = (
                f"differs from the others by {found.structure:.2%} of the sky on large scales, "
                f"more than {limit:.2%} (combine.maximum_structure, or {UNMASKED} of the noise)"
            )
        elif counts.get(exposure.name, 0) > most:
            reason = (
                f"a crowded field, or persistence: {found.sources} sources brighter than "
                f"{flux:.2g} DN/s a pixel, {found.sources / typical:.1f} times the median of the "
                f"exposures, more than {settings.maximum_crowding:g} (combine.maximum_crowding)"
            )
        else:
            continue
        yield exposure, reason
