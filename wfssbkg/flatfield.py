"""The JWST pipeline's flat-field step, forward and inverse."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from astropy.io import fits

from wfssbkg import StepError, fields

# Where the JWST pipeline finds reference files unless the user's environment says otherwise:
# https://jwst-crds.stsci.edu/docs/cmdline_bestrefs
CRDS_DEFAULTS = {
    "CRDS_SERVER_URL": "https://jwst-crds.stsci.edu",
    "CRDS_PATH": str(Path.home() / "crds_cache"),
}

# Checking every keyword against its schema as it is set takes a tenth of the time of an exposure,
# and is for files that are to be archived (environment variable of stdatamodels).
MODEL_DEFAULTS = {"VALIDATE_ON_ASSIGNMENT": "false"}


@dataclass
class FlatFielded:
    """A flat-fielded exposure.

    Attributes
    ----------
    sci : (ny, nx) float32 array
        Count rate divided by the flat field, DN/s.
    var_poisson, var_rnoise : (ny, nx) float32 arrays
        Variances of photon noise and of read noise, (DN/s)^2.
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


def flat_field(path: Path, *, context: str | None = None) -> FlatFielded:
    """
    Divide an exposure by the flat field that CRDS chooses.

    Parameters
    ----------
    path : `~pathlib.Path`
        A rate file.
    context : str, optional
        CRDS context, e.g. jwst_1365.pmap; default: the current one.

    Returns
    -------
    `FlatFielded`

    Raises
    ------
    StepError
        If the file is no sound rate file, or there is no flat field for it.
    """
    header = _check(path)
    result = _call_step(str(path), name=path.name, context=context)
    with result:
        for key, value in _used(result).items():
            header[key] = value
        return FlatFielded(
            sci=np.array(result.data, dtype=np.float32),
            var_poisson=np.array(result.var_poisson, dtype=np.float32),
            var_rnoise=np.array(result.var_rnoise, dtype=np.float32),
            dq=np.array(result.dq, dtype=np.uint32),
            header=header,
            pointing=fields.pointing(fits.getheader(path, "SCI")),
        )


def unflat(
    sci: np.ndarray, err: np.ndarray, exposure: Path
) -> tuple[np.ndarray, np.ndarray, dict[str, str]]:
    """
    Multiply an image by the flat field that CRDS chose for an exposure.

    Parameters
    ----------
    sci, err : (ny, nx) float arrays
        A flat-fielded image and its uncertainty.
    exposure : `~pathlib.Path`
        A masked exposure: the one whose flat field is put back. CRDS is asked in the context in
        which it was divided by it, so that what was divided out is what comes back.

    Returns
    -------
    sci, err : (ny, nx) float32 arrays
    used : dict
        R_FLAT and CRDS_CTX.

    Raises
    ------
    StepError
        If there is no flat field.
    """
    from stdatamodels.jwst import datamodels

    model = datamodels.ImageModel(np.asarray(sci, dtype=np.float32))
    with datamodels.ImageModel(str(exposure)) as template:
        model.update(template, only="PRIMARY")
        context = template.meta.ref_file.crds.context_used
    model.err = np.asarray(err, dtype=np.float32)
    model.var_rnoise = np.square(model.err)
    model.var_poisson = np.zeros_like(model.err)
    model.dq = np.zeros(model.data.shape, dtype=np.uint32)
    with _call_step(model, name=exposure.name, context=context, inverse=True) as result:
        # The step blanks pixels that have no flat field; there the flat field is 1.
        has_flat = np.isfinite(result.data)
        flat_in = np.where(has_flat, result.data, sci), np.where(has_flat, result.err, err)
        return *(image.astype(np.float32) for image in flat_in), _used(result)


def _check(path: Path) -> fits.Header:
    """The primary header of a rate file, if it has the parts of one."""
    try:
        with fits.open(path, memmap=True) as hdus:
            shapes = {name: hdus[name].shape for name in ("SCI", "ERR", "DQ") if name in hdus}
            header = hdus[0].header.copy(strip=True)
    except FileNotFoundError:
        raise StepError(f"{path} is missing. Run queryData.py again") from None
    except (OSError, ValueError, TypeError, IndexError) as error:
        raise StepError(f"{path.name} is not a readable FITS file ({error})") from None
    missing = {"SCI", "ERR", "DQ"} - set(shapes)
    if missing:
        raise StepError(f"{path.name} has no extension {', '.join(sorted(missing))}")
    if len(set(shapes.values())) != 1 or len(shapes["SCI"]) != 2:
        raise StepError(f"{path.name}: SCI, ERR and DQ are not images of one size: {shapes}")
    return header


def _call_step(exposure: object, *, name: str, context: str | None, inverse: bool = False):  # noqa: ANN202
    """Run FlatFieldStep; `exposure` is a path or a datamodel."""
    for key, value in (CRDS_DEFAULTS | MODEL_DEFAULTS).items():
        os.environ.setdefault(key, value)
    from jwst.flatfield import FlatFieldStep

    # crds sets its own level when it is imported.
    logging.getLogger("CRDS").setLevel(logging.getLogger("jwst").getEffectiveLevel())
    try:
        with _crds_context(context):
            result = FlatFieldStep.call(exposure, inverse=inverse, configure_log=False)
    except (Exception, SystemExit) as error:  # crds and jwst raise all kinds
        raise StepError(
            f"{name}: the JWST pipeline could not flat-field it "
            f"({type(error).__name__}: {str(error).strip().splitlines()[:1] or ''}). "
            f"Reference files are looked for in CRDS_PATH={os.environ['CRDS_PATH']} and at "
            f"CRDS_SERVER_URL={os.environ['CRDS_SERVER_URL']}"
        ) from error
    if result.meta.cal_step.flat_field != "COMPLETE":
        raise StepError(f"{name}: CRDS has no flat-field reference file for it")
    return result


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
    return {
        "R_FLAT": str(model.meta.ref_file.flat.name),
        "CRDS_CTX": str(model.meta.ref_file.crds.context_used),
        "CRDS_VER": str(model.meta.ref_file.crds.sw_version),
        "CAL_VER": str(model.meta.calibration_software_version),
    }
