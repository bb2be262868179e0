"""The sky of one exposure: a background and scattered light, fitted where no source is."""

from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Self

import numpy as np

from wfssbkg.combine import bins, components, extra_light, stripes, traces
from wfssbkg.config import Combine
from wfssbkg.detector import inner_pixels
from wfssbkg.errors import StepError
from wfssbkg.files.combined_background import Components
from wfssbkg.smoothing import MEDIAN_SQUARE

_SEARCHES = 3  # for sources, each with the sky that the one before left
_ROUNDS = 4
# Sigma of the mean over a trace beyond which a bin is not taken for sky: traces too faint to find
# raise a level. Symmetric, so that noise does not.
_FREE = 1.0
# Of what these change the level by, as it turned out on simulated exposures.
_UNSURE = 0.3
# How many times brighter sources have to be to be masked, one after the other, until enough of the
# sky is left.
_RELAXED = (1, 2, 4, 8, 16)
# Of the lines along the dispersion, the darkest; they see nothing but sky if they agree.
_DARKEST, _AGREEMENT = 0.02, 0.01


@dataclass
class Model:
    """What the sky of an exposure may be made of, in its pixels, flat field divided out.

    Attributes
    ----------
    background : (ny, nx) float32 array
        In units of its level; 0 where it is not known.
    dark : float or (ny, nx) float32 array
        What the dark left, DN/s: a constant, divided by the flat field as the sky is.
    shapes : (k, ny, nx) float32 array
        Scattered light.
    typical : (k,) float array
        Its typical amplitudes, in units of the level.
    """

    background: np.ndarray
    dark: float | np.ndarray
    shapes: np.ndarray
    typical: np.ndarray

    @classmethod
    def of(cls, background: np.ndarray, dark: float | np.ndarray, light: Components) -> Self:
        """The model of a full frame."""
        background = np.where(np.isfinite(background), background, np.float32(0))
        return cls(background, dark, shapes(light.maps, background.shape), light.typical)


@dataclass
class Sky:
    """The sky of an exposure.

    Attributes
    ----------
    level, level_error : float
        DN/s
    amplitudes, errors : (k,) float arrays
        Of the scattered light, in units of the level, never below 0.
    source : (ny, nx) bool array
        Pixels of sources that were found.
    free : (ny, nx) bool array
        Pixels that the level was fitted to: without traces that are too faint to find as well.
    fraction : float
        Of the pixels that are not bad, those that are of no source.
    relaxed : str
        What was done in a field that is too busy, in words.
    """

    level: float
    level_error: float
    amplitudes: np.ndarray
    errors: np.ndarray
    source: np.ndarray
    free: np.ndarray
    fraction: float
    relaxed: str = ""

    def image(self, model: Model) -> np.ndarray:
        """The sky in each pixel, (ny, nx) float32, DN/s; 0 where not known."""
        scattered = np.tensordot(self.amplitudes, model.shapes, 1)
        sky = self.level * (model.background + scattered) + model.dark
        return np.where(model.background == 0, 0, sky).astype(np.float32)


@dataclass
class _Bins:
    """An exposure in bins: what of it counts, and the parts of its sky, the background first.

    The dispersion is along the second axis if `along_x`.
    """

    value: np.ndarray
    weight: np.ndarray
    parts: np.ndarray
    box: tuple[int, int]
    along_x: bool


def fit(
    value: np.ndarray,
    noise: np.ndarray,
    bad: np.ndarray,
    source: np.ndarray,
    model: Model,
    settings: Combine,
    *,
    along_x: bool,
    direct: bool,
    minimum_sky: float,
) -> Sky:
    """
    Find the sources of an exposure, and its sky.

    Parameters
    ----------
    value, noise : (ny, nx) float32 arrays
        The flat-fielded exposure, and its noise, DN/s.
    bad, source : (ny, nx) bool arrays
        Pixels that do not count, and sources to begin with.
    model : `Model`
    settings : `~wfssbkg.config.Combine`
        How sources are searched for, as in the refinement.
    along_x, direct : bool
        The direction of the dispersion, and whether there is none.
    minimum_sky : float
        Part of the pixels that is to be left as sky. With less, only brighter sources are masked,
        and in the end all but the darkest lines along the dispersion.

    Returns
    -------
    `Sky`

    Raises
    ------
    StepError
        If there is no sky to fit to.
    """
    size = bins.pixels(along_x=along_x)
    known = ~bad & (model.background != 0)
    binned, sigma = bins.average(
        value - np.asarray(model.dark, np.float32), noise, ~known, along_x=along_x
    )
    parts = [
        bins.average(image, known.astype(np.float32), ~known, along_x=along_x)[0]
        for image in (model.background, *model.shapes)
    ]
    weight = bins.weight(sigma)
    binned, *parts = (np.where(weight > 0, image, np.float32(0)) for image in (binned, *parts))
    box = bins.box(settings.structure_box, along_x=along_x)
    data = _Bins(binned, weight, np.array(parts), box, along_x)
    begin = bins.any_of(source, along_x=along_x)
    found = _nothing(data)
    for relaxed in _RELAXED:
        deep = settings.model_copy(
            update={
                "trace_threshold": relaxed * settings.trace_threshold,
                "trace_depth": relaxed * settings.trace_depth,
            }
        )
        with suppress(StepError):  # where it leaves no sky at all, the next one may
            found = _masked_fit(data, begin, model.typical, deep, settings.scales(direct=direct))
        if found.fraction >= max(minimum_sky, 1e-9):
            break
    else:
        if direct:
            raise StepError(
                f"{found.fraction:.1%} of the pixels are left as sky (subtract.minimum_sky)"
            )
        found = _fit_to_darkest_lines(data, found)
    if relaxed > 1 and not found.relaxed and not direct:
        # Light of unresolved sources, which no mask finds, would be taken for sky.
        with suppress(StepError):
            lines = _fit_to_darkest_lines(data, found)
            if lines.level < (1 - _AGREEMENT) * found.level:
                found = lines
    if relaxed > 1 and not found.relaxed:
        found.relaxed = f"only sources {relaxed} times brighter than else are masked"
    source, free = (bins.repeated(image, size) for image in (found.source, found.free))
    return replace(found, source=source, free=free & known)


