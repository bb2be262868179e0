"""MAST: the search for exposures, with one request for all combinations."""

import math
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import astropy.units as u
import numpy as np
from astropy.coordinates import UnitSphericalRepresentation
from astroquery.mast.discovery_portal import PortalAPI

from wfssbkg.config import Query
from wfssbkg.errors import StepError, printable
from wfssbkg.files import rate
from wfssbkg.files.exposure_table import ACCEPTED, EXCLUDED, FOOTPRINT, TARGET
from wfssbkg.layout import Combination
from wfssbkg.query import access, network
from wfssbkg.run import messages

# https://jwst-pipeline.readthedocs.io: file naming schemes. Nothing else becomes a file name here.
RATE_NAME = re.compile(r"jw[0-9]{11}_[0-9a-z]{5}_[0-9]{5}(-seg[0-9]{3})?_nis_rate\.fits")

# Of MAST's keyword service, as far as they matter here. Columns come and go: without one of the
# first kind nothing can be decided; what one of the others tells is then unknown.
REQUIRED = ("filename", "productLevel", "exp_type", "filter", "pupil", "readpatt", "subarray")
USEFUL = (
    "fileSetName", "instrume", "effinttm", "targ_ra", "targ_dec", "s_region", "expstart",
    "date_obs_mjd", "program", "dataURI", "fileSize", "publicReleaseDate",
    "publicReleaseDate_mjd", "isRestricted", "isStale", "checksum", "cal_ver", "crds_ctx",
    "category", "pi_name", "visitype", "pcs_mode",
)  # fmt: skip
COLUMNS = REQUIRED + USEFUL
# Those that the exposure table takes over as they are.
_SAME = ("cal_ver", "crds_ctx", "category", "pi_name", "visitype", "pcs_mode")

# Why an exposure is excluded that is public by its date.
RESTRICTED, SUPERSEDED = "not public: restricted", "superseded in the archive"

# How the names of FITS files end, also of compressed ones: the kind of the file.
ENDING = re.compile(rf"(?i)(_[0-9a-z]+)?\.(fits|fit|fts)(?P<packed>\.({'|'.join(rate.PACKED)}))?$")
# How databases say that they do not know a column. Some of the names are English words: they count
# only within these words.
_NO_COLUMN = re.compile(
    r"(?i)\b(unknown|invalid|no such) columns?\b[^.;]*|\bcolumns?\b[^.;]*(does not exist|not found)"
)
_MD5 = re.compile(r"[0-9a-f]{32}")
_PRODUCTS = "mast:JWST/product/"
_SERVICE = "Mast.Jwst.Filtered.Niriss"
_UNIX_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_UNIX_EPOCH_MJD = 40587
_TRUE = ("true", "t", "1", "yes", "y")


@dataclass
class SearchResult:
    """The exposures that one search, at MAST or in a folder, has found.

    Attributes
    ----------
    exposures : list of dict
        Of the combinations asked for, one for each file name, as from `to_exposure`: the columns of
        the exposure table that the source tells, and two more.
    others : `~collections.Counter`
        The rows or files that are not such exposures: what they are, in words, and how many.
    refused : list of str
        Rows or files that cannot be used or assigned, each with the reason.
    source : str
        Where it was searched.
    of_archive : bool
        Whether MAST was searched: what it does not list is gone there.
    qdate : str
        UTC time of the search, as the keyword QDATE gives it.
    """

    exposures: list[dict[str, Any]] = field(default_factory=list)
    others: Counter[str] = field(default_factory=Counter)
    refused: list[str] = field(default_factory=list)
    source: str = "MAST"
    of_archive: bool = False
    qdate: str = field(default_factory=network.query_date)

    def nothing_of(self, combination: Combination) -> str:
        """Say that there is no exposure of a combination, what there is, and what was expected."""
        found = Counter(rate_files_of(row["combination"]) for row in self.exposures) + self.others
        contents = ", ".join(f"{number} {what}" for what, number in sorted(found.items()))
        return (
            f"no exposure found. {self.source} has {contents or 'no FITS file'}. "
            f"Expected {rate_files_of(combination)}: names that end in _rate.fits, "
            f"EXP_TYPE {combination.exp_type}"
        )


