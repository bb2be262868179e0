"""The masked exposure: what makeMask.py hands to makeBackgrounds.py."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from astropy.io import fits

from wfssbkg import StepError, __version__, stripes
from wfssbkg.layout import replacing

# Bits of the MASK extension; a pixel counts in the background where none is set.
BAD, SOURCE = 1, 2
_BITS = {BAD: "BAD: bad pixel or reference pixel", SOURCE: "SOURCE: light of a source"}


def write(
    path: Path,
    *,
    sci: np.ndarray,
    err: np.ndarray,
    mask: np.ndarray,
    header: fits.Header,
    settings: str,
) -> None:
    """
    Write a masked exposure.

    Parameters
    ----------
    path : `~pathlib.Path`
    sci, err : (ny, nx) float arrays
        Flat-fielded rate and the noise of its sky, DN/s.
    mask : (ny, nx) uint8 array
        Bits BAD and SOURCE.
    header : `~astropy.io.fits.Header`
        Primary header of the exposure.
    settings : str
        Fingerprint of the settings it was made with.
    """
    primary = fits.PrimaryHDU(header=header.copy(strip=True))
    for key in ("CHECKSUM", "DATASUM", "NEXTEND"):
        primary.header.remove(key, ignore_missing=True)
    primary.header["FILENAME"] = path.name
    primary.header["SETTINGS"] = (settings, "fingerprint of the mask settings")
    primary.header["WFSSBKG"] = (__version__, "version of WFSSBackgrounds")
    hdus = [
        primary,
        fits.ImageHDU(np.asarray(sci, dtype=np.float32), name="SCI"),
        fits.ImageHDU(np.asarray(err, dtype=np.float32), name="ERR"),
        fits.ImageHDU(np.asarray(mask, dtype=np.uint8), name="MASK"),
    ]
    hdus[1].header["BUNIT"] = hdus[2].header["BUNIT"] = "DN/s"
    for bit, meaning in _BITS.items():
        hdus[3].header[f"MASKBIT{bit.bit_length() - 1}"] = (bit, meaning)
    with replacing(path) as temporary:
        fits.HDUList(hdus).writeto(temporary)


def is_current(path: Path, *, rate: Path, settings: str) -> bool:
    """
    Whether a masked exposure is there, made with these settings, and no older than its rate file.

    Parameters
    ----------
    path, rate : `~pathlib.Path`
    settings : str
        Fingerprint of the mask settings.
    """
    try:
        made_with = fits.getval(path, "SETTINGS")
        return made_with == settings and path.stat().st_mtime >= rate.stat().st_mtime
    except (OSError, KeyError):
        return False


def read_header(path: Path) -> fits.Header:
    """The primary header of a masked exposure.

    Raises
    ------
    StepError
        If the file cannot be read.
    """
    try:
        return fits.getheader(path)
    except OSError as error:
        raise _unreadable(path, error) from None


def write_refined(path: Path, mask: np.ndarray, noise: np.ndarray) -> None:
    """
    Write the refined mask of an exposure.

    Parameters
    ----------
    path : `~pathlib.Path`
    mask : (ny, nx) uint8 array
        Bits BAD and SOURCE.
    noise : (4, nx) float array
        1/f noise of each column of each amplifier, DN/s.
    """
    hdus = [
        fits.PrimaryHDU(),
        fits.ImageHDU(np.asarray(mask, dtype=np.uint8), name="MASK"),
        fits.ImageHDU(np.asarray(noise, dtype=np.float32), name="STRIPES"),
    ]
    hdus[2].header["BUNIT"] = "DN/s"
    with replacing(path) as temporary:
        fits.HDUList(hdus).writeto(temporary)


def read_refined(path: Path, rows: slice = slice(None)) -> tuple[np.ndarray, np.ndarray]:
    """
    Read some rows of a refined mask, and the stripes of these rows.

    Returns
    -------
    mask : (rows, nx) uint8 array
    stripes : (rows, nx) float32 array
        DN/s

    Raises
    ------
    StepError
        If the file cannot be read.
    """
    try:
        with fits.open(path, memmap=False, lazy_load_hdus=True) as hdus:
            ny = hdus["MASK"].shape[0]
            mask, noise = hdus["MASK"].section[rows], hdus["STRIPES"].data.astype(np.float32)
    except (OSError, KeyError, ValueError, TypeError) as error:
        raise StepError(f"{path} cannot be read ({error}). Run makeBackgrounds.py again") from None
    return mask, stripes.spread(noise, ny)[rows]


def shape(path: Path) -> tuple[int, int]:
    """The size (ny, nx) of a masked exposure.

    Raises
    ------
    StepError
        If the file cannot be read.
    """
    try:
        header = fits.getheader(path, "SCI")
        return header["NAXIS2"], header["NAXIS1"]
    except (OSError, KeyError) as error:
        raise _unreadable(path, error) from None


def read(path: Path, rows: slice = slice(None)) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """
    Read some rows of a masked exposure; only they are read from disk.

    Parameters
    ----------
    path : `~pathlib.Path`
    rows : slice

    Returns
    -------
    sci, err : (rows, nx) float32 arrays
        DN/s
    mask : (rows, nx) uint8 array

    Raises
    ------
    StepError
        If the file cannot be read.
    """
    try:
        with fits.open(path, memmap=False, lazy_load_hdus=True) as hdus:
            parts = [hdus[name].section[rows] for name in ("SCI", "ERR", "MASK")]
    except (OSError, KeyError, ValueError, TypeError) as error:
        raise _unreadable(path, error) from None
    sci, err, mask = parts
    return sci.astype(np.float32, copy=False), err.astype(np.float32, copy=False), mask


def _unreadable(path: Path, error: Exception) -> StepError:
    return StepError(f"{path} cannot be read ({error}). Remove it and run makeMask.py again")
