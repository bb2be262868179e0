"""Gaia: the bright stars of the whole sky, and the exposures that one of them spoils."""

from __future__ import annotations

import contextlib
import io
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from astropy.io import fits
from astropy.table import Table

from wfssbkg import StepError, cli, exposures, files, lock, progress
from wfssbkg.config import Query
from wfssbkg.layout import star_lock
from wfssbkg.network import gaia_client, query_date, with_retries

_TABLE = "gaiadr3.gaia_source_lite"  # the columns of gaia_source that matter, and faster
_UNDER_WAY = ("PENDING", "QUEUED", "EXECUTING")  # phases of a job, from the standard (IVOA UWS)
_JOB_TIMEOUTS = 10  # as long as all pages of an answer of MAST may take, in units of query.timeout
_PAUSE = 0.5  # s, between two questions for the phase; as astroquery has it
_EPOCH = 57388.5  # MJD of J2016.0, the epoch of the positions of Gaia DR3
_YEAR = 365.25  # d
_MAS = np.radians(1 / 3.6e6)
_ARCMIN = np.radians(1 / 60)

# name -> (FITS format, unit)
_COLUMNS = {
    "source_id": ("K", None),
    "ra": ("D", "deg"),
    "dec": ("D", "deg"),
    "pmra": ("D", "mas/yr"),
    "pmdec": ("D", "mas/yr"),
    "phot_g_mean_mag": ("D", "mag"),
}


def exclude(table: Table, stars: Table, *, radius: float) -> None:
    """
    Exclude the exposures of a table that have a bright star nearby.

    Parameters
    ----------
    table : `~astropy.table.Table`
        The exposure table; `star_gmag`, `star_sep`, `status` and `reason` are set in place. An
        exposure without a pointing is excluded too.
    stars : `~astropy.table.Table`
        From `catalog`.
    radius : float
        How near is too near, in arcmin.
    """
    today = datetime.now(UTC).timestamp() / 86400 + 40587
    ra, dec, mjd = (np.asarray(table[name], dtype=float) for name in ("ra", "dec", "mjd"))
    index, separation = nearest(
        ra, dec, np.where(np.isfinite(mjd), mjd, today), stars, radius=radius
    )
    for row, (star, distance) in enumerate(zip(index, separation, strict=True)):
        reason = ""
        if star >= 0:
            magnitude = stars["phot_g_mean_mag"][star]
            table["star_gmag"][row], table["star_sep"][row] = magnitude, distance
            reason = f"bright star: G = {magnitude:.2f} at {distance:.2f} arcmin"
        elif not np.isfinite(ra[row] + dec[row]):
            reason = "no pointing known, so bright stars cannot be checked"
        if reason and table["status"][row] == exposures.ACCEPTED:
            table["status"][row], table["reason"][row] = exposures.EXCLUDED, reason


def nearest(
    ra: np.ndarray, dec: np.ndarray, mjd: np.ndarray, stars: Table, *, radius: float
) -> tuple[np.ndarray, np.ndarray]:
    """
    The nearest star to each pointing, where it was at the time.

    Parameters
    ----------
    ra, dec : 1-D `~numpy.ndarray`
        Pointings in deg; NaN finds nothing.
    mjd : 1-D `~numpy.ndarray`
        Their times as MJD.
    stars : `~astropy.table.Table` or mapping
        Columns ra, dec in deg at J2016.0 and pmra (with the factor cos dec), pmdec in mas/yr;
        a proper motion that is NaN is taken as 0.
    radius : float
        Stars beyond it do not count, arcmin.

    Returns
    -------
    index : 1-D `~numpy.ndarray` of int
        Row of the star, or -1 if there is none within the radius.
    separation : 1-D `~numpy.ndarray`
        In arcmin; NaN if there is none.
    """
    from scipy.spatial import KDTree

    index, separation = np.full(len(ra), -1), np.full(len(ra), np.nan)
    known = np.flatnonzero(np.isfinite(ra) & np.isfinite(dec) & np.isfinite(mjd))
    if not len(known) or not len(stars["ra"]):
        return index, separation
    pointing, _, _ = _directions(ra[known], dec[known])
    years = (np.asarray(mjd, dtype=float)[known] - _EPOCH) / _YEAR
    star, east, north = _directions(stars["ra"], stars["dec"])
    pm_east, pm_north = (
        np.nan_to_num(np.asarray(stars[name], dtype=float)) * _MAS for name in ("pmra", "pmdec")
    )
    motion = pm_east[:, None] * east + pm_north[:, None] * north  # rad a year

    # All pairs that can be near enough with the largest proper motion; then each one exactly.
    reach = radius * _ARCMIN + np.abs(years).max() * np.linalg.norm(motion, axis=1).max()
    chord = 2 * np.sin(min(reach, np.pi) / 2) * (1 + 1e-9) + 1e-12  # for rounding
    pairs = KDTree(pointing).sparse_distance_matrix(KDTree(star), chord, output_type="ndarray")
    i, j = pairs["i"], pairs["j"]
    there = star[j] + years[i, None] * motion[j]
    there /= np.linalg.norm(there, axis=1, keepdims=True)
    apart = 2 * np.arcsin(np.minimum(np.linalg.norm(there - pointing[i], axis=1) / 2, 1)) / _ARCMIN

    order = np.lexsort((apart, i))
    order = order[apart[order] <= radius]
    first, place = np.unique(i[order], return_index=True)
    index[known[first]] = j[order][place]
    separation[known[first]] = apart[order][place]
    return index, separation


