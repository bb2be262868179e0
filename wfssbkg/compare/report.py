"""The report of a comparison: one HTML file that needs nothing else."""

import io
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import quote

import bottleneck as bn
import matplotlib as mpl
import numpy as np
import yaml
from astropy.time import Time
from jinja2 import Environment, PackageLoader, StrictUndefined

from wfssbkg import __version__, layout, versions
from wfssbkg.compare import exposures, pictures
from wfssbkg.compare.exposures import accepted_first
from wfssbkg.compare.figures import PERCENTILES, Verdict, figures, labels, scatter, table, verdict
from wfssbkg.config import Config
from wfssbkg.detector import science_pixels
from wfssbkg.files import exposure_table, flicker_noise, up_to_date
from wfssbkg.files.comparison_file import AGAINST, MEAN_BOX, Comparison
from wfssbkg.files.temporary import replacing
from wfssbkg.layout import Folder
from wfssbkg.run import messages

LARGEST = 15_000_000  # bytes: what mail takes, and a phone opens
SIDE, SMALLEST = 128, 40  # px; of the pictures of exposures


def write(path: Path, comparisons: list[Comparison], config: Config) -> None:
    """
    Write the report, unless it is there as it would be.

    Parameters
    ----------
    path : `~pathlib.Path`
        The HTML file; it is replaced in one go.
    comparisons : list of `~wfssbkg.files.comparison_file.Comparison`
    config : `~wfssbkg.config.Config`
        The settings they were made with.
    """
    sections = []
    with messages.bar("drawing", len(comparisons), "combinations") as bar:
        for comparison in comparisons:
            sections.append(_section(comparison, config))
            bar.update()
    values = {
        "sections": sections,
        "simulated": sum(section["simulated"] for section in sections),
        "accepted": sum(len(section["fates"]["accepted"]) for section in sections),
        "levels": pictures.levels(comparisons),
        "gradient": pictures.colour_scale(),
        "difference_box": MEAN_BOX,
        "percentiles": PERCENTILES,
        "smoothing": config.compare.smoothing,
        "settings": yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False, width=80),
        "versions": {"WFSSBackgrounds": __version__, **versions(), "matplotlib": mpl.__version__},
        "dates": sorted({str(c.background.inputs.meta.get("QDATE", "")) for c in comparisons}),
        "largest": LARGEST,
        "quality": layout.quality(path.parent).name,
    }
    _write_if_new(path, _small_enough(values, comparisons), comparisons)


def write_figures(path: Path, comparisons: list[Comparison]) -> None:
    """Write the figures of all backgrounds as ECSV, unless they are there."""
    text = io.StringIO()
    table(comparisons).write(text, format="ascii.ecsv")
    _write_if_new(path, text.getvalue(), comparisons)


def _write_if_new(path: Path, text: str, comparisons: list[Comparison]) -> None:
    """Write a file, unless it is there, of the same text and no older than what it is of."""
    sources = [comparison.folder.comparison for comparison in comparisons]
    if not (
        path.exists()
        and up_to_date.is_no_older(path, sources)
        and path.read_text(encoding="utf-8", errors="replace") == text
    ):
        with replacing(path) as temporary:
            temporary.write_text(text, encoding="utf-8")


