"""How far a step is, and how long it will take: a bar on a terminal, one plain line elsewhere."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from tqdm import tqdm

from wfssbkg import cli

tqdm.monitor_interval = 0  # no thread of its own: processes are forked beside its bars

BRIEF = 1.0  # s; a shorter step is not worth a line

_FORMAT = "{desc}: {percentage:3.0f} % |{bar}| {n_fmt} of {total_fmt} {unit}{left}"


class _Bar(tqdm):
    """A bar that tells the time left once enough is done to know it."""

    least = 1  # what has to be done for that

    @property
    def format_dict(self) -> dict[str, Any]:
        """As of tqdm, and `left`: the time left in words."""
        told = super().format_dict
        done, left = told["n"], ""
        if self.total and max(self.least, 1) <= done < self.total:
            left = f", {duration(told['elapsed'] / done * (self.total - done))} left"
        return told | {"left": left, "unit": told["unit"] + ("" if told["unit_scale"] else "s")}


@contextmanager
def bar(
    description: str, total: int, unit: str, *, least: int = 1, in_bytes: bool = False
) -> Iterator[tqdm]:
    """
    Show how far a step is; when it is done, say how long it took, unless it was brief.

    Parameters
    ----------
    description : str
        Of the step.
    total : int
        How much there is to do.
    unit : str
        What is counted, in the singular.
    least : int
        How much has to be done before an estimate of the time left makes sense: for some workers,
        as many jobs.
    in_bytes : bool
        Whether bytes are counted.

    Yields
    ------
    `~tqdm.tqdm`
        Its `update` is told of what has been done.
    """
    start = time.monotonic()
    options = {"unit_scale": in_bytes, "mininterval": 0.5 if in_bytes else 0.1}
    with _Bar(
        desc=f"  {description}",
        total=total or None,
        unit=unit,
        bar_format=_FORMAT + (", {rate_fmt}" if in_bytes else "") if total else None,
        dynamic_ncols=True,
        leave=False,
        disable=not _on_terminal(),
        **options,
    ) as shown:
        shown.least = least
        yield shown
    took = time.monotonic() - start
    if took >= BRIEF:
        amount = "" if in_bytes else f"{total} {unit}{'' if total == 1 else 's'} in "
        cli.say(f"{description}: {amount}{duration(took)}")


def each(items: Sequence[Any], description: str, unit: str) -> Iterator[Any]:
    """Go through some items, with a `bar` if there are any."""
    if items:
        with bar(description, len(items), unit) as shown:
            for item in items:
                yield item
                shown.update()


@contextmanager
def waiting(description: str) -> Iterator[None]:
    """Show how long a single answer has been waited for; nobody knows how long it will take."""
    if not _on_terminal():
        yield
        return
    ended = threading.Event()
    with tqdm(desc=f"  {description}", bar_format="{desc}: {elapsed} so far", leave=False) as shown:

        def show() -> None:
            while not ended.wait(1):
                shown.refresh()

        clock = threading.Thread(target=show, daemon=True)
        clock.start()
        try:
            yield
        finally:
            ended.set()
            clock.join()


def duration(seconds: float) -> str:
    """A time in words, no more exact than it needs to be."""
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {seconds} s" if minutes else f"{seconds} s"


def _on_terminal() -> bool:
    return sys.stderr.isatty() and not cli.is_quiet()
