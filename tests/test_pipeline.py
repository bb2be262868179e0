"""Reference files for an exposure, in the CRDS context in which it was flat-fielded."""

import numpy as np
import pytest
from astropy.io import fits

from demo import archive, crds_cache
from tests import small
from tests.conftest import ROOT
from tests.script_server import python, without_crds

NPIX = 128
FORMER, CURRENT = "jwst_9001.pmap", "jwst_9002.pmap"

# It runs in a process of its own, since crds remembers what it has read of a cache.
QUERY = """
import sys
from pathlib import Path
import numpy as np
from wfssbkg import pipeline

which, folder, *exposures = sys.argv[1], *map(Path, sys.argv[2:])
for number, masked in enumerate(exposures):
    if which == "flat":
        image, used = pipeline.flat_of(masked, folder / f"kept{number}.fits")
        name, context = used["R_FLAT"], used["CRDS_CTX"]
    else:
        image, name = pipeline.official_background(masked)
        context = ""
    np.savez(folder / f"{number}.npz", image=image, name=name, context=context)
"""


def add_context(cache):
    """Add a context, which becomes the current one, with all reference files multiplied by two.

    The numbers of its files begin with 8 instead of 9.
    """
    from crds.refactoring.checksum import update_checksum

    for path in (cache / "references" / "jwst" / "niriss").glob("*_9???.fits"):
        with fits.open(path) as hdus:
            hdus["SCI"].data *= 2
            name = path.name.replace("_9", "_8")
            hdus[0].header["FILENAME"] = name
            hdus.writeto(path.with_name(name))
    mappings = cache / "mappings" / "jwst"
    for path in mappings.glob("*_9001.?map"):
        text = path.read_text().replace("9001.rmap", "9002.rmap").replace("9001.imap", "9002.imap")
        text = text.replace("9001.pmap", "9002.pmap")
        for kind in ("flat", "bkg"):
            text = text.replace(f"jwst_niriss_{kind}_9", f"jwst_niriss_{kind}_8")
            text = text.replace(f"jwst_niriss_{kind}_8002.rmap", f"jwst_niriss_{kind}_9002.rmap")
        new = path.with_name(path.name.replace("9001", "9002"))
        new.write_text(text)
        update_checksum(str(new))
    server = cache / "config" / "jwst" / "server_config"
    server.write_text(server.read_text().replace(f"'{FORMER}'", f"'{CURRENT}'"))


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    """A CRDS cache with two contexts."""
    made = crds_cache.build_cache(tmp_path_factory.mktemp("crds"), NPIX, [("GR150C", "F115W")])
    add_context(made)
    return made


@pytest.fixture
def query(cache, tmp_path):
    """Ask CRDS, in one process, for reference files of exposures flat-fielded in some contexts."""
    spec = archive.demo_exposures(1)[0]
    archive.simulate_exposure(spec, NPIX, seed=1).save(tmp_path / spec.filename)
    header = fits.getheader(tmp_path / spec.filename)

    def asked(which, *contexts, **keywords):
        exposures = []
        header.update(keywords)
        for number, context in enumerate(contexts):
            header["CRDS_CTX"] = context
            place, sky = small.folder(tmp_path / str(number)), np.ones((NPIX, NPIX))
            exposures.append(
                small.masked_exposure(place, spec.filename, sky, 0.01, header=header).masked
            )
        environment = without_crds() | crds_cache.environment(cache)
        return python("-c", QUERY, which, tmp_path, *exposures, cwd=ROOT, env=environment)

    return asked


@pytest.fixture
def ask(query, tmp_path):
    """The answers of such a query: image, name and context of each reference file."""

    def answers(which, *contexts):
        done = query(which, *contexts)
        assert done.returncode == 0, done.stderr
        found = [np.load(tmp_path / f"{number}.npz") for number in range(len(contexts))]
        return [
            (each["image"], str(each["name"]).removeprefix("crds://"), str(each["context"]))
            for each in found
        ]

    return answers


def reference(cache, name):
    """The image of a reference file, with NaN where it has no value."""
    with fits.open(cache / "references" / "jwst" / "niriss" / name) as hdus:
        image, unusable = hdus["SCI"].data, hdus["DQ"].data & 1 > 0
    return np.where(unusable | (image == 0), np.nan, image)


@pytest.mark.parametrize("context", [FORMER, CURRENT])
def test_the_flat_field_is_that_of_the_context_it_was_divided_out_in(ask, cache, context):
    ((flat, name, used),) = ask("flat", context)
    assert used == context
    assert name.startswith("jwst_niriss_flat_9" if context == FORMER else "jwst_niriss_flat_8")
    known = reference(cache, name)
    usable = np.isfinite(known)
    np.testing.assert_allclose(flat[usable], known[usable], rtol=1e-6)
    assert (np.median(known[usable]) > 1.5) == (context == CURRENT)
    assert (flat[~usable] == 1).all()


@pytest.mark.parametrize("context", [FORMER, CURRENT])
def test_the_background_in_crds_comes_without_its_flat_field(ask, cache, context):
    ((official, name, _),) = ask("background", context)
    assert name.startswith("jwst_niriss_bkg_9" if context == FORMER else "jwst_niriss_bkg_8")
    ((_, flat_name, _),) = ask("flat", context)
    expected = reference(cache, name) / reference(cache, flat_name)
    usable = np.isfinite(expected)
    assert usable.mean() > 0.8
    np.testing.assert_allclose(official[usable], expected[usable], rtol=1e-5)
    assert np.std(reference(cache, flat_name)[usable]) > 0.005  # so a missing one would show


@pytest.mark.parametrize("which", ["flat", "background"])
def test_a_context_does_not_stick_to_the_process(ask, which):
    """crds remembers the first context that it was asked in, until it is told to forget it."""
    contexts = [CURRENT, FORMER, CURRENT]
    for context, (_, name, used) in zip(contexts, ask(which, *contexts), strict=True):
        assert used in (context, "")
        assert name.split("_")[-1][0] == ("9" if context == FORMER else "8")


def test_another_flat_field_than_was_divided_out_is_not_put_back(query, tmp_path):
    done = query("flat", CURRENT, R_FLAT="crds://jwst_niriss_flat_0001.fits")
    assert done.returncode == 1
    assert "was divided by crds://jwst_niriss_flat_0001.fits, and CRDS gives" in done.stderr
    assert "Run makeMask.py --overwrite" in done.stderr
    assert not (tmp_path / "kept0.fits").exists()
