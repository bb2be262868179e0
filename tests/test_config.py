import re
import string

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from stdatamodels.jwst.datamodels.dqflags import pixel

from wfssbkg import config
from wfssbkg.errors import ConfigError

SECTIONS = ("query", "mask", "combine", "finalize", "compare", "compute")


def read(tmp_path, text):
    path = tmp_path / "mine.yaml"
    path.write_text(text)
    return config.read(path)


def problem(tmp_path, text):
    with pytest.raises(ConfigError) as caught:
        read(tmp_path, text)
    return str(caught.value)


def test_default_config_is_valid_and_complete():
    settings = config.read(config.DEFAULTS)
    assert settings.gratings == ["GR150C", "GR150R"]
    assert settings.filters == ["F115W", "F150W", "F200W"]
    assert settings.working_directory == config.DEFAULTS.parent


def test_every_key_of_the_default_config_has_a_comment():
    missing = [
        line
        for line in config.DEFAULTS.read_text().splitlines()
        if re.match(r"  +\w+: \S", line) and "#" not in line
    ]
    assert missing == []


def test_left_out_keys_come_from_the_default_config(tmp_path):
    settings = read(tmp_path, "mask:\n  growth: 7\n")
    assert settings.mask.growth == 7
    assert settings.mask.threshold == config.read(config.DEFAULTS).mask.threshold


def test_keys_of_a_mapping_are_left_out_checked_and_named_likewise(tmp_path):
    settings = read(tmp_path, "mask: {cleaning: {n_sigma: 3.0, background_box_size: 16}}")
    assert settings.mask.cleaning.parameters() == {
        "fit_method": "median", "fit_by_channel": False, "background_method": "model",
        "background_box_size": [16, 16], "apply_flat_field": True, "n_sigma": 3.0,
        "fit_histogram": False,
    }  # fmt: skip
    message = problem(tmp_path, "mask:\n  cleaning:\n    n_sigmas: 3.0\n")
    assert "mine.yaml, line 3: unknown key 'mask.cleaning.n_sigmas'" in message
    assert "Did you mean 'mask.cleaning.n_sigma'" in message
    message = problem(tmp_path, "mask:\n  cleaning:\n    fit_method: mean\n")
    assert "line 3: mask.cleaning.fit_method is 'mean'. Expected one of median, fft" in message
    # A size that does not divide the frame.
    message = problem(tmp_path, "mask:\n  cleaning:\n    background_box_size: 1000\n")
    assert "line 3: mask.cleaning.background_box_size is 1000. Expected px, a power of" in message


def test_sources_are_searched_along_the_dispersion_or_round(tmp_path):
    settings = read(tmp_path, "combine: {trace_scales: [[9, 1], [20, 3]], direct_scales: [2, 8]}")
    assert settings.combine.scales(direct=False) == [[9, 1], [20, 3]]
    assert settings.combine.scales(direct=True) == [[2, 2], [8, 8]]


def test_paths_are_taken_from_the_folder_of_the_config(tmp_path):
    settings = read(tmp_path, "working_directory: a/b\nquery: {source: c}\n")
    assert settings.working_directory == tmp_path / "a" / "b"
    assert settings.query.source == str(tmp_path / "c")


def test_the_folder_of_other_backgrounds_is_a_path_or_none(tmp_path):
    assert read(tmp_path, "compare: {groups: 3}").compare.against is None
    assert read(tmp_path, "compare: {against: zenodo}").compare.against == tmp_path / "zenodo"
    message = problem(tmp_path, "compare: {against: 5}")
    assert "compare.against is 5. Expected the path of a folder, or null" in message


