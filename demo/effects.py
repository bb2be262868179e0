"""What real exposures have besides sky, sources and plain noise; each can be switched on alone.

The strengths that differ between exposures are here, those of single pixels in `demo.defects`,
those of extended light in `demo.extended`. The values of an exposure are part of it. Each effect
has random numbers of its own, so that an archive with it and one without it have everything else in
common.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from demo.exposures import Exposure

PLAIN_COLOUR = 0.04  # spread of the exponent of the sky's spectrum in an archive without effects

# What the subtraction of the dark leaves, DN/s: a mean of the archive, and the scatter around it.
# As large as a few per cent of the darkest sky, which is 0.2 DN/s.
PEDESTAL_RANGE = (0.005, 0.02)
PEDESTAL_SCATTER = 0.0015
# Rows of a full frame that jump. The steps were found in NIRISS ramps by C. Willott ("columnjump",
# in his branch of the jwst pipeline): offsets as large as the noise of a pixel.
ROW_JUMPS = 30
# Share of the variance of the 1/f noise that all amplifiers have in common. It is large: STScI's
# tool for WFSS (onefcorr_wfss) corrects whole columns.
COMMON_NOISE = (0.0, 0.5, 0.9)
# The grism wheel stops within 0.1 to 0.2 deg of its reference (GRISMCONF V5, FWCPOS).
ROTATION = 0.12  # deg, standard deviation
# Spread of the exponent of the sky's spectrum. No measurement is published for WFSS; dust of other
# elongations and latitudes differs by about so much in the near infrared.
COLOUR = 0.25
# Scattered light from a star outside the field, known as the light saber (JDox, NIRISS known
# issues): in a part of the exposures weak, in one field strong. Peak, relative to the sky.
WEAK_SABER, WEAK_SABER_SHARE = (0.01, 0.02), 0.4
STRONG_SABER = (0.05, 0.15)
# Large galaxies, and light within clusters of galaxies, which are a third of the archive's fields.
# The light of a cluster is a few per cent of the sky in its middle (surface brightness of 26 to 27
# mag arcsec^-2, as observed in clusters of the nearer Universe).
EXTENDED_SHARE = 1 / 3
LARGE_GALAXIES = (2, 5)  # number in a field, from, and below
CLUSTER_LIGHT = (0.01, 0.03)  # relative to the sky
# Level of a field in a nearby galaxy; WFSS exposures of the LMC and M33 have up to 2.4 DN/s.
STARLIGHT_LEVEL = (1.5, 2.4)  # DN/s, with the sky


@dataclass(frozen=True)
class Effects:
    """The values of one exposure; by default there is no effect."""

    pedestal: float = 0.0  # DN/s, additive, not flat-fielded
    row_jumps: int = 0  # rows of a full frame with an offset
    common_noise: float = 0.0  # share of the variance of the 1/f noise
    rotation: float = 0.0  # deg, of the grism
    light_saber: float = 0.0  # peak, relative to the sky
    large_galaxies: int = 0  # in the field
    cluster_light: float = 0.0  # DN/s, central surface brightness
    starlight: float = 0.0  # DN/s, unresolved
    bad_pixels: bool = False  # of two epochs, a third of them without a flag
    dark_excess: bool = False  # pixels with a small one, without a flag
    distortion: bool = False  # dithers move sources in the corners more or less than in the centre


NO_EFFECTS = Effects()


def _each(draw: Callable[[np.random.Generator], dict]) -> Callable:
    """An effect whose values are drawn for each exposure."""

    def change(rng: np.random.Generator, exposures: list[Exposure]) -> list[Exposure]:
        return [_with(spec, **draw(rng)) for spec in exposures]

    return change


def _with(spec: Exposure, **values: float) -> Exposure:
    return replace(spec, effects=replace(spec.effects, **values))


def _sound_fields(exposures: list[Exposure]) -> list[int]:
    """Fields of exposures that no star or accident contaminates, in order of their level."""
    levels: dict[int, list[float]] = {}
    for spec in exposures:
        if spec.contamination in (None, *SPOILING):
            levels.setdefault(spec.field, []).append(spec.sky_level)
    return sorted(levels, key=lambda field: np.mean(levels[field]))


def _pedestal(rng: np.random.Generator, exposures: list[Exposure]) -> list[Exposure]:
    low, high = PEDESTAL_RANGE
    mean = rng.uniform(low, high)
    values = np.clip(rng.normal(mean, PEDESTAL_SCATTER, len(exposures)), low, high)
    return [
        _with(spec, pedestal=float(value)) for spec, value in zip(exposures, values, strict=True)
    ]


def _light_saber(rng: np.random.Generator, exposures: list[Exposure]) -> list[Exposure]:
    """Weak ones here and there; a strong one in one field, but not in that of starlight."""
    others = _sound_fields(exposures)[1:]
    field, strong = rng.choice(others) if others else None, rng.uniform(*STRONG_SABER)
    changed = []
    for spec in exposures:
        chance, weak, change = rng.random(), rng.uniform(*WEAK_SABER), rng.uniform(0.9, 1.1)
        if spec.field == field:
            spec = replace(spec, contamination="light saber")
            changed.append(_with(spec, light_saber=strong * change))
        else:
            changed.append(_with(spec, light_saber=weak if chance < WEAK_SABER_SHARE else 0.0))
    return changed


def _extended_sources(rng: np.random.Generator, exposures: list[Exposure]) -> list[Exposure]:
    fields = _sound_fields(exposures)
    levels = {spec.field: spec.sky_level for spec in reversed(exposures)}
    chosen = rng.permutation(fields)[: max(round(len(fields) * EXTENDED_SHARE), 1)]
    values = {
        field: {
            "large_galaxies": int(rng.integers(*LARGE_GALAXIES)),
            "cluster_light": float(rng.uniform(*CLUSTER_LIGHT) * levels[field]),
        }
        for field in chosen
    }
    return [_with(spec, **values.get(spec.field, {})) for spec in exposures]


def _starlight(rng: np.random.Generator, exposures: list[Exposure]) -> list[Exposure]:
    """In the field with the darkest sky: the LMC is at the pole of the ecliptic."""
    field, level = _sound_fields(exposures)[0], float(rng.uniform(*STARLIGHT_LEVEL))
    sky = next(spec.sky_level for spec in exposures if spec.field == field)
    value = max(level - sky, sky)
    return [
        _with(replace(spec, contamination="starlight"), starlight=value)
        if spec.field == field
        else spec
        for spec in exposures
    ]


# Names of the switches. An effect's random numbers follow from its place in this list.
CHANGES = {
    "pedestal": _pedestal,
    "row jumps": _each(lambda rng: {"row_jumps": int(rng.poisson(ROW_JUMPS))}),
    "common 1/f noise": _each(lambda rng: {"common_noise": float(rng.choice(COMMON_NOISE))}),
    "grism rotation": _each(lambda rng: {"rotation": float(rng.normal(0, ROTATION))}),
    "colour": lambda _, exposures: [
        replace(spec, sky_colour=spec.sky_colour * COLOUR / PLAIN_COLOUR) for spec in exposures
    ],
    "light saber": _light_saber,
    "extended sources": _extended_sources,
    "starlight": _starlight,
    "bad pixels": _each(lambda _: {"bad_pixels": True}),
    "dark excess": _each(lambda _: {"dark_excess": True}),
    "distortion": _each(lambda _: {"distortion": True}),
    "cleaning": lambda _, exposures: [replace(spec, cleaning="COMPLETE") for spec in exposures],
}
EFFECTS = tuple(CHANGES)
EVERYTHING = tuple(name for name in EFFECTS if name != "cleaning")
SPOILING = ("light saber", "starlight")  # those that spoil the exposures of a field


def with_effects(exposures: list[Exposure], names: Iterable[str], seed: int) -> list[Exposure]:
    """
    The exposures with some effects switched on.

    Parameters
    ----------
    exposures : list of Exposure
    names : iterable of str
        Names in `EFFECTS`, in any order.
    seed : int

    Returns
    -------
    list of Exposure
        In the same order. Those that an effect spoils have its name as their contamination.

    Raises
    ------
    ValueError
        If there is no effect of that name.
    """
    wanted = set(names)
    if wanted - set(EFFECTS):
        raise ValueError(f"no such effect: {', '.join(sorted(wanted - set(EFFECTS)))}")
    for number, (name, change) in enumerate(CHANGES.items()):
        if name in wanted:
            exposures = change(np.random.default_rng([seed, 13, number]), exposures)
    return exposures
