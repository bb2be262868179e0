"""Errors that are for people: the message says what was wrong, where, and what to do."""


class StepError(Exception):
    """A combination or an exposure cannot be processed; the message tells the user why.

    The message says what was wrong, where, what was expected and what to do.
    """


class ConfigError(Exception):
    """The config or the command line is wrong; the message names the place and what is allowed."""


class ClusterError(Exception):
    """The workers of a Dask cluster cannot be reached: nothing can be done for any combination."""


def first_line(error: BaseException) -> str:
    """The beginning of an error's message, or its type."""
    lines = str(error).strip().splitlines()
    return printable(lines[0])[:200] if lines else type(error).__name__


def printable(text: str) -> str:
    """Text in printable ASCII, which is what FITS tables and a terminal can take."""
    return "".join(c if " " <= c <= "~" else "?" for c in text)