def search(query: Query, combinations: Sequence[Combination]) -> SearchResult:
    """
    Find all rate exposures of some combinations at MAST, with one request.

    Exclusive-access exposures are excluded unless there is a token for them.

    Parameters
    ----------
    query : `~wfssbkg.config.Query`
        With `mast_url`, `attempts` and `timeout`.
    combinations : sequence of `~wfssbkg.layout.Combination`

    Returns
    -------
    `SearchResult`

    Raises
    ------
    StepError
        If MAST cannot be reached, its answer is not complete, or it does not accept the token.
    """
    token = access.token()
    if token:
        access.check(query, token)
    try:
        rows, refusal = network.with_retries(
            lambda: _rows(query, combinations), query, report=messages.say
        )
    except StepError as error:
        if isinstance(error.__cause__, network.RefusedError):
            raise StepError(f"MAST at {query.mast_url} {error.__cause__}") from error
        raise StepError(
            f"MAST at {query.mast_url} gives no list of exposures: {error}. "
            "Check the network and query.mast_url, and run queryData.py again"
        ) from error
    if refusal:
        messages.warn(f"WARNING: MAST refuses the request {refusal}: what they tell is unknown")
    result = sift(rows, combinations, exclusive=bool(token))
    if token:
        number = sum(row["exclusive"] for row in result.exposures)
        messages.say(
            f"{number} exposures are not public: {access.VARIABLE} is used to download them"
        )
    result.source = f"MAST ({query.mast_url})"
    return result


def _rows(query: Query, combinations: Sequence[Combination]) -> tuple[list[Any], str]:
    """All rows of the keyword service for some combinations, from all pages of the answer.

    A request that names a column that the service does not have fails as a whole. Which columns
    were done without, and why, is the second value, in words.
    """
    columns, refusal = COLUMNS, ""
    while True:
        answers = _answers(query, combinations, columns)
        problems = [answer for answer in answers if answer["status"] != "COMPLETE"]
        if not problems:
            break
        problem = f"status {problems[0]['status']}: {problems[0].get('msg')}"
        columns = _known(columns, problem)
        missing = ", ".join(name for name in COLUMNS if name not in columns)
        refusal = f"({_in_a_line(problem)}). It is made without the columns {missing}"
    rows = [row for answer in answers for row in answer["data"]]
    expected = (answers[-1].get("paging") or {}).get("rowsFiltered") or 0
    if len(rows) < expected:
        raise ValueError(f"{len(rows)} of {expected} rows arrived")
    return rows, refusal


def _known(columns: Sequence[str], problem: str) -> tuple[str, ...]:
    """The columns without those that the service does not know, or, if it names none, that may go.

    An error that will not pass is a `network.RefusedError`, one that may a ValueError: without the
    useful columns, files that are stale would be taken.
    """
    complaint = _NO_COLUMN.search(problem)
    listed = re.findall(r"\w+", complaint[0].lower()) if complaint else []
    named = [name for name in columns if name.lower() in listed]
    required = [name for name in named if name in REQUIRED]
    if required:
        raise network.RefusedError(
            f"does not know {', '.join(required)} any more, which it was asked for and which "
            f"WFSSBackgrounds needs ({_in_a_line(problem)}). WFSSBackgrounds needs an update"
        )
    dropped = named or [name for name in columns if name in USEFUL]
    if not (complaint and dropped):
        raise ValueError(_in_a_line(problem))
    return tuple(name for name in columns if name not in dropped)


def _in_a_line(words: str) -> str:
    """The beginning of what a server says."""
    return printable(" ".join(words.split()))[:200]


def _answers(
    query: Query, combinations: Sequence[Combination], columns: Sequence[str]
) -> list[dict[str, Any]]:
    """The pages of the keyword service's answer for some combinations."""
    wanted = {
        "exp_type": sorted({combination.exp_type for combination in combinations}),
        "productLevel": ["2a"],
        "filter": sorted({combination.grating for combination in combinations}),
        "pupil": sorted({combination.filter for combination in combinations}),
    }
    parameters = {
        "columns": ",".join(columns),
        "filters": [{"paramName": name, "values": values} for name, values in wanted.items()],
    }
    server = query.mast_url.rstrip("/")
    with network.Session(server, query.timeout, token=access.token()) as session:
        # This is what astroquery's Mast asks with; Mast itself takes its server from a setting that
        # is read only when astroquery is imported.
        portal = PortalAPI(session)
        portal.MAST_REQUEST_URL = f"{server}/api/v0/invoke"
        portal.COLUMNS_CONFIG_URL = f"{server}/portal/Mashup/Mashup.asmx/columnsconfig"
        portal.TIMEOUT = network.TIMEOUTS * query.timeout
        # Not astroquery's table: it turns a null into False, and fails on text in a number column.
        return [page.json() for page in portal.service_request_async(_SERVICE, parameters)]


