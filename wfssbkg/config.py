"""Read config.yaml, check it, and name what is wrong with it."""

from __future__ import annotations

import difflib
import hashlib
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

DEFAULTS = Path(__file__).resolve().parents[1] / "config.yaml"

# Filters with enough public data and no features that the recipe cannot reproduce (seed README).
RECOMMENDED_FILTERS = ("F115W", "F150W", "F200W")

LOCAL = "processes"  # as compute.scheduler: on this machine

Filter = Literal["F090W", "F115W", "F140M", "F150W", "F158M", "F200W"]
Grating = Literal["GR150C", "GR150R", "CLEAR"]

DQ_FLAGS = (
    "DO_NOT_USE", "SATURATED", "JUMP_DET", "DROPOUT", "OUTLIER", "PERSISTENCE", "AD_FLOOR",
    "CHARGELOSS", "NON_SCIENCE", "DEAD", "HOT", "WARM", "LOW_QE", "RC",
    "TELEGRAPH", "NONLINEAR", "BAD_REF_PIXEL", "NO_FLAT_FIELD", "NO_GAIN_VALUE", "NO_LIN_CORR",
    "NO_SAT_CHECK", "UNRELIABLE_BIAS", "UNRELIABLE_DARK", "UNRELIABLE_SLOPE", "UNRELIABLE_FLAT",
    "OPEN", "ADJ_OPEN", "OTHER_BAD_PIXEL", "REFERENCE_PIXEL",
)  # fmt: skip


class ConfigError(Exception):
    """The config or the command line is wrong; the message names the place and what is allowed."""


def _odd(value: Any) -> Any:
    if isinstance(value, int) and value % 2 == 0:
        raise ValueError("the number is even")
    return value


def _unique(value: Any) -> Any:
    if isinstance(value, list) and len({repr(item) for item in value}) < len(value):
        raise ValueError("an entry stands twice")
    return value


def _names(value: Any) -> Any:
    if isinstance(value, list):
        return [str(item) if isinstance(item, int) and item is not True else item for item in value]
    return value


def _setting(allowed: str, **limits: Any) -> Any:
    """A field of the config; `allowed` completes the sentence "expected ..."."""
    return Field(description=allowed, **limits)


class _Section(BaseModel):
    model_config = ConfigDict(
        extra="forbid", strict=True, frozen=True, allow_inf_nan=False, arbitrary_types_allowed=True
    )


class Query(_Section):
    """What to take from the archive, and how; see config.yaml."""

    source: Annotated[str, _setting("mast, or the path of a folder", min_length=1)]
    readpatt: Annotated[
        list[Literal["NIS", "NISRAPID"]],
        BeforeValidator(_unique),
        _setting("a list of NIS, NISRAPID", min_length=1),
    ]
    subarray: Annotated[
        list[Literal["FULL"]],
        BeforeValidator(_unique),
        _setting("[FULL]: backgrounds are made of full frames", min_length=1),
    ]
    programs: Annotated[
        list[Annotated[str, Field(pattern=r"^\d{1,5}$")]] | None,
        BeforeValidator(_names),
        _setting("a list of programme numbers, or null for all"),
    ]
    exposures: Annotated[
        list[Annotated[str, Field(pattern=r"^jw[-0-9a-z_]+_rate\.fits$")]] | None,
        BeforeValidator(_unique),
        _setting("a list of names like jw..._nis_rate.fits, or null for all"),
    ]
    gaia_g_limit: Annotated[
        float | None,
        _setting("a magnitude from 3 to 16, or null for no star check", ge=3, le=16),
    ]
    star_radius: Annotated[float, _setting("arcmin, above 0, at most 60", gt=0, le=60)]
    mast_url: Annotated[str, _setting("an http(s) address", pattern=r"^https?://\S+$")]
    gaia_url: Annotated[str, _setting("an http(s) address", pattern=r"^https?://\S+$")]
    keep_rates: Annotated[bool, _setting("true or false")]
    connections: Annotated[int, _setting("a whole number from 1 to 32", ge=1, le=32)]
    attempts: Annotated[int, _setting("a whole number from 1 to 20", ge=1, le=20)]
    timeout: Annotated[float, _setting("seconds, above 0, at most 3600", gt=0, le=3600)]


