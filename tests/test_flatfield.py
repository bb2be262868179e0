"""What CRDS has for an exposure, in the context in which it was flat-fielded."""

import os
import subprocess
import sys

import numpy as np
import pytest
from astropy.io import fits

from demo import archive, crds_cache
from tests import small
from tests.conftest import ROOT
from wfssbkg import flatfield

NPIX = 128
FORMER, CURRENT = "jwst_9001.pmap", "jwst_9002.pmap"

# crds remembers a context for as long as its process lives.
QUERY = """
import importlib, sys
from pathlib import Path
import numpy as np

flatfield = importlib.import_module(sys.argv[1])
which, masked, answer = sys.argv[2], *map(Path, sys.argv[3:])
if which == "flat":
    image, used = flatfield.flat_of(masked, answer.with_name("kept.fits"))
    name, context = used["R_FLAT"], used["CRDS_CTX"]
else:
    image, name = flatfield.official_background(masked)
    context = ""
np.savez(answer, image=image, name=name, context=context)
"""


def add_context(cache):
    """Add a context, now the current one: flat fields and backgrounds are twice those of before.

    The numbers of these files begin with 8 instead of 9.
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
def ask(cache, tmp_path):
    """Ask CRDS for what belongs to an exposure that was flat-fielded in a context."""
    spec = archive.demo_exposures(1)[0]
    archive.simulate_exposure(spec, NPIX, seed=1).save(tmp_path / spec.filename)
    header = fits.getheader(tmp_path / spec.filename)

    def answer(which, context):
        header["CRDS_CTX"] = context
        sky = np.ones((NPIX, NPIX))
        place = small.folder(tmp_path)
        exposure = small.masked_exposure(place, spec.filename, sky, 0.01, header=header)
        command = [flatfield.__name__, which, exposure.masked, tmp_path / "answer.npz"]
        kept = {key: value for key, value in os.environ.items() if not key.startswith("CRDS_")}
        done = subprocess.run(
            [sys.executable, "-c", QUERY, *map(str, command)], cwd=ROOT,
            env=kept | crds_cache.environment(cache), capture_output=True, text=True, timeout=120,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        found = np.load(tmp_path / "answer.npz")
        return found["image"], str(found["name"]).removeprefix("crds://"), str(found["context"])

    return answer


def reference(cache, name):
    """A reference file where it has a value, and NaN elsewhere."""
    with fits.open(cache / "references" / "jwst" / "niriss" / name) as hdus:
        image, unusable = hdus["SCI"].data, hdus["DQ"].data & 1 > 0
    return np.where(unusable | (image == 0), np.nan, image)


@pytest.mark.parametrize("context", [FORMER, CURRENT])
def test_the_flat_field_is_that_of_the_context_it_was_divided_out_in(ask, cache, context):
    flat, name, used = ask("flat", context)
    assert used == context
    assert name.startswith("jwst_niriss_flat_9" if context == FORMER else "jwst_niriss_flat_8")
    known = reference(cache, name)
    usable = np.isfinite(known)
    np.testing.assert_allclose(flat[usable], known[usable], rtol=1e-6)
    assert (np.median(known[usable]) > 1.5) == (context == CURRENT)
    assert (flat[~usable] == 1).all()


@pytest.mark.parametrize("context", [FORMER, CURRENT])
def test_the_background_in_crds_comes_without_its_flat_field(ask, cache, context):
    official, name, _ = ask("background", context)
    assert name.startswith("jwst_niriss_bkg_9" if context == FORMER else "jwst_niriss_bkg_8")
    _, flat_name, _ = ask("flat", context)
    expected = reference(cache, name) / reference(cache, flat_name)
    usable = np.isfinite(expected)
    assert usable.mean() > 0.8
    np.testing.assert_allclose(official[usable], expected[usable], rtol=1e-5)
    assert np.std(reference(cache, flat_name)[usable]) > 0.005  # else none would be missed
