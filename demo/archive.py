"""A simulated MAST: rate files, the truth behind them, and the catalogue that describes them.

An archive is a folder with the rate files of its exposures, ``truth/<GRATING>-<FILTER>.fits``
and ``catalog.json``. Files that exist and were made by the same recipe are kept.
"""

import hashlib
import multiprocessing
import tempfile
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from functools import lru_cache, partial
from pathlib import Path

import numpy as np
from astropy import units as u
from astropy.coordinates import SkyCoord
from astropy.io import fits
from astropy.time import Time, TimeDelta
from jwst.clean_flicker_noise import CleanFlickerNoiseStep
from stdatamodels.jwst.datamodels import FlatModel, ImageModel

from demo import defects, detector, extended, optics, scene
from demo.catalog import reprocess, up_to_date, write_catalog
from demo.crds_cache import CONTEXT
from demo.exposures import (
    CLUSTER_DENSITY,
    Exposure,
    accuracy_exposures,
    demo_exposures,
    footprint,
    star_position,
)
from demo.optics import DEFAULT_INSTRUMENT
from demo.traces import WHEEL_POSITION

__all__ = [
    "Exposure",
    "accuracy_exposures",
    "demo_exposures",
    "reprocess",
    "simulate_archive",
    "simulate_exposure",
    "truth_background",
]

RECIPE_KEYWORD = "SIMRECIP"
PERSISTENT_DENSITY = 1500.0  # stars per arcmin^2 in the crowded field that leaves an afterglow
# As in rate files of 2022 to 2026: V2 and V3 of the reference point in arcsec, and the angle of the
# detector's y axis from V3 in deg.
REFERENCE_POINT = (-291.219, -698.181)
V3_ANGLE = 0.56987
# Of the pipeline's step, as far as they are known for WFSS: STScI's own tool for it, and the step
# with this method, fit a smooth background to the flat-fielded image and clean whole columns.
CLEANING = {"skip": False, "background_method": "model", "apply_flat_field": True}
MODULES = (
    "archive", "catalog", "defects", "detector", "effects", "exposures", "extended", "optics",
    "scene", "traces",
)  # fmt: skip


def _direct_images(
    spec: Exposure, sources: scene.Sources, npix: int, mirror: np.ndarray
) -> tuple[np.ndarray, np.ndarray | float]:
    """Images of sources behind the mirror, plain and times spectral slope; their emission lines."""
    wcs = scene.pointing_wcs(spec.ra, spec.dec, spec.roll, npix)
    x, y = wcs.all_world2pix(sources.ra, sources.dec, 0)
    if spec.effects.distortion:
        x, y = scene.distorted(x, y, npix)
    edge = scene.STAMP_EDGE * (20 if spec.contamination == "crowded" else 1)
    images = scene.render(sources, x, y, npix, edge=edge) * mirror
    if spec.grating == "CLEAR":
        return images, 0.0
    combination, rotation = (spec.grating, spec.filter), spec.effects.rotation
    return images, scene.emission_lines(sources, x, y, mirror, combination, npix, rotation)


def _sources(spec: Exposure, npix: int, seed: int) -> scene.Sources:
    """All sources of an exposure's field, and the star that contaminates the exposure."""
    rng = np.random.default_rng([seed, spec.program, spec.field])
    crowding = CLUSTER_DENSITY if spec.contamination == "crowded" else 0
    centre = spec.field_ra, spec.field_dec, spec.roll
    groups = [scene.field_sources(rng, *centre, npix, crowding=crowding)]
    if spec.effects.large_galaxies:
        own = np.random.default_rng([seed, spec.program, spec.field, 4])
        values = spec.effects.large_galaxies, spec.effects.cluster_light
        groups.append(extended.large_sources(own, centre, npix, *values))
    star = star_position(spec, npix)
    if star:
        groups.append(scene.point_sources(*star))
    return scene.merge(*groups)


def _starlight(spec: Exposure, npix: int, seed: int) -> np.ndarray:
    """Unresolved starlight before the mirror."""
    rng = np.random.default_rng([seed, spec.program, spec.field, 5])
    wcs = scene.pointing_wcs(spec.ra, spec.dec, spec.roll, npix)
    x, y = wcs.all_world2pix(spec.field_ra, spec.field_dec, 0)
    offset = float(x) - (npix - 1) / 2, float(y) - (npix - 1) / 2
    return extended.starlight(rng, spec.effects.starlight, npix, offset)


