"""MAST: which rate exposures there are, which of them to take, and fetching them."""

from __future__ import annotations

import contextlib
import email.utils
import errno
import http.client
import logging
import math
import queue
import re
import shutil
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit

# Here, not where it is used: its logger must exist before cli.quieten sets the level of it.
import astroquery
import numpy as np
import requests
from astropy.io import fits
from astropy.table import Table
from tqdm import tqdm

from wfssbkg import StepError, cli, exposures
from wfssbkg.config import ConfigError, Query
from wfssbkg.layout import Combination, Folder, replacing

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

_FIRST_PAUSE = 1.0  # s; doubled after each try, up to query.timeout
_MJD_OF_1970 = 40587.0
_NO_USE_TO_RETRY = {
    errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM, errno.EISDIR,
    errno.ENOTDIR, errno.EFBIG, errno.ENAMETOOLONG,
}  # fmt: skip
_VANISHED = "no longer in the archive"

Result = TypeVar("Result")


@dataclass(frozen=True)
class Exposure:
    """What MAST, or the header of a local file, tells about one rate exposure.

    Text that is not given is '', a number NaN, `size` 0.

    Attributes
    ----------
    excluded, failed : str
        Why the exposure must be left out, or why its local file is of no use.
    """

    filename: str
    uri: str
    size: int
    obs_id: str
    program: str
    combination: Combination
    readpatt: str
    subarray: str
    ra: float
    dec: float
    mjd: float
    effinttm: float
    excluded: str = ""
    failed: str = ""


@dataclass
class Findings:
    """The answer to one search.

    Attributes
    ----------
    exposures : list of `Exposure`
        Rate exposures of the combinations asked for, one a file name.
    others : int
        Rows or files that are not such exposures.
    refused : list of str
        Rows or files that cannot be used or assigned, each with the reason.
    """

    exposures: list[Exposure] = field(default_factory=list)
    others: int = 0
    refused: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Fetched:
    """What a call of `download` did.

    Attributes
    ----------
    downloaded, present : int
        Exposures fetched now, and those that were there already.
    size : int
        Bytes fetched now.
    failed : int
        Exposures that could not be fetched.
    """

    downloaded: int
    present: int
    size: int
    failed: int


# ---- searching ---------------------------------------------------------------------------------


