"""What is left of an image of the sky when a background is subtracted from it."""

from collections.abc import Mapping
from typing import NamedTuple

import bottleneck as bn
import numpy as np

from wfssbkg.combine import bins, sky
from wfssbkg.combine.sky import Model
from wfssbkg.config import Compare, Config
from wfssbkg.errors import StepError
from wfssbkg.files.comparison_file import Score
from wfssbkg.smoothing import gaussian_mean


class Left(NamedTuple):
    """What a background leaves of an image.

    Attributes
    ----------
    percent : (ny, nx) float32 array
        Everywhere, per cent of the sky. The median of what counts is 0.
    level : float
        Of the sky, in units of the image; NaN if the background does not fit.
    offset : float
        The median that was subtracted, per cent of the sky.
    """

    percent: np.ndarray
    level: float
    offset: float

    @property
    def rate(self) -> np.ndarray:
        """The image minus its sky, in units of the image, (ny, nx) float32."""
        return np.float32(self.level / 100) * (self.percent + np.float32(self.offset))


def scores_of(
    value: np.ndarray,
    noise: np.ndarray,
    counts: np.ndarray,
    models: Mapping[str, Model],
    config: Config,
) -> tuple[dict[str, Score], dict[str, Left]]:
    """
    Subtract backgrounds from an image of the sky, each fitted to it, and measure what is left.

    The fit is that of subtractBackgrounds.py. Nothing else is subtracted, no stripes and no faint
    flux: the user's exposure has them.

    Parameters
    ----------
    value, noise : (ny, nx) float32 arrays
        The image, e.g. a flat-fielded exposure in DN/s, and its noise.
    counts : (ny, nx) bool array
        The pixels that count: neither bad nor of a source.
    models : mapping
        Name to `~wfssbkg.combine.sky.Model`. All are fitted to the same pixels.
    config : `~wfssbkg.config.Config`

    Returns
    -------
    scores : dict
        By the background's name. NaN if it does not fit.
    left : dict of `Left`
        What each leaves.
    """
    counts = counts & (noise > 0) & np.isfinite(value)
    counts &= np.all([model.background != 0 for model in models.values()], axis=0)
    scores, everywhere = {}, {}
    for name, model in models.items():
        try:
            level, image = sky.fit_outside(
                value, noise, counts, model, config.combine.structure_box
            )
        except StepError:
            level, image = np.nan, model.background
        left = np.float32(100 / level) * (value - image)
        # Light of sources too faint to find, which is everywhere, is no fault of a background.
        offset = float(bn.nanmedian(np.where(counts, left, np.nan)))
        left -= np.float32(offset)
        everywhere[name] = Left(left, level, offset)
        left = np.where(counts, left, np.nan)
        score = Score(root_mean_square(smoothed(left, config.compare)), *profiles(left))
        scores[name] = score
    return scores, everywhere


def smoothed(left: np.ndarray, settings: Compare) -> np.ndarray:
    """
    A residual averaged over the Gaussian `compare.smoothing`, of the pixels that count.

    Parameters
    ----------
    left : (ny, nx) float32 array
        NaN where a pixel does not count.
    settings : `~wfssbkg.config.Compare`

    Returns
    -------
    (ny, nx) float32 array
        NaN where a pixel does not count, or those around it fill too little of the Gaussian.
    """
    counts = np.isfinite(left)
    weight = counts.astype(np.float32)
    mean, filled = gaussian_mean(left, weight, settings.smoothing, mode="reflect")
    return np.where(counts & (filled > settings.known), mean, np.nan)


def root_mean_square(image: np.ndarray) -> float:
    """The root mean square of the finite values; NaN if there is none."""
    return float(np.sqrt(bn.nanmean(np.square(image, dtype=np.float64))))


def profiles(left: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The median of each column, and of each row; NaN where there is nothing."""
    return tuple(bn.nanmedian(left, axis=axis).astype(np.float32) for axis in (0, 1))


def box_means(image: np.ndarray, side: int) -> np.ndarray:
    """Means over boxes of so many pixels a side; NaN where none has a value."""
    known = np.isfinite(image)
    total = bins.summed(np.where(known, image, 0), (side, side), np.float64)
    number = bins.summed(known, (side, side), np.float64)
    with np.errstate(invalid="ignore"):
        return total / number
