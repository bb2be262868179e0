"""Small files of single exposures, for tests with a known answer."""

import numpy as np
from astropy.io import fits

from wfssbkg import config
from wfssbkg.combine import bins
from wfssbkg.combine.exposure import Common, Exposure, write_bins
from wfssbkg.files import exposure_table, refined_exposure, up_to_date
from wfssbkg.files import masked_exposure as files
from wfssbkg.layout import Combination, Folder
from wfssbkg.run.parallel import Workers

DEFAULTS = config.read(config.DEFAULTS)
COMBINATION = Combination("GR150C", "F115W")
# With a single worker everything is done in this process.
WORKERS = Workers(DEFAULTS.compute.model_copy(update={"workers": 1}), need_gb=0.5)


def settings(**sections):
    """The default settings with changes, and with one worker, so that no process is started."""
    made = DEFAULTS
    for name, changes in ({"compute": {"workers": 1}} | sections).items():
        section = getattr(made, name).model_copy(update=changes)
        made = made.model_copy(update={name: section})
    return made


def folder(path, grating="GR150C"):
    """Make the folder of a combination."""
    made = Folder(Combination(grating, "F115W"), path / "work", path / "out")
    made.path.mkdir(parents=True, exist_ok=True)
    return made


def masked_exposure(place, name, sci, err, *, bits=None, level=np.nan, header=None, **changes):
    """Write the masked exposure of a rate file into a folder; returns the exposure."""
    sci = np.asarray(sci, dtype=np.float32)
    described = {
        "mask": np.zeros(sci.shape, dtype=np.uint8) if bits is None else bits,
        "header": fits.Header() if header is None else header,
        "pointing": {},
        "fraction": 0.0,
        "settings": up_to_date.bearing(DEFAULTS, up_to_date.MASKED, place.combination),
    }
    err = np.broadcast_to(np.float32(err), sci.shape)
    files.write(place.masked(name), sci=sci, err=err, **(described | changes))
    exposure = Exposure.of(place, name)
    exposure.level, exposure.noise = level, float(np.median(err))
    write_bins(exposure, *files.read(exposure.masked))
    return exposure


def keep_flat(place, flat):
    """Keep the flat field that the exposures of a folder were divided by, as makeMask.py does."""
    image = fits.ImageHDU(np.asarray(flat, dtype=np.float32), name="FLAT")
    fits.HDUList([fits.PrimaryHDU(), image]).writeto(place.flat, overwrite=True)


def bins_of(shape, *, along_x):
    """Zeros, one for each bin of a frame."""
    return np.zeros(bins.shape(shape, along_x=along_x), dtype=np.float32)


def write_refined(exposure, faint, *, stripes=None, weight=None, maps=None, dark=0.0, after=False):
    """Write what a refinement found in an exposure; nothing but what is told, on large scales."""
    nothing = np.zeros((4, exposure.bins_shape[1]), dtype=np.float32)
    difference, of_difference = np.zeros((2, 4, 4)) if maps is None else maps
    found = refined_exposure.Refined(
        faint,
        nothing if stripes is None else stripes,
        nothing if weight is None else weight,
        difference,
        of_difference,
        dark,
    )
    refined_exposure.write(exposure.next_refined if after else exposure.refined, found)


def nothing_common(exposure):
    """What exposures have in common before a refinement."""
    return Common.nothing(exposure.bins_shape)


def table(*rows):
    """An exposure table with some rows, as a query makes it."""
    made = exposure_table.new(rows)
    made.meta["QDATE"] = "2026-01-02T03:04:05"
    return made
