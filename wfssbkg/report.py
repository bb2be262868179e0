"""A stand-in until the report is merged: the figures as a bare table."""

from __future__ import annotations

from pathlib import Path

from wfssbkg.compare import Comparison
from wfssbkg.config import Config
from wfssbkg.layout import replacing


def write(path: Path, comparisons: list[Comparison], config: Config) -> None:
    """Write the figures of all comparisons as a table of HTML."""
    with replacing(path) as temporary:
        pages = []
        for comparison in comparisons:
            pages += comparison.figures().pformat(html=True, max_width=-1)
            pages += [f"<p>{note}</p>" for note in comparison.notes]
        temporary.write_text("\n".join(pages))
