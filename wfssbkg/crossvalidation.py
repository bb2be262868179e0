"""Backgrounds made without some of the fields, to be scored on these."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from astropy.io import fits
from astropy.table import Table

from wfssbkg import (
    StepError,
    background,
    cellfiles,
    cells,
    exposures,
    fields,
    files,
    finalize,
    masked,
    parallel,
    stripes,
)
from wfssbkg.config import Config
from wfssbkg.layout import Folder
from wfssbkg.products import Background
from wfssbkg.sample import Exposure

LEAST_PARTS = 3  # with fewer, a background without one is made of much less than the whole


@dataclass
class Sample:
    """The exposures that a background was made of.

    Attributes
    ----------
    members : list of `~wfssbkg.sample.Exposure`
        With their levels and pointings.
    share : (n,) float array
        Of each in the background.
    refined : bool
        Whether the refinement's masks, stripes and faint light are there.
    noise, information : (n, 4, columns) float32 arrays or None
        Stripes, relative to the level, and 1/noise^2 of them; None if not refined.
    """

    members: list[Exposure]
    share: np.ndarray
    refined: bool
    noise: np.ndarray | None = None
    information: np.ndarray | None = None

    @property
    def pointings(self) -> list[fields.Pointing]:
        """Of each exposure."""
        return [exposure.pointing for exposure in self.members]

    def common(self, numbers: list[int]) -> np.ndarray | None:
        """What the stripes of some exposures have in common; None if they are not refined."""
        if not self.refined:
            return None
        return stripes.common(self.noise[numbers], self.information[numbers])[0]

    def mean_stripes(self, numbers: list[int]) -> np.ndarray | None:
        """
        The mean of the stripes of some exposures, as `common`: all of it stays in them.

        What the stripes hide of the error of the background they were measured against as well.
        """
        if not self.refined:
            return None
        total = self.information[numbers].sum(axis=0, dtype=np.float64)
        mean = (self.information[numbers] * self.noise[numbers]).sum(axis=0, dtype=np.float64)
        return (mean / np.where(total > 0, total, 1)).astype(np.float32)


def sample(config: Config, folder: Folder, inputs: Table) -> Sample:
    """
    The accepted exposures of a table, of which the masked exposure is there and sound.

    Parameters
    ----------
    config : `~wfssbkg.config.Config`
    folder : `~wfssbkg.layout.Folder`
    inputs : `~astropy.table.Table`
        The exposure table.

    Returns
    -------
    `Sample`
    """
    accepted = inputs[inputs["status"] == exposures.ACCEPTED]
    members, share = [], []
    for row in accepted:
        exposure = Exposure.of(folder, str(row["productFilename"]))
        try:
            exposure.read_header()
        except StepError:  # gone, or spoilt
            continue
        exposure.level = float(row["level"])
        members.append(exposure)
        share.append(float(row["weight"]))
    refined = config.combine.refinements > 0 and all(e.refined.exists() for e in members)
    made = Sample(members, np.array(share), refined)
    if refined and members:
        options = {"compute": config.compute, "need_gb": background.WORKER_GB}
        found = parallel.run_in_order(
            stripes_of, [(exposure,) for exposure in members], description="stripes", **options
        )
        made.noise, made.information = (np.array(part) for part in zip(*found, strict=True))
    return made


def stripes_of(exposure: Exposure) -> tuple[np.ndarray, np.ndarray]:
    """
    The stripes of an exposure as the refinement found them.

    Returns
    -------
    noise, information : (4, columns) float32 arrays
        Relative to its level, and 1/noise^2 of that.
    """
    light, noise = cellfiles.read_refined(exposure.refined)
    _, spread = masked.read_cells(exposure.masked)
    weight = np.where(np.isnan(light), 0, cells.weight(spread))
    _, information = stripes.of_exposure(np.zeros_like(weight), weight)
    level = np.float32(exposure.level)
    return noise / level, information * level**2


def parts(config: Config, made_of: Sample) -> list[list[int]]:
    """
    What is left out together: parts of the fields, or of the exposures if all are of one field.

    Parameters
    ----------
    config : `~wfssbkg.config.Config`
    made_of : `Sample`

    Returns
    -------
    list of lists of int
        Numbers of the exposures of each part. Only such as leave enough for a background.
    """
    units = fields.units(made_of.pointings)
    # Two fields in each, unless too much would be left out at a time: what a single field leaves,
    # its faint sources and the colour of its sky, averages down as well.
    most = len(units) // 2 if len(units) >= 2 * LEAST_PARTS else len(units)
    number = min(config.compare.groups or 0, most)
    shared = fields.share_out(units, made_of.share, number) if number > 1 else []
    least = config.combine.minimum_exposures
    return [sorted(part) for part in shared if len(made_of.members) - len(part) >= least]


def mean(config: Config, made_of: Sample, numbers: list[int]) -> tuple[np.ndarray, np.ndarray]:
    """The combination of some exposures, not denoised, and its noise; their stripes are in it."""
    members, common = [made_of.members[k] for k in numbers], made_of.mean_stripes(numbers)
    value, noise, *_ = background.combine_all(config, members, common)
    return value, noise


def background_without(
    config: Config, folder: Folder, made_of: Sample, part: list[int], inputs: Table
) -> Background:
    """
    The finished background without some exposures: what the refinement found is used again.

    Parameters
    ----------
    config : `~wfssbkg.config.Config`
    folder : `~wfssbkg.layout.Folder`
    made_of : `Sample`
    part : list of int
        Numbers of the exposures to leave out.
    inputs : `~astropy.table.Table`
        The exposure table.

    Returns
    -------
    `~wfssbkg.products.Background`
    """
    rest = [number for number in range(len(made_of.members)) if number not in part]
    members, common = [made_of.members[k] for k in rest], made_of.common(rest)
    *images, _ = background.combine_all(config, members, common)
    combined = Background(*images, inputs)
    background.destripe(config, combined.sci, None, along_x=folder.combination.along_x)
    return finalize.finish(config, combined)


def write_image(path: Path, sci: np.ndarray, err: np.ndarray | None = None) -> None:
    """Write an image where workers can read it, as SCI, and its noise, as ERR."""
    images = {"SCI": sci} if err is None else {"SCI": sci, "ERR": err}
    hdus = [fits.ImageHDU(np.asarray(x, dtype=np.float32), name=name) for name, x in images.items()]
    files.write(path, [fits.PrimaryHDU(), *hdus])
