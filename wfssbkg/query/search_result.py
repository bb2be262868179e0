"""What a search for exposures, at MAST or in a folder, has found."""

from dataclasses import dataclass, field
from typing import Any

from wfssbkg.query.network import query_date


@dataclass
class SearchResult:
    """The exposures of one search.

    Attributes
    ----------
    exposures : list of dict
        Of the combinations asked for, one for each file name: the columns of the exposure table
        that the source tells, and `combination`.
    others : int
        Number of rows or files that are not such exposures.
    refused : list of str
        Rows or files that cannot be used or assigned, each with the reason.
    qdate : str
        UTC time of the search, as the keyword QDATE gives it.
    """

    exposures: list[dict[str, Any]] = field(default_factory=list)
    others: int = 0
    refused: list[str] = field(default_factory=list)
    qdate: str = field(default_factory=query_date)
