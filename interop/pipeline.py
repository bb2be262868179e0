"""The JWST pipeline's background step with our files: python -m interop.pipeline BACKGROUND RATE...

Prints a line of JSON for each rate file. Its mask, from makeMask.py --wfss-mask, is beside it.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np

from demo import detector
from demo.exposures import Exposure
from wfssbkg import layout, products

# What is asked of the result, in units of the sky: of the factor that the step fits, and of the
# median of what is left.
FACTOR, RESIDUAL = 0.005, 0.002


def true_factor(spec: Exposure, truth: np.ndarray) -> float:
    """
    The factor that fits a background with the flat field in and a median of 1 to an exposure.

    Parameters
    ----------
    spec : `~demo.exposures.Exposure`
    truth : (npix, npix) float array
        The background of its combination, flat field out.

    Returns
    -------
    float
        DN/s
    """
    seen = truth * detector.true_flat(len(truth), spec.filter)
    return spec.sky_level * float(np.median(seen[products.science_pixels(seen.shape)]))


def subtract(rate: Path, background: Path) -> dict[str, str | float]:
    """
    Run the step as the README tells.

    Parameters
    ----------
    rate, background : `~pathlib.Path`
        Rate file, and finished background with the flat field in.

    Returns
    -------
    dict
        rate: its path; status: S_BKDSUB; factor: as fitted; residual: median of what is left where
        the mask has sky; DN/s.
    """
    from jwst.background import BackgroundStep
    from stdatamodels.jwst import datamodels

    with datamodels.open(str(rate)) as model:
        model.meta.source_catalog = "none"  # the step asks for one; the mask replaces it
        result = BackgroundStep.call(
            model, override_bkg=str(background), wfss_mask=str(layout.wfss_mask(rate))
        )
    sky = (result.mask > 0) & np.isfinite(result.data)
    return {
        "rate": str(rate),
        "status": result.meta.cal_step.bkg_subtract,
        "factor": float(result.meta.background.scaling_factor),
        "residual": float(np.median(result.data[sky])),
    }


if __name__ == "__main__":
    for name in sys.argv[2:]:
        print(json.dumps(subtract(Path(name), Path(sys.argv[1]))), flush=True)
