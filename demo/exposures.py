"""Which exposures an archive holds, and where they are on the sky."""

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace

import numpy as np

from demo import detector, optics, scene
from demo.effects import NO_EFFECTS, PLAIN_COLOUR, Effects, with_effects

COMBINATIONS = (("GR150C", "F115W"), ("GR150R", "F115W"))
# Kinds of contamination: those by a star, with its magnitude, and the others.
STAR_MAGNITUDE = {"star in field": 8.0, "star outside": 8.0, "saturated star": 12.0}
CONTAMINATIONS = (*STAR_MAGNITUDE, "crowded", "persistence", "scattered light")
CLUSTER_DENSITY = 6000.0  # stars per arcmin^2 in a globular cluster
# Dither patterns of WFSS, arcsec (JDox): SMALL, MEDIUM, which is the default, and LARGE. Parallels
# follow the pattern of the prime instrument.
PATTERNS, PATTERN_SHARES = (0.3, 0.6, 1.2), (0.2, 0.6, 0.2)
PARALLEL_PATTERN = (1.0, 4.0)
PARALLEL_EVERY = 3  # one field in three is observed in parallel


@dataclass(frozen=True)
class Exposure:
    """One exposure to simulate."""

    grating: str  # or CLEAR: a direct image
    filter: str  # the blocking filter
    field: int
    dither: int
    exposure_time: float  # s
    sky_level: float  # DN/s
    sky_colour: float  # see `demo.optics.sky_background`
    ra: float  # deg, where the centre of the detector points
    dec: float
    field_ra: float  # deg, centre of the field: the target of the proposal
    field_dec: float
    roll: float  # deg, position angle of the detector's y axis
    date: float  # MJD of the start
    program: int
    readpatt: str = "NIS"
    subarray: str = "FULL"
    contamination: str | None = None
    parallel: bool = False  # a pure parallel: the archive has no target for it
    cleaning: str | None = None  # S_CLNFNS: COMPLETE if stage 1 cleaned the 1/f noise; None: absent
    pattern: float = 0.6  # arcsec, typical distance between dithers
    effects: Effects = NO_EFFECTS

    @property
    def rootname(self) -> str:
        """The name of the exposure: jw<program><observation><visit>_<group>_<exposure>_nis."""
        group = {"GR150C": "02101", "GR150R": "04101", "CLEAR": "06101"}[self.grating]
        return f"jw{self.program:05d}{self.field:03d}001_{group}_{self.dither:05d}_nis"

    @property
    def filename(self) -> str:
        """Name of the rate file."""
        return f"{self.rootname}_rate.fits"

    @property
    def exposure_type(self) -> str:
        """EXP_TYPE of slitless spectra or of a direct image."""
        return optics.exposure_type(self.grating)

    @property
    def target(self) -> tuple[float, float]:
        """RA and Dec of the target, deg; MAST has 0, 0 for pure parallels."""
        return (0.0, 0.0) if self.parallel else (self.field_ra, self.field_dec)

    @property
    def visit_type(self) -> str:
        """VISITYPE."""
        return "PARALLEL_PURE" if self.parallel else "PRIME_TARGETED_FIXED"

    @property
    def cal_version(self) -> str:
        """CAL_VER: 1/f noise is cleaned in stage 1 by newer builds only."""
        return "3.0.0" if self.cleaning else "1.20.2"

    @property
    def combination(self) -> str:
        """Grating and filter, as in GR150C-F115W."""
        return f"{self.grating}-{self.filter}"


def star_position(spec: Exposure, npix: int) -> tuple[float, float, float] | None:
    """The star that contaminates an exposure: RA, Dec (deg, at the time of exposure), AB mag."""
    if spec.contamination not in STAR_MAGNITUDE:
        return None
    wcs = scene.pointing_wcs(spec.ra, spec.dec, spec.roll, npix)
    along, across = 0.71 * npix, 0.36 * npix
    if spec.contamination == "star outside":
        # The star is just outside the detector, but on the mirror: its first order is detected.
        along = npix + 0.01 * npix
    x, y = (along, across) if spec.grating == "GR150C" else (across, along)
    ra, dec = wcs.all_pix2world(x, y, 0)
    return float(ra), float(dec), STAR_MAGNITUDE[spec.contamination]


def footprint(spec: Exposure, npix: int) -> str:
    """The corners of the detector on the sky as an S_REGION string."""
    wcs = scene.pointing_wcs(spec.ra, spec.dec, spec.roll, npix)
    low, high = -0.5, npix - 0.5
    corners = wcs.all_pix2world([[low, low], [high, low], [high, high], [low, high]], 0)
    return "POLYGON ICRS  " + " ".join(f"{value:.9f}" for value in corners.ravel())


def _dither(rng: np.random.Generator, spec: Exposure, number: int) -> Exposure:
    """A dither of a field: places of a pattern are about as far from each other as its size."""
    radius, angle = 0.5 * math.sqrt(number) * spec.pattern, 2.4 * number  # the golden angle
    scatter = rng.normal(0, 0.1 * spec.pattern, 2)
    east, north = radius * np.array([math.sin(angle), math.cos(angle)]) + scatter
    return replace(
        spec,
        dither=number,
        ra=float(spec.field_ra + east / 3600 / math.cos(math.radians(spec.field_dec))) % 360,
        dec=float(spec.field_dec + north / 3600),
        date=spec.date + 0.03 * number,
        sky_level=spec.sky_level * rng.uniform(0.97, 1.03),
    )


