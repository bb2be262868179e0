"""Pictures of a comparison: one style, no state of pyplot, small enough for one HTML file."""

from __future__ import annotations

import base64
import io
import warnings
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import matplotlib as mpl
import numpy as np
from astropy.coordinates import BarycentricMeanEcliptic, SkyCoord
from astropy.nddata import block_reduce
from astropy.table import Table
from astropy.time import Time
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.dates import AutoDateLocator, ConciseDateFormatter
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from PIL import Image as Pillow

from wfssbkg import exposures, products
from wfssbkg.compare import Comparison, Picture

_INK, _FAINT, _NOTHING = "#22262b", "#8a929b", "#d5d8dc"  # text, axes, pixels without a value
# Of Okabe & Ito (2008), which the colour-blind can tell apart.
_BLUE, _SKY, _VERMILION = "#0072b2", "#56b4e9", "#d55e00"
_COLOURS = (_BLUE, _VERMILION, "#009e73", "#cc79a7", "#e69f00", _SKY)
_MARKERS = "osD^vP"
_SEQUENTIAL, _DIVERGING = "cividis", "RdBu_r"
_STYLE = {
    "axes.edgecolor": _FAINT,
    "axes.labelcolor": _INK,
    "axes.linewidth": 0.8,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "font.family": "DejaVu Sans",  # comes with matplotlib: the same letters everywhere
    "font.size": 10,
    "legend.frameon": False,
    "text.color": _INK,
    "xtick.color": _FAINT,
    "xtick.labelcolor": _INK,
    "ytick.color": _FAINT,
    "ytick.labelcolor": _INK,
}
_DPI = 180
_MOST_PIXELS = 512  # of the longest side of a map
DIFFERENCE_BOX = 8  # px; side of the boxes that `difference` averages over


@dataclass(frozen=True)
class Image:
    """A picture in WebP format.

    Attributes
    ----------
    data : bytes
    width, height : int
        px
    alt : str
        What it shows, for those who do not see it.
    """

    data: bytes
    width: int
    height: int
    alt: str

    @property
    def uri(self) -> str:
        """The picture as an address that needs no file."""
        return "data:image/webp;base64," + base64.b64encode(self.data).decode()


# ---- of a background ---------------------------------------------------------------------------


def background(comparison: Comparison) -> Image:
    """The finished background, in units of its level."""
    sky = _science(comparison.background.sci)
    low, high = limits = _limits(sky)
    alt = (
        f"Background of {comparison.folder.combination}: "
        f"{low:.2f} to {high:.2f} times its level on 98 % of the pixels"
    )
    return _map(_shown(sky), sky.shape, limits, "sky, in units of its level", alt)


def difference(comparison: Comparison) -> Image | None:
    """The new background minus the reference, per cent of the sky; None if there is none."""
    if comparison.official is None:
        return None
    change = 100 * (_science(comparison.background.sci) - _science(comparison.official))
    change = _means(change - np.nanmedian(change), DIFFERENCE_BOX)
    most = _nice(float(np.nanpercentile(np.abs(change), 98)))
    alt = (
        f"New background minus {comparison.official_name}: "
        f"standard deviation {np.nanstd(change):.2f} per cent of the sky"
    )
    shape, label = comparison.background.sci.shape, "new minus reference, % of the sky"
    return _map(change, shape, (-most, most), label, alt, cmap=_DIVERGING)


def uncertainty(comparison: Comparison) -> Image:
    """The uncertainty of a pixel, per cent of the sky."""
    err = 100 * _science(comparison.background.err)
    alt = f"Uncertainty of the background: median {np.nanmedian(err):.2f} per cent of the sky"
    return _map(_shown(err), err.shape, _limits(err), "uncertainty of a pixel, % of the sky", alt)


