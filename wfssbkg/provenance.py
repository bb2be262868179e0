"""What made a finished file, and how to make it again: python -m wfssbkg.provenance FILE."""

import argparse
import json
import textwrap
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from astropy.io import fits
from astropy.table import Table

from wfssbkg import config
from wfssbkg.errors import StepError
from wfssbkg.files import exposure_table, fits_file
from wfssbkg.run import command_line

# The rules of the query, which the list of exposures replaces.
_RULES = ("programs", "exclude", "gaia_g_limit")


def rebuilding_config(path: Path) -> str:
    """The config, as YAML, that makes a finished file again; a StepError if it does not tell."""
    header, settings, inputs = _read(path)
    taken = np.isin(inputs["status"], (exposure_table.ACCEPTED, exposure_table.REJECTED))
    contexts = sorted(set(inputs["crds_context"][taken]))
    rules = {f"query.{name}": settings["query"].get(name) for name in _RULES}
    del settings["compute"]  # does not bear on the result
    settings["gratings"], settings["filters"] = [header["FILTER"]], [header["PUPIL"]]
    settings["query"] |= dict.fromkeys(_RULES)
    settings["query"]["exposures"] = list(inputs["productFilename"][taken])
    settings["mask"]["crds_context"] = contexts[-1] or None
    settings["finalize"]["author"] = header["AUTHOR"]  # another one may have been noted since
    words = [
        f"Makes {header['FILENAME']} again, which WFSSBackgrounds {header['WFSSBKG']} made of a "
        f"query of {header['QDATE']} UTC. Its HISTORY names the versions of all software.",
        "The list of exposures stands for the rules that led to it: "
        + ", ".join(f"{name} = {json.dumps(value)}" for name, value in rules.items()),
    ]
    sources = settings["query"]["source"]
    if sources not in (config.MAST, [config.MAST]):
        words.append(
            "Not all rate files were from MAST: query.source has the names of the folders where "
            "others were. Set it to where they are."
        )
    if len(contexts) > 1:
        words.append(
            f"WARNING: made in several CRDS contexts, {', '.join(contexts)}. If their flat fields "
            "differ (column flat of EXPOSURES), the result will."
        )
    lines = [line for text in words for line in textwrap.wrap(text, 96)]
    comment = "".join(f"# {line}\n" for line in lines)
    return comment + "\n" + yaml.safe_dump(settings, sort_keys=False, width=100)


def _read(path: Path) -> tuple[fits.Header, dict[str, Any], Table]:
    """Primary header, settings in sections and exposure table of a finished file."""
    try:
        with fits_file.opened(path) as hdus:
            header, flat = hdus[0].header, fits_file.read_settings(hdus)
            if "query.source" not in flat or "AUTHOR" not in header:
                raise StepError("its settings are not complete")
    except StepError as error:
        raise StepError(f"{path} is no finished background with its settings ({error})") from None
    settings: dict[str, Any] = {}
    for name, value in flat.items():  # the inverse of `wfssbkg.config.flat`
        section, _, key = name.rpartition(".")
        (settings.setdefault(section, {}) if section else settings)[key] = value
    return header, settings, exposure_table.read(path)


def main() -> int:
    """Print the config that makes a finished file again."""
    words = "Print the config with which four scripts make a finished file again."
    parser = argparse.ArgumentParser(prog="python -m wfssbkg.provenance", description=words)
    parser.add_argument("file", type=Path, help="e.g. nis-f115w-gr150c_skyflat.fits")
    print(rebuilding_config(parser.parse_args().file), end="")
    return command_line.ALL_DONE


if __name__ == "__main__":
    command_line.run(main)
