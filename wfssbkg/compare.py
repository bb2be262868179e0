"""How good a background is, told from the exposures themselves."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import bottleneck as bn
import numpy as np
from astropy.table import Table, vstack

from wfssbkg import StepError, exposures, fields, flatfield, parallel, products, residual
from wfssbkg import crossvalidation as cross
from wfssbkg.background import WORKER_GB
from wfssbkg.config import Config
from wfssbkg.layout import Folder, replacing
from wfssbkg.products import Background
from wfssbkg.sample import Exposure

PERCENTILES = (0, 5, 50, 95, 100)  # of the residual profiles
IN, OUT, OFFICIAL = "in", "out", "official"


@dataclass
class Score:
    """What exposures leave when a background is subtracted from them.

    Attributes
    ----------
    rms : float
        Of the residual after smoothing over 8 px, median over the exposures, per cent of the sky.
    column_profile, row_profile : (nx,) and (ny,) float arrays
        Median residual of each column and each row of all exposures, per cent of the sky; NaN
        where nothing is known.
    mean_rms : float
        Of the smoothed residual of the mean of the exposures that are left out together, in which
        their noise averages down, median of these parts; per cent of the sky.
    """

    rms: float
    column_profile: np.ndarray
    row_profile: np.ndarray
    mean_rms: float = np.nan

    def figures(self) -> dict[str, float]:
        """By name, as in the columns of `Comparison.figures`."""
        figures = {"rms": self.rms}
        for name, profile in (("column", self.column_profile), ("row", self.row_profile)):
            known = profile[np.isfinite(profile)]
            values = np.percentile(known, PERCENTILES) if len(known) else [np.nan] * 5
            figures |= {f"{name}_{p}": float(v) for p, v in zip(PERCENTILES, values, strict=True)}
        return figures | {"mean_rms": self.mean_rms}


@dataclass
class Picture:
    """An exposure, made small: means over `binning` x `binning` pixels.

    Attributes
    ----------
    residual : (ny, nx) float32 array
        After the subtraction of the background, per cent of the sky; NaN where all is bad.
    masked : (ny, nx) float32 array
        Part of the pixels that is masked, 0 to 1.
    rms : float
        Of its residual after smoothing over 8 px, per cent of the sky, with a background that was
        made without it, if there is one; NaN if it was not scored.
    field : int
        Number of its field, from 0.
    """

    residual: np.ndarray
    masked: np.ndarray
    rms: float
    field: int


@dataclass
class Comparison:
    """A finished background beside the reference file in CRDS.

    Attributes
    ----------
    folder : `~wfssbkg.layout.Folder`
    background : `~wfssbkg.products.Background`
        The finished one, flat field out. Its `inputs` is the exposure table.
    filled : (ny, nx) bool array
        Pixels where no exposure counted.
    official : (ny, nx) float32 array or None
        The reference file in CRDS on the same scale, flat field out; None if there is none.
    official_name : str
        Its name; of direct images, 'a constant'; '' if there is none.
    scores : dict
        'in' and 'out', the new background on exposures it was made from, and on those it was not;
        'official', the reference file (of direct images, a constant). Some may be missing.
    pictures : dict
        Name of the rate file to `Picture`; of all exposures that are masked, rejected ones too.
    notes : list of str
        What could not be computed, and why.
    """

    folder: Folder
    background: Background
    filled: np.ndarray
    official: np.ndarray | None = None
    official_name: str = ""
    scores: dict[str, Score] = field(default_factory=dict)
    pictures: dict[str, Picture] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def figures(self) -> Table:
        """All figures: one row a score (of '{combination}' and 'scored': in, out, official)."""
        rows = [
            {"combination": str(self.folder.combination), "scored": name} | score.figures()
            for name, score in self.scores.items()
        ]
        table = Table(rows=rows)
        for name in table.colnames[2:]:
            table[name].unit, table[name].format = "%", ".4f"
            table[name].description = _describe(name)
        return table


def write_figures(path: Path, comparisons: list[Comparison]) -> None:
    """
    Write the figures of all comparisons as one table.

    Parameters
    ----------
    path : `~pathlib.Path`
        ECSV.
    comparisons : list of `Comparison`
    """
    tables = [comparison.figures() for comparison in comparisons if comparison.scores]
    with replacing(path) as temporary:
        (vstack(tables) if tables else Table()).write(temporary, format="ascii.ecsv")


def _describe(name: str) -> str:
    """What a figure is, in words."""
    words = {
        "rms": "RMS of the smoothed residual, median of the exposures",
        "mean_rms": "RMS of the smoothed residual of the mean of exposures left out together",
    }
    profile, _, percentile = name.partition("_")
    return words.get(name) or f"percentile {percentile} of the {profile} profile of the residuals"


def keywords(scores: dict[str, Score]) -> dict[str, tuple[float, str]]:
    """
    Figures of the new background as keywords of a FITS header.

    Parameters
    ----------
    scores : dict
        As in `Comparison`.

    Returns
    -------
    dict
        Keyword to value and comment: XI... 'in', XV... 'out', cross-validated.
    """
    short = {"rms": "RMS", "mean_rms": "MEAN"}
    cards = {}
    kinds = (IN, "own exposures"), (OUT, "left-out exposures")
    for start, (scored, words) in zip(products.FIGURES, kinds, strict=True):
        figures = scores[scored].figures() if scored in scores else {}
        for name, value in figures.items():
            profile, _, percentile = name.partition("_")
            keyword = start + (short.get(name) or f"{profile[:3].upper()}{percentile}")
            if np.isfinite(value):
                kind = name.replace("_", " ")
                cards[keyword] = (round(value, 5), f"[%] {kind}, on {words}")
    return cards


def compare(
    config: Config, folder: Folder, others: dict[str, np.ndarray] | None = None
) -> Comparison:
    """
    Score a finished background on its exposures, cross-validated, beside that in CRDS.

    Parameters
    ----------
    config : `~wfssbkg.config.Config`
    folder : `~wfssbkg.layout.Folder`
        Of the combination. Files `compared_*.fits` in it are left for the caller to remove.
    others : dict, optional
        Name to image: other backgrounds to score in the same way, flat field out.

    Returns
    -------
    `Comparison`

    Raises
    ------
    StepError
        If there is no finished background, or it cannot be read. All else that cannot be
        computed is told in the notes.
    """
    made, filled = products.read_finished(folder.finished)
    comparison = Comparison(folder, made, filled)
    find_official(comparison)
    made_of = cross.sample(config, folder, made.inputs)
    note_what_is_missing(comparison, made_of, config)
    images = {IN: made.sci, OFFICIAL: comparison.official} | (others or {})
    shared = {name: folder.compared(name) for name, image in images.items() if image is not None}
    for name, path in shared.items():
        cross.write_image(path, images[name])
    parts = cross.parts(config, made_of)
    note_parts(comparison, made_of, parts, config)
    files = [dict(shared) for _ in made_of.members]
    for number, part in enumerate(parts):
        path = folder.compared(f"{OUT}{number}")
        without = cross.background_without(config, folder, made_of, part, made.inputs)
        cross.write_image(path, without.sci)
        for k in part:
            files[k][OUT] = path
    score_exposures(comparison, config, made_of, files)
    if OUT in comparison.scores and comparison.scores[IN].rms > comparison.scores[OUT].rms:
        comparison.notes.append(
            f"{folder.finished} leaves more of its own exposures than backgrounds that are made "
            "without them do: it is not what the scripts make of them. Run finalizeBackgrounds.py "
            "--overwrite"
        )
    score_means(comparison, config, made_of, parts, files)
    return comparison


def find_official(comparison: Comparison) -> None:
    """Find the reference file in CRDS; of direct images, which have none, a constant."""
    inputs, folder = comparison.background.inputs, comparison.folder
    science = products.science_pixels(comparison.background.sci.shape)
    if folder.combination.direct:
        comparison.official = np.where(science, np.float32(1), np.float32(np.nan))
        comparison.official_name = "a constant"
        comparison.notes.append(
            "CRDS has no backgrounds of direct images: compared with a constant instead"
        )
        return
    try:
        image, name = flatfield.official_background(folder.masked(exposures.latest(inputs)))
    except StepError as error:
        comparison.notes.append(f"not compared with the reference file in CRDS: {error}")
        return
    image = np.where(science, image, np.float32(np.nan))
    comparison.official = image / np.float32(np.nanmedian(image))
    comparison.official_name = name


def note_what_is_missing(comparison: Comparison, made_of: cross.Sample, config: Config) -> None:
    """Say which files of exposures are gone, and what that means."""
    notes, folder = comparison.notes, comparison.folder
    accepted = exposures.fates(comparison.background.inputs)[exposures.ACCEPTED]
    gone = len(accepted) - len(made_of.members)
    if gone:
        notes.append(
            f"{gone} of {len(accepted)} masked exposures are gone from {folder.path}, or "
            "spoilt: not scored. Run makeMask.py to make them again"
        )
    if not config.combine.refinements:
        notes.append(
            "scored outside the masks of makeMask.py, since nothing was refined "
            "(combine.refinements): the light of faint sources counts as residual"
        )
    elif made_of.members and not made_of.refined:
        notes.append(
            f"refined masks are gone from {folder.path}: scored outside those of makeMask.py, and "
            "the light of faint sources counts as residual. Run makeBackgrounds.py --overwrite to "
            "make them again"
        )


def note_parts(
    comparison: Comparison, made_of: cross.Sample, parts: list[list[int]], config: Config
) -> None:
    """Say what was, or could not be, cross-validated."""
    number, least = len(made_of.members), config.combine.minimum_exposures
    left_out = sum(len(part) for part in parts)
    one_field = len(fields.members(made_of.pointings)) == 1
    if not number:
        return
    if config.compare.groups is None:
        note = "not cross-validated, since compare.groups in the config is null"
    elif not parts:
        note = (
            f"not cross-validated: without a part of the {number} exposures"
            f"{', all of one field,' if one_field else ''} less than {least} are left "
            "(combine.minimum_exposures)"
        )
    elif one_field:
        note = (
            "all exposures are of one field, so that exposures were left out, not fields: light of "
            "sources that all of them share counts as sky, and the figures look too good"
        )
    elif left_out < number:
        note = (
            f"{number - left_out} of {number} exposures were not cross-validated: without their "
            f"part of the fields less than {least} are left (combine.minimum_exposures)"
        )
    else:
        return
    comparison.notes.append(note)


def score_exposures(
    comparison: Comparison, config: Config, made_of: cross.Sample, files: list[dict[str, Path]]
) -> None:
    """
    Subtract the backgrounds from each exposure: scores and pictures.

    Parameters
    ----------
    comparison : `Comparison`
    config : `~wfssbkg.config.Config`
    made_of : `~wfssbkg.crossvalidation.Sample`
    files : list of dict
        Of each exposure: name to file of the backgrounds, the new one first.
    """
    folder, inputs = comparison.folder, comparison.background.inputs
    rejected = [
        Exposure.of(folder, name)
        for name in exposures.fates(inputs)[exposures.REJECTED]
        if folder.masked(name).exists()
    ]
    new = {IN: folder.compared(IN)}
    jobs = [
        (exposure, backgrounds, config.compare, made_of.refined and exposure.refined.exists())
        for exposure, backgrounds in [
            *zip(made_of.members, files, strict=True),
            *((exposure, new) for exposure in rejected),
        ]
    ]
    options = {"compute": config.compute, "need_gb": WORKER_GB, "description": "comparing"}
    found: dict[str, residual.Residual] = {}
    for (exposure, *_), outcome in parallel.run(residual.of_exposure, jobs, **options):
        if isinstance(outcome, StepError):
            comparison.notes.append(f"{exposure.name} not scored: {outcome}")
        else:
            found[exposure.name] = outcome
    kept = [found[exposure.name] for exposure in made_of.members if exposure.name in found]
    for name in dict.fromkeys(name for backgrounds in files for name in backgrounds):
        scored = [x for x in kept if np.isfinite(x.rms.get(name, np.nan))]
        if scored:
            comparison.scores[name] = Score(
                float(np.median([x.rms[name] for x in scored])),
                bn.nanmedian(np.array([x.columns[name] for x in scored]), axis=0),
                bn.nanmedian(np.array([x.rows[name] for x in scored]), axis=0),
            )
    draw_small(comparison, [*made_of.members, *rejected], found)


def draw_small(
    comparison: Comparison, members: list[Exposure], found: dict[str, residual.Residual]
) -> None:
    """The pictures of exposures: the cross-validated figure, if there is one; rejected: none."""
    members = [exposure for exposure in members if exposure.name in found]
    for exposure in members:
        exposure.read_header()
    groups = fields.members([exposure.pointing for exposure in members])
    field_of = {k: n for n, numbers in enumerate(groups) for k in numbers}
    accepted = exposures.fates(comparison.background.inputs)[exposures.ACCEPTED]
    for k, exposure in enumerate(members):
        made = found[exposure.name]
        rms = made.rms.get(OUT, made.rms[IN]) if exposure.name in accepted else np.nan
        comparison.pictures[exposure.name] = Picture(made.small, made.masked, rms, field_of[k])


def score_means(
    comparison: Comparison,
    config: Config,
    made_of: cross.Sample,
    parts: list[list[int]],
    files: list[dict[str, Path]],
) -> None:
    """Subtract the backgrounds from the means of exposures left out together; into the scores."""
    everything = list(range(len(made_of.members)))
    jobs = []
    for number, part in enumerate(parts or [everything][: len(everything)]):
        path = comparison.folder.compared(f"mean{number}")
        cross.write_image(path, *cross.mean(config, made_of, part))
        jobs.append((path, files[part[0]], config.compare))
    options = {"compute": config.compute, "need_gb": WORKER_GB, "unit": "part"}
    found = parallel.run_in_order(residual.of_mean, jobs, description="means", **options)
    for name, score in comparison.scores.items():
        # The median: a source that no mask found, in all dithers, spoils only its own part.
        score.mean_rms = float(np.median([rms[name] for rms in found if name in rms]))
