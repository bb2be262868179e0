"""The combined background and the finished reference files."""

from __future__ import annotations

import textwrap
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from platform import python_version
from typing import TYPE_CHECKING

import numpy as np
from astropy.io import fits
from pydantic import BaseModel

from wfssbkg import StepError, __version__, exposures, files
from wfssbkg.config import RECOMMENDED_FILTERS
from wfssbkg.layout import Combination

if TYPE_CHECKING:
    from astropy.table import Table

# Bits of the DQ extension, with names of the JWST pipeline: it ORs them into the exposures it
# subtracts the background from, so that none of them may be DO_NOT_USE.
REFERENCE, FILLED, FEW, BAD = 1, 2, 4, 8
_DQ_DEFINITIONS = [
    (0, REFERENCE, "REFERENCE_PIXEL", "reference pixel: no sky"),
    (1, FILLED, "FLUX_ESTIMATED", "no exposure counted here: filled from the neighbours"),
    (2, FEW, "UNRELIABLE_SLOPE", "fewer exposures counted here than a background needs"),
    (3, BAD, "OTHER_BAD_PIXEL", "bad pixel in all exposures"),
]

FIGURES = ("XI", "XV")  # how the keywords begin that compareBackgrounds.py adds

_JUDGED = (exposures.ACCEPTED, exposures.REJECTED)  # what a background is made of, or could be

# The outer rows and columns of the detector see no light (JWST documentation, NIRISS detector).
REFERENCE_BORDER = 4


def science_pixels(shape: tuple[int, int]) -> np.ndarray:
    """
    The pixels that see the sky.

    Parameters
    ----------
    shape : (ny, nx)

    Returns
    -------
    (ny, nx) bool array
    """
    science = np.zeros(shape, dtype=bool)
    science[inner_pixels()] = True
    return science


def inner_pixels() -> tuple[slice, slice]:
    """The rows and columns that see the sky."""
    inner = slice(REFERENCE_BORDER, -REFERENCE_BORDER)
    return inner, inner


@dataclass
class Background:
    """A background, combined or finished.

    Attributes
    ----------
    sci, err : (ny, nx) float32 arrays
        Sky in units of its level, and its uncertainty. Combined: NaN where no exposure counts.
    number : (ny, nx) int16 array
        Exposures that count in each pixel.
    bad : (ny, nx) bool array
        Pixels that are bad in all exposures.
    inputs : `~astropy.table.Table`
        The exposure table as it was when the background was made.
    systematic : float
        Error that many pixels share, in units of the level: what sources and stripes left.
    """

    sci: np.ndarray
    err: np.ndarray
    number: np.ndarray
    bad: np.ndarray
    inputs: Table
    systematic: float = 0.0

    def images(self) -> list[fits.ImageHDU]:
        """The extensions SCI, ERR and NEXP."""
        return [
            fits.ImageHDU(np.asarray(self.sci, dtype=np.float32), name="SCI"),
            fits.ImageHDU(np.asarray(self.err, dtype=np.float32), name="ERR"),
            fits.ImageHDU(np.asarray(self.number, dtype=np.int16), name="NEXP"),
        ]


def write_background(path: Path, background: Background, *, settings: str) -> None:
    """
    Write a combined background.

    Parameters
    ----------
    path : `~pathlib.Path`
    background : `Background`
    settings : str
        Fingerprint of the settings it was made with.
    """
    primary = fits.PrimaryHDU()
    primary.header["QDATE"] = (background.inputs.meta["QDATE"], "UTC time of the query")
    primary.header["SETTINGS"] = (settings, "fingerprint of the mask and combine settings")
    primary.header["SYSERR"] = (background.systematic, "error that many pixels share")
    primary.header["WFSSBKG"] = (__version__, "version of WFSSBackgrounds")
    bad = fits.ImageHDU(background.bad.astype(np.uint8), name="BAD")
    hdus = [primary, *background.images(), bad, exposures.to_hdu(background.inputs)]
    files.write(path, hdus)