def find(query: Query, combinations: Sequence[Combination]) -> Findings:
    """
    Find all rate exposures of some combinations, at MAST with one request or in a folder.

    Parameters
    ----------
    query : `~wfssbkg.config.Query`
        With `source` 'mast', or a folder: its files ``*_rate.fits`` are taken, also from the
        folders in it.
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
    filters = {
        "exp_type": ["NIS_WFSS"],
        "productLevel": ["2a"],
        "filter": sorted({combination.grating for combination in combinations}),
        "pupil": sorted({combination.filter for combination in combinations}),
    }
    try:
        rows = with_retries(lambda: _search(query, filters), query, report=cli.say)
    except StepError as error:
        raise StepError(
            f"MAST at {query.mast_url} gives no list of exposures: {error}. "
            "Check the network and query.mast_url, and run queryData.py again"
        ) from error
    return sift(rows, combinations)


def _search(query: Query, filters: Mapping[str, list[str]]) -> list[Any]:
    """All rows of the keyword service that pass the filters, from all pages of the answer."""
    from astroquery.mast import MastClass

    parameters = {
        "columns": ",".join(_COLUMNS),
        "filters": [{"paramName": name, "values": values} for name, values in filters.items()],
    }
    # Not astroquery's table: it turns a null into False, and fails on text in a number column.
    responses = _client(MastClass, query).service_request_async(_SERVICE, parameters)
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
    """
    Make plain, typed exposures of rows that may hold anything.

    Parameters
    ----------
    rows : iterable
        Of MAST's keyword service: column name to a text, number, flag or None.
    combinations : sequence of `~wfssbkg.layout.Combination`
        What was asked for; the answer is not trusted to hold nothing else.

    Returns
    -------
    `Findings`
    """
    findings = Findings()
    found: dict[str, Exposure] = {}
    for row in rows:
        if not _is_rate(row, combinations):
            findings.others += 1
            continue
        name = _text(row.get("filename"))
        if not RATE_NAME.fullmatch(name):
            findings.refused.append(f"'{name[:100]}' is not the name of a NIRISS rate file")
            continue
        exposure = _exposure(row, uri=_PRODUCTS + name, excluded=_withheld(row))
        if name not in found or (found[name].excluded and not exposure.excluded):
            found[name] = exposure
    findings.exposures = list(found.values())
    return findings


def _is_rate(row: Any, combinations: Sequence[Combination]) -> bool:
    return (
        isinstance(row, Mapping)
        and _text(row.get("instrume")).upper() in ("", "NIRISS")
        and _text(row.get("exp_type")).upper() == "NIS_WFSS"
        and _text(row.get("productLevel")).lower() == "2a"
        and _text(row.get("filename")).endswith("_rate.fits")
        and _combination(row) in combinations
    )


def _combination(row: Mapping[str, Any]) -> Combination:
    return Combination(_text(row.get("filter")).upper(), _text(row.get("pupil")).upper())


def _exposure(row: Mapping[str, Any], **more: Any) -> Exposure:
    ra, dec = _pointing(row)
    mjd = _number(row.get("expstart"))
    size = _number(row.get("fileSize"))
    return Exposure(
        filename=_text(row.get("filename")),
        size=int(size) if 0 < size < 2**62 else 0,
        obs_id=_text(row.get("fileSetName")),
        program=_text(row.get("program")).lstrip("0"),
        combination=_combination(row),
        readpatt=_text(row.get("readpatt")).upper(),
        subarray=_text(row.get("subarray")).upper(),
        ra=ra,
        dec=dec,
        mjd=mjd if mjd > 0 else _number(row.get("date_obs_mjd")),
        effinttm=_number(row.get("effinttm")),
        **more,
    )


def _withheld(row: Mapping[str, Any]) -> str:
    """Why MAST does not give the file to everybody, or should not; '' if it does."""
    released = _number(row.get("publicReleaseDate_mjd"))
    if math.isnan(released):
        released = _mjd_of_date(_text(row.get("publicReleaseDate")))
    if released > _MJD_OF_1970 + time.time() / 86400:
        return f"not public: until {_date_of_mjd(released)}"
    if _flag(row.get("isRestricted")):
        return "not public: restricted"
    if _flag(row.get("isStale")):
        return "superseded in the archive"
    uri = _text(row.get("dataURI"))
    if uri not in ("", _PRODUCTS + _text(row.get("filename"))):
        return f"unexpected address: {uri[:100]}"
    return ""


def _text(value: Any) -> str:
    """Printable ASCII, which is what FITS tables and a terminal can take."""
    if value is None or isinstance(value, Mapping | list):
        return ""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return "".join(c if " " <= c <= "~" else "?" for c in str(value).strip())


def _number(value: Any) -> float:
    try:
        number = float(value)
    except (TypeError, ValueError, OverflowError):
        return math.nan
    return number if math.isfinite(number) else math.nan


def _flag(value: Any) -> bool:
    return _text(value).lower() in ("true", "t", "1", "yes", "y")


def _mjd_of_date(text: str) -> float:
    """MJD of a date as ISO 8601, or as MAST's portal writes it: /Date(1725884414840)/, in ms."""
    if milliseconds := re.fullmatch(r"/Date\((-?[0-9]{1,15})\)/", text):
        return _MJD_OF_1970 + int(milliseconds[1]) / 86_400_000
    try:
        date = datetime.fromisoformat(text)
        date = date.replace(tzinfo=date.tzinfo or UTC)
        return _MJD_OF_1970 + date.timestamp() / 86400
    except (ValueError, OverflowError):
        return math.nan


def _date_of_mjd(mjd: float) -> str:
    try:
        return f"{datetime.fromtimestamp((mjd - _MJD_OF_1970) * 86400, UTC):%Y-%m-%d}"
    except (ValueError, OverflowError, OSError):
        return f"MJD {mjd:g}"


def _pointing(row: Mapping[str, Any]) -> tuple[float, float]:
    """Right ascension and declination in deg: the footprint's centre, or else the target."""
    position = _centre(_text(row.get("s_region")))
    if position is None:
        position = _number(row.get("targ_ra")), _number(row.get("targ_dec"))
    ra, dec = position
    ra = ra % 360 % 360  # twice, since -1e-20 % 360 is 360
    return (ra, dec) if abs(dec) <= 90 and math.isfinite(ra) else (math.nan, math.nan)