def coverage(comparison: Comparison) -> Image:
    """How many exposures count in each pixel."""
    number = _science(comparison.background.number)
    low, high = np.nanmin(number), np.nanmax(number)
    alt = f"Coverage: {low:.0f} to {high:.0f} exposures, median {np.nanmedian(number):.0f}"
    limits = 0.0, float(high) or 1.0
    label = "exposures that count in a pixel"
    return _map(_shown(number), number.shape, limits, label, alt, extend="neither")


def profiles(comparison: Comparison) -> dict[str, Image]:
    """Residual profiles of columns and of rows, new and reference in the same axes."""
    scores = comparison.scores
    kinds = {"columns": "column_profile", "rows": "row_profile"}
    values = [getattr(score, kind) for score in scores.values() for kind in kinds.values()]
    values = [value for value in values if np.isfinite(value).any()]
    if not values:
        return {}
    # Of each 99 %: single columns may be far off, and would hide the others.
    most = 1.25 * max(float(np.nanpercentile(np.abs(value), 99)) for value in values)
    images = {}
    for title, kind in kinds.items():
        with _figure(5.4, 3.0) as figure:
            axes = figure.add_subplot()
            axes.axhline(0, color=_FAINT, linewidth=0.8)
            for name, label, colour, width in (
                ("official", comparison.official_name, _VERMILION, 0.9),
                ("in", "new, on its own exposures", _SKY, 2.2),
                ("out", "new, on other exposures", _BLUE, 0.9),
            ):
                if name in scores:
                    line = {"color": colour, "linewidth": width, "label": label}
                    axes.plot(getattr(scores[name], kind), **line)
            axes.set(
                xlim=(0, len(getattr(next(iter(scores.values())), kind))),
                ylim=(-most, most),
                xlabel="column, px" if title == "columns" else "row, px",
                ylabel="residual, % of the sky",
            )
            figure.legend(
                loc="outside upper left",
                fontsize=9,
                handlelength=1.6,
                borderaxespad=0,
                labelspacing=0.25,
            )
            alt = f"Median residual of the {title} of the frame; the table has its percentiles"
            images[title] = _encoded(figure, alt, lossless=True)
    return images


def levels(comparisons: Sequence[Comparison]) -> list[Image]:
    """Levels against ecliptic latitude and against time, all combinations in one."""
    images = []
    for label, place in (("|ecliptic latitude|, deg", ecliptic_latitude), ("", _dates)):
        with _figure(5.4, 3.6) as figure:
            axes = figure.add_subplot()
            known = 0
            for number, comparison in enumerate(comparisons):
                table = comparison.background.inputs
                known += _levels(axes, table, place(table), number, comparison)
            if not known:
                continue
            axes.set(xlabel=label, ylabel="level, DN/s")
            axes.set_ylim(bottom=0)
            if place is ecliptic_latitude:
                axes.set_xlim(0, 90)
            else:
                locator = AutoDateLocator(minticks=3, maxticks=7)
                axes.xaxis.set_major_locator(locator)
                axes.xaxis.set_major_formatter(ConciseDateFormatter(locator))
            figure.legend(loc="outside upper left", ncols=2, fontsize=9, handletextpad=0.2)
            what = "ecliptic latitude" if place is ecliptic_latitude else "time"
            images.append(
                _encoded(figure, f"Sky level against {what} of {known} exposures", lossless=True)
            )
    return images


def ecliptic_latitude(table: Table) -> np.ndarray:
    """Distance of each pointing from the ecliptic, deg; NaN where it is not known."""
    latitude = np.full(len(table), np.nan)
    ra, dec = (np.asarray(table[name], dtype=float) for name in ("ra", "dec"))
    known = np.isfinite(ra) & np.isfinite(dec)
    if known.any():
        sky = SkyCoord(ra[known], dec[known], unit="deg").transform_to(BarycentricMeanEcliptic())
        latitude[known] = np.abs(sky.lat.deg)
    return latitude


