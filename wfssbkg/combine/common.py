"""What exposures have in common of what a refinement found in each, and so belongs to the sky.

Stripes, faint flux and light on large scales are measured against the background made so far, and
contain its errors, the same ones in all exposures. To subtract these would hide them for ever.
"""

import numpy as np
from scipy import ndimage

from wfssbkg.combine import bins, extra_light, fields, stripes
from wfssbkg.combine.dark_residual import DarkResidual
from wfssbkg.combine.exposure import Common, Exposure
from wfssbkg.config import Combine
from wfssbkg.files import refined_exposure

# Fields that have to have faint flux in the same place for it to be common to them: where they are
# few, the halos of two galaxies may meet by chance.
_FEWEST = 3
_FAINT_BOX = 32  # px; the faint flux of single sources is on smaller scales


def common_to(members: list[Exposure], settings: Combine) -> Common:
    """
    Tell what some exposures have in common from their refined files.

    Parameters
    ----------
    members : list of `~wfssbkg.combine.exposure.Exposure`
    settings : `~wfssbkg.config.Combine`

    Returns
    -------
    Common

    Raises
    ------
    StepError
        If a file cannot be read.
    """
    along_x, shape = members[0].along_x, members[0].bins_shape
    box = bins.box(_FAINT_BOX, along_x=along_x)
    read = []
    for exposure in members:
        found = refined_exposure.read(exposure.refined)
        level = np.float32(exposure.level)
        read.append(
            (
                _mean_of_boxes(found.faint / level, box),
                found.stripes / level,
                found.weight * level**2,
                found.difference,
                found.difference_weight,
            )
        )
    faint, own, weight, maps, map_weights = (np.array(each) for each in zip(*read, strict=True))
    number = len(fields.members([exposure.pointing for exposure in members]))
    # The largest that so many fields have, or the median.
    share = min(0.5, max(number - _FEWEST, 0) / max(number - 1, 1))
    faint = np.nan_to_num(np.nanquantile(faint, share, axis=0))
    faint = ndimage.gaussian_filter(faint, 1, mode="nearest")
    light = extra_light.find(maps, map_weights, strong=settings.strong_extra_light)
    names = [exposure.name for exposure in members]
    return Common(
        stripes.shared(own, weight),
        extra_light.enlarged(faint, shape),
        dict(zip(names, light.extra, strict=True)),
        dict(zip(names, light.level, strict=True)),
        DarkResidual(found.dark),
    )


def _mean_of_boxes(image: np.ndarray, box: tuple[int, int]) -> np.ndarray:
    """The means of what is known of an image in boxes; NaN where nothing is."""
    known = np.isfinite(image)
    total, number = (bins.summed(x, box, np.float32) for x in (np.where(known, image, 0), known))
    return np.divide(total, number, out=np.full_like(total, np.nan), where=number > 0)
