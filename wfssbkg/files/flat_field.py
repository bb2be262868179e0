"""The flat field that makeMask.py keeps: that of the latest exposure."""

from pathlib import Path

import numpy as np

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
        If the file cannot be read.
    """
    if not path.exists():
        return np.ones((len(range(*rows.indices(shape[0]))), shape[1]), dtype=np.float32)
    (flat,) = fits_file.read_rows(path, {"FLAT": rows}, "makeMask.py")
    return 1 / np.where(flat > 0, flat, np.float32(1))