def read_background(path: Path) -> Background:
    """
    Read a combined background.

    Raises
    ------
    StepError
        If there is none, or it cannot be read: run makeBackgrounds.py first.
    """
    if not path.exists():
        raise StepError(f"{path} does not exist. Run makeBackgrounds.py first")
    try:
        with files.opened(path) as hdus:
            files.check_whole(path, hdus)
            sci, err, number, bad = _images(hdus, "BAD")
            systematic = float(hdus[0].header["SYSERR"])
        if not (np.isfinite(sci) & (err > 0)).any() or not np.isfinite(systematic):
            raise StepError("no pixel has a value and an uncertainty")
        return Background(sci, err, number, bad > 0, exposures.read(path), systematic)
    except StepError as error:
        raise StepError(
            f"{path} cannot be read ({error}). Remove it and run makeBackgrounds.py again"
        ) from None


def _images(hdus: fits.HDUList, flags: str) -> list[np.ndarray]:
    """SCI, ERR, NEXP and the flags of a background, in native byte order."""
    images = [hdus[name].data for name in ("SCI", "ERR", "NEXP", flags)]
    if images[0].ndim != 2 or len({image.shape for image in images}) > 1:
        raise StepError(f"SCI, ERR, NEXP and {flags} are not images of one size")
    return [image.astype(image.dtype.newbyteorder("=")) for image in images]


def is_current(path: Path, *, settings: str, sources: list[Path]) -> bool:
    """
    Whether a product is there, made with these settings, and no older than what it is made of.

    Parameters
    ----------
    path : `~pathlib.Path`
    settings : str
        Fingerprint of the settings.
    sources : list of `~pathlib.Path`
    """
    if files.made_with(path) != settings:
        return False
    try:
        made = path.stat().st_mtime
        return all(made >= source.stat().st_mtime for source in sources)
    except OSError:
        return False


def outdated(path: Path, table: Table) -> str:
    """
    Why a combined background is out of date, in words.

    Parameters
    ----------
    path : `~pathlib.Path`
    table : `~astropy.table.Table`
        The exposure table as it is now.

    Returns
    -------
    str
        Empty if the exposures are those it was made of, or there is no background yet.
    """
    try:
        made_of = exposures.read(path)
    except StepError:  # makeBackgrounds.py will tell
        return ""
    now, then = (
        set(rows["productFilename"][np.isin(rows["status"], _JUDGED)]) for rows in (table, made_of)
    )
    if now == then:
        return ""
    return (
        f"{path} is out of date: {len(now - then)} new exposures since, {len(then - now)} are no "
        "longer used. Run makeMask.py, makeBackgrounds.py and finalizeBackgrounds.py"
    )


def doubtful(combination: Combination, at_hand: int) -> str:
    """
    Why the background of an unusual filter needs a second look, in words.

    Parameters
    ----------
    combination : `~wfssbkg.layout.Combination`
    at_hand : int
        Number of exposures that the background is, or is to be, made of.

    Returns
    -------
    str
        Empty for a recommended filter.
    """
    if combination.recommended:
        return ""
    return (
        f"WARNING: {combination.filter} is not one of {', '.join(RECOMMENDED_FILTERS)}. "
        "Its background has strong features that\n"
        "this recipe cannot reproduce, the medium bands most of all, and the archive has much\n"
        f"less data of it (exposures at hand: {at_hand}): check the result."
    )


def finished(smooth: np.ndarray, err: np.ndarray, background: Background) -> Background:
    """
    Scale a denoised, filled background to a median of 1 and blank its reference pixels.

    Parameters
    ----------
    smooth, err : (ny, nx) float arrays
    background : `Background`
        The combined one; the median is taken over the pixels in which it has exposures.

    Returns
    -------
    `Background`
    """
    science = science_pixels(smooth.shape)
    scale = np.median(smooth[science & (background.number > 0)])
    return Background(
        sci=np.where(science, smooth / scale, 0).astype(np.float32),
        err=np.where(science, err / scale, 0).astype(np.float32),
        number=background.number,
        bad=background.bad,
        inputs=background.inputs,
        systematic=background.systematic,
    )