def light_on_detector(
    spec: Exposure, npix: int, *, seed: int, instrument: int = DEFAULT_INSTRUMENT
) -> np.ndarray:
    """Sky and sources of an exposure, without noise and flat field.

    Parameters
    ----------
    spec : Exposure
    npix : int
        Side of the detector in pixels.
    seed : int
        Seed of the sky.
    instrument : int
        Seed of the instrument's individual features.

    Returns
    -------
    ndarray, float32, shape (npix, npix)
        DN/s.
    """
    effects, combination = spec.effects, (spec.grating, spec.filter)
    sources = _sources(spec, npix, seed)
    sky = optics.sky_background(
        *combination, npix, spec.sky_colour, instrument=instrument, rotation=effects.rotation
    )
    mirror = optics.mirror_illumination(npix, instrument).astype(np.float32)
    images, lines = _direct_images(spec, sources, npix, mirror)
    if effects.starlight:
        images[0] += _starlight(spec, npix, seed) * mirror
    if sources.flux.max() > 1e5:
        images = images.astype(np.float64)  # rounding would leave noise far from a bright star
    dispersed = lines + optics.disperse(
        images[0], *combination, sloped=images[1], rotation=effects.rotation
    )
    light = (spec.sky_level * sky + np.maximum(dispersed, 0)).astype(np.float32)

    own = np.random.default_rng([seed, spec.program, spec.field, spec.dither, 1])
    if spec.contamination == "persistence":
        centre = spec.field_ra, spec.field_dec, spec.roll, npix
        earlier = scene.field_sources(own, *centre, crowding=PERSISTENT_DENSITY)
        images, _ = _direct_images(spec, earlier, npix, mirror)
        earlier_light = optics.disperse(images[0], *combination, rotation=effects.rotation)
        light += detector.afterglow(own, np.maximum(earlier_light, 0))
    if spec.contamination == "scattered light":
        light += detector.scattered_light(own, npix, spec.sky_level)
    if effects.light_saber:
        light += _light_saber(spec, npix, seed)
    return light


def true_sky(
    spec: Exposure, npix: int, *, seed: int, instrument: int = DEFAULT_INSTRUMENT
) -> np.ndarray:
    """What is no source in an exposure, as a flat-fielded image of it has it.

    Parameters
    ----------
    spec, npix, seed, instrument
        As for `light_on_detector`.

    Returns
    -------
    ndarray, float64, shape (npix, npix)
        Zodiacal light of its colour and rotation, scattered light and the dark residual, DN/s.
    """
    features = spec.grating, spec.filter, npix, spec.sky_colour
    sky = optics.sky_background(*features, instrument=instrument, rotation=spec.effects.rotation)
    scattered = _light_saber(spec, npix, seed)
    flat = detector.true_flat(npix, spec.filter, instrument)
    return spec.sky_level * sky + scattered + spec.effects.pedestal / flat


def _light_saber(spec: Exposure, npix: int, seed: int) -> np.ndarray | float:
    """The light saber of an exposure, DN/s."""
    if not spec.effects.light_saber:
        return 0.0
    features = np.random.default_rng([seed, 8])
    own = np.random.default_rng([seed, spec.program, spec.field, spec.dither, 6])
    peak = np.float32(spec.effects.light_saber * spec.sky_level)
    return peak * detector.light_saber(features, own, npix)


def simulate_exposure(
    spec: Exposure, npix: int, *, seed: int, instrument: int = DEFAULT_INSTRUMENT
) -> ImageModel:
    """Simulate one exposure.

    Parameters
    ----------
    spec : Exposure
    npix : int
        Side of the detector in pixels, from 128 to 2048.
    seed : int
        Seed of sky and noise.
    instrument : int
        Seed of the instrument's individual features: mirror, flat field, bad pixels.

    Returns
    -------
    ImageModel
        In the rate format: SCI, ERR, DQ, VAR_POISSON, VAR_RNOISE in DN/s, and metadata.
    """
    rng = np.random.default_rng([seed, spec.program, spec.field, spec.dither, 2])
    light = light_on_detector(spec, npix, seed=seed, instrument=instrument)
    dark, flags = defects.dark_and_flags(spec.effects, spec.date, npix, instrument)
    rate = detector.expose(
        light, spec.filter, spec.exposure_time, spec.readpatt, rng,
        dark=dark, flags=flags, common_noise=spec.effects.common_noise, instrument=instrument,
    )  # fmt: skip
    if spec.effects.row_jumps:
        own = np.random.default_rng([seed, spec.program, spec.field, spec.dither, 7])
        depth = spec.sky_level, spec.exposure_time
        jumps = detector.row_jumps(own, npix, spec.effects.row_jumps, *depth)
        rate.sci[...] += np.where(detector.reference_pixels(npix), 0, jumps)
    model = ImageModel(rate.sci)
    model.err, model.dq = rate.err, rate.dq
    model.var_poisson, model.var_rnoise = rate.var_poisson, rate.var_rnoise
    _describe(model, spec, npix)
    if spec.cleaning == "COMPLETE":
        return _cleaned(model, npix, instrument)
    return model


