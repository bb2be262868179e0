"""The finished backgrounds: reference files for grizli, the JWST pipeline and CRDS."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from astropy.io import fits

from wfssbkg.files import exposure_table, fits_file
from wfssbkg.files.combined_background import Background, Components, images_of

# Bits of the DQ extension, with names of the JWST pipeline: it ORs them into the exposures it
# subtracts the background from, so that none of them may be DO_NOT_USE.
REFERENCE, FILLED, FEW, BAD, SAME = 1, 2, 4, 8, 16
_DQ_DEFINITIONS = [
    (0, REFERENCE, "REFERENCE_PIXEL", "reference pixel: no sky"),
    (1, FILLED, "FLUX_ESTIMATED", "no exposure counted here: filled from the neighbours"),
    (2, FEW, "UNRELIABLE_SLOPE", "fewer exposures counted here than a background needs"),
    (3, BAD, "OTHER_BAD_PIXEL", "bad pixel in all exposures"),
    (4, SAME, "UNRELIABLE_BIAS", "too few pointings: a source may look like the sky"),
]

FIGURES = ("XI", "XV", "XC")  # how the keywords begin that compareBackgrounds.py adds


def write(
    path: Path,
    background: Background,
    dq: np.ndarray,
    header: fits.Header,
    settings: Mapping[str, Any],
) -> None:
    """
    Write a finished background as a BKG reference file.

    There is no DATE keyword on purpose: grizli replaces a file whose DATE differs from that of
    the file in CRDS.

    Parameters
    ----------
    path : `~pathlib.Path`
    background : `~wfssbkg.files.combined_background.Background`
        Denoised, filled and scaled.
    dq : (ny, nx) uint32 array
        The flags above.
    header : `~astropy.io.fits.Header`
        Primary header.
    settings : mapping
        All settings, section.key to value.
    """
    primary = fits.PrimaryHDU(header=header)
    primary.header["FILENAME"] = path.name
    most = int(background.pointings.max())
    primary.header["NPOINT"] = (most, "most distinct pointings of a pixel")
    layout = [("BIT", "i4"), ("VALUE", "u4"), ("NAME", "S40"), ("DESCRIPTION", "S80")]
    definitions = np.array(_DQ_DEFINITIONS, dtype=layout)
    hdus = [
        primary,
        *background.images(),
        fits.ImageHDU(dq, name="DQ"),
        fits.BinTableHDU(definitions, name="DQ_DEF"),
        *background.components.hdus(),
        exposure_table.to_hdu(background.inputs),
        fits_file.settings_hdu(settings),
    ]
    fits_file.write(path, hdus, checksum=True)


def read(path: Path) -> tuple[Background, np.ndarray]:
    """
    Read a finished background.

    Parameters
    ----------
    path : `~pathlib.Path`

    Returns
    -------
    background : `Background`
    filled : (ny, nx) bool array
        Pixels where no exposure counted.

    Raises
    ------
    StepError
        If there is none, or it cannot be read: run finalizeBackgrounds.py first.
    """
    with fits_file.product(path, "finalizeBackgrounds.py") as hdus:
        sci, err, number, dq = images_of(hdus, "DQ")
        pointings = np.broadcast_to(np.int16(hdus[0].header["NPOINT"]), sci.shape)
        told = hdus[0].header
        dark = float(told.get("DARKRES", 0)), float(told.get("DARKERR", np.inf))
        images = sci, err, number, dq & BAD > 0, pointings
        inputs, components = exposure_table.read(path), Components.of(hdus)
        made = Background(*images, inputs, dark=dark, components=components)
    return made, dq & FILLED > 0


def note(
    path: Path, cards: Mapping[str, tuple[Any, str]], *, instead_of: tuple[str, ...] = ()
) -> None:
    """
    Note something in the primary header of a finished file; all else stays as it is.

    Parameters
    ----------
    path : `~pathlib.Path`
    cards : mapping
        Keyword to value and comment.
    instead_of : tuple of str
        Keywords that begin so are removed before.

    Raises
    ------
    StepError
        If there is no such file, or it cannot be read.
    """
    with fits_file.opened(path, do_not_scale_image_data=True) as hdus:
        fits_file.check_whole(path, hdus)
        header = hdus[0].header
        for keyword in [key for key in header if instead_of and key.startswith(instead_of)]:
            del header[keyword]
        for keyword, card in cards.items():
            header.set(keyword, *card, before=None if keyword in header else "HISTORY")
        fits_file.write(path, hdus, checksum=True)
