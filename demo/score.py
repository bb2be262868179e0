"""The error of a background against the known truth."""

from __future__ import annotations

import numpy as np

from wfssbkg.smoothing import gaussian_mean


def relative_error(background: np.ndarray, truth: np.ndarray, good: np.ndarray) -> np.ndarray:
    """
    Background over truth, minus 1, after the overall level is divided out.

    The level is the median of the ratio, not the ratio of the medians, which noise biases.

    Parameters
    ----------
    background, truth : (ny, nx) float arrays
    good : (ny, nx) bool array
        The pixels to score.

    Returns
    -------
    (ny, nx) float64 array
        NaN where not good.
    """
    ratio = np.full(truth.shape, np.nan)
    ratio[good] = background[good].astype(np.float64) / truth[good]
    return ratio / np.median(ratio[good]) - 1


def smoothed(error: np.ndarray, width: float = 8.0) -> np.ndarray:
    """
    An error map smoothed with a Gaussian, over the pixels it has.

    Parameters
    ----------
    error : (ny, nx) float array
        NaN where there is none.
    width : float
        Standard deviation of the Gaussian, px.

    Returns
    -------
    (ny, nx) float64 array
        NaN where `error` is.
    """
    good = np.isfinite(error)
    mean, _ = gaussian_mean(error, good.astype(np.float64), width, mode="reflect")
    return np.where(good, mean, np.nan)


def rms(error: np.ndarray) -> float:
    """Root mean square of the finite values; NaN if there is no value at all."""
    return float(np.sqrt(np.nanmean(np.square(error)))) if np.size(error) else np.nan


def figures(error: np.ndarray) -> dict[str, float]:
    """
    What the demo's table quotes, as fractions of the sky.

    Parameters
    ----------
    error : (ny, nx) float array
        From `relative_error`.

    Returns
    -------
    dict
        pixel: per-pixel RMS; smooth: RMS after 8-px smoothing; tail: 99.9th percentile of the
        absolute error.
    """
    return {
        "pixel": rms(error),
        "smooth": rms(smoothed(error)),
        "tail": float(np.nanpercentile(np.abs(error), 99.9)),
    }
