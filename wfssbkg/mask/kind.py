"""Of which kind the background of a combination is: with or without 1/f noise cleaned."""

from dataclasses import replace

from astropy.table import Table

from wfssbkg.files import exposure_table, flicker_noise, rate_header
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
    if flicker_noise.could_be_used(table).any():
        messages.say(flicker_noise.in_words(table, run.config.mask.flicker_noise, kind))
    return replace(run, config=config)


def look_at_headers(table: Table, folder: Folder) -> None:
    """Note what headers tell, also those of files that were replaced since queryData.py."""
    processed = []
    for row, usable in zip(table, flicker_noise.could_be_used(table), strict=True):
        if usable and (found := rate_header.at_hand(row, folder)):
            rate_header.note_in(row, found)
            if found.processed:
                processed.append(f"{row['productFilename']} excluded: {row['reason']}")
    messages.warn_some(processed)
