"""Where an exposure points: the keywords in its header that tell."""

import numpy as np
from astropy.io import fits
from astropy.wcs import WCS

from wfssbkg.errors import StepError, first_line

# Where the reference point of the aperture was, and how the detector was turned there.
_REFERENCE = ("RA_REF", "DEC_REF", "ROLL_REF", "V3I_YANG", "VPARITY")

Pointing = dict[str, str | float]  # no Header: to send thousands to workers takes seconds


def read_pointing(header: fits.Header) -> Pointing:
    """
    The keywords that tell where an exposure points.

    Parameters
    ----------
    header : `~astropy.io.fits.Header`
        Of the extension SCI.

    Returns
    -------
    dict
        FITS world coordinates without distortion; where there are none, RA_REF, DEC_REF, ROLL_REF,
        V3I_YANG and VPARITY; empty where there are neither.

    Raises
    ------
    StepError
        If they make no sense.
    """
    try:
        if header.get("CRVAL1") is not None:
            wcs = WCS(header, naxis=2)  # as in the archive's direct images, not in its spectra
            sky = wcs.wcs_pix2world([[0, 0], [1, 1]], 0)
            if not (wcs.has_celestial and np.isfinite(sky).all()):
                raise ValueError("no position on the sky")
            return dict(wcs.to_header())
        made = {key: header[key] for key in _REFERENCE if header.get(key) is not None}
        if len(made) < len(_REFERENCE):
            return {}
        if not np.isfinite([float(value) for value in made.values()]).all():
            raise ValueError("a number is not finite")
        if abs(made["DEC_REF"]) > 90:
            raise ValueError(f"DEC_REF {made['DEC_REF']}")
    except Exception as error:  # wcslib raises many kinds; so does a damaged card
        raise StepError(f"its world coordinates make no sense ({first_line(error)})") from error
    return made
