"""Run the JWST pipeline's background step on rate files with a finished background.

It prints a line of JSON for each rate file. The mask of each, from subtractBackgrounds.py
--mask-only, must be beside it.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np

from demo import detector
from demo.exposures import Exposure
from wfssbkg import layout
from wfssbkg.detector import science_pixels

# Largest errors that are accepted, in units of the sky level: of the factor that the step fits, and
# of the median residual.
FACTOR, RESIDUAL = 0.005, 0.002


def true_factor(spec: Exposure, truth: np.ndarray) -> float:
    """
    The factor between an exposure and its background with the flat field in and a median of 1.

    Parameters
    ----------
    spec : `~demo.exposures.Exposure`
    truth : (npix, npix) float array
        The background of its combination, without flat field.

    Returns
    -------
    float
        DN/s
    """
    seen = truth * detector.true_flat(len(truth), spec.filter)
    return spec.sky_level * float(np.median(seen[science_pixels(seen.shape)]))


def subtract(rate: Path, background: Path) -> dict[str, str | float]:
    """
    Run the step as the README describes.

    Parameters
    ----------
    rate, background : `~pathlib.Path`
        The rate file, and the finished background with the flat field in.

    Returns
    -------
    dict
        rate: path of the rate file; status: S_BKDSUB; factor: as the step fits it, DN/s; residual:
        median of the result where the mask has sky, DN/s.
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


def main() -> None:
    """Run the step on each rate file."""
    parser = argparse.ArgumentParser(
        prog="python -m interop.pipeline",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("background", type=Path, help="finished file with the flat field in")
    parser.add_argument("rates", type=Path, nargs="+", metavar="RATE", help="rate files")
    options = parser.parse_args()
    for rate in options.rates:
        print(json.dumps(subtract(rate, options.background)), flush=True)


if __name__ == "__main__":
    main()
