"""Backgrounds, some made without some of the fields, subtracted from exposures and their means."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import bottleneck as bn
import numpy as np
from astropy.table import Table

from wfssbkg.combine import background, bins, fields, stack
from wfssbkg.combine.common import common_to
from wfssbkg.combine.exposure import Exposure
from wfssbkg.combine.sky import Model
from wfssbkg.compare import residual
from wfssbkg.compare.figures import measures
from wfssbkg.compare.residual import Left
from wfssbkg.config import Combine, Config
from wfssbkg.detector import science_pixels
from wfssbkg.errors import StepError
from wfssbkg.files import (
    comparison_file,
    exposure_table,
    flat_field,
    masked_exposure,
    refined_exposure,
    residual_exposure,
)
from wfssbkg.files.combined_background import Background, Components
from wfssbkg.files.comparison_file import (
    AGAINST,
    IN,
    MEAN_BOX,
    OFFICIAL,
    OUT,
    SCATTERED,
    TYPICAL,
    WORST,
    Comparison,
    Example,
    Picture,
    Score,
)
from wfssbkg.layout import Folder
from wfssbkg.run import messages
from wfssbkg.run.parallel import Workers

LEAST_PARTS = 3  # with fewer, a background without one is made of much less than the whole
PICTURE = 128  # px; about the side of an exposure made small


@dataclass
class CombinedExposures:
    """The exposures that were combined into a background, of which the files are still there.

    Attributes
    ----------
    members : list of `~wfssbkg.combine.exposure.Exposure`
        With their levels and pointings.
    refined : bool
        Whether what the refinement found is there for all of them.
    parts : list of lists of int
        Numbers of the exposures that are left out together: of some of the fields, or, if all are
        of one field, some of the exposures. Only such as leave enough for a background.
    """

    members: list[Exposure]
    refined: bool
    parts: list[list[int]]


def combined_exposures(config: Config, folder: Folder, table: Table) -> CombinedExposures:
    """
    The accepted exposures of a table whose masked exposures are there and sound.

    Parameters
    ----------
    config : `~wfssbkg.config.Config`
    folder : `~wfssbkg.layout.Folder`
    table : `~astropy.table.Table`
        The exposure table as it was when the background was made.

    Returns
    -------
    `CombinedExposures`
    """
    members, weight = [], []
    for row in table[table["status"] == exposure_table.ACCEPTED]:
        exposure = Exposure.of(folder, str(row["productFilename"]))
        try:
            exposure.read_header()
        except StepError:  # it is gone, or spoilt; the notes of the comparison say how many are
            continue
        exposure.level = float(row["level"])
        members.append(exposure)
        weight.append(float(row["weight"]))
    refined = config.combine.refinements > 0 and all(each.refined.exists() for each in members)
    units = fields.units([exposure.pointing for exposure in members])
    # Two fields in each, unless too much would be left out at a time: what a single field leaves,
    # its faint sources and the colour of its sky, averages down as well.
    most = len(units) // 2 if len(units) >= 2 * LEAST_PARTS else len(units)
    number = min(config.compare.groups or 0, most)
    parts = fields.share_out(units, np.array(weight), number) if number > 1 else []
    largest = len(members) - config.combine.minimum_exposures
    sound = [sorted(part) for part in parts if len(part) <= largest]
    return CombinedExposures(members, refined, sound)


def combine_without(
    workers: Workers,
    settings: Combine,
    combined: CombinedExposures,
    part: list[int],
    whole: Background,
) -> Background:
    """
    The combined background without some exposures: what the refinement found is used again.

    Parameters
    ----------
    workers : `~wfssbkg.run.parallel.Workers`
    settings : `~wfssbkg.config.Combine`
    combined : `CombinedExposures`
    part : list of int
        Numbers of the exposures to leave out.
    whole : `~wfssbkg.files.combined_background.Background`
        That of all of them. As many kinds of scattered light are looked for as it has.

    Returns
    -------
    `~wfssbkg.files.combined_background.Background`
        Not finished.
    """
    members = [each for number, each in enumerate(combined.members) if number not in part]
    common = common_to(members, settings) if combined.refined else None
    *images, _ = stack.combine_all(workers, settings, members, common)
    light, number = Components.none(), len(whole.components.maps)
    if number and combined.refined:
        light = background.scattered_light(members, settings, number)
    return Background(*images, whole.inputs, dark=whole.dark, components=light)


def mean_of_part(
    workers: Workers, settings: Combine, combined: CombinedExposures, part: list[int]
) -> tuple[np.ndarray, np.ndarray]:
    """
    The combination of some exposures with their stripes in it.

    Their mean, taken as shared, stays in the mean of the exposures with all that it hides: the
    stripes were measured against a background, and contain its errors.

    Parameters
    ----------
    workers, settings, combined
        As for `combine_without`.
    part : list of int
        Numbers of the exposures.

    Returns
    -------
    value, noise : (ny, nx) float32 arrays
        In units of the level; NaN where no exposure counts.
    """
    members, common = [combined.members[number] for number in part], None
    if combined.refined:
        found, weight = _stripes_of(members)
        total = weight.sum(axis=0, dtype=np.float64)
        mean = (weight * found).sum(axis=0, dtype=np.float64) / np.where(total > 0, total, 1)
        common = replace(common_to(members, settings), stripes=mean.astype(np.float32))
    value, noise, *_ = stack.combine_all(workers, settings, members, common)
    return value, noise


def _stripes_of(members: list[Exposure]) -> tuple[np.ndarray, np.ndarray]:
    """The stripes of exposures, relative to their levels, and 1/noise^2, from the refinement."""
    nothing = slice(0, 0)  # of the faint flux
    read = [refined_exposure.read(exposure.refined, nothing) for exposure in members]
    level = np.array([exposure.level for exposure in members], dtype=np.float32)[:, None, None]
    found, weight = np.array([each.stripes for each in read]), [each.weight for each in read]
    return found / level, np.array(weight) * level**2


def file_without(folder: Folder, number: int) -> Path:
    """Where `score` looks for the finished background without a part of the fields."""
    return folder.working(f"without_{number}.fits")


def write_without(folder: Folder, number: int, finished: Background) -> None:
    """Write the finished background without a part of the fields for `score`."""
    comparison_file.write_background(
        file_without(folder, number),
        finished.sci,
        dark=finished.dark[0],
        light=finished.components,
    )


def score(
    workers: Workers,
    config: Config,
    comparison: Comparison,
    combined: CombinedExposures,
    others: Mapping[str, np.ndarray] | None = None,
) -> None:
    """
    Subtract the backgrounds from each exposure, and from the mean of each part of them.

    Scores, pictures and examples go into the comparison, and residuals into their folder.

    Parameters
    ----------
    workers : `~wfssbkg.run.parallel.Workers`
    config : `~wfssbkg.config.Config`
    comparison : `~wfssbkg.files.comparison_file.Comparison`
    combined : `CombinedExposures`
        Of each part, the background without it is in `file_without`.
    others : mapping, optional
        Name to image: other backgrounds to score in the same way, flat field out.
    """
    folder, scores = comparison.folder, comparison.scores
    images = {
        IN: comparison.background.sci,
        OFFICIAL: comparison.official,
        AGAINST: comparison.against,
        **(others or {}),
    }
    shared = {name: folder.working(f"{name}.fits") for name in images if images[name] is not None}
    darks = {IN: comparison.background.dark[0], AGAINST: comparison.against_dark}
    for name, path in shared.items():
        comparison_file.write_background(path, images[name], dark=darks.get(name, 0.0))
    files = [dict(shared) for _ in combined.members]
    for number, part in enumerate(combined.parts):
        for k in part:
            files[k][OUT] = file_without(folder, number)
    of_exposures = _score_exposures(workers, config, comparison, combined, files)
    comparison.examples = _examples(config, comparison, combined, files)
    everything = list(range(len(combined.members)))
    parts = combined.parts or ([everything] if everything else [])
    of_parts = [[of_exposures[k] for k in part if of_exposures[k]] for part in parts]
    of_means = []
    for part in parts:
        mean, noise = mean_of_part(workers, config.combine, combined, part)
        # Only the sky itself is left in their mean: no dark residual, and no scattered light.
        models = {
            name: Model.of(comparison_file.read_background(path)[0], 0.0, Components.none())
            for name, path in files[part[0]].items()
        }
        of_mean, left = residual.scores_of(mean, noise, np.isfinite(mean), models, config)
        for name, image in left.items():
            means = residual.box_means(image.percent, MEAN_BOX)
            of_mean[name].mean = means.astype(np.float32)
        if OUT in of_mean:
            of_mean[SCATTERED] = of_mean[OUT]
        of_means.append(of_mean)
    # On the same exposures, but for the finished background, which is scored on all of its own.
    compared = [each for part in of_parts for each in part]
    for name in (*shared, OUT, SCATTERED):
        chosen = [each for each in of_exposures if each] if name == IN else compared
        found = _summary(name, chosen, of_means)
        if np.isfinite(found.rms):
            pairs = zip(of_parts, of_means, strict=True)
            found.parts = np.array([measures(_summary(name, part, [mean])) for part, mean in pairs])
            scores[name] = found
    if OUT in scores and scores[IN].rms > scores[OUT].rms:
        comparison.notes.append(
            f"{folder.finished} leaves more of its own exposures than backgrounds that "
            "are made without them do: it is not what the scripts make of them. Run "
            "finalizeBackgrounds.py --overwrite"
        )


def _summary(
    name: str, of_exposures: list[dict[str, Score]], of_means: list[dict[str, Score]]
) -> Score:
    """The score of a background on some exposures; NaN where it fits none."""
    known = [each[name] for each in of_exposures if name in each]
    fit = [each for each in known if np.isfinite(each.rms)]
    means = [each[name] for each in of_means if name in each]
    if not fit:
        return Score(np.nan, np.full(1, np.nan), np.full(1, np.nan))
    return Score(
        float(np.median([each.rms for each in fit])),
        bn.nanmedian(np.array([each.column_profile for each in fit]), axis=0),
        bn.nanmedian(np.array([each.row_profile for each in fit]), axis=0),
        # The median: a source that no mask found, in all dithers, spoils only its own part.
        float(np.median([each.rms for each in means])) if means else np.nan,
        mean=bn.nanmean(np.array([each.mean for each in means]), axis=0),
    )


def _score_exposures(
    workers: Workers,
    config: Config,
    comparison: Comparison,
    combined: CombinedExposures,
    files: list[dict[str, Path]],
) -> list[dict[str, Score]]:
    """The scores of each combined exposure, none if it cannot be read; all have a picture."""
    folder, notes = comparison.folder, comparison.notes
    names = exposure_table.fates(comparison.background.inputs)[exposure_table.REJECTED]
    rejected = [Exposure.of(folder, name) for name in names if folder.masked(name).exists()]
    exposures = combined.members + rejected
    # The finished background was made without them.
    files = files + [{OUT: folder.working(f"{IN}.fits")} for _ in rejected]
    targets = _residual_files(comparison, exposures, config)
    jobs = [
        (
            exposure,
            backgrounds,
            config,
            combined.refined and exposure.refined.exists(),
            folder if exposure.name in targets else None,
        )
        for exposure, backgrounds in zip(exposures, files, strict=True)
    ]
    scores, pictures = {}, {}
    for (exposure, *_), outcome in workers.run(measure_exposure, jobs, description="comparing"):
        if isinstance(outcome, StepError):
            notes.append(f"{exposure.name} not scored: {outcome}")
        else:
            scores[exposure.name], pictures[exposure.name] = outcome
    fit = [name for name, picture in pictures.items() if np.isfinite(picture.rms)]
    kept = {path for name, path in targets.items() if name in fit}
    residual_exposure.remove_others(folder.residuals, kept)
    if kept:
        messages.say(f"wrote {len(kept)} residuals to {folder.residuals}")
    shown = [exposure for exposure in exposures if exposure.name in pictures]
    for exposure in shown:
        if exposure in rejected:
            exposure.read_header()
            pictures[exposure.name].rms = np.nan
    for field, numbers in enumerate(fields.members([exposure.pointing for exposure in shown])):
        for k in numbers:
            pictures[shown[k].name].field = field
    comparison.pictures = {exposure.name: pictures[exposure.name] for exposure in shown}
    return [scores.get(exposure.name, {}) for exposure in combined.members]


def _residual_files(
    comparison: Comparison, exposures: list[Exposure], config: Config
) -> dict[str, Path]:
    """Where the residual of each exposure is to be written, by its name, if any is."""
    if not config.compare.write_residuals:
        return {}
    found = {exposure.name: comparison.folder.residual(exposure.name) for exposure in exposures}
    foreign = [x for x in found.values() if x.exists() and not residual_exposure.is_ours(x)]
    if foreign:
        comparison.notes.append(
            f"{len(foreign)} of {len(found)} residuals are not written, since there are files that "
            f"compareBackgrounds.py did not write, e.g. {foreign[0]}. Move them away, and run "
            "compareBackgrounds.py --overwrite"
        )
    return {name: path for name, path in found.items() if path not in foreign}


def _examples(
    config: Config,
    comparison: Comparison,
    combined: CombinedExposures,
    files: list[dict[str, Path]],
) -> dict[str, Example]:
    """Of the scored exposures, that of median RMS and that of the largest, before and after."""
    known = comparison.pictures
    rms = [known[x.name].rms if x.name in known else np.nan for x in combined.members]
    order = np.argsort(rms)[: np.isfinite(rms).sum()]
    if not len(order):
        return {}
    chosen = {TYPICAL: order[(len(order) - 1) // 2]}
    if len(order) > 1:
        chosen[WORST] = order[-1]
    return {
        name: example_of(combined.members[k], files[k], config, combined.refined)
        for name, k in chosen.items()
    }


def measure_exposure(
    exposure: Exposure,
    backgrounds: dict[str, Path],
    config: Config,
    refined: bool,
    residuals_in: Folder | None = None,
) -> tuple[dict[str, Score], Picture]:
    """
    What backgrounds leave of an exposure, from files; errors as where these are read.

    Parameters
    ----------
    exposure : `~wfssbkg.combine.exposure.Exposure`
    backgrounds : dict
        Name to file.
    config : `~wfssbkg.config.Config`
    refined : bool
        Whether the sources are those of the refinement, or those of makeMask.py.
    residuals_in : `~wfssbkg.layout.Folder`, optional
        Where to write the exposure minus its sky, if it is to be written.

    Returns
    -------
    scores : dict
        By the background's name.
    picture : `~wfssbkg.files.comparison_file.Picture`
    """
    sci, err, unusable, source = _read(exposure, refined)
    shown = _shown(backgrounds)
    models = _models(backgrounds, exposure.flat)
    scores, left = residual.scores_of(sci, err, ~(unusable | source), models, config)
    if residuals_in:
        mask = residual_exposure.BAD * unusable + residual_exposure.SOURCE * source
        unknown = np.any([model.background == 0 for model in models.values()], axis=0)
        mask = mask.astype(np.uint8) | np.uint8(residual_exposure.UNKNOWN) * unknown
        _write_residual(residuals_in, exposure.name, shown, left[shown], mask)
    side = -(-max(sci.shape) // PICTURE)
    small = residual.box_means(np.where(unusable, np.nan, left[shown].percent), side)
    science = science_pixels(sci.shape)
    masked = residual.box_means(np.where(science, unusable | source, np.nan), side)
    small, masked = small.astype(np.float32), masked.astype(np.float32)
    return scores, Picture(small, masked, scores[shown].rms, scored=shown)


def example_of(
    exposure: Exposure, backgrounds: dict[str, Path], config: Config, refined: bool
) -> Example:
    """An exposure before and after the subtraction; as `measure_exposure`."""
    sci, err, unusable, source = _read(exposure, refined)
    shown, before = _shown(backgrounds), "before"
    models = _models(backgrounds, exposure.flat)
    # Before the subtraction, it is compared with a sky without structure.
    models[before] = Model.of(np.ones(sci.shape, np.float32), 0.0, Components.none())
    counts = ~(unusable | source)
    scores, left = residual.scores_of(sci, err, counts, models, config)
    images = [
        residual.box_means(np.where(counts, left[name].percent, np.nan), MEAN_BOX)
        for name in (before, shown)
    ]
    return Example(
        exposure.name,
        *(image.astype(np.float32) for image in images),
        scores[before].rms,
        scores[shown].rms,
        shown,
    )


def _shown(backgrounds: Mapping[str, Path]) -> str:
    """Which background is subtracted in pictures: one made without the exposure, if there is."""
    return OUT if OUT in backgrounds else IN


def _read(
    exposure: Exposure, refined: bool
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """An exposure and its noise, DN/s, the pixels of no use, and those of sources."""
    sci, err, bits = masked_exposure.read(exposure.masked)
    if refined:
        faint, *_ = refined_exposure.read(exposure.refined)
        source = bins.expand(np.isnan(faint), along_x=exposure.along_x)
    else:
        source = bits & np.uint8(masked_exposure.SOURCE) > 0
    science = science_pixels(sci.shape)
    unusable = (bits & np.uint8(masked_exposure.BAD) > 0) | ~(err > 0) | ~science
    return sci, err, unusable, source


def _write_residual(folder: Folder, name: str, scored: str, left: Left, mask: np.ndarray) -> None:
    """Write an exposure minus its sky; where no background fits, there is nothing to write."""
    if not np.isfinite(left.level):
        return
    cards = {
        "RATEFILE": (name, "exposure"),
        "FILTER": (folder.combination.grating, "grating"),
        "PUPIL": (folder.combination.filter, "blocking filter"),
        "BKGNAME": (folder.finished.name, "background that was subtracted"),
        "BKGLVL": (left.level, "[DN/s] level of the sky"),
        "INSAMPLE": (scored == IN, "was the background made of this exposure"),
    }
    residual_exposure.write(folder.residual(name), left.rate, mask, cards)


def _models(backgrounds: Mapping[str, Path], flat: Path) -> dict[str, Model]:
    """What the sky of an exposure may be made of, by name; with scattered light it is another."""
    models = {}
    for name, path in backgrounds.items():
        image, dark, light = comparison_file.read_background(path)
        if dark:
            dark = np.float32(dark) * flat_field.inverse(flat, slice(None), image.shape)
        models[name] = Model.of(image, dark, Components.none())
        if name == OUT and len(light.maps):
            models[SCATTERED] = Model.of(image, dark, light)
    return models
