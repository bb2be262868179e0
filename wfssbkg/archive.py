"""Which rate exposures there are, at MAST or in a folder, and which of them to take."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
from astropy.table import Table

from wfssbkg import StepError, cli, exposures, progress, rate
from wfssbkg.config import ConfigError, Query
from wfssbkg.download import size_in_words
from wfssbkg.files import opened, printable
from wfssbkg.layout import Combination
from wfssbkg.network import mast_client, with_retries

# https://jwst-pipeline.readthedocs.io: file naming schemes. Nothing else becomes a file name here.
RATE_NAME = re.compile(r"jw[0-9]{11}_[0-9a-z]{5}_[0-9]{5}(-seg[0-9]{3})?_nis_rate\.fits")

_PRODUCTS = "mast:JWST/product/"
_SERVICE = "Mast.Jwst.Filtered.Niriss"
_COLUMNS = (
    "filename", "fileSetName", "productLevel", "exp_type", "instrume", "filter", "pupil",
    "readpatt", "subarray", "effinttm", "targ_ra", "targ_dec", "s_region", "expstart",
    "date_obs_mjd", "program", "dataURI", "fileSize", "publicReleaseDate",
    "publicReleaseDate_mjd", "isRestricted", "isStale",
)  # fmt: skip
_1970 = datetime(1970, 1, 1, tzinfo=UTC)  # MJD 40587
_TRUE = ("true", "t", "1", "yes", "y")


@dataclass
class Findings:
    """The answer to one search.

    Attributes
    ----------
    exposures : list of dict
        Of the combinations asked for, one a file name: what is known of the columns of the
        exposure table, and `combination`.
    others : int
        Rows or files that are not such exposures.
    refused : list of str
        Rows or files that cannot be used or assigned, each with the reason.
    """

    exposures: list[dict[str, Any]] = field(default_factory=list)
    others: int = 0
    refused: list[str] = field(default_factory=list)


def find(query: Query, combinations: Sequence[Combination]) -> Findings:
    """
    Find all rate exposures of some combinations, at MAST with one request or in a folder.

    Parameters
    ----------
    query : `~wfssbkg.config.Query`
        With `source` mast, or a folder: ``*_rate.fits`` in it and in the folders below.
    combinations : sequence of `~wfssbkg.layout.Combination`

    Returns
    -------
    `Findings`

    Raises
    ------
    StepError
        If MAST cannot be reached or its answer is not complete.
    ConfigError
        If `source` is not a folder.
    """
    if query.source != "mast":
        return _find_in_folder(Path(query.source), combinations)
    try:
        with progress.waiting("asking MAST"):
            rows = with_retries(lambda: _search(query, combinations), query, report=cli.say)
    except StepError as error:
        raise StepError(
            f"MAST at {query.mast_url} gives no list of exposures: {error}. "
            "Check the network and query.mast_url, and run queryData.py again"
        ) from error
    return sift(rows, combinations)


# ---- MAST --------------------------------------------------------------------------------------


def _search(query: Query, combinations: Sequence[Combination]) -> list[Any]:
    """All rows of the keyword service for some combinations, from all pages of the answer."""
    from astroquery.mast import MastClass

    wanted = {
        "exp_type": sorted({combination.exp_type for combination in combinations}),
        "productLevel": ["2a"],
        "filter": sorted({combination.grating for combination in combinations}),
        "pupil": sorted({combination.filter for combination in combinations}),
    }
    parameters = {
        "columns": ",".join(_COLUMNS),
        "filters": [{"paramName": name, "values": values} for name, values in wanted.items()],
    }
    # Not astroquery's table: it turns a null into False, and fails on text in a number column.
    responses = mast_client(MastClass, query).service_request_async(_SERVICE, parameters)
    rows: list[Any] = []
    for response in responses:
        answer = response.json()
        if answer["status"] != "COMPLETE":
            raise ValueError(f"status {answer['status']}: {answer.get('msg')}")
        rows += answer["data"]
    expected = (answer.get("paging") or {}).get("rowsFiltered") or 0
    if len(rows) < expected:
        raise ValueError(f"{len(rows)} of {expected} rows arrived")
    return rows


def sift(rows: Iterable[Any], combinations: Sequence[Combination]) -> Findings:
    """Make exposures of the rows of an answer, which may hold anything, also what was not asked."""
    findings = Findings()
    found: dict[str, dict[str, Any]] = {}
    for row in map(_plain, rows):
        name = row["filename"]
        if not _is_rate(row, combinations):
            findings.others += 1
        elif not RATE_NAME.fullmatch(name):
            findings.refused.append(f"'{name[:100]}' is not the name of a NIRISS rate file")
        else:
            reason = _withheld(row)
            if name not in found or (found[name]["reason"] and not reason):
                status = exposures.EXCLUDED if reason else exposures.ACCEPTED
                found[name] = _exposure(row, _PRODUCTS + name, status, reason)
    findings.exposures = list(found.values())
    return findings


def _is_rate(row: Mapping[str, str], combinations: Sequence[Combination]) -> bool:
    return (
        row["instrume"].upper() in ("", "NIRISS")
        and row["productLevel"].lower() == "2a"
        and row["filename"].endswith("_rate.fits")
        and _combination(row) in combinations
        and row["exp_type"].upper() == _combination(row).exp_type
    )


def _withheld(row: Mapping[str, str]) -> str:
    """Why MAST does not give the file to everybody, or should not; '' if it does."""
    released = _release(row)
    if released > datetime.now(UTC):
        return f"not public: until {released:%Y-%m-%d}"
    if row["isRestricted"].lower() in _TRUE:
        return "not public: restricted"
    if row["isStale"].lower() in _TRUE:
        return "superseded in the archive"
    if row["dataURI"] not in ("", _PRODUCTS + row["filename"]):
        return f"unexpected address: {row['dataURI'][:100]}"
    return ""


def _release(row: Mapping[str, str]) -> datetime:
    """When the file becomes public; long ago if MAST does not say."""
    text = row["publicReleaseDate"]
    days = _number(row["publicReleaseDate_mjd"]) - 40587
    # As MAST's portal writes dates: /Date(1725884414840)/, in ms.
    if math.isnan(days) and (milliseconds := re.fullmatch(r"/Date\((-?[0-9]{1,15})\)/", text)):
        days = int(milliseconds[1]) / 86_400_000
    if math.isfinite(days):
        return _1970 + timedelta(days=min(max(days, 0), 2_900_000))  # datetime ends in 9999
    try:
        date = datetime.fromisoformat(text)
    except ValueError:
        return _1970
    return date.replace(tzinfo=date.tzinfo or UTC)


# ---- a folder of rate files --------------------------------------------------------------------


def _find_in_folder(folder: Path, combinations: Sequence[Combination]) -> Findings:
    if not folder.is_dir():
        raise ConfigError(f"query.source is '{folder}'. Expected mast, or an existing folder")
    findings = Findings()
    found: dict[str, Path] = {}
    paths = sorted(folder.rglob("*_rate.fits"))
    for path in progress.each(paths, "reading headers", "file"):
        if path.name.startswith("."):  # half a file of a program that was stopped
            continue
        try:
            row = _header_row(path)
        except StepError as error:
            findings.refused.append(f"{path}: {error}")
            continue
        if not _is_rate(row, combinations):
            findings.others += 1
        elif printable(str(path)) != str(path):
            findings.refused.append(f"{path}: its path has characters a FITS table cannot hold")
        elif path.name in found:
            findings.refused.append(f"{path}: the same name as {found[path.name]}")
        else:
            found[path.name] = path
            status, reason = exposures.ACCEPTED, ""
            try:
                rate.check(path)
            except StepError as error:
                status, reason = exposures.FAILED, f"unusable file: {error}"
            findings.exposures.append(_exposure(row, str(path), status, reason))
    return findings


def _header_row(path: Path) -> dict[str, str]:
    """The header of a rate file as a row of MAST's keyword service."""
    with opened(path) as hdus:
        header = dict(hdus[0].header)
        if "SCI" in hdus:
            header = dict(hdus["SCI"].header) | header
        size = path.stat().st_size
    row = {name: header.get(name.upper()) for name in _COLUMNS}
    row |= {"filename": path.name, "fileSize": size, "productLevel": "2a"}
    row["fileSetName"] = path.name.removesuffix("_rate.fits").removesuffix("_nis")
    row["instrume"] = row["instrume"] or "unknown"
    if math.isfinite(_number(header.get("RA_REF"))):
        row |= {"targ_ra": header["RA_REF"], "targ_dec": header.get("DEC_REF")}
    return _plain(row)


