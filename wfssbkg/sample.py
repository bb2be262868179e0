"""An exposure on its way into the background: its level, its cells, what counts of it."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from astropy.io import fits

from wfssbkg import cells, combine, fields, masked, stripes, traces
from wfssbkg.config import Combine
from wfssbkg.layout import Folder


@dataclass(eq=False)
class Exposure:
    """A masked exposure and what is known of it.

    Attributes
    ----------
    name : str
        File name of the rate file.
    masked, cells, refined : `~pathlib.Path`
        The files of `wfssbkg.masked`.
    along_x : bool
        Whether the grism disperses along x.
    level, noise : float
        Of the sky, and of a typical pixel, DN/s.
    pointing : `~astropy.io.fits.Header`
        World coordinates.
    saturated : int
        Length of the longest trace that was saturated from the first group on, px.
    """

    name: str
    masked: Path
    cells: Path
    refined: Path
    along_x: bool
    level: float = np.nan
    noise: float = np.nan
    pointing: fits.Header = field(default_factory=fits.Header)
    saturated: int = 0

    @classmethod
    def of(cls, folder: Folder, name: str) -> Exposure:
        """The exposure of a rate file."""
        files = folder.masked(name), folder.cells(name), folder.refined(name)
        return cls(name, *files, along_x=folder.combination.along_x)

    def read(self, rows: slice, common: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
        """
        Some rows of the exposure.

        Parameters
        ----------
        rows : slice
            Of the frame; of whole cells.
        common : (4, columns) array, optional
            What the stripes of all exposures share, relative to their levels; None before a
            refinement.

        Returns
        -------
        value, weight : (rows, nx) float32 arrays
            DN/s, and 1/noise^2: 0 where a pixel does not count, NaN where it is bad.
        """
        sci, err, bits = masked.read(self.masked, rows)
        bad = bits & masked.BAD != 0
        if common is None:
            return sci, _weight(err, bad, bits != 0)
        size = 1 if self.along_x else cells.SIZE
        part = slice(rows.start // size, rows.stop // size)
        source, light, noise = masked.read_refined(self.refined, part)
        spurious = light + self._stripes(noise, common)[part]
        source, spurious = (cells.expand(x, along_x=self.along_x) for x in (source, spurious))
        return sci - spurious, _weight(err, bad, source)

    def read_cells(self, rows: slice, common: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
        """As `read`, of some rows of cells."""
        value, weight = masked.read_cells(self.cells, rows)
        source, light, noise = masked.read_refined(self.refined, rows)
        if common is not None:
            value = value - light - self._stripes(noise, common)[rows]
        return value, np.where(source, 0, weight)

    def _stripes(self, noise: np.ndarray, common: np.ndarray) -> np.ndarray:
        """The stripes of the exposure alone, in cells, DN/s."""
        return stripes.spread(noise - np.float32(self.level) * common, self.cells_shape[0])

    @property
    def shape(self) -> tuple[int, int]:
        """Of the frame."""
        return masked.shape(self.masked)

    @property
    def cells_shape(self) -> tuple[int, int]:
        """Rows and columns of cells."""
        return cells.shape(self.shape, along_x=self.along_x)


def measure(exposure: Exposure, settings: Combine) -> tuple[float, float, fits.Header, int]:
    """
    Measure an exposure; write its cells, if there is a refinement to come.

    Returns
    -------
    level, noise : float
        The sky's level, from the pixels that makeMask.py left unmasked, and the noise of a
        typical pixel, DN/s.
    pointing : `~astropy.io.fits.Header`
    saturated : int
        As for `Exposure`.

    Raises
    ------
    StepError
        If there is no level, or a file cannot be read.
    """
    sci, err, bits = masked.read(exposure.masked)
    pointing = fields.pointing(masked.read_header(exposure.masked, "SCI"))
    saturated = masked.read_header(exposure.masked).get("SATLEN", 0)
    border, sigma = settings.level_border, settings.level_sigma
    if not settings.refinements:
        level = combine.sky_level(sci, bits != 0, border=(border, border), sigma=sigma)
        return level, np.nan, pointing, saturated
    along_x = exposure.along_x
    value, weight = cells.average(sci, err, bits & masked.BAD != 0, along_x=along_x)
    source = cells.touched(bits & masked.SOURCE != 0, along_x=along_x)
    borders = cells.shape((border, border), along_x=along_x)
    level = combine.sky_level(value, source | (weight == 0), border=borders, sigma=sigma)
    masked.write_cells(exposure.cells, value, weight)
    nothing = np.zeros(source.shape, dtype=np.float32)
    masked.write_refined(exposure.refined, source, nothing, nothing[: stripes.AMPLIFIERS])
    return level, traces.pixel_noise(weight), pointing, saturated


def _weight(err: np.ndarray, bad: np.ndarray, source: np.ndarray) -> np.ndarray:
    """1/err^2; 0 where there is a source, NaN where a pixel is bad."""
    weight = np.where(source, np.float32(0), 1 / np.square(err))
    weight[bad] = np.nan
    return weight