def fit_outside(
    value: np.ndarray, noise: np.ndarray, counts: np.ndarray, model: Model, box: int
) -> tuple[float, np.ndarray]:
    """
    The sky of an image whose sources are known, fitted as `fit` does between its searches.

    Parameters
    ----------
    value, noise : (ny, nx) float32 arrays
        The image, e.g. a flat-fielded exposure in DN/s, and its noise.
    counts : (ny, nx) bool array
        The pixels that see nothing but sky.
    model : `Model`
    box : int
        px; the sky is fitted to means of boxes of this size.

    Returns
    -------
    level : float
    image : (ny, nx) float32 array
        The sky.

    Raises
    ------
    StepError
        If there is no sky to fit to.
    """
    counts = counts & (model.background != 0)
    weight = np.where(counts, 1 / np.square(np.where(counts, noise, 1)), 0)
    value = np.where(counts, value - np.asarray(model.dark, np.float32), np.float32(0))
    parts = np.array([model.background, *model.shapes])
    data = _Bins(value, weight, parts, (box, box), along_x=True)  # either way, for boxes
    (level, *amounts), _ = _fit_parts(data, weight, model.typical)
    return float(level), (np.tensordot([level, *amounts], parts, 1) + model.dark).astype(np.float32)


def _nothing(data: _Bins) -> Sky:
    """No sky found in an exposure; a StepError if there cannot be any."""
    if not (data.weight > 0).any():
        raise StepError("no pixel is left that sees nothing but sky")
    none = np.zeros(len(data.parts) - 1)
    everywhere = np.ones(data.value.shape, dtype=bool)
    return Sky(0.0, np.inf, none, none, everywhere, ~everywhere, 0.0)


def _masked_fit(
    data: _Bins,
    source: np.ndarray,
    typical: np.ndarray,
    settings: Combine,
    scales: list[tuple[float, float]],
) -> Sky:
    """The sky where no source is found."""
    own = stripes.none(data.value.shape[1])
    for _ in range(_SEARCHES):
        values, _ = _fit_parts(data, np.where(source, 0, data.weight), typical)
        source, own = _search(data, values, np.where(source, 0, data.weight), settings, scales)
    counts = np.where(source, 0, data.weight)
    first, errors = values, _ = _fit_parts(data, counts, typical)
    rounds = []
    for _ in range(_ROUNDS):
        left = data.value - np.tensordot(values, data.parts, 1)
        left -= stripes.as_image(own, len(left))
        free = _without_faint_traces(left, counts, scales[0], along_x=data.along_x)
        values, _ = _fit_parts(data, free, typical)
        rounds.append(values)
    # In small subarrays the rounds go to and fro between two levels.
    values = np.mean(rounds[-2:], axis=0)
    left = data.value - np.tensordot(values, data.parts, 1)
    unsure = _UNSURE * (values[0] - first[0]), _error_of_flicker_noise(left, free)
    errors[0] = np.sqrt(errors[0] ** 2 + np.square(unsure).sum())
    level = float(values[0])
    return Sky(
        level,
        float(errors[0]),
        values[1:] / level,
        errors[1:] / level,
        source,
        free > 0,
        float(np.sum(counts > 0) / np.sum(data.weight > 0)),
    )


def _search(
    data: _Bins,
    values: np.ndarray,
    counts: np.ndarray,
    settings: Combine,
    scales: list[tuple[float, float]],
) -> tuple[np.ndarray, np.ndarray]:
    """Sources in an exposure minus its sky, and its stripes, as in the refinement."""
    left = (data.value - np.tensordot(values, data.parts, 1)).astype(np.float32)
    left -= extra_light.large_scale(left, counts, data.box)
    own, information = stripes.of_exposure(left, counts)
    own -= np.float32((own * information).sum() / max(information.sum(), 1e-30))
    left = np.where(data.weight > 0, left - stripes.as_image(own, len(left)), np.float32(0))
    found, _ = traces.find(
        *(bins.turned(image, data.along_x) for image in (left, data.weight)),
        scales=scales,
        threshold=settings.trace_threshold,
        depth=settings.trace_depth,
        fluxes=np.empty(0),
    )
    return bins.turned(found, data.along_x), own


