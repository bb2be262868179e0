"""What all requests to MAST and Gaia share: a limit on silence, new tries, errors in words."""

from __future__ import annotations

import errno
import http.client
import logging
import time
from collections.abc import Callable
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any, TypeVar
from urllib.parse import urlsplit

import astroquery
import requests
from requests.adapters import HTTPAdapter
from urllib3 import Retry
from urllib3.exceptions import InvalidHeader

from wfssbkg import StepError
from wfssbkg.config import Query
from wfssbkg.files import first_line

# At INFO it draws a progress bar of its own for each file, and tells of each query.
astroquery.log.setLevel(logging.WARNING)

FIRST_PAUSE = 1.0  # s; doubled after each try, up to query.timeout

_TRY_AGAIN = {408, 425, 429}  # HTTP: request timeout, too early, too many requests
_DISK = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM, errno.EISDIR}

Result = TypeVar("Result")


class ServerError(requests.RequestException):
    """A server refused a request; it wants to be asked again after `retry_after` s, or 0."""

    def __init__(self, status: int, reason: str, retry_after: str | None) -> None:
        super().__init__(f"HTTP {status} {reason}".strip())
        self.status = status
        try:
            self.retry_after = float(Retry().parse_retry_after(retry_after or ""))
        except InvalidHeader:
            self.retry_after = 0.0


def mast_client(kind: type, query: Query) -> Any:
    """A client of astroquery.mast, MastClass or ObservationsClass, for `query.mast_url`."""
    client = kind()
    portal = client._portal_api_connection
    # astroquery reads its setting of the server only when it is imported.
    for name in ("MAST_REQUEST_URL", "COLUMNS_CONFIG_URL", "MAST_DOWNLOAD_URL"):
        address = query.mast_url.rstrip("/") + urlsplit(getattr(portal, name)).path
        setattr(portal, name, address)
    portal.TIMEOUT = 10 * query.timeout  # for all pages; at the default it is astroquery's own
    for scheme in ("https://", "http://"):
        client._session.mount(scheme, _Adapter(query.timeout))
    if urlsplit(query.mast_url).hostname in ("127.0.0.1", "localhost", "::1"):
        client._session.trust_env = False  # no proxy between two programs of one machine
    return client


class _Adapter(HTTPAdapter):
    """Sets the limit on silence that astroquery leaves out, and keeps the status of a refusal."""

    def __init__(self, timeout: float) -> None:
        super().__init__()
        self._timeout = timeout

    def send(self, request: Any, **options: Any) -> requests.Response:
        response = super().send(request, **(options | {"timeout": self._timeout}))
        if response.status_code >= 400:
            response.close()
            wait = response.headers.get("Retry-After")
            raise ServerError(response.status_code, response.reason, wait)
        return response


def gaia_client(query: Query) -> Any:
    """A TAP client of astroquery, for `query.gaia_url`.

    Not its GaiaClass: importing that one contacts ESA at once, whatever server is asked later.
    """
    from astroquery.utils.tap import TapPlus
    from astroquery.utils.tap.conn.tapconn import TapConn

    address = urlsplit(query.gaia_url)

    def connect(*, ishttps: bool, **_: Any) -> http.client.HTTPConnection:
        kind = http.client.HTTPSConnection if ishttps else http.client.HTTPConnection
        connection = kind(address.netloc, timeout=query.timeout)
        connection.response_class = _GaiaResponse
        return connection

    connection = TapConn(
        address.scheme == "https",
        address.hostname,
        server_context=address.path.rstrip("/") + "/tap-server",
        tap_context="tap",
        connhandler=SimpleNamespace(get_connection=connect),
    )
    return TapPlus(host=address.hostname, connhandler=connection)


class _GaiaResponse(http.client.HTTPResponse):
    """Keeps the status of a refusal, and when to try again."""

    def begin(self) -> None:
        super().begin()
        if self.status >= 500 or self.status in _TRY_AGAIN:  # the others come with Gaia's words
            raise ServerError(self.status, self.reason, self.getheader("Retry-After"))


def with_retries(
    call: Callable[[], Result],
    query: Query,
    *,
    pause: Callable[[float], Any] = time.sleep,
    report: Callable[[str], Any] = lambda line: None,
) -> Result:
    """
    Do something that a network or a server can spoil, again if it fails, with growing pauses.

    Not by urllib3's own retries: most faults show in the body of an answer, where those end.

    Parameters
    ----------
    call : callable
    query : `~wfssbkg.config.Query`
        With `attempts`, and `timeout`, the longest pause in s. A server's Retry-After is kept.
    pause : callable
        Waits for so many s; returns true if there is to be no other try.
    report : callable
        Gets a line for each failed try that is not the last.

    Raises
    ------
    StepError
        If all tries failed, or trying again is no use; its cause is the last error.
    """
    attempt = 1
    while True:
        try:
            return call()
        except Exception as error:  # whatever a server sends, a client may raise anything
            asked = getattr(error, "retry_after", 0.0)
            words = in_words(error, query.timeout)
            seconds = max(min(FIRST_PAUSE * 2 ** (attempt - 1), query.timeout), asked)
            last = attempt == query.attempts or _is_final(error) or asked > query.timeout
            if not last:
                report(f"{words}; trying again in {seconds:.0f} s")
            if last or pause(seconds):
                words += f" (after {attempt} tries)" if attempt > 1 else ""
                words += f"; the server asks to wait for {asked:.0f} s" if asked else ""
                raise StepError(words) from error
        attempt += 1


def _is_final(error: Exception) -> bool:
    """Whether the same request would end in the same way."""
    if isinstance(error, ServerError):
        return error.status < 500 and error.status not in _TRY_AGAIN
    return isinstance(error, OSError) and error.errno in _DISK


def in_words(error: BaseException, timeout: float) -> str:
    """What went wrong with a request for which a timeout (s) was set, in a line for the user."""
    if isinstance(error, StepError | ServerError):
        return str(error)
    if isinstance(error, ValueError):  # first, since requests makes it an OSError as well
        return f"the answer makes no sense ({first_line(error)})"
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
        return f"refused ({first_line(error)})"
    return f"the answer makes no sense ({type(error).__name__}: {first_line(error)})"


def query_date() -> str:
    """The UTC time now, as the keyword QDATE gives it."""
    return f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%S}"
