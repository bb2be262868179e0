"""The reference: what WFSSBackgrounds by TheSkyentist does, with plain numpy and astropy.

`mask`, `combine`, `finish` are the recipe in its README; with `again` before `finish` they are the
two passes of its latest commit: sources are masked at 2 sigma, the background is made, scaled to
each exposure and subtracted, sources are masked at 1 sigma in the difference, and the background is
made again. benchmarks/accuracy.py runs all four, benchmarks/scale.py the three for their times.

As in the original, there is a program for each step. It works on one exposure
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


def mask(rates: list[Path], folder: Path) -> None:
    """Flat-field the exposures, and mask pixels with a DQ flag or a source."""
    from jwst.flatfield import FlatFieldStep

    with fits.open(rates[0]) as hdus:
        shape = hdus["SCI"].data[INNER].shape
    flat_fielded, errors = np.zeros((2, len(rates), *shape))
    bad, masked = np.zeros((2, len(rates), *shape), dtype=bool)
    for number, rate in enumerate(rates):
        with FlatFieldStep.call(str(rate), configure_log=False) as model:
            sci, err = (values[INNER].astype(np.float32) for values in (model.data, model.err))
            bad[number] = model.dq[INNER] > 0
        bad[number] |= ~np.isfinite(sci) | ~np.isfinite(err)
        sci[bad[number]], err[bad[number]] = 0, 1
        masked[number] = bad[number] | _sources(sci, err, bad[number], 2.0)
        flat_fielded[number], errors[number] = sci, err
    np.save(folder / "exposures.npy", flat_fielded)
    np.save(folder / "errors.npy", errors)
    np.save(folder / "bad.npy", bad)
    np.save(folder / "masks.npy", masked)


def _sources(sci: np.ndarray, err: np.ndarray, bad: np.ndarray, sigma: float) -> np.ndarray:
    """Pixels of sources: at least 10 connected ones, each `sigma` above sep's background."""
    import sep

    background = sep.Background(sci, mask=bad)
    _, segments = sep.extract(
        sci - background.back(), sigma, err=err, mask=bad, minarea=10, filter_kernel=None,
        deblend_nthresh=1, clean=False, segmentation_map=True,
    )  # fmt: skip
    return segments > 0


def combine(_: list[Path], folder: Path) -> None:
    """Combine the exposures by a 1-sigma-clipped median, each divided by its own."""
    from astropy.stats import sigma_clipped_stats

    exposures, masks = np.load(folder / "exposures.npy"), np.load(folder / "masks.npy")
    border = (exposures.shape[1] + 8) // 16  # 128 px of a full frame
    middle = np.s_[:, border:-border, border:-border]
    _, levels, _ = sigma_clipped_stats(exposures[middle], masks[middle], sigma=1, axis=(1, 2))
    exposures /= levels[:, np.newaxis, np.newaxis]
    _, background, _ = sigma_clipped_stats(exposures, masks, sigma=1, axis=0)
    np.save(folder / "background.npy", background)


def again(rates: list[Path], folder: Path) -> None:
    """The second pass: mask sources in the exposures minus the background, and combine again."""
    smooth = _smooth(np.load(folder / "background.npy"))
    exposures, errors, bad, masks = (
        np.load(folder / f"{name}.npy") for name in ("exposures", "errors", "bad", "masks")
    )
    for number, (sci, err) in enumerate(zip(exposures, errors, strict=True)):
        level = np.median((sci / smooth)[~masks[number]])
        difference = np.where(bad[number], 0, sci - level * smooth).astype(np.float32)
        found = _sources(difference, err.astype(np.float32), bad[number], 1.0)
        masks[number] = bad[number] | found
    np.save(folder / "masks.npy", masks)
    combine(rates, folder)


def finish(rates: list[Path], folder: Path) -> None:
    """Fill and denoise the background; write it without and with the flat field."""
    from jwst.flatfield import FlatFieldStep
    from stdatamodels.jwst import datamodels

    smooth = _smooth(np.load(folder / "background.npy"))
    with datamodels.open(str(rates[-1])) as model:
        flat_out = np.zeros(model.data.shape, dtype=np.float32)
        flat_out[INNER] = smooth
        model.data = flat_out
        with FlatFieldStep.call(model, inverse=True, configure_log=False) as result:
            fits.writeto(folder / "reference_unflat.fits", result.data, overwrite=True)
    fits.writeto(folder / "reference.fits", flat_out, overwrite=True)


def _smooth(image: np.ndarray) -> np.ndarray:
    """A background without holes, denoised."""
    from maskfill import maskfill
    from skimage.restoration import denoise_nl_means, estimate_sigma

    filled, _ = maskfill(image, ~np.isfinite(image), size=3, smooth=True)
    sigma = estimate_sigma(filled)
    options = {"patch_size": 5, "patch_distance": 6, "fast_mode": True}
    return denoise_nl_means(filled, h=0.8 * sigma, sigma=sigma, **options)


STEPS = {step.__name__: step for step in (mask, combine, again, finish)}


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
