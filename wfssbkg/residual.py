"""What is left of an exposure when a background is subtracted from it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import bottleneck as bn
import numpy as np
from scipy import ndimage

from wfssbkg import StepError, cellfiles, cells, combine, files, masked, products
from wfssbkg.config import Compare
from wfssbkg.sample import Exposure

PICTURE = 128  # px; about the side of an exposure made small


@dataclass
class Residual:
    """What some backgrounds leave of an exposure, in per cent of the sky.

    Attributes
    ----------
    rms : dict
        Of the smoothed residual, by the background's name; NaN if it does not fit.
    columns, rows : dict
        Median in each column and row, float32 arrays, by the background's name.
    small, masked : float32 arrays
        Residual of the first background, and masked part of the pixels, made small.
    """

    rms: dict[str, float]
    columns: dict[str, np.ndarray]
    rows: dict[str, np.ndarray]
    small: np.ndarray
    masked: np.ndarray


def of_exposure(
    exposure: Exposure, backgrounds: dict[str, Path], settings: Compare, refined: bool
) -> Residual:
    """
    Subtract backgrounds from an exposure, each fitted to it, and measure what is left.

    Nothing else is subtracted, no stripes and no faint light: the user's exposure has them.

    Parameters
    ----------
    exposure : `~wfssbkg.sample.Exposure`
    backgrounds : dict
        Name to file, of which the extension SCI is taken. All are fitted to the same pixels.
    settings : `~wfssbkg.config.Compare`
    refined : bool
        Whether the mask is that of the refinement, or that of makeMask.py.

    Returns
    -------
    `Residual`

    Raises
    ------
    StepError
        If a file cannot be read.
    """
    sci, err, bits = masked.read(exposure.masked)
    science = products.science_pixels(sci.shape)
    bad = (bits & np.uint8(masked.BAD) > 0) | ~(err > 0) | ~science
    source = bits & np.uint8(masked.SOURCE) > 0
    if refined:
        light, _ = cellfiles.read_refined(exposure.refined)
        source = cells.expand(np.isnan(light), along_x=exposure.along_x)
    rms, columns, rows = {}, {}, {}
    small = np.full(made_small(sci).shape, np.nan, dtype=np.float32)
    for name, whole, left, of_smoothed in _left(sci, err, ~(bad | source), backgrounds, settings):
        rms[name] = of_smoothed
        columns[name], rows[name] = profiles(left)
        if len(rms) == 1:
            small = made_small(np.where(bad, np.nan, whole))
    hidden = np.where(science, bad | source, np.nan).astype(np.float32)
    return Residual(rms, columns, rows, small, made_small(hidden))


def of_mean(path: Path, backgrounds: dict[str, Path], settings: Compare) -> dict[str, float]:
    """
    Measure what backgrounds leave of the mean of some exposures, in which noise averages down.

    Parameters
    ----------
    path : `~pathlib.Path`
        The mean: SCI and ERR, NaN where it is not known.
    backgrounds, settings
        As for `of_exposure`.

    Returns
    -------
    dict
        RMS of the smoothed residual, per cent of the sky, by the background's name.
    """
    value, noise = read_image(path), read_image(path, "ERR")
    good = np.isfinite(value) & (noise > 0)
    return {name: rms for name, _, _, rms in _left(value, noise, good, backgrounds, settings)}


def _left(
    value: np.ndarray,
    noise: np.ndarray,
    good: np.ndarray,
    backgrounds: dict[str, Path],
    settings: Compare,
) -> Iterator[tuple[str, np.ndarray, np.ndarray, float]]:
    """
    Subtract backgrounds from an image, all fitted to the same pixels: those that are good in it.

    Yields
    ------
    name : str
        Of the background.
    whole, left : (ny, nx) float32 arrays
        The residual, per cent of the sky, and the same with NaN where a pixel does not count.
    rms : float
        Of it after smoothing.
    """
    images = {name: read_image(path) for name, path in backgrounds.items()}
    counts = usable(images.values()) & good
    known = smooth(counts, settings.smoothing)
    for name, image in images.items():
        whole = subtract(value, noise, image, counts)
        left = np.where(counts, whole, np.nan)
        yield name, whole, left, root_mean_square(smoothed(left, known, settings))


def read_image(path: Path, name: str = "SCI") -> np.ndarray:
    """An extension of a file, float32."""
    with files.opened(path) as hdus:
        return np.asarray(hdus[name].data, dtype=np.float32)


def usable(images: list[np.ndarray]) -> np.ndarray:
    """Where all of some backgrounds have a value."""
    return np.all([np.isfinite(image) & (image != 0) for image in images], axis=0)


def subtract(
    value: np.ndarray, noise: np.ndarray, background: np.ndarray, counts: np.ndarray
) -> np.ndarray:
    """
    An image minus the background that is fitted to it, in per cent of its level.

    Parameters
    ----------
    value, noise : (ny, nx) float32 arrays
    background : (ny, nx) float32 array
        In units of the sky's level.
    counts : (ny, nx) bool array
        The pixels to fit to, with weights 1/noise^2.

    Returns
    -------
    (ny, nx) float32 array
        NaN everywhere if the background does not fit.
    """
    y, sigma, x, known = (combine.some(image) for image in (value, noise, background, counts))
    with np.errstate(divide="ignore", invalid="ignore"):
        weight = np.where(known, np.square(sigma, dtype=np.float64) ** -1, 0)
    try:
        level = combine.fit_level(y, weight, x)
    except StepError:
        return np.full(value.shape, np.nan, dtype=np.float32)
    return np.float32(100) * (value / np.float32(level) - background)


def smooth(image: np.ndarray, width: float) -> np.ndarray:
    """An image after a Gaussian of standard deviation `width`, px; float32."""
    return ndimage.gaussian_filter(image.astype(np.float32), width)


def smoothed(left: np.ndarray, known: np.ndarray, settings: Compare) -> np.ndarray:
    """
    A residual averaged over the Gaussian `compare.smoothing`, of the pixels that count.

    Parameters
    ----------
    left : (ny, nx) float32 array
        NaN where a pixel does not count.
    known : (ny, nx) float32 array
        `smooth` of where it counts.
    settings : `~wfssbkg.config.Compare`

    Returns
    -------
    (ny, nx) float32 array
        NaN where a pixel does not count, or those around it fill too little of the Gaussian.
    """
    counts = np.isfinite(left) & (known > settings.known)
    total = smooth(np.where(np.isfinite(left), left, 0), settings.smoothing)
    return np.where(counts, total / np.where(counts, known, 1), np.nan)


def root_mean_square(image: np.ndarray) -> float:
    """Of the finite values; NaN if there is none."""
    return float(np.sqrt(bn.nanmean(np.square(image, dtype=np.float64))))


def profiles(left: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The median of each column, and of each row; NaN where there is nothing."""
    columns, rows = (bn.nanmedian(left, axis=axis).astype(np.float32) for axis in (0, 1))
    return columns, rows


def made_small(image: np.ndarray) -> np.ndarray:
    """Means over square bins, so that about `PICTURE` px are left a side; NaN where all is NaN."""
    size = -(-max(image.shape) // PICTURE)
    known = np.isfinite(image)
    total = cells.binned(np.where(known, image, 0), (size, size), np.float64)
    number = cells.binned(known, (size, size), np.float64)
    with np.errstate(invalid="ignore"):
        return (total / number).astype(np.float32)