def test_a_tilde_is_the_home_of_the_user(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    settings = read(tmp_path, 'working_directory: ~/a\noutput_directory: "~"\n')
    assert settings.working_directory == tmp_path / "home" / "a"
    assert settings.output_directory == tmp_path / "home"


def test_absolute_paths_and_mast_stay(tmp_path):
    settings = read(tmp_path, f"working_directory: {tmp_path}\nquery: {{source: mast}}\n")
    assert settings.working_directory == tmp_path
    assert settings.query.source == "mast"


def test_a_programme_may_have_a_zero_in_front(tmp_path):
    """In YAML 1.1 that would be an octal number."""
    path = tmp_path / "config.yaml"
    path.write_text("query: {programs: [01324, 1571, '01289', 01289], exclude: [01324]}")
    query = config.read(path).query
    assert [program.lstrip("0") for program in query.programs] == ["1324", "1571", "1289", "1289"]
    assert query.exclude == ["1324"]


def test_a_source_or_several_are_always_a_list(tmp_path):
    assert read(tmp_path, "query: {source: mast}").query.sources == ["mast"]
    assert read(tmp_path, "query: {source: c}").query.sources == [str(tmp_path / "c")]
    settings = read(tmp_path, "query: {source: [c, mast, ../d]}")
    assert settings.query.sources == [str(tmp_path / "c"), "mast", str(tmp_path / ".." / "d")]


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        ("mask:\n  treshold: 3", 2, ["mask.treshold", "mask.threshold"]),
        ("mask:\n  threshold: abc", 2, ["mask.threshold", "'abc'", "above 0"]),
        ("\n\nmask: {growth: 1000}", 3, ["mask.growth", "1000", "0 to 100"]),
        ("filters: [F115W, F999W]", 1, ["filters", "F999W", "F150W"]),
        ("gratings: []", 1, ["gratings", "GR150C"]),
        ("gratings: [GR150C, GR150C]", 1, ["gratings"]),
        ("gratings: [CLEARP]", 1, ["gratings", "CLEARP", "GR150R, CLEAR"]),
        ("filtres: [F115W]", 1, ["filtres", "'filters'"]),
        ("5: 3", 1, ["'5' is not the name of a key"]),
        ("mask: 5", 1, ["mask", "5"]),
        ("mask:\n  growth: 1\n  growth: 2", 3, ["mask.growth", "twice", "line 2"]),
        ("mask: [1", 1, ["YAML"]),
        ("- 1", 1, ["key: value"]),
        ("mask: {growth: true}", 1, ["mask.growth", "True"]),
        ("finalize: {patch_size: 4}", 1, ["finalize.patch_size", "odd"]),
        ("combine: {clip_sigma: .nan}", 1, ["combine.clip_sigma", "nan"]),
        ("query: {programs: [1089, x]}", 1, ["query.programs", "x"]),
        (
            "query: {exclude: [1089, jw0108900100]}",
            1,
            ["query.exclude has the entry 'jw0108900100'"],
        ),
        ("query: {exclude: [0]}", 1, ["query.exclude has the entry '0'", "(jw01089001001)"]),
        ("query: {exclude: [a/b_rate.fits]}", 1, ["'a/b_rate.fits'", "programme numbers (1089)"]),
        ("query: {exclude: [1089, 1089]}", 1, ["query.exclude"]),
        ("query: {exclude: 1089}", 1, ["query.exclude is 1089", "a list of rate files"]),
        ("query: {source: []}", 1, ["query.source is []", "or a list of them"]),
        ("query: {source: [mast, mast]}", 1, ["query.source is ['mast', 'mast']", "each once"]),
        ("query: {source: [c, ./c]}", 1, ["query.source is", "each once"]),
        ("query: {source: [mast, 5]}", 1, ["query.source is ['mast', 5]"]),
        ("query: {source: &a [*a]}", 1, ["query.source is"]),
        ("query: {mast_url: mast}", 1, ["query.mast_url", "http"]),
        ("mask: {bad_flags: [HOTT]}", 1, ["mask.bad_flags", "HOTT"]),
    ],
)
def test_a_problem_is_named_with_its_line(tmp_path, text, line, words):
    message = problem(tmp_path, text)
    assert f"mine.yaml, line {line}: " in message or f"mine.yaml, line {line + 1}: " in message
    for word in words:
        assert word in message
    assert len(message.splitlines()) == 1


def test_all_problems_are_told_at_once(tmp_path):
    message = problem(tmp_path, "mask:\n  growth: -1\nfoo: 1\n")
    assert "mask.growth" in message
    assert "foo" in message


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(ConfigError, match=r"nothing\.yaml.*cannot be read"):
        config.read(tmp_path / "nothing.yaml")


def test_a_missing_key_of_the_defaults_is_named(tmp_path, monkeypatch):
    path = tmp_path / "config.yaml"
    path.write_text("gratings: [GR150C]\n")
    monkeypatch.setattr(config, "DEFAULTS", path)
    with pytest.raises(ConfigError, match="'filters' is missing"):
        config.read(path)


def test_flag_names_are_those_of_the_pipeline():
    assert set(config.DQ_FLAGS) <= set(pixel)


junk = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(string.printable, max_size=9),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=5,
)
keys = [(name,) for name in ("gratings", "filters", "working_directory", *SECTIONS)] + [
    (section, key)
    for section in SECTIONS
    for key in yaml.safe_load(config.DEFAULTS.read_text())[section]
]


@given(key=st.sampled_from(keys), value=junk)
def test_any_value_is_accepted_or_refused_in_words(tmp_path_factory, key, value):
    content = value
    for part in reversed(key):
        content = {part: content}
    path = tmp_path_factory.mktemp("config") / "mine.yaml"
    path.write_text(yaml.safe_dump(content), encoding="utf-8")
    try:
        settings = config.read(path)
    except ConfigError as error:
        assert ".".join(key) in str(error)
    else:
        assert isinstance(settings, config.Config)


@given(key=st.sampled_from(keys), extra=st.sampled_from(string.ascii_lowercase))
def test_a_misspelt_key_is_named_with_the_nearest(tmp_path_factory, key, extra):
    wrong = (*key[:-1], key[-1] + extra)
    content = 1
    for part in reversed(wrong):
        content = {part: content}
    path = tmp_path_factory.mktemp("config") / "mine.yaml"
    path.write_text(yaml.safe_dump(content))
    with pytest.raises(ConfigError) as caught:
        config.read(path)
    assert f"unknown key '{'.'.join(wrong)}'" in str(caught.value)
    assert f"Did you mean '{'.'.join(key)}'" in str(caught.value)


@given(text=st.binary(max_size=60))
def test_any_bytes_are_read_or_refused_in_words(tmp_path_factory, text):
    path = tmp_path_factory.mktemp("config") / "mine.yaml"
    path.write_bytes(text)
    try:
        config.read(path)
    except ConfigError as error:
        assert "mine.yaml" in str(error)
