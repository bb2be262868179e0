"""Pictures of a comparison: one style, no state of pyplot, small enough for one HTML file."""

import base64
import io
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import matplotlib as mpl
import matplotlib.style
import numpy as np
from astropy.coordinates import BarycentricMeanEcliptic, SkyCoord, get_sun
from astropy.table import Table
from astropy.time import Time
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.dates import AutoDateLocator, DateFormatter
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from PIL import Image as Pillow

from wfssbkg.combine import bins
from wfssbkg.compare.figures import labels
from wfssbkg.compare.residual import box_means
from wfssbkg.detector import science_pixels
from wfssbkg.files import exposure_table
from wfssbkg.files.comparison_file import (
    AGAINST,
    IN,
    MEAN_BOX,
    OFFICIAL,
    OUT,
    SCATTERED,
    Comparison,
    Example,
    Picture,
)

_INK, _FAINT, _NOTHING = "#22262b", "#8a929b", "#d5d8dc"  # text, axes, pixels without a value
# Of Okabe & Ito (2008), which the colour-blind can tell apart.
_BLUE, _SKY, _VERMILION, _GREEN = "#0072b2", "#56b4e9", "#d55e00", "#009e73"
_PURPLE = "#cc79a7"
_COLOURS = (_BLUE, _VERMILION, _GREEN, _PURPLE, "#e69f00", _SKY)
_OF_SCORE = {OUT: _BLUE, SCATTERED: _GREEN, IN: _SKY, OFFICIAL: _VERMILION, AGAINST: _PURPLE}
_MARKERS = "osD^vP"
_DIVERGING = "RdBu_r"
_STYLE = {
    **dict.fromkeys(
        ("text.color", "axes.labelcolor", "xtick.labelcolor", "ytick.labelcolor"), _INK
    ),
    **dict.fromkeys(("axes.edgecolor", "xtick.color", "ytick.color"), _FAINT),
    **dict.fromkeys(("axes.spines.right", "axes.spines.top", "legend.frameon"), False),
}
_DPI = 180
_MOST_PIXELS = 512  # of the longest side of a map


@dataclass(frozen=True)
class Image:
    """A picture as an address that needs no file; its size in px, and what it shows in words."""

    uri: str
    width: int
    height: int
    alt: str


def plates(comparison: Comparison) -> dict[str, Image]:
    """
    The pictures of a background, of its difference from others, and of its quality.

    Parameters
    ----------
    comparison : `~wfssbkg.files.comparison_file.Comparison`

    Returns
    -------
    dict
        background, uncertainty, coverage; as far as known difference, difference_against,
        residual_new, residual_reference, residual_against, column and row.
    """
    made, name = comparison.background, comparison.folder.combination
    sky, err, number = (_science(image) for image in (made.sci, 100 * made.err, made.number))
    low, high = np.nanpercentile(sky, (1, 99))
    alt = f"Background of {name}: {low:.2f} to {high:.2f} times its level on 98 % of the pixels"
    found = {"background": _map(sky, (low, high), "sky, in units of its level", alt)}
    for place, other, words, label in (
        ("difference", comparison.official, comparison.official_name, "reference"),
        ("difference_against", comparison.against, comparison.against_name, "the other"),
    ):
        if other is None:
            continue
        change = 100 * (sky - _science(other))
        change -= np.nanmedian(change)
        means = box_means(change, MEAN_BOX)
        most = _nice(float(np.nanpercentile(np.abs(means), 98)))
        alt = (
            f"New background minus {words}: "
            f"standard deviation {np.nanstd(means):.2f} per cent of the sky"
        )
        found[place] = _deviations(change, most, f"new minus {label}, % of the sky", alt)
    found |= _residuals(comparison)
    limits, label = np.nanpercentile(err, (1, 99)), "uncertainty of a pixel, % of the sky"
    alt = f"Uncertainty of the background: median {np.nanmedian(err):.2f} per cent of the sky"
    found["uncertainty"] = _map(err, limits, label, alt)
    low, high = np.nanmin(number), np.nanmax(number)
    label = "exposures that count in a pixel"
    alt = f"Coverage: {low:.0f} to {high:.0f} exposures, median {np.nanmedian(number):.0f}"
    found["coverage"] = _map(number, (0, high), label, alt, extend="neither", whole=True)

    scores = comparison.scores.values()
    values = [x for score in scores for x in (score.column_profile, score.row_profile)]
    # Of each 99 %: single columns may be far off, and would hide the others.
    ends = [np.nanpercentile(np.abs(x), 99) for x in values if np.isfinite(x).any()]
    for kind in ("column", "row") if ends else ():
        found[kind] = _profile(comparison, kind, 1.25 * max(ends))
    return found


