"""Read config.yaml, check it, and name what is wrong with it."""

import difflib
import os
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

import yaml
from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from wfssbkg.errors import ConfigError

# The project's config.yaml, the only place that holds default settings.
DEFAULTS = Path(__file__).resolve().parents[1] / "config.yaml"

# Filters with enough public data and no features that the method cannot reproduce (README of
# WFSSBackgrounds by TheSkyentist).
RECOMMENDED_FILTERS = ("F115W", "F150W", "F200W")

MAST = "mast"  # as query.source: the archive
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


def _odd(value: int) -> int:
    if value % 2 == 0:
        raise ValueError("the number is even")
    return value


def _unique(value: Any) -> Any:
    if isinstance(value, list) and len(set(value)) < len(value):
        raise ValueError("an entry stands twice")
    return value


_UNIQUE = AfterValidator(_unique)

# Kinds of settings; `allowed` completes the sentence "expected ...".


def _setting(kind: Any, allowed: str, *checks: Any, **limits: Any) -> Any:
    return Annotated[kind, *checks, Field(description=allowed, **limits)]


def _whole(low: int, high: int, unit: str = "", *, or_null: bool = False, odd: bool = False) -> Any:
    allowed = f"{unit}, " * bool(unit) + ("an odd" if odd else "a whole")
    allowed += f" number from {low} to {high}" + ", or null" * or_null
    checks = [AfterValidator(_odd)] * odd
    return _setting(int | None if or_null else int, allowed, *checks, ge=low, le=high)


def _number(low: float, high: float, unit: str = "", *, above: bool = False) -> Any:
    span = f"above {low:g}, at most {high:g}" if above else f"from {low:g} to {high:g}"
    limits = {"gt" if above else "ge": low, "le": high}
    return _setting(float, f"{unit}, " * bool(unit) + span, **limits)


def _one(*names: str) -> Any:
    return _setting(Literal[names], "one of " + ", ".join(names))


def _some(*names: str) -> Any:
    return _setting(list[Literal[names]], f"a list of {', '.join(names)}", _UNIQUE, min_length=1)


class _Section(BaseModel):
    model_config = ConfigDict(
        extra="forbid", strict=True, frozen=True, allow_inf_nan=False, arbitrary_types_allowed=True
    )


_Width = _number(0.5, 100)
_TEXT = BeforeValidator(lambda value: str(value) if type(value) is int else value)
_Program = Annotated[str, _TEXT, Field(pattern=r"^\d{1,5}$")]
# A programme, a visit, or the name of a rate file, also of one of the user's own.
_Entry = Annotated[
    str, _TEXT, Field(pattern=r"^(0{0,4}[1-9][0-9]{0,4}|jw[0-9]{11}|[ -.0-~]+_rate\.fits)$")
]
_RateName = Annotated[str, Field(pattern=r"^jw[-0-9a-z_]+_rate\.fits$")]
_Source = Annotated[str, Field(min_length=1)]
_Switch = _setting(bool, "true or false")
_Address = _setting(str, "an http(s) address", pattern=r"^https?://\S+$")


class Query(_Section):
    """What to take from the archive, and how; see config.yaml."""

    source: _setting(
        _Source | Annotated[list[_Source], Field(min_length=1)],
        "mast, the path of a folder, or a list of them, each once",
        _UNIQUE,
    )
    readpatt: _some("NIS", "NISRAPID")
    subarray: _some("FULL")
    programs: _setting(list[_Program] | None, "a list of programme numbers, or null for all")
    exposures: _setting(list[_RateName] | None, "a list of jw..._nis_rate.fits, or null", _UNIQUE)
    exclude: _setting(
        list[_Entry] | None,
        "a list of rate files (jw..._nis_rate.fits), visits (jw01089001001) and programme numbers "
        "(1089), or null: none",
        _UNIQUE,
    )
    gaia_g_limit: _setting(float | None, "a magnitude from 3 to 16, or null: no check", ge=3, le=16)
    star_radius: _number(0, 60, "arcmin", above=True)
    mast_url: _Address
    gaia_url: _Address
    cloud: _Switch
    keep_rates: _Switch
    connections: _whole(1, 32)
    attempts: _whole(1, 20)
    timeout: _number(0, 3600, "seconds", above=True)

    @property
    def sources(self) -> list[str]:
        """Where exposures are looked for: `MAST`, and the paths of folders."""
        return [self.source] if isinstance(self.source, str) else self.source


