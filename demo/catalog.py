"""The catalogue of a simulated archive: MAST's rows for its files, and Gaia's stars.

Besides the rows of the files there are rows that a client has to filter out: other modes,
product levels and subarrays, and exposures that are not public. Some values are null, and some
numbers are strings.
"""

import hashlib
import json
from datetime import datetime, timedelta
from pathlib import Path

import numpy as np
from astropy.coordinates import SkyCoord
from astropy.io import fits

from demo.crds_cache import CONTEXT
from demo.exposures import Exposure, footprint, star_position
from demo.optics import FILTERS

RANDOM_STARS = 400
CLEAR_RADIUS = 3.0  # arcmin; no random star is so near to a clean field
PROPER_MOTION = (240.0, -175.0)  # mas/yr in RA cos Dec and Dec, of the contaminating stars
GAIA_EPOCH = 57388.0  # MJD of 2016.0
PROPRIETARY_DAYS = 365.0
FILE_SIZE = 84_000_000  # bytes; of files that exist only in the catalogue


def _iso(mjd: float) -> str:
    """A date as the service writes it."""
    return (datetime(1858, 11, 17) + timedelta(days=mjd)).isoformat(timespec="milliseconds")


def _mast_row(spec: Exposure, npix: int) -> dict:
    """The keyword service's row for an exposure's rate file, without size and checksum."""
    release = spec.date + PROPRIETARY_DAYS
    return {
        "filename": spec.filename,
        "fileSetName": spec.rootname.removesuffix("_nis"),
        "productLevel": "2a",
        "exp_type": spec.exposure_type,
        "instrume": "NIRISS",
        "filter": spec.grating,
        "pupil": spec.filter,
        "readpatt": spec.readpatt,
        "subarray": spec.subarray,
        "effinttm": spec.exposure_time,
        "effexptm": spec.exposure_time,
        "targ_ra": spec.target[0],
        "targ_dec": spec.target[1],
        # Of pure parallels, the service knew neither target nor footprint for years.
        "s_region": None if spec.parallel else footprint(spec, npix),
        "date_obs_mjd": spec.date,
        "expstart": spec.date,
        "program": spec.program,
        "category": "GO",
        "pi_name": "Simulated",
        "pcs_mode": "FINEGUIDE",
        "visitype": spec.visit_type,
        "engqlptg": "CALCULATED_TR_202105",
        "eng_qual": "OK",
        "crds_ctx": CONTEXT,
        "cal_ver": spec.cal_version,
        "dataURI": f"mast:JWST/product/{spec.filename}",
        "fileSize": FILE_SIZE,
        "checksum": None,
        "publicReleaseDate": _iso(release),
        "publicReleaseDate_mjd": release,
        "isRestricted": False,
        "isStale": False,
    }


def _renamed(row: dict, filename: str, **changes: object) -> dict:
    """The row changed to that of another file."""
    names = {"filename": filename, "dataURI": f"mast:JWST/product/{filename}"}
    return row | names | {"checksum": None} | changes


def _decoys(rows: list[dict], clean: list[dict]) -> list[dict]:
    """Rows without a file in the archive, which a client has to leave out.

    They are rows of other products of all exposures in `rows`, and of some exposures that are not
    in the archive, with the pointings of those in `clean`.
    """
    decoys = []
    for row in rows:
        name = row["filename"]
        level_1b = name.replace("_rate.", "_uncal.")
        decoys += [
            _renamed(row, level_1b, productLevel="1b"),
            _renamed(row, name.replace("_rate.", "_rateints.")),
            _renamed(row, name.replace("_rate.", "_cal."), productLevel="2b"),
        ]

    def other(number: int, **changes: object) -> dict:
        """An exposure that is not in the archive."""
        row = clean[number % len(clean)]
        root = f"jw{80000 + number:05d}001001_02101_00001"
        program = 80000 + number
        return _renamed(row, f"{root}_nis_rate.fits", fileSetName=root, program=program, **changes)

    later = 70000.0
    not_public = {
        "publicReleaseDate_mjd": later,
        "publicReleaseDate": _iso(later),
    }
    decoys += [
        other(1, isRestricted=True, **not_public),
        other(2, isRestricted=True, checksum=None, fileSize=None, **not_public),
        other(3, isStale=True),
        other(4, exp_type="NIS_IMAGE", filter="CLEAR", subarray="SUB256"),
        other(5, exp_type="NIS_IMAGE", filter="CLEAR", subarray="SUB256", s_region=None),
        other(6, exp_type="NIS_SOSS", filter="CLEAR", pupil="GR700XD", subarray="SUBSTRIP256"),
        other(7, readpatt="NISRAPID", subarray="WFSS64C", effinttm=19.5, effexptm=19.5),
        other(8, readpatt="NISRAPID", subarray="WFSS64R", effinttm=19.5, effexptm=19.5),
        other(9, subarray="WFSS128C", readpatt="NISRAPID"),
    ]
    taken = {row["pupil"] for row in rows}
    return decoys + [other(10, pupil=name) for name in FILTERS if name not in taken][:1]


