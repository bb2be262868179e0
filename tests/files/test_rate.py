"""Rate files whole and damaged."""

import numpy as np
import pytest
from astropy.io import fits
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.demo.test_server import write_rate
from wfssbkg.errors import StepError
from wfssbkg.files import rate

# astropy's remarks on files that are damaged on purpose
pytestmark = [
    pytest.mark.filterwarnings("ignore:File may have been truncated"),
    pytest.mark.filterwarnings("ignore:Error validating header"),
    pytest.mark.filterwarnings("ignore:Missing padding"),
]


def test_a_whole_rate_file_passes(tmp_path):
    path = write_rate(tmp_path / "x_rate.fits")
    rate.check(path)
    rate.check(path, path.stat().st_size)
    with pytest.raises(StepError, match="bytes instead of"):
        rate.check(path, 17)


@settings(max_examples=60, deadline=None)
@given(st.floats(0, 1, exclude_max=True))
def test_a_file_cut_anywhere_does_not_pass(tmp_path_factory, part):
    tmp_path = tmp_path_factory.getbasetemp() / "cut"
    tmp_path.mkdir(exist_ok=True)
    whole = tmp_path / "whole_rate.fits"
    if not whole.exists():
        write_rate(whole)
    content = whole.read_bytes()
    path = tmp_path / "cut_rate.fits"
    path.write_bytes(content[: int(part * len(content))])
    with pytest.raises(StepError):
        rate.check(path)


def remove(name):
    return lambda hdus: hdus.pop(name)


def reshape(hdus):
    hdus["ERR"].data = np.zeros((3, 4), "f4")


def to_cubes(hdus):
    for name in ("SCI", "ERR", "DQ"):
        hdus[name].data = np.zeros((2, 3, 4), "f4")


def to_table(hdus):
    hdus["DQ"] = fits.BinTableHDU.from_columns(
        [fits.Column("x", "E", array=[1.0])], name="DQ"
    )  # fmt: skip


def without_data(hdus):
    hdus["SCI"].data = None


@pytest.mark.parametrize(
    "spoil",
    [remove("SCI"), remove("ERR"), remove("DQ"), reshape, to_cubes, to_table, without_data],
)
def test_a_file_of_another_structure_does_not_pass(tmp_path, spoil):
    whole = write_rate(tmp_path / "whole_rate.fits")
    with fits.open(whole) as hdus:
        spoil(hdus)
        hdus.writeto(tmp_path / "spoilt_rate.fits")
    with pytest.raises(StepError):
        rate.check(tmp_path / "spoilt_rate.fits")