def _centre(region: str) -> tuple[float, float] | None:
    """The centre of the vertices of an STC-S polygon in deg, or None; safe at RA 0 and poles."""
    if not region.upper().startswith("POLYGON"):
        return None
    numbers = [number for word in region.split() if math.isfinite(number := _number(word))]
    if len(numbers) < 6 or len(numbers) % 2:
        return None
    if max(map(abs, numbers[1::2])) > 90:
        return None
    vertices = list(dict.fromkeys(zip(numbers[::2], numbers[1::2], strict=True)))
    ra, dec = np.radians(vertices).T
    x, y, z = np.cos(dec) * np.cos(ra), np.cos(dec) * np.sin(ra), np.sin(dec)
    x, y, z = x.mean(), y.mean(), z.mean()
    return math.degrees(math.atan2(y, x)), math.degrees(math.atan2(z, math.hypot(x, y)))


# ---- a folder of rate files --------------------------------------------------------------------


def _find_in_folder(folder: Path, combinations: Sequence[Combination]) -> Findings:
    if not folder.is_dir():
        raise ConfigError(f"query.source is '{folder}'. Expected mast, or an existing folder")
    findings = Findings()
    found: dict[str, Path] = {}
    paths = sorted(folder.rglob("*_rate.fits"))
    for path in tqdm(paths, desc="  reading headers", unit="file", disable=not paths):
        if path.name.startswith("."):  # half a file of a program that was stopped
            continue
        try:
            row = _header_row(path)
        except StepError as error:
            findings.refused.append(f"{path}: {error}")
            continue
        if not _is_rate(row, combinations):
            findings.others += 1
        elif _text(str(path)) != str(path):
            findings.refused.append(f"{path}: its path has characters a FITS table cannot hold")
        elif path.name in found:
            findings.refused.append(f"{path}: the same name as {found[path.name]}")
        else:
            found[path.name] = path
            findings.exposures.append(_exposure(row, uri=str(path), failed=_problem(path)))
    return findings


def _header_row(path: Path) -> dict[str, Any]:
    """The header keywords of a rate file, named as MAST's keyword service names them."""
    try:
        with fits.open(path, memmap=False) as hdus:
            header = dict(hdus[0].header)
            if "SCI" in hdus:
                header = dict(hdus["SCI"].header) | header
        size = path.stat().st_size
    except Exception as error:  # a damaged file makes astropy raise anything
        raise StepError(f"cannot be read as FITS ({_first_line(error)})") from error
    has_reference = math.isfinite(_number(header.get("RA_REF")))
    return {
        "filename": path.name,
        "fileSetName": path.name.removesuffix("_nis_rate.fits").removesuffix("_rate.fits"),
        "fileSize": size,
        "productLevel": "2a",
        "instrume": header.get("INSTRUME") or "unknown",
        "exp_type": header.get("EXP_TYPE"),
        "filter": header.get("FILTER"),
        "pupil": header.get("PUPIL"),
        "readpatt": header.get("READPATT"),
        "subarray": header.get("SUBARRAY"),
        "program": header.get("PROGRAM"),
        "s_region": header.get("S_REGION"),
        "targ_ra": header.get("RA_REF" if has_reference else "TARG_RA"),
        "targ_dec": header.get("DEC_REF" if has_reference else "TARG_DEC"),
        "expstart": header.get("EXPSTART"),
        "effinttm": header.get("EFFINTTM"),
    }


def _problem(path: Path) -> str:
    try:
        check_rate(path)
    except StepError as error:
        return f"unusable file: {error}"
    return ""