def _dates(table: Table) -> np.ndarray:
    """Starts of the exposures; NaT where they are not known."""
    mjd = np.asarray(table["mjd"], dtype=float)
    dates = np.full(len(table), np.datetime64("NaT"), dtype="datetime64[s]")
    known = np.isfinite(mjd)
    dates[known] = Time(mjd[known], format="mjd").datetime64
    return dates


def _levels(
    axes: Axes, table: Table, where: np.ndarray, number: int, comparison: Comparison
) -> int:
    """Plot the levels of one combination; returns how many there are."""
    level, status = np.asarray(table["level"], dtype=float), np.asarray(table["status"])
    known = np.isfinite(level) & ~np.isnan(where)
    accepted = known & (status == exposures.ACCEPTED)
    colour = _COLOURS[number % len(_COLOURS)]
    marker = {"marker": _MARKERS[number % len(_MARKERS)], "linestyle": "", "markersize": 5}
    hollow = marker | {"markerfacecolor": "none", "markeredgecolor": colour}
    for chosen, style, label in (
        (accepted, marker | {"color": colour, "alpha": 0.8}, str(comparison.folder.combination)),
        (known & ~accepted, hollow, f"{comparison.folder.combination}, rejected"),
    ):
        if chosen.any():
            axes.plot(where[chosen], level[chosen], **style, label=label)
    return int(known.sum())


# ---- of exposures ------------------------------------------------------------------------------


def residual_range(pictures: Iterable[Picture]) -> float:
    """What the colours of residuals end at, per cent of the sky: round, and right for most."""
    values = [np.abs(p.residual[np.isfinite(p.residual) & (p.masked < 0.5)]) for p in pictures]
    tails = [np.percentile(value, 98) for value in values if len(value)]
    return _nice(float(np.median(tails))) if tails else 1.0


def thumbnail(picture: Picture, most: float, *, side: int, quality: int) -> Image:
    """
    An exposure after subtraction; what is masked in it fades to grey.

    Parameters
    ----------
    picture : `~wfssbkg.compare.Picture`
    most : float
        Residual at the ends of the colours, per cent of the sky.
    side : int
        Longest side of the thumbnail, px.
    quality : int
        Of the WebP format, 0 to 100.

    Returns
    -------
    `Image`
    """
    colours = mpl.colormaps[_DIVERGING](_scaled(picture.residual, most))[..., :3]
    grey = np.asarray(mpl.colors.to_rgb(_NOTHING))
    # Twice: where half is masked, the other half shows little but the wings of what is.
    hidden = np.where(_known(picture), np.minimum(2 * picture.masked, 1), 1)
    hidden = hidden[..., None]
    alt = f"What is left of the exposure: RMS {picture.rms:.2f} per cent of the sky"
    return _small(colours * (1 - hidden) + grey * hidden, side, quality, alt)


def mask(picture: Picture, most: float, *, side: int, quality: int) -> Image:
    """As `thumbnail`: the exposure in grey, and what is masked of it in colour."""
    grey = np.repeat(1 - 0.75 * _scaled(picture.residual, most)[..., None], 3, axis=-1)
    colour = np.asarray(mpl.colors.to_rgb(_VERMILION))
    covered = 0.75 * picture.masked[..., None]
    shown = grey * (1 - covered) + colour * covered
    shown[~_known(picture)] = mpl.colors.to_rgb(_NOTHING)
    alt = f"Mask over an exposure of field {picture.field + 1}"
    return _small(shown, side, quality, alt)


def colour_scale() -> str:
    """The colours of residuals as a CSS gradient, from negative to positive."""
    stops = mpl.colormaps[_DIVERGING](np.linspace(0, 1, 11))
    return f"linear-gradient(to right, {', '.join(mpl.colors.to_hex(stop) for stop in stops)})"


