"""Sources, stripes and structure in an exposure minus the background made so far."""

from dataclasses import dataclass

import numpy as np

from wfssbkg.combine import bins, levels, stripes, traces
from wfssbkg.combine.exposure import Exposure
from wfssbkg.config import Combine
from wfssbkg.errors import StepError
from wfssbkg.files import refined_exposure

MOST_EXPOSURES = 8  # of a field, searched for faint flux together
# Fluxes that sources are counted at, in units of the faintest that a typical exposure counts.
LADDER = 2.0 ** np.arange(-2, 2.5, 0.5)


@dataclass
class Refinement:
    """What was found in an exposure.

    Attributes
    ----------
    level : float
        Fitted to the background, DN/s.
    structure : float
        How much it differs from the background on large scales, relative to its level.
    sources : (k,) float array
        Number of sources brighter than each of some fluxes; NaN where it is not deep enough.
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
    shared: np.ndarray,
    fluxes: np.ndarray,
    settings: Combine,
) -> list[Refinement | StepError]:
    """
    Find sources and stripes in the dithers of a field, and write them to their `next_refined`.

    Parameters
    ----------
    members : list of Exposure
    offsets : list of (float, float)
        From `wfssbkg.combine.fields.group`.
    background : (ny, nx) float array
        Of bins; NaN where it is not known.
    shared : (4, nx) array
        As for `Exposure.read_bins`.
    fluxes : (k,) float array
        From `fluxes_to_count`.
    settings : Combine

    Returns
    -------
    list of Refinement or StepError
        One for each member.
    """
    outcomes: list[Refinement | StepError] = []
    residuals, places, pending = [], [], []
    for exposure, offset in zip(members, offsets, strict=True):
        try:
            refinement, residual, weight, source = _examine(
                exposure, background, shared, fluxes, settings
            )
        except StepError as error:
            outcomes.append(error)
            continue
        outcomes.append(refinement)
        residuals.append((residual, np.where(source, 0, weight)))
        places.append(across_and_along(offset, along_x=exposure.along_x))
        pending.append((exposure, refinement, source))
    if not pending:
        return outcomes
    scale = settings.scales(direct=members[0].direct)[0]
    flux = traces.faint_flux(residuals, places, scale=scale, threshold=settings.faint_threshold)
    for (exposure, refinement, source), faint in zip(pending, flux, strict=True):
        refined_exposure.write(
            exposure.next_refined,
            _turned(source, exposure.along_x),
            _turned(faint, exposure.along_x),
            refinement.stripes * np.float32(refinement.level),
            refinement.information / np.float32(refinement.level) ** 2,
        )
    return outcomes


def across_and_along(offset: tuple[float, float], *, along_x: bool) -> tuple[float, float]:
    """An offset (y, x) on the detector as one across and along the dispersion."""
    y, x = offset
    return (y, x) if along_x else (x, y)


def _examine(
    exposure: Exposure,
    background: np.ndarray,
    shared: np.ndarray,
    fluxes: np.ndarray,
    settings: Combine,
) -> tuple[Refinement, np.ndarray, np.ndarray, np.ndarray]:
    """Refinement; and residual, weight and sources, with the dispersion along the second axis."""
    value, sigma = refined_exposure.read_bins(exposure.binned)
    faint, own = exposure.found(slice(None), shared)
    source = np.isnan(faint)
    faint = np.where(source, 0, faint)
    weight = bins.weight(sigma)
    level = levels.fit_level(
        levels.subsample(value - faint - own),
        levels.subsample(np.where(source, 0, weight)),
        levels.subsample(background),
    )
    residual, weight = _minus(value, weight, background, level)

    found, information = stripes.of_exposure(residual - faint, np.where(source, 0, weight))
    found *= settings.remove_stripes
    residual -= stripes.as_image(found, len(residual))

    residual, weight = (_turned(image, exposure.along_x) for image in (residual, weight))
    source, numbers = traces.find(
        residual,
        weight,
        scales=settings.scales(direct=exposure.direct),
        threshold=settings.trace_threshold,
        depth=settings.trace_depth,
        fluxes=fluxes,
    )
    box = settings.structure_box, settings.structure_box // bins.SIZE
    left = structure(residual, np.where(source, 0, weight), box=box)
    refinement = Refinement(
        level=level,
        structure=left / level,
        sources=numbers,
        stripes=found / np.float32(level),
        information=information * np.float32(level) ** 2,
    )
    return refinement, residual, weight, source


def _minus(
    value: np.ndarray, weight: np.ndarray, background: np.ndarray, level: float
) -> tuple[np.ndarray, np.ndarray]:
    """An exposure minus the background times its level; where it is not known, 0 and weight 0."""
    residual = value - np.float32(level) * background
    known = np.isfinite(residual) & (weight > 0)
    return np.where(known, residual, np.float32(0)), np.where(known, weight, np.float32(0))


def _turned(image: np.ndarray, along_x: bool) -> np.ndarray:
    """Bins with the dispersion along the second axis; or back."""
    return np.ascontiguousarray(image if along_x else image.T)


def fluxes_to_count(members: list[Exposure], settings: Combine) -> np.ndarray:
    """
    Fluxes from which sources are counted, in DN/s of the average over a trace.

    Exposures are of very different depths, and each is compared with the others at the fluxes
    that it reaches.
    """
    noise = np.median([exposure.noise for exposure in members])
    scale = settings.scales(direct=members[0].direct)[0]
    return LADDER * traces.COUNTED * noise / traces.gain(scale)


def structure(residual: np.ndarray, weight: np.ndarray, *, box: tuple[int, int]) -> float:
    """
    How much an exposure differs from the background on large scales.

    Parameters
    ----------
    residual, weight : (ny, nx) float arrays
        Exposure minus its background, DN/s, and 1/noise^2; weight 0 where it does not count.
    box : (int, int)
        Height and width of the boxes the residual is averaged in.

    Returns
    -------
    float
        RMS of the averages beyond what their noise makes, DN/s; NaN if no box has a quarter of
        its pixels.
    """
    total, weight, number = (
        bins.summed(x, box, np.float64) for x in (residual * weight, weight, weight > 0)
    )
    enough = number > box[0] * box[1] / 4
    if not enough.any():
        return np.nan
    mean, variance = total[enough] / weight[enough], 1 / weight[enough]
    return float(np.sqrt(max(np.mean(mean**2 - variance), 0)))
