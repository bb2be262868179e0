import numpy as np
from astropy.io import fits

from tests import small
from wfssbkg.files import combined_background
from wfssbkg.files.combined_background import Background


def test_a_background_of_before_the_dark_residual_has_none(tmp_path):
    """Its header can be written again: FITS has no infinite values."""
    image, path = np.ones((8, 8), np.float32), tmp_path / "background.fits"
    made = Background(image, image, image, image < 0, image, small.table({"productFilename": "a"}))
    combined_background.write(path, made, settings={})
    fits.delval(path, "DARKRES")
    found = combined_background.read(path)
    assert found.dark == (0, np.inf)
    fits.Header().extend(found.dark_cards())