# ---- from a row of the keyword service to one of the exposure table ----------------------------


def _plain(row: Any) -> dict[str, str]:
    """A row of text in printable ASCII; '' for what is missing."""
    row = row if isinstance(row, Mapping) else {}
    return {name: _text(row.get(name)) for name in _COLUMNS}


def _text(value: Any) -> str:
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return printable(str(value).strip()) if isinstance(value, str | int | float) else ""


def _number(text: Any) -> float:
    try:
        number = float(text)
    except (TypeError, ValueError):
        return math.nan
    return number if math.isfinite(number) else math.nan


def _combination(row: Mapping[str, str]) -> Combination:
    return Combination(row["filter"].upper(), row["pupil"].upper())


def _exposure(row: Mapping[str, str], uri: str, status: str, reason: str) -> dict[str, Any]:
    ra, dec = _pointing(row)
    mjd, size = _number(row["expstart"]), _number(row["fileSize"])
    return {
        "combination": _combination(row),
        "productFilename": row["filename"],
        "obs_id": row["fileSetName"],
        "dataURI": uri,
        "size": int(size) if 0 < size < 2**62 else 0,
        "program": row["program"].lstrip("0"),
        "ra": ra,
        "dec": dec,
        "mjd": mjd if mjd > 0 else _number(row["date_obs_mjd"]),
        "effinttm": _number(row["effinttm"]),
        "readpatt": row["readpatt"].upper(),
        "subarray": row["subarray"].upper(),
        "status": status,
        "reason": reason,
    }