def _without_faint_traces(
    left: np.ndarray, counts: np.ndarray, scale: tuple[float, float], *, along_x: bool
) -> np.ndarray:
    """
    Weights that are 0 also where the mean over a trace is above or below the noise.

    For one half of the bins it is the mean of the other half, as on a chessboard: with the noise of
    the bin itself in it, the bins that are left would be twice as far from the level as their mean
    is, and the level would run away, farther with each round.
    """
    even = np.indices(left.shape).sum(axis=0) % 2 == 0
    significance = np.zeros(left.shape, dtype=np.float32)
    for half in (even, ~even):
        others = np.where(half, 0, counts)
        mean, sigma = traces.average(
            *(bins.turned(image, along_x) for image in (left, others)), scale
        )
        mean, sigma = (bins.turned(image, along_x) for image in (mean, sigma))
        significance = np.where(half & (counts > 0), mean / sigma, significance)
    low = significance[significance < 0]
    wide = np.sqrt(np.median(low**2) / MEDIAN_SQUARE) if low.size else 1.0
    return np.where(np.abs(significance) < _FREE * wide, counts, 0)


def _error_of_flicker_noise(left: np.ndarray, weight: np.ndarray) -> float:
    """The error of a level by 1/f noise, from the means of the amplifiers, DN/s."""
    total, information = (
        stripes.amplifier_sums(image).sum(axis=1) for image in (left * weight, weight)
    )
    means = total[information > 0] / information[information > 0]
    return float(np.std(means) / np.sqrt(max(len(means), 1)))


def _fit_parts(
    data: _Bins, weight: np.ndarray, typical: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """
    The level, and what there is of each component, in DN/s, and their errors.

    They are fitted in turn to the means of boxes, without those that have other light. Amplitudes
    are shrunk towards 0 as if they were drawn from those of the archive.
    """
    total = bins.summed(weight, data.box, np.float64)
    known = total > 0
    if not known.any():
        raise StepError("no pixel is left that sees nothing but sky")
    y, *parts = (
        bins.summed(image * weight, data.box, np.float64)[known] / total[known]
        for image in (data.value, *data.parts)
    )
    variance = 1 / total[known][np.newaxis]
    values, errors = np.zeros((2, len(parts)))
    for _ in range(_ROUNDS if len(parts) > 1 else 1):
        for k, part in enumerate(parts):
            others = np.tensordot(values, parts, 1) - values[k] * part
            unlike = components.UNLIKE if k else 0.0  # scattered light, but not the background
            fitted, counts = components.amplitudes_of(
                (y - others)[np.newaxis], variance, part, unlike=unlike
            )
            information = (counts * part**2).sum()
            if not information > 0:
                values[k], errors[k] = 0, np.inf
                continue
            values[k], errors[k] = fitted[0], information**-0.5
            if k:
                spread = (typical[k - 1] * values[0]) ** 2
                values[k] *= spread / (spread + errors[k] ** 2)
    if not values[0] > 0:
        raise StepError("the background does not fit this exposure anywhere")
    return values, errors


def _fit_to_darkest_lines(data: _Bins, found: Sky) -> Sky:
    """The sky in the lines along the dispersion that have least light, if these agree."""
    value, weight, background = (
        bins.turned(image, data.along_x) for image in (data.value, data.weight, data.parts[0])
    )
    information = (weight * background**2).sum(axis=1, dtype=np.float64)
    whole = information > 0.5 * np.median(information[information > 0])
    levels = np.full(len(value), np.inf)
    levels[whole] = (weight * background * value).sum(axis=1)[whole] / information[whole]
    darkest = np.argsort(levels)[: max(int(_DARKEST * whole.sum()), 2)]
    level, spread = np.mean(levels[darkest]), np.std(levels[darkest])
    if not level > 0:
        raise StepError("the background does not fit this exposure anywhere")
    if not 0 < spread < _AGREEMENT * level:
        raise StepError(
            f"{found.fraction:.1%} of the pixels are left as sky (subtract.minimum_sky), and even "
            "the darkest lines along the dispersion have light of sources: their levels scatter by "
            f"{spread / level:.1%}"
        )
    source = np.ones(value.shape, dtype=bool)
    source[darkest] = False
    return replace(
        found,
        level=float(level),
        level_error=float(spread),
        amplitudes=np.zeros_like(found.amplitudes),
        errors=np.zeros_like(found.errors),
        source=bins.turned(source, data.along_x),
        free=~bins.turned(source, data.along_x),
        fraction=len(darkest) / len(value),
        relaxed="fitted to the darkest lines along the dispersion",
    )


def shapes(maps: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """Maps of the whole frame as images, (k, ny, nx) float32; 0 in the reference pixels."""
    images = np.zeros((len(maps), *shape), dtype=np.float32)
    inner = inner_pixels()
    for image, each in zip(images, maps, strict=True):
        image[inner] = extra_light.enlarged(each, shape)[inner]
    return images
