"""The exposures that a bright star spoils: matching pointings with the stars of Gaia."""

import warnings

import astropy.units as u
import numpy as np
from astropy.coordinates import SkyCoord, search_around_sky
from astropy.table import Table
from astropy.time import Time
from erfa import ErfaWarning

from wfssbkg.files.exposure_table import EXCLUDED

_GAIA_EPOCH = Time(2016.0, format="jyear", scale="tt")  # of the positions of Gaia DR3
_LAUNCH = 59573.0  # MJD of the launch of JWST, 25 December 2021


def exclude(table: Table, stars: Table | None, *, radius: float) -> None:
    """
    Exclude the exposures of a table that have a bright star nearby, where it was at the time.

    Parameters
    ----------
    table : `~astropy.table.Table`
        The exposure table; `star_gmag` and `star_sep` of the nearest star, `status` and `reason`
        are set in place. An exposure of which neither the archive nor its header, once that was
        looked at, tells the pointing is excluded too.
    stars : `~astropy.table.Table` or None
        As from `wfssbkg.query.gaia.bright_stars`; a proper motion that is NaN is taken as 0. None
        excludes nothing.
    radius : float
        How near is too near, in arcmin.
    """
    if stars is None:
        return
    table["star_gmag"] = table["star_sep"] = np.nan  # a header may have told another pointing
    known = np.flatnonzero(np.isfinite(table["ra"]) & np.isfinite(table["dec"]))
    exposure, star, separation = _pairs(table[known], stars, radius)
    for pair in np.argsort(-separation):  # so that the nearest star is the last to be noted
        row = known[exposure[pair]]
        table["star_gmag"][row] = stars["phot_g_mean_mag"][star[pair]]
        table["star_sep"][row] = separation[pair]
    for row in table:
        reason = ""
        if np.isfinite(row["star_sep"]):
            reason = f"bright star: G = {row['star_gmag']:.2f} at {row['star_sep']:.2f} arcmin"
        elif not np.isfinite(row["ra"] + row["dec"]) and row["s_clnfns"]:
            reason = "no pointing known, so bright stars cannot be checked"
        if reason and row["status"] != EXCLUDED:
            row["status"], row["reason"] = EXCLUDED, reason


def _pairs(table: Table, stars: Table, radius: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """All pairs of an exposure and a star within the radius: indices, and separation in arcmin."""
    today = Time.now().mjd
    dates = np.clip(np.nan_to_num(table["mjd"], nan=today), _LAUNCH, today)
    times = Time(dates, format="mjd", scale="tt")
    pointings = SkyCoord(table["ra"], table["dec"], unit="deg")
    motion = [np.nan_to_num(np.asarray(stars[name])) for name in ("pmra", "pmdec")]  # mas/yr
    places = SkyCoord(
        np.asarray(stars["ra"]) * u.deg,
        np.asarray(stars["dec"]) * u.deg,
        pm_ra_cosdec=motion[0] * u.mas / u.yr,
        pm_dec=motion[1] * u.mas / u.yr,
        obstime=_GAIA_EPOCH,
    )
    # With the largest proper motion, no star can be farther from where it was than this.
    years = np.abs(times.jyear - _GAIA_EPOCH.jyear).max(initial=0)
    farthest = np.hypot(*motion).max() * years * u.mas
    exposure, star, _, _ = search_around_sky(pointings, places, radius * u.arcmin + farthest)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ErfaWarning)  # without a parallax, a star is far away
        moved = places[star].apply_space_motion(new_obstime=times[exposure])
    separation = moved.separation(pointings[exposure]).arcmin
    near = separation <= radius
    return exposure[near], star[near], separation[near]
