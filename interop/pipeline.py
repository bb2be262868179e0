"""Run the JWST pipeline's background step on rate files with a finished background.

It prints a line of JSON for each rate file. The mask of each, from subtractBackgrounds.py
--mask-only, must be beside it; without a background, so must the file without sky.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
from astropy.io import fits
from astropy.stats import sigma_clipped_stats

from demo import detector
from demo.exposures import Exposure
from wfssbkg import layout
from wfssbkg.detector import AMPLIFIERS, amplifier_of, science_pixels
from wfssbkg.subtract.background import window

# Largest errors that are accepted, in units of the sky level: of the level that is fitted, beyond
# what 1/f noise adds to it, and of the median residual; both beyond the error of that noise, which
# a fit may take for sky or leave.
FACTOR, RESIDUAL = 0.005, 0.002


def noise_level(rate: Path, light: np.ndarray, filter_name: str) -> tuple[float, float]:
    """
    What 1/f noise adds to the level of an exposure: nobody can tell it from sky.

    Parameters
    ----------
    rate : `~pathlib.Path`
        The rate file; of a subarray as well.
    light : (npix, npix) float array
        Sky and sources on the whole detector, from `demo.archive.light_on_detector`.
    filter_name : str

    Returns
    -------
    mean, error : float
        DN/s. Amplifiers differ by it, and how much counts from each is by chance: so the error is
        that of a mean of four.
    """
    with fits.open(rate) as hdus:
        part = window(hdus[0].header, light.shape)
        seen = (light * detector.true_flat(len(light), filter_name))[part]
        sound = (hdus["DQ"].data == 0) & np.isfinite(hdus["SCI"].data)
        off, amplifiers = hdus["SCI"].data - seen, amplifier_of(len(sound))
    means = [
        sigma_clipped_stats(off[amplifiers == k][sound[amplifiers == k]], sigma=5)[0]
        for k in range(AMPLIFIERS)
    ]
    return float(np.mean(means)), float(np.std(means) / np.sqrt(AMPLIFIERS))


def true_level(spec: Exposure, truth: np.ndarray) -> float:
    """The level of an exposure's sky, DN/s, without flat field; parameters as for `true_factor`."""
    return spec.sky_level * float(np.median(truth[science_pixels(truth.shape)]))


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


def flat_field(rate: Path) -> dict[str, str | float]:
    """
    Run the step after the background step on a rate file from subtractBackgrounds.py.

    Parameters
    ----------
    rate : `~pathlib.Path`
        The rate file that the sky was subtracted from.

    Returns
    -------
    dict
        As of `subtract`, with the level as factor.
    """
    from jwst.flatfield import FlatFieldStep
    from stdatamodels.jwst import datamodels

    path = layout.subtracted(rate)
    result = FlatFieldStep.call(str(path))
    with datamodels.open(str(layout.wfss_mask(rate))) as mask:
        sky = (mask.mask > 0) & np.isfinite(result.data)
    return {
        "rate": str(rate),
        "status": result.meta.cal_step.bkg_subtract,
        "factor": float(fits.getval(path, "BKGLVL")),
        "residual": float(np.median(result.data[sky])),
    }


def main() -> None:
    """Run the step on each rate file."""
    parser = argparse.ArgumentParser(
        prog="python -m interop.pipeline",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    words = "finished file with the flat field in; without it, subtractBackgrounds.py has run"
    parser.add_argument("--background", type=Path, help=words)
    parser.add_argument("rates", type=Path, nargs="+", metavar="RATE", help="rate files")
    options = parser.parse_args()
    for rate in options.rates:
        told = subtract(rate, options.background) if options.background else flat_field(rate)
        print(json.dumps(told), flush=True)


if __name__ == "__main__":
    main()
