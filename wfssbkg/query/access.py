"""Exclusive access: the user's token for data at MAST that are not public yet.

The token is in the environment only. No setting holds it, so that it gets into no file.
"""

import os
import re

from astroquery.exceptions import LoginError
from astroquery.mast.auth import MastAuth

from wfssbkg.config import Query
from wfssbkg.errors import ConfigError, StepError
from wfssbkg.query import network
from wfssbkg.run import messages

VARIABLE = "MAST_API_TOKEN"  # the name is that of astroquery
_NEW_ONE = "Make a new one at https://auth.mast.stsci.edu/tokens"


def token() -> str:
    """The token in the environment; empty if there is none, a ConfigError if it cannot be one."""
    found = os.environ.get(VARIABLE, "").strip()
    # Anything else would be quoted in the errors of libraries.
    if not re.fullmatch(r"[A-Za-z0-9_.~+/=-]*", found):
        raise ConfigError(
            f"the environment variable {VARIABLE} is no token of MAST: it has characters that no "
            f"token has. {_NEW_ONE}, or unset the variable"
        )
    return found


def check(query: Query, token: str) -> None:
    """
    See whether MAST accepts a token, with astroquery's login.

    Parameters
    ----------
    query : `~wfssbkg.config.Query`
        With `mast_url`, `attempts` and `timeout`.
    token : str
        Not empty: astroquery would ask the user for one.

    Raises
    ------
    StepError
        If it does not, or MAST cannot be reached.
    """
    server = query.mast_url.rstrip("/")

    def log_in() -> None:
        with network.Session(server, query.timeout) as session:
            login = MastAuth(session)
            login.SESSION_INFO_URL = f"{server}/whoami"  # otherwise of the server it was made for
            try:
                login.login(token)
            except LoginError:
                raise network.RefusedError(
                    f"does not accept the token in {VARIABLE}: it may be old. {_NEW_ONE}, or unset "
                    "the variable to go on with public data only"
                ) from None

    try:
        network.with_retries(log_in, query, report=messages.say)
    except StepError as error:
        refused = isinstance(error.__cause__, network.RefusedError)
        words = str(error.__cause__) if refused else f"does not tell who {VARIABLE} is of: {error}"
        raise StepError(f"MAST at {query.mast_url} {words}") from error
