"""A local CRDS cache with the reference files of the simulated instrument.

With the environment variables of `environment`, the crds client and the JWST pipeline use it like
a cache that was filled from the CRDS server.
"""

import hashlib
import pprint
import tempfile
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
from astropy.io import fits
from stdatamodels.jwst.datamodels import FlatModel, JwstDataModel, WfssBkgModel

from demo import detector, optics, traces
from demo.optics import DEFAULT_INSTRUMENT, frame_scale

CONTEXT = "jwst_9001.pmap"
INSTRUMENT_MAPPING = "jwst_niriss_9001.imap"
USE_AFTER = "2022-01-01T00:00:00"
PARAMETERS = (
    "META.EXPOSURE.TYPE",
    "META.INSTRUMENT.DETECTOR",
    "META.INSTRUMENT.FILTER",
    "META.INSTRUMENT.PUPIL",
)
# Reference types that the pipeline's steps ask for, but that this instrument does not have.
ABSENT_TYPES = (
    "DFLAT",
    "FFLAT",
    "SFLAT",
    "PARS-BACKGROUNDSTEP",
    "PARS-CLEANFLICKERNOISESTEP",
    "PARS-FLATFIELDSTEP",
    "WAVELENGTHRANGE",
)
FLAGS = ("DO_NOT_USE", "NO_FLAT_FIELD", "REFERENCE_PIXEL")


def environment(folder: str | Path) -> dict[str, str]:
    """Environment variables with which crds uses only this cache."""
    return {
        "CRDS_PATH": str(folder),
        "CRDS_SERVER_URL": "https://crds-serverless.invalid",
        "CRDS_MODE": "local",
    }


def official_background(
    grating: str, filter_name: str, npix: int, instrument: int = DEFAULT_INSTRUMENT
) -> np.ndarray:
    """A background like that of reference files made before launch: close to the truth, but wrong.

    Its steps are displaced, the spots and the dust are missing, and it has a smooth error.

    Parameters
    ----------
    grating, filter_name, npix, instrument
        As for `demo.optics.sky_background`.

    Returns
    -------
    ndarray, float32, shape (npix, npix)
        With the flat field in; 0 on reference pixels.
    """
    rng = np.random.default_rng([instrument, 30])
    background = optics.sky_background(
        grating, filter_name, npix, 0.8, instrument=instrument, clean=True
    )
    shift = max(round(5 * frame_scale(npix)), 1)
    axis = 1 if grating == "GR150C" else 0
    padding = [(0, 0), (0, 0)]
    padding[axis] = (shift, 0)
    shifted = np.pad(background, padding, mode="edge")[:npix, :npix]
    shifted *= 1 + 0.012 * detector.smooth_field(rng, npix, 5)
    shifted *= detector.true_flat(npix, filter_name, instrument)
    shifted[detector.reference_pixels(npix)] = 0
    return shifted.astype(np.float32)


def background_of_2025(
    grating: str, filter_name: str, npix: int, instrument: int = DEFAULT_INSTRUMENT
) -> np.ndarray:
    """A background as far from the truth as the instrument team's files of 2025 may be.

    Their residuals are below 1 % of the sky (arXiv 2507.10650); half of the variance here is of
    pixels, half is smooth.

    Parameters
    ----------
    grating, filter_name, npix, instrument
        As for `demo.optics.sky_background`.

    Returns
    -------
    ndarray, float32, shape (npix, npix)
        Without the flat field; 0 on reference pixels.
    """
    rng = np.random.default_rng([instrument, 40])
    truth = optics.sky_background(grating, filter_name, npix, instrument=instrument)
    smooth, pixels = detector.smooth_field(rng, npix, 5), rng.standard_normal((npix, npix))
    off = smooth / smooth.std() + pixels
    background = truth * (1 + 0.01 * off / off.std())
    background[detector.reference_pixels(npix)] = 0
    return background.astype(np.float32)


def write_background_of_2025(path: Path, grating: str, filter_name: str, npix: int) -> None:
    """Write it to a file for grizli, as Zenodo has them, unless it is there."""
    if path.exists():
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    primary = fits.PrimaryHDU()
    primary.header["FILTER"], primary.header["PUPIL"] = grating, filter_name
    primary.header["FIXFLAT"] = (True, "the flat field is divided out")
    image = fits.ImageHDU(background_of_2025(grating, filter_name, npix), name="SCI")
    whole = path.with_suffix(".partial")
    fits.HDUList([primary, image]).writeto(whole, overwrite=True)
    whole.replace(path)


