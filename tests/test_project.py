"""The project's files agree with each other."""

import tomllib
from pathlib import Path

import yaml

import wfssbkg

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
