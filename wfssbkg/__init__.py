"""Backgrounds for JWST NIRISS wide-field slitless spectroscopy, made from the archive's data."""

__version__ = "0.1.0"


class StepError(Exception):
    """A combination or an exposure cannot be processed; the message tells the user why.

    The message says what was wrong, where, what was expected and what to do.
    """


class ClusterError(Exception):
    """The workers of a Dask cluster cannot be reached: nothing can be done for any combination."""
