"""The masked exposure: what makeMask.py hands to makeBackgrounds.py."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import numba
import numpy as np
from astropy.io import fits

from wfssbkg import StepError, __version__, files
from wfssbkg.fields import Pointing

# Bits of the MASK extension; a pixel counts in the background where none is set.
BAD, SOURCE = 1, 2
_LARGEST = 2**15 - 1  # the largest 16-bit integer; one below its negative is BLANK
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
    pointing : dict
        Its world coordinates.
    saturated : int
        From `wfssbkg.mask.saturated_length`.
    fraction : float
        Masked part of the science pixels.
    settings : str
        Fingerprint of the settings it was made with.
    """
    primary = _primary(path, header, settings)
    primary.header["SATLEN"] = (saturated, "px of trace saturated from the first group on")
    primary.header["MASKFRAC"] = (fraction, "masked part of the science pixels")
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
    except OSError:
        return False
    return not is_older and files.made_with(path) == settings


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
    """
    Write the cells of an exposure, from `wfssbkg.cells.average`, in half the space of float32.

    The values are kept to 1/32 of the typical noise, to 1024 times it; the noise to 1/4096 of what
    is typical. A cell 16 times as noisy as that, which counts for nothing, becomes NaN.
    """
    some = np.s_[::3, ::3]
    known = np.isfinite(noise[some])
    level, typical = 0.0, 1.0
    if known.any():
        level, typical = (float(np.median(image[some][known])) for image in (value, noise))
    too_noisy = np.where(noise < 16 * typical, noise, np.nan)
    images = [
        _compact(value, level, typical / 32, "VALUE"),
        _compact(too_noisy, 8 * typical, typical / 4096, "NOISE"),
    ]
    _write_images(path, images)


def read_cells(path: Path, rows: slice = slice(None)) -> list[np.ndarray]:
    """Read some rows of the cells of an exposure: value and noise; errors as for `read`."""
    return _read(path, {"VALUE": rows, "NOISE": rows}, "makeBackgrounds.py")


def write_refined(
    path: Path, source: np.ndarray, light: np.ndarray, stripes: np.ndarray, noise: float
) -> None:
    """
    Write what the refinement found in an exposure.

    Parameters
    ----------
    path : `~pathlib.Path`
    source : bool array
        Cells with a source.
    light : float array
        Light of fainter sources in each cell, DN/s. It is not kept where `source` is set.
    stripes : (4, columns) float array
        1/f noise of each column of cells of each amplifier, DN/s.
    noise : float
        Of a typical pixel, DN/s: the light is kept to 1/4096 of it, to 8 times it.
    """
    # The scale is the same each time, for a reader who remembers the header of the former file.
    step = noise / 4096 if np.isfinite(noise) else 1.0
    light = _compact(np.where(source, np.nan, light), 0.0, step, "LIGHT")
    _write_images(path, [light, fits.ImageHDU(stripes, name="STRIPES")])


def read_refined(path: Path, rows: slice = slice(None)) -> list[np.ndarray]:
    """Read some rows of cells: source (bool) and light; and all stripes; errors as for `read`."""
    light, stripes = _read(path, {"LIGHT": rows, "STRIPES": slice(None)}, "makeBackgrounds.py")
    source = np.isnan(light)
    light[source] = 0
    return [source, light, stripes]


def _compact(image: np.ndarray, zero: float, step: float, name: str) -> fits.ImageHDU:
    """An image as 16-bit integers, with the scale in the header; NaN becomes BLANK."""
    numbers = np.clip(np.round((image - zero) / step), -_LARGEST, _LARGEST)
    numbers[np.isnan(image)] = -_LARGEST - 1
    hdu = fits.ImageHDU(numbers.astype(np.int16), name=name)
    hdu.header.update({"BSCALE": step, "BZERO": zero, "BLANK": -_LARGEST - 1})
    return hdu


@numba.njit(cache=True)
def _expanded(numbers: np.ndarray, zero: float, step: float, blank: int) -> np.ndarray:
    """The inverse of `_compact`."""
    image = np.empty(numbers.shape, dtype=np.float32)
    for k in range(numbers.size):
        known = numbers[k] != blank
        image[k] = zero + step * numbers[k] if known else np.nan
    return image


def _write_images(path: Path, images: list[fits.ImageHDU]) -> None:
    files.write(path, [fits.PrimaryHDU(), *images])


def _read(path: Path, wanted: dict[str, slice], script: str) -> list[np.ndarray]:
    """Some rows of some extensions, in native byte order."""
    try:
        places = _places(path, path.stat().st_mtime_ns)
        return [_rows(path, places[name], rows) for name, rows in wanted.items()]
    except (OSError, KeyError, ValueError, TypeError, StepError) as error:
        raise _unreadable(path, error, script) from None


class _Place(NamedTuple):
    """Where the pixels of an extension are in its file, and how they are kept there."""

    offset: int  # byte
    dtype: np.dtype
    shape: tuple[int, int]
    scale: tuple[float, float, int] | None  # zero, step and blank, from `_compact`


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
                _scale(hdu.header),
            )
            for hdu in hdus[1:]
        }


def _scale(header: fits.Header) -> tuple[float, float, int] | None:
    if "BSCALE" not in header:
        return None
    return float(header["BZERO"]), float(header["BSCALE"]), int(header["BLANK"])


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
    if place.scale:
        part = _expanded(part, *place.scale)
    return part.reshape(last - first, place.shape[1])


def _unreadable(path: Path, error: Exception, script: str) -> StepError:
    return StepError(f"{path} cannot be read ({error}). Remove it and run {script} again")