def _cleaned(model: ImageModel, npix: int, instrument: int) -> ImageModel:
    """An exposure without 1/f noise, as stage 1 leaves it since build 12.3; here after the fit."""
    flat, *_ = detector.reference_flat(npix, model.meta.instrument.pupil, instrument)
    step = CleanFlickerNoiseStep(**CLEANING)
    with FlatModel(data=flat) as reference:
        reference.update(model, only="PRIMARY")  # its size and detector
        step.override_flat = reference
        return step.process(model)  # `run` asks CRDS for its context


def _telescope_axis(spec: Exposure) -> tuple[float, float]:
    """RA and Dec, in deg, of the telescope's own axis, which is 12.6 arcmin from the detector."""
    centre = SkyCoord(spec.ra, spec.dec, unit="deg")
    v2, v3 = REFERENCE_POINT
    angle = np.degrees(np.arctan2(-v2, -v3)) + spec.roll - V3_ANGLE
    axis = centre.directional_offset_by(angle * u.deg, np.hypot(v2, v3) * u.arcsec)
    return axis.ra.deg, axis.dec.deg


def _describe(model: ImageModel, spec: Exposure, npix: int) -> None:
    """Fill in the metadata of an exposure."""
    meta = model.meta
    meta.telescope = "JWST"
    meta.filename = spec.filename
    meta.bunit_data = meta.bunit_err = "DN/s"
    meta.calibration_software_version = spec.cal_version
    meta.ref_file.crds.context_used = CONTEXT
    meta.program.pi_name = "Simulated"
    meta.program.title = "Simulated NIRISS WFSS archive"
    for step in ("dq_init", "saturation", "superbias", "refpix", "linearity", "dark_sub"):
        setattr(meta.cal_step, step, "COMPLETE")
    meta.cal_step.jump = meta.cal_step.ramp_fit = meta.cal_step.gain_scale = "COMPLETE"
    if spec.cleaning:
        meta.cal_step.clean_flicker_noise = spec.cleaning

    meta.instrument.name, meta.instrument.detector = "NIRISS", "NIS"
    meta.instrument.filter, meta.instrument.pupil = spec.grating, spec.filter
    if spec.grating in WHEEL_POSITION:  # of CLEAR, nobody asks
        meta.instrument.filter_position = WHEEL_POSITION[spec.grating] + spec.effects.rotation

    start = Time(spec.date, format="mjd")
    duration = TimeDelta(spec.exposure_time, format="sec")
    middle, end = start + duration / 2, start + duration
    observation = meta.observation
    observation.date, observation.time = start.isot.split("T")
    observation.date_beg, observation.date_end = start.isot, end.isot
    observation.program_number = f"{spec.program:05d}"
    observation.observation_number = f"{spec.field:03d}"
    observation.visit_number = "001"
    observation.visit_id = spec.rootname[2:13]
    observation.visit_group, group = spec.rootname[14:16], spec.rootname[14:19]
    observation.sequence_id, observation.activity_id = group[2], group[3:]
    observation.exposure_number = f"{spec.dither:05d}"
    observation.obs_id = f"V{observation.visit_id}P00000000{group}"

    exposure = meta.exposure
    exposure.type = spec.exposure_type
    exposure.readpatt = spec.readpatt
    exposure.nints, exposure.nframes, exposure.groupgap = 1, 4 if spec.readpatt == "NIS" else 1, 0
    exposure.noutputs, exposure.gain_factor = detector.AMPLIFIERS, 1.0
    exposure.group_time = detector.GROUP_TIME[spec.readpatt]
    exposure.frame_time = detector.GROUP_TIME["NISRAPID"]
    exposure.ngroups = max(round(spec.exposure_time / exposure.group_time), 1)
    exposure.integration_time = exposure.exposure_time = spec.exposure_time
    exposure.start_time, exposure.mid_time, exposure.end_time = start.mjd, middle.mjd, end.mjd

    subarray = meta.subarray
    subarray.name, subarray.xstart, subarray.ystart = spec.subarray, 1, 1
    subarray.xsize = subarray.ysize = npix
    # Readout directions of NIRISS in the science frame.
    subarray.fastaxis, subarray.slowaxis = -2, -1

    meta.target.ra, meta.target.dec = spec.target
    meta.target.catalog_name = f"FIELD-{spec.field}"
    meta.visit.type = spec.visit_type
    meta.visit.engdb_pointing_quality = "CALCULATED_TR_202105"
    meta.guidestar.gs_pcs_mode = "FINEGUIDE"
    meta.aperture.name = "NIS_CEN"
    meta.aperture.position_angle = spec.roll
    meta.pointing.pa_v3 = spec.roll - V3_ANGLE
    meta.pointing.ra_v1, meta.pointing.dec_v1 = _telescope_axis(spec)
    info = meta.wcsinfo
    info.ra_ref, info.dec_ref = spec.ra, spec.dec
    info.roll_ref = (spec.roll - V3_ANGLE) % 360
    info.v3yangle, info.vparity = V3_ANGLE, -1
    info.v2_ref, info.v3_ref = REFERENCE_POINT
    info.s_region = footprint(spec, npix)
    meta.coordinates.reference_frame = "ICRS"
    if spec.grating == "CLEAR":
        _add_world_coordinates(info, spec, npix)


