"""Where an exposure points: the keywords in its header that tell."""

import numpy as np
from astropy.io import fits
from astropy.wcs import WCS

from wfssbkg.errors import StepError, first_line

# The FITS world coordinates, which the archive's direct images have, and its spectra do not.
_FITS = (
    "WCSAXES", "CTYPE1", "CTYPE2", "CUNIT1", "CUNIT2", "CRPIX1", "CRPIX2", "CRVAL1", "CRVAL2",
    "RADESYS",
)  # fmt: skip
_SCALED, _LINEAR = (
    ("CDELT1", "CDELT2", "PC1_1", "PC1_2", "PC2_1", "PC2_2"),
    ("CD1_1", "CD1_2", "CD2_1", "CD2_2"),
)
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
            return _fits_coordinates(header)
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


def _fits_coordinates(header: fits.Header) -> Pointing:
    """The FITS world coordinates of a header."""
    matrix = _LINEAR if "CD1_1" in header else _SCALED  # CDELT beside CD means nothing
    made = {key: header[key] for key in (*_FITS, *matrix) if key in header}
    for key in ("CTYPE1", "CTYPE2"):
        made[key] = str(made[key]).removesuffix("-SIP")
    sky = WCS(fits.Header(made)).all_pix2world([[0, 0], [1, 1]], 0)
    if not np.isfinite(sky).all():
        raise ValueError("no position on the sky")
    return made