def check_rate(path: Path, size: int = 0) -> None:
    """
    Check that a file is a whole rate file: SCI, ERR and DQ images of equal 2-D shape.

    Parameters
    ----------
    path : `~pathlib.Path`
    size : int
        Expected size in bytes; 0 if it is not known.

    Raises
    ------
    StepError
        With what is wrong; the pixels are not read.
    """
    try:
        found = path.stat().st_size
        with path.open("rb") as file:
            start = file.read(64)
    except OSError as error:
        raise StepError(f"cannot be read ({error.strerror})") from error
    if not start.startswith(b"SIMPLE  ="):
        what = f"starts with '{_text(start.decode('ascii', 'replace'))[:20]}'" if start else "empty"
        raise StepError(f"not a FITS file ({what})")
    if size and found != size:
        raise StepError(f"{found} bytes instead of {size}")
    shapes = {}
    try:
        with fits.open(path, memmap=False) as hdus:
            for name in ("SCI", "ERR", "DQ"):
                if name not in hdus or not hdus[name].is_image:
                    raise StepError(f"no image extension {name}")
                shapes[name] = hdus[name].shape
                place = hdus[name].fileinfo()
                if place["datLoc"] + place["datSpan"] > found:
                    raise StepError(f"it ends within the extension {name}")
    except StepError:
        raise
    except Exception as error:  # a damaged file makes astropy raise anything
        raise StepError(f"cannot be read as FITS ({_first_line(error)})") from error
    if len(shapes["SCI"]) != 2 or len(set(shapes.values())) != 1:
        raise StepError(f"SCI, ERR, DQ have the shapes {', '.join(map(str, shapes.values()))}")


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
    rows = []
    for exposure in findings.exposures:
        if exposure.combination != combination:
            continue
        excluded = exposure.excluded or _unwanted(exposure, query)
        status = exposures.EXCLUDED if excluded else exposures.ACCEPTED
        if exposure.failed and not excluded:
            status = exposures.FAILED
        rows.append(
            {name: getattr(exposure, name, None) for name in exposures.COLUMNS}
            | {
                "productFilename": exposure.filename,
                "dataURI": exposure.uri,
                "status": status,
                "reason": excluded or exposure.failed,
            }
        )
    return exposures.new(rows)


def _unwanted(exposure: Exposure, query: Query) -> str:
    if query.programs is not None and exposure.program not in {
        program.lstrip("0") for program in query.programs
    }:
        return f"not among query.programs: {exposure.program or 'unknown'}"
    for keyword, allowed in (("readpatt", query.readpatt), ("subarray", query.subarray)):
        value = getattr(exposure, keyword)
        if value not in allowed:
            return f"{keyword.upper()} {value[:20] or 'unknown'} (accepted {', '.join(allowed)})"
    return ""


