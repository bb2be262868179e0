"""What all requests to MAST and Gaia share: a limit on silence, new tries, errors in words."""

import errno
import http.client
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, TypeVar
from urllib.parse import urlsplit

import requests
from pyvo.dal import DALQueryError
from urllib3 import Retry
from urllib3.exceptions import InvalidHeader

from wfssbkg.config import Query
from wfssbkg.errors import StepError, first_line

FIRST_PAUSE = 1.0  # s; doubled after each try, up to query.timeout

TIMEOUTS = 10  # query.timeout times this is what a whole search or job may take
_TRY_AGAIN = {408, 425, 429}  # HTTP: request timeout, too early, too many requests
_DISK = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM, errno.EISDIR}

Result = TypeVar("Result")


class ServerError(Exception):
    """A server refused a request; it wants to be asked again after `retry_after` s, or 0."""

    def __init__(self, status: int, reason: str, retry_after: str | None) -> None:
        super().__init__(f"HTTP {status} {reason}".strip())
        self.status = status
        try:
            self.retry_after = float(Retry().parse_retry_after(retry_after or ""))
        except InvalidHeader:
            self.retry_after = 0.0


class RefusedError(StepError):
    """A server refused a request, and always will."""


class Session(requests.Session):
    """
    Requests to a server whose silence is limited, whoever makes them; a refusal is a `ServerError`.

    Parameters
    ----------
    url : str
        Address of the server.
    timeout : float
        Longest silence in s. astroquery sets none, pyvo one of its own.
    token : str, optional
        Of MAST. Only the server gets it, and none that it sends the request on to.
    """

    def __init__(self, url: str, timeout: float, *, token: str = "") -> None:
        super().__init__()
        self.timeout = timeout
        address = urlsplit(url)
        if address.hostname in ("127.0.0.1", "localhost", "::1"):
            self.trust_env = False  # no proxy between two programs of one machine
        if token:
            # As astroquery does it; but its cookie has no domain, and goes to all servers.
            secure = address.scheme == "https"
            self.cookies.set("mast_token", token, domain=address.hostname, secure=secure)

    def send(self, request: requests.PreparedRequest, **options: Any) -> requests.Response:
        """Send a request, or follow it to another address."""
        response = super().send(request, **(options | {"timeout": self.timeout}))
        if response.status_code >= 400:
            response.close()
            wait = response.headers.get("Retry-After")
            raise ServerError(response.status_code, response.reason, wait)
        return response


def with_retries(
    call: Callable[[], Result],
    query: Query,
    *,
    pause: Callable[[float], Any] = time.sleep,
    report: Callable[[str], Any] = lambda line: None,
) -> Result:
    """
    Do something that a network or a server can spoil, again if it fails, with growing pauses.

    The new tries are not left to urllib3, since most faults show only in the body of an answer,
    where its own end; two kinds of tries would multiply.

    Parameters
    ----------
    call : callable
    query : `~wfssbkg.config.Query`
        With `attempts`, and `timeout`, the longest pause in s. A server's Retry-After is kept.
    pause : callable
        Waits for so many s; returns true if there is to be no other try.
    report : callable
        Gets a line for each failed try that is not the last.

    Returns
    -------
    anything
        What the call returns.

    Raises
    ------
    StepError
        If all tries failed, or trying again is no use; its cause is the last error.
    """
    attempt = 0
    while True:
        attempt += 1
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


def _is_final(error: Exception) -> bool:
    """Whether the same request would end in the same way."""
    if isinstance(error, ServerError):
        return error.status < 500 and error.status not in _TRY_AGAIN
    if isinstance(error, RefusedError):
        return True
    return isinstance(error, OSError) and error.errno in _DISK


def in_words(error: BaseException, timeout: float) -> str:
    """What went wrong with a request for which a timeout (s) was set, in a line for the user."""
    if isinstance(error, StepError | ServerError):
        return str(error)
    if isinstance(error, ValueError):  # first, since requests makes it an OSError as well
        return f"the answer makes no sense ({first_line(error)})"
    if isinstance(error, DALQueryError):  # Gaia's own words
        return f"refused ({first_line(error)})"
    chain = [error]
    while (inner := chain[-1].__cause__ or chain[-1].__context__) and inner not in chain:
        chain.append(inner)
    if any(isinstance(link, TimeoutError | requests.Timeout) for link in chain):
        return f"no answer within {timeout:g} s"
    said = [link.strerror for link in chain if isinstance(link, OSError) and link.strerror]
    if said:
        return str(said[-1])
    broken = (ConnectionError, http.client.HTTPException, requests.ConnectionError, EOFError)
    if any(isinstance(link, broken) for link in chain):
        return "the connection broke off"
    return f"the answer makes no sense ({type(error).__name__}: {first_line(error)})"


def query_date() -> str:
    """The UTC time now, as the keyword QDATE gives it."""
    return f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%S}"
