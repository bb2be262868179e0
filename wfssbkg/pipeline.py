"""The JWST pipeline and CRDS: flat field, forward and back, 1/f noise, the background CRDS has."""

import io
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, redirect_stderr, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import crds
import numpy as np
from astropy.io import fits
from crds.core.exceptions import CrdsUnknownInstrumentError
from crds.core.utils import clear_function_caches
from jwst.clean_flicker_noise import CleanFlickerNoiseStep
from jwst.flatfield import FlatFieldStep
from stdatamodels.jwst import datamodels
from stpipe import config_parser

from wfssbkg.errors import StepError, first_line, printable
from wfssbkg.files import fits_file, flicker_noise, masked_exposure, rate
from wfssbkg.files.pointing import Pointing, read_pointing
from wfssbkg.layout import Combination

# Where the JWST pipeline finds reference files unless the user's environment says otherwise:
# https://jwst-crds.stsci.edu/docs/cmdline_bestrefs
CRDS_DEFAULTS = {
    "CRDS_SERVER_URL": "https://jwst-crds.stsci.edu",
    "CRDS_PATH": str(Path.home() / "crds_cache"),
}

# Keywords of the flat field, of the context in which CRDS chose it, of the versions of CRDS and of
# the pipeline.
USED = "R_FLAT", "CRDS_CTX", "CRDS_VER", "CAL_VER"


class PipelineError(StepError):
    """The pipeline or CRDS failed, perhaps only now, as while a reference file is downloaded."""


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
        Its world coordinates, from `wfssbkg.files.pointing`.
    """

    sci: np.ndarray
    var_poisson: np.ndarray
    var_rnoise: np.ndarray
    dq: np.ndarray
    header: fits.Header
    pointing: Pointing


def flat_field(
    path: Path,
    *,
    context: str | None = None,
    combination: Combination | None = None,
    cleaning: Mapping[str, Any] | None = None,
    full_frame: bool = True,
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
    cleaning : mapping, optional
        If it is given, 1/f noise is cleaned before, unless stage 1 did so: with the parameters that
        CRDS has, or else with these.
    full_frame : bool
        Whether an exposure of the combination has to be one of the whole frame.

    Returns
    -------
    `FlatFielded`

    Raises
    ------
    StepError
        If the file is no sound rate file, was flat-fielded, or is not of the combination, or there
        is no flat field for it.
    """
    header = rate.check(path)
    _check_belongs(header, combination, full_frame=full_frame)
    if rate.is_complete(header, "S_FLAT"):
        raise StepError("it is flat-fielded already (S_FLAT is COMPLETE). Expected a rate file")
    with fits_file.opened(path) as hdus:
        place = read_pointing(hdus["SCI"].header)
        known = hdus["ERR"].data > 0  # the step replaces ERR
    exposure: str | datamodels.ImageModel = str(path)
    before = flicker_noise.of_header(header)
    if cleaning is not None and before != flicker_noise.COMPLETE:
        exposure = _cleaned(path, cleaning, context)
        header["S_CLNFNS"] = (flicker_noise.COMPLETE, "1/f noise was cleaned")
        header[flicker_noise.KEYWORD_BEFORE] = (before, "S_CLNFNS of the rate file")
    with _flat_fielded(exposure, name=path.name, context=context) as result:
        for key, value in _used(result).items():
            header[key] = value  # and keep the comment, which `update` does not
        return FlatFielded(
            sci=np.array(result.data, dtype=np.float32),
            var_poisson=np.where(known, result.var_poisson, np.float32(np.nan)),
            var_rnoise=np.where(known, result.var_rnoise, np.float32(np.nan)),
            dq=np.array(result.dq, dtype=np.uint32),
            header=header,
            pointing=place,
        )


