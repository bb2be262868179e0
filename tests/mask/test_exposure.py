"""An exposure on its way to its masked exposure, without the JWST pipeline."""

import numpy as np
import pytest
from astropy.io import fits
from stdatamodels.jwst.datamodels.dqflags import pixel

from tests import small
from wfssbkg import pipeline
from wfssbkg.files import masked_exposure
from wfssbkg.mask import exposure

SHAPE = (64, 64)


def test_the_masked_fraction_is_that_of_the_pixels_that_see_the_sky(tmp_path, monkeypatch):
    dq = np.zeros(SHAPE, dtype=np.uint32)
    dq[10:17, 4:-4] = pixel["DO_NOT_USE"]
    variance = np.full(SHAPE, 0.01**2, dtype=np.float32)
    sky = np.full(SHAPE, 0.5, dtype=np.float32)
    found = pipeline.FlatFielded(sky, variance, variance, dq, fits.Header(), {})
    monkeypatch.setattr(pipeline, "flat_field", lambda *args, **options: found)
    settings = small.settings(mask={"background_box": 32}).mask
    path = tmp_path / "a_masked.fits"
    fraction = exposure.mask_exposure(path, path, small.COMBINATION, settings, {})
    assert fraction == pytest.approx(7 / 56)
    header, _ = masked_exposure.read_headers(path)
    assert header["MASKFRAC"] == pytest.approx(7 / 56)