class Cleaning(_Section):
    """Parameters of the pipeline's step that cleans 1/f noise; see config.yaml."""

    fit_method: _one("median", "fft")
    fit_by_channel: _Switch
    background_method: _one("median", "model")
    background_box_size: _setting(
        Literal[4, 8, 16, 32, 64, 128, 256, 512, 1024, 2048] | None,
        "px, a power of two from 4 to 2048, or null",
    )
    apply_flat_field: _Switch
    n_sigma: _number(0, 100, "sigma", above=True)
    fit_histogram: _Switch

    def parameters(self) -> dict[str, Any]:
        """As the step takes them."""
        size = self.background_box_size
        return self.model_dump() | {"background_box_size": size and [size, size]}


class Mask(_Section):
    """How bad pixels and sources are masked; see config.yaml."""

    crds_context: _setting(
        str | None,
        "a name like jwst_1365.pmap, or null: the current",
        pattern=r"^jwst_[0-9]{4,6}\.pmap$",
    )
    bad_flags: _setting(
        list[Literal[DQ_FLAGS]] | Literal["all"],  # type: ignore[valid-type]
        "a list of DQ flag names of the JWST pipeline, or all",
        _UNIQUE,
    )
    flicker_noise: _one("auto", "cleaned", "uncleaned")
    cleaning: _setting(Cleaning, "the parameters of the step clean_flicker_noise")
    background_box: _whole(8, 1024, "px")
    background_filter: _whole(1, 31, odd=True)
    kernel_fwhm: _setting(float, "px, from 0 (no smoothing) to 20", ge=0, le=20)
    threshold: _number(0, 100, "sigma", above=True)
    minimum_area: _whole(1, 10000, "px")
    growth: _whole(0, 100, "px")


class Combine(_Section):
    """How exposures become one background; see config.yaml."""

    level_border: _whole(0, 1000, "px")
    level_sigma: _number(0.5, 100, "sigma")
    estimator: _one("weighted_mean", "median", "clipped_median")
    clip_sigma: _number(0.5, 100, "sigma")
    standing_out_sigma: _number(1, 1000, "sigma")
    refinements: _whole(0, 5)
    trace_scales: _setting(
        list[Annotated[list[_Width], Field(min_length=2, max_length=2)]],
        "a list of pairs of widths from 0.5 to 100 px",
        min_length=1,
        max_length=10,
    )
    direct_scales: _setting(
        list[_Width], "a list of widths from 0.5 to 100 px", min_length=1, max_length=10
    )
    trace_threshold: _number(1, 100, "sigma")
    trace_depth: _number(0, 100, "in units of the noise")
    faint_threshold: _number(0, 100, "sigma")
    remove_stripes: _Switch
    maximum_masked_fraction: _number(0, 1, above=True)
    maximum_saturated: _whole(0, 10000, "px")
    maximum_crowding: _number(1, 1000)
    structure_box: _whole(8, 1024, "px")
    maximum_structure: _number(1, 1000)
    tolerated_structure: _number(0, 10, "in units of the sky")
    strong_extra_light: _number(0, 10, "in units of the sky")
    dark_sigma: _number(0, 1000, "sigma")
    components: _setting(Literal["auto", 0, 1, 2, 3, 4, 5], "auto, or a whole number from 0 to 5")
    minimum_exposures: _whole(1, 1000)
    minimum_pointings: _whole(1, 1000)

    def scales(self, *, direct: bool) -> list[list[float]]:
        """Widths along and across the dispersion that sources are looked for with, px."""
        return [[width, width] for width in self.direct_scales] if direct else self.trace_scales


