"""A rate file without its sky: what subtractBackgrounds.py makes."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from wfssbkg import __version__
from wfssbkg.errors import StepError, printable
from wfssbkg.files import fits_file, up_to_date

Card = tuple[Any, str]


def stamp(rate: Path, background: Path, settings: Mapping[str, Any]) -> dict[str, Card]:
    """
    What a file is made of, as cards of its header.

    Parameters
    ----------
    rate, background : `~pathlib.Path`
    settings : mapping
        Those that bear on it.
    """
    made_with = hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:16]
    return up_to_date.stamp(rate) | {
        "BKGNAME": (printable(background.name), "background that was subtracted"),
        "BKGTIME": (background.stat().st_mtime_ns, "[ns] its modification time, since 1970"),
        "BKGSET": (made_with, "checksum of the settings"),
    }


def is_current(path: Path, wanted: Mapping[str, Card]) -> bool:
    """Whether a file is there, whole, and made of what its stamp says."""
    if not path.exists():
        return False
    try:
        with fits_file.opened(path) as hdus:
            fits_file.check_whole(path, hdus)
            return all(hdus[0].header.get(key) == value for key, (value, _) in wanted.items())
    except StepError:
        return False


def write(
    path: Path, rate: Path, sky: np.ndarray, cards: Mapping[str, Card], history: list[str]
) -> None:
    """
    Write a rate file without its sky; all but SCI and the primary header stays as it is.

    ERR and the variances are those of the rate file, as after the JWST pipeline's own step.

    Parameters
    ----------
    path, rate : `~pathlib.Path`
        The file to write, and the rate file.
    sky : (ny, nx) float32 array
        With the flat field in, DN/s.
    cards : mapping
        Keyword to value and comment.
    history : list of str
    """
    with fits_file.opened(rate, do_not_scale_image_data=True, lazy_load_hdus=False) as hdus:
        header, sci = hdus[0].header, hdus["SCI"]
        sci.data = (sci.data - sky).astype(np.float32)
        header["FILENAME"] = path.name
        header["S_BKDSUB"] = ("COMPLETE", "Background subtraction")
        for key, card in cards.items():
            header[key] = card
        header["WFSSBKG"] = (__version__, "version of WFSSBackgrounds")
        for line in history:
            header.add_history(line.strip())
        for changed in (hdus[0], sci):
            if "CHECKSUM" in changed.header:
                changed.add_checksum()
        fits_file.write(path, list(hdus))


def row(rate: Path, output: Path, background: Path, cards: Mapping[str, Card]) -> dict[str, Any]:
    """The row of an exposure in the table of all, from its cards."""
    value = {key: card[0] for key, card in cards.items()}
    scattered = [str(round(value[key], 5)) for key in sorted(value) if key.startswith("BKGSC")]
    return {
        "rate": rate.name,
        "status": "subtracted",
        "reason": "",
        "output": str(output),
        "background": background.name,
        "level": float(value["BKGLVL"]),
        "level_error": float(value["BKGLVERR"]),
        "scattered_light": " ".join(scattered),
        "sky_fraction": float(value["BKGSKY"]),
    }


def read_row(rate: Path, output: Path, background: Path) -> dict[str, Any]:
    """The row of an exposure whose file is there."""
    with fits_file.opened(output) as hdus:
        cards = {key: (hdus[0].header[key], "") for key in hdus[0].header if key[:3] == "BKG"}
    return row(rate, output, background, cards)


def failed(rate: Path, reason: str) -> dict[str, Any]:
    """The row of an exposure whose sky could not be subtracted."""
    nothing = {"output": "", "background": "", "scattered_light": ""}
    numbers = dict.fromkeys(("level", "level_error", "sky_fraction"), np.nan)
    return {"rate": rate.name, "status": "failed", "reason": reason} | nothing | numbers
