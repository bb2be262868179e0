"""What a reference file says of itself: its keywords and its history."""

import textwrap
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from astropy.io import fits
from astropy.table import Table

from wfssbkg import __version__, versions
from wfssbkg.config import Config, flat
from wfssbkg.files import exposure_table, flicker_noise
from wfssbkg.files.combined_background import Background
from wfssbkg.layout import Combination

_INSTRUMENT_KEYS = (
    "TELESCOP", "INSTRUME", "DETECTOR", "EXP_TYPE", "FILTER", "PUPIL", "SUBARRAY",
    "SUBSTRT1", "SUBSTRT2", "SUBSIZE1", "SUBSIZE2", "FASTAXIS", "SLOWAXIS",
)  # fmt: skip

OPERATIONS = "2022-01-01T00:00:00"  # the start of JWST's


def reference_header(
    combination: Combination,
    *,
    exposure: fits.Header,
    background: Background,
    author: str,
    used: dict[str, str],
    settings: dict[str, Any],
    flat_is_out: bool,
) -> fits.Header:
    """
    The primary header of a reference file.

    Parameters
    ----------
    combination : `~wfssbkg.layout.Combination`
    exposure : `~astropy.io.fits.Header`
        Primary header of one of the exposures.
    background : `~wfssbkg.files.combined_background.Background`
    author : str
    used : dict
        From `wfssbkg.pipeline.flat_of`.
    settings : dict
        section.key to value: those that bear on the result.
    flat_is_out : bool
        Whether the flat field is divided out.

    Returns
    -------
    `~astropy.io.fits.Header`
    """
    header, inputs = fits.Header(), background.inputs
    # For direct images as well: the pipeline's one model of a background with flags of its own.
    header["DATAMODL"] = ("WfssBkgModel", "data model of the JWST pipeline")
    for key in _INSTRUMENT_KEYS:
        if key in exposure:
            header[key] = (exposure[key], exposure.comments[key])
    first, last = exposure_table.days(_accepted(inputs))
    # CRDS takes a file for the exposures from its USEAFTER until that of the next one: one with the
    # flat field in is right since that flat field is.
    use_after = OPERATIONS if flat_is_out else max(OPERATIONS, used["USEAFTER"])
    header["REFTYPE"] = ("BKG", "reference file type")
    header["PEDIGREE"] = (f"INFLIGHT {first} {last}", "origin of the data")
    header["USEAFTER"] = (use_after, "valid for exposures since then")
    header["AUTHOR"] = (author, "author of the reference file")
    cleaned = settings["mask.flicker_noise"] == flicker_noise.CLEANED
    cleaning = flicker_noise.COMPLETE if cleaned else "SKIPPED"
    the_flat = "divided out" if flat_is_out else "in, as in rate exposures"
    kind = "direct image" if combination.direct else "WFSS"
    header["DESCRIP"] = f"NIRISS {kind} background {combination}, flat field {the_flat}"
    header["S_CLNFNS"] = (cleaning, "1/f noise: cleaned in the exposures or not")
    header["FIXFLAT"] = (flat_is_out, "whether the flat field is divided out")
    header["QDATE"] = (inputs.meta["QDATE"], "UTC time of the archive query")
    header["NEXP"] = (len(_accepted(inputs)), "exposures combined")
    header.extend(background.dark_cards())
    header["WFSSBKG"] = (__version__, "version of WFSSBackgrounds")
    header.update({key: value for key, value in used.items() if key != "USEAFTER"})
    for line in _history(inputs, used, settings, flat_is_out):
        for part in textwrap.wrap(line.encode("ascii", "replace").decode(), 72):
            header.add_history(part)
    return header


def _history(
    inputs: Table, used: dict[str, str], settings: dict[str, Any], flat_is_out: bool
) -> list[str]:
    """What made a background, in words: inputs, versions, reference files and settings."""
    accepted = _accepted(inputs)
    first, last = exposure_table.days(accepted)
    flats = exposure_table.flat_fields(accepted)
    lines = [
        f"Made by WFSSBackgrounds {__version__} on {datetime.now(UTC):%Y-%m-%dT%H:%M:%S} UTC",
        f"of {len(accepted)} exposures of {first} to {last},",
        f"programmes {', '.join(sorted(set(accepted['program'])))};",
        f"query of {inputs.meta['QDATE']} UTC; the table EXPOSURES lists them.",
        flicker_noise.of_background(accepted, settings["mask.flicker_noise"]) + ".",
        f"CRDS context {used['CRDS_CTX']}, flat field {used['R_FLAT']}",
    ]
    if len(flats) > 1:
        lines.append(f"The exposures were divided by different flat fields: {'; '.join(flats)}.")
    if not flat_is_out:
        lines.append(
            f"The flat field {used['R_FLAT']} is in, which CRDS has for exposures since "
            f"{used['USEAFTER']}: the background is right for these. For others, multiply the file "
            "without the flat field by theirs."
        )
    return [
        *lines,
        "With " + ", ".join(f"{name} {number}" for name, number in versions().items()),
        "Settings:",
        *(f"{key} = {value}" for key, value in settings.items()),
    ]


def all_settings(config: Config) -> dict[str, Any]:
    """
    All settings, section.key to value, without the folders of whoever made the file.

    Of folders in `query.source` and `compare.against` the name is left.
    """
    settings = flat(config.model_dump(mode="json"))
    del settings["working_directory"], settings["output_directory"]
    names = [Path(source).name for source in config.query.sources]
    settings["query.source"] = names if len(names) > 1 else names[0]
    if config.compare.against:
        settings["compare.against"] = config.compare.against.name
    return settings


def _accepted(inputs: Table) -> Table:
    return inputs[inputs["status"] == exposure_table.ACCEPTED]
