"""The picture of an exposure: before, what was taken for sky, the sky, after, and profiles."""

from pathlib import Path

import bottleneck as bn
import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from wfssbkg.combine import bins
from wfssbkg.files.temporary import replacing

_SIDE = 512  # px of the longest side of an image
_SPAN = 0.1  # of the level, on both sides of it


def write(path: Path, before: np.ndarray, masked: np.ndarray, sky: np.ndarray) -> None:
    """
    Draw and write the picture.

    Parameters
    ----------
    path : `~pathlib.Path`
    before : (ny, nx) float array
        The flat-fielded exposure, DN/s.
    masked : (ny, nx) bool array
        Bad pixels, and sources.
    sky : (ny, nx) float array
        What is subtracted, DN/s; 0 where it is not known.
    """
    level = float(np.median(sky[sky != 0]))
    known = sky != 0
    seen = np.where(known, before, np.nan) / level
    after = np.where(known, before - sky, np.nan) / level
    of_sky = np.where(masked, np.nan, after)
    figure = Figure(figsize=(12, 6.4), layout="constrained")
    FigureCanvasAgg(figure)
    grid = figure.add_gridspec(2, 4, height_ratios=(1.7, 1))
    panels = (
        ("before", seen, 1),
        ("taken for sky", np.where(masked, np.nan, seen), 1),
        ("sky", np.where(known, sky, np.nan) / level, 1),
        ("after", after, 0),
    )
    for number, (title, image, middle) in enumerate(panels):
        axes = figure.add_subplot(grid[0, number])
        drawn = axes.imshow(
            _small(image),
            origin="lower",
            cmap="viridis" if middle else "RdBu_r",
            vmin=middle - _SPAN,
            vmax=middle + _SPAN,
            extent=(0, image.shape[1], 0, image.shape[0]),
            interpolation="nearest",
        )
        axes.set_title(title)
        axes.set_facecolor("#d5d8dc")
        axes.tick_params(labelsize=7)
        label = "exposure / sky level" if middle else "(exposure - sky) / sky level"
        figure.colorbar(drawn, ax=axes, location="bottom", label=label)
    for axis, (place, name) in enumerate(((grid[1, :2], "column"), (grid[1, 2:], "row"))):
        axes = figure.add_subplot(place)
        profile = bn.nanmedian(of_sky, axis=axis)
        axes.plot(100 * profile, lw=0.6, color="#0072b2")
        axes.axhline(0, color="#8a929b", lw=0.6)
        axes.set_xlabel(f"{name} / px")
        axes.set_ylabel("median of the sky left / % of its level")
        spread = np.nanpercentile(np.abs(100 * profile), 98) if np.isfinite(profile).any() else 1
        axes.set_ylim(-2 * spread - 0.1, 2 * spread + 0.1)
    figure.suptitle(f"{path.stem}: sky of {level:.3f} DN/s")
    with replacing(path) as temporary:
        figure.savefig(temporary, dpi=110, format="png")


def _small(image: np.ndarray) -> np.ndarray:
    """Medians of boxes, so that the image has no more pixels than are shown."""
    side = -(-max(image.shape) // _SIDE)
    return bins.medians(image.astype(np.float32), (side, side))[0] if side > 1 else image