def _add_world_coordinates(info: object, spec: Exposure, npix: int) -> None:
    """Fill in the FITS world coordinates; the archive's files of spectra have none."""
    wcs = scene.pointing_wcs(spec.ra, spec.dec, spec.roll, npix).wcs
    info.wcsaxes = 2
    info.ctype1, info.ctype2 = wcs.ctype
    info.cunit1 = info.cunit2 = "deg"
    info.crpix1, info.crpix2 = map(float, wcs.crpix)
    info.crval1, info.crval2 = spec.ra, spec.dec
    info.cdelt1, info.cdelt2 = map(float, wcs.cdelt)
    (info.pc1_1, info.pc1_2), (info.pc2_1, info.pc2_2) = wcs.pc.tolist()


def truth_background(
    exposures: list[Exposure], npix: int, instrument: int = DEFAULT_INSTRUMENT
) -> np.ndarray:
    """The background that clean exposures of one combination share, without flat field.

    Parameters
    ----------
    exposures : list of Exposure
        Exposures of one combination; contaminated ones are not used.
    npix, instrument
        As for `simulate_exposure`.

    Returns
    -------
    ndarray, float64, shape (npix, npix)
        Background for the mean colour of the sky, median 1 over the non-reference pixels.
    """
    first = exposures[0]
    colours = [spec.sky_colour for spec in exposures if spec.contamination is None]
    colour = float(np.mean(colours)) if colours else 0.0
    return optics.sky_background(first.grating, first.filter, npix, colour, instrument=instrument)


def cleaned_truth(
    exposures: list[Exposure], npix: int, instrument: int = DEFAULT_INSTRUMENT
) -> np.ndarray:
    """The background of exposures whose 1/f noise was cleaned: what the step leaves of the sky.

    The step takes sharp structure of the sky along with the noise. How much depends on the noise:
    without any, that structure stands out, and the step leaves it alone as if it were a source. So
    this is the mean of what it takes from the sky with the noise of each exposure.

    Parameters
    ----------
    exposures, npix, instrument
        As for `truth_background`.

    Returns
    -------
    ndarray, float64, shape (npix, npix)
        Without flat field and noise; median 1 over the non-reference pixels.
    """
    sky, taken = truth_background(exposures, npix, instrument), []
    for spec in [spec for spec in exposures if spec.contamination is None]:
        rng = np.random.default_rng([spec.program, spec.field, spec.dither, 3])
        light = (spec.sky_level * sky).astype(np.float32)
        options = spec.filter, spec.exposure_time, spec.readpatt, rng
        error = np.nan_to_num(detector.expose(light, *options, instrument=instrument).err)
        flat = detector.true_flat(npix, spec.filter, instrument)
        model = ImageModel((light * flat + rng.normal(0, error)).astype(np.float32))
        model.dq = np.where(detector.reference_pixels(npix), detector.FLAG["DO_NOT_USE"], 0)
        _describe(model, spec, npix)
        noise = model.data - _cleaned(model, npix, instrument).data
        taken.append(noise / (flat * spec.sky_level))
    cleaned = sky - np.mean(taken, axis=0)
    return cleaned / np.median(cleaned[~detector.reference_pixels(npix)])