def _stars(rng: np.random.Generator, exposures: list[Exposure], npix: int) -> list[dict]:
    """Random bright stars away from the clean fields, and the stars in the exposures."""
    # Numbers grow by a factor of 3 per magnitude, as on the sky.
    magnitude = 10.8 + np.log(1 - rng.random(RANDOM_STARS)) / np.log(3)
    ra = rng.uniform(0, 360, RANDOM_STARS)
    dec = np.degrees(np.arcsin(rng.uniform(-1, 1, RANDOM_STARS)))
    motion = rng.normal(0, 25, (2, RANDOM_STARS))
    fields = SkyCoord([(s.field_ra, s.field_dec) for s in exposures], unit="deg")
    nearest = SkyCoord(ra, dec, unit="deg").match_to_catalog_sky(fields)[1]
    clear = nearest.arcmin > CLEAR_RADIUS
    columns = [c[clear] for c in (ra, dec, *motion, magnitude)]
    for spec in exposures:
        star = star_position(spec, npix)
        if star:
            years = (spec.date - GAIA_EPOCH) / 365.25
            pmra, pmdec = PROPER_MOTION
            east = pmra * years / 3.6e6 / np.cos(np.radians(star[1]))
            entry = (star[0] - east, star[1] - pmdec * years / 3.6e6, pmra, pmdec, star[2])
            columns = [np.append(c, value) for c, value in zip(columns, entry, strict=True)]
    names = ("ra", "dec", "pmra", "pmdec", "phot_g_mean_mag")
    return [
        {"source_id": 4_000_000_000_000_000_000 + number}
        | {name: float(value) for name, value in zip(names, values, strict=True)}
        for number, values in enumerate(zip(*columns, strict=True))
    ]


def write_catalog(path: Path, recipe: str, exposures: list[Exposure], npix: int, seed: int) -> None:
    """Write ``catalog.json`` beside the rate files that it describes.

    Parameters
    ----------
    path : Path
        The catalogue, in the archive's folder.
    recipe : str
        Checksum that is noted in the catalogue, for `up_to_date`.
    exposures : list of Exposure
        The exposures whose files are in the folder.
    npix : int
        Side of the detector in pixels.
    seed : int
        Seed of the random stars and of the order of the rows.
    """
    rng = np.random.default_rng([seed, 20])
    rows = [_mast_row(spec, npix) for spec in exposures]
    clean = [row for row, spec in zip(rows, exposures, strict=True) if not spec.contamination]
    decoys = _decoys(rows, clean or rows)
    for number, row in enumerate(rows):
        content = (path.parent / row["filename"]).read_bytes()
        row["fileSize"], row["checksum"] = len(content), hashlib.md5(content).hexdigest()
        # The service leaves out footprints at times, and gives some numbers as strings.
        if number % 5 == 2:
            row["s_region"] = None  # the target stays
        if number % 4 == 1:
            for key in ("effinttm", "targ_ra", "targ_dec", "fileSize"):
                row[key] = str(row[key])
    rows += decoys
    catalog = {
        "recipe": recipe,
        "exposures": [rows[k] for k in rng.permutation(len(rows))],
        "stars": _stars(rng, exposures, npix),
    }
    temporary = path.with_suffix(".partial")
    temporary.write_text(json.dumps(catalog, indent=1))
    temporary.replace(path)


def reprocess(
    path: Path, filename: str, *, cal_version: str = "1.21.0", context: str = "jwst_9002.pmap"
) -> bool:
    """
    Let the archive reprocess a file: the same name and size, but another version.

    Parameters
    ----------
    path : Path
        The catalogue, beside the files.
    filename : str
        The rate file.
    cal_version, context : str
        Of the new version: CAL_VER and CRDS_CTX, as long as those before.

    Returns
    -------
    bool
        False if that has been done already.
    """
    file = path.parent / filename
    with fits.open(file, mode="update") as hdus:
        if hdus[0].header["CAL_VER"] == cal_version:
            return False
        hdus[0].header["CAL_VER"], hdus[0].header["CRDS_CTX"] = cal_version, context
    catalog = json.loads(path.read_text())
    for row in catalog["exposures"]:
        if row["filename"] == filename:
            row["checksum"] = hashlib.md5(file.read_bytes()).hexdigest()
            row["cal_ver"], row["crds_ctx"] = cal_version, context
    path.write_text(json.dumps(catalog, indent=1))
    return True


def up_to_date(path: Path, recipe: str) -> bool:
    """Whether a catalogue belongs to the recipe and to the files beside it."""
    try:
        catalog = json.loads(path.read_text())
    except (OSError, ValueError):
        return False
    files = {row["filename"]: row for row in catalog.get("exposures", ()) if row["checksum"]}
    return catalog.get("recipe") == recipe and all(
        (path.parent / name).is_file()
        and (path.parent / name).stat().st_size == int(row["fileSize"])
        for name, row in files.items()
    )
