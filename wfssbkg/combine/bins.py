"""Bins: averages of an exposure over a few pixels along the dispersion, to find traces in."""

from functools import reduce

import bottleneck as bn
import numpy as np

from wfssbkg.errors import StepError

# px; traces are tens of pixels long, zeroth orders about this long. Direct images, whose sources
# have no direction, have their bins along y, so that each column keeps its own stripes.
SIZE = 4


def average(
    sci: np.ndarray, err: np.ndarray, bad: np.ndarray, *, along_x: bool
) -> tuple[np.ndarray, np.ndarray]:
    """
    Averages of an exposure over bins, weighted by 1/err^2.

    Parameters
    ----------
    sci, err : (ny, nx) float32 arrays
    bad : (ny, nx) bool array
        Pixels that do not count.
    along_x : bool
        Whether the grism disperses along x: bins are then SIZE pixels wide, otherwise high.

    Returns
    -------
    value, noise : float32 arrays
        One value per bin; NaN where no pixel counts.

    Raises
    ------
    StepError
        If the frame does not divide into bins.
    """
    ny, nx = sci.shape
    if ny % SIZE or nx % SIZE:
        raise StepError(f"the frame is {nx} x {ny} pixels, expected multiples of {SIZE}")
    counts = ~bad & (err > 0) & np.isfinite(sci)
    with np.errstate(divide="ignore", invalid="ignore"):
        weights = counts / np.square(err)
        product = weights * sci
    for image in (weights, product):
        bn.replace(image, np.nan, 0)
    size = pixels(along_x=along_x)
    total, information = (summed(x, size) for x in (product, weights))  # few enough for float32
    information[information == 0] = np.nan
    return total / information, information**-0.5


def any_of(image: np.ndarray, *, along_x: bool) -> np.ndarray:
    """Bins with a pixel that is True in a bool image."""
    return summed(image, pixels(along_x=along_x))  # numpy adds bools by `or`


def weight(noise: np.ndarray) -> np.ndarray:
    """1/noise^2 of some bins; 0 where the noise is not known."""
    return np.where(np.isnan(noise), 0, 1 / np.square(noise))


def shape(frame: tuple[int, int], *, along_x: bool) -> tuple[int, int]:
    """Rows and columns of bins in a frame of (ny, nx) pixels."""
    height, width = pixels(along_x=along_x)
    return frame[0] // height, frame[1] // width


def expand(image: np.ndarray, *, along_x: bool) -> np.ndarray:
    """The pixels of some bins, each with the value of its bin."""
    return repeated(image, pixels(along_x=along_x))


def turned(image: np.ndarray, along_x: bool) -> np.ndarray:
    """Bins with the dispersion along the second axis; or back."""
    return np.ascontiguousarray(image if along_x else image.T)


def box(side: int, *, along_x: bool) -> tuple[int, int]:
    """Height and width of a square of `side` px, in bins."""
    return (side, side // SIZE) if along_x else (side // SIZE, side)


def pixels(*, along_x: bool) -> tuple[int, int]:
    """Height and width of a bin, px."""
    return (1, SIZE) if along_x else (SIZE, 1)


def summed(image: np.ndarray, size: tuple[int, int], dtype: type | None = None) -> np.ndarray:
    """
    Sums of an image over boxes; those at the far edges may be smaller.

    Parameters
    ----------
    image : (ny, nx) array
    size : (int, int)
        Height and width of a box.
    dtype : type, optional
        Of the sums.
    """
    image = _padded(image, size, 0)
    image = image.astype(dtype or image.dtype, copy=False)
    # To add slices takes a fraction of the time of a sum over two short axes.
    rows = reduce(np.add, (image[k :: size[0]] for k in range(size[0])))
    return reduce(np.add, (rows[:, k :: size[1]] for k in range(size[1])))


def medians(image: np.ndarray, size: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """
    Medians of an image over boxes; those at the far edges may be smaller.

    Parameters
    ----------
    image : (ny, nx) float array
        NaN where a value does not count.
    size : (int, int)
        Height and width of a box.

    Returns
    -------
    median, number : (rows, columns) arrays
        NaN where nothing counts; the number of values that do.
    """
    image = _padded(image, size, np.nan)
    rows, columns = (length // side for length, side in zip(image.shape, size, strict=True))
    boxes = image.reshape(rows, size[0], columns, size[1]).swapaxes(1, 2)
    boxes = boxes.reshape(rows, columns, -1)
    return bn.nanmedian(boxes, axis=2), np.isfinite(boxes).sum(axis=2)


def _padded(image: np.ndarray, size: tuple[int, int], value: float) -> np.ndarray:
    """An image with rows and columns of a value beyond its far edges, so that boxes are whole."""
    beyond = [(0, -length % side) for length, side in zip(image.shape, size, strict=True)]
    return np.pad(image, beyond, constant_values=value) if np.any(beyond) else image


def repeated(image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """An image in which each value of another one fills a box of some height and width."""
    for axis, times in enumerate(size):
        if times > 1:
            image = np.repeat(image, times, axis=axis)
    return image
