"""Where exposures point, through the scripts: fields, a single pointing, none at all."""

from dataclasses import replace

import numpy as np
import pytest
from astropy.io import fits

from demo.exposures import demo_exposures
from tests.conftest import NAMES, SCRIPTS, served
from tests.test_faults import folder_of
from wfssbkg import layout
from wfssbkg.files import combined_background, comparison_file, exposure_table

TOLD_APART = "sources cannot be told from the sky"


@pytest.fixture(scope="module")
def one_pointing(tmp_path_factory):
    """A run of all scripts on three exposures of one pointing, and what each script said."""
    first, *others = [spec for spec in demo_exposures(seed=7) if spec.field == 1][:3]
    exposures = [first, *(replace(spec, ra=first.ra, dec=first.dec) for spec in others)]
    place = tmp_path_factory.mktemp("one pointing")
    with served(place, exposures) as archive:
        config = archive.config(place / "run", gratings=[first.grating])
        said = {name: archive.run(name, config) for name in (*SCRIPTS, "compareBackgrounds.py")}
    for done in said.values():
        assert done.returncode == 0, done.stdout + done.stderr
    return folder_of(config), {name: done.stdout for name, done in said.items()}


def test_a_single_pointing_is_told_wherever_its_background_goes(one_pointing):
    folder, said = one_pointing
    for name in ("makeBackgrounds.py", "finalizeBackgrounds.py", "compareBackgrounds.py"):
        assert TOLD_APART in said[name], name
        assert "combine.minimum_pointings" in said[name], name
    assert "100.00% of the pixels have fewer" not in said["makeBackgrounds.py"]  # some are empty
    page = layout.report(folder.output_directory).read_text()
    assert TOLD_APART in page.partition('id="' + str(folder.combination))[0]
    assert "doubtful" in page
    for path in (folder.finished, folder.finished_unflat):
        with fits.open(path) as hdus:
            assert hdus[0].header["NPOINT"] == 1
            assert TOLD_APART.split()[0] in str(hdus[0].header["HISTORY"])
            values = {row["NAME"]: row["VALUE"] for row in hdus["DQ_DEF"].data}
            flagged = hdus["DQ"].data & values["UNRELIABLE_BIAS"] > 0
            np.testing.assert_array_equal(flagged, hdus["NEXP"].data > 0)


def test_pixels_of_several_pointings_are_not_flagged(finished):
    for folder in finished[1]:
        combined = combined_background.read(folder.background)
        assert combined.pointings.max() >= 6
        assert TOLD_APART not in finished[2][2].stdout
        with fits.open(folder.finished) as hdus:
            values = {row["NAME"]: row["VALUE"] for row in hdus["DQ_DEF"].data}
            flagged = hdus["DQ"].data & values["UNRELIABLE_BIAS"] > 0
        few = (combined.pointings < 2) & (combined.number > 0)
        np.testing.assert_array_equal(flagged, few)


def test_exposures_without_a_pointing_are_told_once(archive, finished, tmp_path):
    config = archive.config(tmp_path, gratings=["GR150C"])
    for script in SCRIPTS[:2]:
        assert archive.run(script, config).returncode == 0
    folder = folder_of(config)
    accepted = exposure_table.fates(exposure_table.read(folder.table))["accepted"]
    for name in accepted:
        with fits.open(folder.masked(name), mode="update") as hdus:
            del hdus["SCI"].header["RA_REF"]
    done = archive.run("makeBackgrounds.py", config)
    assert done.returncode == 0, done.stdout
    number = len(accepted)
    assert done.stdout.count(f"{number} of {number} exposures do not tell where they point") == 1
    assert "all count as one pointing" in done.stdout
    assert combined_background.read(folder.background).pointings.max() == 1
    assert TOLD_APART in done.stdout
    done = archive.run("finalizeBackgrounds.py", config)
    assert TOLD_APART in done.stdout
    with fits.open(folder.finished) as hdus:
        assert hdus[0].header["NPOINT"] == 1
        values = {row["NAME"]: row["VALUE"] for row in hdus["DQ_DEF"].data}
        flagged = hdus["DQ"].data & values["UNRELIABLE_BIAS"] > 0
        np.testing.assert_array_equal(flagged, hdus["NEXP"].data > 0)


def test_dithers_of_one_field_are_one_field_in_the_comparison(archive, finished, tmp_path):
    """Exposures of one observation are dithers of one field, in files without FITS coordinates."""
    folder = finished[1][NAMES.index("GR150R-F115W")]
    header = fits.getheader(next(folder.path.glob("*_rate.fits")), "SCI")
    assert "CRVAL1" not in header
    assert "RA_REF" in header
    done = archive.run("compareBackgrounds.py", finished[0], "--combination", NAMES[1])
    assert done.returncode == 0, done.stdout
    pictures = comparison_file.read(folder).pictures
    observations = {name[:13]: set() for name in pictures}
    for name, picture in pictures.items():
        observations[name[:13]].add(picture.field)
    assert all(len(numbers) == 1 for numbers in observations.values())
    assert len(observations) == len({picture.field for picture in pictures.values()})