class Mask(_Section):
    """How bad pixels and sources are masked; see config.yaml."""

    crds_context: Annotated[
        str | None,
        _setting(
            "a name like jwst_1365.pmap, or null for the current one",
            pattern=r"^jwst_[0-9]{4,6}\.pmap$",
        ),
    ]
    bad_flags: Annotated[
        list[Literal[DQ_FLAGS]] | Literal["all"],  # type: ignore[valid-type]
        BeforeValidator(_unique),
        _setting("a list of DQ flag names of the JWST pipeline, or all"),
    ]
    background_box: Annotated[int, _setting("px, a whole number from 8 to 1024", ge=8, le=1024)]
    background_filter: Annotated[
        int, BeforeValidator(_odd), _setting("an odd number from 1 to 31", ge=1, le=31)
    ]
    kernel_fwhm: Annotated[float, _setting("px, from 0 (no smoothing) to 20", ge=0, le=20)]
    threshold: Annotated[float, _setting("sigma, above 0, at most 100", gt=0, le=100)]
    minimum_area: Annotated[int, _setting("px, a whole number from 1 to 10000", ge=1, le=10000)]
    growth: Annotated[int, _setting("px, a whole number from 0 to 100", ge=0, le=100)]


class Combine(_Section):
    """How exposures become one background; see config.yaml."""

    level_border: Annotated[int, _setting("px, a whole number from 0 to 1000", ge=0, le=1000)]
    level_sigma: Annotated[float, _setting("sigma, from 0.5 to 100", ge=0.5, le=100)]
    estimator: Annotated[
        Literal["weighted_mean", "median", "clipped_median"],
        _setting("weighted_mean, median or clipped_median"),
    ]
    clip_sigma: Annotated[float, _setting("sigma, from 0.5 to 100", ge=0.5, le=100)]
    refinements: Annotated[int, _setting("a whole number from 0 to 5", ge=0, le=5)]
    trace_scales: Annotated[
        list[
            Annotated[
                list[Annotated[float, Field(ge=0.5, le=100)]], Field(min_length=2, max_length=2)
            ]
        ],
        _setting("a list of pairs of widths from 0.5 to 100 px", min_length=1, max_length=10),
    ]
    direct_scales: Annotated[
        list[Annotated[float, Field(ge=0.5, le=100)]],
        _setting("a list of widths from 0.5 to 100 px", min_length=1, max_length=10),
    ]
    trace_threshold: Annotated[float, _setting("sigma, from 1 to 100", ge=1, le=100)]
    trace_depth: Annotated[float, _setting("from 0 to 100 times the noise", ge=0, le=100)]
    faint_threshold: Annotated[float, _setting("sigma, from 0 to 100", ge=0, le=100)]
    remove_stripes: Annotated[bool, _setting("true or false")]
    maximum_masked_fraction: Annotated[float, _setting("above 0, at most 1", gt=0, le=1)]
    maximum_saturated: Annotated[int, _setting("px, from 0 to 10000", ge=0, le=10000)]
    maximum_crowding: Annotated[float, _setting("from 1 to 1000", ge=1, le=1000)]
    structure_box: Annotated[int, _setting("px, a whole number from 8 to 1024", ge=8, le=1024)]
    maximum_structure: Annotated[float, _setting("from 1 to 1000", ge=1, le=1000)]
    tolerated_structure: Annotated[
        float, _setting("from 0 to 10, in units of the sky", ge=0, le=10)
    ]
    minimum_exposures: Annotated[int, _setting("a whole number from 1 to 1000", ge=1, le=1000)]

    def scales(self, *, direct: bool) -> list[list[float]]:
        """Widths along and across the dispersion that sources are looked for with, px."""
        return [[width, width] for width in self.direct_scales] if direct else self.trace_scales


