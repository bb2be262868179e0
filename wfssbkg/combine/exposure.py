"""An exposure on its way into the background: its level, its bins, what counts of it."""

from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import NamedTuple, Self

import numpy as np
from astropy.io import fits

from wfssbkg.combine import bins, dark_residual, extra_light, levels, stripes, traces
from wfssbkg.combine.dark_residual import DarkResidual, Imprint
from wfssbkg.config import Combine
from wfssbkg.files import flat_field, masked_exposure, refined_exposure
from wfssbkg.files.pointing import Pointing, read_pointing
from wfssbkg.files.refined_exposure import Refined
from wfssbkg.layout import Folder


@dataclass(frozen=True)
class Common:
    """What counts for the sky, relative to the level of each exposure.

    Attributes
    ----------
    stripes : (4, columns) float32 array
    faint : (rows, columns) float32 array
        Mean faint flux, smoothed, of bins.
    extra : dict of str to (rows, columns) float32 array
        By name of the exposure, what it has on large scales and the others have not: a map of
        `wfssbkg.combine.extra_light`, NaN where it is not known well enough.
    level : dict of str to float
        By how much the level of each exposure is too low, for what it has in `extra`.
    dark : DarkResidual
        What is subtracted from all exposures.
    """

    stripes: np.ndarray
    faint: np.ndarray
    extra: dict[str, np.ndarray]
    level: dict[str, float]
    dark: DarkResidual

    @classmethod
    def nothing(cls, shape: tuple[int, int], dark: DarkResidual | None = None) -> Self:
        """What is known before a refinement, of exposures with so many rows and columns of bins."""
        dark = dark or DarkResidual()
        return cls(stripes.none(shape[1]), np.zeros(shape, dtype=np.float32), {}, {}, dark)


