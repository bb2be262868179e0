"""The project's files agree with each other."""

import tomllib
from fnmatch import fnmatch
from pathlib import Path
from typing import get_args

import yaml

import wfssbkg
from wfssbkg.config import Filter, Grating

ROOT = Path(__file__).resolve().parents[1]


def test_environment_and_pyproject_list_the_same_packages():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    environment = yaml.safe_load((ROOT / "environment.yml").read_text())["dependencies"]
    (from_pypi,) = (entry["pip"] for entry in environment if isinstance(entry, dict))
    assert from_pypi == project["dependencies"]
    assert f"python{project['requires-python']}" in environment


def test_citation_has_the_version_and_the_origin():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert citation["version"] == wfssbkg.__version__
    text = (ROOT / "CITATION.cff").read_text()
    assert "github.com/TheSkyentist/WFSSBackgrounds" in text
    assert "zenodo.org/records/10686452" in text


def test_changes_name_the_version():
    assert f"## {wfssbkg.__version__}" in (ROOT / "CHANGES.md").read_text()


def test_git_ignores_the_folder_of_every_combination():
    ignored = (ROOT / ".gitignore").read_text().splitlines()
    for grating in get_args(Grating):
        for name in get_args(Filter):
            assert any(fnmatch(f"/{grating}-{name}/", pattern) for pattern in ignored)
