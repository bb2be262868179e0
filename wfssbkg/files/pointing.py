"""Where an exposure points: the world coordinates in its header."""

import numpy as np
from astropy.io import fits
from astropy.wcs import WCS

from wfssbkg.errors import StepError, first_line

KEYWORDS = (
    "WCSAXES", "CTYPE1", "CTYPE2", "CUNIT1", "CUNIT2", "CRPIX1", "CRPIX2", "CRVAL1", "CRVAL2",
    "CDELT1", "CDELT2", "PC1_1", "PC1_2", "PC2_1", "PC2_2", "RADESYS",
)  # fmt: skip

Pointing = dict[str, str | float]  # no Header: to send thousands to workers takes seconds


def read_pointing(header: fits.Header) -> Pointing:
    """The keywords of the world coordinates of an exposure, from the header of its SCI.

    Raises
    ------
    StepError
        If they make no sense.
    """
    try:
        made = {key: header[key] for key in KEYWORDS if key in header}
        if "CRVAL1" in made:
            sky = WCS(fits.Header(made)).all_pix2world([[0, 0], [1, 1]], 0)
            if not np.isfinite(sky).all():
                raise ValueError("no position on the sky")
    except Exception as error:  # wcslib raises many kinds; so does a damaged card
        raise StepError(f"its world coordinates make no sense ({first_line(error)})") from error
    return made
