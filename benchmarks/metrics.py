"""The error of a background in figures, the calibration of its uncertainty, the photon limit."""

from __future__ import annotations

from collections.abc import Iterable

import bottleneck as bn
import numpy as np
from astropy.stats import mad_std

from demo import score

FIGURES = ("pixel", "smooth", "column", "row", "tail", "spots", "edges")
# First coverage of each bin of the calibration; a bin with fewer pixels is not used.
COVERAGE = (1, 2, 3, 5, 9, 17, 33)
LEAST_PIXELS = 1000


def figures(error: np.ndarray, spots: np.ndarray, edges: np.ndarray) -> dict[str, float]:
    """
    The figures of the accuracy benchmark, as fractions of the sky.

    Parameters
    ----------
    error : (ny, nx) float array
        From `demo.score.relative_error`; NaN where there is none.
    spots, edges : (ny, nx) bool arrays
        Pixels near the dispersed spots, and near the steps from the edges of the mirror.

    Returns
    -------
    dict
        pixel: per-pixel RMS; smooth: RMS after 8-px smoothing; column, row: RMS of the profile
        along x and along y, each the median over the other axis; tail: 99.9th percentile of the
        absolute error; spots, edges: RMS in the pixels near them.
    """
    return score.figures(error) | {
        "column": score.rms(bn.nanmedian(error, axis=0)),
        "row": score.rms(bn.nanmedian(error, axis=1)),
        "spots": score.rms(error[spots]),
        "edges": score.rms(error[edges]),
    }


def calibration(
    background: np.ndarray, err: np.ndarray, truth: np.ndarray, number: np.ndarray
) -> dict[str, float]:
    """
    Robust standard deviation of (background - truth)/ERR: 1 where the uncertainty is right.

    Parameters
    ----------
    background, err, truth : (ny, nx) float arrays
        The level of the background is arbitrary; the truth is scaled to it.
    number : (ny, nx) int array
        Exposures that count in each pixel; pixels without any are left out.

    Returns
    -------
    dict
        cal: of all pixels; cal_1, cal_2, cal_3, cal_5, ...: of pixels with 1, 2, 3 to 4, 5 to 8,
        ... exposures, NaN if there are fewer than `LEAST_PIXELS` of them.
    """
    good = (number > 0) & (err > 0)
    background, err, truth, number = (x[good] for x in (background, err, truth, number))
    pull = (background - np.median(background / truth) * truth) / err
    bins = np.digitize(number, COVERAGE)
    parts = {f"cal_{first}": pull[bins == k] for k, first in enumerate(COVERAGE, start=1)}
    return {name: _robust_std(part) for name, part in ({"cal": pull} | parts).items()}


def _robust_std(values: np.ndarray) -> float:
    if values.size < LEAST_PIXELS:
        return np.nan
    return float(mad_std(values))


def photon_limit(exposures: Iterable[tuple[float, np.ndarray, np.ndarray]]) -> float:
    """
    The smallest per-pixel RMS error that a set of exposures allows, as a fraction of the sky.

    Parameters
    ----------
    exposures : iterable of (level, variance, bad)
        Sky level (DN/s), variance of the flat-fielded exposure ((DN/s)^2), bad pixels.

    Returns
    -------
    float
        RMS of 1 / sqrt(sum of level^2 / variance) over the pixels that are good in any exposure.
    """
    information = 0.0
    for level, variance, bad in exposures:
        information = information + np.where(bad, 0, level**2 / np.where(bad, 1, variance))
    return float(np.sqrt(np.mean(1 / information[information > 0])))