def _describe(
    model: JwstDataModel,
    reftype: str,
    exp_type: str,
    grating: str,
    filter_name: str,
    use_after: str = USE_AFTER,
) -> None:
    """Fill in the metadata of a reference file and the definition of its flags."""
    meta = model.meta
    meta.telescope, meta.reftype = "JWST", reftype
    meta.instrument.name, meta.instrument.detector = "NIRISS", "NIS"
    meta.instrument.filter, meta.instrument.pupil = grating, filter_name
    meta.exposure.type = exp_type
    npix = model.data.shape[0]
    meta.subarray.name = "FULL"
    meta.subarray.xstart = meta.subarray.ystart = 1
    meta.subarray.xsize = meta.subarray.ysize = npix
    meta.subarray.fastaxis, meta.subarray.slowaxis = -2, -1
    meta.author, meta.pedigree, meta.useafter = "wfssbkg demo", "DUMMY", use_after
    meta.description = "Simulated, for the demo only"
    model.add_history_entry("Simulated by wfssbkg's demo; not from the telescope.")
    # When it is written, the model translates its flags into the bits defined here.
    model.dq_def = np.array(
        [(bit, 2**bit, name, name.replace("_", " ").lower()) for bit, name in enumerate(FLAGS)],
        dtype=[("BIT", "i4"), ("VALUE", "u4"), ("NAME", "S40"), ("DESCRIPTION", "S80")],
    )


def _save(model: JwstDataModel, path: Path) -> None:
    """Write a reference file without an ASDF extension, which CRDS does not accept."""
    with tempfile.TemporaryDirectory(prefix=".partial-", dir=path.parent) as folder:
        whole, stripped = Path(folder) / path.name, Path(folder) / "stripped.fits"
        model.save(whole)
        with fits.open(whole) as hdus:
            kept = fits.HDUList([hdu for hdu in hdus if hdu.name != "ASDF"])
            kept.writeto(stripped)
        stripped.replace(path)


def _write_references(
    folder: Path,
    npix: int,
    combinations: list[tuple[str, str]],
    instrument: int,
    epochs: tuple[str, ...],
) -> dict[str, dict[tuple, dict[str, str]]]:
    """Write all reference files.

    Returns their names by reference type, selection parameters and USEAFTER.
    """
    chosen = {"FLAT": {}, "BKG": {}}
    border = detector.reference_pixels(npix)
    wanted = {(optics.exposure_type(name), name, blocking) for name, blocking in combinations}
    wanted |= {("NIS_IMAGE", "CLEAR", filter_name) for _, filter_name in combinations}
    for number, (exp_type, grating, filter_name) in enumerate(sorted(wanted), start=1):
        selection = exp_type, "NIS", grating, filter_name
        flat, error, dq = detector.reference_flat(npix, filter_name, instrument)
        names = chosen["FLAT"][selection] = {}
        for count, epoch in enumerate(epochs):
            name = names[epoch] = f"jwst_niriss_flat_{9000 + 100 * count + number}.fits"
            with FlatModel(data=flat, err=error, dq=dq.astype(np.uint32)) as model:
                _describe(model, "FLAT", exp_type, grating, filter_name, epoch)
                _save(model, folder / name)
        if exp_type != "NIS_WFSS":
            continue
        background = official_background(grating, filter_name, npix, instrument)
        dq = np.where(border, detector.FLAG["REFERENCE_PIXEL"] | detector.FLAG["DO_NOT_USE"], 0)
        name = f"jwst_niriss_bkg_{9000 + number}.fits"
        with WfssBkgModel(data=background, err=0.01 * background, dq=dq.astype(np.uint32)) as model:
            _describe(model, "BKG", exp_type, grating, filter_name)
            model.meta.bunit_data = "DN/s"
            _save(model, folder / name)
        chosen["BKG"][selection] = {USE_AFTER: name}
    return chosen


def _write_cleaning(folder: Path, parameters: dict) -> dict[tuple, dict[str, str]]:
    """Write parameters of the pipeline's step that cleans 1/f noise, for all spectra."""
    from jwst.clean_flicker_noise import CleanFlickerNoiseStep

    name = "jwst_niriss_pars-cleanflickernoisestep_9001.asdf"
    CleanFlickerNoiseStep(**parameters).export_config(folder / name)
    return {("NIS_WFSS", "NIS", "ANY", "ANY"): {USE_AFTER: name}}


def _write_mapping(path: Path, header: dict, selector: str) -> None:
    """Write one CRDS mapping with its checksum."""
    from crds.refactoring.checksum import update_checksum

    header = {
        **header,
        "derived_from": "made by wfssbkg's demo",
        "name": path.name,
        "observatory": "JWST",
        "sha1sum": "0" * 40,
    }
    path.write_text(f"header = {pprint.pformat(header)}\n\nselector = {selector}\n")
    update_checksum(str(path))