def keep_results(table: Table, old: Table) -> Table:
    """
    Take over from an earlier table what later steps wrote there.

    Level and masked fraction stay with an exposure whose size has not changed; a rejected one
    stays rejected. A failed download is left to `download` to look at again. An exposure that
    MAST no longer lists keeps its row.

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
    for former in old:
        name = former["productFilename"]
        row = rows.get(name)
        if row is None:
            if remote and former["dataURI"].startswith("mast:"):
                rows[name] = dict(zip(former.colnames, former, strict=True))
                rows[name].update(status=exposures.EXCLUDED, reason=_VANISHED)
            continue
        if row["size"] != former["size"]:
            continue
        kept = ["level", "masked_fraction"]
        # A local file has just been looked at; one of MAST that failed still has to be.
        doubtful = former["status"] == exposures.FAILED and remote
        if row["status"] == exposures.ACCEPTED and (
            former["status"] == exposures.REJECTED or doubtful
        ):
            kept += ["status", "reason"]
        row.update({key: former[key] for key in kept})
    return exposures.new(rows.values())


def describe(table: Table) -> str:
    """What becomes of the exposures of a table, in words: one line, and one a reason."""
    fates = Counter(table["status"])
    size = size_in_words(int(np.sum(table["size"])))
    lines = [f"found {len(table)} exposures ({size}), {fates[exposures.ACCEPTED]} accepted"]
    for status in (exposures.EXCLUDED, exposures.REJECTED, exposures.FAILED):
        # What follows a colon is particular to one exposure.
        reasons = Counter(
            row["reason"].partition(":")[0] for row in table if row["status"] == status
        )
        lines += [f"  {count} {status}: {reason}" for reason, count in reasons.most_common()]
    return "\n".join(lines)


def size_in_words(size: int) -> str:
    """A number of bytes in GB, or MB if it is small."""
    return f"{size / 1e9:.2f} GB" if size >= 1e8 else f"{size / 1e6:.1f} MB"


# ---- downloading -------------------------------------------------------------------------------


def download(table: Table, folder: Folder, query: Query, *, overwrite: bool = False) -> Fetched:
    """
    Fetch the accepted exposures of a table that are not there with the right size.

    Exposures that failed are looked at again: they are accepted if their file is sound, or can
    be fetched. An exposure that cannot be fetched gets the status failed and a reason. Local
    files are left as they are.

    Parameters
    ----------
    table : `~astropy.table.Table`
        The exposure table; changed in place.
    folder : `~wfssbkg.layout.Folder`
    query : `~wfssbkg.config.Query`
        With `mast_url`, `connections`, `attempts` and `timeout`.
    overwrite : bool
        Fetch what is there as well.

    Returns
    -------
    `Fetched`

    Raises
    ------
    StepError
        If the disk is too small for them.
    """
    wanted = [
        row
        for row in table
        if row["status"] in (exposures.ACCEPTED, exposures.FAILED)
        and row["dataURI"].startswith("mast:")
    ]
    jobs = [
        _Job(row["productFilename"], folder.rate(row["productFilename"]), int(row["size"]))
        for row in wanted
        if overwrite or not _is_there(row, folder)
    ]
    outcomes = _fetch(jobs, query, folder.path) if jobs else {}
    for row in wanted:
        error = outcomes.get(row["productFilename"])
        row["status"] = exposures.FAILED if error else exposures.ACCEPTED
        row["reason"] = f"download failed: {error}" if error else ""
        if row["productFilename"] in outcomes and not error:
            row["level"] = row["masked_fraction"] = np.nan  # they belong to the former file
    done = [job for job in jobs if not outcomes[job.name]]
    return Fetched(
        downloaded=len(done),
        present=int(np.sum(table["status"] == exposures.ACCEPTED)) - len(done),
        size=sum(job.path.stat().st_size for job in done),
        failed=len(jobs) - len(done),
    )


@dataclass(frozen=True)
class _Job:
    name: str
    path: Path
    size: int  # bytes; 0 if MAST does not say


def _is_there(row: Table.Row, folder: Folder) -> bool:
    path = folder.rate(row["productFilename"])
    if not path.is_file():
        return False
    if row["size"] and row["status"] == exposures.ACCEPTED:
        return path.stat().st_size == row["size"]
    try:
        check_rate(path, int(row["size"]))
    except StepError:
        return False
    return True


def _fetch(jobs: Sequence[_Job], query: Query, directory: Path) -> dict[str, StepError | None]:
    """Fetch all files, several at once; the error of each, or None."""
    directory.mkdir(parents=True, exist_ok=True)
    for debris in directory.glob(".????????.*_nis_rate.fits"):  # of a run that was killed
        debris.unlink(missing_ok=True)
    _check_space(jobs, directory)
    total = sum(job.size for job in jobs) or None
    downloads = _Downloads(jobs, query)
    outcomes: dict[str, StepError | None] = {}
    with (
        _quiet_astroquery(),
        tqdm(total=total, desc="  downloading", unit="B", unit_scale=True, mininterval=0.5) as bar,
        downloads,
    ):
        while len(outcomes) < len(jobs):
            with contextlib.suppress(queue.Empty):
                job, error = downloads.done.get(timeout=0.2)
                outcomes[job.name] = error
            bar.update(downloads.size_so_far() - bar.n)
    return outcomes


def _check_space(jobs: Sequence[_Job], directory: Path) -> None:
    needed = sum(job.size for job in jobs)
    free = shutil.disk_usage(directory).free
    if needed > free:
        raise StepError(
            f"{directory}: {len(jobs)} exposures of {size_in_words(needed)} are to be "
            f"downloaded, {size_in_words(free)} are free. Make room, or set another "
            "working_directory"
        )


class _Downloads:
    """Threads that fetch files, and can be stopped at any moment without leaving half a file.

    Daemon threads, not a pool: a pool waits for a server that keeps silent, also after Ctrl-C.

    Attributes
    ----------
    done : `queue.SimpleQueue`
        Receives each job with its error, or None.
    """

    def __init__(self, jobs: Sequence[_Job], query: Query) -> None:
        self.done: queue.SimpleQueue[tuple[_Job, StepError | None]] = queue.SimpleQueue()
        self._query = query
        self._jobs: queue.SimpleQueue[_Job] = queue.SimpleQueue()
        for job in jobs:
            self._jobs.put(job)
        self._stop = threading.Event()
        self._temporary: dict[str, Path] = {}
        self._finished = 0  # bytes
        self._unreachable = 0  # exposures in a row for which MAST did not answer
        self._give_up = ""
        self._lock = threading.Lock()
        self._threads = [
            threading.Thread(target=self._work, args=(self._new_client(),), daemon=True)
            for _ in range(min(query.connections, len(jobs)))
        ]

    def __enter__(self) -> _Downloads:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._stop.set()
        end = time.monotonic() + 1
        for thread in self._threads:
            thread.join(max(0.0, end - time.monotonic()))
        for path in list(self._temporary.values()):
            path.unlink(missing_ok=True)

    def size_so_far(self) -> int:
        """Bytes fetched, with those of the files under way."""
        size = self._finished
        for path in list(self._temporary.values()):
            with contextlib.suppress(OSError):
                size += path.stat().st_size
        return size

    def _new_client(self) -> Any:
        from astroquery.mast import ObservationsClass

        return _client(ObservationsClass, self._query, stopped=self._stop.is_set)

    def _work(self, client: Any) -> None:
        while not self._stop.is_set():
            try:
                job = self._jobs.get_nowait()
            except queue.Empty:
                return
            try:
                self._fetch(client, job)
                error = None
            except StepError as failure:
                error = failure
            self._note(error)
            self.done.put((job, error))

    def _fetch(self, client: Any, job: _Job) -> None:
        if self._give_up:
            raise StepError(self._give_up)
        try:
            with_retries(lambda: self._try(client, job), self._query, pause=self._stop.wait)
        finally:
            self._temporary.pop(job.name, None)
        with self._lock:
            self._finished += job.size

    def _try(self, client: Any, job: _Job) -> None:
        with replacing(job.path) as temporary:
            self._temporary[job.name] = temporary
            status, message, _ = client.download_file(
                _PRODUCTS + job.name, local_path=str(temporary), cache=False
            )
            if status != "COMPLETE":
                raise StepError(f"{message}")
            check_rate(temporary, job.size)

    def _note(self, error: StepError | None) -> None:
        """Spare the user hours of waiting when the line or the disk is gone for good."""
        cause = error.__cause__ if error else None
        with self._lock:
            if isinstance(cause, OSError) and cause.errno in (errno.ENOSPC, errno.EDQUOT):
                self._give_up = f"not tried: {error} before"
            lost = isinstance(cause, requests.ConnectionError | requests.Timeout)
            self._unreachable = self._unreachable + 1 if lost else 0
            if self._unreachable > 2 * self._query.connections:
                self._give_up = f"not tried: {self._unreachable} exposures before got: {error}"


# ---- the network -------------------------------------------------------------------------------


class ServerError(requests.RequestException):
    """A server refused a request.

    Attributes
    ----------
    status : int
        The HTTP status.
    retry_after : float
        Seconds after which the server wants to be asked again; 0 if it did not say.
    """

    def __init__(self, status: int, reason: str, retry_after: str | None) -> None:
        super().__init__(f"HTTP {status} {reason}".strip())
        self.status = status
        self.retry_after = _seconds(retry_after)


class _StoppedError(StepError):
    """The run is being stopped."""


class _Adapter(requests.adapters.HTTPAdapter):
    """A limit on silence for all requests of astroquery, which sets none, and plain errors.

    astroquery makes a text of an HTTP error of a download, which hides the status.
    """

    def __init__(self, timeout: float, stopped: Callable[[], bool]) -> None:
        super().__init__()
        self._timeout = timeout
        self._stopped = stopped

    def send(self, request: Any, **options: Any) -> requests.Response:
        if self._stopped():
            raise _StoppedError("stopped")
        response = super().send(request, **(options | {"timeout": self._timeout}))
        if response.status_code >= 400:
            response.close()
            raise ServerError(
                response.status_code, response.reason, response.headers.get("Retry-After")
            )
        if self._stopped():
            response.close()
            raise _StoppedError("stopped")
        return response


def _client(kind: type, query: Query, *, stopped: Callable[[], bool] = lambda: False) -> Any:
    """One of astroquery's MAST clients, for the server at `query.mast_url`.

    astroquery reads `conf.server` when it is imported, so the addresses are set here.
    """
    client = kind()
    portal = client._portal_api_connection
    for name in ("MAST_REQUEST_URL", "COLUMNS_CONFIG_URL", "MAST_DOWNLOAD_URL"):
        address = query.mast_url.rstrip("/") + urlsplit(getattr(portal, name)).path
        setattr(portal, name, address)
    portal.TIMEOUT = 10 * query.timeout  # for all pages; at the default it is astroquery's own
    adapter = _Adapter(query.timeout, stopped)
    for scheme in ("https://", "http://"):
        client._session.mount(scheme, adapter)
    if urlsplit(query.mast_url).hostname in ("127.0.0.1", "localhost", "::1"):
        client._session.trust_env = False  # no proxy between two programs of one machine
    return client


@contextlib.contextmanager
def _quiet_astroquery() -> Any:
    """At the level INFO astroquery draws a progress bar of its own for each file."""
    level = astroquery.log.level
    astroquery.log.setLevel(max(level, logging.WARNING))
    try:
        yield
    finally:
        astroquery.log.setLevel(level)


def with_retries(
    call: Callable[[], Result],
    query: Query,
    *,
    pause: Callable[[float], Any] = time.sleep,
    report: Callable[[str], Any] | None = None,
) -> Result:
    """
    Do something that a network or a server can spoil, again if it fails, with growing pauses.

    Parameters
    ----------
    call : callable
    query : `~wfssbkg.config.Query`
        With `attempts`, and `timeout`, the longest pause in s. A server's Retry-After is kept.
    pause : callable
        Waits for so many seconds.
    report : callable, optional
        Gets a line for each failed try that is not the last.

    Returns
    -------
    object
        What `call` returned.

    Raises
    ------
    StepError
        If all tries failed, or trying again is no use; its cause is the last error.
    """
    for attempt in range(1, query.attempts + 1):
        try:
            return call()
        except Exception as error:  # whatever a server sends, a client may raise anything
            asked = getattr(error, "retry_after", 0.0)
            words = in_words(error, query.timeout)
            if attempt == query.attempts or _is_final(error) or asked > query.timeout:
                words += f" (after {attempt} tries)" if attempt > 1 else ""
                words += f"; the server asks to wait for {asked:.0f} s" if asked else ""
                raise StepError(words) from error
        seconds = max(min(_FIRST_PAUSE * 2 ** (attempt - 1), query.timeout), asked)
        if report:
            report(f"{words}; trying again in {seconds:.0f} s")
        pause(seconds)
    raise AssertionError("query.attempts is at least 1")


def in_words(error: BaseException, timeout: float) -> str:
    """
    What went wrong with a request, in a line for the user.

    Parameters
    ----------
    error : exception
    timeout : float
        The limit that was set, in s.
    """
    if isinstance(error, StepError | ServerError):
        return str(error)
    if isinstance(error, ValueError):  # first, since requests makes it an OSError as well
        return f"the answer makes no sense ({_first_line(error)})"
    chain = [error]
    while (inner := chain[-1].__cause__ or chain[-1].__context__) and inner not in chain:
        chain.append(inner)
    if any(isinstance(link, TimeoutError | requests.Timeout) for link in chain):
        return f"no answer within {timeout:g} s"
    for link in reversed(chain):
        if isinstance(link, OSError) and link.strerror:
            return str(link.strerror)
    broken = (ConnectionError, http.client.HTTPException, requests.ConnectionError, EOFError)
    if any(isinstance(link, broken) for link in chain):
        return "the connection broke off"
    if isinstance(error, requests.HTTPError):  # Gaia's own words
        return f"refused ({_first_line(error)})"
    return f"the answer makes no sense ({type(error).__name__}: {_first_line(error)})"


def _is_final(error: Exception) -> bool:
    """Whether the same request would end in the same way."""
    if isinstance(error, ServerError):
        return error.status < 500 and error.status not in (408, 425, 429)
    if isinstance(error, _StoppedError):
        return True
    return isinstance(error, OSError) and error.errno in _NO_USE_TO_RETRY


def _seconds(retry_after: str | None) -> float:
    """The value of a Retry-After header in s: a number, or a date."""
    seconds = _number(retry_after)
    if math.isnan(seconds) and retry_after:
        try:
            date = email.utils.parsedate_to_datetime(retry_after)
        except (TypeError, ValueError):
            return 0.0
        seconds = date.timestamp() - time.time()
    return max(0.0, seconds) if math.isfinite(seconds) else 0.0


def _first_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return _text(lines[0])[:200] if lines else type(error).__name__
