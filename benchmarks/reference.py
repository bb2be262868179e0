"""The published recipe by plain numpy and astropy, to measure time against: benchmarks/scale.py.

WFSSBackgrounds by TheSkyentist, the README's numbered list: one process, everything in memory, an
exposure after the other. Run as a program it prints the seconds that each step took.
"""

from __future__ import annotations

import argparse
import json
import time
import warnings
from pathlib import Path

import numpy as np
import sep
from astropy.io import fits
from astropy.stats import sigma_clip, sigma_clipped_stats

from wfssbkg import cli

INNER = np.s_[4:-4, 4:-4]  # the other pixels see no light
MIDDLE = np.s_[128:-128, 128:-128]


def mask(rate: Path) -> np.ndarray:
    """A flat-fielded exposure, NaN where DQ is set or a source was found."""
    from jwst.flatfield import FlatFieldStep

    with FlatFieldStep.call(str(rate), configure_log=False) as model:
        sci, err = (image.astype(np.float32) for image in (model.data, model.err))
        bad = model.dq > 0
    bad |= ~np.isfinite(sci) | ~np.isfinite(err)
    sci[bad], err[bad] = 0, 1
    background = sep.Background(sci, mask=bad)
    _, segments = sep.extract(
        sci - background.back(), 2.0, err=err, mask=bad, minarea=10, filter_kernel=None,
        deblend_nthresh=1, clean=False, segmentation_map=True,
    )  # fmt: skip
    return np.where(bad | (segments > 0), np.nan, sci)


def combine(exposures: list[np.ndarray]) -> np.ndarray:
    """The 1-sigma-clipped median of the exposures, each divided by its 1-sigma-clipped median."""
    levels = [sigma_clipped_stats(image[MIDDLE], sigma=1)[1] for image in exposures]
    normalised = np.array(
        [image / np.float32(level) for image, level in zip(exposures, levels, strict=True)]
    )
    return np.ma.median(sigma_clip(normalised, sigma=1, axis=0), axis=0).filled(np.nan)


def finish(background: np.ndarray, rate: Path) -> tuple[np.ndarray, np.ndarray]:
    """The background denoised and filled, with the flat field out, and in."""
    from jwst.flatfield import FlatFieldStep
    from maskfill import maskfill
    from skimage.restoration import denoise_nl_means, estimate_sigma
    from stdatamodels.jwst import datamodels

    image = background[INNER]
    empty = ~np.isfinite(image)
    ready = np.where(empty, np.nanmedian(image), image)
    sigma = estimate_sigma(ready)
    smooth = denoise_nl_means(ready, patch_size=5, patch_distance=6, h=0.8 * sigma, fast_mode=True)
    flat_out = np.zeros(background.shape, dtype=np.float32)
    flat_out[INNER], _ = maskfill(smooth, empty, size=3, smooth=True)
    with datamodels.open(str(rate)) as model:
        model.data = flat_out
        with FlatFieldStep.call(model, inverse=True, configure_log=False) as result:
            return flat_out, result.data.copy()


def main() -> int:
    """Time the three steps on some rate files, and write the finished background."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.reference", description=__doc__)
    parser.add_argument("rates", type=Path, nargs="+", help="rate files of one combination")
    parser.add_argument("--output", type=Path, required=True, help="folder of the finished files")
    options = parser.parse_args()
    cli.quieten(verbose=False)
    warnings.simplefilter("ignore")
    times = [time.monotonic()]
    exposures = [mask(rate) for rate in options.rates]
    times.append(time.monotonic())
    background = combine(exposures)
    times.append(time.monotonic())
    flat_out, flat_in = finish(background, options.rates[-1])
    for image, name in ((flat_out, "reference.fits"), (flat_in, "reference_unflat.fits")):
        fits.writeto(options.output / name, image, overwrite=True)
    times.append(time.monotonic())
    print(json.dumps(dict(zip(("mask", "combine", "finish"), np.diff(times), strict=True))))
    return 0


if __name__ == "__main__":
    cli.run(main)