def _directions(ra: Any, dec: Any) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Unit vectors to positions in deg, and those that point east and north there."""
    ra, dec = np.radians(np.asarray(ra, dtype=float)), np.radians(np.asarray(dec, dtype=float))
    zero = np.zeros_like(ra)
    outward = np.cos(dec) * np.cos(ra), np.cos(dec) * np.sin(ra), np.sin(dec)
    east = -np.sin(ra), np.cos(ra), zero
    north = -np.sin(dec) * np.cos(ra), -np.sin(dec) * np.sin(ra), np.cos(dec)
    return tuple(np.stack(vector, axis=1) for vector in (outward, east, north))


def catalog(path: Path, query: Query, *, overwrite: bool = False) -> Table:
    """
    All stars brighter than the limit, from disk, or else from Gaia and kept on disk.

    Parameters
    ----------
    path : `~pathlib.Path`
        The file that keeps them.
    query : `~wfssbkg.config.Query`
        With `gaia_g_limit` and `gaia_url`.
    overwrite : bool
        Ask Gaia although the file is there.

    Returns
    -------
    `~astropy.table.Table`
        Columns source_id, ra, dec, pmra, pmdec, phot_g_mean_mag; QDATE, the UTC time of the
        query, in `meta`.

    Raises
    ------
    StepError
        If there is no file and Gaia cannot be asked.
    """
    with lock.hold(star_lock(path)):
        if path.exists() and not overwrite:
            try:
                return _read(path, query.gaia_g_limit)
            except StepError as error:
                cli.say(f"{path} is not a readable catalogue of stars ({error}): asking Gaia again")
        stars = _fetch(query)
        _write(stars, path, query)
    return stars


def _fetch(query: Query) -> Table:
    """The stars from Gaia, and when; with new tries, and what to do in case of failure."""
    cli.say(
        f"asking Gaia ({query.gaia_url}) for all stars brighter than "
        f"G = {query.gaia_g_limit:g}; once, it may take some minutes"
    )
    try:
        with progress.waiting("waiting for Gaia"):
            stars = with_retries(lambda: _ask(query), query, report=cli.say)
    except StepError as error:
        raise StepError(
            f"Gaia at {query.gaia_url} gives no bright stars: {error}. Run queryData.py again "
            "later, or set query.gaia_g_limit: null to go without the check for bright stars"
        ) from error
    stars.meta["QDATE"] = query_date()
    return stars


def _ask(query: Query) -> Table:
    """The stars from Gaia; a second, small question tells whether all of them arrived."""
    where = f"FROM {_TABLE} WHERE phot_g_mean_mag < {query.gaia_g_limit:g}"
    expected = int(_tap(query, f"SELECT COUNT(*) AS number {where}")["number"][0])
    answer = _tap(query, f"SELECT {', '.join(_COLUMNS)} {where}")
    if len(answer) != expected or not expected:
        # Seen at the real archive under load, without any error; also its limits of 2000 rows
        # (synchronous) and 3 million (anonymous).
        raise StepError(
            f"{len(answer)} of {expected} stars brighter than G = {query.gaia_g_limit:g} arrived"
        )
    return _checked({name: answer[name] for name in _COLUMNS}, query.gaia_g_limit)


def _tap(query: Query, adql: str) -> Table:
    """The answer to an asynchronous job, which unlike a synchronous one is not cut at 2000 rows."""
    with contextlib.redirect_stdout(io.StringIO()):  # it prints errors besides raising them
        job = gaia_client(query).launch_job_async(
            adql, output_format="votable_gzip", background=True
        )
        longest = _JOB_TIMEOUTS * query.timeout
        end = time.monotonic() + longest
        while (phase := job.get_phase(update=True).strip().upper()) in _UNDER_WAY:
            if time.monotonic() > end:
                raise StepError(f"its job is still {phase} after {longest:g} s")
            time.sleep(_PAUSE)
        table = job.get_results()
    table.rename_columns(table.colnames, [name.lower() for name in table.colnames])
    return table


def _checked(columns: Any, g_limit: float) -> Table:
    """A table of plain columns; a ValueError if they are not those of bright stars."""
    stars = Table()
    for name, (kind, unit) in _COLUMNS.items():
        values = np.ma.asarray(columns[name])
        values = values.filled(0) if kind == "K" else values.astype(float).filled(np.nan)
        stars[name] = np.asarray(values, dtype="i8" if kind == "K" else "f8")
        stars[name].unit = unit
    ra, dec, magnitude = stars["ra"], stars["dec"], stars["phot_g_mean_mag"]
    sound = (ra >= 0) & (ra <= 360) & (np.abs(dec) <= 90) & (magnitude < g_limit)
    if not len(stars) or not sound.all():
        raise ValueError(f"{len(stars) - np.sum(sound)} of {len(stars)} stars make no sense")
    return stars


def _read(path: Path, g_limit: float) -> Table:
    with files.opened(path) as hdus:
        files.check_whole(path, hdus)
        stars = _checked(hdus["STARS"].data, g_limit)
        stars.meta["QDATE"] = hdus[0].header["QDATE"]
    return stars


def _write(stars: Table, path: Path, query: Query) -> None:
    primary = fits.PrimaryHDU()
    primary.header["QDATE"] = (stars.meta["QDATE"], "UTC time of the query")
    primary.header["GLIMIT"] = (query.gaia_g_limit, "[mag] all stars brighter than this in Gaia G")
    primary.header["GAIATAB"] = (_TABLE, "table of the Gaia archive")
    primary.header["GAIAURL"] = (query.gaia_url, "address of the Gaia archive")
    columns = [
        fits.Column(name, kind, unit=unit, array=np.asarray(stars[name]))
        for name, (kind, unit) in _COLUMNS.items()
    ]
    files.write(path, [primary, fits.BinTableHDU.from_columns(columns, name="STARS")])
