"""The error that sources leave in a background, told from backgrounds without some fields."""

import numpy as np
from astropy.stats import mad_std

from wfssbkg.combine import bins, fields, stack
from wfssbkg.combine.common import common_to
from wfssbkg.combine.exposure import Exposure
from wfssbkg.config import Combine
from wfssbkg.run.parallel import Workers
from wfssbkg.smoothing import gaussian_mean

_PARTS = 8  # of the fields; more cost more time


def systematic_error(workers: Workers, settings: Combine, members: list[Exposure]) -> float:
    """
    The error that sources leave in the background, beyond the noise.

    Parameters
    ----------
    workers, settings, members
        As for `wfssbkg.combine.stack.combine_all`.

    Returns
    -------
    float
        In units of the level; 0 if there are no two parts.

    Notes
    -----
    The fields are shared out among n parts. The error of the background is sqrt(n - 1) times the
    deviation of a background without one part from their mean (Tukey's jackknife). The median of
    the parts counts: without a field that lacks light which most others have, or is the deepest, a
    background deviates several times more, and its error is not that of the others.
    """
    groups = fields.units([exposure.pointing for exposure in members])
    information = np.array([(exposure.level / exposure.noise) ** 2 for exposure in members])
    parts = fields.share_out(groups, information, min(_PARTS, len(groups)))
    if len(parts) < 2:
        return 0.0
    without = [[each for k, each in enumerate(members) if k not in part] for part in parts]
    made = [
        stack.combine_all(
            workers,
            settings,
            some,
            common_to(some, settings),
            binned=True,
            description=f"without part {number} of the fields",
        )[:2]
        for number, some in enumerate(without, 1)
    ]
    sci, err = np.array(made).swapaxes(0, 1)
    deviation = np.sqrt(len(parts) - 1) * (sci - sci.mean(axis=0))
    noise = np.sqrt((len(parts) - 1) / np.sum(1 / err**2, axis=0))
    widths = (bins.SIZE, 1) if members[0].along_x else (1, bins.SIZE)
    return float(np.median([excess(each, noise, widths) for each in deviation]))


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
