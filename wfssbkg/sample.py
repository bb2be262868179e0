"""An exposure on its way into the background: its level, its cells, what counts of it."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numba
import numpy as np
from astropy.io import fits

from wfssbkg import cellfiles, cells, combine, fields, masked, stripes, traces
from wfssbkg.config import Combine
from wfssbkg.layout import Folder


@dataclass(eq=False)
class Exposure:
    """A masked exposure and what is known of it.

    Attributes
    ----------
    name : str
        File name of the rate file.
    masked, refined, findings : `~pathlib.Path`
        The file of `wfssbkg.masked`, and those of `wfssbkg.cellfiles`. A refinement reads `refined`
        and writes `findings`, so that it can be done again from the start if its worker is killed.
    along_x : bool
        Whether the grism disperses along x.
    direct : bool
        Whether it is a direct image: not dispersed at all.
    level, noise : float
        Of the sky, and of a typical pixel, DN/s.
    pointing : dict
        World coordinates.
    saturated : int
        Length of the longest trace that was saturated from the first group on, px.
    """

    name: str
    masked: Path
    refined: Path
    findings: Path
    along_x: bool
    direct: bool = False
    level: float = np.nan
    noise: float = np.nan
    pointing: fields.Pointing = field(default_factory=dict)
    saturated: int = 0

    @classmethod
    def of(cls, folder: Folder, name: str) -> Exposure:
        """The exposure of a rate file."""
        files = (folder.masked, folder.refined, folder.findings)
        kind = folder.combination
        return cls(name, *(file(name) for file in files), along_x=kind.along_x, direct=kind.direct)

    def read(
        self, rows: slice, common: np.ndarray | None
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """
        Some rows of the exposure, in units of its level.

        Parameters
        ----------
        rows : slice
            Of the frame; of whole cells.
        common : (4, columns) array, optional
            What the stripes of all exposures share, relative to their levels; None before a
            refinement.

        Returns
        -------
        value, noise : (rows, nx) float32 arrays
            NaN where a pixel does not count.
        bad : (rows, nx) bool array
        """
        sci, err, bits = masked.read(self.masked, rows)
        bad = bits & np.uint8(masked.BAD) > 0
        size = height, _ = cells.pixels(along_x=self.along_x)
        if common is None:
            light, own = _of_sources(bits & np.uint8(masked.SOURCE) > 0)
            return *_normalised(sci, err, light, own, (1, 1), np.float32(self.level), bad), bad
        of_cells = slice(rows.start // height, rows.stop // height)
        light, own = self.found(of_cells, common)
        return *_normalised(sci, err, light, own, size, np.float32(self.level), bad), bad

    def read_cells(
        self, rows: slice, common: np.ndarray | None
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """As `read`, of some rows of cells."""
        value, noise = masked.read_cells(self.masked, rows)
        bad = np.isnan(noise)
        light, own = self.found(rows, common)
        return *_normalised(value, noise, light, own, (1, 1), np.float32(self.level), bad), bad

    def found(self, rows: slice, common: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
        """
        What the last refinement found in the exposure, in some rows of cells.

        Parameters
        ----------
        rows, common
            As for `read`, but of cells. Before a refinement there are the sources of makeMask.py.

        Returns
        -------
        light, own : float32 arrays
            Light of faint sources, NaN where there is a source that is masked, and the stripes of
            this exposure alone, DN/s.
        """
        if common is None:
            return _of_sources(masked.read_sources(self.masked, rows, along_x=self.along_x))
        light, noise = cellfiles.read_refined(self.refined, rows)
        own = noise - np.float32(self.level) * common
        return light, stripes.spread(own, self.cells_shape[0], rows)

    def read_header(self) -> fits.Header:
        """
        Note what the headers tell: pointing, saturated and shape.

        Returns
        -------
        `~astropy.io.fits.Header`
            The primary one.

        Raises
        ------
        StepError
            If the file cannot be read, or its world coordinates make no sense.
        """
        header, of_image = masked.read_headers(self.masked)
        self.pointing, self.saturated = fields.pointing(of_image), header.get("SATLEN", 0)
        self.shape = of_image["NAXIS2"], of_image["NAXIS1"]
        return header

    @cached_property
    def shape(self) -> tuple[int, int]:
        """Of the frame."""
        return masked.shape(self.masked)

    @property
    def cells_shape(self) -> tuple[int, int]:
        """Rows and columns of cells."""
        return cells.shape(self.shape, along_x=self.along_x)


def _of_sources(source: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """As `Exposure.found`, where there is no refinement yet."""
    dark = np.zeros(source.shape, dtype=np.float32)
    return np.where(source, np.float32(np.nan), dark), dark


@numba.njit(cache=True)
def _normalised(
    sci: np.ndarray,
    err: np.ndarray,
    light: np.ndarray,
    own: np.ndarray,
    size: tuple[int, int],
    level: float,
    bad: np.ndarray,
) -> tuple[np.ndarray, np.ndarray]:
    """
    Value and noise in units of the level; NaN where a pixel does not count.

    `light` and `own` are as from `Exposure.found`, of cells of `size` pixels, height and width.
    """
    value, noise = np.empty_like(sci), np.empty_like(err)
    spurious = np.empty(sci.shape[1], dtype=light.dtype)
    unknown = np.float32(np.nan)
    height, width = size
    for y in range(sci.shape[0]):
        if y % height == 0:
            for column in range(light.shape[1]):
                both = light[y // height, column] + own[y // height, column]
                for x in range(column * width, (column + 1) * width):
                    spurious[x] = both
        for x in range(sci.shape[1]):  # without a branch, for several pixels at a time
            counts = (not bad[y, x]) & (spurious[x] == spurious[x])
            counts &= (err[y, x] > 0) & (err[y, x] < np.inf)
            value[y, x] = (sci[y, x] - spurious[x]) / level if counts else unknown
            noise[y, x] = err[y, x] / level if counts else unknown
    return value, noise


def load() -> None:
    """Load the compiled code, which takes a fifth of a second in each process."""
    image = np.ones((cells.SIZE, cells.SIZE), dtype=np.float32)
    bad = image < 0
    _normalised(image, image, image, image, (1, 1), np.float32(1), bad)
    combine.weighted_mean(image[np.newaxis], image[np.newaxis], 1.0)


def measure(exposure: Exposure, settings: Combine) -> tuple[float, float]:
    """
    Measure an exposure: its cells, if there is a refinement to come.

    Returns
    -------
    level, noise : float
        The sky's level, from the pixels that makeMask.py left unmasked, and the noise of a
        typical pixel, DN/s.

    Raises
    ------
    StepError
        If there is no level, or a file cannot be read.
    """
    border, sigma = settings.level_border, settings.level_sigma
    if not settings.refinements:
        sci, _, bits = masked.read(exposure.masked)
        level = combine.sky_level(sci, bits != 0, border=(border, border), sigma=sigma)
        return level, np.nan
    value, noise = masked.read_cells(exposure.masked)
    source = masked.read_sources(exposure.masked, slice(None), along_x=exposure.along_x)
    # Few of the cells are enough for a first guess: each refinement fits the level again.
    some = np.s_[::6, ::6]
    borders = (width // 6 for width in cells.shape((border, border), along_x=exposure.along_x))
    level = combine.sky_level(
        value[some], (source | np.isnan(noise))[some], border=tuple(borders), sigma=sigma
    )
    return level, traces.pixel_noise(cells.weight(noise))
