"""Sources, stripes and structure in an exposure minus the background made so far.

Sources and stripes are searched in what is left after the structure on large scales is subtracted
as well, so that neither depends on errors that the background made so far may have there.
"""

from dataclasses import dataclass

import numpy as np
from astropy.stats import mad_std

from wfssbkg.combine import bins, extra_light, levels, stripes, traces
from wfssbkg.combine.exposure import Common, Exposure
from wfssbkg.config import Combine
from wfssbkg.errors import StepError
from wfssbkg.files import refined_exposure
from wfssbkg.files.refined_exposure import Refined

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
    difference, weight : (rows, columns) float arrays
        How much it differs from the background on large scales, relative to its level, and
        1/noise^2 of that: a map of `wfssbkg.combine.extra_light`.
    sources : (k,) float array
        Number of sources brighter than each of some fluxes; NaN where it is not deep enough.
    structure : float
        How much light it lacks on large scales, relative to its level, from
        `wfssbkg.combine.extra_light`.
    columns : float
        Scatter of the means of its columns, relative to its level: 1/f noise.
    """

    level: float
    difference: np.ndarray
    weight: np.ndarray
    sources: np.ndarray
    structure: float = 0.0
    columns: float = 0.0


def refine_field(
    members: list[Exposure],
    offsets: list[tuple[float, float]],
    background: np.ndarray,
    common: Common,
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
    common : `~wfssbkg.combine.exposure.Common`
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
    places, pending = [], []
    for exposure, offset in zip(members, offsets, strict=True):
        try:
            examined = _examine(exposure, background, common, fluxes, settings)
        except StepError as error:
            outcomes.append(error)
            continue
        outcomes.append(examined.refinement)
        places.append(across_and_along(offset, along_x=exposure.along_x))
        pending.append((exposure, examined))
    if not pending:
        return outcomes
    flux = traces.faint_flux(
        [(each.residual, each.weight) for _, each in pending],
        places,
        scale=settings.scales(direct=members[0].direct)[0],
        threshold=settings.faint_threshold,
    )
    box = bins.box(settings.structure_box, along_x=True)
    for (exposure, examined), faint in zip(pending, flux, strict=True):
        found = examined.refinement
        left = examined.residual + examined.large_scale - faint
        difference, weight = extra_light.map_of(left, examined.weight, box)
        found.difference = bins.turned(difference / found.level, exposure.along_x)
        found.weight = bins.turned(weight * found.level**2, exposure.along_x)
        faint = np.where(examined.source, np.float32(np.nan), faint)
        refined_exposure.write(
            exposure.next_refined,
            Refined(
                bins.turned(faint, exposure.along_x),
                examined.stripes,
                examined.information,
                found.difference,
                found.weight,
                common.dark.value,
            ),
        )
    return outcomes


def across_and_along(offset: tuple[float, float], *, along_x: bool) -> tuple[float, float]:
    """An offset (y, x) on the detector as one across and along the dispersion."""
    y, x = offset
    return (y, x) if along_x else (x, y)


@dataclass
class _Examined:
    """What was found in one exposure by itself; images have the dispersion along the second axis.

    The residual is without stripes and without structure on large scales; weight is 0 where there
    are sources. Stripes and 1/noise^2 of them, `information`, are (4, columns) arrays.
    """

    refinement: Refinement
    stripes: np.ndarray
    information: np.ndarray
    residual: np.ndarray
    weight: np.ndarray
    large_scale: np.ndarray
    source: np.ndarray


def _examine(
    exposure: Exposure,
    background: np.ndarray,
    common: Common,
    fluxes: np.ndarray,
    settings: Combine,
) -> _Examined:
    """What can be told from an exposure without its dithers."""
    value, sigma = refined_exposure.read_bins(exposure.binned)
    value -= exposure.dark(slice(None), common, binned=True)
    faint, own, extra = exposure.found(slice(None), common)
    source = np.isnan(faint)
    faint = np.where(source, 0, faint)
    weight = bins.weight(sigma)
    level = levels.fit_level(
        levels.subsample(value - faint - own - extra),
        levels.subsample(np.where(source | np.isnan(extra), 0, weight)),
        levels.subsample(background),
    )
    residual, weight = _minus(value, weight, background, level)

    counts = np.where(source, 0, weight)
    box = bins.box(settings.structure_box, along_x=exposure.along_x)
    smooth = extra_light.large_scale(residual - faint, counts, box)
    residual -= smooth
    found, information = stripes.of_exposure(residual - faint, counts)
    columns = float(mad_std(found)) / level
    found *= settings.remove_stripes
    residual -= stripes.as_image(found, len(residual))

    residual, weight, smooth = (
        bins.turned(image, exposure.along_x) for image in (residual, weight, smooth)
    )
    source, numbers = traces.find(
        residual,
        weight,
        scales=settings.scales(direct=exposure.direct),
        threshold=settings.trace_threshold,
        depth=settings.trace_depth,
        fluxes=fluxes,
    )
    return _Examined(
        Refinement(level, np.empty(0), np.empty(0), numbers, columns=columns),
        found,
        information,
        residual,
        np.where(source, 0, weight),
        smooth,
        source,
    )


def _minus(
    value: np.ndarray, weight: np.ndarray, background: np.ndarray, level: float
) -> tuple[np.ndarray, np.ndarray]:
    """An exposure minus the background times its level; where it is not known, 0 and weight 0."""
    residual = value - np.float32(level) * background
    known = np.isfinite(residual) & (weight > 0)
    return np.where(known, residual, np.float32(0)), np.where(known, weight, np.float32(0))


def fluxes_to_count(members: list[Exposure], settings: Combine) -> np.ndarray:
    """
    Fluxes from which sources are counted, in DN/s of the average over a trace.

    Exposures are of very different depths, and each is compared with the others at the fluxes
    that it reaches.
    """
    noise = np.median([exposure.noise for exposure in members])
    scale = settings.scales(direct=members[0].direct)[0]
    return LADDER * traces.COUNTED * noise / traces.gain(scale)
