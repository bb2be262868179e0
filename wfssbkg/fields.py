"""Which exposures are dithers of the same field: they see the same sources."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np
from astropy.io import fits

from wfssbkg import StepError
from wfssbkg.files import first_line

if TYPE_CHECKING:
    from astropy.wcs import WCS

KEYWORDS = (
    "WCSAXES", "CTYPE1", "CTYPE2", "CUNIT1", "CUNIT2", "CRPIX1", "CRPIX2", "CRVAL1", "CRVAL2",
    "CDELT1", "CDELT2", "PC1_1", "PC1_2", "PC2_1", "PC2_2", "RADESYS",
)  # fmt: skip
FARTHEST = 256  # px; beyond it too little of the field is common
ROLL_TOLERANCE = 0.02  # deg: a third of a pixel at the edge of the frame


Pointing = dict[str, str | float]  # thousands of FITS headers would take seconds to send around


def pointing(header: fits.Header) -> Pointing:
    """
    The world coordinates of an exposure: the keywords of the extension SCI that make them.

    Raises
    ------
    StepError
        If they make no sense.
    """
    try:
        made = {key: header[key] for key in KEYWORDS if key in header}
        if "CRVAL1" in made:
            sky = _wcs(made).all_pix2world([[0, 0], [1, 1]], 0)
            if not np.isfinite(sky).all():
                raise ValueError("no position on the sky")
    except Exception as error:  # of wcslib, or of a card that is none
        raise StepError(f"its world coordinates make no sense ({first_line(error)})") from error
    return made


def _wcs(made: Pointing) -> WCS:
    return _wcs_of(tuple(made.items()))


@lru_cache(maxsize=4096)  # a ms each, and they are grouped several times
def _wcs_of(cards: tuple[tuple[str, str | float], ...]) -> WCS:
    from astropy.wcs import WCS  # it imports all of astropy.coordinates, which few scripts need

    return WCS(fits.Header(cards))


def group(
    pointings: list[Pointing], *, most: int
) -> list[tuple[list[int], list[tuple[float, float]]]]:
    """
    Group exposures that see the same sources.

    Parameters
    ----------
    pointings : list of dicts
        From `pointing`, an exposure each. One without world coordinates is a group of its own.
    most : int
        Most exposures in a group.

    Returns
    -------
    list of (numbers, offsets)
        A group each: the numbers of its exposures in the list, and where each of them sees a
        source relative to the first, (y, x) in px.
    """
    groups: list[tuple[WCS | None, float, list[int], list[tuple[float, float]]]] = []
    for number, header in enumerate(pointings):
        wcs = _wcs(header) if "CRVAL1" in header else None
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

    Exposures of one field share the light of its sources, which then does not show.
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
