"""A background in a file of any kind: a finished one, one of Zenodo, or one of CRDS."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from astropy.io import fits

from wfssbkg.detector import science_pixels
from wfssbkg.errors import StepError
from wfssbkg.files import fits_file
from wfssbkg.files.combined_background import Components
from wfssbkg.layout import Combination

# Flags of a reference file of CRDS where it holds no background (JWST documentation, DQ flags).
_DO_NOT_USE = 1


@dataclass
class Background:
    """A background of the whole frame.

    Attributes
    ----------
    path : `~pathlib.Path`
    header : `~astropy.io.fits.Header`
        The primary one.
    image : (ny, nx) float32 array
        0 where it is not known.
    flat_is_out : bool
        Whether the flat field is divided out.
    components : `~wfssbkg.files.combined_background.Components`
    """

    path: Path
    header: fits.Header
    image: np.ndarray
    flat_is_out: bool
    components: Components

    @property
    def dark(self) -> float:
        """What the subtraction of the dark left in the archive's exposures, DN/s."""
        return float(self.header.get("DARKRES", 0.0))


def read(path: Path) -> Background:
    """
    Read a background: a finished one, one of the Zenodo record, or a reference file of CRDS.

    Parameters
    ----------
    path : `~pathlib.Path`

    Raises
    ------
    StepError
        If there is none, or it is no background.
    """
    try:
        with fits_file.opened(path) as hdus:
            fits_file.check_whole(path, hdus)
            return _of(path, hdus)
    except StepError as error:
        raise StepError(
            f"{path} cannot be read as a background ({error}). Get it again; one of ours is made "
            "again by finalizeBackgrounds.py once it is removed"
        ) from None


def _of(path: Path, hdus: fits.HDUList) -> Background:
    """The background in an open file."""
    images = [hdu for hdu in hdus if hdu.is_image and hdu.data is not None]
    named = [hdu for hdu in images if hdu.name == "SCI"] or images
    if not named or named[0].data.ndim != 2:
        raise StepError("it has no image")
    header = hdus[0].header.copy()
    image = np.array(named[0].data, dtype=np.float32)
    unknown = ~np.isfinite(image) | ~science_pixels(image.shape)
    # FIXFLAT is grizli's keyword, and ours. Reference files of CRDS have the flat field in, and
    # tell their type; those made for grizli have it out.
    flat_is_out = bool(header.get("FIXFLAT", "REFTYPE" not in header))
    if "FIXFLAT" not in header and "DQ" in hdus and hdus["DQ"].shape == image.shape:
        unknown |= hdus["DQ"].data & _DO_NOT_USE > 0
    image[unknown] = 0
    positive = image[image > 0]
    if not positive.size:
        raise StepError("no pixel of it is above 0")
    return Background(path, header, image / np.median(positive), flat_is_out, Components.of(hdus))


def check_combination(background: Background, combination: Combination) -> None:
    """
    Check that a background is of a grating and a filter, as far as it tells.

    Parameters
    ----------
    background : `Background`
    combination : `~wfssbkg.layout.Combination`
        Of the exposures.

    Raises
    ------
    StepError
        If it is of another one.
    """
    for key, wanted in (("FILTER", combination.grating), ("PUPIL", combination.filter)):
        found = str(background.header.get(key, wanted)).strip().upper()
        if found != wanted:
            raise StepError(
                f"the background {background.path.name} has {key} {found}, the exposure {wanted}"
            )
