"""What a reference file says of itself: its keywords and its history."""

import textwrap
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from astropy.io import fits
from astropy.table import Table
from astropy.time import Time

from wfssbkg import __version__, versions
from wfssbkg.config import Config, flat
from wfssbkg.files import exposure_table
from wfssbkg.layout import Combination

_INSTRUMENT_KEYS = (
    "TELESCOP", "INSTRUME", "DETECTOR", "EXP_TYPE", "FILTER", "PUPIL", "SUBARRAY",
    "SUBSTRT1", "SUBSTRT2", "SUBSIZE1", "SUBSIZE2", "FASTAXIS", "SLOWAXIS",
)  # fmt: skip


def reference_header(
    combination: Combination,
    *,
    exposure: fits.Header,
    inputs: Table,
    author: str,
    history: list[str],
    flat_is_out: bool,
) -> fits.Header:
    """
    The primary header of a reference file.

    Parameters
    ----------
    combination : `~wfssbkg.layout.Combination`
    exposure : `~astropy.io.fits.Header`
        Primary header of one of the exposures.
    inputs : `~astropy.table.Table`
        The exposure table.
    author : str
    history : list of str
        Lines of HISTORY.
    flat_is_out : bool
        Whether the flat field is divided out.

    Returns
    -------
    `~astropy.io.fits.Header`
    """
    header = fits.Header()
    # For direct images as well: the pipeline's one model of a background with flags of its own.
    header["DATAMODL"] = ("WfssBkgModel", "data model of the JWST pipeline")
    for key in _INSTRUMENT_KEYS:
        if key in exposure:
            header[key] = (exposure[key], exposure.comments[key])
    first, last = _dates(inputs)
    header["REFTYPE"] = ("BKG", "reference file type")
    header["PEDIGREE"] = (f"INFLIGHT {first} {last}", "origin of the data")
    header["USEAFTER"] = ("2022-01-01T00:00:00", "valid from the start of JWST's operations")
    header["AUTHOR"] = (author, "author of the reference file")
    the_flat = "divided out" if flat_is_out else "in, as in rate exposures"
    kind = "direct image" if combination.direct else "WFSS"
    header["DESCRIP"] = f"NIRISS {kind} background {combination}, flat field {the_flat}"
    header["FIXFLAT"] = (flat_is_out, "whether the flat field is divided out")
    header["QDATE"] = (inputs.meta["QDATE"], "UTC time of the archive query")
    header["NEXP"] = (len(_accepted(inputs)), "exposures combined")
    header["WFSSBKG"] = (__version__, "version of WFSSBackgrounds")
    for line in history:
        for part in textwrap.wrap(line.encode("ascii", "replace").decode(), 72):
            header.add_history(part)
    return header


def history(inputs: Table, used: dict[str, str], settings: dict[str, Any]) -> list[str]:
    """
    What made a background, in words: inputs, versions, reference files and settings.

    Parameters
    ----------
    inputs : `~astropy.table.Table`
        The exposure table.
    used : dict
        R_FLAT and CRDS_CTX, as used.
    settings : dict
        section.key to value: those that bear on the result.

    Returns
    -------
    list of str
    """
    accepted = _accepted(inputs)
    first, last = _dates(inputs)
    return [
        f"Made by WFSSBackgrounds {__version__} on {datetime.now(UTC):%Y-%m-%dT%H:%M:%S} UTC",
        f"of {len(accepted)} exposures of {first} to {last},",
        f"programmes {', '.join(sorted(set(accepted['program'])))};",
        f"archive query of {inputs.meta['QDATE']} UTC; the table EXPOSURES lists them.",
        f"CRDS context {used['CRDS_CTX']}, flat field {used['R_FLAT']}",
        "With " + ", ".join(f"{name} {number}" for name, number in versions().items()),
        "Settings:",
        *(f"{key} = {value}" for key, value in settings.items()),
    ]


def all_settings(config: Config) -> dict[str, Any]:
    """
    All settings, section.key to value, without the folders of whoever made the file.

    Of a folder that was `query.source` the name is left.
    """
    settings = flat(config.model_dump(mode="json"))
    del settings["working_directory"], settings["output_directory"]
    return settings | {"query.source": Path(config.query.source).name}


def _accepted(inputs: Table) -> Table:
    return inputs[inputs["status"] == exposure_table.ACCEPTED]


def _dates(inputs: Table) -> tuple[str, str]:
    """Days of the first and the last accepted exposure, e.g. 2022-07-04."""
    mjd = np.asarray(_accepted(inputs)["mjd"], dtype=float)
    mjd = mjd[np.isfinite(mjd)]
    if not len(mjd):
        return "unknown", "unknown"
    days = Time([mjd.min(), mjd.max()], format="mjd").strftime("%Y-%m-%d")
    return str(days[0]), str(days[1])
