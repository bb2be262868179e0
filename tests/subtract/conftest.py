"""Small exposures of each kind, the backgrounds they were made with, and runs of the script."""

import shutil
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits

from demo import archive as simulator
from demo import crds_cache, detector, optics, subarrays
from demo.exposures import Exposure
from tests import small
from tests.conftest import Archive
from wfssbkg.detector import science_pixels
from wfssbkg.files import reference_file
from wfssbkg.files.combined_background import Background, Components
from wfssbkg.layout import Combination, Folder

NPIX = 256
KINDS = (("GR150C", "F115W"), ("GR150R", "F115W"), ("CLEAR", "F115W"))
NOWHERE = "http://127.0.0.1:9"
Y, X = np.indices((NPIX, NPIX)) / NPIX
BAND = np.exp(-0.5 * ((Y - 0.6 + 0.2 * X) / 0.08) ** 2)


@dataclass
class Simulated:
    """A rate file, and what it was made of."""

    spec: Exposure
    path: Path

    @property
    def sky(self):
        """Its sky with the flat field in, DN/s, in all pixels of the frame that see it."""
        flat = detector.true_flat(NPIX, self.spec.filter)
        return self.spec.sky_level * truth(self.spec.grating) * flat


@dataclass
class Made:
    """The exposures by grating, their reference files, and the folder of finished backgrounds."""

    exposures: dict[str, Simulated]
    crds: Path
    finished: Path

    def background(self, grating):
        return Folder(Combination(grating, "F115W"), self.finished, self.finished).finished

    def official(self, grating):
        """The background that CRDS has."""
        found = self.crds.rglob("jwst_niriss_bkg_*.fits")
        return next(path for path in found if fits.getval(path, "FILTER") == grating)


def truth(grating):
    """The background that exposures were made with, without flat field."""
    sky = optics.sky_background(grating, "F115W", NPIX)
    return np.where(science_pixels(sky.shape), sky, 0)


def describe(grating, **changes):
    """The header of a finished background."""
    told = {"FILTER": grating, "PUPIL": "F115W", "FIXFLAT": True, "REFTYPE": "BKG"}
    return fits.Header(told | {"QDATE": "2026-01-02T03:04:05"} | changes)


def write_finished(path, grating, *, components=None, **changes):
    """Write a finished background, as finalizeBackgrounds.py does."""
    image = truth(grating).astype(np.float32)
    count = np.full(image.shape, 9, dtype=np.int16)
    table = small.table({"productFilename": "jw_rate.fits"})
    made = Background(
        image, 0.001 * image, count, image < 0, count, table,
        components=components or Components.none(),
    )  # fmt: skip
    dq = np.where(image == 0, reference_file.REFERENCE, 0).astype(np.uint32)
    reference_file.write(path, made, dq, describe(grating, **changes), {})
    return path


def band_components():
    """A band of scattered light as a component, in boxes of 16 px."""
    boxes = BAND.reshape(16, NPIX // 16, 16, -1).mean(axis=(1, 3))
    maps = (boxes / boxes.max())[np.newaxis].astype(np.float32)
    return Components(maps, np.full((1, 4), 0.05), np.array([0.2]))


def add_light(path, light):
    """Add light of DN/s to a rate file, as the detector sees it."""
    with fits.open(path, mode="update") as hdus:
        seen = science_pixels(hdus["SCI"].shape)
        flat = detector.true_flat(NPIX, hdus[0].header["PUPIL"])
        hdus["SCI"].data[seen] += (light * flat)[seen].astype(np.float32)
    return path


def cut(path, name):
    """Cut a subarray out of a full frame; returns the rate file beside it."""
    from stdatamodels.jwst import datamodels

    target = path.with_name(path.name.replace("_nis_", f"{name.lower()}_nis_"))
    with datamodels.open(str(path)) as frame:
        subarrays.cut(frame, name).save(target)
    return target


@pytest.fixture(scope="session")
def made(tmp_path_factory):
    """One exposure of each kind, and finished backgrounds that are right."""
    place = tmp_path_factory.mktemp("subtract")
    (place / "rates").mkdir()
    (place / "out").mkdir()
    exposures = {}
    for grating, name in KINDS:
        specs = simulator.demo_exposures(7, ((grating, name),))
        spec = replace(specs[0], sky_colour=0.0, sky_level=0.6, exposure_time=1000.0)
        path = place / "rates" / spec.filename
        simulator.simulate_exposure(spec, NPIX, seed=7).save(path)
        exposures[grating] = Simulated(spec, path)
    crds = crds_cache.build_cache(place / "crds", NPIX, KINDS[:2])
    found = Made(exposures, crds, place / "out")
    for grating, _ in KINDS:
        write_finished(found.background(grating), grating)
    return found


@pytest.fixture
def script(made, tmp_path):
    """Runs the script; what it said. Settings are those of small frames."""

    def run(*arguments, status=0, environment=None, name="subtractBackgrounds.py", **sections):
        archive = Archive(tmp_path, made.crds, NOWHERE)
        config = archive.config(
            tmp_path,
            gratings=["GR150C", "GR150R", "CLEAR"],
            **{"output_directory": str(made.finished), "compute": {"workers": 1}} | sections,
        )
        done = archive.run(name, config, *arguments, **(environment or {}))
        said = done.stdout + done.stderr
        assert "Traceback" not in said, said
        assert "Warning" not in said, said
        assert done.returncode == status, said
        return said

    return run


@pytest.fixture
def rate(made, tmp_path):
    """Copies of rate files in a folder of a test."""

    def copy(grating="GR150C", name=None):
        source = made.exposures[grating].path
        (tmp_path / "rates").mkdir(exist_ok=True)
        return Path(shutil.copy2(source, tmp_path / "rates" / (name or source.name)))

    return copy
