"""What became of the exposures of a combination: what programmes gave, why some are left out."""

import re
from collections.abc import Iterable
from typing import Any, NamedTuple

import bottleneck as bn
import numpy as np
from astropy.table import Table

from wfssbkg.files.exposure_table import ACCEPTED, EXCLUDED, FAILED, REJECTED, fates

_ORDER = (ACCEPTED, REJECTED, FAILED, EXCLUDED)  # who looks for an exposure looks at these first


class LeftOut(NamedTuple):
    """So many exposures of a status for one reason, in words."""

    status: str
    reason: str
    number: int


def accepted_first(table: Table) -> Table:
    """A copy of an exposure table: accepted exposures, then rejected, failed, and excluded ones."""
    rank = [_ORDER.index(status) for status in table["status"]]
    return table[np.argsort(rank, kind="stable")]


def left_out(table: Table) -> list[LeftOut]:
    """
    Why exposures are not accepted, and how many, most first.

    Parameters
    ----------
    table : `~astropy.table.Table`
        An exposure table.

    Returns
    -------
    list of `LeftOut`
        Reasons that differ only in what was measured are one: the first of them is the example.
    """
    alike: dict[tuple[str, str], list[str]] = {}
    for row in table[table["status"] != ACCEPTED]:
        alike.setdefault((row["status"], _rule(row["reason"])), []).append(row["reason"])
    found = [
        LeftOut(
            status, reasons[0] if len(set(reasons)) == 1 else f"e.g. {reasons[0]}", len(reasons)
        )
        for (status, _), reasons in alike.items()
    ]
    return sorted(found, key=lambda group: -group.number)


def _rule(reason: str) -> str:
    """The setting that a reason names, or else its beginning without numbers."""
    setting = re.search(r"\(([a-z]+\.[a-z_]+)", reason)
    return setting[1] if setting else re.sub(r"\d+", "", reason.partition(":")[0])


def programmes(table: Table) -> list[dict[str, Any]]:
    """
    What each programme gave to a background.

    Parameters
    ----------
    table : `~astropy.table.Table`
        An exposure table with the additional column `rms`, the residual of each exposure.

    Returns
    -------
    list of dict
        Those that gave most first: `program`, `pi_name`; the number of exposures by status; and
        of the accepted ones `hours`, `weight` (its sum), `level` and `rms` (medians).
    """
    found = []
    for program in sorted(set(table["program"])):
        rows = table[table["program"] == program]
        accepted = rows[rows["status"] == ACCEPTED]
        found.append(
            {
                "program": program,
                "pi_name": ", ".join(sorted(set(rows["pi_name"]) - {""})),
                "hours": hours(accepted),
                "weight": float(np.nansum(accepted["weight"])),
                "level": _median(accepted["level"]),
                "rms": _median(accepted["rms"]),
            }
            | {status: len(names) for status, names in fates(rows).items()}
        )
    return sorted(found, key=lambda row: -row["hours"])


def hours(table: Table) -> float:
    """Effective integration time of all exposures of a table, as far as it is known."""
    return float(np.nansum(table["effinttm"])) / 3600


def _median(values: Iterable[float]) -> float:
    return float(bn.nanmedian(np.asarray(values, dtype=float)))