@dataclass(eq=False)
class Exposure:
    """A masked exposure and what is known of it.

    Attributes
    ----------
    name : str
        File name of the rate file.
    masked, binned, refined, next_refined : `~pathlib.Path`
        Its files, see `wfssbkg.files`. A refinement reads `refined` and writes `next_refined`, so
        that it can be done again from the start if its worker is killed.
    flat : `~pathlib.Path`
        The flat field that the exposures were divided by.
    along_x : bool
        Whether the grism disperses along x.
    direct : bool
        Whether it is a direct image: not dispersed at all.
    level, noise : float
        Of the sky, and of a typical pixel, DN/s.
    imprint : `~wfssbkg.combine.dark_residual.Imprint`
        Of the flat field's inverse.
    pointing : dict
        World coordinates, from `wfssbkg.files.pointing`.
    place : int
        The number of its pointing, from `wfssbkg.combine.fields.distinct`.
    """

    name: str
    masked: Path
    binned: Path
    refined: Path
    next_refined: Path
    flat: Path
    along_x: bool
    direct: bool = False
    level: float = np.nan
    noise: float = np.nan
    imprint: Imprint = field(default_factory=Imprint)
    pointing: Pointing = field(default_factory=dict)
    place: int = 0

    @classmethod
    def of(cls, folder: Folder, name: str) -> Self:
        """The exposure of a rate file."""
        stem, kind = name.removesuffix("_rate.fits"), folder.combination
        return cls(
            name,
            folder.masked(name),
            folder.working(f"{stem}_binned.fits"),
            folder.refined(name),
            folder.working(f"{stem}_refined.fits"),
            folder.flat,
            along_x=kind.along_x,
            direct=kind.direct,
        )

    def read(self, rows: slice, common: Common | None) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """
        Some rows of the exposure, in units of its level.

        Parameters
        ----------
        rows : slice
            Of the frame; of whole bins.
        common : `Common` or None
            What all exposures have in common; None if they are not refined: then the sources of
            makeMask.py are left out, and nothing is subtracted.

        Returns
        -------
        value, noise : (rows, nx) float32 arrays
            NaN where a pixel does not count.
        bad : (rows, nx) bool array
        """
        sci, err, bits = masked_exposure.read(self.masked, rows)
        bad = bits & np.uint8(masked_exposure.BAD) > 0
        if common is None:
            source = bits & np.uint8(masked_exposure.SOURCE) > 0
            spurious = np.where(source, np.float32(np.nan), np.float32(0))
        else:
            height, _ = bins.pixels(along_x=self.along_x)
            found = self.found(slice(rows.start // height, rows.stop // height), common)
            spurious = bins.expand(sum(found), along_x=self.along_x)
            spurious += self.dark(rows, common)
        return *_normalised(sci, err, bad, spurious, self.level), bad

    def read_bins(self, rows: slice, common: Common) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """As `read`, of some rows of bins."""
        value, noise = refined_exposure.read_bins(self.binned, rows)
        bad = np.isnan(noise)
        spurious = sum(self.found(rows, common)) + self.dark(rows, common, binned=True)
        return *_normalised(value, noise, bad, spurious, self.level), bad

    def dark(self, rows: slice, common: Common, *, binned: bool = False) -> np.ndarray | np.float32:
        """What the dark left in some rows, of pixels or of bins, flat-fielded, DN/s."""
        value = np.float32(common.dark.value)
        return value * self.inverse_flat(rows, binned=binned) if value else value

    def inverse_flat(self, rows: slice, *, binned: bool = False) -> np.ndarray:
        """The inverse of the flat field in some rows, of pixels or of bins, float32."""
        if not binned:
            return flat_field.inverse(self.flat, rows, self.shape)
        height, width = bins.pixels(along_x=self.along_x)
        first, end, _ = rows.indices(self.bins_shape[0])
        inverse = flat_field.inverse(self.flat, slice(height * first, height * end), self.shape)
        return bins.summed(inverse, (height, width)) / np.float32(bins.SIZE)

    def found(self, rows: slice, common: Common) -> tuple[np.ndarray, ...]:
        """
        What the last refinement found in the exposure, in some rows of bins.

        Parameters
        ----------
        rows, common
            As for `read`, but of bins.

        Returns
        -------
        faint, own, extra : (rows, columns) float32 arrays
            Flux of faint sources, NaN where there is a source that is masked, and the stripes and
            the extra light of this exposure alone, DN/s.
        """
        found, level = refined_exposure.read(self.refined, rows), np.float32(self.level)
        faint = found.faint - level * common.faint[rows]
        own = found.stripes - level * common.stripes
        own = stripes.as_image(own, self.bins_shape[0], rows)
        extra = np.zeros_like(own)
        if self.name in common.extra:
            extra = level * extra_light.image_of(common.extra[self.name], self.bins_shape, rows)
        return faint, own, extra

    def read_header(self) -> fits.Header:
        """
        Note what the headers tell: pointing and shape.

        Returns
        -------
        `~astropy.io.fits.Header`
            The primary one.

        Raises
        ------
        StepError
            If the file cannot be read, or its world coordinates make no sense.
        """
        header, of_image = masked_exposure.read_headers(self.masked)
        self.pointing = read_pointing(of_image)
        self.shape = of_image["NAXIS2"], of_image["NAXIS1"]
        return header

    @cached_property
    def shape(self) -> tuple[int, int]:
        """Of the frame."""
        return masked_exposure.shape(self.masked)

    @property
    def bins_shape(self) -> tuple[int, int]:
        """Rows and columns of bins."""
        return bins.shape(self.shape, along_x=self.along_x)


def _normalised(
    sci: np.ndarray, err: np.ndarray, bad: np.ndarray, spurious: np.ndarray, level: float
) -> tuple[np.ndarray, np.ndarray]:
    """Value and noise of the sky in units of the level; NaN where a pixel does not count.

    `spurious` is what is subtracted, DN/s: faint flux and stripes, NaN where there is a source.
    """
    unknown = np.float32(np.nan)
    counts = ~bad & np.isfinite(spurious) & np.isfinite(err) & (err > 0)
    value = np.where(counts, (sci - spurious) / np.float32(level), unknown)
    return value, np.where(counts, err / np.float32(level), unknown)


class Measured(NamedTuple):
    """What an exposure tells by itself.

    Attributes
    ----------
    level, noise : float
        The sky's level, from the pixels that makeMask.py left unmasked, and the noise of a
        typical pixel, DN/s.
    saturated : (n,) int32 array
        The pixels that were saturated from the first group on: indices into the flat frame.
    imprint : `~wfssbkg.combine.dark_residual.Imprint`
        Of the flat field's inverse.
    """

    level: float
    noise: float
    saturated: np.ndarray
    imprint: Imprint = Imprint()


def measure(exposure: Exposure, settings: Combine) -> Measured:
    """
    Measure an exposure; if a refinement is to come, write its bins and what it begins with.

    Raises
    ------
    StepError
        If there is no level, or a file cannot be read.
    """
    sci, err, bits = masked_exposure.read(exposure.masked)
    saturated = np.flatnonzero(bits & np.uint8(masked_exposure.SATURATED)).astype(np.int32)
    border, sigma = settings.level_border, settings.level_sigma
    if not settings.refinements:
        masked = bits & np.uint8(masked_exposure.BAD | masked_exposure.SOURCE) > 0
        level = levels.sky_level(sci, masked, border=(border, border), sigma=sigma)
        return Measured(level, np.nan, saturated)
    value, noise, source = write_bins(exposure, sci, err, bits)
    # A few bins are enough for a first guess, since each refinement fits the level again.
    few = np.s_[::6, ::6]
    borders = (width // 6 for width in bins.shape((border, border), along_x=exposure.along_x))
    level = levels.sky_level(
        value[few], (source | np.isnan(noise))[few], border=tuple(borders), sigma=sigma
    )
    imprint = dark_residual.imprint(sci, bits == 0, exposure.inverse_flat(slice(None)))
    return Measured(level, traces.pixel_noise(bins.weight(noise)), saturated, imprint)


def write_bins(
    exposure: Exposure, sci: np.ndarray, err: np.ndarray, bits: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """
    Write the bins of an exposure, and a refined file that has only the sources of makeMask.py.

    Parameters
    ----------
    exposure : `Exposure`
    sci, err, bits : (ny, nx) arrays
        From `wfssbkg.files.masked_exposure.read`.

    Returns
    -------
    value, noise : float32 arrays
        One value per bin, DN/s; NaN where no pixel counts.
    source : bool array
        Bins with a pixel of a source.
    """
    bad, source = (
        bits & np.uint8(bit) > 0 for bit in (masked_exposure.BAD, masked_exposure.SOURCE)
    )
    value, noise = bins.average(sci, err, bad, along_x=exposure.along_x)
    source = bins.any_of(source, along_x=exposure.along_x)
    nothing = stripes.none(value.shape[1])
    refined_exposure.write_bins(exposure.binned, value, noise)
    found = Refined(np.where(source, np.nan, np.float32(0)), *4 * [nothing])
    refined_exposure.write(exposure.refined, found)
    return value, noise, source
