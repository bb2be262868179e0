"""The exposure table: one row an exposure, its fate and the reason."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from astropy.io import fits

from wfssbkg import StepError, __version__, files
from wfssbkg.layout import Folder

if TYPE_CHECKING:  # imported where it is used: it takes a while, in which workers can start
    from astropy.table import Column, Table

# What can become of an exposure.
ACCEPTED = "accepted"  # takes part in the background
EXCLUDED = "excluded"  # left out by the query's rules; not downloaded
FAILED = "failed"  # a download or a step went wrong; tried again the next time
REJECTED = "rejected"  # its pixels are not fit for a background

# name -> (type, unit, description)
COLUMNS: dict[str, tuple[str, str | None, str]] = {
    "productFilename": ("str", None, "name of the rate file"),
    "obs_id": ("str", None, "observation identifier at MAST"),
    "dataURI": ("str", None, "address at MAST, or path of a local file"),
    "size": ("i8", "byte", "size of the rate file"),
    "program": ("str", None, "JWST programme"),
    "ra": ("f8", "deg", "right ascension of the pointing, ICRS"),
    "dec": ("f8", "deg", "declination of the pointing, ICRS"),
    "mjd": ("f8", "d", "start of the exposure, MJD"),
    "effinttm": ("f8", "s", "effective integration time"),
    "readpatt": ("str", None, "readout pattern"),
    "subarray": ("str", None, "subarray"),
    "star_gmag": ("f8", "mag", "Gaia G of the nearest bright star"),
    "star_sep": ("f8", "arcmin", "its separation from the pointing"),
    "status": ("str", None, "accepted, excluded, failed or rejected"),
    "reason": ("str", None, "why it is not accepted"),
    "level": ("f8", "DN/s", "sky level, from makeBackgrounds.py"),
    "masked_fraction": ("f8", None, "masked part of the science pixels"),
    "weight": ("f8", None, "share of the background's information"),
    "flat": ("str", None, "flat field in CRDS, as divided out"),
    "crds_context": ("str", None, "CRDS context that chose the flat field"),
}


def new(rows: Iterable[Mapping[str, Any]]) -> Table:
    """
    An exposure table of the given rows.

    Parameters
    ----------
    rows : iterable of mappings
        Column name to value; a column that a row leaves out, or None, is empty: '' for text,
        NaN for a number, 0 for `size`. The default status is accepted.

    Returns
    -------
    `~astropy.table.Table`
        With the columns of `COLUMNS`, sorted by file name.
    """
    from astropy.table import Table

    rows = sorted(rows, key=lambda row: row["productFilename"])
    table = Table()
    for name, (kind, unit, description) in COLUMNS.items():
        empty = {"str": "", "i8": 0, "f8": np.nan}[kind]
        if name == "status":
            empty = ACCEPTED
        values = [empty if row.get(name) is None else row[name] for row in rows]
        dtype = object if kind == "str" else kind
        table[name] = np.array(values, dtype=dtype)
        table[name].unit = unit
        table[name].description = description
    return table


def read(path: Path) -> Table:
    """
    Read an exposure table.

    Text columns hold Python strings of any length, so that a longer reason fits.

    Raises
    ------
    StepError
        If there is none, or it cannot be read: run queryData.py first.
    """
    from astropy.table import Table

    if not path.exists():
        raise StepError(f"{path} does not exist. Run queryData.py first")
    try:
        with files.opened(path) as hdus:
            files.check_whole(path, hdus)
            data, qdate = hdus["EXPOSURES"].data, hdus[0].header["QDATE"]
            table = new([])
            if len(data):
                table = Table({name: _column(data[name], name) for name in COLUMNS})
    except StepError as error:
        raise StepError(
            f"{path} is not an exposure table ({error}). Remove it and run queryData.py again"
        ) from None
    table.meta = {"QDATE": qdate}
    return table


def write(table: Table, path: Path, qdate: str | None = None) -> None:
    """
    Write an exposure table, replacing the file in one go.

    Parameters
    ----------
    table : `~astropy.table.Table`
    path : `~pathlib.Path`
    qdate : str, optional
        UTC time of the query, ISO 8601; default: the one the table was read with.
    """
    primary = fits.PrimaryHDU()
    primary.header["QDATE"] = (qdate or table.meta["QDATE"], "UTC time of the query")
    primary.header["WFSSBKG"] = (__version__, "version of WFSSBackgrounds")
    files.write(path, [primary, to_hdu(table)])


def _column(values: np.ndarray, name: str) -> Column:
    """A column of a file as one of the table: text as Python strings, numbers in native order."""
    from astropy.table import Column

    kind, unit, description = COLUMNS[name]
    if kind == "str":
        values = np.array([str(value).strip() for value in values], dtype=object)
    return Column(
        np.asarray(values, dtype=object if kind == "str" else kind),
        unit=unit,
        description=description,
    )


def to_hdu(table: Table) -> fits.BinTableHDU:
    """The exposure table as an extension of a FITS file."""
    from astropy.table import Table

    plain = Table()
    for name, (kind, _, _) in COLUMNS.items():
        values = np.asarray(table[name])
        plain[name] = values.astype(str) if kind == "str" else values
    rows = fits.BinTableHDU(plain, name="EXPOSURES")
    for name, (_, unit, description) in COLUMNS.items():
        number = rows.columns.names.index(name) + 1
        rows.header.comments[f"TTYPE{number}"] = description
        if unit:  # as a keyword, since astropy knows no DN in FITS units
            rows.header.set(f"TUNIT{number}", unit, after=f"TFORM{number}")
    return rows


def mark(table: Table, filename: str, **values: Any) -> None:
    """Set columns of the row of one exposure.

    Raises
    ------
    KeyError
        If the table has no such exposure.
    """
    (rows,) = np.nonzero(table["productFilename"] == filename)
    if len(rows) != 1:
        raise KeyError(filename)
    for name, value in values.items():
        table[name][rows[0]] = value


def reason(table: Table, filename: str) -> str:
    """Why an exposure is not accepted."""
    return str(table["reason"][table["productFilename"] == filename][0])


def reject_crowded(table: Table, limit: float) -> None:
    """Reject the accepted exposures of which more than the fraction `limit` is masked."""
    for row in np.nonzero((table["masked_fraction"] > limit) & (table["status"] == ACCEPTED))[0]:
        table["status"][row] = REJECTED
        table["reason"][row] = (
            f"{table['masked_fraction'][row]:.0%} of the pixels masked, "
            f"more than {limit:.0%} (combine.maximum_masked_fraction)"
        )


def fates(table: Table) -> dict[str, list[str]]:
    """File names by status, in the table's order."""
    names: dict[str, list[str]] = {ACCEPTED: [], EXCLUDED: [], FAILED: [], REJECTED: []}
    for row in table:
        names.setdefault(row["status"], []).append(row["productFilename"])
    return names