class Finalize(_Section):
    """How a combined background is denoised, filled and labelled; see config.yaml."""

    patch_size: Annotated[
        int, BeforeValidator(_odd), _setting("px, an odd number from 3 to 31", ge=3, le=31)
    ]
    patch_distance: Annotated[int, _setting("px, a whole number from 1 to 50", ge=1, le=50)]
    noise: Annotated[Literal["propagated", "estimated"], _setting("propagated or estimated")]
    strength: Annotated[
        float, _setting("in units of the noise, from 0 (no denoising) to 10", ge=0, le=10)
    ]
    fill_size: Annotated[
        int, BeforeValidator(_odd), _setting("px, an odd number from 3 to 31", ge=3, le=31)
    ]
    author: Annotated[
        str, _setting("a name of 1 to 60 printable ASCII characters", pattern=r"^[ -~]{1,60}$")
    ]


class Compare(_Section):
    """How backgrounds are scored; see config.yaml."""

    groups: Annotated[int | None, _setting("a whole number from 2 to 100, or null", ge=2, le=100)]
    smoothing: Annotated[float, _setting("px, from 1 to 100", ge=1, le=100)]
    known: Annotated[float, _setting("from 0 to 1", ge=0, le=1)]


class Compute(_Section):
    """What the scripts may use of the machine; see config.yaml."""

    workers: Annotated[
        int | None, _setting("a whole number from 1 to 1024, or null", ge=1, le=1024)
    ]
    memory_gb: Annotated[float, _setting("GB, from 1 to 10000", ge=1, le=10000)]
    scheduler: Annotated[
        str,
        _setting(
            f"{LOCAL}, or the address of a Dask scheduler, tcp://host:port",
            pattern=rf"^({LOCAL}|tcp://[^\s:/]+:\d{{1,5}})$",
        ),
    ]


class Config(_Section):
    """All settings of the five scripts; paths are absolute."""

    gratings: Annotated[
        list[Grating],
        BeforeValidator(_unique),
        _setting("a list of GR150C, GR150R, CLEAR", min_length=1),
    ]
    filters: Annotated[
        list[Filter],
        BeforeValidator(_unique),
        _setting("a list of F090W, F115W, F140M, F150W, F158M, F200W", min_length=1),
    ]
    working_directory: Annotated[Path, _setting("the path of a folder")]
    output_directory: Annotated[Path, _setting("the path of a folder")]
    query: Annotated[Query, _setting("the settings of queryData.py")]
    mask: Annotated[Mask, _setting("the settings of makeMask.py")]
    combine: Annotated[Combine, _setting("the settings of makeBackgrounds.py")]
    finalize: Annotated[Finalize, _setting("the settings of finalizeBackgrounds.py")]
    compare: Annotated[Compare, _setting("the settings of compareBackgrounds.py")]
    compute: Annotated[Compute, _setting("workers, memory_gb, scheduler")]


def read(path: Path, *, defaults: Path = DEFAULTS) -> Config:
    """
    Read and check a config file; keys that it leaves out are taken from `defaults`.

    Parameters
    ----------
    path : `~pathlib.Path`
        The YAML file; relative paths are taken from its folder, those it leaves out as well.
    defaults : `~pathlib.Path`
        The project's config.yaml, the only place that holds default settings.

    Returns
    -------
    `Config`

    Raises
    ------
    ConfigError
        If a file cannot be read, or a key is unknown, missing, stands twice, or has a value of
        the wrong type or out of range. The message names file, line, key and what is allowed.
    """
    values, places = _load(path)
    if path.resolve() != defaults.resolve():
        default_values, default_places = _load(defaults)
        values = _merge(default_values, values)
        places = default_places | places
    for key in ("working_directory", "output_directory"):
        if isinstance(values.get(key), str) and "\0" not in values[key]:
            values[key] = _absolute(values[key], path)
    try:
        return Config.model_validate(values)
    except ValidationError as error:
        problems = {_describe(problem, values, places, path) for problem in error.errors()}
        raise ConfigError("\n".join(sorted(problems))) from None


def fingerprint(*sections: BaseModel) -> str:
    """
    A short name for the values of some sections, to tell whether a file was made with them.

    Parameters
    ----------
    *sections : `Config` sections

    Returns
    -------
    str
        12 hexadecimal digits.
    """
    text = "\n".join(section.model_dump_json() for section in sections)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


Places = dict[tuple[str, ...], tuple[Path, int]]


