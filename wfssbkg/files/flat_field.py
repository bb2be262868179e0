"""The flat field that makeMask.py keeps: that of the latest exposure."""

from pathlib import Path

import numpy as np

from wfssbkg.errors import StepError
from wfssbkg.files import fits_file


def inverse(path: Path, rows: slice, shape: tuple[int, int]) -> np.ndarray:
    """
    The inverse of the flat field in some rows.

    Parameters
    ----------
    path : `~pathlib.Path`
    rows : slice
    shape : (int, int)
        Of the whole frame.

    Returns
    -------
    (rows, nx) float32 array
        1 everywhere if no flat field was kept.

    Raises
    ------
    StepError
        If the file cannot be read, or is of another size.
    """
    wanted = len(range(*rows.indices(shape[0]))), shape[1]
    if not path.exists():
        return np.ones(wanted, dtype=np.float32)
    (flat,) = fits_file.read_rows(path, {"FLAT": rows}, "makeMask.py")
    if flat.shape != wanted:
        raise StepError(f"{path} is not of {shape[1]} x {shape[0]} px. Run makeMask.py --overwrite")
    return 1 / np.where(flat > 0, flat, np.float32(1))
