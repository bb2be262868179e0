"""What the subtraction of the dark left in all exposures: a constant, no share of the sky.

It is no light, so that dividing by the flat field makes it the constant times the inverse of the
flat field. That has the flat field's imprint, from pixel to pixel; and on large scales, where the
sky is fainter than its level or the flat field low, it is a larger part of the sky, most of all in
exposures of a low level.
"""

from typing import NamedTuple

import numpy as np
from astropy.stats import mad_std

from wfssbkg.combine.stripes import amplifier_sums
from wfssbkg.detector import amplifier_of
from wfssbkg.smoothing import MEDIAN_SQUARE

# Of the lowest level. Dark residuals are 0.005 to 0.02 DN/s, the lowest levels 0.2; a
# larger constant was found in extra light, and would take the levels and the stripes with it.
LARGEST = 0.1
_CLIP = 3.0  # sigma beyond which a box does not count: extra light
_ROUNDS = 8
_USUAL = 4.0  # sigma; pixels beyond have a dark current or a response of their own
_FEW = 16  # of the pixels are enough to tell a scatter
_FEWEST, _FEWEST_EXPOSURES = 1000, 4


class DarkResidual(NamedTuple):
    """A constant and its error, DN/s; the error is infinite where nothing tells the constant."""

    value: float = 0.0
    error: float = np.inf


class Imprint(NamedTuple):
    """How much of the inverse of the flat field is in an exposure, DN/s, and its error."""

    value: float = 0.0
    error: float = np.inf


def imprint(sci: np.ndarray, counts: np.ndarray, inverse_flat: np.ndarray) -> Imprint:
    """
    Tell how much of the inverse of the flat field is in a flat-fielded exposure.

    Parameters
    ----------
    sci : (ny, nx) float array
        DN/s
    counts : (ny, nx) bool array
        Pixels of the sky.
    inverse_flat : (ny, nx) float array

    Returns
    -------
    Imprint

    Notes
    -----
    From the differences of pixels that are neighbours in a column, which have the same 1/f noise.
    """
    both = counts[1:] & counts[:-1]
    x, y = (np.diff(image, axis=0)[both].astype(np.float64) for image in (inverse_flat, sci))
    if len(x) < _FEWEST:
        return Imprint()
    usual = np.logical_and(*(np.abs(each) < _USUAL * mad_std(each[::_FEW]) for each in (x, y)))
    x, y = x[usual], y[usual]
    squares = x @ x
    if not squares > 0:
        return Imprint()
    slope = x @ y / squares
    # Neighbouring differences have a pixel in common: 1.5 times the variance of independent ones.
    return Imprint(slope, float(np.sqrt(1.5 * np.mean((y - slope * x) ** 2) / squares)))


def of_imprints(imprints: list[Imprint], levels: np.ndarray) -> DarkResidual:
    """
    The constant that the imprints of exposures of different levels tell.

    Parameters
    ----------
    imprints : list of n Imprint
    levels : (n,) float array
        DN/s

    Notes
    -----
    The imprint of a constant is that constant. An error of the flat field leaves an imprint that is
    a share of the level. So the constant is what a straight line has at the level 0.
    """
    slopes, errors = np.array(imprints).T
    known = np.isfinite(errors)
    slopes, errors, levels = slopes[known], errors[known], levels[known]
    if len(levels) < _FEWEST_EXPOSURES or np.ptp(levels) == 0:
        return DarkResidual()
    (_, value), covariance = np.polyfit(levels, slopes, 1, w=1 / errors, cov=True)
    return DarkResidual(float(value), float(np.sqrt(covariance[1, 1])))


def mean(found: list[DarkResidual]) -> DarkResidual:
    """The mean of independent measurements, weighted by 1/error^2."""
    weights = np.array([each.error for each in found]) ** -2
    if not weights.sum() > 0:
        return DarkResidual()
    value = np.average([each.value for each in found], weights=weights)
    return DarkResidual(float(value), float(weights.sum() ** -0.5))


def fit(
    maps: np.ndarray,
    weights: np.ndarray,
    shape: np.ndarray,
    levels: np.ndarray,
    groups: list[list[int]],
) -> DarkResidual:
    """
    Fit the same constant to all exposures.

    Parameters
    ----------
    maps, weights : (n, rows, columns) float arrays
        Of n exposures, from `wfssbkg.combine.extra_light.map_of`, relative to their levels.
    shape : (rows, columns) float array
        What a constant of 1 adds in the same boxes beside what it adds to the level: the inverse
        of the flat field minus the background; NaN where it is not known.
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
    A constant c makes an exposure of level L differ from a background S by c/L (1/F - S). The fit
    leaves free what all exposures share in each box (the error of the background), and a value for
    each column of each amplifier of each exposure (1/f noise).
    """
    none = DarkResidual()
    weights = weights * np.isfinite(shape)
    slope = np.nan_to_num(shape) / levels[:, np.newaxis, np.newaxis]
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
