"""The sets of exposures that the benchmarks simulate, and the seeds that are held out."""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np

from demo import archive, detector
from demo.effects import EFFECTS, EVERYTHING


@dataclass(frozen=True)
class Set:
    """What is simulated for each seed."""

    combinations: tuple[str, ...]
    fields: int = 8
    dithers: int = 3
    effects: tuple[str, ...] = ()


BOTH = ("GR150C-F115W", "GR150R-F200W")
ALONE = {
    f"alone-{name.replace('/', '').replace(' ', '_')}": Set(BOTH[:1], effects=(name,))
    for name in EFFECTS
}
SETS = {
    "plain": Set(BOTH),
    "hard": Set(BOTH, effects=EVERYTHING),
    "cleaned": Set(BOTH, effects=EFFECTS),
    "N": Set(BOTH[:1], 12, 4),
    "N-hard": Set(BOTH[:1], 12, 4, EVERYTHING),
    "D": Set(("CLEAR-F115W",), 2, 4),
    **ALONE,
}
# Never used for development. Not 9403: with it the limit of crowding was chosen.
HELD_OUT = {"GR150C-F115W": (9301, 9302), "GR150R-F200W": (9404, 9405), "CLEAR-F115W": (9505, 9506)}
NUMBERS = (4, 8, 16, 24, 48)  # exposures of sets N and N-hard


@dataclass(frozen=True)
class Sample:
    """The exposures of one background; `archive` names the simulated archive that has them."""

    name: str  # of the set
    combination: str
    seed: int
    archive: str
    exposures: list[archive.Exposure]

    @property
    def cleaned(self) -> bool:
        """Whether their 1/f noise was cleaned in stage 1."""
        return any(spec.cleaning for spec in self.exposures)


def samples(name: str, combination: str, seed: int) -> list[Sample]:
    """The samples of a set: one, or in sets N one for each number of exposures."""
    chosen = SETS[name]
    everything = archive.accuracy_exposures(
        seed, *combination.split("-"), chosen.fields, chosen.dithers, effects=chosen.effects
    )
    parts = [everything]
    if name.startswith("N"):
        parts = [subset(everything, number) for number in NUMBERS]
    where = f"{name}-{combination}-{seed}"
    return [Sample(name, combination, seed, where, part) for part in parts]


def subset(everything: list[archive.Exposure], number: int) -> list[archive.Exposure]:
    """
    A number of exposures spread over the fields, with the same mean information as all exposures.

    As often as possible there is a dither from every field. For the rest there is one more from
    some fields: from those whose mean information is nearest to that of all exposures.
    """
    by_place = {(spec.field, spec.dither): spec for spec in everything}
    fields = sorted({spec.field for spec in everything})
    mean = np.mean([information(spec) for spec in everything])
    rounds, rest = divmod(number, len(fields))

    def distance(chosen: tuple[int, ...]) -> float:
        return abs(sum(information(by_place[field, 1]) - mean for field in chosen))

    extra = min(itertools.combinations(fields, rest), key=distance)
    places = [*itertools.product(fields, range(1, rounds + 1)), *((f, rounds + 1) for f in extra)]
    return [by_place[place] for place in places]


def information(spec: archive.Exposure) -> float:
    """(level/noise)^2 of a pixel of an exposure."""
    return (spec.sky_level / detector.pixel_noise(spec.sky_level, spec.exposure_time)) ** 2
