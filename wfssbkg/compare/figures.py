"""The figures that tell how good a background is, and the verdict on it."""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from astropy.table import Table

from wfssbkg.files import reference_file
from wfssbkg.files.comparison_file import (
    AGAINST,
    IN,
    OFFICIAL,
    OUT,
    SCATTERED,
    Comparison,
    Score,
)

PERCENTILES = (0, 5, 50, 95, 100)  # of the residual profiles
MEASURES = ("RMS", "RMS of means", "column range", "row range")  # that a verdict compares
_SURE = 2.0  # standard errors


def labels(comparison: Comparison) -> dict[str, str]:
    """What was subtracted, in words, by the names of scores."""
    return {
        OUT: "new, on exposures it was made without",
        SCATTERED: "the same, with the scattered light of each subtracted",
        IN: "new, on exposures it was made of",
        OFFICIAL: comparison.official_name,
        AGAINST: f"{comparison.against_name}, perhaps in sample",
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
    """The figures of all scores: a row each, of 'combination' and 'scored', the score's name."""
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
        Keyword to value and comment: XI... 'in', XV... 'out', cross-validated, XC... 'scattered'.
    """
    cards = {}
    for start, scored, words in zip(
        reference_file.FIGURES,
        (IN, OUT, SCATTERED),
        ("own exposures", "left-out exposures", "the same, with scattered light"),
        strict=True,
    ):
        for name, value in figures(scores[scored]).items() if scored in scores else ():
            short = name.upper().replace("MEAN_RMS", "MEAN").replace("COLUMN", "COL")
            if np.isfinite(value):
                comment = f"[%] {name.replace('_', ' ')}, on {words}"
                cards[start + short.replace("_", "")] = (round(value, 5), comment)
    return cards


def sentences(comparison: Comparison) -> list[str]:
    """What the scores of a background tell, in words."""
    beginnings = {
        IN: "On the exposures it was made of, the background leaves",
        OUT: "On exposures it was made without, it leaves",
        SCATTERED: "With their scattered light subtracted as well, as subtractBackgrounds.py does, "
        "they leave",
        OFFICIAL: f"On all of these exposures, {comparison.official_name} leaves",
        AGAINST: f"{comparison.against_file}, perhaps made of some of these exposures, leaves",
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


def measures(score: Score) -> list[float]:
    """What is compared of a score, in the order of `MEASURES`."""
    return list(_measures(figures(score)).values())


def scatter(scores: Mapping[str, Score], than: str = OFFICIAL) -> dict[str, float]:
    """
    How well the ratio of the new background to another is known, from parts of the fields.

    Parameters
    ----------
    scores : mapping
        As in `~wfssbkg.files.comparison_file.Comparison`.
    than : str
        The name of the other one's score.

    Returns
    -------
    dict
        Standard error of the ratio by measure, as in the verdict; those that are not known lack.
    """
    if OUT not in scores or than not in scores:
        return {}
    ratios = scores[OUT].parts / scores[than].parts
    if len(ratios) < 2:
        return {}
    errors = np.std(ratios, axis=0, ddof=1) / np.sqrt(len(ratios))
    return {name: float(x) for name, x in zip(MEASURES, errors, strict=True) if np.isfinite(x)}


def verdict(
    known: Mapping[str, Mapping[str, float]],
    reference: str,
    errors: Mapping[str, float] | None = None,
    than: str = OFFICIAL,
) -> Verdict:
    """
    Judge a background by the exposures it was made without, or else by those it was made of.

    Parameters
    ----------
    known : mapping
        'in', 'out', and what is compared with, as far as known, to their `figures`.
    reference : str
        What is compared with, in words; '' if there is none.
    errors : mapping, optional
        From `scatter`: a change of less than two of them is none.
    than : str
        The name of the score of what is compared with.

    Returns
    -------
    `Verdict`
    """
    new, old = known.get(OUT) or known.get(IN), known.get(than)
    if new and not old:
        return Verdict("not compared", "nothing to compare with")
    changes = {}
    for name, measured in _measures(new).items() if new else ():
        compared = _measures(old)[name]
        if np.isfinite(measured) and np.isfinite(compared):
            change = _change(measured, compared)
            sure = abs(change) >= _SURE * (errors or {}).get(name, 0.0)
            changes[name] = change if sure else 0.0
    if not changes:
        return Verdict("not compared", "no residual is known")
    better = any(change < 0 for change in changes.values())
    worse = any(change > 0 for change in changes.values())
    word = "mixed" if better and worse else "better" if better else "worse" if worse else "equal"
    told = ", ".join(f"{name} {_in_words(change)}" for name, change in changes.items())
    if OUT in known:
        return Verdict(word, f"than {reference}: {told}")
    # It fits the exposures it was made of better than the truth does.
    own = "on the exposures it was made of"
    if word == "better":
        return Verdict(
            "not compared", f"{own} it looks better than {reference}, as it has to: {told}"
        )
    return Verdict(word, f"than {reference} {own}: {told}")


def _measures(row: Mapping[str, float]) -> dict[str, float]:
    """What is compared of the `figures` of a score."""
    ranges = (row[f"{kind}_95"] - row[f"{kind}_5"] for kind in ("column", "row"))
    return dict(zip(MEASURES, (row["rms"], row["mean_rms"], *ranges), strict=True))


def _change(new: float, old: float) -> float:
    """How much larger the new one is, as a part of the old; 0 if two digits do not tell."""
    return 0.0 if f"{new:.1e}" == f"{old:.1e}" else new / old - 1 if old else np.inf


def _in_words(change: float) -> str:
    if not change:
        return "the same"
    if change > 1:
        return f"{1 + change:.1f} times as large"
    return f"{abs(change):.0%} {'higher' if change > 0 else 'lower'}".replace("%", " %")
