"""The masked exposure: what makeMask.py hands to makeBackgrounds.py."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
from astropy.io import fits

from wfssbkg import StepError, __version__, files

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
    pointing: fits.Header,
    saturated: int,
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
    pointing : `~astropy.io.fits.Header`
        Its world coordinates.
    saturated : int
        From `wfssbkg.mask.saturated_length`.
    settings : str
        Fingerprint of the settings it was made with.
    """
    primary = _primary(path, header, settings)
    primary.header["SATLEN"] = (saturated, "px of trace saturated from the first group on")
    hdus = [
        primary,
        fits.ImageHDU(np.asarray(sci, dtype=np.float32), name="SCI"),
        fits.ImageHDU(np.asarray(err, dtype=np.float32), name="ERR"),
        fits.ImageHDU(np.asarray(mask, dtype=np.uint8), name="MASK"),
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
        newer = path.stat().st_mtime >= rate.stat().st_mtime
    except OSError:
        return False
    return newer and files.made_with(path) == settings


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
            missing = [name for name in ("SCI", "ERR", "MASK") if name not in hdus]
            if missing:
                raise StepError(f"no extension {', '.join(missing)}")
            return hdus[0].header, hdus["SCI"].header
    except StepError as error:
        raise _unreadable(path, error, "makeMask.py") from None


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
    try:
        return _places(path, path.stat().st_mtime_ns)["SCI"].shape
    except (OSError, KeyError, TypeError, ValueError, StepError) as error:
        raise _unreadable(path, error, "makeMask.py") from None


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
    return _read(path, dict.fromkeys(("SCI", "ERR", "MASK"), rows), "makeMask.py")


def write_cells(path: Path, value: np.ndarray, noise: np.ndarray) -> None:
    """Write the cells of an exposure, from `wfssbkg.cells.average`."""
    _write_images(path, {"VALUE": value, "NOISE": noise})


def read_cells(path: Path, rows: slice = slice(None)) -> list[np.ndarray]:
    """Read some rows of the cells of an exposure: value and noise; errors as for `read`."""
    return _read(path, {"VALUE": rows, "NOISE": rows}, "makeBackgrounds.py")


def write_refined(path: Path, source: np.ndarray, light: np.ndarray, stripes: np.ndarray) -> None:
    """
    Write what the refinement found in an exposure.

    Parameters
    ----------
    path : `~pathlib.Path`
    source : bool array
        Cells with a source.
    light : float array
        Light of fainter sources in each cell, DN/s.
    stripes : (4, columns) float array
        1/f noise of each column of cells of each amplifier, DN/s.
    """
    _write_images(path, {"SOURCE": source.astype(np.uint8), "LIGHT": light, "STRIPES": stripes})


def read_refined(path: Path, rows: slice = slice(None)) -> list[np.ndarray]:
    """Read some rows of cells: source (bool) and light; and all stripes; errors as for `read`."""
    wanted = {"SOURCE": rows, "LIGHT": rows, "STRIPES": slice(None)}
    source, light, stripes = _read(path, wanted, "makeBackgrounds.py")
    return [source > 0, light, stripes]


def _write_images(path: Path, images: dict[str, np.ndarray]) -> None:
    hdus = [fits.PrimaryHDU(), *(fits.ImageHDU(image, name=name) for name, image in images.items())]
    files.write(path, hdus)


def _read(path: Path, wanted: dict[str, slice], script: str) -> list[np.ndarray]:
    """Some rows of some extensions, in native byte order."""
    try:
        places = _places(path, path.stat().st_mtime_ns)
        return [_rows(path, places[name], rows) for name, rows in wanted.items()]
    except (OSError, KeyError, ValueError, TypeError, StepError) as error:
        raise _unreadable(path, error, script) from None


class _Place(NamedTuple):
    """Where the pixels of an extension are in its file: byte, type and shape."""

    offset: int
    dtype: np.dtype
    shape: tuple[int, int]


@lru_cache(maxsize=16384)
def _places(path: Path, changed: int) -> dict[str, _Place]:
    """Where the images of a file are; `changed` is when, so that a new file is looked at again.

    astropy takes a ms for each header, which is most of the time that a few rows of a file take.
    """
    with files.opened(path) as hdus:
        return {
            hdu.name: _Place(
                hdu.fileinfo()["datLoc"],
                np.dtype(fits.hdu.image.BITPIX2DTYPE[hdu.header["BITPIX"]]).newbyteorder(">"),
                hdu.shape,
            )
            for hdu in hdus[1:]
        }


def _rows(path: Path, place: _Place, rows: slice) -> np.ndarray:
    """Some rows of an image, in native byte order."""
    first, last, _ = rows.indices(place.shape[0])
    count = (last - first) * place.shape[1]
    start = place.offset + first * place.shape[1] * place.dtype.itemsize
    part = np.fromfile(path, dtype=place.dtype, count=count, offset=start)
    if part.size < count:
        raise ValueError("it is cut short")
    if not part.dtype.isnative:
        part = part.byteswap(inplace=True).view(part.dtype.newbyteorder())
    return part.reshape(last - first, place.shape[1])


def _unreadable(path: Path, error: Exception, script: str) -> StepError:
    return StepError(f"{path} cannot be read ({error}). Remove it and run {script} again")
