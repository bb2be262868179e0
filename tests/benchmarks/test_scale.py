"""Large archives: how much disk they take, and that only new exposures are processed."""

import json
import shutil

import pytest
from astropy.io import fits

from benchmarks import scale, sets
from demo import server
from tests.conftest import NAMES, SCRIPTS, Archive
from wfssbkg import config
from wfssbkg.files import exposure_table, masked_exposure
from wfssbkg.layout import Combination, Folder
from wfssbkg.run import command_line


def run_all(archive, config, scripts=SCRIPTS):
    outputs = {}
    for script in scripts:
        done = archive.run(script, config)
        assert done.returncode == 0, done.stdout + done.stderr
        outputs[script] = done.stdout
    return outputs


def folder_of(place, name=NAMES[0]):
    return Folder(Combination(*name.split("-")), place / "work", place / "out")


def times(folder, pattern):
    return {path: path.stat().st_mtime_ns for path in folder.path.glob(pattern)}


@pytest.fixture(scope="module")
def growing(archive, tmp_path_factory):
    """The folder of an archive with the rate files of `archive` and a catalogue that can change."""
    place = tmp_path_factory.mktemp("growing")
    for path in archive.folder.iterdir():
        if path.name != "catalog.json":
            (place / path.name).symlink_to(path)
    return place


def show(archive, place, hidden):
    catalog = json.loads((archive.folder / "catalog.json").read_text())
    catalog["exposures"] = [row for row in catalog["exposures"] if row["filename"] not in hidden]
    (place / "catalog.json").write_text(json.dumps(catalog))


def rates_left(folder):
    """The rate files that are left; those that were looked at and left out are to stay."""
    left_out = exposure_table.fates(exposure_table.read(folder.table))[exposure_table.EXCLUDED]
    return {path.name for path in folder.path.glob("*_rate.fits")} - set(left_out)


def test_a_month_later_only_what_is_new_is_done(archive, growing, finished, tmp_path):
    names = exposure_table.fates(exposure_table.read(finished[1][0].table))[exposure_table.ACCEPTED]
    show(archive, growing, hidden=names[-2:])
    with server.serve(growing) as (_, url):
        site = Archive(growing, archive.crds, url)
        config = site.config(
            tmp_path, gratings=["GR150C"], query={"keep_rates": False, "mast_url": url}
        )
        run_all(site, config)
    folder = folder_of(tmp_path)
    assert not rates_left(folder)
    before = times(folder, "*_masked.fits")
    assert len(before) >= 3

    show(archive, growing, hidden=[])
    with server.serve(growing) as (_, url):
        site = Archive(growing, archive.crds, url)
        config = site.config(
            tmp_path, gratings=["GR150C"], query={"keep_rates": False, "mast_url": url}
        )
        output = run_all(site, config, SCRIPTS[:1])["queryData.py"]
        assert "2 downloaded" in output
        assert "background.fits is out of date (exposures since: 2 new" in output
        # The old background is still usable, but a message says that it is out of date.
        assert "since: 2 new" in run_all(site, config, SCRIPTS[3:])["finalizeBackgrounds.py"]
        output = run_all(site, config, SCRIPTS[1:2])["makeMask.py"]
        assert f"2 masked, {len(before)} were masked already" in output
        assert "background.fits is out of date (exposures since: 2 new" in output
        output = run_all(site, config, SCRIPTS[2:])
    after = times(folder, "*_masked.fits")
    assert len(after) == len(before) + 2
    assert before.items() <= after.items()
    assert "out of date" not in output["finalizeBackgrounds.py"]


@pytest.fixture(scope="module")
def without_rates(archive, tmp_path_factory):
    """A run that keeps no rate files: its config, its folder, and what the scripts printed."""
    place = tmp_path_factory.mktemp("without")
    config = archive.config(place, gratings=["GR150R"], query={"keep_rates": False})
    outputs = run_all(archive, config, SCRIPTS[:2])
    return config, folder_of(place, NAMES[1]), outputs


def test_without_rate_files_nothing_is_done_again(archive, without_rates):
    config, folder, _ = without_rates
    assert not rates_left(folder)
    before = times(folder, "*_masked.fits")
    outputs = run_all(archive, config, SCRIPTS[:2])
    assert "nothing to download" in outputs["queryData.py"]
    assert "nothing to do" in outputs["makeMask.py"]
    assert times(folder, "*_masked.fits") == before
    assert not list(folder.path.glob("*_rate.fits"))


def test_other_settings_ask_for_the_rate_files_again(archive, without_rates, tmp_path):
    config, folder, _ = without_rates
    shutil.copytree(folder.path, tmp_path / "work" / folder.path.name)
    options = {"query": {"keep_rates": False}, "mask": {"background_box": 32, "growth": 2}}
    config = archive.config(tmp_path, gratings=["GR150R"], **options)
    done = archive.run("makeMask.py", config)
    assert done.returncode == 1
    assert "Run queryData.py to download them again" in done.stdout
    assert exposure_table.fates(exposure_table.read(folder.table))[exposure_table.FAILED] == []
    output = run_all(archive, config, SCRIPTS[:2])["queryData.py"]
    assert f"{len(times(folder, '*_masked.fits'))} downloaded" in output


def test_files_of_the_user_are_never_removed(archive, finished, tmp_path):
    """Not even from the folder of the combination."""
    place = tmp_path / "work" / NAMES[0]
    place.mkdir(parents=True)
    for path in finished[1][0].path.glob("*_rate.fits"):
        shutil.copy(path, place)
    query = {"source": str(place), "gaia_g_limit": None, "keep_rates": False}
    config = archive.config(tmp_path, gratings=["GR150C"], query=query)
    before = times(folder_of(tmp_path), "*_rate.fits")
    run_all(archive, config, SCRIPTS[:2])
    assert len(before) > 3
    assert times(folder_of(tmp_path), "*_rate.fits") == before


def test_disk_an_exposure_takes(finished):
    """Measured on small frames: a full frame has 64 times as many pixels."""
    folder = finished[1][0]
    name = exposure_table.fates(exposure_table.read(folder.table))[exposure_table.ACCEPTED][0]
    total = 0
    for path in (folder.masked(name), folder.refined(name)):
        with fits.open(path) as hdus:
            places = [hdu.fileinfo() for hdu in hdus]
            total += sum(
                64
                * hdu.header.get("NAXIS1", 0)
                * hdu.header.get("NAXIS2", 0)
                * abs(hdu.header["BITPIX"])
                // 8
                + 2880
                for hdu in hdus
            )
            total += sum(place["datLoc"] - place["hdrLoc"] for place in places)
    assert 38e6 < total < 50e6


def test_the_benchmark_makes_many_exposures_of_few(finished, tmp_path):
    """They are links to frames that have only the rows in the middle."""
    (sample,) = sets.samples("plain", sets.BOTH[0], 101)
    settings = scale.write_config(tmp_path / "many", sample.exposures[0])
    scale.many(settings, finished[1][0], 20, rows=128)
    folder = command_line.folders(config.read(settings))[0]
    files = [folder.masked(name) for name in exposure_table.read(folder.table)["productFilename"]]
    assert len({path for path in files if path.exists()}) == 20
    assert len({path.stat().st_ino for path in files}) < 10
    assert {masked_exposure.shape(path) for path in files} == {(128, 256)}