def _pattern(rng: np.random.Generator, field: int) -> float:
    """Size of the dither pattern of a field, arcsec."""
    prime, parallel = rng.choice(PATTERNS, p=PATTERN_SHARES), rng.uniform(*PARALLEL_PATTERN)
    return float(prime if field % PARALLEL_EVERY else parallel)


def _fields(
    rng: np.random.Generator,
    combination: tuple[str, str],
    program: int,
    dithers: list[int],
    levels: tuple[float, float],
    times: tuple[float, float],
) -> list[Exposure]:
    """Clean exposures: a field for each number of dithers, with levels and times spread out."""
    exposures, count = [], len(dithers)
    # There is a field in each part of the ranges, so that every set covers them.
    level_parts = (rng.permutation(count) + rng.random(count)) / count
    time_parts = (rng.permutation(count) + rng.random(count)) / count
    for field, number in enumerate(dithers, start=1):
        level = levels[0] * (levels[1] / levels[0]) ** level_parts[field - 1]
        time = times[0] + time_parts[field - 1] * (times[1] - times[0])
        groups = round(float(time) / detector.GROUP_TIME["NIS"])
        ra, dec = rng.uniform(0, 360), float(np.degrees(np.arcsin(rng.uniform(-0.9, 0.9))))
        base = Exposure(
            *combination,
            field=field,
            dither=0,
            exposure_time=round(groups * detector.GROUP_TIME["NIS"], 3),
            sky_level=float(level),
            sky_colour=rng.normal(0, PLAIN_COLOUR),
            ra=ra,
            dec=dec,
            field_ra=ra,
            field_dec=dec,
            roll=rng.uniform(0, 360),
            date=rng.uniform(59800, 60600),
            program=program,
            pattern=_pattern(rng, field),
        )
        exposures += [_dither(rng, base, dither) for dither in range(1, number + 1)]
    return exposures


def _contaminated(
    rng: np.random.Generator, clean: list[Exposure], kinds: tuple[str, ...]
) -> list[Exposure]:
    """One exposure of each kind of contamination, each in a field of its own."""
    exposures = []
    for number, kind in enumerate(kinds, start=91):
        model = clean[rng.integers(len(clean))]
        ra, dec = rng.uniform(0, 360), rng.uniform(-60, 60)
        base = replace(
            model,
            field=number,
            field_ra=ra,
            field_dec=dec,
            roll=rng.uniform(0, 360),
            date=rng.uniform(59800, 60600),
            contamination=kind,
        )
        exposures.append(_dither(rng, base, 1))
    return exposures


def demo_exposures(
    seed: int, combinations: tuple[tuple[str, str], ...] = COMBINATIONS
) -> list[Exposure]:
    """The exposures of the demo: nine clean ones of each combination, and some special ones.

    Parameters
    ----------
    seed : int
    combinations : sequence of (str, str)
        Grating and blocking filter; the first gets an exposure with a bright star, and one whose
        1/f noise was cleaned in stage 1; the second an extremely crowded one, and its third field
        is of pure parallels, for which the archive has no target.

    Returns
    -------
    list of Exposure
    """
    rng, another = np.random.default_rng([seed, 10]), np.random.default_rng([seed, 12])
    exposures = []
    kinds = (("star in field",), ("crowded",))
    for number, combination in enumerate(combinations):
        clean = _fields(rng, combination, 90001 + number, [3, 3, 3], (0.4, 1.2), (600, 1500))
        spoilt = _contaminated(rng, clean, kinds[number] if number < len(kinds) else ())
        if number == 0:
            clean.append(_dither(another, replace(clean[0], cleaning="COMPLETE"), 4))
        elif number == 1:
            clean = [replace(spec, parallel=spec.field == 3) for spec in clean]
        exposures += clean + spoilt
    return exposures


def accuracy_exposures(
    seed: int,
    grating: str,
    filter_name: str,
    fields: int = 8,
    dithers: int = 3,
    contaminated: bool = False,
    effects: Iterable[str] = (),
) -> list[Exposure]:
    """Exposures to measure the accuracy with: levels 0.2 to 1.5 DN/s, 300 to 1500 s.

    Parameters
    ----------
    seed : int
    grating, filter_name : str
    fields, dithers : int
        Number of fields of clean exposures, and number of dithers of each field.
    contaminated : bool
        Whether to add one exposure of each kind in `CONTAMINATIONS`; the clean ones stay the
        same.
    effects : iterable of str
        Names in `demo.effects.EFFECTS` to switch on. The exposures of a field of starlight, and of
        one with a strong light saber, have that as their contamination; all others stay clean.

    Returns
    -------
    list of Exposure
    """
    rng = np.random.default_rng([seed, 11])
    combination = grating, filter_name
    exposures = _fields(rng, combination, 90011, [dithers] * fields, (0.2, 1.5), (300, 1500))
    if contaminated:
        exposures += _contaminated(rng, exposures, CONTAMINATIONS)
    return with_effects(exposures, effects, seed)
