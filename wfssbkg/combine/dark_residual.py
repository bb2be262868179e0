"""What the subtraction of the dark left in all exposures: a constant, no share of the sky.

Where the sky is fainter than its level the constant is a larger part of it, most of all in
exposures of a low level.
"""

from typing import NamedTuple

import numpy as np

from wfssbkg.combine.stripes import amplifier_sums
from wfssbkg.detector import amplifier_of
from wfssbkg.smoothing import MEDIAN_SQUARE

# Of the lowest level. Dark residuals are 0.005 to 0.02 DN/s, the lowest levels 0.2; a
# larger constant was found in extra light, and would take the levels and the stripes with it.
LARGEST = 0.1
_CLIP = 3.0  # sigma beyond which a box does not count: extra light
_ROUNDS = 8


class DarkResidual(NamedTuple):
    """A constant and its error, DN/s; the error is infinite where nothing tells the constant."""

    value: float = 0.0
    error: float = np.inf


def fit(
    maps: np.ndarray,
    weights: np.ndarray,
    sky: np.ndarray,
    levels: np.ndarray,
    groups: list[list[int]],
) -> DarkResidual:
    """
    Fit the same constant to all exposures.

    Parameters
    ----------
    maps, weights : (n, rows, columns) float arrays
        Of n exposures, from `wfssbkg.combine.extra_light.map_of`, relative to their levels.
    sky : (rows, columns) float array
        The background in the same boxes; NaN where it is not known.
    levels : (n,) float array
        Of the exposures, DN/s.
    groups : list of lists of int
        Numbers of the exposures of each field: they have the same extra light.

    Returns
    -------
    DarkResidual
        The error is told from what is found without each of the fields (a jackknife), and at
        least that of the noise: where a few fields tell the constant, they may agree by chance.

    Notes
    -----
    A constant c makes an exposure of level L differ from a background S by c/L (1 - S). The fit
    leaves free what all exposures share in each box (the error of the background), and a value for
    each column of each amplifier of each exposure (1/f noise).
    """
    none = DarkResidual()
    weights = weights * np.isfinite(sky)
    slope = np.nan_to_num(1 - sky) / levels[:, np.newaxis, np.newaxis]
    weight, number = weights, len(groups)
    for _ in range(_ROUNDS):
        x, y = _centred(slope, weight), _centred(maps, weight)
        products, squares = (
            np.array([np.sum((weight * each * x)[group]) for group in groups]) for each in (y, x)
        )
        if number < 3 or not (squares.sum() > squares).all():
            return none
        constant = products.sum() / squares.sum()
        off2 = weights * (y - constant * x) ** 2
        variance = [np.median(each[known]) for each, known in zip(off2, weight > 0, strict=True)]
        # Not less than the noise: the exposure with most weight is near the mean that it makes.
        variance = np.maximum(np.reshape(variance, (-1, 1, 1)) / MEDIAN_SQUARE, 1)
        weight = np.where(off2 < _CLIP**2 * variance, weights / variance, 0)
    left_out = (products.sum() - products) / (squares.sum() - squares)
    error = np.sqrt((number - 1) / number * np.sum((left_out - constant) ** 2))
    return DarkResidual(float(constant), float(max(error, squares.sum() ** -0.5)))


def _centred(values: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """Values without what exposures share in each box, and without the mean of each column."""
    for _ in range(_ROUNDS):
        total = weight.sum(axis=0)
        values = values - (weight * values).sum(axis=0) / np.where(total > 0, total, 1)
        total = amplifier_sums(weight)
        columns = amplifier_sums(weight * values) / np.where(total > 0, total, 1)
        values = values - columns[:, amplifier_of(values.shape[1])]
    return values