def check_references(exposures: list[Path], context: str | None, cleaning: bool) -> None:
    """
    Ask CRDS for what some exposures need, and fetch it, before any work begins.

    Parameters
    ----------
    exposures : list of `~pathlib.Path`
        Rate files. What is wrong with one of them alone is told when it is worked on.
    context : str or None
        As for `flat_field`.
    cleaning : bool
        Whether their 1/f noise is to be cleaned.

    Raises
    ------
    PipelineError
        If CRDS cannot be asked, or files that it names are not to be had: names all of them.
    """
    kinds = ["flat"] + [CleanFlickerNoiseStep.get_config_reftype()] * cleaning
    wanted: dict[str, tuple[dict[str, Any], str]] = {}  # file name -> one exposure, and the type
    with _asking_crds(f"{len(exposures)} exposures", "get their reference files", context):
        for path in exposures:
            try:
                parameters = datamodels.read_metadata(path, flatten=True)
            except Exception:  # whatever a damaged file makes of it
                continue
            with suppress(CrdsUnknownInstrumentError):
                named = [_recommended(parameters, kind) for kind in kinds]
                wanted |= {found[1]: (parameters, found[0]) for found in named if found}
        lost = {}
        for name, (parameters, kind) in wanted.items():
            try:
                crds.getreferences(parameters, reftypes=[kind], observatory="jwst")
            except Exception as error:  # as below
                lost[name] = first_line(error)
    if lost:
        raise PipelineError(
            f"CRDS names {', '.join(lost)}, which the cache lacks and the server does not give "
            f"({next(iter(lost.values()))}). {_places()}"
        )


def _cleaned(
    path: Path, parameters: Mapping[str, Any], context: str | None
) -> datamodels.ImageModel:
    """A rate file without its 1/f noise, as stage 1 cleans it since build 12.3."""
    with (
        _asking_crds(path.name, "clean its 1/f noise", context),
        datamodels.open(str(path)) as model,
    ):
        named = _parameters_in_crds(model) or parameters
        step = CleanFlickerNoiseStep.from_config_section(config_parser.ConfigObj(dict(named)))
        result = step.run(model)
    status = result.meta.cal_step.clean_flicker_noise
    if status != flicker_noise.COMPLETE:
        raise StepError(f"the JWST pipeline did not clean its 1/f noise (S_CLNFNS {status})")
    return result


def _parameters_in_crds(model: datamodels.ImageModel) -> Mapping[str, Any]:
    """What CRDS names to clean 1/f noise; empty where it has nothing, or says to skip the step."""
    kind = CleanFlickerNoiseStep.get_config_reftype()
    path = _reference(model.get_crds_parameters(), kind)
    named = config_parser.load_config_file(path) if path else {}
    return {} if named.get("skip", False) in (True, "True", "true") else named


def _reference(parameters: Mapping[str, Any], *kinds: str) -> str | None:
    """The file that CRDS has of the first of some types that has one; fetched if need be.

    Contexts differ in the types that they know: asked for a file of another type, CRDS fails.
    """
    if not (found := _recommended(parameters, *kinds)):
        return None
    return crds.getreferences(parameters, reftypes=[found[0]], observatory="jwst")[found[0]]


def _recommended(parameters: Mapping[str, Any], *kinds: str) -> tuple[str, str] | None:
    """The first of some types of which CRDS has a file, and its name; nothing is fetched."""
    found = crds.getrecommendations(parameters, reftypes=list(kinds), observatory="jwst")
    for kind in kinds:
        if not found[kind].upper().startswith(("NOT FOUND", "N/A")):
            return kind, found[kind]
    return None