def sift(
    rows: Iterable[Any], combinations: Sequence[Combination], *, exclusive: bool = False
) -> SearchResult:
    """
    Make exposures of the rows of an answer, which may hold anything, also what was not asked for.

    Parameters
    ----------
    rows : iterable
        Mappings with the columns of the keyword service, and whatever else MAST sends.
    combinations : sequence of `~wfssbkg.layout.Combination`
    exclusive : bool
        Whether to take exposures that are not public.

    Returns
    -------
    `SearchResult`
        Of two rows for the same file, the one that is not excluded counts.
    """
    result = SearchResult(of_archive=True)
    found: dict[str, dict[str, Any]] = {}
    for row in rows:
        exposure = to_exposure(row, combinations, exclusive=exclusive)
        if exposure is None:
            result.others[kind_of(row)] += 1
            continue
        name = exposure["productFilename"]
        if not RATE_NAME.fullmatch(name):
            result.refused.append(f"'{name[:100]}' is not the name of a NIRISS rate file")
        elif name not in found or (found[name]["reason"] and not exposure["reason"]):
            found[name] = exposure
    result.exposures = list(found.values())
    return result


def kind_of(row: Any) -> str:
    """What a row or a header is of that is no exposure of the combinations asked for, in words."""
    cells = row if isinstance(row, Mapping) else {}
    keys = ("filename", "filter", "pupil", "instrume")
    name, grating, pupil, instrument = (_text(cells.get(key)) for key in keys)
    if not name.endswith("_rate.fits"):
        ending = ENDING.search(name)
        return f"*{ending[0]}" if ending else "others"
    kind = _text(cells.get("exp_type")) or "unknown EXP_TYPE"
    if not _is_niriss(instrument):
        kind += f", INSTRUME {instrument}"
    return f"{rate_files_of(f'{grating}-{pupil}')} ({kind})"


def _is_niriss(instrument: str) -> bool:
    """Whether that is NIRISS, also as NIRISS/WFSS, or not known."""
    return instrument.upper().partition("/")[0] in ("", "NIRISS")


def rate_files_of(combination: Combination | str) -> str:
    """What rate files of a combination are called in messages."""
    return f"*_rate.fits of {combination}"


def to_exposure(
    row: Any, combinations: Sequence[Combination], *, exclusive: bool = False
) -> dict[str, Any] | None:
    """
    The exposure that a row tells of, if its file is a rate file of one of some combinations.

    Parameters
    ----------
    row : mapping
        With the columns of the keyword service, as numbers or text; any of them may be missing.
        Anything else than a mapping is a row without columns.
    combinations : sequence of `~wfssbkg.layout.Combination`
    exclusive : bool
        Whether to take exposures that are not public.

    Returns
    -------
    dict or None
        The columns of the exposure table that the row tells, as text in printable ASCII and
        numbers, `combination`, and `exclusive`: whether it is taken although it is not public.
        What MAST does not give to the user is excluded, with the reason. None if the row is of
        another file.
    """
    cells = row if isinstance(row, Mapping) else {}
    row = {name: _text(cells.get(name)) for name in COLUMNS}
    combination = Combination(row["filter"].upper(), row["pupil"].upper())
    if not (
        _is_niriss(row["instrume"])
        and row["productLevel"].lower() == "2a"
        and row["filename"].endswith("_rate.fits")
        and combination in combinations
        and row["exp_type"].upper() == combination.exp_type
    ):
        return None
    ra, dec, pointing = _pointing(row)
    checksum = row["checksum"].lower()
    mjd, size = _number(row["expstart"]), _number(row["fileSize"])
    not_public = _not_public(row)
    reason = ("" if exclusive else not_public) or _unwanted(row)
    return {
        "combination": combination,
        "exclusive": bool(not_public) and not reason,
        "productFilename": row["filename"],
        "obs_id": row["fileSetName"],
        "dataURI": _PRODUCTS + row["filename"],
        "size": int(size) if 0 < size < 2**62 else 0,
        "checksum": checksum if _MD5.fullmatch(checksum) else "",
        "program": (row["program"] or _program_of(row["filename"])).lstrip("0"),
        "ra": ra,
        "dec": dec,
        "pointing": pointing,
        "mjd": mjd if mjd > 0 else _number(row["date_obs_mjd"]),
        "effinttm": _number(row["effinttm"]),
        "readpatt": row["readpatt"].upper(),
        "subarray": row["subarray"].upper(),
        "status": EXCLUDED if reason else ACCEPTED,
        "reason": reason,
    } | {name: row[name] for name in _SAME}


