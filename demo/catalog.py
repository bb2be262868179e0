"""The catalogue of a simulated archive: MAST's rows for its files, and Gaia's stars.

Besides the rows of the files there are rows that a client has to filter out: other modes,
product levels and subarrays, and exposures that are not public. Some values are null, and some
numbers are strings.
"""

import hashlib
import json
from pathlib import Path

import numpy as np
from astropy.coordinates import SkyCoord

from demo.crds_cache import CONTEXT
from demo.exposures import Exposure, footprint, star_position
from demo.optics import FILTERS

CAL_VERSION = "1.20.2"
RANDOM_STARS = 400
CLEAR_RADIUS = 3.0  # arcmin; no random star is so near to a clean field
PROPER_MOTION = (240.0, -175.0)  # mas/yr in RA cos Dec and Dec, of the contaminating stars
GAIA_EPOCH = 57388.0  # MJD of 2016.0
PROPRIETARY_DAYS = 365.0
MJD_OF_UNIX_EPOCH = 40587.0
FILE_SIZE = 84_000_000  # bytes; of files that exist only in the catalogue


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
        "targ_ra": spec.field_ra,
        "targ_dec": spec.field_dec,
        "s_region": footprint(spec, npix),
        "date_obs_mjd": spec.date,
        "expstart": spec.date,
        "program": str(spec.program),
        "pi_name": "Simulated",
        "pcs_mode": "FINEGUIDE",
        "crds_ctx": CONTEXT,
        "cal_ver": CAL_VERSION,
        "dataURI": f"mast:JWST/product/{spec.filename}",
        "fileSize": FILE_SIZE,
        "checksum": None,
        "publicReleaseDate": f"/Date({round((release - MJD_OF_UNIX_EPOCH) * 86400_000)})/",
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
        program = str(80000 + number)
        return _renamed(row, f"{root}_nis_rate.fits", fileSetName=root, program=program, **changes)

    later = 70000.0
    not_public = {
        "publicReleaseDate_mjd": later,
        "publicReleaseDate": f"/Date({round((later - MJD_OF_UNIX_EPOCH) * 86400_000)})/",
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
            row["s_region"] = None
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
