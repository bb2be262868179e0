"""An exposure on its way into the background: its level, its cells, what counts of it."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numba
import numpy as np

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
    masked, cells, refined, findings : `~pathlib.Path`
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
    cells: Path
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
        files = (folder.masked, folder.cells, folder.refined, folder.findings)
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
        if common is None:
            source, size = bits & np.uint8(masked.SOURCE) > 0, (1, 1)
            spurious = np.zeros(sci.shape, dtype=np.float32)
        else:
            size = cells.pixels(along_x=self.along_x)
            source, light, own = self.found(
                slice(rows.start // size[0], rows.stop // size[0]), common
            )
            spurious = light + own
        return *_normalised(sci, err, bad, source, spurious, size, np.float32(self.level)), bad

    def read_cells(
        self, rows: slice, common: np.ndarray | None
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """As `read`, of some rows of cells."""
        value, noise = cellfiles.read_cells(self.cells, rows)
        bad = np.isnan(noise)
        source, light, own = self.found(rows, common)
        level = np.float32(self.level)
        return *_normalised(value, noise, bad, source, light + own, (1, 1), level), bad

    def found(
        self, rows: slice, common: np.ndarray | None
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """
        What the last refinement found in the exposure, in some rows of cells.

        Parameters
        ----------
        rows, common
            As for `read`, but of cells.

        Returns
        -------
        source : bool array
        light, own : float32 arrays
            Light of faint sources, and the stripes of this exposure alone, DN/s.
        """
        source, light, noise = cellfiles.read_refined(self.refined, rows)
        if common is None:
            return source, light, np.zeros_like(light)
        own = noise - np.float32(self.level) * common
        return source, light, stripes.spread(own, self.cells_shape[0])[rows]

    @cached_property
    def shape(self) -> tuple[int, int]:
        """Of the frame."""
        return masked.shape(self.masked)

    @property
    def cells_shape(self) -> tuple[int, int]:
        """Rows and columns of cells."""
        return cells.shape(self.shape, along_x=self.along_x)


@numba.njit(cache=True)
def _normalised(
    sci: np.ndarray,
    err: np.ndarray,
    bad: np.ndarray,
    source: np.ndarray,
    spurious: np.ndarray,
    size: tuple[int, int],
    level: float,
) -> tuple[np.ndarray, np.ndarray]:
    """
    Value and noise in units of the level; NaN where a pixel does not count.

    `source` and `spurious` are given for cells of `size` pixels, height and width.
    """
    value, noise = np.empty_like(sci), np.empty_like(err)
    for y in range(sci.shape[0]):
        row = y // size[0]
        for x in range(sci.shape[1]):
            column = x // size[1]
            counts = not bad[y, x] and not source[row, column] and 0 < err[y, x] < np.inf
            value[y, x] = (sci[y, x] - spurious[row, column]) / level if counts else np.nan
            noise[y, x] = err[y, x] / level if counts else np.nan
    return value, noise


def measure(exposure: Exposure, settings: Combine) -> tuple[float, float, fields.Pointing, int]:
    """
    Measure an exposure; write its cells, if there is a refinement to come.

    Returns
    -------
    level, noise : float
        The sky's level, from the pixels that makeMask.py left unmasked, and the noise of a
        typical pixel, DN/s.
    pointing : dict
    saturated : int
        As for `Exposure`.

    Raises
    ------
    StepError
        If there is no level, or a file cannot be read.
    """
    sci, err, bits = masked.read(exposure.masked)
    header, of_image = masked.read_headers(exposure.masked)
    pointing, saturated = fields.pointing(of_image), header.get("SATLEN", 0)
    border, sigma = settings.level_border, settings.level_sigma
    if not settings.refinements:
        level = combine.sky_level(sci, bits != 0, border=(border, border), sigma=sigma)
        return level, np.nan, pointing, saturated
    value, noise, source = cells.average(sci, err, bits, along_x=exposure.along_x)
    # A ninth of the cells is enough for a first guess: each refinement fits the level again.
    some = np.s_[::3, ::3]
    borders = (width // 3 for width in cells.shape((border, border), along_x=exposure.along_x))
    level = combine.sky_level(
        value[some], (source | np.isnan(noise))[some], border=tuple(borders), sigma=sigma
    )
    cellfiles.write_cells(exposure.cells, value, noise)
    dark, typical = np.zeros(source.shape, np.float32), traces.pixel_noise(cells.weight(noise))
    cellfiles.write_refined(exposure.refined, source, dark, dark[: stripes.AMPLIFIERS], typical)
    return level, typical, pointing, saturated
