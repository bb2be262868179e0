"""Traces of stars so bright that they were saturated from the first group on."""

import numpy as np
from scipy import ndimage

_LEAST_FIELDS = 3  # a star stays on the same pixels in all dithers of its field


def permanent(
    flagged: list[np.ndarray], fields: list[list[int]], shape: tuple[int, int]
) -> np.ndarray:
    """
    The pixels that are flagged whatever the sky: defects of the detector.

    Parameters
    ----------
    flagged : list of (n,) int arrays
        Of each exposure the flagged pixels, as indices into the flat frame.
    fields : list of lists of int
        The numbers of the exposures of each field.
    shape : (int, int)
        Of the frame.

    Returns
    -------
    (ny * nx,) bool array
        Flagged in most exposures, and in at least three fields.
    """
    of_exposures, of_fields = np.zeros((2, np.prod(shape)), dtype=np.int32)
    for numbers in fields:
        together = np.concatenate([flagged[number] for number in numbers])
        pixels, count = np.unique(together, return_counts=True)
        of_exposures[pixels] += count
        of_fields[pixels] += 1
    return (of_exposures > len(flagged) / 2) & (of_fields >= _LEAST_FIELDS)


def longest_trace(pixels: np.ndarray, shape: tuple[int, int], *, along_x: bool) -> int:
    """
    The length of the longest trace in some pixels.

    Parameters
    ----------
    pixels : (n,) int array
        Indices into the flat frame.
    shape : (int, int)
        Of the frame.
    along_x : bool
        Whether the grism disperses along x.

    Returns
    -------
    int
        px along the dispersion; 0 if there is none. Snowballs, which saturate at once as well, are
        round and short. In a direct image it is the height of the largest star.
    """
    if not len(pixels):
        return 0
    y, x = np.unravel_index(pixels, shape)
    part = np.zeros((np.ptp(y) + 1, np.ptp(x) + 1), dtype=bool)
    part[y - y.min(), x - x.min()] = True
    labels, _ = ndimage.label(part)
    boxes = [box[1 if along_x else 0] for box in ndimage.find_objects(labels)]
    return max(box.stop - box.start for box in boxes)
