"""Exposures of the subarrays of WFSS, cut out of full frames."""

from stdatamodels.jwst.datamodels import ImageModel

# Number of columns and of rows that are read out, None for all. They are the last ones of the
# science frame (SIAF PRDOPSSOC-072, apertures NIS_WFSS64R ...). R goes with GR150R, C with GR150C.
SUBARRAYS = {
    "WFSS64R": (64, None),
    "WFSS64C": (None, 64),
    "WFSS128R": (128, None),
    "WFSS128C": (None, 128),
}


def cut(frame: ImageModel, name: str) -> ImageModel:
    """
    The part of a full frame that a subarray reads out.

    The real detector reads it through one amplifier; here it has the noise of four.

    Parameters
    ----------
    frame : ImageModel
        A full-frame rate exposure.
    name : str
        A key of `SUBARRAYS`.

    Returns
    -------
    ImageModel
    """
    height, width = frame.data.shape
    columns, rows = SUBARRAYS[name]
    x, y = width - (columns or width), height - (rows or height)
    part = ImageModel(frame.data[y:, x:].copy())
    part.update(frame)
    for array in ("err", "dq", "var_poisson", "var_rnoise"):
        setattr(part, array, getattr(frame, array)[y:, x:].copy())
    subarray = part.meta.subarray
    subarray.name = name
    subarray.xstart, subarray.ystart = x + 1, y + 1
    subarray.xsize, subarray.ysize = width - x, height - y
    if part.meta.wcsinfo.crpix1 is not None:
        part.meta.wcsinfo.crpix1 -= x
        part.meta.wcsinfo.crpix2 -= y
    return part
