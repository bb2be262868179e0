"""The catalogue of bright stars: all of Gaia that are brighter than a limit."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from astropy.io import fits
from astropy.table import Table

from wfssbkg.files import fits_file

# name -> unit
COLUMNS = {
    "source_id": "",
    "ra": "deg",
    "dec": "deg",
    "pmra": "mas/yr",
    "pmdec": "mas/yr",
    "phot_g_mean_mag": "mag",
}


def new(columns: Mapping[str, Any], g_limit: float) -> Table:
    """
    A catalogue of bright stars of the given columns.

    Parameters
    ----------
    columns : mapping
        The columns of `COLUMNS`; a masked number becomes NaN.
    g_limit : float
        All stars must be brighter than this, mag.

    Returns
    -------
    `~astropy.table.Table`

    Raises
    ------
    ValueError
        If there is none, or a position or magnitude makes no sense.
    """
    stars = Table({"source_id": np.asarray(columns["source_id"], dtype="i8")})
    for name in list(COLUMNS)[1:]:
        stars[name] = np.ma.asarray(columns[name]).astype("f8").filled(np.nan)
        stars[name].unit = COLUMNS[name]
    ra, dec, magnitude = stars["ra"], stars["dec"], stars["phot_g_mean_mag"]
    sound = (ra >= 0) & (ra <= 360) & (np.abs(dec) <= 90) & (magnitude < g_limit)
    if not len(stars) or not sound.all():
        raise ValueError(f"{len(stars) - np.sum(sound)} of {len(stars)} stars make no sense")
    return stars


def read(path: Path, g_limit: float) -> Table:
    """
    Read a catalogue of the stars brighter than a limit (mag).

    Returns
    -------
    `~astropy.table.Table`
        With the columns of `COLUMNS`; in `meta` QDATE, GLIMIT, GAIATAB, GAIAURL.

    Raises
    ------
    StepError
        If the file is not such a catalogue.
    """
    with fits_file.opened(path) as hdus:
        fits_file.check_whole(path, hdus)
        stars = new(hdus["STARS"].data, g_limit)
        header = hdus[0].header
        stars.meta = {key: header[key] for key in ("QDATE", "GLIMIT", "GAIATAB", "GAIAURL")}
    return stars


def write(stars: Table, path: Path) -> None:
    """Write a catalogue as `read` gives it, replacing the file in one go."""
    rows = fits.table_to_hdu(Table(stars, meta={}), name="STARS")
    fits_file.write(path, [fits.PrimaryHDU(header=fits.Header(stars.meta)), rows])