def _small(colours: np.ndarray, side: int, quality: int, alt: str) -> Image:
    image = Pillow.fromarray((255 * colours[::-1]).round().astype(np.uint8))  # row 0 below
    image.thumbnail((side, side), Pillow.Resampling.BOX)
    buffer = io.BytesIO()
    image.save(buffer, "WEBP", quality=quality, method=4)
    return Image(buffer.getvalue(), *image.size, alt)


def _known(picture: Picture) -> np.ndarray:
    """Where there is something to show: not at the reference pixels."""
    return np.isfinite(picture.residual) & np.isfinite(picture.masked)


def _scaled(residual: np.ndarray, most: float) -> np.ndarray:
    return np.clip(0.5 + residual / (2 * most), 0, 1)


# ---- parts -------------------------------------------------------------------------------------


@contextmanager
def _figure(width: float, height: float, *, layout: str | None = "constrained") -> Iterator[Figure]:
    """A figure of so many inches, in our style whatever the user's is."""
    with mpl.rc_context():
        mpl.rcdefaults()
        mpl.rcParams.update(_STYLE)
        yield Figure(figsize=(width, height), dpi=_DPI, layout=layout)


def _encoded(figure: Figure, alt: str, *, lossless: bool = False) -> Image:
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    image = Pillow.fromarray(np.asarray(canvas.buffer_rgba())[..., :3].copy())
    buffer = io.BytesIO()
    image.save(buffer, "WEBP", lossless=lossless, quality=80, method=4)
    return Image(buffer.getvalue(), *image.size, alt)


def _map(
    image: np.ndarray,
    shape: tuple[int, int],
    limits: tuple[float, float],
    label: str,
    alt: str,
    *,
    cmap: str = _SEQUENTIAL,
    extend: str = "both",
) -> Image:
    """A frame of some (ny, nx) pixels, which the image shows in boxes, with its colour scale."""
    # Placed by hand: the frames of all maps stand in line, whatever the numbers beside them.
    with _figure(5.7, 4.7, layout=None) as figure:
        axes = figure.add_axes((0.115, 0.105, 0.725, 0.88))
        shown = axes.imshow(
            image,
            origin="lower",
            extent=(0, shape[1], 0, shape[0]),
            cmap=mpl.colormaps[cmap].with_extremes(bad=_NOTHING),
            vmin=limits[0],
            vmax=limits[1],
            interpolation="antialiased",
        )
        axes.spines[:].set_visible(False)
        for axis, name in ((axes.xaxis, "x, px"), (axes.yaxis, "y, px")):
            axis.set_major_locator(MaxNLocator(5, steps=[1, 2, 5, 10]))
            axis.set_label_text(name)
        place = figure.add_axes((0.855, 0.105, 0.022, 0.88))
        bar = figure.colorbar(shown, cax=place, extend=extend)
        bar.outline.set_visible(False)
        bar.set_label(label)
        return _encoded(figure, alt)


def _science(image: np.ndarray) -> np.ndarray:
    """The image as float64, NaN where no light falls."""
    return np.where(products.science_pixels(image.shape), image, np.nan).astype(float)


def _means(image: np.ndarray, box: int) -> np.ndarray:
    """Means over boxes of so many pixels a side; NaN where none has a value."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        return block_reduce(image, box, func=np.nanmean)


def _shown(image: np.ndarray) -> np.ndarray:
    """Not more pixels than a picture has."""
    return _means(image, max(1, max(image.shape) // _MOST_PIXELS))


def _limits(image: np.ndarray) -> tuple[float, float]:
    """Between them lie 98 % of the pixels."""
    low, high = np.nanpercentile(image, (1, 99))
    return float(low), float(high) if high > low else float(low) + 1


def _nice(value: float) -> float:
    """The next number of 1, 2, 3 or 5 times a power of ten."""
    if not np.isfinite(value) or value <= 0:
        return 1.0
    power = 10.0 ** np.floor(np.log10(value))
    return float(next(step * power for step in (1, 2, 3, 5, 10) if step * power >= value * 0.999))
