"""The figures that tell how good a background is, and the verdict on it."""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from astropy.table import Table

from wfssbkg.files import reference_file
from wfssbkg.files.comparison_file import IN, OFFICIAL, OUT, Comparison, Score

PERCENTILES = (0, 5, 50, 95, 100)  # of the residual profiles
_SCORED_ON = {IN: "own exposures", OUT: "left-out exposures"}  # as the keywords of a header say it

# What is compared, and the figures that tell it: a value, or the ends of a range.
_MEASURES = {
    "RMS": ("rms",),
    "RMS of means": ("mean_rms",),
    "column range": ("column_95", "column_5"),
    "row range": ("row_95", "row_5"),
}


def figures(score: Score) -> dict[str, float]:
    """The figures of a score: rms, mean_rms, and percentiles of the profiles, e.g. column_95."""
    found = {"rms": score.rms}
    for name, profile in (("column", score.column_profile), ("row", score.row_profile)):
        known = profile[np.isfinite(profile)]
        values = np.percentile(known if len(known) else [np.nan], PERCENTILES)
        found |= {f"{name}_{p}": float(v) for p, v in zip(PERCENTILES, values, strict=True)}
    return found | {"mean_rms": score.mean_rms}


def table(comparisons: list[Comparison]) -> Table:
    """The figures of all scores: a row each, of 'combination' and 'scored': in, out, official."""
    rows = [
        {"combination": str(comparison.folder.combination), "scored": name} | figures(score)
        for comparison in comparisons
        for name, score in comparison.scores.items()
    ]
    made = Table(rows=rows)
    for name in made.colnames[2:]:
        made[name].unit, made[name].format = "%", ".4f"
    return made


def keywords(scores: Mapping[str, Score]) -> dict[str, tuple[float, str]]:
    """
    The figures of the new background as keywords of a FITS header.

    Parameters
    ----------
    scores : mapping
        As in `~wfssbkg.files.comparison_file.Comparison`.

    Returns
    -------
    dict
        Keyword to value and comment: XI... 'in', XV... 'out', cross-validated.
    """
    short = {"rms": "RMS", "mean_rms": "MEAN"}
    cards = {}
    for start, (scored, words) in zip(reference_file.FIGURES, _SCORED_ON.items(), strict=True):
        for name, value in figures(scores[scored]).items() if scored in scores else ():
            profile, _, percentile = name.partition("_")
            keyword = start + (short.get(name) or f"{profile[:3].upper()}{percentile}")
            if np.isfinite(value):
                kind = name.replace("_", " ")
                cards[keyword] = (round(value, 5), f"[%] {kind}, on {words}")
    return cards


def sentences(comparison: Comparison) -> list[str]:
    """What the scores of a background tell, in words."""
    beginnings = {
        IN: "On the exposures it was made of, the background leaves",
        OUT: "On exposures it was made without, it leaves",
        OFFICIAL: f"On all of these exposures, {comparison.official_name} leaves",
    }
    return [
        f"{words} residuals of {comparison.scores[name].rms:.3f} % of the sky (RMS after "
        f"smoothing), and of {comparison.scores[name].mean_rms:.3f} % on means of exposures."
        for name, words in beginnings.items()
        if name in comparison.scores
    ]


class Verdict(NamedTuple):
    """better, worse, mixed, equal or not compared; and by how much, or why not."""

    word: str
    text: str


def verdict(known: Mapping[str, Mapping[str, float]], reference: str) -> Verdict:
    """
    Judge a background by the exposures it was made without, or else by those it was made of.

    Parameters
    ----------
    known : mapping
        'in', 'out', 'official', as far as known, to their `figures`.
    reference : str
        Name of the reference file; '' if there is none.

    Returns
    -------
    `Verdict`
    """
    new, old = known.get(OUT) or known.get(IN), known.get(OFFICIAL)
    if new and not old:
        return Verdict("not compared", "nothing to compare with")
    changes = {}
    for name, (upper, *lower) in _MEASURES.items() if new else ():
        pair = [row[upper] - sum(row[end] for end in lower) for row in (new, old)]
        if np.isfinite(pair).all():
            changes[name] = _change(*pair)
    if not changes:
        return Verdict("not compared", "no residual is known")
    signs = {np.sign(change) for change in changes.values()} - {0.0}
    word = {(): "equal", (-1.0,): "better", (1.0,): "worse"}.get(tuple(signs), "mixed")
    told = ", ".join(f"{name} {_in_words(change)}" for name, change in changes.items())
    own = "" if OUT in known else " (on the exposures it was made of)"
    return Verdict(word, f"than {reference}: {told}{own}")


def _change(new: float, old: float) -> float:
    """How much larger the new one is, as a part of the old; 0 if two digits do not tell."""
    return 0.0 if f"{new:.1e}" == f"{old:.1e}" else new / old - 1 if old else np.inf


def _in_words(change: float) -> str:
    if not change:
        return "the same"
    if change > 1:
        return f"{1 + change:.1f} times as large"
    return f"{abs(change):.0%} {'higher' if change > 0 else 'lower'}".replace("%", " %")
