"""What the headers of downloaded files tell, noted in the exposure table."""

from astropy.table import Table

from wfssbkg.errors import StepError
from wfssbkg.files import exposure_table, rate_header
from wfssbkg.files.exposure_table import EXCLUDED, TARGET
from wfssbkg.layout import Folder


def note(table: Table, folder: Folder) -> None:
    """
    Note in an exposure table what the headers of downloaded files tell, once for each version.

    Files that were processed are excluded.

    Parameters
    ----------
    table : `~astropy.table.Table`
        The exposure table; changed in place.
    folder : `~wfssbkg.layout.Folder`
        Where the files are. Of a rate file that was removed, its masked exposure has the header.
    """
    for row in table:
        if not row["s_clnfns"] and (found := _at_hand(row, folder)):
            rate_header.note_in(row, found)


def note_pointings(table: Table, folder: Folder) -> None:
    """As `note`, but only the pointings, of all exposures whose footprint MAST does not give."""
    for row in table:
        if row["pointing"] in ("", TARGET) and (found := _at_hand(row, folder)):
            rate_header.point(row, found)


def _at_hand(row: Table.Row, folder: Folder) -> rate_header.Told | None:
    """What the header of a downloaded file tells; None if it cannot, or does not matter."""
    if row["status"] == EXCLUDED or not exposure_table.is_downloaded(row):
        return None
    name = row["productFilename"]
    try:
        return rate_header.at_hand(folder.rate(name), folder.masked(name))
    except StepError:  # makeMask.py will tell
        return None
