"""Files of single exposures, as small as a test with a known answer needs them."""

import numpy as np
from astropy.io import fits

from wfssbkg import cells, config, exposures, masked
from wfssbkg.layout import Combination, Folder
from wfssbkg.sample import Exposure

DEFAULTS = config.read(config.DEFAULTS)


def settings(**sections):
    """The default settings but for some, for one process, so that no worker is started."""
    made = DEFAULTS
    for name, changes in ({"compute": {"workers": 1}} | sections).items():
        section = getattr(made, name).model_copy(update=changes)
        made = made.model_copy(update={name: section})
    return made


def folder(path, grating="GR150C"):
    """A folder of a combination, there already."""
    made = Folder(Combination(grating, "F115W"), path / "work", path / "out")
    made.path.mkdir(parents=True, exist_ok=True)
    return made


def masked_exposure(place, name, sci, err, *, bits=None, level=np.nan, header=None, **changes):
    """Write the masked exposure of a rate file into a folder; returns the exposure."""
    sci = np.asarray(sci, dtype=np.float32)
    along_x = place.combination.along_x
    described = {
        "mask": np.zeros(sci.shape, dtype=np.uint8) if bits is None else bits,
        "header": fits.Header() if header is None else header,
        "pointing": {},
        "saturated": 0,
        "fraction": 0.0,
        "settings": config.fingerprint(DEFAULTS.mask),
        "along_x": along_x,
    }
    err = np.broadcast_to(np.float32(err), sci.shape)
    masked.write(place.masked(name), sci=sci, err=err, **(described | changes))
    exposure = Exposure.of(place, name)
    exposure.level, exposure.noise = level, float(np.median(err))
    return exposure


def cells_of(shape, *, along_x):
    """Zeros, one for each cell of a frame."""
    return np.zeros(cells.shape(shape, along_x=along_x), dtype=np.float32)


def table(*rows):
    """An exposure table of some rows, as if a query had just made it."""
    made = exposures.new(rows)
    made.meta["QDATE"] = "2026-01-02T03:04:05"
    return made
