"""The combined background: what makeBackgrounds.py hands to finalizeBackgrounds.py."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import numpy as np
from astropy.io import fits
from astropy.table import Table

from wfssbkg import __version__
from wfssbkg.errors import StepError
from wfssbkg.files import exposure_table, fits_file


@dataclass
class Components:
    """Light that exposures of several fields share, more of it or less: scattered light.

    Attributes
    ----------
    maps : (k, rows, columns) float32 array
        In boxes of the whole frame; the largest value of each is 1.
    amplitudes : (k, n) float array
        In each of n exposures, in units of its level; never below 0.
    gains : (k,) float array
        The share of the residuals of other fields that each takes away (cross-validated).
    """

    maps: np.ndarray
    amplitudes: np.ndarray
    gains: np.ndarray

    @classmethod
    def none(cls) -> Self:
        """No components."""
        return cls(np.zeros((0, 1, 1), dtype=np.float32), np.zeros((0, 1)), np.zeros(0))

    @property
    def typical(self) -> np.ndarray:
        """The root mean square of the amplitudes of each, (k,)."""
        return np.sqrt(np.mean(np.square(self.amplitudes), axis=1))

    def hdus(self) -> list[fits.BinTableHDU]:
        """The extension COMPONENTS, if there are any."""
        if not len(self.maps):
            return []
        table = Table(
            {
                "name": [f"scattered light {number + 1}" for number in range(len(self.maps))],
                "gain": self.gains,
                "amplitudes": self.amplitudes,
                "map": self.maps,
            }
        )
        hdu = fits.BinTableHDU(table, name="COMPONENTS")
        comment = "amplitudes: of accepted exposures, in the order of EXPOSURES, in units of level"
        hdu.header["COMMENT"] = comment
        return [hdu]

    @classmethod
    def of(cls, hdus: fits.HDUList) -> Self:
        """From the extension COMPONENTS of an open file; none if it has none."""
        if "COMPONENTS" not in hdus:
            return cls.none()
        table, number = hdus["COMPONENTS"].data, len(hdus["COMPONENTS"].data)
        maps, amplitudes, gains = (
            np.array(table[name], dtype=float) for name in ("map", "amplitudes", "gain")
        )
        return cls(maps.astype(np.float32), amplitudes.reshape(number, -1), gains)


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
    pointings : (ny, nx) int16 array
        Distinct pointings of the exposures that count in each pixel; of a finished file, the most
        that any pixel has.
    inputs : `~astropy.table.Table`
        The exposure table as it was when the background was made.
    systematic : float
        Error that many pixels share, in units of the level: what sources left.
    dark : (float, float)
        What the subtraction of the dark had left in the exposures and was subtracted, and its
        error, DN/s; the error is infinite where nothing tells it.
    components : Components
        Light that is not in the background, and in some exposures.
    """

    sci: np.ndarray
    err: np.ndarray
    number: np.ndarray
    bad: np.ndarray
    pointings: np.ndarray
    inputs: Table
    systematic: float = 0.0
    dark: tuple[float, float] = (0.0, np.inf)
    components: Components = field(default_factory=Components.none)

    def images(self) -> list[fits.ImageHDU]:
        """The extensions SCI, ERR and NEXP."""
        return [
            fits.ImageHDU(np.asarray(self.sci, dtype=np.float32), name="SCI"),
            fits.ImageHDU(np.asarray(self.err, dtype=np.float32), name="ERR"),
            fits.ImageHDU(np.asarray(self.number, dtype=np.int16), name="NEXP"),
        ]

    def dark_cards(self) -> list[tuple[str, float, str]]:
        """What the header says of the dark residual: keywords, values, comments."""
        value, error = self.dark
        cards = [("DARKRES", value, "[DN/s] dark residual subtracted from exposures")]
        if np.isfinite(error):
            cards.append(("DARKERR", error, "[DN/s] uncertainty of the dark residual"))
        return cards


def write(path: Path, background: Background, *, settings: Mapping[str, Any]) -> None:
    """
    Write a combined background.

    Parameters
    ----------
    path : `~pathlib.Path`
    background : `Background`
    settings : mapping
        Those that it was made with, from `wfssbkg.files.up_to_date.bearing`.
    """
    primary = fits.PrimaryHDU()
    primary.header["QDATE"] = (background.inputs.meta["QDATE"], "UTC time of the query")
    primary.header["SYSERR"] = (background.systematic, "error that many pixels share")
    primary.header.extend(background.dark_cards())
    primary.header["WFSSBKG"] = (__version__, "version of WFSSBackgrounds")
    bad = fits.ImageHDU(background.bad.astype(np.uint8), name="BAD")
    pointings = fits.ImageHDU(background.pointings.astype(np.int16), name="POINTINGS")
    tables = exposure_table.to_hdu(background.inputs), fits_file.settings_hdu(settings)
    components = background.components.hdus()
    hdus = [primary, *background.images(), bad, pointings, *components, *tables]
    fits_file.write(path, hdus)


def read(path: Path) -> Background:
    """
    Read a combined background.

    Raises
    ------
    StepError
        If there is none, or it cannot be read: run makeBackgrounds.py first.
    """
    with fits_file.product(path, "makeBackgrounds.py") as hdus:
        sci, err, number, bad, pointings = images_of(hdus, "BAD", "POINTINGS")
        systematic = float(hdus[0].header["SYSERR"])
        if not (np.isfinite(sci) & (err > 0)).any() or not np.isfinite(systematic):
            raise StepError("no pixel has a value and an uncertainty")
        told = hdus[0].header
        dark = float(told.get("DARKRES", 0)), float(told.get("DARKERR", np.inf))
        images = sci, err, number, bad > 0, pointings
        inputs = exposure_table.read(path)
        return Background(*images, inputs, systematic, dark, Components.of(hdus))


def images_of(hdus: fits.HDUList, *others: str) -> list[np.ndarray]:
    """SCI, ERR, NEXP and other images of a background, in native byte order."""
    names = ("SCI", "ERR", "NEXP", *others)
    images = [hdus[name].data for name in names]
    if images[0].ndim != 2 or len({image.shape for image in images}) > 1:
        raise StepError(f"{', '.join(names)} are not images of one size")
    return [image.astype(image.dtype.newbyteorder("=")) for image in images]