def _load(path: Path) -> tuple[dict, Places]:
    """The values of a YAML file, and the line of each key."""
    try:
        node = yaml.compose(path.read_text(encoding="utf-8"), Loader=yaml.SafeLoader)
        places: Places = {}
        if node is not None:
            _locate(node, (), path, places)
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(
            f"{path}: the config cannot be read ({error.strerror}). Give one with --config FILE"
        ) from None
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = f", line {mark.line + 1}" if mark else ""
        raise ConfigError(f"{path}{line}: not valid YAML: {error.problem}") from None
    except (ValueError, yaml.YAMLError, RecursionError, TypeError) as error:
        reason = str(error).splitlines()[0]
        raise ConfigError(f"{path}: not a readable YAML text file: {reason}") from None
    if values is None:
        values = {}
    if not isinstance(values, dict):
        raise ConfigError(f"{path}, line 1: expected lines of the form 'key: value'")
    query = values.get("query")
    source = query.get("source") if isinstance(query, dict) else None
    if isinstance(source, str) and source not in ("", "mast"):
        query["source"] = str(_absolute(source, path))
    return values, places


def _absolute(value: str, path: Path) -> Path:
    try:
        return (path.resolve().parent / Path(value).expanduser()).absolute()
    except RuntimeError:  # "~name" of a user who does not exist
        return (path.resolve().parent / value).absolute()


def _locate(node: yaml.Node, above: tuple[str, ...], path: Path, places: Places) -> None:
    """Note the line of each key, and refuse a key that stands twice."""
    if not isinstance(node, yaml.MappingNode):
        return
    for key_node, value_node in node.value:
        key = (*above, str(key_node.value))
        line = key_node.start_mark.line + 1
        if key_node.tag != "tag:yaml.org,2002:str":
            raise ConfigError(f"{path}, line {line}: '{key_node.value}' is not the name of a key")
        if key in places:
            raise ConfigError(
                f"{path}, line {line}: key '{'.'.join(key)}' stands twice "
                f"(first in line {places[key][1]}). Remove one of the two"
            )
        places[key] = (path, line)
        if len(key) < 3:  # the config is two levels deep; this also ends recursive anchors
            _locate(value_node, key, path, places)


def _merge(defaults: dict, values: dict) -> dict:
    merged = {**defaults, **values}
    for key, default in defaults.items():
        if isinstance(default, dict) and isinstance(values.get(key), dict):
            merged[key] = {**default, **values[key]}
    return merged


def _describe(problem: Any, values: dict, places: Places, path: Path) -> str:
    """One problem that pydantic found, in the user's terms."""
    location = tuple(str(part) for part in problem["loc"])
    model: Any = Config
    key: list[str] = []
    allowed = ""
    for part in location:
        field = model.model_fields.get(part) if model else None
        if field is None:
            break
        key.append(part)
        allowed = field.description
        is_section = isinstance(field.annotation, type) and issubclass(field.annotation, _Section)
        model = field.annotation if is_section else None
    if problem["type"] == "extra_forbidden":
        return _unknown((*key, location[-1]), model, places, path)
    name = ".".join(key)
    where, line = places.get(tuple(key), (path, None))
    place = f"{where}, line {line}" if line else f"{where}"
    if problem["type"] == "missing":
        return f"{place}: key '{name}' is missing. Expected {allowed}"
    value: Any = values
    for part in key:
        value = value[part]
    shown = repr(str(value) if isinstance(value, Path) else value)
    shown = shown if len(shown) <= 80 else shown[:77] + "..."
    return f"{place}: {name} is {shown}. Expected {allowed}"


def _unknown(key: tuple[str, ...], model: Any, places: Places, path: Path) -> str:
    where, line = places.get(key, (path, None))
    place = f"{where}, line {line}" if line else f"{where}"
    names = list(model.model_fields)
    nearest = difflib.get_close_matches(key[-1], names, n=1, cutoff=0.6)
    hint = f" Did you mean '{'.'.join((*key[:-1], nearest[0]))}'?" if nearest else ""
    return f"{place}: unknown key '{'.'.join(key)}'.{hint} Allowed here: {', '.join(names)}"