def _small_enough(values: dict[str, Any], comparisons: list[Comparison]) -> str:
    """The page, with pictures of exposures so small, and at last so few, that it can be sent."""
    environment = Environment(
        loader=PackageLoader("wfssbkg.compare"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(number=_number, slug=_slug)
    template = environment.get_template("report.html")
    side, most = SIDE, max((len(comparison.pictures) for comparison in comparisons), default=0)
    while True:
        sheets = {str(c.folder.combination): _sheet(c, side, most) for c in comparisons}
        page = template.render(values, sheets=sheets)
        if len(page.encode()) <= LARGEST or not most:
            return page
        if side > SMALLEST:
            side = side * 3 // 4
        else:
            most //= 2


def _section(comparison: Comparison, config: Config) -> dict[str, Any]:
    """What the template needs to know of a combination, but for the pictures of exposures."""
    background, reference = comparison.background, comparison.official_name
    rows, science = accepted_first(background.inputs), science_pixels(background.sci.shape)
    rms = {name: picture.rms for name, picture in comparison.pictures.items()}
    rows["rms"] = [rms.get(name, np.nan) for name in rows["productFilename"]]
    rows["residual"] = [_residual(comparison.folder, name) for name in rows["productFilename"]]
    rows["latitude"] = pictures.ecliptic_latitude(rows)
    rows["elongation"] = pictures.solar_elongation(rows)
    rows["date"] = [
        str(Time(mjd, format="mjd").strftime("%Y-%m-%d")) if np.isfinite(mjd) else ""
        for mjd in rows["mjd"]
    ]
    accepted = rows[rows["status"] == exposure_table.ACCEPTED]
    kind = flicker_noise.settled(config, rows).mask.flicker_noise
    known = {name: figures(score) for name, score in comparison.scores.items()}
    judgement = verdict(known, reference, scatter(comparison.scores))
    if background.pointings.max() < config.combine.minimum_pointings:
        # What it holds of its sources looks like a gain.
        judgement = Verdict("doubtful", "sources cannot be told from the sky in it")
    against, errors = comparison.against_name, scatter(comparison.scores, AGAINST)
    return {
        "name": str(comparison.folder.combination),
        "files": _links(comparison.folder),
        "kind": flicker_noise.of_background(accepted, kind),
        "fates": exposure_table.fates(rows),
        "simulated": np.count_nonzero(accepted["pi_name"] == exposure_table.SIMULATED),
        "left_out": exposures.left_out(rows),
        "programmes": exposures.programmes(rows),
        "hours": exposures.hours(accepted),
        "level": bn.nanmedian(np.asarray(accepted["level"], dtype=float)),
        "uncertainty": 100 * bn.nanmedian(background.err[science]),
        "filled": 100 * np.mean(comparison.filled[science]),
        "reference": reference,
        "figures": known,
        "labels": labels(comparison),
        "verdict": judgement,
        "against": {
            "name": against,
            "file": comparison.against_file,
            "verdict": verdict(known, against, errors, AGAINST),
        },
        "examples": [
            {"kind": kind, "example": x, "images": pictures.before_and_after(x, science.shape)}
            for kind, x in comparison.examples.items()
        ],
        "notes": comparison.notes,
        "plates": pictures.plates(comparison),
        "rows": rows,
    }


def _links(folder: Folder) -> dict[str, tuple[str, str]]:
    """The files of a combination: what each is, to its name and its address beside the report."""
    files = {
        "flat field out, for grizli": folder.finished,
        "flat field in, for the JWST pipeline": folder.finished_unflat,
        "combined, before it was denoised and filled": folder.background,
        "exposure table": folder.table,
        "this comparison": folder.comparison,
    }
    return {words: (path.name, _address(path, folder)) for words, path in files.items()}


def _address(path: Path, folder: Folder) -> str:
    """The address of a file beside the report."""
    return quote(os.path.relpath(path, folder.output_directory))


def _residual(folder: Folder, name: str) -> str:
    """The address of an exposure minus its sky; '' if it is not there."""
    path = folder.residual(name)
    return _address(path, folder) if path.exists() else ""


def _sheet(comparison: Comparison, side: int, most: int) -> dict[str, Any]:
    """The contact sheet and the masks of a combination, with so many exposures at most."""
    known = comparison.pictures
    pairs = [
        (row, known[row["productFilename"]])
        for row in accepted_first(comparison.background.inputs)
        if row["productFilename"] in known
    ]
    accepted = [pair for pair in pairs if pair[0]["status"] == exposure_table.ACCEPTED]
    rejected = [pair for pair in pairs if pair[0]["status"] != exposure_table.ACCEPTED]
    limit = pictures.residual_range(picture for _, picture in accepted or pairs)
    # The most telling: the rejected ones, then those that leave most.
    chosen = (rejected + sorted(accepted, key=lambda pair: -np.nan_to_num(pair[1].rms)))[:most]
    first_of_field = {picture.field: (row, picture) for row, picture in reversed(accepted)}

    def drawn(pairs: list[tuple], draw: Callable[..., pictures.Image]) -> list[dict[str, Any]]:
        return [
            {"row": row, "picture": picture, "masked": 100 * np.nanmean(picture.masked)}
            | {"image": draw(picture, limit, side)}
            for row, picture in pairs
        ]

    return {
        "limit": limit,
        "side": side,
        "whole": side == SIDE,
        "missing": len(pairs) - len(chosen),
        "exposures": drawn(sorted(chosen, key=lambda pair: pair[0].index), pictures.thumbnail),
        "masks": drawn([pair for _, pair in sorted(first_of_field.items())][:most], pictures.mask),
    }


def _number(value: Any, digits: int = 2) -> str:
    """A number with so many digits after the point; a dash if it is not known."""
    if value is None or not np.isfinite(value):
        return "–"
    return f"{value:z.{digits}f}".replace("-", "−")


def _slug(name: str) -> str:
    """A name as part of an anchor: whatever it holds, nothing that an address would escape."""
    return re.sub(r"[^A-Za-z0-9_-]+", "-", name.removesuffix("_rate.fits"))
