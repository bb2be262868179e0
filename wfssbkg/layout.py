"""Combination -> folder -> file names: the only place that spells a file name."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

_UNFINISHED = ".????????."  # how the temporary names that `replacing` gives begin


@dataclass(frozen=True)
class Combination:
    """A grating with a blocking filter, e.g. GR150C-F115W; CLEAR-F115W: direct images."""

    grating: str
    filter: str

    def __str__(self) -> str:
        return f"{self.grating}-{self.filter}"

    @property
    def along_x(self) -> bool:
        """Whether the grism disperses along x (GR150C), or y (GR150R), or there is none (CLEAR)."""
        return self.grating == "GR150C"

    @property
    def direct(self) -> bool:
        """Whether its exposures are direct images: no grism, no dispersion."""
        return self.grating == "CLEAR"

    @property
    def exp_type(self) -> str:
        """EXP_TYPE of its exposures (JWST keyword dictionary)."""
        return "NIS_IMAGE" if self.direct else "NIS_WFSS"

    @property
    def recommended(self) -> bool:
        """Whether the archive's data of this filter make a sound background."""
        from wfssbkg.config import RECOMMENDED_FILTERS

        return self.filter in RECOMMENDED_FILTERS


@dataclass(frozen=True)
class Folder:
    """The files of one combination.

    Parameters
    ----------
    combination : `Combination`
    working_directory : `~pathlib.Path`
        Where the folder of the combination is.
    output_directory : `~pathlib.Path`
        Where the finished reference files go.
    """

    combination: Combination
    working_directory: Path
    output_directory: Path

    @property
    def path(self) -> Path:
        """The folder of the combination."""
        return self.working_directory / str(self.combination)

    @property
    def table(self) -> Path:
        """The exposure table."""
        return self.path / f"{self.combination}.fits"

    @property
    def lock(self) -> Path:
        """There while a script works in the folder."""
        return self.path / ".lock"

    def rate(self, filename: str) -> Path:
        """A downloaded exposure."""
        return self.path / filename

    def masked(self, filename: str) -> Path:
        """The flat-fielded, masked exposure made of the rate file `filename`."""
        return self.path / (filename.removesuffix("_rate.fits") + "_masked.fits")

    @property
    def flat(self) -> Path:
        """The flat field that the latest exposure was divided by."""
        return self.path / "flat.fits"

    def refined(self, filename: str) -> Path:
        """The refined mask, faint light and stripes of an exposure, from makeBackgrounds.py."""
        return self.path / (filename.removesuffix("_rate.fits") + "_refined.fits")

    def findings(self, filename: str) -> Path:
        """What will be the refined file of an exposure when its field is done."""
        return self.path / (filename.removesuffix("_rate.fits") + "_findings.fits")

    def remove_findings(self) -> None:
        """Remove what makeBackgrounds.py needs only while it works."""
        for path in self.path.glob("*_findings.fits"):
            path.unlink(missing_ok=True)

    def compared(self, name: str) -> Path:
        """A background to score exposures on, there while compareBackgrounds.py works."""
        return self.path / f"compared_{name}.fits"

    def remove_compared(self) -> None:
        """Remove what compareBackgrounds.py needs only while it works."""
        for path in self.path.glob("compared_*.fits"):
            path.unlink(missing_ok=True)

    @property
    def background(self) -> Path:
        """The combined background."""
        return self.path / "background.fits"

    @property
    def finished(self) -> Path:
        """The finished background with the flat-field out, for grizli."""
        return self.output_directory / f"{self._stem}.fits"

    @property
    def finished_unflat(self) -> Path:
        """The finished background with the flat-field in, for the JWST pipeline and CRDS."""
        return self.output_directory / f"{self._stem}_unflat.fits"

    @property
    def _stem(self) -> str:
        combination = self.combination
        return f"nis-{combination.filter.lower()}-{combination.grating.lower()}_skyflat"


def report(output_directory: Path) -> Path:
    """The page that shows all backgrounds beside those in CRDS."""
    return output_directory / "report.html"


def quality(output_directory: Path) -> Path:
    """The figures of quality of all backgrounds."""
    return output_directory / "quality.ecsv"


def wfss_mask(rate: Path) -> Path:
    """The mask of a rate file for the JWST pipeline, beside it."""
    return rate.with_name(rate.stem.removesuffix("_rate") + "_wfssmask.fits")


def star_catalog(working_directory: Path, g_limit: float) -> Path:
    """The bright stars of Gaia, shared by all combinations."""
    return working_directory / f"gaia_g{g_limit:g}.fits"


def of_exposures(folder: Folder) -> Iterator[Path]:
    """All files of exposures in the folder of a combination, those not finished yet as well."""
    for pattern in ("jw*.fits", f"{_UNFINISHED}jw*.fits"):
        yield from folder.path.glob(pattern)


def star_lock(catalog: Path) -> Path:
    """There while a script works on the catalogue of stars."""
    return catalog.with_name(f".{catalog.stem}.lock")


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """
    Write a file so that a reader never meets half of it.

    Parameters
    ----------
    path : `~pathlib.Path`
        The file to write.

    Yields
    ------
    `~pathlib.Path`
        A temporary name in the same folder, with the same ending. It is renamed to `path` at the
        end, or removed if an exception leaves the block.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{uuid.uuid4().hex[:8]}.{path.name}")
    try:
        yield temporary
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def unfinished(folder: Path, name: str = "*") -> Iterator[Path]:
    """What `replacing` has not finished yet, or never will: files of a name in a folder."""
    yield from folder.glob(f"{_UNFINISHED}{name}")


def remove_unfinished(folder: Path, name: str = "*") -> None:
    """Remove what a run that was killed has not finished; for the one that holds the lock."""
    for path in unfinished(folder, name):
        path.unlink(missing_ok=True)