@lru_cache(maxsize=1)
def _code_version() -> str:
    """Checksum of the simulator's code: changed code makes different exposures."""
    digest = hashlib.sha256()
    for module in sorted(Path(__file__).parent.glob("*.py")):
        if module.stem in MODULES:
            digest.update(module.read_bytes())
    return digest.hexdigest()


def _recipe(*parts: object) -> str:
    """Checksum of everything that determines a product."""
    return hashlib.sha256(repr((_code_version(), *parts)).encode()).hexdigest()[:40]


def _made_with(path: Path, recipe: str) -> bool:
    """Whether a file exists and was made by the recipe."""
    try:
        return fits.getval(path, RECIPE_KEYWORD) == recipe
    except (OSError, KeyError):
        return False


def _write_in_place(path: Path, write: Callable[[Path], object]) -> None:
    """Let `write(temporary path)` make a file, then rename it to `path`."""
    # The file has its final name in a temporary folder, because data models note the name.
    with tempfile.TemporaryDirectory(prefix=".partial-", dir=path.parent) as folder:
        temporary = Path(folder) / path.name
        write(temporary)
        temporary.replace(path)


def _write_exposure(spec: Exposure, folder: Path, npix: int, seed: int, instrument: int) -> Path:
    """Simulate one exposure into the archive, unless it exists."""
    path, recipe = folder / spec.filename, _recipe(spec, npix, seed, instrument)
    if _made_with(path, recipe):
        return path
    with simulate_exposure(spec, npix, seed=seed, instrument=instrument) as model:
        note = [RECIPE_KEYWORD, recipe, "simulated: checksum of the recipe"]
        model.extra_fits = {"PRIMARY": {"header": [note]}}
        _write_in_place(path, model.save)
    return path


def _write_truth(exposures: list[Exposure], folder: Path, npix: int, instrument: int) -> None:
    """Write the truth of one combination, unless it exists."""
    first = exposures[0]
    path = folder / f"{first.combination}.fits"
    recipe = _recipe("truth", exposures, npix, instrument)
    if _made_with(path, recipe):
        return
    spots, edges = optics.near_features(first.grating, first.filter, npix, instrument=instrument)
    hdus = fits.HDUList(
        [
            fits.PrimaryHDU(),
            fits.ImageHDU(truth_background(exposures, npix, instrument), name="SCI"),
            fits.ImageHDU(spots.astype(np.uint8), name="SPOTS"),
            fits.ImageHDU(edges.astype(np.uint8), name="EDGES"),
        ]
    )
    hdus[0].header[RECIPE_KEYWORD] = recipe
    hdus[0].header["FILTER"], hdus[0].header["PUPIL"] = first.grating, first.filter
    _write_in_place(path, hdus.writeto)


def simulate_archive(
    folder: str | Path,
    exposures: list[Exposure],
    npix: int = optics.FULL_FRAME,
    workers: int = 1,
    seed: int = 0,
    *,
    instrument: int = DEFAULT_INSTRUMENT,
) -> Path:
    """Write an archive: rate files, truth, catalogue.

    Files that exist and were made by the same recipe are kept: an interrupted run continues.

    Parameters
    ----------
    folder : path
        The archive's folder, which is made if need be.
    exposures : list of Exposure
    npix : int
        Side of the detector in pixels.
    workers : int
        Number of processes.
    seed : int
        Seed of sky and noise.
    instrument : int
        Seed of the instrument's individual features.

    Returns
    -------
    Path
        The catalogue, ``catalog.json``.
    """
    folder = Path(folder).resolve()
    (folder / "truth").mkdir(parents=True, exist_ok=True)
    for combination in sorted({spec.combination for spec in exposures}):
        members = [spec for spec in exposures if spec.combination == combination]
        _write_truth(members, folder / "truth", npix, instrument)
    write = partial(_write_exposure, folder=folder, npix=npix, seed=seed, instrument=instrument)
    missing = [
        spec
        for spec in exposures
        if not _made_with(folder / spec.filename, _recipe(spec, npix, seed, instrument))
    ]
    if workers > 1 and len(missing) > 1:
        context = multiprocessing.get_context("spawn")
        with ProcessPoolExecutor(min(workers, len(missing)), mp_context=context) as pool:
            list(pool.map(write, missing))
    else:
        for spec in missing:
            write(spec)
    catalog = folder / "catalog.json"
    recipe = _recipe("catalog", exposures, npix, seed, instrument)
    if not up_to_date(catalog, recipe):
        write_catalog(catalog, recipe, exposures, npix, seed)
    return catalog
