"""A row of MAST's keyword service, and how it becomes a row of the exposure table."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from astropy.coordinates import cartesian_to_spherical, spherical_to_cartesian

from wfssbkg.errors import printable
from wfssbkg.layout import Combination

COLUMNS = (
    "filename", "fileSetName", "productLevel", "exp_type", "instrume", "filter", "pupil",
    "readpatt", "subarray", "effinttm", "targ_ra", "targ_dec", "s_region", "expstart",
    "date_obs_mjd", "program", "dataURI", "fileSize", "publicReleaseDate",
    "publicReleaseDate_mjd", "isRestricted", "isStale",
)  # fmt: skip

KeywordRow = Mapping[str, str]  # name of a column to its text, '' if it is missing


def plain(row: Any) -> KeywordRow:
    """
    A row of text in printable ASCII.

    Parameters
    ----------
    row : anything
        What is not a mapping gives a row in which all is missing.
    """
    row = row if isinstance(row, Mapping) else {}
    return {name: _text(row.get(name)) for name in COLUMNS}


def _text(value: Any) -> str:
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return printable(str(value).strip()) if isinstance(value, str | int | float) else ""


def number(text: Any) -> float:
    """The finite number that a text gives, or NaN."""
    try:
        value = float(text)
    except (TypeError, ValueError):
        return math.nan
    return value if math.isfinite(value) else math.nan


def is_rate_exposure(row: KeywordRow, combinations: Sequence[Combination]) -> bool:
    """Whether a row is of a rate file of NIRISS, and of one of some combinations."""
    combination = _combination(row)
    return (
        row["instrume"].upper() in ("", "NIRISS")
        and row["productLevel"].lower() == "2a"
        and row["filename"].endswith("_rate.fits")
        and combination in combinations
        and row["exp_type"].upper() == combination.exp_type
    )


def _combination(row: KeywordRow) -> Combination:
    return Combination(row["filter"].upper(), row["pupil"].upper())


def to_exposure(row: KeywordRow, uri: str, status: str, reason: str) -> dict[str, Any]:
    """
    The columns of the exposure table that a row tells, and its `combination`.

    Parameters
    ----------
    row : mapping
        From `plain`.
    uri : str
        Where the file is: `dataURI` of the exposure table.
    status, reason : str
        The fate of the exposure so far.
    """
    ra, dec = _pointing(row)
    mjd, size = number(row["expstart"]), number(row["fileSize"])
    return {
        "combination": _combination(row),
        "productFilename": row["filename"],
        "obs_id": row["fileSetName"],
        "dataURI": uri,
        "size": int(size) if 0 < size < 2**62 else 0,
        "program": row["program"].lstrip("0"),
        "ra": ra,
        "dec": dec,
        "mjd": mjd if mjd > 0 else number(row["date_obs_mjd"]),
        "effinttm": number(row["effinttm"]),
        "readpatt": row["readpatt"].upper(),
        "subarray": row["subarray"].upper(),
        "status": status,
        "reason": reason,
    }


def _pointing(row: KeywordRow) -> tuple[float, float]:
    """Right ascension and declination in deg: the footprint's centre, or else the target."""
    ra, dec = _centre(row["s_region"]) or (number(row["targ_ra"]), number(row["targ_dec"]))
    ra = ra % 360 % 360  # twice, since -1e-20 % 360 is 360
    return (ra, dec) if abs(dec) <= 90 and math.isfinite(ra) else (math.nan, math.nan)


def _centre(region: str) -> tuple[float, float] | None:
    """The centre of the vertices of an STC-S polygon in deg, or None; safe at RA 0 and poles."""
    numbers = [value for word in region.split() if math.isfinite(value := number(word))]
    usable = region.upper().startswith("POLYGON") and len(numbers) >= 6 and len(numbers) % 2 == 0
    if not usable or max(map(abs, numbers[1::2])) > 90:
        return None
    vertices = list(dict.fromkeys(zip(numbers[::2], numbers[1::2], strict=True)))
    ra, dec = np.radians(vertices).T
    middle = [axis.mean() for axis in spherical_to_cartesian(1, dec, ra)]
    _, latitude, longitude = cartesian_to_spherical(*middle)
    return float(longitude.deg), float(latitude.deg)
