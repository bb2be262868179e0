"""How good a background is, told from the exposures themselves."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from astropy.table import Table

from wfssbkg.layout import Folder
from wfssbkg.products import Background

PERCENTILES = (0, 5, 50, 95, 100)  # of the residual profiles


@dataclass
class Score:
    """What exposures leave when a background is subtracted from them.

    Attributes
    ----------
    rms : float
        Of the residual after smoothing over 8 px, median over the exposures, per cent of the sky.
    column_profile, row_profile : (nx,) and (ny,) float arrays
        Median residual of each column and each row of all exposures, per cent of the sky; NaN
        where nothing is known.
    """

    rms: float
    column_profile: np.ndarray
    row_profile: np.ndarray


@dataclass
class Picture:
    """An exposure, made small: means over `binning` x `binning` pixels.

    Attributes
    ----------
    residual : (ny, nx) float32 array
        After the subtraction of the background, per cent of the sky; NaN where all is bad.
    masked : (ny, nx) float32 array
        Part of the pixels that is masked, 0 to 1.
    rms : float
        Of its residual after smoothing over 8 px, per cent of the sky; NaN if it was not scored.
    field : int
        Number of its field, from 0.
    """

    residual: np.ndarray
    masked: np.ndarray
    rms: float
    field: int


@dataclass
class Comparison:
    """A finished background beside the reference file in CRDS.

    Attributes
    ----------
    folder : `~wfssbkg.layout.Folder`
    background : `~wfssbkg.products.Background`
        The finished one, flat field out. Its `inputs` is the exposure table.
    filled : (ny, nx) bool array
        Pixels where no exposure counted.
    official : (ny, nx) float32 array or None
        The reference file in CRDS on the same scale, flat field out; None if there is none.
    official_name : str
        Its name; of direct images, 'a constant'; '' if there is none.
    scores : dict
        'in' and 'out', the new background on exposures it was made from, and on those it was not;
        'official', the reference file (of direct images, a constant). Some may be missing.
    pictures : dict
        Name of the rate file to `Picture`; of all exposures that are masked, rejected ones too.
    notes : list of str
        What could not be computed, and why.
    """

    folder: Folder
    background: Background
    filled: np.ndarray
    official: np.ndarray | None = None
    official_name: str = ""
    scores: dict[str, Score] = field(default_factory=dict)
    pictures: dict[str, Picture] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def figures(self) -> Table:
        """All figures: one row a score (of '{combination}' and 'scored': in, out, official)."""
        raise NotImplementedError
