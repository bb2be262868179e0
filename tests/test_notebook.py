"""The notebook of docs: it is valid, names what there is, and runs from start to end."""

import re
import subprocess
import sys

import nbformat
import pytest

from tests.conftest import ROOT

PATH = ROOT / "docs" / "own_exposures.ipynb"
COMMAND = re.compile(r"python \.\./(\w+\.py)((?:[^\n]|\\\n)*)")


def notebook():
    return nbformat.read(PATH, as_version=4)


def commands():
    """Each script that a cell runs, with the options it is given."""
    return [
        (script, re.findall(r"--[a-z-]+", arguments))
        for cell in notebook().cells
        if cell.cell_type == "code"
        for script, arguments in COMMAND.findall(cell.source)
    ]


def test_it_is_valid_small_and_shows_no_failure():
    nbformat.validate(notebook())
    outputs = [output for cell in notebook().cells for output in cell.get("outputs", [])]
    assert sum("image/png" in output.get("data", {}) for output in outputs) == 4
    assert not [output for output in outputs if output.output_type == "error"]
    assert not [output.text for output in outputs if output.get("name") == "stderr"]
    assert PATH.stat().st_size < 400_000  # python -m demo.notebook makes its pictures small


def test_it_runs_all_scripts_in_their_order():
    assert list(dict.fromkeys(script for script, _ in commands())) == [
        "queryData.py", "makeMask.py", "makeBackgrounds.py", "finalizeBackgrounds.py",
        "compareBackgrounds.py", "subtractBackgrounds.py",
    ]  # fmt: skip


@pytest.mark.parametrize("script", sorted({script for script, _ in commands()}))
def test_each_script_has_the_options_it_is_given(script):
    assert (ROOT / script).is_file()
    answer = subprocess.run(
        [sys.executable, ROOT / script, "--help"], capture_output=True, text=True, check=True
    )
    known = set(re.findall(r"--[a-z-]+", answer.stdout))
    used = {option for name, options in commands() if name == script for option in options}
    assert used
    assert used <= known


def test_its_words_name_only_scripts_and_files_that_exist():
    text = "\n".join(cell.source for cell in notebook().cells if cell.cell_type == "markdown")
    named = re.findall(r"`(\w+\.py)`", text)
    assert named
    assert [name for name in named if not (ROOT / name).is_file()] == []
    links = re.findall(r"\]\((\.\./[\w./]+)\)", text)
    assert links
    assert [link for link in links if not (PATH.parent / link).is_file()] == []


@pytest.mark.soak
def test_it_runs_from_start_to_end_and_writes_only_to_the_home_folder(tmp_path):
    from demo import notebook as runner

    before = {path: path.stat().st_mtime_ns for path in _files()}
    done = runner.execute(tmp_path)
    assert {path: path.stat().st_mtime_ns for path in _files()} == before
    assert [path.name for path in (tmp_path / "own_exposures" / "subtracted").glob("*_rate.fits")]
    printed = "".join(done.cells[-2].outputs[0].text)
    before_and_after = re.findall(r"32 x 32 px +([\d.]+) +([\d.]+)", printed)[0]
    assert float(before_and_after[1]) < 0.25 * float(before_and_after[0])


def _files():
    """All files of the project that a notebook might write to."""
    places = [ROOT.glob("*"), *((ROOT / name).rglob("*") for name in ("docs", "demo", "wfssbkg"))]
    return [path for place in places for path in place if path.is_file()]
