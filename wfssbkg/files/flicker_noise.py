"""Whether the 1/f noise of exposures was cleaned: of each, and of all in one background.

Cleaning takes sharp structure of the sky along with the noise, so that cleaned and other exposures
have different backgrounds.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
from astropy.table import Table

from wfssbkg.config import Config
from wfssbkg.files.exposure_table import ACCEPTED, EXCLUDED, is_downloaded

COMPLETE, ABSENT = "COMPLETE", "absent"  # what S_CLNFNS says of an exposure that was cleaned; none
KEYWORD_BEFORE = "S1CLNFNS"  # what S_CLNFNS was, in the masked exposures that makeMask.py cleaned
CLEANED, UNCLEANED = "cleaned", "uncleaned"  # the kinds of backgrounds

REASON = "its 1/f noise was cleaned in stage 1 (mask.flicker_noise is uncleaned)"


def settled(config: Config, table: Table) -> Config:
    """
    The settings with the kind that the exposures of a combination settle.

    Parameters
    ----------
    config : `~wfssbkg.config.Config`
    table : `~astropy.table.Table`
        Their exposure table. What S_CLNFNS says of an exposure that nobody has looked at yet is
        taken to be not COMPLETE.

    Returns
    -------
    `~wfssbkg.config.Config`
        `mask.flicker_noise` is cleaned or uncleaned: if it was auto, cleaned where an exposure that
        could be used was cleaned in stage 1, since that cannot be undone.
    """
    kind = config.mask.flicker_noise
    if kind == "auto":
        kind = CLEANED if cleaned(table).any() else UNCLEANED
    mask = config.mask.model_copy(update={"flicker_noise": kind})
    return config.model_copy(update={"mask": mask})


def cleaned(table: Table) -> np.ndarray:
    """Which exposures of a table were cleaned in stage 1, of those that could be used; bool."""
    return (table["s_clnfns"] == COMPLETE) & could_be_used(table)


def could_be_used(table: Table) -> np.ndarray:
    """Which exposures no rule leaves out, except perhaps the one of `exclude`; bool."""
    return (table["status"] != EXCLUDED) | (table["reason"] == REASON)


def exclude(table: Table, setting: str) -> None:
    """
    Exclude the exposures that were cleaned in stage 1 from uncleaned ones, or take them back.

    Parameters
    ----------
    table : `~astropy.table.Table`
        The exposure table, where this is noted.
    setting : str
        `mask.flicker_noise`, settled or not: auto never excludes one.
    """
    unfit = cleaned(table) & (setting == UNCLEANED)
    fit_again = (table["reason"] == REASON) & ~unfit
    table["status"][fit_again], table["reason"][fit_again] = ACCEPTED, ""
    table["status"][unfit], table["reason"][unfit] = EXCLUDED, REASON


def in_words(table: Table, setting: str, kind: str) -> str:
    """
    What is done about the 1/f noise of some exposures, and why.

    Parameters
    ----------
    table : `~astropy.table.Table`
        Their exposure table.
    setting : str
        `mask.flicker_noise` as it is in the config.
    kind : str
        What it was settled to be.
    """
    number, total = np.count_nonzero(cleaned(table)), np.count_nonzero(could_be_used(table))
    found = f"{number or 'none'} of {total} exposures {'were' if number > 1 else 'was'}"
    if kind == UNCLEANED:
        done = ": left out" if number else ": it stays in"
    elif number < total:
        done = ": the others are cleaned too" if number else ": all are cleaned now"
    else:
        done = ""
    words = f"{found} cleaned of 1/f noise in stage 1{done} (mask.flicker_noise: {setting})"
    if kind == UNCLEANED or setting == CLEANED or number == total:
        return words
    others = could_be_used(table) & ~cleaned(table)
    own = sum(not is_downloaded(row) for row in table[others])
    mine = f", {own} of your own among them," * bool(own)
    return (
        f"{words}. The background will be for cleaned exposures: {total - number} of these{mine} "
        f"would have to be cleaned before it can be subtracted. mask.flicker_noise: {UNCLEANED} "
        "makes the one that they need as they are"
    )


def of_background(accepted: Table, kind: str) -> str:
    """What a background of some exposures says of their 1/f noise."""
    if kind == UNCLEANED:
        return f"1/f noise not cleaned: for exposures whose S_CLNFNS is not {COMPLETE}"
    number, total = np.count_nonzero(cleaned(accepted)), len(accepted)
    how = "by stage 1" if number else "by the pipeline's step in makeMask.py"
    if 0 < number < total:
        how = f"in {number} of {total} exposures by stage 1, in the others by the same step"
    return f"1/f noise cleaned, {how}: for exposures whose S_CLNFNS is {COMPLETE}"


def of_header(header: Mapping[str, Any]) -> str:
    """What S_CLNFNS of a rate file says, from its primary header or that of its masked exposure.

    `ABSENT` where it says nothing.
    """
    found = header.get(KEYWORD_BEFORE, header.get("S_CLNFNS", ABSENT))
    return found if found == ABSENT else str(found).strip().upper()
