"""Which exposures are dithers of the same field: they see the same sources."""

from functools import lru_cache

import numpy as np
from astropy.io import fits
from astropy.wcs import WCS

from wfssbkg.files.pointing import Pointing

FARTHEST = 256  # px; exposures farther apart have too little of the field in common
ROLL_TOLERANCE = 0.02  # deg: a third of a pixel at the edge of the frame


@lru_cache(maxsize=4096)  # one takes about 1 ms to make, and exposures are grouped several times
def _wcs(cards: tuple[tuple[str, str | float], ...]) -> WCS:
    return WCS(fits.Header(cards))


def group(
    pointings: list[Pointing], *, most: int
) -> list[tuple[list[int], list[tuple[float, float]]]]:
    """
    Group exposures that see the same sources.

    Parameters
    ----------
    pointings : list of dicts
        From `wfssbkg.files.pointing`, one for each exposure. An exposure without world coordinates
        is a group of its own.
    most : int
        Most exposures in a group.

    Returns
    -------
    list of (numbers, offsets)
        For each group the numbers of its exposures in the list, and where each of them sees a
        source relative to the first, (y, x) in px.
    """
    groups: list[tuple[WCS | None, float, list[int], list[tuple[float, float]]]] = []
    for number, header in enumerate(pointings):
        wcs = _wcs(tuple(header.items())) if "CRVAL1" in header else None
        roll = _roll(wcs) if wcs else np.nan
        for first, first_roll, numbers, offsets in groups:
            if not wcs or not first or len(numbers) == most:
                continue
            turned = (roll - first_roll + 180) % 360 - 180
            if abs(turned) > ROLL_TOLERANCE or abs(wcs.wcs.crval[1] - first.wcs.crval[1]) > 0.1:
                continue
            x, y = wcs.wcs_world2pix([first.wcs.crval], 0)[0] - first.wcs.crpix + 1
            if max(abs(x), abs(y)) < FARTHEST:
                numbers.append(number)
                offsets.append((float(y), float(x)))
                break
        else:
            groups.append((wcs, roll, [number], [(0.0, 0.0)]))
    return [(numbers, offsets) for _, _, numbers, offsets in groups]


def members(pointings: list[Pointing]) -> list[list[int]]:
    """The numbers of the exposures of each field; from the pointing of each exposure."""
    return [numbers for numbers, _ in group(pointings, most=1000)]


def units(pointings: list[Pointing]) -> list[list[int]]:
    """
    What can be set against the rest: each field, or each exposure if all are of one field.

    Exposures of one field have the same sources, whose error would cancel in their difference.
    """
    groups = members(pointings)
    return groups if len(groups) != 1 else [[number] for number in groups[0]]


def _roll(wcs: WCS) -> float:
    """Position angle of the detector's y axis, deg."""
    matrix = wcs.pixel_scale_matrix
    return float(np.degrees(np.arctan2(matrix[0, 1], matrix[1, 1])))


def share_out(groups: list[list[int]], information: np.ndarray, number: int) -> list[list[int]]:
    """
    Share groups of exposures out among some parts of about the same information.

    Parameters
    ----------
    groups : list of lists of int
        Numbers of the exposures in each group; a group stays together.
    information : (n,) float array
        Of each exposure.
    number : int
        Of parts.

    Returns
    -------
    list of lists of int
        The exposures of each part; empty where groups are fewer than parts.
    """
    parts: list[list[int]] = [[] for _ in range(number)]
    for numbers in sorted(groups, key=lambda numbers: -information[numbers].sum()):
        min(parts, key=lambda part: information[part].sum()).extend(numbers)
    return parts