def _pointing(row: Mapping[str, str]) -> tuple[float, float]:
    """Right ascension and declination in deg: the footprint's centre, or else the target."""
    ra, dec = _centre(row["s_region"]) or (_number(row["targ_ra"]), _number(row["targ_dec"]))
    ra = ra % 360 % 360  # twice, since -1e-20 % 360 is 360
    return (ra, dec) if abs(dec) <= 90 and math.isfinite(ra) else (math.nan, math.nan)


def _centre(region: str) -> tuple[float, float] | None:
    """The centre of the vertices of an STC-S polygon in deg, or None; safe at RA 0 and poles."""
    numbers = [number for word in region.split() if math.isfinite(number := _number(word))]
    usable = region.upper().startswith("POLYGON") and len(numbers) >= 6 and len(numbers) % 2 == 0
    if not usable or max(map(abs, numbers[1::2])) > 90:
        return None
    vertices = list(dict.fromkeys(zip(numbers[::2], numbers[1::2], strict=True)))
    ra, dec = np.radians(vertices).T
    x, y, z = np.mean([np.cos(dec) * np.cos(ra), np.cos(dec) * np.sin(ra), np.sin(dec)], axis=1)
    return math.degrees(math.atan2(y, x)), math.degrees(math.atan2(z, math.hypot(x, y)))


# ---- deciding ----------------------------------------------------------------------------------


def exposure_table(findings: Findings, combination: Combination, query: Query) -> Table:
    """
    Decide which exposures of a combination to take.

    Parameters
    ----------
    findings : `Findings`
    combination : `~wfssbkg.layout.Combination`
    query : `~wfssbkg.config.Query`
        With the accepted `readpatt`, `subarray` and `programs`.

    Returns
    -------
    `~astropy.table.Table`
        An exposure table; what is left out has a status and a reason.
    """
    rows = [row for row in findings.exposures if row["combination"] == combination]
    return exposures.new(row | _exclusion(row, query) for row in rows)


def _exclusion(row: Mapping[str, Any], query: Query) -> dict[str, str]:
    """The fate of a row, if the query's settings leave it out."""
    programs = [name.lstrip("0") for name in query.programs or ()]
    reason = ""
    for column, allowed in (("subarray", query.subarray), ("readpatt", query.readpatt)):
        if row[column] not in allowed:
            found = row[column][:20] or "unknown"
            reason = f"{column.upper()} {found} (accepted {', '.join(allowed)})"
    if query.programs is not None and row["program"] not in programs:
        reason = f"not among query.programs: {row['program'] or 'unknown'}"
    if query.exposures is not None and row["productFilename"] not in query.exposures:
        reason = "not among query.exposures"
    if not reason or row["status"] == exposures.EXCLUDED:
        return {}
    return {"status": exposures.EXCLUDED, "reason": reason}


def keep_results(table: Table, old: Table) -> Table:
    """
    Take over from an earlier table what later steps wrote there.

    Level, masked fraction and the like stay with an exposure whose size has not changed; a
    rejected one stays rejected. A failed download is left to `download` to look at again. An
    exposure that MAST no longer lists keeps its row.

    Parameters
    ----------
    table, old : `~astropy.table.Table`
        The new exposure table and the earlier one.

    Returns
    -------
    `~astropy.table.Table`
    """
    rows = {row["productFilename"]: dict(zip(row.colnames, row, strict=True)) for row in table}
    remote = all(row["dataURI"].startswith("mast:") for row in rows.values())
    # A local file has just been looked at; one of MAST that failed still has to be.
    lasting = (exposures.REJECTED, exposures.FAILED) if remote else (exposures.REJECTED,)
    for former in old:
        row = rows.get(former["productFilename"])
        if row and row["size"] == former["size"]:
            kept = ["level", "masked_fraction", "weight", "flat", "crds_context"]
            if row["status"] == exposures.ACCEPTED and former["status"] in lasting:
                kept += ["status", "reason"]
            row.update({column: former[column] for column in kept})
        elif not row and remote and former["dataURI"].startswith("mast:"):
            row = dict(zip(former.colnames, former, strict=True))
            row.update(status=exposures.EXCLUDED, reason="no longer in the archive")
            rows[former["productFilename"]] = row
    return exposures.new(rows.values())


def describe(table: Table) -> str:
    """What becomes of the exposures of a table, in words: one line, and one a reason."""
    accepted = np.sum(table["status"] == exposures.ACCEPTED)
    size = size_in_words(int(np.sum(table["size"])))
    lines = [f"found {len(table)} exposures ({size}), {accepted} accepted"]
    for status in (exposures.EXCLUDED, exposures.REJECTED, exposures.FAILED):
        # What follows a colon is particular to one exposure.
        reasons = Counter(
            row["reason"].partition(":")[0] for row in table if row["status"] == status
        )
        lines += [f"  {count} {status}: {reason}" for reason, count in reasons.most_common()]
    return "\n".join(lines)
