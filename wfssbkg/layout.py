"""Combination -> folder -> file names: the only place that spells a file name."""

from dataclasses import dataclass
from pathlib import Path

SUBTRACTED = "_bkgsub_rate.fits"  # how the names of rate files without their sky end
TEMPORARY = ".wfssbkg."  # how the names of temporary files begin; no other program's do


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
        """The refined mask, faint flux and stripes of an exposure, from makeBackgrounds.py."""
        return self.path / (filename.removesuffix("_rate.fits") + "_refined.fits")

    def working(self, name: str) -> Path:
        """A file that is needed only while a script holds the lock, and removed with it."""
        return self.path / f"{TEMPORARY}work.{name}"

    @property
    def comparison(self) -> Path:
        """What compareBackgrounds.py found, for its report."""
        return self.path / "comparison.fits"

    @property
    def residuals(self) -> Path:
        """The folder of exposures minus their sky, beside the report."""
        return self.output_directory / "residuals" / str(self.combination)

    def residual(self, filename: str) -> Path:
        """The exposure of the rate file `filename` minus its sky, from compareBackgrounds.py."""
        return self.residuals / (filename.removesuffix("_rate.fits") + "_residual.fits")

    @property
    def background(self) -> Path:
        """The combined background."""
        return self.path / "background.fits"

    @property
    def finished(self) -> Path:
        """The finished background with the flat field divided out, for grizli."""
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


def wfss_mask(rate: Path, folder: Path | None = None) -> Path:
    """The mask of a rate file for the JWST pipeline, beside it or in a folder."""
    return (folder or rate.parent) / (rate.stem.removesuffix("_rate") + "_wfssmask.fits")


def subtracted(rate: Path, folder: Path | None = None) -> Path:
    """A rate file without its sky, beside it or in a folder."""
    name = rate.name.removesuffix("_rate.fits") + SUBTRACTED
    return (folder or rate.parent) / name


def subtraction_picture(subtracted_exposure: Path) -> Path:
    """The picture of a rate file without its sky, beside it."""
    return subtracted_exposure.with_name(subtracted_exposure.stem.removesuffix("_rate") + ".png")


def subtractions(folder: Path) -> Path:
    """The table of the exposures whose sky was subtracted."""
    return folder / "subtracted.ecsv"


def star_catalog(working_directory: Path, g_limit: float) -> Path:
    """The bright stars of Gaia, shared by all combinations."""
    return working_directory / f"gaia_g{g_limit:g}.fits"


def star_lock(catalog: Path) -> Path:
    """There while a script works on the catalogue of stars."""
    return catalog.with_name(f".{catalog.stem}.lock")
