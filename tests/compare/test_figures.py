"""The figures of a comparison, and the verdict that they give."""

import numpy as np
import pytest
from astropy.io import fits

from wfssbkg.compare.figures import figures as all_figures
from wfssbkg.compare.figures import keywords, scatter, verdict
from wfssbkg.files.comparison_file import Score


def test_keywords_fit_into_a_header():
    profile = np.linspace(-1, 1, 50)
    scores = dict.fromkeys(("in", "out"), Score(0.3, profile, profile, 0.1))
    cards = keywords(scores)
    assert len(cards) == 24
    header = fits.Header()
    for keyword, (value, comment) in cards.items():
        assert len(keyword) <= 8
        header[keyword] = (value, comment)
        assert len(header.cards[keyword].image) == 80
    assert header["XVCOL95"] == pytest.approx(0.9)


def figures(**rms):
    """Rows of figures whose ranges are in proportion to the RMS."""
    ranges = {f"{kind}_{p}": s for kind in ("column", "row") for p, s in ((5, -1), (95, 1))}
    return {
        scored: {"rms": value, "mean_rms": value / 2}
        | {name: sign * value / 3 for name, sign in ranges.items()}
        for scored, value in rms.items()
    }


@pytest.mark.parametrize(
    ("rows", "word", "text"),
    [
        (figures(out=0.5, official=1.0), "better", "than ref: RMS 50 % lower"),
        (figures(out=2.0, official=1.0), "worse", "than ref: RMS 100 % higher"),
        (figures(out=1.0001, official=1.0), "equal", "RMS the same"),
        (figures(**{"in": 0.5}, out=2.0, official=1.0), "worse", "RMS 100 % higher"),
        (figures(**{"in": 0.5}, official=1.0), "not compared", "of it looks better than ref"),
        (figures(**{"in": 2.0}, official=1.0), "worse", "than ref on the exposures it was made of"),
        (figures(out=0.5), "not compared", "nothing to compare with"),
        (figures(official=0.5), "not compared", "no residual"),
        (figures(out=np.nan, official=0.5), "not compared", "no residual"),
        ({}, "not compared", "no residual"),
    ],
)
def test_a_verdict_says_by_how_much(rows, word, text):
    found = verdict(rows, "ref")
    assert found.word == word
    assert text in found.text


def test_a_change_within_the_scatter_of_the_parts_is_none():
    profile = np.linspace(-1, 1, 50)
    new, old = Score(0.45, profile, profile, 0.1), Score(0.5, profile, profile, 0.1)
    rows = {"out": all_figures(new), "official": all_figures(old)}
    old.parts = np.ones((3, 4))
    for spread, word in ((0.02, "better"), (0.2, "equal")):
        new.parts = np.array([[1 - spread] * 4, [1.0] * 4, [1 + spread] * 4])
        errors = scatter({"out": new, "official": old})
        assert errors["RMS"] == pytest.approx(spread / np.sqrt(3))
        assert verdict(rows, "ref", errors).word == word
    assert scatter({"out": new}) == {}


def test_a_background_that_is_better_in_one_thing_only_is_mixed():
    rows = figures(out=0.5, official=1.0)
    rows["out"]["row_95"] = 10.0
    found = verdict(rows, "ref")
    assert found.word == "mixed"
    assert "column range 50 % lower" in found.text
    assert "row range 15.2 times as large" in found.text
