"""Of which kind the background of a combination is: with or without 1/f noise cleaned."""

from dataclasses import replace

import numpy as np
from astropy.table import Table

from wfssbkg.errors import StepError
from wfssbkg.files import exposure_table, fits_file, flicker_noise, rate, up_to_date
from wfssbkg.layout import Folder
from wfssbkg.run import messages
from wfssbkg.run.command_line import Run


def settle(run: Run, folder: Folder, table: Table) -> Run:
    """
    Settle whether the background is to be one of exposures whose 1/f noise was cleaned.

    Says so and why, and notes in the table, which is written, which exposures this leaves out.

    Returns
    -------
    `~wfssbkg.run.command_line.Run`
        The same run with the settled `mask.flicker_noise` in its config.
    """
    look_at_headers(table, folder)
    config = flicker_noise.settled(run.config, table)
    kind = config.mask.flicker_noise
    flicker_noise.exclude(table, kind)
    exposure_table.write(table, folder.table)
    messages.say(flicker_noise.in_words(table, run.config.mask.flicker_noise, kind))
    return replace(run, config=config)


def look_at_headers(table: Table, folder: Folder) -> None:
    """Note what only headers tell: S_CLNFNS, and the start of an exposure without EXPSTART."""
    for row in table[flicker_noise.could_be_used(table)]:
        path, masked = exposure_table.rate_path(row, folder), folder.masked(row["productFilename"])
        if row["s_clnfns"] and masked.exists() and up_to_date.is_no_older(masked, [path]):
            continue
        try:
            with fits_file.opened(path if path.exists() else masked) as hdus:
                header = hdus[0].header
        except StepError:  # whoever masks it will tell
            continue
        begun = row["mjd"] if np.isfinite(row["mjd"]) else rate.start(header)
        values = {"s_clnfns": flicker_noise.of_header(header), "mjd": begun}
        exposure_table.mark(table, row["productFilename"], **values)