def _write_mappings(folder: Path, chosen: dict[str, dict[tuple, dict[str, str]]]) -> list[str]:
    """Write the context, the instrument's mapping and those of its reference types."""
    types = {}
    for kind, files in chosen.items():
        name = types[kind] = f"jwst_niriss_{kind.lower()}_9001.rmap"
        header = {
            "classes": ("Match", "UseAfter"),
            "file_ext": ".asdf" if kind.startswith("PARS") else ".fits",
            "filekind": kind,
            "filetype": kind,
            "instrument": "NIRISS",
            "mapping": "REFERENCE",
            "parkey": (PARAMETERS, ("META.OBSERVATION.DATE", "META.OBSERVATION.TIME")),
            "suffix": kind.lower(),
            "text_descr": f"Simulated {kind}",
        }
        cases = ""
        for selection, by_date in sorted(files.items()):
            dated = "".join(
                f"        {date.replace('T', ' ')!r} : {file!r},\n"
                for date, file in sorted(by_date.items())
            )
            cases += f"    {selection!r} : UseAfter({{\n{dated}    }}),\n"
        if kind in ("BKG", "WFSSBKG"):  # as in CRDS, there is no background for direct images
            cases += "    ('NOT NIS_WFSS', 'ANY', 'ANY', 'ANY') : 'N/A',\n"
        _write_mapping(folder / name, header, f"Match({{\n{cases}}})")
    instrument = {"instrument": "NIRISS", "mapping": "INSTRUMENT", "parkey": ("REFTYPE",)}
    entries = dict.fromkeys(ABSENT_TYPES, "N/A") | types
    _write_mapping(folder / INSTRUMENT_MAPPING, instrument, pprint.pformat(entries))
    pipeline = {"mapping": "PIPELINE", "parkey": ("META.INSTRUMENT.NAME",)}
    _write_mapping(folder / CONTEXT, pipeline, pprint.pformat({"NIRISS": INSTRUMENT_MAPPING}))
    return [CONTEXT, INSTRUMENT_MAPPING, *types.values()]


def _write_server_config(path: Path, mappings: list[str]) -> None:
    """Write the answer that the client would have stored at its last contact with the server."""
    nowhere = environment("")["CRDS_SERVER_URL"]
    config = {
        "bad_files_list": [],
        "bad_files": "",
        "connected": False,
        "context_history": [],
        "crds_version": {"str": "14.0.0"},
        "edit_context": CONTEXT,
        "force_remote_mode": False,
        "last_synced": f"{datetime.now(UTC):%Y-%m-%d %H:%M:%S}",
        "mapping_url": {"jwst": f"{nowhere}/mappings/jwst"},
        "mappings": mappings,
        "max_bestrefs_per_rpc": 1000,
        "max_headers_per_rpc": 1000,
        "observatory": "jwst",
        "operational_context": CONTEXT,
        "reference_url": {"jwst": f"{nowhere}/references/jwst"},
        "server": nowhere,
        "status": "cache",
        "versions_context": "crds-versions.txt",
    }
    path.write_text(pprint.pformat(config) + "\n")


def build_cache(
    folder: str | Path,
    npix: int,
    combinations: Iterable[tuple[str, str]],
    *,
    instrument: int = DEFAULT_INSTRUMENT,
    epochs: tuple[str, ...] = (USE_AFTER,),
    background_type: str = "BKG",
    cleaning: dict | None = None,
) -> Path:
    """Make a CRDS cache with flat fields and backgrounds of the simulated instrument.

    A cache that the same code made with the same arguments is kept.

    Parameters
    ----------
    folder : path
        The cache, for CRDS_PATH.
    npix : int
        Side of the detector in pixels.
    combinations : sequence of (str, str)
        Grating (or CLEAR) and blocking filter. Direct images through the same blocking filters
        get a flat field as well, but no background, since CRDS has none.
    instrument : int
        Seed of the instrument's individual features.
    epochs : tuple of str
        USEAFTER of the flat fields, one for each epoch. Their pixels are the same in all.
    background_type : str
        WFSSBKG as in contexts of before jwst 1.20, which do not know BKG.
    cleaning : dict, optional
        Parameters that CRDS is to name for the step that cleans 1/f noise; default: none.

    Returns
    -------
    Path
        The cache's folder, absolute.
    """
    folder, combinations = Path(folder).resolve(), sorted(set(map(tuple, combinations)))
    made_of = npix, combinations, instrument, epochs, background_type, cleaning
    digest = hashlib.sha256(repr(made_of).encode())
    for module in (optics.__file__, traces.__file__, detector.__file__, __file__):
        digest.update(Path(module).read_bytes())
    recipe = folder / "recipe.txt"
    if recipe.is_file() and recipe.read_text() == digest.hexdigest():
        return folder
    recipe.unlink(missing_ok=True)
    references = folder / "references" / "jwst" / "niriss"
    mappings, config = folder / "mappings" / "jwst", folder / "config" / "jwst"
    for needed in (references, mappings, config):
        needed.mkdir(parents=True, exist_ok=True)
    for stale in references.glob("jwst_niriss_*_9???.fits"):
        stale.unlink()
    chosen = _write_references(references, npix, combinations, instrument, epochs)
    chosen[background_type] = chosen.pop("BKG")
    if cleaning is not None:
        chosen["PARS-CLEANFLICKERNOISESTEP"] = _write_cleaning(references, cleaning)
    _write_server_config(config / "server_config", _write_mappings(mappings, chosen))
    recipe.write_text(digest.hexdigest())
    return folder
