"""The JWST pipeline's flat-field step, forward and inverse."""

from __future__ import annotations

import gc
import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from astropy.io import fits

from wfssbkg import StepError, fields, files, masked, rate
from wfssbkg.files import first_line, opened
from wfssbkg.layout import Combination

# Where the JWST pipeline finds reference files unless the user's environment says otherwise:
# https://jwst-crds.stsci.edu/docs/cmdline_bestrefs
CRDS_DEFAULTS = {
    "CRDS_SERVER_URL": "https://jwst-crds.stsci.edu",
    "CRDS_PATH": str(Path.home() / "crds_cache"),
}

# Checking every keyword against its schema as it is set is for files that are to be archived, and
# takes a tenth of the time (environment variable of stdatamodels).
MODEL_DEFAULTS = {"VALIDATE_ON_ASSIGNMENT": "false"}


# Keywords of the flat field, of the context in which CRDS chose it, of the versions of CRDS and of
# the pipeline.
USED = "R_FLAT", "CRDS_CTX", "CRDS_VER", "CAL_VER"


class PipelineError(StepError):
    """The pipeline or CRDS failed, maybe for a cause that passes: reference files on their way."""


@dataclass
class FlatFielded:
    """A flat-fielded exposure.

    Attributes
    ----------
    sci : (ny, nx) float32 array
        Count rate divided by the flat field, DN/s.
    var_poisson, var_rnoise : (ny, nx) float32 arrays
        Variances of photon noise and of read noise, (DN/s)^2; NaN where the rate file's ERR is not
        above 0.
    dq : (ny, nx) uint32 array
        Data quality flags of exposure and flat field.
    header : `~astropy.io.fits.Header`
        Primary header of the exposure, with R_FLAT and CRDS_CTX as used.
    pointing : dict
        Its world coordinates, from `wfssbkg.fields.pointing`.
    """

    sci: np.ndarray
    var_poisson: np.ndarray
    var_rnoise: np.ndarray
    dq: np.ndarray
    header: fits.Header
    pointing: fields.Pointing


def flat_field(
    path: Path, *, context: str | None = None, combination: Combination | None = None
) -> FlatFielded:
    """
    Divide an exposure by the flat field that CRDS chooses.

    Parameters
    ----------
    path : `~pathlib.Path`
        A rate file.
    context : str, optional
        CRDS context, e.g. jwst_1365.pmap; default: the current one.
    combination : `~wfssbkg.layout.Combination`, optional
        What it is to be an exposure of; default: any.

    Returns
    -------
    `FlatFielded`

    Raises
    ------
    StepError
        If the file is no sound rate file, or not of the combination, or there is no flat field
        for it.
    """
    header = rate.check(path)
    rate.check_belongs(header, combination)
    with opened(path) as hdus:
        pointing = fields.pointing(hdus["SCI"].header)
        known = hdus["ERR"].data > 0  # the step makes ERR anew
    result = _call_step(str(path), name=path.name, context=context)
    with result:
        for key, value in _used(result).items():
            header[key] = value
        return FlatFielded(
            sci=np.array(result.data, dtype=np.float32),
            var_poisson=np.where(known, result.var_poisson, np.float32(np.nan)),
            var_rnoise=np.where(known, result.var_rnoise, np.float32(np.nan)),
            dq=np.array(result.dq, dtype=np.uint32),
            header=header,
            pointing=pointing,
        )


def flat_of(exposure: Path, kept: Path) -> tuple[np.ndarray, dict[str, str]]:
    """
    The flat field that a masked exposure was divided by.

    Parameters
    ----------
    exposure : `~pathlib.Path`
        CRDS is asked in the context in which it was flat-fielded, so that what was divided out is
        what can be put back.
    kept : `~pathlib.Path`
        Where it is kept: the pipeline is asked only if this file has another one, or none.

    Returns
    -------
    flat : (ny, nx) float32 array
        What the pipeline multiplies by when it puts the flat field back; 1 where it has none.
    used : dict
        R_FLAT, CRDS_CTX, CRDS_VER and CAL_VER.

    Raises
    ------
    StepError
        If there is no flat field.
    """
    found = _read_kept(kept, exposure)
    if found:
        return found
    model, context = _model(exposure, 1.0)
    with _call_step(model, name=exposure.name, context=context, inverse=True) as result:
        # The step blanks pixels that have no flat field.
        flat = np.where(np.isfinite(result.data), result.data, np.float32(1))
        used = _used(result)
    files.write(kept, [fits.PrimaryHDU(header=fits.Header(used)), fits.ImageHDU(flat, name="FLAT")])
    return flat, used


def _read_kept(kept: Path, exposure: Path) -> tuple[np.ndarray, dict[str, str]] | None:
    """What `flat_of` keeps, if it is there and of an exposure; else None."""
    header, of_image = masked.read_headers(exposure)
    try:
        with opened(kept) as hdus:
            files.check_whole(kept, hdus)
            used = {key: hdus[0].header[key] for key in USED}
            flat = hdus["FLAT"].data.astype(np.float32)
    except (StepError, KeyError):
        return None
    fits_it = flat.shape == (of_image["NAXIS2"], of_image["NAXIS1"])
    return (flat, used) if fits_it and used == {key: header.get(key) for key in USED} else None


