"""What made a finished file, and how to make it again: python -m wfssbkg.provenance FILE."""

from __future__ import annotations

import argparse
import json
import textwrap
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from astropy.io import fits
from astropy.table import Table

from wfssbkg import StepError, cli, exposures
from wfssbkg.config import Config

# What the list of exposures replaces: the rules that led to it.
_RULES = ("programs", "gaia_g_limit")
# What does not bear on the result.
_ELSEWHERE = ("working_directory", "output_directory", "compute")


def to_hdu(settings: Config) -> fits.BinTableHDU:
    """All settings as an extension of a FITS file: names, and values as JSON."""
    rows = [
        (name, json.dumps(value)) for name, value in _flat(settings.model_dump(mode="json")).items()
    ]
    table = Table(rows=rows, names=("name", "value"))
    return fits.BinTableHDU(table, name="SETTINGS")


def rebuilding_config(path: Path) -> str:
    """
    The config that makes a finished file again.

    Parameters
    ----------
    path : `~pathlib.Path`
        A finished file; nothing else is read.

    Returns
    -------
    str
        YAML: the settings, the exposures that were combined or rejected, and the CRDS context.

    Raises
    ------
    StepError
        If the file is not a finished file with its provenance.
    """
    header, settings, inputs = _read(path)
    taken = np.isin(inputs["status"], (exposures.ACCEPTED, exposures.REJECTED))
    contexts = sorted(set(inputs["crds_context"][taken]))
    rules = {f"query.{name}": settings["query"][name] for name in _RULES}
    for name in _ELSEWHERE:
        del settings[name]
    settings["gratings"], settings["filters"] = [header["FILTER"]], [header["PUPIL"]]
    settings["query"] |= dict.fromkeys(_RULES) | {
        "exposures": list(inputs["productFilename"][taken])
    }
    settings["mask"]["crds_context"] = contexts[-1] or None
    words = [
        f"Makes {header['FILENAME']} again, which WFSSBackgrounds {header['WFSSBKG']} made of an "
        f"archive query of {header['QDATE']} UTC. Its HISTORY names the versions of all software.",
        "The list of exposures stands for the rules that led to it: "
        + ", ".join(f"{name} = {json.dumps(value)}" for name, value in rules.items()),
    ]
    if len(contexts) > 1:
        words.append(
            f"WARNING: made in several CRDS contexts, {', '.join(contexts)}. If their flat fields "
            "differ (column flat of EXPOSURES), the result will."
        )
    lines = [line for text in words for line in textwrap.wrap(text, 96)]
    comment = "".join(f"# {line}\n" for line in lines)
    return comment + "\n" + yaml.safe_dump(settings, sort_keys=False, width=100)


def _read(path: Path) -> tuple[fits.Header, dict[str, Any], Table]:
    """Primary header, settings and exposure table of a finished file."""
    if not path.is_file():
        raise StepError(f"{path} does not exist. Expected a finished background")
    try:
        with fits.open(path, memmap=False) as hdus:
            header, rows = hdus[0].header, hdus["SETTINGS"].data
            settings = {row["name"]: json.loads(row["value"]) for row in rows}
    except (OSError, KeyError, ValueError, TypeError) as error:
        raise StepError(
            f"{path} is not a finished background with its settings ({error})"
        ) from None
    return header, _nested(settings), exposures.read(path)


def _flat(settings: dict[str, Any]) -> dict[str, Any]:
    """Sections and keys as section.key."""
    flat: dict[str, Any] = {}
    for name, value in settings.items():
        below = value if isinstance(value, dict) else None
        flat |= {f"{name}.{key}": item for key, item in below.items()} if below else {name: value}
    return flat


def _nested(flat: dict[str, Any]) -> dict[str, Any]:
    """The inverse of `_flat`."""
    settings: dict[str, Any] = {}
    for name, value in flat.items():
        section, _, key = name.partition(".")
        if key:
            settings.setdefault(section, {})[key] = value
        else:
            settings[name] = value
    return settings


def main() -> int:
    """Print the config that makes a finished file again."""
    parser = argparse.ArgumentParser(
        prog="python -m wfssbkg.provenance",
        description="Print the config with which four scripts make a finished file again.",
    )
    parser.add_argument("file", type=Path, help="e.g. nis-f115w-gr150c_skyflat.fits")
    print(rebuilding_config(parser.parse_args().file), end="")
    return cli.ALL_DONE


if __name__ == "__main__":
    cli.run(main)
