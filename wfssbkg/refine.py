"""What an exposure shows when the background so far is subtracted from it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import bottleneck as bn
import numba
import numpy as np

from wfssbkg import StepError, cellfiles, cells, combine, masked, stripes, traces
from wfssbkg.config import Combine
from wfssbkg.sample import Exposure

MOST_EXPOSURES = 8  # of a field, searched for faint light together
# Fluxes that sources are counted at, in units of the faintest that a typical exposure counts.
LADDER = 2.0 ** np.arange(-2, 2.5, 0.5)


@dataclass
class Findings:
    """What was found in an exposure.

    Attributes
    ----------
    level : float
        Fitted to the background, DN/s.
    structure : float
        How much it differs from the background on large scales, relative to its level.
    sources : (k,) float array
        Number of sources brighter than each of some fluxes; NaN for those it does not reach.
    stripes, information : (4, columns) float32 arrays
        Its 1/f noise relative to its level, and 1/noise^2 of that.
    """

    level: float
    structure: float
    sources: np.ndarray
    stripes: np.ndarray
    information: np.ndarray


def refine_field(
    members: list[Exposure],
    offsets: list[tuple[float, float]],
    background: np.ndarray,
    common: np.ndarray | None,
    fluxes: np.ndarray,
    settings: Combine,
) -> list[Findings | StepError]:
    """
    Find sources and stripes in the dithers of a field, and write them to their `findings`.

    Parameters
    ----------
    members : list of Exposure
    offsets : list of (float, float)
        From `wfssbkg.fields.group`.
    background : (ny, nx) float array
        Of cells; NaN where it is not known.
    common : (4, nx) array or None
        As for `Exposure.read_cells`.
    fluxes : (k,) float array
        From `fluxes_to_count`.
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
                exposure, background, common, fluxes, settings
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
    scale = settings.scales(direct=members[0].direct)[0]
    light = traces.faint_light(residuals, places, scale=scale, threshold=settings.faint_threshold)
    for (exposure, findings, source), faint in zip(pending, light, strict=True):
        source, faint = (_turned(image, exposure.along_x) for image in (source, faint))
        noise = findings.stripes * np.float32(findings.level)
        cellfiles.write_refined(exposure.findings, source, faint, noise, exposure.noise)
    return outcomes


def _examine(
    exposure: Exposure,
    background: np.ndarray,
    common: np.ndarray | None,
    fluxes: np.ndarray,
    settings: Combine,
) -> tuple[Findings, np.ndarray, np.ndarray, np.ndarray]:
    """Findings; and residual, weight and sources, with the dispersion along the second axis."""
    value, noise = masked.read_cells(exposure.masked)
    light, own = exposure.found(slice(None), common)
    source = np.isnan(light)
    light = np.where(source, 0, light)
    sky, unknown, sigma, known = (
        combine.some(image) for image in (value - light - own, source, noise, background)
    )
    level = combine.fit_level(sky, np.where(unknown, 0, cells.weight(sigma)), known)
    residual, weight = _minus(value, noise, background, np.float32(level))

    noise, information = stripes.of_exposure(residual - light, np.where(source, 0, weight))
    noise *= settings.remove_stripes
    residual -= stripes.spread(noise, len(residual))

    residual, weight = (_turned(image, exposure.along_x) for image in (residual, weight))
    source, numbers = traces.find(
        residual,
        weight,
        scales=settings.scales(direct=exposure.direct),
        threshold=settings.trace_threshold,
        depth=settings.trace_depth,
        fluxes=fluxes,
    )
    box = settings.structure_box, settings.structure_box // cells.SIZE
    structure = combine.structure(residual, np.where(source, 0, weight), box=box)
    findings = Findings(
        level=level,
        structure=structure / level,
        sources=numbers,
        stripes=noise / np.float32(level),
        information=information * np.float32(level) ** 2,
    )
    return findings, residual, weight, source


@numba.njit(cache=True, error_model="numpy")
def _minus(
    value: np.ndarray, noise: np.ndarray, background: np.ndarray, level: float
) -> tuple[np.ndarray, np.ndarray]:
    """Cells minus the background times the level, and 1/noise^2; both 0 where not known."""
    residual, weight = np.empty_like(value), np.empty_like(value)
    nothing = np.float32(0)
    for y in range(value.shape[0]):
        for x in range(value.shape[1]):
            left = value[y, x] - level * background[y, x]
            known = np.isfinite(left) & (noise[y, x] > 0)
            residual[y, x] = left if known else nothing
            weight[y, x] = 1 / (noise[y, x] * noise[y, x]) if known else nothing
    return residual, weight


def _turned(image: np.ndarray, along_x: bool) -> np.ndarray:
    """Cells with the dispersion along the second axis; or back."""
    return np.ascontiguousarray(image if along_x else image.T)


def fluxes_to_count(sample: list[Exposure], settings: Combine) -> np.ndarray:
    """
    Fluxes from which sources are counted, in DN/s of the average over a trace.

    Exposures are of very different depths, and each is compared with the others at the fluxes
    that it reaches.
    """
    noise = np.median([exposure.noise for exposure in sample])
    scale = settings.scales(direct=sample[0].direct)[0]
    return LADDER * traces.COUNTED * noise / traces.gain(scale)


def unfit(
    outcomes: list[tuple[Exposure, Findings]], fluxes: np.ndarray, settings: Combine
) -> Iterator[tuple[Exposure, str]]:
    """
    The exposures that differ too much from the others, and why.

    Parameters
    ----------
    outcomes : list of (Exposure, Findings)
    fluxes : (k,) float array
        Above which sources were counted, DN/s.
    settings : Combine

    Yields
    ------
    exposure : Exposure
    reason : str
    """
    if not outcomes:
        return
    numbers = np.array([found.sources for _, found in outcomes])
    typical = bn.nanmedian(numbers, axis=0)
    most = settings.maximum_crowding * typical
    most += 3 * np.sqrt(most)  # of chance
    # What sources too faint to mask leave in a clean exposure goes with its noise.
    noise = np.array([exposure.noise / found.level for exposure, found in outcomes])
    usual = noise * bn.nanmedian([found.structure for _, found in outcomes] / noise)
    limits = np.maximum(settings.maximum_structure * usual, settings.tolerated_structure)
    for (exposure, found), crowded, limit in zip(outcomes, numbers > most, limits, strict=True):
        if found.structure > limit:
            reason = (
                f"differs from the others by {found.structure:.2%} of the sky on large scales, "
                f"more than {limit:.2%} (combine.maximum_structure and tolerated_structure)"
            )
        elif crowded.any():
            k = int(np.argmax(crowded))
            number, times = found.sources[k], found.sources[k] / typical[k]
            reason = (
                f"a crowded field, or persistence: {number:.0f} sources brighter than "
                f"{fluxes[k]:.2g} DN/s a pixel, {times:.1f} times the median of the exposures, "
                f"more than {settings.maximum_crowding:g} (combine.maximum_crowding)"
            )
        else:
            continue
        yield exposure, reason
