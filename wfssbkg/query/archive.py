"""MAST: the search for exposures, with one request for all combinations."""

import math
import re
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from astroquery.mast.discovery_portal import PortalAPI

from wfssbkg.config import Query
from wfssbkg.errors import StepError
from wfssbkg.files.exposure_table import ACCEPTED, EXCLUDED
from wfssbkg.layout import Combination
from wfssbkg.query import keyword_row, network
from wfssbkg.query.search_result import SearchResult
from wfssbkg.run import messages

# https://jwst-pipeline.readthedocs.io: file naming schemes. Nothing else becomes a file name here.
RATE_NAME = re.compile(r"jw[0-9]{11}_[0-9a-z]{5}_[0-9]{5}(-seg[0-9]{3})?_nis_rate\.fits")

_PRODUCTS = "mast:JWST/product/"
_SERVICE = "Mast.Jwst.Filtered.Niriss"
_TIMEOUTS = 10  # query.timeout times this is what all pages of an answer may take together
_UNIX_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_UNIX_EPOCH_MJD = 40587
_TRUE = ("true", "t", "1", "yes", "y")


def search(query: Query, combinations: Sequence[Combination]) -> SearchResult:
    """
    Find all rate exposures of some combinations at MAST, with one request.

    Parameters
    ----------
    query : `~wfssbkg.config.Query`
        With `mast_url`, `attempts` and `timeout`.
    combinations : sequence of `~wfssbkg.layout.Combination`

    Returns
    -------
    `~wfssbkg.query.search_result.SearchResult`

    Raises
    ------
    StepError
        If MAST cannot be reached or its answer is not complete.
    """
    try:
        rows = network.with_retries(lambda: _rows(query, combinations), query, report=messages.say)
    except StepError as error:
        raise StepError(
            f"MAST at {query.mast_url} gives no list of exposures: {error}. "
            "Check the network and query.mast_url, and run queryData.py again"
        ) from error
    return sift(rows, combinations)


def _rows(query: Query, combinations: Sequence[Combination]) -> list[Any]:
    """All rows of the keyword service for some combinations, from all pages of the answer."""
    wanted = {
        "exp_type": sorted({combination.exp_type for combination in combinations}),
        "productLevel": ["2a"],
        "filter": sorted({combination.grating for combination in combinations}),
        "pupil": sorted({combination.filter for combination in combinations}),
    }
    parameters = {
        "columns": ",".join(keyword_row.COLUMNS),
        "filters": [{"paramName": name, "values": values} for name, values in wanted.items()],
    }
    with network.Session(query.mast_url, query.timeout) as session:
        # Not astroquery's table: it turns a null into False, and fails on text in a number column.
        responses = _portal(query, session).service_request_async(_SERVICE, parameters)
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


def _portal(query: Query, session: network.Session) -> PortalAPI:
    """What astroquery's Mast asks MAST with, for `query.mast_url`.

    astroquery reads its own setting of the server only when it is imported.
    """
    portal = PortalAPI(session)
    server = query.mast_url.rstrip("/")
    portal.MAST_REQUEST_URL = f"{server}/api/v0/invoke"
    portal.COLUMNS_CONFIG_URL = f"{server}/portal/Mashup/Mashup.asmx/columnsconfig"
    portal.TIMEOUT = _TIMEOUTS * query.timeout
    return portal


def sift(rows: Iterable[Any], combinations: Sequence[Combination]) -> SearchResult:
    """
    Make exposures of the rows of an answer, which may hold anything, also what was not asked for.

    Parameters
    ----------
    rows : iterable
        Mappings with the columns of the keyword service, and whatever else MAST sends.
    combinations : sequence of `~wfssbkg.layout.Combination`

    Returns
    -------
    `~wfssbkg.query.search_result.SearchResult`
        What MAST does not give to everybody is excluded, with the reason.
    """
    result = SearchResult()
    found: dict[str, dict[str, Any]] = {}
    for row in map(keyword_row.plain, rows):
        name = row["filename"]
        if not keyword_row.is_rate_exposure(row, combinations):
            result.others += 1
        elif not RATE_NAME.fullmatch(name):
            result.refused.append(f"'{name[:100]}' is not the name of a NIRISS rate file")
        else:
            reason = _withheld(row)
            if name not in found or (found[name]["reason"] and not reason):
                status = EXCLUDED if reason else ACCEPTED
                found[name] = keyword_row.to_exposure(row, _PRODUCTS + name, status, reason)
    result.exposures = list(found.values())
    return result


def _withheld(row: keyword_row.KeywordRow) -> str:
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


def _release(row: keyword_row.KeywordRow) -> datetime:
    """When the file becomes public; long ago if MAST does not say."""
    text = row["publicReleaseDate"]
    days = keyword_row.number(row["publicReleaseDate_mjd"]) - _UNIX_EPOCH_MJD
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