def write_finished(
    path: Path,
    background: Background,
    header: fits.Header,
    *,
    fewest: int,
    provenance: fits.BinTableHDU,
) -> None:
    """
    Write a finished background as a BKG reference file.

    There is no DATE keyword on purpose: grizli replaces a file whose DATE differs from that of
    the file in CRDS.

    Parameters
    ----------
    path : `~pathlib.Path`
    background : `Background`
        From `finished`.
    header : `~astropy.io.fits.Header`
        Primary header, from `reference_header`.
    fewest : int
        A pixel in which fewer exposures count gets a flag.
    provenance : `~astropy.io.fits.BinTableHDU`
        All settings, from `wfssbkg.provenance.to_hdu`.
    """
    primary = fits.PrimaryHDU(header=header)
    primary.header["FILENAME"] = path.name
    science = science_pixels(background.sci.shape)
    dq = np.where(science, np.uint32(0), np.uint32(REFERENCE))
    for flag, where in (
        (FILLED, background.number == 0),
        (FEW, (background.number > 0) & (background.number < fewest)),
        (BAD, background.bad),
    ):
        dq[science & where] |= np.uint32(flag)
    layout = [("BIT", "i4"), ("VALUE", "u4"), ("NAME", "S40"), ("DESCRIPTION", "S80")]
    definitions = np.array(_DQ_DEFINITIONS, dtype=layout)
    hdus = [
        primary,
        *background.images(),
        fits.ImageHDU(dq, name="DQ"),
        fits.BinTableHDU(definitions, name="DQ_DEF"),
        exposures.to_hdu(background.inputs),
        provenance,
    ]
    files.write(path, hdus, checksum=True)


def read_finished(path: Path) -> tuple[Background, np.ndarray]:
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
    if not path.exists():
        raise StepError(f"{path} does not exist. Run finalizeBackgrounds.py first")
    try:
        with files.opened(path) as hdus:
            files.check_whole(path, hdus)
            sci, err, number, dq = _images(hdus, "DQ")
        made = Background(sci, err, number, dq & BAD > 0, exposures.read(path))
        return made, dq & FILLED > 0
    except (StepError, KeyError) as error:
        raise StepError(
            f"{path} cannot be read ({error}). Remove it and run finalizeBackgrounds.py again"
        ) from None


def note_figures(path: Path, figures: dict[str, tuple[float, str]]) -> None:
    """
    Note figures of quality in the primary header of a finished file; all else stays as it is.

    Parameters
    ----------
    path : `~pathlib.Path`
    figures : dict
        Keyword to value and comment. Those of an earlier comparison are replaced.

    Raises
    ------
    StepError
        If there is no such file, or it cannot be read.
    """
    with files.opened(path, do_not_scale_image_data=True) as hdus:
        files.check_whole(path, hdus)
        header = hdus[0].header
        for keyword in [key for key in header if key.startswith(FIGURES)]:
            del header[keyword]
        for keyword, (value, comment) in figures.items():
            header.set(keyword, value, comment, before="HISTORY")
        files.write(path, hdus, checksum=True)


