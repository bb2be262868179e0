"""What a real run would find, download and take: --dry-run of queryData.py."""

import shutil
from collections import Counter
from collections.abc import Container, Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

from astropy.table import Table

from wfssbkg.files import exposure_table
from wfssbkg.files.exposure_table import ACCEPTED, FAILED
from wfssbkg.query.download import Wanted, size_in_words

# As measured on full frames: docs/method.md, "How large and how fast". A test compares them.
MADE_MB = 50.8  # for each exposure, beyond its rate file
MADE_ONCE_MB = 189  # for each combination
MEASURED_EXPOSURES, MEASURED_CORES = 24, 2
MASK_S, COMBINE_S, FINISH_S = 17.2, 42.8, 15.7  # for so many exposures, on so many cores
CAVEAT = (
    "disk and time are as measured on simulated full frames (docs/method.md). Not counted are the "
    "download,\nthe cleaning of 1/f noise, compareBackgrounds.py and subtractBackgrounds.py. Once "
    "the headers of the\nexposures are there, they may tell that some have to be left out"
)


class Costs(NamedTuple):
    """What a real run would take, in numbers of combinations and exposures, and bytes."""

    combinations: int = 0
    accepted: int = 0
    own: int = 0  # of those accepted: files of the user's own, used where they are
    present: int = 0  # of those accepted: downloaded before
    downloads: int = 0
    rates: int = 0  # bytes of all rate files from the archive
    download_size: int = 0  # bytes of those that are to be downloaded
    unknown_sizes: int = 0  # number of those whose size the archive does not tell

    def describe(self) -> str:
        """A line each for the download, the disk and the time."""
        unknown = f", and {self.unknown_sizes} of unknown size" * bool(self.unknown_sizes)
        made = (self.accepted * MADE_MB + self.combinations * MADE_ONCE_MB) * 1e6
        each = (MASK_S + COMBINE_S) / MEASURED_EXPOSURES
        seconds = self.accepted * each + self.combinations * FINISH_S
        return (
            f"to download: {self.downloads} exposures ({size_in_words(self.download_size)}"
            f"{unknown}); {self.present} there already, {self.own} of your own\n"
            f"disk in the end: {size_in_words(self.rates)} of downloaded rate files, and up to "
            f"{size_in_words(int(made))} of what is made of {self.accepted} exposures\n"
            f"time after the download: about {_duration(seconds)} on {MEASURED_CORES} cores, for "
            "steps 2 to 4"
        )


def expect(table: Table, missing: Container[str]) -> None:
    """
    Let an exposure table say what becomes of the exposures if all downloads succeed.

    Parameters
    ----------
    table : `~astropy.table.Table`
        Changed in place.
    missing : container of str
        The names of the files that are to be downloaded.
    """
    for row in table:
        tried_again = row["status"] == FAILED and exposure_table.is_downloaded(row)
        if tried_again or row["productFilename"] in missing:
            row["status"], row["reason"] = ACCEPTED, ""


def costs(table: Table, missing: Mapping[str, Wanted]) -> Costs:
    """
    What a real run would take for one combination.

    Parameters
    ----------
    table : `~astropy.table.Table`
        The exposure table.
    missing : mapping
        What is to be downloaded, from `wfssbkg.query.download.to_download`.

    Returns
    -------
    `Costs`
    """
    accepted = [row for row in table if row["status"] == ACCEPTED]
    remote = [row for row in accepted if exposure_table.is_downloaded(row)]
    sizes = [file.size for file in missing.values()]
    return Costs(
        combinations=int(bool(accepted)),
        accepted=len(accepted),
        own=len(accepted) - len(remote),
        present=sum(row["productFilename"] not in missing for row in remote),
        downloads=len(sizes),
        rates=sum(int(row["size"]) for row in remote),
        download_size=sum(sizes),
        unknown_sizes=sizes.count(0),
    )


def total(parts: Iterable[Costs]) -> Costs:
    """What several combinations take together."""
    return Costs(*(sum(numbers) for numbers in zip(Costs(), *parts, strict=True)))


def programs(table: Table) -> str:
    """The programmes of the accepted exposures of a table, those with the most first."""
    accepted = table["program"][table["status"] == ACCEPTED]
    counts = Counter(str(program) or "unknown" for program in accepted)
    listed = ", ".join(f"{program} ({number})" for program, number in counts.most_common())
    return f"programmes, with the number of exposures: {listed or 'none'}"


def lack_of_space(wanted: Costs, folder: Path) -> str:
    """A warning if the downloads do not fit on the disk of a folder, which need not exist yet."""
    while not folder.exists():
        folder = folder.parent
    free = shutil.disk_usage(folder).free
    if wanted.download_size <= free:
        return ""
    size, space = size_in_words(wanted.download_size), size_in_words(free)
    return f"WARNING: {size} are to be downloaded, and {space} are free on the disk of {folder}"


def _duration(seconds: float) -> str:
    return f"{seconds / 3600:.1f} h" if seconds >= 5400 else f"{max(seconds / 60, 1):.0f} min"
