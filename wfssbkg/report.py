"""The report of a comparison: one HTML file that needs nothing else."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from platform import python_version
from typing import Any

import numpy as np
import yaml
from astropy.table import Table
from astropy.time import Time
from jinja2 import Environment, PackageLoader, StrictUndefined

from wfssbkg import __version__, exposures, pictures, products, progress
from wfssbkg.compare import PERCENTILES, Comparison, Picture
from wfssbkg.config import Config
from wfssbkg.layout import replacing

LARGEST = 15_000_000  # bytes: what mail takes, and a phone opens
# Longest side in px and quality of the thumbnails: the first pair that keeps the file small enough.
_SIZES = ((160, 60), (128, 50), (96, 45), (80, 40), (64, 35), (48, 30))

# What is compared, and the columns of the figures that tell it: a value, or the ends of a range.
_MEASURES = {
    "RMS": ("rms",),
    "RMS of means": ("mean_rms",),
    "column range": ("column_95", "column_5"),
    "row range": ("row_95", "row_5"),
}


@dataclass(frozen=True)
class Verdict:
    """Whether a background is better than the reference.

    Attributes
    ----------
    word : str
        better, worse, mixed, equal or not compared.
    text : str
        By how much, or why not.
    """

    word: str
    text: str


def write(path: Path, comparisons: list[Comparison], config: Config) -> None:
    """
    Write the report.

    Parameters
    ----------
    path : `~pathlib.Path`
        The HTML file; it is replaced in one go.
    comparisons : list of `~wfssbkg.compare.Comparison`
    config : `~wfssbkg.config.Config`
        The settings they were made with.
    """
    environment = Environment(
        loader=PackageLoader("wfssbkg"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(number=_number, slug=_slug)
    template = environment.get_template("report.html")
    values = {
        "sections": [
            _section(each) for each in progress.each(comparisons, "drawing", "combination")
        ],
        "levels": pictures.levels(comparisons),
        "gradient": pictures.colour_scale(),
        "columns": COLUMNS,
        "percentiles": PERCENTILES,
        "smoothing": config.compare.smoothing,
        "settings": yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False, width=80),
        "versions": {"WFSSBackgrounds": __version__, "Python": python_version()}
        | {name: version(name) for name in (*products.PACKAGES, "matplotlib")},
        "dates": sorted({str(c.background.inputs.meta.get("QDATE", "")) for c in comparisons}),
        "largest": LARGEST,
    }
    for sheets in _sheets(comparisons):
        page = template.render(values, sheets=sheets)
        if len(page.encode()) <= LARGEST:
            break
    with replacing(path) as temporary:
        temporary.write_text(page, encoding="utf-8")


# ---- one combination ---------------------------------------------------------------------------


def _section(comparison: Comparison) -> dict[str, Any]:
    """What the template needs to know of a combination, but for the pictures of exposures."""
    background = comparison.background
    science = products.science_pixels(background.sci.shape)
    accepted = background.inputs["status"] == exposures.ACCEPTED
    figures = {
        str(row["scored"]): {name: row[name] for name in row.colnames}
        for row in comparison.figures()
    }
    return {
        "name": str(comparison.folder.combination),
        "files": [comparison.folder.finished.name, comparison.folder.finished_unflat.name],
        "fates": {fate: len(names) for fate, names in exposures.fates(background.inputs).items()},
        "level": _median(background.inputs["level"][accepted]),
        "uncertainty": 100 * _median(background.err[science]),
        "filled": 100 * float(np.mean(comparison.filled[science])),
        "reference": comparison.official_name,
        "figures": figures,
        "verdict": verdict(figures, comparison.official_name),
        "notes": comparison.notes,
        "plates": _plates(comparison),
        "rows": _rows(comparison),
    }


def verdict(figures: dict[str, dict[str, Any]], reference: str) -> Verdict:
    """
    Judge a background by the exposures it was not made of, or else by those it was.

    Parameters
    ----------
    figures : dict of dicts
        'in', 'out', 'official', as far as known, to a row of `Comparison.figures`.
    reference : str
        Name of the reference file; '' if there is none.

    Returns
    -------
    `Verdict`
    """
    new = figures.get("out") or figures.get("in")
    old = figures.get("official")
    if not new or not old:
        what = "nothing to compare with" if new else "no residual is known"
        return Verdict("not compared", what if reference or new else "no reference, no residual")
    changes = {}
    for name, columns in _MEASURES.items():
        pair = [_measured(row, *columns) for row in (new, old)]
        if np.isfinite(pair).all():
            changes[name] = _change(*pair)
    if not changes:
        return Verdict("not compared", "no residual is known")
    signs = {np.sign(change) for change in changes.values()} - {0.0}
    word = {(): "equal", (-1.0,): "better", (1.0,): "worse"}.get(tuple(signs), "mixed")
    told = ", ".join(f"{name} {_in_words(change)}" for name, change in changes.items())
    own = "" if "out" in figures else " (on the exposures it was made of)"
    return Verdict(word, f"than {reference or 'the reference'}: {told}{own}")


def _measured(row: dict[str, Any], upper: str, lower: str = "") -> float:
    """A figure, or the range between two."""
    return float(row[upper] - (row[lower] if lower else 0))


def _change(new: float, old: float) -> float:
    """How much larger the new one is, as a part of the old; 0 if two digits do not tell."""
    if f"{new:.1e}" == f"{old:.1e}":
        return 0.0
    return (new - old) / old if old else np.inf


def _in_words(change: float) -> str:
    if not change:
        return "the same"
    if np.isinf(change):
        return "larger"
    if change > 1:
        return f"{1 + change:.1f} times as large"
    return f"{abs(change):.0%} {'higher' if change > 0 else 'lower'}".replace("%", " %")


def _plates(comparison: Comparison) -> list[list[tuple[pictures.Image, str]]]:
    """The pictures of a background, each with its caption, in groups that stand side by side."""
    drawn = pictures.profiles(comparison)
    about = (
        "Median residual of each {}, over all exposures, after the subtraction of each background."
    )
    difference = (
        f"New background minus {comparison.official_name}; means over "
        f"{pictures.DIFFERENCE_BOX} × {pictures.DIFFERENCE_BOX} px."
    )
    number = "Coverage: the exposures that count in a pixel. Pixels without any are filled."
    groups = [
        [
            (pictures.background(comparison), "The finished background, flat field out."),
            (pictures.difference(comparison), difference),
        ],
        [(drawn.get("columns"), about.format("column")), (drawn.get("rows"), about.format("row"))],
        [
            (pictures.uncertainty(comparison), "Uncertainty of a pixel of the background."),
            (pictures.coverage(comparison), number),
        ],
    ]
    return [[(image, text) for image, text in group if image is not None] for group in groups]


def _rows(comparison: Comparison) -> list[dict[str, Any]]:
    """The exposure table, ready to be shown."""
    table = comparison.background.inputs
    latitude = pictures.ecliptic_latitude(table)
    rows = []
    for row, distance in zip(table, latitude, strict=True):
        name = str(row["productFilename"])
        picture = comparison.pictures.get(name)
        known = {column: row[column] for column in table.colnames} | {
            "rms": picture.rms if picture else np.nan,
            "latitude": distance,
            "date": _date(row["mjd"]),
        }
        cells = [known[column] for column, *_ in COLUMNS]
        rows.append({"name": name, "status": str(row["status"]), "cells": cells})
    return rows


# Of the exposure table: column, heading, and the digits of a number; None for text.
COLUMNS: tuple[tuple[str, str, int | None], ...] = (
    ("status", "status", None),
    ("reason", "reason", None),
    ("level", "level, DN/s", 3),
    ("rms", "residual RMS, % of the sky", 2),
    ("masked_fraction", "masked part", 2),
    ("weight", "weight", 3),
    ("effinttm", "time, s", 0),
    ("program", "programme", None),
    ("date", "date", None),
    ("ra", "RA, deg", 4),
    ("dec", "Dec, deg", 4),
    ("latitude", "|ecliptic latitude|, deg", 1),
    ("readpatt", "readout", None),
    ("star_gmag", "bright star, G mag", 1),
    ("star_sep", "its distance, arcmin", 1),
)


def _date(mjd: float) -> str:
    return str(Time(mjd, format="mjd").strftime("%Y-%m-%d")) if np.isfinite(mjd) else ""


def _median(values: Any) -> float:
    values = np.asarray(values, dtype=float)
    values = values[np.isfinite(values)]
    return float(np.median(values)) if len(values) else np.nan


# ---- the pictures of exposures -----------------------------------------------------------------


def _sheets(comparisons: list[Comparison]) -> Iterator[dict[str, Any]]:
    """The pictures of all exposures, by combination; smaller with each turn, and fewer at last."""
    largest = max((len(comparison.pictures) for comparison in comparisons), default=0)
    for side, quality in _SIZES:
        yield {str(c.folder.combination): _sheet(c, side, quality, largest) for c in comparisons}
    while largest:
        largest //= 2
        yield {str(c.folder.combination): _sheet(c, side, quality, largest) for c in comparisons}


def _sheet(comparison: Comparison, side: int, quality: int, most: int) -> dict[str, Any]:
    """The contact sheet and the masks of a combination, with so many exposures at most."""
    table = comparison.background.inputs
    shown = [row for row in table if row["productFilename"] in comparison.pictures]
    accepted = [row for row in shown if row["status"] == exposures.ACCEPTED]
    chosen = _most_telling(shown, comparison.pictures, most)
    limit = pictures.residual_range(
        comparison.pictures[row["productFilename"]] for row in accepted or shown
    )

    def drawn(row: Table.Row, draw: Callable[..., pictures.Image]) -> dict[str, Any]:
        picture = comparison.pictures[row["productFilename"]]
        return {
            "name": str(row["productFilename"]),
            "status": str(row["status"]),
            "reason": str(row["reason"]),
            "level": float(row["level"]),
            "masked": 100 * float(np.nanmean(picture.masked)),
            "rms": picture.rms,
            "field": picture.field + 1,
            "image": draw(picture, limit, side=side, quality=quality),
        }

    return {
        "limit": limit,
        "side": side,
        "whole": side == _SIZES[0][0],
        "missing": len(shown) - len(chosen),
        "exposures": [drawn(row, pictures.thumbnail) for row in chosen],
        "masks": [drawn(row, pictures.mask) for row in _of_each_field(comparison, accepted, most)],
    }


def _most_telling(rows: list[Table.Row], known: dict[str, Picture], most: int) -> list[Table.Row]:
    """So many rows at most, in their order: the rejected first, then those that leave most."""
    rms = {row.index: np.nan_to_num(known[row["productFilename"]].rms) for row in rows}
    order = sorted(rows, key=lambda row: (row["status"] == exposures.ACCEPTED, -rms[row.index]))
    return sorted(order[:most], key=lambda row: row.index)


def _of_each_field(comparison: Comparison, rows: list[Table.Row], most: int) -> list[Table.Row]:
    """The first exposure of each field, of so many fields at most."""
    first: dict[int, Table.Row] = {}
    for row in rows:
        first.setdefault(comparison.pictures[row["productFilename"]].field, row)
    return [first[number] for number in sorted(first)][:most]


# ---- words and numbers -------------------------------------------------------------------------


def _number(value: Any, digits: int = 2) -> str:
    """A number with so many digits after the point; a dash if it is not known."""
    if value is None or not np.isfinite(value):
        return "–"
    return f"{value:z.{digits}f}".replace("-", "−")


def _slug(name: str) -> str:
    """A name as part of an anchor: whatever it holds, nothing that an address would escape."""
    return re.sub(r"[^A-Za-z0-9_-]+", "-", name.removesuffix("_rate.fits"))