def to_process(table: Table, folder: Folder) -> list[Path]:
    """The rate files to work on: of exposures accepted, rejected (to be judged again), or failed.

    An exposure whose download failed is not among them; one that was rejected is, since
    makeBackgrounds.py judges it again.
    """
    rows = [(row["status"], rate_path(row, folder)) for row in table]
    return [
        rate
        for status, rate in rows
        if status in (ACCEPTED, REJECTED) or (status == FAILED and rate.exists())
    ]


def rate_path(row: Table.Row, folder: Folder) -> Path:
    """Where the rate file of a table row is: in the combination's folder, or where the user has it.

    Parameters
    ----------
    row : `~astropy.table.Row`
    folder : `~wfssbkg.layout.Folder`
    """
    if is_downloaded(row):
        return folder.rate(row["productFilename"])
    return Path(row["dataURI"])


def is_downloaded(row: Table.Row) -> bool:
    """Whether the rate file of a table row is ours, from MAST, and not one of the user's own."""
    return row["dataURI"].startswith("mast:")


def latest(table: Table) -> str:
    """File name of the accepted exposure that was taken last.

    Raises
    ------
    StepError
        If there is no accepted exposure.
    """
    accepted = table[table["status"] == ACCEPTED]
    if not len(accepted):
        raise StepError("the exposure table has no accepted exposure")
    return str(accepted["productFilename"][np.argmax(np.nan_to_num(accepted["mjd"]))])
