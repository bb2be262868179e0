"""The sky of one exposure: a background and components fitted to what is no source."""

from dataclasses import dataclass

import numpy as np
from scipy.optimize import nnls

from wfssbkg.combine import bins, extra_light, levels, stripes, traces
from wfssbkg.config import Combine
from wfssbkg.errors import StepError

_SEARCHES = 3  # for sources, each with the sky of the one before
_ROUNDS = 10
# Sigma beyond which a box is left out: what is above is more often a source than noise.
_ABOVE, _BELOW = 2.5, 4.0


@dataclass
class Model:
    """What the sky of any exposure may be made of; images of its pixels, flat field divided out.

    Attributes
    ----------
    background : (ny, nx) float32 array
        In units of its level; 0 where it is not known.
    dark : float
        A constant that is in all exposures, DN/s.
    components : (k, ny, nx) float32 array
        Light that varies, in units of the level.
    typical : (k,) float array
        The root mean square of each one's amplitudes in the archive.
    """

    background: np.ndarray
    dark: float
    components: np.ndarray
    typical: np.ndarray


@dataclass
class Fit:
    """The sky of an exposure.

    Attributes
    ----------
    level, level_error : float
        DN/s
    amplitudes, amplitude_errors : (k,) float arrays
        Of the components, in units of the level.
    source : (ny, nx) bool array
        Pixels that were left out as sources.
    """

    level: float
    level_error: float
    amplitudes: np.ndarray
    amplitude_errors: np.ndarray
    source: np.ndarray

    def image(self, model: Model) -> np.ndarray:
        """The sky in each pixel, (ny, nx) float32, DN/s, flat field divided out."""
        scattered = np.tensordot(self.amplitudes, model.components, 1)
        sky = self.level * (model.background + scattered) + model.dark
        return np.where(model.background == 0, 0, sky).astype(np.float32)


def fit(
    value: np.ndarray,
    noise: np.ndarray,
    bad: np.ndarray,
    source: np.ndarray,
    model: Model,
    settings: Combine,
    *,
    along_x: bool,
    direct: bool,
) -> Fit:
    """
    Find sources and sky of an exposure.

    Parameters
    ----------
    value, noise : (ny, nx) float32 arrays
        Flat-fielded, and its noise, DN/s.
    bad, source : (ny, nx) bool arrays
        Pixels that do not count, and sources to begin with.
    model : `Model`
    settings : `~wfssbkg.config.Combine`
    along_x, direct : bool
        The direction of the dispersion; whether there is none.

    Returns
    -------
    `Fit`
    """
    binned, sigma = bins.average(value, noise, bad | (model.background == 0), along_x=along_x)
    weight = bins.weight(sigma)
    source = bins.any_of(source, along_x=along_x)
    background, *components = (
        bins.average(image, np.ones_like(image), model.background == 0, along_x=along_x)[0]
        for image in (model.background, *model.components)
    )
    binned -= np.float32(model.dark)
    parts = np.array([background, *components])
    box = bins.box(settings.structure_box, along_x=along_x)
    for _ in range(_SEARCHES):
        counts = np.where(source, 0, weight)
        level, errors = fit_parts(binned, counts, parts, model.typical, box)
        sky = np.tensordot(level, parts, 1)
        source = find_sources(
            binned - sky, weight, counts, settings, box, along_x=along_x, direct=direct
        )
    counts = np.where(source, 0, weight)
    values, errors = fit_parts(binned, counts, parts, model.typical, box)
    import os
    K = float(os.environ.get("K", "1")); N=int(os.environ.get("N","4"))
    for _ in range(N):
        left = binned - np.tensordot(values, parts, 1)
        left = np.where(np.isfinite(left), left, 0)
        if os.environ.get("LS"):
            left = left - extra_light.large_scale(left, counts, box)
        turned = [np.ascontiguousarray(x if along_x else x.T) for x in (left, counts)]
        mean, s = traces.average(*turned, settings.scales(direct=direct)[0])
        if not along_x: mean, s = mean.T, s.T
        ok = (counts > 0) & np.isfinite(s)
        low = mean[ok & (mean < 0)] / s[ok & (mean < 0)]
        wide = np.sqrt(np.median(low**2) / 0.4549)
        free = np.where(np.abs(mean) < K * wide * s, counts, 0)
        values, errors = fit_parts(binned, free, parts, model.typical, box)
    return Fit(
        float(values[0]),
        float(errors[0]),
        values[1:] / values[0],
        errors[1:] / values[0],
        bins.expand(source, along_x=along_x),
    )


def find_sources(residual, weight, counts, settings, box, *, along_x, direct):
    known = np.isfinite(residual) & (weight > 0)
    residual, weight, counts = (np.where(known, x, np.float32(0)) for x in (residual, weight, counts))
    residual = residual - extra_light.large_scale(residual, counts, box)
    own, _ = stripes.of_exposure(residual, counts)
    residual -= stripes.as_image(own, len(residual))
    turned = [np.ascontiguousarray(x if along_x else x.T) for x in (residual, weight)]
    found, _ = traces.find(
        *turned,
        scales=settings.scales(direct=direct),
        threshold=settings.trace_threshold,
        depth=settings.trace_depth,
        fluxes=np.empty(0),
    )
    return found if along_x else found.T


def fit_parts(binned, weight, parts, typical, box):
    known = (weight > 0) & np.isfinite(binned) & np.isfinite(parts[0])
    weight = np.where(known, weight, 0).astype(np.float64)
    total = bins.summed(weight, box)
    if not (total > 0).any():
        raise StepError("no pixel is left that sees nothing but sky")
    def mean(image):
        return (bins.summed(np.where(known, image, 0) * weight, box) / np.where(total > 0, total, 1))[total > 0]
    y = mean(binned)
    x = np.array([mean(part) for part in parts])
    variance = 1 / total[total > 0]
    values = np.zeros(len(parts)); values[0] = np.median(y / x[0])
    scatter2 = 0.0
    for _ in range(_ROUNDS):
        off = y - values @ x
        # noise of the boxes beyond that of pixels: 1/f noise, sources; told from below
        low = off[off < 0]
        scatter2 = max(np.median(low**2 - 0.4549 * variance[off < 0]) / 0.4549, 0) if len(low) else 0.0
        sigma = np.sqrt(variance + scatter2)
        keep = (off < _ABOVE * sigma) & (off > -_BELOW * sigma)
        w = keep / sigma
        design = (x * w).T
        target = y * w
        prior = np.diag(np.r_[0, 1 / (np.maximum(typical, 1e-9) * values[0])])[1:]
        values, _ = nnls(np.vstack([design, prior]), np.r_[target, np.zeros(len(prior))])
    cov = np.linalg.inv(design.T @ design + prior.T @ prior)
    return values, np.sqrt(np.diag(cov))
