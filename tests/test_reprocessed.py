"""An archive that processes a file again, and a user who replaces one, through the real scripts."""

import os
import shutil

import pytest
from astropy.io import fits

from demo import archive as simulator
from demo import server
from tests.conftest import NAMES
from wfssbkg.config import read
from wfssbkg.files import exposure_table
from wfssbkg.layout import Combination, Folder


@pytest.fixture
def run(finished, archive, tmp_path):
    """A finished run of the first combination, and an archive of its own: config and folder."""
    shutil.copytree(archive.folder, tmp_path / "archive", ignore=shutil.ignore_patterns("truth"))
    shutil.copytree(finished[1][0].path, tmp_path / "work" / NAMES[0])
    with server.serve(tmp_path / "archive") as (_, url):
        config = archive.config(tmp_path, gratings=["GR150C"], query={"mast_url": url})
        settings = read(config)
        combination = Combination(*NAMES[0].split("-"))
        yield config, Folder(combination, settings.working_directory, settings.output_directory)


def output(archive, script, config):
    done = archive.run(script, config)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_what_the_archive_processed_again_is_masked_again(run, archive):
    config, folder = run
    assert "nothing to download" in output(archive, "queryData.py", config)
    table = exposure_table.read(folder.table)
    name = exposure_table.fates(table)[exposure_table.ACCEPTED][0]
    catalog = config.parent / "archive" / "catalog.json"
    size = folder.rate(name).stat().st_size
    simulator.reprocess(catalog, name, cal_version="9.0.0", context="jwst_9999.pmap")
    # As long as the new version cannot be had, the former one stays.
    hidden = (catalog.parent / name).rename(catalog.parent / "hidden")
    for _ in range(2):
        words = output(archive, "queryData.py", config)
        assert f"WARNING: {name}: the newer version in the archive could not be" in words
        assert "nothing to do" in output(archive, "makeMask.py", config)
        table = exposure_table.read(folder.table)
        assert name in exposure_table.fates(table)[exposure_table.ACCEPTED]
    hidden.rename(catalog.parent / name)
    words = output(archive, "queryData.py", config)
    assert "1 downloaded" in words
    assert "1 of them since the archive has processed them again" in words
    assert "background.fits is out of date (exposures since: 1 reprocessed)" in words
    assert folder.rate(name).stat().st_size == size
    assert fits.getheader(folder.rate(name))["CAL_VER"] == "9.0.0"
    table = exposure_table.read(folder.table)
    row = table[table["productFilename"] == name][0]
    assert (row["cal_ver"], row["crds_ctx"]) == ("9.0.0", "jwst_9999.pmap")
    words = output(archive, "makeMask.py", config)
    assert "1 masked," in words
    assert "(exposures since: 1 reprocessed" in words
    assert "nothing to download" in output(archive, "queryData.py", config)


def test_a_file_of_the_users_own_that_was_replaced_is_masked_again(run, archive):
    """By one of the same size, with an older date, as with cp -p."""
    config, folder = run
    names = exposure_table.fates(exposure_table.read(folder.table))[exposure_table.ACCEPTED]
    rates = config.parent / "rates"
    rates.mkdir()
    for name in names:
        folder.rate(name).rename(rates / name)
    archive.config(config.parent, gratings=["GR150C"],
                   query={"source": "rates", "gaia_g_limit": None})  # fmt: skip
    output(archive, "queryData.py", config)
    assert "nothing to do" in output(archive, "makeMask.py", config)
    size = (rates / names[0]).stat().st_size
    shutil.copy(rates / names[1], rates / names[0])
    os.utime(rates / names[0], (1.6e9, 1.6e9))
    assert (rates / names[0]).stat().st_size == size
    output(archive, "queryData.py", config)
    words = output(archive, "makeMask.py", config)
    assert "1 masked," in words
    assert "(exposures since: 1 masked again)" in words
