"""The background that is subtracted from an exposure: ours, or anyone's."""

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from astropy.io import fits

from wfssbkg import pipeline
from wfssbkg.combine.sky import Model
from wfssbkg.detector import science_pixels
from wfssbkg.errors import StepError
from wfssbkg.files import fits_file, flicker_noise, rate
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
    with fits_file.product(path, "finalizeBackgrounds.py") as hdus:
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
        return Background(
            path, header, image / np.median(positive), flat_is_out, Components.of(hdus)
        )


def check_fits(background: Background, header: fits.Header, combination: Combination) -> str:
    """
    Check that a background is of the kind of an exposure.

    Parameters
    ----------
    background : `Background`
    header : `~astropy.io.fits.Header`
        Primary header of the exposure.
    combination : `~wfssbkg.layout.Combination`
        Of the exposure.

    Returns
    -------
    str
        What it does not tell, in words; '' if it fits.

    Raises
    ------
    StepError
        If it is of another kind.
    """
    told, name = background.header, background.path.name
    for key, wanted in (("FILTER", combination.grating), ("PUPIL", combination.filter)):
        found = str(told.get(key, wanted)).strip().upper()
        if found != wanted:
            raise StepError(f"the background {name} has {key} {found}, the exposure {wanted}")
    cleaned = rate.is_complete(header, "S_CLNFNS")
    if "S_CLNFNS" in told and rate.is_complete(told, "S_CLNFNS") != cleaned:
        kinds = ("not cleaned of 1/f noise", "cleaned of 1/f noise")
        raise StepError(
            f"it was {kinds[cleaned]} in stage 1, and the background {name} is for exposures that "
            f"were {kinds[not cleaned]} (S_CLNFNS). Make the other background "
            f"(mask.flicker_noise: {(flicker_noise.UNCLEANED, flicker_noise.CLEANED)[cleaned]}), "
            "or name it with --background"
        )
    missing = [key for key in ("FILTER", "PUPIL", "S_CLNFNS") if key not in told]
    return f"WARNING: {name} does not tell its {', '.join(missing)}" if missing else ""


def model(
    background: Background, exposure: Path, header: fits.Header, context: str | None, *, light: bool
) -> Model:
    """
    What the sky of an exposure may be made of.

    Parameters
    ----------
    background : `Background`
    exposure : `~pathlib.Path`
        The rate file.
    header : `~astropy.io.fits.Header`
        Its primary header.
    context : str or None
        As for `wfssbkg.pipeline.flat_field`.
    light : bool
        Whether scattered light is among it.

    Returns
    -------
    `~wfssbkg.combine.sky.Model`

    Raises
    ------
    StepError
        If the exposure is no part of the frame of the background.
    """
    part = window(header, background.image.shape)
    found = background.components if light else Components.none()
    whole = Model.of(background.image, background.dark, found)
    image, dark = whole.background[part], whole.dark
    if not background.flat_is_out:
        image = pipeline.without_flat(image, exposure, context=context)
    if dark:
        dark = pipeline.without_flat(np.full(image.shape, dark), exposure, context=context)
    return replace(whole, background=image, dark=dark, shapes=whole.shapes[:, *part])


def window(header: fits.Header, whole: tuple[int, int]) -> tuple[slice, slice]:
    """Where the pixels of an exposure are in the whole frame."""
    x, y, nx, ny = (header.get(key) for key in ("SUBSTRT1", "SUBSTRT2", "SUBSIZE1", "SUBSIZE2"))
    if None in (x, y, nx, ny) or min(x, y) < 1 or y - 1 + ny > whole[0] or x - 1 + nx > whole[1]:
        raise StepError(
            f"its part of the frame is not known, or beyond the {whole[1]} x {whole[0]} pixels of "
            f"the background (SUBSTRT1 {x}, SUBSTRT2 {y}, SUBSIZE1 {nx}, SUBSIZE2 {ny})"
        )
    return slice(y - 1, y - 1 + ny), slice(x - 1, x - 1 + nx)