def official_background(exposure: Path) -> tuple[np.ndarray, str]:
    """
    The background that CRDS has for an exposure, with the flat field divided out.

    The pipeline subtracts it before it divides by the flat field, so that the file has the flat
    field in.

    Parameters
    ----------
    exposure : `~pathlib.Path`
        A masked exposure. CRDS is asked in the context in which it was flat-fielded.

    Returns
    -------
    sci : (ny, nx) float32 array
        NaN where it is not to be used.
    name : str
        Of the file.

    Raises
    ------
    StepError
        If CRDS cannot be asked, or has none.
    """
    from stdatamodels.jwst import datamodels

    model, context = _model(exposure, 0.0)
    with _crds(exposure.name, "find its background", context):
        import crds

        wanted = {"reftypes": ["bkg"], "observatory": "jwst"}
        path = crds.getreferences(model.get_crds_parameters(), **wanted)["bkg"]
        if "N/A" in path.upper():
            raise StepError(f"{exposure.name}: CRDS has no background for it")
        with datamodels.WfssBkgModel(path) as reference:
            flag = datamodels.dqflags.pixel["DO_NOT_USE"]
            unusable = (reference.data == 0) | (reference.dq & flag > 0)
            if unusable.shape != model.data.shape:
                raise StepError(f"{Path(path).name} has another size than {exposure.name}")
            model.data = np.where(unusable, np.nan, reference.data).astype(np.float32)
    with _call_step(model, name=exposure.name, context=context) as result:
        return np.array(result.data, dtype=np.float32), Path(path).name


def _model(exposure: Path, value: float) -> tuple[Any, str]:
    """An image of a value with the metadata of a masked exposure, and its CRDS context."""
    from stdatamodels.jwst import datamodels

    try:
        with datamodels.ImageModel(str(exposure)) as template:
            model = datamodels.ImageModel(np.full(template.shape, value, dtype=np.float32))
            model.update(template, only="PRIMARY")
            context = template.meta.ref_file.crds.context_used
    except Exception as error:  # whatever a damaged file makes of it
        raise StepError(
            f"{exposure}, whose flat field is asked for, cannot be read "
            f"({first_line(error)}). Run makeMask.py again"
        ) from error
    for name in ("err", "var_rnoise", "var_poisson"):
        setattr(model, name, np.zeros_like(model.data))
    model.dq = np.zeros(model.data.shape, dtype=np.uint32)
    return model, context


def _call_step(exposure: object, *, name: str, context: str | None, inverse: bool = False):  # noqa: ANN202
    """Run FlatFieldStep; `exposure` is a path or a datamodel."""
    with _crds(name, "flat-field it", context):
        step = _flat_field_step()
        # crds sets its own level when it is imported.
        logging.getLogger("CRDS").setLevel(logging.getLogger("jwst").getEffectiveLevel())
        result = step.call(exposure, inverse=inverse, configure_log=False)
    if result.meta.cal_step.flat_field != "COMPLETE":
        raise StepError(f"{name}: CRDS has no flat-field reference file for it")
    return result


@contextmanager
def _crds(name: str, task: str, context: str | None) -> Iterator[None]:
    """Where the pipeline asks CRDS: in a context, with its errors in words."""
    for key, value in (CRDS_DEFAULTS | MODEL_DEFAULTS).items():
        os.environ.setdefault(key, value)
    try:
        with _crds_context(context):
            yield
    except StepError:
        raise
    except (Exception, SystemExit) as error:  # crds and jwst raise all kinds
        raise PipelineError(
            f"{name}: the JWST pipeline could not {task} "
            f"({type(error).__name__}: {first_line(error)}). "
            f"Reference files are looked for in CRDS_PATH={os.environ['CRDS_PATH']} and at "
            f"CRDS_SERVER_URL={os.environ['CRDS_SERVER_URL']}"
        ) from error


@cache
def _flat_field_step():  # noqa: ANN202
    """The pipeline's step; to import it takes half a second."""
    from jwst.flatfield import FlatFieldStep

    # The step looks for garbage each time it is run: a sixth of its time, if it looks among all
    # that was imported.
    gc.freeze()
    return FlatFieldStep


@contextmanager
def _crds_context(context: str | None) -> Iterator[None]:
    """Let CRDS choose reference files as in a context; None: as the user's environment says."""
    former = os.environ.get("CRDS_CONTEXT")
    if context:
        os.environ["CRDS_CONTEXT"] = context
    try:
        yield
    finally:
        os.environ.pop("CRDS_CONTEXT", None)
        if former is not None:
            os.environ["CRDS_CONTEXT"] = former


def _used(model) -> dict[str, str]:  # noqa: ANN001
    references = model.meta.ref_file
    values = (
        references.flat.name,
        references.crds.context_used,
        references.crds.sw_version,
        model.meta.calibration_software_version,
    )
    return {key: str(value) for key, value in zip(USED, values, strict=True)}
