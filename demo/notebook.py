"""Execute docs/own_exposures.ipynb, and keep what it prints and draws: python -m demo.notebook."""

import argparse
import base64
import io
import os
import tempfile
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from PIL import Image

NOTEBOOK = Path(__file__).resolve().parents[1] / "docs" / "own_exposures.ipynb"
HOME = "/home/you"  # stands for the folder that it was executed with
TIMEOUT = 1800  # s, for each cell


def execute(home: Path) -> nbformat.NotebookNode:
    """
    Execute the notebook.

    Parameters
    ----------
    home : `~pathlib.Path`
        Home folder of the notebook, which writes nowhere else.

    Returns
    -------
    `nbformat.NotebookNode`
        With the outputs of its cells.

    Raises
    ------
    nbclient.exceptions.CellExecutionError
        If a cell fails.
    """
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    own = {key: value for key, value in os.environ.items() if not key.startswith("CRDS_")}
    client = NotebookClient(
        notebook,
        timeout=TIMEOUT,
        resources={"metadata": {"path": str(NOTEBOOK.parent)}},
        record_timing=False,
        coalesce_streams=True,
    )
    return client.execute(env=own | {"HOME": str(home), "PYTHONDONTWRITEBYTECODE": "1"})


def tidy(notebook: nbformat.NotebookNode, home: Path) -> None:
    """Make the pictures in the outputs of a notebook small, and take its home folder out."""
    for cell in notebook.cells:
        for output in cell.get("outputs", []):
            if "text" in output:
                output["text"] = output["text"].replace(str(home), HOME)
            data = output.get("data", {})
            if "image/png" in data:
                data["image/png"] = _small(data["image/png"])


def _small(encoded: str) -> str:
    """A picture in 256 colours; PNG in base64."""
    picture = Image.open(io.BytesIO(base64.b64decode(encoded))).convert("RGB")
    written = io.BytesIO()
    # Of Pillow's methods, this one keeps the rare colours, those at the ends of colour bars.
    few = picture.quantize(256, method=Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE)
    few.save(written, "PNG", optimize=True)
    return base64.b64encode(written.getvalue()).decode()


def main() -> None:
    """Execute the notebook in a temporary folder, and write it with its outputs."""
    argparse.ArgumentParser(prog="python -m demo.notebook", description=__doc__).parse_args()
    with tempfile.TemporaryDirectory() as folder:
        notebook = execute(Path(folder))
        tidy(notebook, Path(folder))
    nbformat.write(notebook, NOTEBOOK)
    print(f"wrote {NOTEBOOK}")


if __name__ == "__main__":
    main()
