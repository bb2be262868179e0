"""The error that sources leave in a background, told from two halves of its fields."""

import numpy as np
from astropy.stats import mad_std

from wfssbkg.combine import bins, fields, stack
from wfssbkg.combine.common import common_to
from wfssbkg.combine.exposure import Exposure
from wfssbkg.config import Combine
from wfssbkg.run.parallel import Workers
from wfssbkg.smoothing import gaussian_mean


def difference_of_halves(workers: Workers, settings: Combine, members: list[Exposure]) -> float:
    """
    The error that sources leave in the background, beyond the noise.

    It is measured in the difference of the backgrounds of two halves of the fields.

    Parameters
    ----------
    workers, settings, members
        As for `wfssbkg.combine.stack.combine_all`.

    Returns
    -------
    float
        In units of the level; 0 if there are no two halves.
    """
    groups = fields.units([exposure.pointing for exposure in members])
    information = np.array([(exposure.level / exposure.noise) ** 2 for exposure in members])
    halves = fields.share_out(groups, information, 2)
    if not all(halves):
        return 0.0
    (one, one_err, *_), (other, other_err, *_) = (
        stack.combine_all(
            workers,
            settings,
            some := [members[k] for k in half],
            common_to(some, settings),
            binned=True,
            description="halves",
        )
        for half in halves
    )
    widths = (bins.SIZE, 1) if members[0].along_x else (1, bins.SIZE)
    beyond = excess(one - other, np.hypot(one_err, other_err), widths)
    # The difference has the errors of both halves, the mean that of both together.
    weights = [information[half].sum() for half in halves]
    return beyond * float(np.sqrt(weights[0] * weights[1]) / sum(weights))


def excess(image: np.ndarray, err: np.ndarray, widths: tuple[float, float]) -> float:
    """
    The robust standard deviation of a smoothed image beyond that of its noise.

    Parameters
    ----------
    image, err : (ny, nx) float arrays
        NaN where it is not known.
    widths : (float, float)
        Standard deviations of the Gaussian it is smoothed with, in its rows and columns.

    Returns
    -------
    float
        In units of the image; 0 where noise explains all.
    """
    known = np.isfinite(image) & (err > 0)
    if not known.any():
        return 0.0
    weight = np.where(known, 1 / np.square(np.where(known, err, 1)), 0)
    mean, total = gaussian_mean(image, weight, widths)
    noise2 = 1 / (4 * np.pi * widths[0] * widths[1] * np.median(total[known]))
    return float(np.sqrt(max(mad_std(mean[known]) ** 2 - noise2, 0)))
