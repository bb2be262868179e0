"""Which exposures are dithers of the same field, and which of the same pointing."""

from functools import lru_cache

import numpy as np
from astropy.io import fits
from astropy.wcs import WCS

from wfssbkg.detector import PIXEL_MATRIX, REFERENCE_PIXEL
from wfssbkg.files.pointing import Pointing

FARTHEST = 256  # px; exposures farther apart have too little of the field in common
ROLL_TOLERANCE = 0.02  # deg: a third of a pixel at the edge of the frame
SAME_ACROSS = 3.0  # px; nearer than this, across the dispersion, a source hides the same sky
# Of all information: the most that a field may have, where there are more than three.
MOST = 1 / 3
_ROUNDS = 100
_SAME_ROLL = 0.17  # deg: that much at the edge of the frame


@lru_cache(maxsize=4096)  # one takes about 1 ms to make, and exposures are grouped several times
def _wcs(cards: tuple[tuple[str, str | float], ...]) -> WCS:
    """The world coordinates of a pointing; linear."""
    pointing = dict(cards)
    if "CRVAL1" in pointing:
        return WCS(fits.Header(pointing))
    # From the ideal frame to the sky, as in jwst.lib.set_telescope_pointing.calc_rotation_matrix.
    parity = pointing["VPARITY"]
    angle = np.radians(pointing["ROLL_REF"] - parity * pointing["V3I_YANG"])
    turned = [[parity * np.cos(angle), np.sin(angle)], [-parity * np.sin(angle), np.cos(angle)]]
    wcs = WCS(naxis=2)
    wcs.wcs.ctype = ["RA---TAN", "DEC--TAN"]
    wcs.wcs.crval = [pointing["RA_REF"], pointing["DEC_REF"]]
    wcs.wcs.crpix = REFERENCE_PIXEL
    wcs.wcs.cd = np.array(turned) @ PIXEL_MATRIX / 3600
    return wcs


def group(
    pointings: list[Pointing], *, most: int, roll_tolerance: float = ROLL_TOLERANCE
) -> list[tuple[list[int], list[tuple[float, float]]]]:
    """
    Group exposures that see the same sources.

    Parameters
    ----------
    pointings : list of dicts
        From `wfssbkg.files.pointing`, one for each exposure. An exposure without a pointing is a
        group of its own.
    most : int
        Most exposures in a group.
    roll_tolerance : float
        Exposures turned by more than this, deg, are not of one group.

    Returns
    -------
    list of (numbers, offsets)
        For each group the numbers of its exposures in the list, and where each of them sees a
        source relative to the first, (y, x) in px.
    """
    known = [_wcs(tuple(each.items())) if each else None for each in pointings]
    places = np.array([_direction(wcs) for wcs in known]).reshape(-1, 3)
    groups: list[tuple[list[int], list[tuple[float, float]]]] = []
    near = np.cos(np.radians(2 * FARTHEST * np.max(PIXEL_MATRIX) / 3600))
    for number, wcs in enumerate(known):
        firsts = places[[numbers[0] for numbers, _ in groups]]
        for k in np.flatnonzero(firsts @ places[number] > near):
            numbers, offsets = groups[k]
            offset, turned = _offset(known[numbers[0]], wcs)
            if (
                len(numbers) < most
                and abs(turned) <= roll_tolerance
                and np.abs(offset).max() < FARTHEST
            ):
                numbers.append(number)
                offsets.append(offset)
                break
        else:
            groups.append(([number], [(0.0, 0.0)]))
    return groups


def _direction(wcs: WCS | None) -> np.ndarray:
    """The unit vector to where an exposure points; 0 if that is not known."""
    if wcs is None:
        return np.zeros(3)
    ra, dec = np.radians(wcs.wcs.crval)
    return np.array([np.cos(dec) * np.cos(ra), np.cos(dec) * np.sin(ra), np.sin(dec)])


def _offset(first: WCS, other: WCS) -> tuple[tuple[float, float], float]:
    """Where another exposure sees a source relative to the first, (y, x) in px; its roll, deg.

    The roll is told from two points: position angles are not the same from one meridian to another.
    """
    centre = first.wcs.crpix - 1
    points = centre + np.array([[0, 0], [0, 100]])
    seen = other.wcs_world2pix(first.wcs_pix2world(points, 0), 0)
    x, y = seen[0] - centre
    across, along = seen[1] - seen[0]
    return (float(y), float(x)), float(np.degrees(np.arctan2(across, along)))


def distinct(pointings: list[Pointing], *, nearest: tuple[float, float]) -> list[int]:
    """
    Number the pointings of exposures that differ enough for a source to move off its own light.

    Parameters
    ----------
    pointings : list of dicts
        As for `group`. Exposures without a pointing are all taken to have the same.
    nearest : (float, float)
        Pointings that differ by less than this in y and in x, px, are the same.

    Returns
    -------
    list of int
        For each exposure the number of its pointing; -1 where it is not known.
    """
    labels, count = [0] * len(pointings), 0
    for numbers, offsets in group(pointings, most=len(pointings), roll_tolerance=_SAME_ROLL):
        different: list[tuple[float, float]] = []
        for number, offset in zip(numbers, offsets, strict=True):
            away = np.abs(np.reshape(different, (-1, 2)) - offset)
            same = np.flatnonzero((away < nearest).all(axis=1))
            if not len(same):
                different.append(offset)
            labels[number] = count + (int(same[0]) if len(same) else len(different) - 1)
        count += len(different)
    return [label if pointing else -1 for label, pointing in zip(labels, pointings, strict=True)]


def members(pointings: list[Pointing]) -> list[list[int]]:
    """The numbers of the exposures of each field; from the pointing of each exposure."""
    return [numbers for numbers, _ in group(pointings, most=1000)]


def surely_apart(pointings: list[Pointing]) -> list[list[int]]:
    """As `members`, but exposures without a pointing are one field: they may be dithers of one."""
    unknown = [number for number, pointing in enumerate(pointings) if not pointing]
    known = [numbers for numbers in members(pointings) if pointings[numbers[0]]]
    return known + [unknown] * bool(unknown)


def units(pointings: list[Pointing]) -> list[list[int]]:
    """
    What can be set against the rest: each field, or each exposure if all are of one field.

    Exposures of one field have the same sources, whose error would cancel in their difference.
    """
    groups = members(pointings)
    return groups if len(groups) != 1 else [[number] for number in groups[0]]


def limited(groups: list[list[int]], information: np.ndarray) -> np.ndarray:
    """
    Factors that leave no field more than `MOST` of the information.

    What is wrong with one field, say light that no mask finds, is then at most that part of the
    background, however deep the field is.

    Parameters
    ----------
    groups : list of lists of int
        Numbers of the exposures in each field.
    information : (n,) float array
        Of each exposure.

    Returns
    -------
    (n,) float array
        At most 1; all 1 where there are too few fields.
    """
    factors = np.ones(len(information))
    whole = np.array([information[group].sum() for group in groups])
    if len(groups) * MOST <= 1 or not np.isfinite(whole).all():
        return factors
    kept = whole
    for _ in range(_ROUNDS):
        kept = np.minimum(kept, MOST * kept.sum())
    for group, factor in zip(groups, kept / whole, strict=True):
        factors[group] = factor
    return factors


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