def reference_header(
    combination: Combination,
    *,
    exposure: fits.Header,
    inputs: Table,
    author: str,
    history: list[str],
    flat_is_out: bool,
) -> fits.Header:
    """
    The primary header of a reference file.

    Parameters
    ----------
    combination : `~wfssbkg.layout.Combination`
    exposure : `~astropy.io.fits.Header`
        Primary header of one of the exposures.
    inputs : `~astropy.table.Table`
        The exposure table.
    author : str
    history : list of str
        Lines of HISTORY.
    flat_is_out : bool
        Whether the flat field is divided out.

    Returns
    -------
    `~astropy.io.fits.Header`
    """
    header = fits.Header()
    # For direct images as well: the pipeline's one model of a background with flags of its own.
    header["DATAMODL"] = ("WfssBkgModel", "data model of the JWST pipeline")
    for key in _INSTRUMENT_KEYS:
        if key in exposure:
            header[key] = (exposure[key], exposure.comments[key])
    first, last = _dates(inputs)
    header["REFTYPE"] = ("BKG", "reference file type")
    header["PEDIGREE"] = (f"INFLIGHT {first} {last}", "origin of the data")
    header["USEAFTER"] = ("2022-01-01T00:00:00", "valid from the start of JWST's operations")
    header["AUTHOR"] = (author, "author of the reference file")
    flat = "divided out" if flat_is_out else "in, as in rate exposures"
    kind = "direct image" if combination.direct else "WFSS"
    header["DESCRIP"] = f"NIRISS {kind} background {combination}, flat field {flat}"
    header["FIXFLAT"] = (flat_is_out, "whether the flat field is divided out")
    header["QDATE"] = (inputs.meta["QDATE"], "UTC time of the archive query")
    header["NEXP"] = (len(_accepted(inputs)), "exposures combined")
    header["WFSSBKG"] = (__version__, "version of WFSSBackgrounds")
    for line in history:
        for part in textwrap.wrap(line.encode("ascii", "replace").decode(), 72):
            header.add_history(part)
    return header


def history(inputs: Table, used: dict[str, str], sections: dict[str, BaseModel]) -> list[str]:
    """
    What made a background, in words: inputs, versions, reference files and settings.

    Parameters
    ----------
    inputs : `~astropy.table.Table`
        The exposure table.
    used : dict
        R_FLAT and CRDS_CTX, as used.
    sections : dict
        Name to section of the config.

    Returns
    -------
    list of str
    """
    accepted = _accepted(inputs)
    first, last = _dates(inputs)
    return [
        f"Made by WFSSBackgrounds {__version__} on {datetime.now(UTC):%Y-%m-%dT%H:%M:%S} UTC",
        f"of {len(accepted)} exposures of {first} to {last},",
        f"programmes {', '.join(sorted(set(accepted['program'])))};",
        f"archive query of {inputs.meta['QDATE']} UTC; the table EXPOSURES lists them.",
        f"CRDS context {used['CRDS_CTX']}, flat field {used['R_FLAT']}",
        f"With Python {python_version()}, "
        + ", ".join(f"{name} {version(name)}" for name in PACKAGES),
        "Settings:",
        *(
            f"{name}.{key} = {value}"
            for name, section in sections.items()
            for key, value in section.model_dump().items()
        ),
    ]


_INSTRUMENT_KEYS = (
    "TELESCOP", "INSTRUME", "DETECTOR", "EXP_TYPE", "FILTER", "PUPIL", "SUBARRAY",
    "SUBSTRT1", "SUBSTRT2", "SUBSIZE1", "SUBSIZE2", "FASTAXIS", "SLOWAXIS",
)  # fmt: skip
# Those that have a part in the numbers.
PACKAGES = (
    "jwst", "stdatamodels", "crds", "astropy", "numpy", "scipy", "numba", "bottleneck", "sep",
    "scikit-image", "pywavelets", "maskfill",
)  # fmt: skip


def _accepted(inputs: Table) -> Table:
    return inputs[inputs["status"] == exposures.ACCEPTED]


def _dates(inputs: Table) -> tuple[str, str]:
    """Days of the first and the last accepted exposure, e.g. 2022-07-04."""
    mjd = np.asarray(_accepted(inputs)["mjd"], dtype=float)
    mjd = mjd[np.isfinite(mjd)]
    if not len(mjd):
        return "unknown", "unknown"
    from astropy.time import Time

    days = Time([mjd.min(), mjd.max()], format="mjd").strftime("%Y-%m-%d")
    return str(days[0]), str(days[1])
