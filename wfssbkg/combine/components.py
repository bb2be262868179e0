"""Light on large scales that exposures of several fields have in common, more of it or less.

Scattered light, the light saber above all, has nearly the same shape wherever it shows. Galaxies
and clusters belong to one field: a shape that is found in the other fields does not fit them.
"""

from typing import Literal

import bottleneck as bn
import numpy as np

from wfssbkg.detector import AMPLIFIERS, amplifier_of
from wfssbkg.files.combined_background import Components
from wfssbkg.smoothing import MEDIAN_SQUARE

_MOST = 3
_ROUNDS, _INNER = 6, 4
# Sigma from a fit beyond which a box is left out: what else there is is light.
_ABOVE, _BELOW = 2.0, 4.0
UNLIKE = 0.1  # bands of scattered light move and widen a little from exposure to exposure
_BRIGHT = 0.3  # of the brightest box: where the amplitude of a shape shows best
_HEAVY = 3.0  # sigma from which on a residual counts less than by its square
# What a component has to take away from the residuals of fields that did not help to find it, in
# all and in some of them.
_GAIN, _FIELDS = 0.02, 2
# Of the fields, left out one after the other, and that a shape is looked for in, the brightest: for
# the time that it takes.
_PARTS, _STARTS = 5, 5


def find(
    light: np.ndarray,
    variance: np.ndarray,
    fields: list[list[int]],
    number: int | Literal["auto"],
) -> Components:
    """
    Find the components of the light that exposures have over the sky.

    Parameters
    ----------
    light, variance : (n, rows, columns) float arrays
        From `wfssbkg.combine.extra_light.find`, in units of the level of each exposure.
    fields : list of lists of int
        Numbers of the exposures of each field.
    number : int or 'auto'
        Of components. auto: as many as lower the residuals of fields that did not help to find
        them.

    Returns
    -------
    `~wfssbkg.files.combined_background.Components`

    Notes
    -----
    Each component is an image and an amplitude for each exposure, none of them negative, fitted in
    turn by weighted least squares (alternating least squares) without boxes that are off; the next
    one is found in what it leaves.
    """
    left, variance = (x.reshape(len(light), -1).astype(np.float64) for x in (light, variance))
    # Faint sources and 1/f noise make the scatter of an exposure larger than its noise.
    off2 = np.where(np.isfinite(variance), left**2 / variance, np.nan)
    typical = np.nan_to_num(bn.nanmedian(off2, axis=1)) / MEDIAN_SQUARE
    variance *= np.maximum(typical, 1)[:, np.newaxis]
    shapes, amplitudes, gains = [], [], []
    for _ in range(_MOST if number == "auto" else number):
        gain, others = _gain(left, variance, fields)
        if number == "auto" and not (gain > _GAIN and others >= _FIELDS):
            break
        shape = _best_shape(left, variance, fields)
        amplitude, _ = amplitudes_of(left, variance, shape)
        left = left - amplitude[:, np.newaxis] * shape
        for found, value in ((shapes, shape), (amplitudes, amplitude), (gains, gain)):
            found.append(value)
    return Components(
        np.array(shapes, dtype=np.float32).reshape(-1, *light.shape[1:]),
        np.array(amplitudes).reshape(-1, len(light)),
        np.array(gains),
    )


def _gain(light: np.ndarray, variance: np.ndarray, fields: list[list[int]]) -> tuple[float, int]:
    """
    What a component takes away from the residuals of fields that did not help to find it.

    It is fitted to one half of the boxes of a field, and judged by the other half. Returns the
    share of all residuals, and the number of fields where it is more than `_GAIN`.
    """
    before, after = np.zeros((2, len(light)))
    even = np.arange(light.shape[1]) % 2 == 0
    for part in range(min(_PARTS, len(fields))):
        others = [field for number, field in enumerate(fields) if number % _PARTS != part]
        shape = _best_shape(light, variance, others)
        judged = np.concatenate(fields[part::_PARTS])
        for half in (even, ~even):
            fitted = np.where(half, variance[judged], np.inf)
            amplitude, _ = amplitudes_of(light[judged], fitted, shape)
            left = light[judged] - amplitude[:, np.newaxis] * shape
            other = np.where(half, np.inf, variance[judged])
            before[judged] += _residual(light[judged], other)
            after[judged] += _residual(left, other)
    whole, left = (_of_fields(each, fields) for each in (before, after))
    gains = 1 - left / np.where(whole > 0, whole, 1)
    return float(1 - left.sum() / max(whole.sum(), 1e-300)), int(np.sum(gains > _GAIN))


