"""The published recipe with plain numpy and astropy, for the times in benchmarks/scale.py.

As in WFSSBackgrounds by TheSkyentist, there is a program for each step. It works on one exposure
after the other, keeps all of them in memory in numpy's default float64, and passes them on in .npy
files. It does not use bottleneck, which is not a part of numpy or astropy. Two things are left out,
which makes it faster: the query, and the flat-fielded exposures that the original writes as well.
"""

from __future__ import annotations

import argparse
import sys
import warnings
from pathlib import Path

import numpy as np
from astropy.io import fits

from wfssbkg.run import command_line, messages

INNER = np.s_[4:-4, 4:-4]  # without the reference pixels
MIDDLE = np.s_[:, 128:-128, 128:-128]


def mask(rates: list[Path], folder: Path) -> None:
    """Flat-field the exposures, and mask pixels with a DQ flag or a source."""
    import sep
    from jwst.flatfield import FlatFieldStep

    with fits.open(rates[0]) as hdus:
        shape = hdus["SCI"].data[INNER].shape
    flat_fielded = np.zeros((len(rates), *shape))
    masks = np.zeros((len(rates), *shape), dtype=bool)
    for rate, image, masked in zip(rates, flat_fielded, masks, strict=True):
        with FlatFieldStep.call(str(rate), configure_log=False) as model:
            sci, err = (values[INNER].astype(np.float32) for values in (model.data, model.err))
            bad = model.dq[INNER] > 0
        bad |= ~np.isfinite(sci) | ~np.isfinite(err)
        sci[bad], err[bad] = 0, 1
        background = sep.Background(sci, mask=bad)
        _, segments = sep.extract(
            sci - background.back(), 2.0, err=err, mask=bad, minarea=10, filter_kernel=None,
            deblend_nthresh=1, clean=False, segmentation_map=True,
        )  # fmt: skip
        image[:], masked[:] = sci, bad | (segments > 0)
    np.save(folder / "exposures.npy", flat_fielded)
    np.save(folder / "masks.npy", masks)


def combine(_: list[Path], folder: Path) -> None:
    """Combine the exposures by a 1-sigma-clipped median, each divided by its own."""
    from astropy.stats import sigma_clipped_stats

    exposures, masks = np.load(folder / "exposures.npy"), np.load(folder / "masks.npy")
    _, levels, _ = sigma_clipped_stats(exposures[MIDDLE], masks[MIDDLE], sigma=1, axis=(1, 2))
    exposures /= levels[:, np.newaxis, np.newaxis]
    _, background, _ = sigma_clipped_stats(exposures, masks, sigma=1, axis=0)
    np.save(folder / "background.npy", background)


def finish(rates: list[Path], folder: Path) -> None:
    """Denoise and fill the background; write it without and with the flat field."""
    from jwst.flatfield import FlatFieldStep
    from maskfill import maskfill
    from skimage.restoration import denoise_nl_means, estimate_sigma
    from stdatamodels.jwst import datamodels

    image = np.load(folder / "background.npy")
    empty = ~np.isfinite(image)
    ready = np.where(empty, np.nanmedian(image), image)
    sigma = estimate_sigma(ready)
    smooth = denoise_nl_means(ready, patch_size=5, patch_distance=6, h=0.8 * sigma, fast_mode=True)
    filled, _ = maskfill(smooth, empty, size=3, smooth=True)
    with datamodels.open(str(rates[-1])) as model:
        flat_out = np.zeros(model.data.shape, dtype=np.float32)
        flat_out[INNER] = filled
        model.data = flat_out
        with FlatFieldStep.call(model, inverse=True, configure_log=False) as result:
            fits.writeto(folder / "reference_unflat.fits", result.data, overwrite=True)
    fits.writeto(folder / "reference.fits", flat_out, overwrite=True)


STEPS = {step.__name__: step for step in (mask, combine, finish)}


def main() -> int:
    """Do one step."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.reference", description=__doc__)
    parser.add_argument("step", choices=STEPS)
    parser.add_argument("folder", type=Path, help="for what the steps pass on, and the results")
    parser.add_argument("rates", type=Path, nargs="+", help="rate files of one combination")
    options = parser.parse_args()
    messages.quieten(verbose=False)
    warnings.simplefilter("ignore")
    sys.modules["bottleneck"] = None  # else astropy.stats, imported in the steps, would use it
    STEPS[options.step](options.rates, options.folder)
    return 0


if __name__ == "__main__":
    command_line.run(main)
