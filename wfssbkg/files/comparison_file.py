"""What compareBackgrounds.py found: kept for its report, handed to its workers."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from astropy.io import fits
from astropy.table import Table

from wfssbkg import __version__
from wfssbkg.files import fits_file, reference_file
from wfssbkg.files.combined_background import Background, Components
from wfssbkg.layout import Folder

SCRIPT = "compareBackgrounds.py"
MEAN_BOX = 8  # px

# On which exposures a background is scored: those it was made of, those it was made without; the
# latter with scattered light, which is found without them as well; the background of the reference
# file in CRDS; and that of `compare.against`.
IN, OUT, SCATTERED, OFFICIAL, AGAINST = "in", "out", "scattered", "official", "against"

TYPICAL, WORST = "typical", "worst"  # the exposures that are shown before and after


@dataclass
class Score:
    """What exposures leave when a background is subtracted from them.

    Attributes
    ----------
    rms : float
        RMS of the residual after smoothing, median of the exposures, per cent of the sky.
    column_profile, row_profile : (nx,) and (ny,) float arrays
        Median residual of each column and each row of all exposures, per cent of the sky; NaN
        where nothing is known.
    mean_rms : float
        RMS of the smoothed residual of the mean of the exposures that are left out together, in
        which their noise averages down, median of these parts; per cent of the sky.
    parts : (k, 4) float array
        What is compared (`wfssbkg.compare.figures.MEASURES`) of each part of the fields by itself.
    mean : (rows, columns) float32 array
        The residual of the mean of the exposures that are left out together, mean of these parts,
        in boxes of `MEAN_BOX` px; per cent of the sky, NaN where nothing is known.
    """

    rms: float
    column_profile: np.ndarray
    row_profile: np.ndarray
    mean_rms: float = np.nan
    parts: np.ndarray = field(default_factory=lambda: np.full((1, 4), np.nan))
    mean: np.ndarray = field(default_factory=lambda: np.full((1, 1), np.nan, dtype=np.float32))


@dataclass
class Picture:
    """An exposure made small: means over square boxes of pixels.

    Attributes
    ----------
    residual : (ny, nx) float32 array
        After the subtraction of the background, per cent of the sky; NaN where all is bad.
    masked : (ny, nx) float32 array
        Part of the pixels that is masked, 0 to 1; NaN where all are reference pixels.
    rms : float
        RMS of its residual after smoothing, per cent of the sky; NaN if it was not scored.
    field : int
        Number of its field, from 0.
    scored : str
        'out' if the background was made without this exposure, 'in' if it was made of it; '' if
        not known.
    """

    residual: np.ndarray
    masked: np.ndarray
    rms: float
    field: int = 0
    scored: str = ""


@dataclass
class Example:
    """An exposure before and after the subtraction of the background.

    Attributes
    ----------
    exposure : str
        Name of the rate file.
    before, after : (rows, columns) float32 arrays
        Its difference from a constant, and from the fitted background, in boxes of `MEAN_BOX` px:
        means of the pixels that count, per cent of the sky; NaN where none does.
    rms_before, rms_after : float
        RMS of both after smoothing, per cent of the sky.
    scored : str
        As in `Picture`.
    """

    exposure: str
    before: np.ndarray
    after: np.ndarray
    rms_before: float
    rms_after: float
    scored: str


@dataclass
class Comparison:
    """A finished background beside the reference file in CRDS, and one of the user's choice.

    Attributes
    ----------
    folder : `~wfssbkg.layout.Folder`
    background : `~wfssbkg.files.combined_background.Background`
        The finished one, flat field out. Its `inputs` is the exposure table.
    filled : (ny, nx) bool array
        Pixels where no exposure counted.
    official : (ny, nx) float32 array or None
        The reference file in CRDS on the same scale, flat field out; None if there is none.
    official_name : str
        Its name; of direct images, 'a constant'; '' if there is none.
    scores : dict
        'in' and 'out', the new background on exposures it was made from, and on those it was not;
        'scattered', as 'out', with the scattered light of each exposure subtracted as well;
        'official', the reference file (of direct images, a constant); 'against', that of
        `compare.against`. Some may be missing.
    pictures : dict
        Name of the rate file to `Picture`; of all exposures that are masked, rejected ones too.
    notes : list of str
        What could not be computed, and why.
    against : (ny, nx) float32 array or None
        The background of `compare.against` on the same scale, flat field out; None if there is
        none.
    against_file : str
        Its path; '' if there is none.
    examples : dict
        'typical' and 'worst' to `Example`: of the scored exposures that of median RMS, and that of
        the largest. Some may be missing.
    against_dark : float
        What the dark left, DN/s, as it tells; needed only until exposures are scored.
    """

    folder: Folder
    background: Background
    filled: np.ndarray
    official: np.ndarray | None = None
    official_name: str = ""
    scores: dict[str, Score] = field(default_factory=dict)
    pictures: dict[str, Picture] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    against: np.ndarray | None = None
    against_file: str = ""
    examples: dict[str, Example] = field(default_factory=dict)
    against_dark: float = 0.0

    @property
    def against_name(self) -> str:
        """What the background of `compare.against` is called: by its folder."""
        return Path(self.against_file).parent.name


def write(comparison: Comparison, *, settings: Mapping[str, Any]) -> None:
    """
    Write what was found into the folder of the combination, but for the background itself.

    Parameters
    ----------
    comparison : `Comparison`
    settings : mapping
        Those that it was made with, from `wfssbkg.files.up_to_date.bearing`.
    """
    primary = fits.PrimaryHDU()
    primary.header["OFFICIAL"] = (comparison.official_name, "what the background is compared with")
    primary.header["WFSSBKG"] = (__version__, "version of WFSSBackgrounds")
    hdus = [primary, fits_file.settings_hdu(settings)]
    # As JSON, since the text of a FITS header or table is ASCII.
    primary.header["AGAINST"] = (json.dumps(comparison.against_file), "file")
    for name, image in (("OFFICIAL", comparison.official), ("AGAINST", comparison.against)):
        if image is not None:
            hdus.append(fits.ImageHDU(image, name=name))
    for name, rows in (
        ("SCORES", [{"name": key} | vars(x) for key, x in comparison.scores.items()]),
        ("PICTURES", [{"name": key} | vars(x) for key, x in comparison.pictures.items()]),
        ("EXAMPLES", [{"name": key} | vars(x) for key, x in comparison.examples.items()]),
        ("NOTES", [{"note": json.dumps(note)} for note in comparison.notes]),
    ):
        hdus.append(fits.BinTableHDU(Table(rows=rows) if rows else None, name=name))
    fits_file.write(comparison.folder.comparison, hdus)


def read(folder: Folder) -> Comparison:
    """
    Read what was found for a combination, and its finished background.

    Raises
    ------
    StepError
        If there is no comparison or no background, or it cannot be read.
    """
    background, filled = reference_file.read(folder.finished)
    with fits_file.product(folder.comparison, SCRIPT) as hdus:
        return Comparison(
            folder,
            background,
            filled,
            hdus["OFFICIAL"].data if "OFFICIAL" in hdus else None,
            hdus[0].header["OFFICIAL"],
            {row.pop("name"): Score(**row) for row in _rows(hdus["SCORES"])},
            {row.pop("name"): Picture(**row) for row in _rows(hdus["PICTURES"])},
            [json.loads(row["note"]) for row in _rows(hdus["NOTES"])],
            hdus["AGAINST"].data if "AGAINST" in hdus else None,
            json.loads(hdus[0].header.get("AGAINST", '""')),  # which files of before lack
            {
                row.pop("name"): Example(**row)
                for row in (_rows(hdus["EXAMPLES"]) if "EXAMPLES" in hdus else ())
            },
        )


def _rows(hdu: fits.BinTableHDU) -> list[dict[str, Any]]:
    return [dict(zip(hdu.data.names, row, strict=True)) for row in hdu.data]


def write_background(
    path: Path, image: np.ndarray, *, dark: float = 0.0, light: Components | None = None
) -> None:
    """Write a background for the workers, with the dark residual and the light beside it."""
    primary = fits.PrimaryHDU()
    primary.header["DARKRES"] = dark
    image = fits.ImageHDU(np.asarray(image, dtype=np.float32), name="SCI")
    fits_file.write(path, [primary, image, *(light.hdus() if light else ())])


def read_background(path: Path) -> tuple[np.ndarray, float, Components]:
    """Read such a background; a StepError if the file cannot be read."""
    with fits_file.product(path, SCRIPT) as hdus:
        image = hdus["SCI"].data.astype(np.float32)
        return image, float(hdus[0].header["DARKRES"]), Components.of(hdus)