def _of_fields(values: np.ndarray, fields: list[list[int]]) -> np.ndarray:
    """Sums over the exposures of each field."""
    return np.array([values[field].sum() for field in fields])


def _residual(light: np.ndarray, variance: np.ndarray) -> np.ndarray:
    """How much is left in each exposure; galaxies do not outweigh all, 1/f noise does not count."""
    off2 = _without_amplifiers(light) ** 2 / (variance * _HEAVY**2)
    return np.log1p(off2).sum(axis=1)


def _without_amplifiers(light: np.ndarray) -> np.ndarray:
    """Maps without the median of each amplifier: 1/f noise, which has a shape of its own."""
    rows = int(np.sqrt(light.shape[1]))
    left = light.reshape(len(light), rows, -1).copy()
    amplifiers = amplifier_of(rows)
    for k in range(AMPLIFIERS):
        part = left[:, amplifiers == k]
        left[:, amplifiers == k] = part - np.median(part, axis=(1, 2), keepdims=True)
    return left.reshape(light.shape)


def _best_shape(light: np.ndarray, variance: np.ndarray, fields: list[list[int]]) -> np.ndarray:
    """Of the shapes that begin with the light of a field, the one that helps others most."""
    best, most = np.zeros(light.shape[1]), 0.0
    if not fields:
        return best
    residual = _residual(light, variance)
    used = np.concatenate(fields)
    brightest = np.argsort([-np.mean(residual[field]) for field in fields], kind="stable")
    for number in brightest[:_STARTS]:
        start = np.maximum(np.median(light[fields[number]], axis=0), 0)
        shape = _alternately(light[used], variance[used], start)
        amplitude, _ = amplitudes_of(light[used], variance[used], shape)
        taken = residual.copy()
        taken[used] -= _residual(light[used] - amplitude[:, np.newaxis] * shape, variance[used])
        helped = _of_fields(taken, fields)
        # Without the field that it fits best: a galaxy there takes away a lot, and only there.
        if helped.sum() - helped.max() > most:
            best, most = shape, helped.sum() - helped.max()
    return best


def _alternately(light: np.ndarray, variance: np.ndarray, shape: np.ndarray) -> np.ndarray:
    """A shape that fits best, from one to begin with; its largest value is 1, or all are 0."""
    for _ in range(_ROUNDS):
        if not shape.max() > 0:
            return np.zeros_like(shape)
        shape = shape / shape.max()
        amplitude, weight = amplitudes_of(light, variance, shape)
        amplitude = amplitude[:, np.newaxis]
        total = (weight * amplitude**2).sum(axis=0)
        shape = (weight * amplitude * light).sum(axis=0) / np.where(total > 0, total, 1)
        shape = np.maximum(shape, 0)
    return shape / max(shape.max(), 1e-300)


def amplitudes_of(
    light: np.ndarray, variance: np.ndarray, shape: np.ndarray, *, unlike: float = UNLIKE
) -> tuple[np.ndarray, np.ndarray]:
    """
    How much of a shape each exposure has, without boxes that have other light.

    Parameters
    ----------
    light, variance : (n, boxes) float arrays
        Variance infinite where nothing is known.
    shape : (boxes,) float array
    unlike : float
        By which part of it the light of an exposure may be of another shape.

    Returns
    -------
    amplitude : (n,) float array
        At least 0.
    weight : (n, boxes) float array
        1/variance, with the scatter of each exposure; 0 where a box does not count.
    """
    known = np.isfinite(variance)
    bright = known & (shape > _BRIGHT * shape.max())
    ratio = np.where(bright, light / np.where(bright, shape, 1), np.inf)
    # From below: what else is there is positive as well.
    lowest = np.sort(ratio, axis=1)[np.arange(len(ratio)), bright.sum(axis=1) // 4]
    amplitude = np.where(np.isfinite(lowest), np.maximum(lowest, 0), 0)
    for _ in range(_INNER):
        off = light - amplitude[:, np.newaxis] * shape
        low = np.where(known & (off < 0), off**2 / variance, np.nan)
        scale = np.nan_to_num(bn.nanmedian(low, axis=1)) / MEDIAN_SQUARE
        another = unlike * amplitude[:, np.newaxis] * shape
        sigma = np.sqrt(variance * np.maximum(scale, 1)[:, np.newaxis] + another**2)
        counts = known & (off < _ABOVE * sigma) & (off > -_BELOW * sigma)
        weight = np.where(counts, 1 / sigma**2, 0)
        total = (weight * shape**2).sum(axis=1)
        fitted = (weight * light * shape).sum(axis=1) / np.where(total > 0, total, 1)
        amplitude = np.maximum(fitted, 0)
    return amplitude, weight
