"""The masked exposure: what makeMask.py hands to makeBackgrounds.py."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from astropy.io import fits

from wfssbkg import StepError, __version__, cellfiles, cells, files
from wfssbkg.fields import Pointing

# Bits of the MASK extension; a pixel counts in the background where none is set.
BAD, SOURCE = 1, 2
EXTENSIONS = ("SCI", "ERR", "MASK", *cellfiles.OF_CELLS)
SCRIPT = "makeMask.py"
_BITS = {BAD: "BAD: bad pixel or reference pixel", SOURCE: "SOURCE: light of a source"}


def write(
    path: Path,
    *,
    sci: np.ndarray,
    err: np.ndarray,
    mask: np.ndarray,
    header: fits.Header,
    pointing: Pointing,
    saturated: int,
    fraction: float,
    settings: str,
    along_x: bool,
) -> None:
    """
    Write a masked exposure, with its cells: few scripts need all of its pixels.

    Parameters
    ----------
    path : `~pathlib.Path`
    sci, err : (ny, nx) float arrays
        Flat-fielded rate and the noise of its sky, DN/s.
    mask : (ny, nx) uint8 array
        Bits BAD and SOURCE.
    header : `~astropy.io.fits.Header`
        Primary header of the exposure.
    pointing : dict
        Its world coordinates.
    saturated : int
        From `wfssbkg.mask.saturated_length`.
    fraction : float
        Masked part of the science pixels.
    settings : str
        Fingerprint of the settings it was made with.
    along_x : bool
        Whether the grism disperses along x.
    """
    primary = _primary(path, header, settings)
    primary.header["SATLEN"] = (saturated, "px of trace saturated from the first group on")
    primary.header["MASKFRAC"] = (fraction, "masked part of the science pixels")
    hdus = [
        primary,
        fits.ImageHDU(np.asarray(sci, dtype=np.float32), name="SCI"),
        fits.ImageHDU(np.asarray(err, dtype=np.float32), name="ERR"),
        fits.ImageHDU(np.asarray(mask, dtype=np.uint8), name="MASK"),
        *cellfiles.of_cells(*cells.average(sci, err, mask & BAD > 0, along_x=along_x)),
    ]
    hdus[1].header.update(pointing)
    hdus[1].header["BUNIT"] = hdus[2].header["BUNIT"] = "DN/s"
    for bit, meaning in _BITS.items():
        hdus[3].header[f"MASKBIT{bit.bit_length() - 1}"] = (bit, meaning)
    files.write(path, hdus)


def write_wfss_mask(path: Path, sky: np.ndarray, *, header: fits.Header, settings: str) -> None:
    """
    Write a mask as the JWST pipeline's background step takes it for `wfss_mask`.

    Parameters
    ----------
    path : `~pathlib.Path`
    sky : (ny, nx) bool array
        The pixels that see nothing but the sky.
    header : `~astropy.io.fits.Header`
        Primary header of the exposure.
    settings : str
        Fingerprint of the settings it was made with.
    """
    primary = _primary(path, header, settings)
    primary.header["DATAMODL"] = ("ImageModel", "data model of the JWST pipeline")
    image = fits.ImageHDU(sky.astype(np.uint8), name="MASK")
    image.header["COMMENT"] = "1: sky; 0: bad pixel, reference pixel or light of a source"
    files.write(path, [primary, image])


def _primary(path: Path, header: fits.Header, settings: str) -> fits.PrimaryHDU:
    """The primary HDU of what is made of an exposure."""
    primary = fits.PrimaryHDU(header=header.copy(strip=True))
    for key in ("CHECKSUM", "DATASUM", "NEXTEND"):
        primary.header.remove(key, ignore_missing=True)
    primary.header["FILENAME"] = path.name
    primary.header["SETTINGS"] = (settings, "fingerprint of the mask settings")
    primary.header["WFSSBKG"] = (__version__, "version of WFSSBackgrounds")
    return primary


def is_written(path: Path, *images: np.ndarray) -> bool:
    """Whether SCI, ERR and MASK of a file are these, to the last bit."""
    return all(
        np.array_equal(one.view(np.uint8), other.view(np.uint8))
        for one, other in zip(read(path), images, strict=True)
    )


def is_current(path: Path, *, rate: Path, settings: str) -> bool:
    """
    Whether a masked exposure is there, made with these settings, and no older than its rate file.

    The rate file may be gone (query.keep_rates).

    Parameters
    ----------
    path, rate : `~pathlib.Path`
    settings : str
        Fingerprint of the mask settings.
    """
    try:
        is_older = rate.exists() and path.stat().st_mtime < rate.stat().st_mtime
        header, _ = read_headers(path)
    except (OSError, StepError):
        return False
    return not is_older and header.get("SETTINGS") == settings


def read_headers(path: Path) -> tuple[fits.Header, fits.Header]:
    """The headers of a masked exposure: the primary one, and that of SCI.

    Raises
    ------
    StepError
        If the file cannot be read.
    """
    try:
        with files.opened(path) as hdus:
            files.check_whole(path, hdus)
            missing = [name for name in EXTENSIONS if name not in hdus]
            if missing:
                raise StepError(f"no extension {', '.join(missing)}")
            return hdus[0].header, hdus["SCI"].header
    except StepError as error:
        raise files.unreadable(path, error, SCRIPT) from None


def flat_field_used(header: fits.Header) -> dict[str, str]:
    """
    The flat field of a masked exposure, and the CRDS context that chose it.

    Parameters
    ----------
    header : `~astropy.io.fits.Header`
        The primary one.

    Returns
    -------
    dict
        flat, crds_context: columns of the exposure table.
    """
    flat = str(header.get("R_FLAT", "")).removeprefix("crds://")
    return {"flat": flat, "crds_context": str(header.get("CRDS_CTX", ""))}


def shape(path: Path) -> tuple[int, int]:
    """The size (ny, nx) of a masked exposure.

    Raises
    ------
    StepError
        If the file cannot be read.
    """
    return files.shape(path, "SCI", SCRIPT)


def read(path: Path, rows: slice = slice(None)) -> list[np.ndarray]:
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
    return files.read_rows(path, dict.fromkeys(("SCI", "ERR", "MASK"), rows), SCRIPT)


def read_cells(path: Path, rows: slice = slice(None)) -> list[np.ndarray]:
    """
    Read some rows of the cells of a masked exposure.

    Parameters
    ----------
    path : `~pathlib.Path`
    rows : slice
        Of cells.

    Returns
    -------
    value, noise : float32 arrays
        DN/s; NaN where no pixel counts.

    Raises
    ------
    StepError
        If the file cannot be read.
    """
    return cellfiles.read(path, dict.fromkeys(cellfiles.OF_CELLS, rows), SCRIPT)


def read_sources(path: Path, rows: slice, *, along_x: bool) -> np.ndarray:
    """Cells with a pixel of a source, in some rows of cells; errors as above."""
    height, _ = cells.pixels(along_x=along_x)
    first, last, _ = rows.indices(shape(path)[0] // height)
    wanted = {"MASK": slice(first * height, last * height)}
    (bits,) = files.read_rows(path, wanted, SCRIPT)
    return cells.any_of(bits & np.uint8(SOURCE) > 0, along_x=along_x)
