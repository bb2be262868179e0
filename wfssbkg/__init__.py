"""Backgrounds for JWST NIRISS wide-field slitless spectroscopy, made from the archive's data."""

from importlib.metadata import version
from platform import python_version

__version__ = "0.1.0"

_PACKAGES = (
    "jwst", "stdatamodels", "crds", "astropy", "numpy", "scipy", "bottleneck", "sep",
    "scikit-image", "pywavelets", "maskfill",
)  # fmt: skip


def versions() -> dict[str, str]:
    """Name to version: Python, and the packages that have a part in the numbers."""
    return {"Python": python_version()} | {name: version(name) for name in _PACKAGES}