class Finalize(_Section):
    """How a combined background is denoised, filled and labelled; see config.yaml."""

    patch_size: _whole(3, 31, "px", odd=True)
    patch_distance: _whole(1, 50, "px")
    noise: _one("propagated", "estimated")
    strength: _setting(float, "in units of the noise, from 0 (no denoising) to 10", ge=0, le=10)
    fill_size: _whole(3, 31, "px", odd=True)
    author: _setting(str, "a name of 1 to 60 printable ASCII characters", pattern=r"^[ -~]{1,60}$")


class Compare(_Section):
    """How backgrounds are scored; see config.yaml."""

    groups: _whole(2, 100, or_null=True)
    smoothing: _number(1, 100, "px")
    known: _number(0, 1)
    against: _setting(Path | None, "the path of a folder, or null")
    write_residuals: _Switch


class Subtract(_Section):
    """How the sky is subtracted from exposures; see config.yaml."""

    components: _Switch
    remove_stripes: _Switch
    minimum_sky: _number(0, 1)


class Compute(_Section):
    """What the scripts may use of the machine; see config.yaml."""

    workers: _whole(1, 1024, or_null=True)
    memory_gb: _number(1, 10000, "GB")
    scheduler: _setting(
        str,
        f"{LOCAL}, or the address of a Dask scheduler, tcp://host:port",
        pattern=rf"^({LOCAL}|tcp://[^\s:/]+:\d{{1,5}})$",
    )


class Config(_Section):
    """All settings of the scripts; paths are absolute."""

    gratings: _some(*get_args(Grating))
    filters: _some(*get_args(Filter))
    working_directory: _setting(Path, "the path of a folder")
    output_directory: _setting(Path, "the path of a folder")
    query: _setting(Query, "the settings of queryData.py")
    mask: _setting(Mask, "the settings of makeMask.py")
    combine: _setting(Combine, "the settings of makeBackgrounds.py")
    finalize: _setting(Finalize, "the settings of finalizeBackgrounds.py")
    compare: _setting(Compare, "the settings of compareBackgrounds.py")
    subtract: _setting(Subtract, "the settings of subtractBackgrounds.py")
    compute: _setting(Compute, "workers, memory_gb, scheduler")