def _program_of(name: str) -> str:
    """The programme in the name of a file from the archive; '' in other names."""
    found = re.match("jw([0-9]{5})[0-9]{6}_", name)
    return found[1] if found else ""


def _text(value: Any) -> str:
    """A text or number as printable ASCII; '' for anything else."""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return printable(str(value).strip()) if isinstance(value, str | int | float) else ""


def _number(text: str) -> float:
    """The finite number that a text gives, or NaN."""
    try:
        value = float(text)
    except ValueError:
        return math.nan
    return value if math.isfinite(value) else math.nan


def _not_public(row: Mapping[str, str]) -> str:
    """Why MAST does not give the file to everybody; '' if it does."""
    released = _release(row)
    if released > datetime.now(UTC):
        return f"not public: until {released:%Y-%m-%d}"
    return RESTRICTED if row["isRestricted"].lower() in _TRUE else ""


def _unwanted(row: Mapping[str, str]) -> str:
    """Why nobody should have the file; '' if there is no such reason."""
    if row["isStale"].lower() in _TRUE:
        return SUPERSEDED
    if row["dataURI"] not in ("", _PRODUCTS + row["filename"]):
        return f"unexpected address: {row['dataURI'][:100]}"
    return ""


def _release(row: Mapping[str, str]) -> datetime:
    """When the file becomes public; long ago if MAST does not say."""
    text = row["publicReleaseDate"]
    days = _number(row["publicReleaseDate_mjd"]) - _UNIX_EPOCH_MJD
    # As MAST's portal writes dates: /Date(1725884414840)/, in ms.
    if math.isnan(days) and (milliseconds := re.fullmatch(r"/Date\((-?[0-9]{1,15})\)/", text)):
        days = int(milliseconds[1]) / 86_400_000
    if math.isfinite(days):
        return _UNIX_EPOCH + timedelta(days=min(max(days, 0), 2_900_000))  # datetime ends in 9999
    try:
        date = datetime.fromisoformat(text)
    except ValueError:
        return _UNIX_EPOCH
    return date.replace(tzinfo=date.tzinfo or UTC)


def _pointing(row: Mapping[str, str]) -> tuple[float, float, str]:
    """Right ascension and declination in deg, and what gave them.

    That is the centre of the footprint, or else the target. MAST has 0, 0 where there is no target,
    as for pure parallels.
    """
    ra, dec, origin = _number(row["targ_ra"]), _number(row["targ_dec"]), TARGET
    if ra == dec == 0:
        ra = dec = math.nan
    # The footprint is a polygon of STC-S: POLYGON ICRS, and RA and Dec of each corner.
    numbers = [value for word in row["s_region"].split() if math.isfinite(value := _number(word))]
    if (
        row["s_region"].upper().startswith("POLYGON")
        and len(numbers) >= 6
        and len(numbers) % 2 == 0
    ):
        corners = np.unique(np.reshape(numbers, (-1, 2)), axis=0) * u.deg
        if np.abs(corners[:, 1]).max() <= 90 * u.deg:
            # The mean of vectors is right at RA 0 and at the poles, too.
            middle = UnitSphericalRepresentation(*corners.T).to_cartesian().mean()
            centre = middle.represent_as(UnitSphericalRepresentation)
            ra, dec, origin = float(centre.lon.deg), float(centre.lat.deg), FOOTPRINT
    ra = ra % 360 % 360  # twice, since -1e-20 % 360 is 360
    known = abs(dec) <= 90 and math.isfinite(ra)
    return (ra, dec, origin) if known else (math.nan, math.nan, "")
