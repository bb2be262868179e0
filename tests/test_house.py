"""Imports run one way, and in no circle: docs of the layout, held to."""

import ast
from graphlib import TopologicalSorter

import pytest

from tests.conftest import ROOT

PACKAGE = ROOT / "wfssbkg"
STEPS = ("query", "mask", "combine", "finalize", "compare", "subtract")
BASE = ("__init__", "errors", "config", "layout", "detector", "smoothing")
# What each room may import, besides itself and what those that it may import may.
BELOW = {
    "base": (), "files": ("base",), "run": ("base",), "pipeline": ("files", "run"),
    **dict.fromkeys(STEPS, ("pipeline",)), "compare": ("pipeline", "combine", "mask"),
    "subtract": ("pipeline", "combine", "mask"),
    "provenance": ("files", "run"),
}  # fmt: skip


def modules():
    return {
        ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path
        for path in PACKAGE.rglob("*.py")
    }


def imported_by(path):
    """The modules of the package that a file imports, anywhere in it."""
    known, found = modules(), set()
    for node in ast.walk(ast.parse(path.read_text())):
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        for name in names:
            while name and name not in known:
                name = name.rpartition(".")[0]
            found.add(name)
    return {name for name in found if name.startswith("wfssbkg")}


def room(name):
    part = [*name.split("."), "__init__"][1]
    return "base" if part in BASE else part


def allowed(room_name):
    return {room_name}.union(*(allowed(below) for below in BELOW[room_name]))


@pytest.mark.parametrize("name", modules())
def test_a_module_imports_only_what_is_below_it(name):
    for other in imported_by(modules()[name]):
        assert room(other) in allowed(room(name)), f"{name} imports {other}"


def test_no_imports_run_in_a_circle():
    graph = {name: imported_by(path) - {name} for name, path in modules().items()}
    assert len(list(TopologicalSorter(graph).static_order())) == len(graph)


def test_the_message_functions_are_all_that_the_steps_print_with():
    """The command line is for scripts and for what walks over the combinations of a run."""
    for name, path in modules().items():
        if room(name) in (*STEPS, "files", "pipeline"):
            nodes = ast.walk(ast.parse(path.read_text()))
            calls = [n for n in nodes if getattr(getattr(n, "func", None), "id", "") == "print"]
            assert not calls, name


@pytest.mark.parametrize("script", sorted(ROOT.glob("*.py")), ids=lambda path: path.name)
def test_a_script_is_a_recipe_and_nothing_imports_it(script):
    assert len(script.read_text().splitlines()) <= 120
    for path in ROOT.glob("*/**/*.py"):
        if ".venv" not in path.parts[len(ROOT.parts)]:
            text = path.read_text()
            assert f"import {script.stem}" not in text, path
            assert f"from {script.stem} " not in text, path