def read(path: Path) -> Config:
    """
    Read and check a config file; keys that it leaves out are taken from `DEFAULTS`.

    Parameters
    ----------
    path : `~pathlib.Path`
        The YAML file; relative paths are taken from its folder, those it leaves out as well.

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
    if path.resolve() != DEFAULTS:
        default_values, default_places = _load(DEFAULTS)
        values = _over(default_values, values)
        places = default_places | places
    compare = values.get("compare")
    for section, key in (
        (values, "working_directory"),
        (values, "output_directory"),
        (compare if isinstance(compare, dict) else {}, "against"),
    ):
        if isinstance(section.get(key), str) and "\0" not in section[key]:
            section[key] = _absolute(section[key], path)
    query = values.get("query")
    if isinstance(query, dict) and "source" in query:
        query["source"] = _absolute_source(query["source"], path)
    try:
        return Config.model_validate(values)
    except ValidationError as error:
        problems = {_describe(problem, values, places, path) for problem in error.errors()}
        raise ConfigError("\n".join(sorted(problems))) from None


def flat(settings: dict[str, Any]) -> dict[str, Any]:
    """Settings in sections, as from the `model_dump` of a `Config`, as section.key to value."""
    values: dict[str, Any] = {}
    for name, value in settings.items():
        section = isinstance(value, dict)
        values |= {f"{name}.{key}": value[key] for key in value} if section else {name: value}
    return values


class _Loader(yaml.SafeLoader):
    """YAML in which 01324 is the number 1324, as people write programmes, and not octal."""

    def construct_yaml_int(self, node: yaml.Node) -> int:
        text = self.construct_scalar(node)
        return int(text) if text.isdecimal() else super().construct_yaml_int(node)


_Loader.add_constructor("tag:yaml.org,2002:int", _Loader.construct_yaml_int)


Places = dict[tuple[str, ...], str]  # a key -> its file and line, in words


def _load(path: Path) -> tuple[dict, Places]:
    """The values of a YAML file, and the line of each key."""
    try:
        node = yaml.compose(path.read_text(encoding="utf-8"), Loader=_Loader)
        places: Places = {}
        _locate(node, (), path, places)
        values = {} if node is None else yaml.load(path.read_text(encoding="utf-8"), Loader=_Loader)
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
    if not isinstance(values, dict):
        raise ConfigError(f"{path}, line 1: expected lines of the form 'key: value'")
    return values, places


def _over(defaults: dict[str, Any], values: dict[str, Any]) -> dict[str, Any]:
    """Values, and defaults where they say nothing, section by section."""
    merged = defaults | values
    for key, default in defaults.items():
        if isinstance(default, dict) and isinstance(merged[key], dict):
            merged[key] = _over(default, merged[key])
    return merged


def _absolute(value: str, path: Path) -> Path:
    # os.path leaves "~name" of a user who does not exist.
    return path.resolve().parent / os.path.expanduser(value)  # noqa: PTH111


def _absolute_source(source: Any, path: Path) -> Any:
    """query.source with the paths of folders made absolute; what is no text is left as it is."""

    def absolute(entry: Any) -> Any:
        is_folder = isinstance(entry, str) and entry not in ("", MAST)
        return str(_absolute(entry, path)) if is_folder else entry

    return [absolute(entry) for entry in source] if isinstance(source, list) else absolute(source)


def _locate(node: yaml.Node | None, above: tuple[str, ...], path: Path, places: Places) -> None:
    """Note the line of each key, and refuse a key that stands twice."""
    for key_node, value_node in node.value if isinstance(node, yaml.MappingNode) else ():
        key = (*above, str(key_node.value))
        place = f"{path}, line {key_node.start_mark.line + 1}"
        if key_node.tag != "tag:yaml.org,2002:str":
            raise ConfigError(f"{place}: '{key_node.value}' is not the name of a key")
        if key in places:
            raise ConfigError(
                f"{place}: key '{'.'.join(key)}' stands twice (first in {places[key]}). "
                "Remove one of the two"
            )
        places[key] = place
        if len(key) < 4:  # the config is three levels deep; this also ends recursive anchors
            _locate(value_node, key, path, places)


def _describe(problem: Any, value: Any, places: Places, path: Path) -> str:
    """One problem that pydantic found in the values, in the user's terms."""
    fields, key, allowed = Config.model_fields, (), ""
    for part in problem["loc"]:
        if part not in fields:
            break
        key, value, allowed = (*key, part), value.get(part), fields[part].description
        fields = getattr(fields[part].annotation, "model_fields", {})
    if problem["type"] == "extra_forbidden":
        key = (*key, str(problem["loc"][-1]))
        nearest = difflib.get_close_matches(key[-1], fields, n=1, cutoff=0.6)
        hint = f" Did you mean '{'.'.join((*key[:-1], *nearest))}'?" * bool(nearest)
        words = f"unknown key '{'.'.join(key)}'.{hint} Allowed here: {', '.join(fields)}"
    elif problem["type"] == "missing":
        words = f"key '{'.'.join(key)}' is missing. Expected {allowed}"
    else:
        below = problem["loc"][len(key) :]  # within a list: the number of the entry
        found = f"has the entry {problem['input']!r:.80}" if below and type(below[0]) is int else ""
        words = f"{'.'.join(key)} {found or f'is {value!r:.80}'}. Expected {allowed}"
    return f"{places.get(key, path)}: {words}"