def _check_belongs(
    header: fits.Header, combination: Combination | None, *, full_frame: bool
) -> None:
    """Check that an exposure is of NIRISS and, if one is given, of a combination."""
    expected = {"TELESCOP": "JWST", "INSTRUME": "NIRISS", "DETECTOR": "NIS"}
    if combination:
        expected |= {
            "FILTER": combination.grating,
            "PUPIL": combination.filter,
            "EXP_TYPE": combination.exp_type,
        } | ({"SUBARRAY": "FULL"} if full_frame else {})
    for key, value in expected.items():
        if key not in header:
            raise StepError(f"its header has no {key}, expected {value}")
        if str(header[key]).strip().upper() != value:
            raise StepError(f"{key} is '{printable(str(header[key]))}', expected {value}")


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
        R_FLAT, CRDS_CTX, CRDS_VER and CAL_VER; and USEAFTER of the flat field, since when it is the
        one for exposures like this.

    Raises
    ------
    StepError
        If there is no flat field, or CRDS chooses another one than it did then.
    """
    found = _kept_flat(kept, exposure)
    if found:
        return found
    model, references = _like(exposure, 1.0)
    context = references.crds.context_used
    with _flat_fielded(model, name=exposure.name, context=context, inverse=True) as result:
        # The step blanks pixels that have no flat field.
        flat = np.where(np.isfinite(result.data), result.data, np.float32(1))
        used = _used(result)
        reference = crds.locate_file(used["R_FLAT"].removeprefix("crds://"), "jwst")
        used["USEAFTER"] = str(fits.getheader(reference)["USEAFTER"])
    if references.flat.name not in (None, used["R_FLAT"]):
        raise StepError(
            f"{exposure.name} was divided by {references.flat.name}, and CRDS gives "
            f"{used['R_FLAT']} for it now, in the same context {context}. Run makeMask.py "
            "--overwrite"
        )
    hdus = [fits.PrimaryHDU(header=fits.Header(used)), fits.ImageHDU(flat, name="FLAT")]
    fits_file.write(kept, hdus)
    return flat, used


def _kept_flat(kept: Path, exposure: Path) -> tuple[np.ndarray, dict[str, str]] | None:
    """What `flat_of` keeps, if it is there and of an exposure; else None."""
    header, of_image = masked_exposure.read_headers(exposure)
    used = {key: header.get(key) for key in USED}
    try:
        with fits_file.opened(kept) as hdus:
            fits_file.check_whole(kept, hdus)
            flat, found = hdus["FLAT"].data, {key: hdus[0].header[key] for key in USED}
            use_after = hdus[0].header["USEAFTER"]
    except StepError:
        return None
    same = found == used and flat.shape == (of_image["NAXIS2"], of_image["NAXIS1"])
    return (flat.astype(np.float32), used | {"USEAFTER": use_after}) if same else None


def with_flat(image: np.ndarray, exposure: Path, *, context: str | None) -> np.ndarray:
    """
    An image of a rate file's pixels times the flat field that CRDS has for it.

    Parameters
    ----------
    image : (ny, nx) float32 array
    exposure : `~pathlib.Path`
        The rate file.
    context : str or None
        As for `flat_field`.

    Returns
    -------
    (ny, nx) float32 array
        As it is where there is no flat field.

    Raises
    ------
    StepError
        If there is none at all.
    """
    return _flat_applied(image, exposure, context, inverse=True)


def without_flat(image: np.ndarray, exposure: Path, *, context: str | None) -> np.ndarray:
    """As `with_flat`, but divided by the flat field."""
    return _flat_applied(image, exposure, context, inverse=False)


def _flat_applied(
    image: np.ndarray, exposure: Path, context: str | None, *, inverse: bool
) -> np.ndarray:
    model, _ = _like(exposure, 0.0)
    model.data = image.astype(np.float32)
    with _flat_fielded(model, name=exposure.name, context=context, inverse=inverse) as result:
        # The step blanks pixels that have no flat field.
        return np.where(np.isfinite(result.data), result.data, image).astype(np.float32)


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
    model, references = _like(exposure, 0.0)
    context = references.crds.context_used
    with _asking_crds(exposure.name, "find its background", context):
        # Contexts of before jwst 1.20 know only wfssbkg.
        path = _reference(model.get_crds_parameters(), "bkg", "wfssbkg")
        if path is None:
            raise StepError(f"{exposure.name}: CRDS has no background for it")
        with datamodels.WfssBkgModel(path) as reference:
            flag = datamodels.dqflags.pixel["DO_NOT_USE"]
            unusable = (reference.data == 0) | (reference.dq & flag > 0)
            if unusable.shape != model.data.shape:
                raise StepError(f"{Path(path).name} has another size than {exposure.name}")
            model.data = np.where(unusable, np.nan, reference.data).astype(np.float32)
    with _flat_fielded(model, name=exposure.name, context=context) as result:
        return np.array(result.data, dtype=np.float32), Path(path).name


def _like(exposure: Path, value: float) -> tuple[datamodels.ImageModel, Any]:
    """An image of a value with the metadata of a masked exposure, and its reference files."""
    try:
        with datamodels.ImageModel(str(exposure)) as template:
            model = datamodels.ImageModel(np.full(template.shape, value, dtype=np.float32))
            model.update(template, only="PRIMARY")
            references = template.meta.ref_file
    except Exception as error:  # whatever a damaged file makes of it
        raise StepError(
            f"{exposure}, whose flat field is asked for, cannot be read "
            f"({first_line(error)}). Run makeMask.py again"
        ) from error
    for name in ("err", "var_rnoise", "var_poisson"):
        setattr(model, name, np.zeros_like(model.data))
    model.dq = np.zeros(model.data.shape, dtype=np.uint32)
    return model, references


def _flat_fielded(
    exposure: str | datamodels.ImageModel, *, name: str, context: str | None, inverse: bool = False
) -> datamodels.ImageModel:
    """What FlatFieldStep makes of an exposure."""
    with _asking_crds(name, "flat-field it", context):
        result = FlatFieldStep.call(exposure, inverse=inverse, configure_log=False)
    if result.meta.cal_step.flat_field != "COMPLETE":
        raise StepError(f"{name}: CRDS has no flat-field reference file for it")
    found = result.meta.ref_file.crds.context_used
    if context and found != context:
        raise StepError(f"{name}: CRDS answered in the context {found}, asked in {context}")
    return result


_asked_with: dict[str, str] = {}  # the environment that CRDS was asked with the last time


@contextmanager
def _asking_crds(name: str, task: str, context: str | None) -> Iterator[None]:
    """
    Where the pipeline asks CRDS: in a context, or as the environment says; with errors in words.

    The JWST pipeline hands no context to CRDS, which takes it from the environment once and
    remembers it for the rest of the process: its memory is cleared where the environment changes.
    """
    for key, value in CRDS_DEFAULTS.items():
        os.environ.setdefault(key, value)
    former = os.environ.get("CRDS_CONTEXT")
    if context:
        os.environ["CRDS_CONTEXT"] = context
    asked_with = {key: value for key, value in os.environ.items() if key.startswith("CRDS_")}
    if asked_with != _asked_with:
        clear_function_caches()
        _asked_with.clear()
        _asked_with.update(asked_with)
    try:
        with redirect_stderr(io.StringIO()):  # where crds prints tracebacks of what it raises
            yield
    except StepError:
        raise
    except (Exception, SystemExit) as error:  # crds and jwst raise many kinds of errors
        why = f"{type(error).__name__}: {first_line(error)}"
        if isinstance(error, SystemExit):  # so crds ends where it has no context at all
            why = "the CRDS server does not answer, and the cache is empty"
        where = f" in the context {context}" if context else ""
        raise PipelineError(
            f"{name}: the JWST pipeline could not {task}{where} ({why}). {_places()}"
        ) from error
    finally:
        os.environ.pop("CRDS_CONTEXT", None)
        if former is not None:
            os.environ["CRDS_CONTEXT"] = former


def _places() -> str:
    """Where CRDS looks for reference files."""
    return (
        f"Reference files are looked for in CRDS_PATH={os.environ['CRDS_PATH']}, the cache, and at "
        f"CRDS_SERVER_URL={os.environ['CRDS_SERVER_URL']}, the CRDS server"
    )


def _used(model: datamodels.ImageModel) -> dict[str, str]:
    """The keywords `USED`."""
    references, version = model.meta.ref_file, model.meta.calibration_software_version
    crds_used = references.crds.context_used, references.crds.sw_version
    return dict(zip(USED, map(str, (references.flat.name, *crds_used, version)), strict=True))