def _residuals(comparison: Comparison) -> dict[str, Image]:
    """What each of the backgrounds leaves of the mean of exposures, on one scale."""
    scores, shape = comparison.scores, comparison.background.sci.shape
    new = OUT if OUT in scores else IN
    shown = {
        "residual_new": (new, "the new background"),
        "residual_reference": (OFFICIAL, comparison.official_name),
        "residual_against": (AGAINST, comparison.against_name),
    }
    maps = {
        place: (scores[name].mean, words)
        for place, (name, words) in shown.items()
        if name in scores and np.isfinite(scores[name].mean).any()
    }
    if not maps:
        return {}
    most = _nice(max(float(np.nanpercentile(np.abs(mean), 98)) for mean, _ in maps.values()))
    found = {}
    for place, (mean, words) in maps.items():
        alt = (
            f"What {words} leaves of the mean of exposures: "
            f"standard deviation {np.nanstd(mean):.2f} per cent of the sky"
        )
        image = _enlarged(mean, shape)
        found[place] = _deviations(image, most, "residual, % of the sky", alt)
    return found


def _enlarged(means: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """Means over boxes of `MEAN_BOX` px as an image of the frame; NaN where no light falls."""
    image = np.full(shape, np.nan, dtype=np.float32)
    whole = bins.repeated(means, (MEAN_BOX, MEAN_BOX))[: shape[0], : shape[1]]
    image[: whole.shape[0], : whole.shape[1]] = whole
    return _science(image)


def before_and_after(example: Example, shape: tuple[int, int]) -> tuple[Image, Image]:
    """
    An exposure before and after the subtraction of the background, on one scale.

    Parameters
    ----------
    example : `~wfssbkg.files.comparison_file.Example`
    shape : (int, int)
        Of the frame.

    Returns
    -------
    before, after : `Image`
    """
    most = _nice(float(np.nanpercentile(np.abs(example.before), 95)))
    images = []
    for words, means, rms in (
        ("before", example.before, example.rms_before),
        ("after", example.after, example.rms_after),
    ):
        alt = f"Exposure {words} the subtraction: RMS {rms:.2f} per cent of the sky"
        label = "difference from its level, % of the sky"
        images.append(_deviations(_enlarged(means, shape), most, label, alt))
    return tuple(images)


def _profile(comparison: Comparison, kind: str, most: float) -> Image:
    """The profiles of columns or of rows, one below the other, between residuals of +-`most`."""
    shown = [
        (getattr(comparison.scores[name], f"{kind}_profile"), label, _OF_SCORE[name])
        for name, label in labels(comparison).items()
        if name in comparison.scores
    ]
    beyond = 0
    with _figure(5.4, 0.7 + 1.15 * len(shown)) as figure:
        panels = figure.subplots(len(shown), sharex=True, sharey=True, squeeze=False)[:, 0]
        for axes, (profile, label, colour) in zip(panels, shown, strict=True):
            axes.axhline(0, color=_FAINT, linewidth=0.8)
            axes.plot(profile, color=colour, linewidth=0.9)
            axes.set_title(label, loc="left", fontsize=9, parse_math=False)  # a folder's name
            beyond += _mark_clipped(axes, profile, most, colour)
            axes.set(xlim=(0, len(profile)), ylim=(-most, most))
        panels[-1].set_xlabel(f"{kind}, px")
        figure.supylabel("residual, % of the sky", fontsize="medium")
        alt = (
            f"Median residual of the {kind}s of the frame, {beyond} of them beyond the scale; "
            "the table has its percentiles"
        )
        return _drawn(figure, alt, lossless=True)


def _mark_clipped(axes: Axes, profile: np.ndarray, most: float, colour: str) -> int:
    """Triangles at the edge of a plot, where a profile is beyond it; how many."""
    beyond = 0
    for marker, edge, clipped in (("^", most, profile > most), ("v", -most, profile < -most)):
        (where,) = np.nonzero(clipped)
        style = {"color": colour, "marker": marker, "markersize": 5, "linestyle": ""}
        (line,) = axes.plot(where, np.full(len(where), edge), clip_on=False, **style)
        line.set_in_layout(False)  # what reaches over the frame makes it no smaller
        beyond += len(where)
    return beyond


def levels(comparisons: Sequence[Comparison]) -> list[Image]:
    """Levels against ecliptic latitude, solar elongation and time, all combinations in one."""
    images = []
    for what, label, where in (
        ("ecliptic latitude", "distance from the ecliptic, deg", ecliptic_latitude),
        ("solar elongation", "solar elongation, deg", solar_elongation),
        ("time", "start of the exposure, UTC", _days),
    ):
        with _figure(5.4, 3.6) as figure:
            axes = figure.add_subplot(xlabel=label, ylabel="level, DN/s")
            for number, comparison in enumerate(comparisons):
                _plot_levels(axes, where(comparison.background.inputs), number, comparison)
            known = sum(len(line.get_xdata()) for line in axes.lines)
            if not known:
                continue
            axes.set_ylim(bottom=0)
            if what == "time":
                axes.xaxis.set_major_locator(AutoDateLocator(minticks=2, maxticks=5))
                axes.xaxis.set_major_formatter(DateFormatter("%Y-%m-%d"))
            elif what == "ecliptic latitude":
                axes.set_xlim(0, 90)
            figure.legend(loc="outside upper left", ncols=2, fontsize=9, handletextpad=0.2)
            alt = f"Sky level against {what} of {known} exposures"
            images.append(_drawn(figure, alt, lossless=True))
    return images


def _days(table: Table) -> np.ndarray:
    """Starts of exposures in days since 1970, as matplotlib counts."""
    return np.asarray(table["mjd"]) - 40587


def _plot_levels(axes: Axes, where: np.ndarray, number: int, comparison: Comparison) -> None:
    """Plot the levels of one combination, hollow those of rejected exposures."""
    table, name = comparison.background.inputs, str(comparison.folder.combination)
    level = np.asarray(table["level"])
    accepted = np.asarray(table["status"]) == exposure_table.ACCEPTED
    colour, marker = _COLOURS[number % len(_COLOURS)], _MARKERS[number % len(_MARKERS)]
    style = {"color": colour, "marker": marker, "linestyle": "", "markersize": 5}
    for chosen, inside, label in (
        (accepted, colour, name),
        (~accepted, "none", f"{name}, rejected"),
    ):
        known = chosen & np.isfinite(level) & np.isfinite(where)
        if known.any():
            axes.plot(where[known], level[known], markerfacecolor=inside, label=label, **style)


def ecliptic_latitude(table: Table) -> np.ndarray:
    """Distance of each pointing from the ecliptic, deg; NaN where it is not known."""
    sky = SkyCoord(np.asarray(table["ra"]), np.asarray(table["dec"]), unit="deg")
    return np.abs(sky.transform_to(BarycentricMeanEcliptic()).lat.deg)


def solar_elongation(table: Table) -> np.ndarray:
    """
    Angle between each pointing and the Sun at the start of the exposure.

    Parameters
    ----------
    table : `~astropy.table.Table`
        An exposure table.

    Returns
    -------
    (n,) float array
        In deg, as seen from the Earth; seen from the telescope at L2, it is the same to half a
        degree. NaN where pointing or time are not known.
    """
    ra, dec, mjd = (np.asarray(table[name], dtype=float) for name in ("ra", "dec", "mjd"))
    known = np.isfinite(ra) & np.isfinite(dec) & np.isfinite(mjd)
    angle = np.full(len(table), np.nan)
    # TDB is a minute from UTC, and needs no table of leap seconds.
    sun = get_sun(Time(mjd[known], format="mjd", scale="tdb"))
    pointing = SkyCoord(ra[known], dec[known], unit="deg", frame=sun.frame.replicate_without_data())
    angle[known] = pointing.separation(sun).deg
    return angle


def residual_range(pictures: Iterable[Picture]) -> float:
    """What the colours of residuals end at, per cent of the sky: round, and right for most."""
    values = [np.abs(p.residual[np.isfinite(p.residual) & (p.masked < 0.5)]) for p in pictures]
    tails = [np.percentile(value, 98) for value in values if len(value)]
    return _nice(float(np.median(tails))) if tails else 1.0


def thumbnail(picture: Picture, most: float, side: int) -> Image:
    """
    An exposure after subtraction; what is masked in it fades to grey.

    Parameters
    ----------
    picture : `~wfssbkg.files.comparison_file.Picture`
    most : float
        Residual at the ends of the colours, per cent of the sky.
    side : int
        Longest side of the thumbnail, px.

    Returns
    -------
    `Image`
    """
    colours = mpl.colormaps[_DIVERGING](0.5 + picture.residual / (2 * most))[..., :3]
    # Twice: where half is masked, the other half shows little but the wings of what is.
    hidden = np.minimum(2 * picture.masked, 1)
    alt = f"What is left of the exposure: RMS {picture.rms:.2f} per cent of the sky"
    return _covered(picture, colours, _NOTHING, hidden, side, alt)


def mask(picture: Picture, most: float, side: int) -> Image:
    """As `thumbnail`: the exposure in grey, and what is masked of it in colour."""
    grey = 1 - 0.75 * np.clip(0.5 + picture.residual / (2 * most), 0, 1)[..., None]
    alt = f"Mask over an exposure of field {picture.field + 1}"
    return _covered(picture, grey, _VERMILION, 0.75 * picture.masked, side, alt)


def _covered(
    picture: Picture, colours: np.ndarray, cover: str, opacity: np.ndarray, side: int, alt: str
) -> Image:
    """An exposure in colours, with a cover over it; nothing where its pixels see no sky."""
    opacity = opacity[..., None]
    shown = colours * (1 - opacity) + np.asarray(mpl.colors.to_rgb(cover)) * opacity
    known = np.isfinite(picture.residual) & np.isfinite(picture.masked)
    shown[~known] = mpl.colors.to_rgb(_NOTHING)
    image = Pillow.fromarray((255 * shown[::-1]).round().astype(np.uint8))  # row 0 below
    image.thumbnail((side, side), Pillow.Resampling.BOX)
    return _encoded(image, alt, quality=50)


def colour_scale() -> str:
    """The colours of residuals as a CSS gradient, from negative to positive."""
    stops = mpl.colormaps[_DIVERGING](np.linspace(0, 1, 11))
    return f"linear-gradient(to right, {', '.join(mpl.colors.to_hex(stop) for stop in stops)})"


@contextmanager
def _figure(width: float, height: float, *, layout: str | None = "constrained") -> Iterator[Figure]:
    """A figure of so many inches, in our style whatever the user's is."""
    with mpl.style.context(_STYLE, after_reset=True):
        yield Figure(figsize=(width, height), dpi=_DPI, layout=layout)


def _drawn(figure: Figure, alt: str, **options: Any) -> Image:
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    image = Pillow.fromarray(np.asarray(canvas.buffer_rgba())[..., :3].copy())
    return _encoded(image, alt, quality=80, **options)


def _encoded(image: Pillow.Image, alt: str, **options: Any) -> Image:
    buffer = io.BytesIO()
    image.save(buffer, "WEBP", method=4, **options)
    data = base64.b64encode(buffer.getvalue()).decode()
    return Image(f"data:image/webp;base64,{data}", *image.size, alt)


def _deviations(image: np.ndarray, most: float, label: str, alt: str) -> Image:
    """A map of what is above and below 0, between +-`most`."""
    return _map(image, (-most, most), label, alt, cmap=_DIVERGING, box=MEAN_BOX)


def _map(
    image: np.ndarray,
    limits: Sequence[float],
    label: str,
    alt: str,
    *,
    box: int = 0,
    cmap: str = "cividis",
    extend: str = "both",
    whole: bool = False,
) -> Image:
    """An image of the frame as means over boxes of so many pixels a side, with its colour scale.

    `whole`: the scale counts, in whole numbers.
    """
    box = box or max(1, max(image.shape) // _MOST_PIXELS)
    # Placed by hand: the frames of all maps stand in line, whatever the numbers beside them.
    with _figure(5.7, 4.7, layout=None) as figure:
        axes = figure.add_axes((0.115, 0.105, 0.725, 0.88))
        shown = axes.imshow(
            box_means(image, box),
            origin="lower",
            extent=(0, image.shape[1], 0, image.shape[0]),
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
        if whole:
            bar.locator = MaxNLocator(integer=True)
        return _drawn(figure, alt)


def _science(image: np.ndarray) -> np.ndarray:
    """The image as float64, NaN where no light falls."""
    return np.where(science_pixels(image.shape), image, np.nan).astype(float)


def _nice(value: float) -> float:
    """The next number of 1, 2 or 5 times a power of ten."""
    return float(f"{10 ** (np.ceil(3 * np.log10(value)) / 3):.0e}") if value > 0 else 1.0
