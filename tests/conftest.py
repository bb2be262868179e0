"""A small simulated archive, its CRDS cache and its server, for the tests of whole scripts."""

import contextlib
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml
from hypothesis import settings as hypothesis_settings

from tests.script_server import python, without_crds
from wfssbkg.config import read
from wfssbkg.layout import Combination, Folder

# No deadline for examples: their times depend on how busy the machine is.
hypothesis_settings.register_profile("no deadline", deadline=None)
hypothesis_settings.load_profile("no deadline")

ROOT = Path(__file__).resolve().parents[1]
NPIX = 256
SCRIPTS = ("queryData.py", "makeMask.py", "makeBackgrounds.py", "finalizeBackgrounds.py")
NAMES = ("GR150C-F115W", "GR150R-F115W")

# Settings for frames of an eighth of the real size: lengths in pixels, and a smaller masked
# fraction than 0.4, since the crowded exposure has 0.39 in such a frame, and all others less than
# 0.05. The truth is the sky before 1/f noise is cleaned, which stage 1 did to one exposure.
SMALL_FRAME = {
    "mask": {"background_box": 32, "flicker_noise": "uncleaned"},
    "combine": {
        "level_border": 16, "structure_box": 32,
        "maximum_masked_fraction": 0.35,
    },
}  # fmt: skip


@dataclass
class Archive:
    """A small archive, and how to run the scripts on it."""

    folder: Path
    crds: Path
    url: str

    def environment(self, **changes):
        """The environment variables of a user with a local CRDS cache and without a network."""
        from demo import crds_cache

        return without_crds() | crds_cache.environment(self.crds) | changes

    def config(self, folder, **sections):
        """A config file in `folder` for this archive; `sections` override settings."""
        settings = {
            "gratings": ["GR150C", "GR150R"],
            "filters": ["F115W"],
            "working_directory": "work",
            "output_directory": "out",
            "query": {"mast_url": self.url, "gaia_url": self.url},
        }
        for part in (SMALL_FRAME, sections):
            for key, value in part.items():
                if isinstance(value, dict):
                    settings[key] = settings.get(key, {}) | value
                else:
                    settings[key] = value
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / "config.yaml"
        path.write_text(yaml.safe_dump(settings))
        return path

    def run(self, script, config, *options, **changes):
        """Run a script as a user would, from a folder of its own."""
        return python(
            ROOT / script, "--config", config, *options,
            cwd=config.parent, env=self.environment(**changes),
        )  # fmt: skip


@contextlib.contextmanager
def served(folder, exposures):
    """Serve an archive of 256 x 256 pixel exposures on this machine, with their reference files."""
    from demo import archive as simulator
    from demo import crds_cache, server

    combinations = sorted({(exposure.grating, exposure.filter) for exposure in exposures})
    simulator.simulate_archive(folder / "archive", exposures, npix=NPIX, workers=1, seed=7)
    crds_cache.build_cache(folder / "crds", NPIX, combinations)
    with server.serve(folder / "archive") as (_, url):
        yield Archive(folder / "archive", folder / "crds", url)


@pytest.fixture(scope="session")
def archive(tmp_path_factory):
    """The exposures of the demo, two combinations, as small frames."""
    from demo.exposures import demo_exposures

    with served(tmp_path_factory.mktemp("archive"), demo_exposures(seed=7)) as made:
        yield made


@pytest.fixture(scope="session")
def finished(archive, tmp_path_factory):
    """A run of four scripts: config, folders of the combinations, and results of the scripts."""
    config = archive.config(tmp_path_factory.mktemp("run"))
    outputs = []
    for script in SCRIPTS:
        outputs.append(archive.run(script, config))
        assert outputs[-1].returncode == 0, outputs[-1].stdout + outputs[-1].stderr
    settings = read(config)
    folders = [
        Folder(Combination(*name.split("-")), settings.working_directory, settings.output_directory)
        for name in NAMES
    ]
    return config, folders, outputs
