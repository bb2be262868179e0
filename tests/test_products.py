import numpy as np
from astropy.io import fits

from tests import small
from wfssbkg import exposures, products
from wfssbkg.layout import Combination


def test_flags_tell_filled_few_bad_and_reference_pixels(tmp_path):
    number = np.full((16, 16), 9, np.int16)
    number[8, 8], number[8, 9], number[8, 10] = 0, 0, 2
    bad = np.zeros(number.shape, dtype=bool)
    bad[8, 9] = True
    image = np.ones(number.shape, np.float32)
    inputs = exposures.new([])
    inputs.meta["QDATE"] = "2026-01-01"
    background = products.Background(image, 0.01 * image, number, bad, inputs, systematic=0.001)
    products.write_finished(
        tmp_path / "a.fits", background, fits.Header(), fewest=3, provenance=fits.BinTableHDU()
    )
    with fits.open(tmp_path / "a.fits") as hdus:
        dq = hdus["DQ"].data
        values = {row["NAME"]: row["VALUE"] for row in hdus["DQ_DEF"].data}
    assert dq[8, 8] == values["FLUX_ESTIMATED"]
    assert dq[8, 9] == values["FLUX_ESTIMATED"] | values["OTHER_BAD_PIXEL"]
    assert dq[8, 10] == values["UNRELIABLE_SLOPE"]
    assert dq[0, 0] == values["REFERENCE_PIXEL"]
    assert dq[6, 6] == 0
    products.write_background(tmp_path / "b.fits", background, settings="x")
    again = products.read_background(tmp_path / "b.fits")
    assert again.systematic == 0.001
    np.testing.assert_array_equal(again.bad, bad)


def test_the_outer_four_rows_and_columns_see_no_light():
    science = products.science_pixels((16, 20))
    expected = np.zeros((16, 20), dtype=bool)
    expected[4:12, 4:16] = True
    np.testing.assert_array_equal(science, expected)
    assert science[products.inner_pixels()].shape == (8, 12)


def reference_header(inputs):
    return products.reference_header(
        Combination("GR150C", "F115W"),
        exposure=fits.Header(),
        inputs=inputs,
        author="A. Author",
        history=[],
        flat_is_out=True,
    )


def test_the_header_counts_the_exposures_that_were_combined():
    fates = [exposures.ACCEPTED] * 3 + [exposures.REJECTED, exposures.EXCLUDED, exposures.FAILED]
    rows = [{"productFilename": str(k), "status": fate} for k, fate in enumerate(fates)]
    assert reference_header(small.table(*rows))["NEXP"] == 3


def test_the_header_has_the_date_of_the_query():
    inputs = small.table({"productFilename": "a"})
    assert reference_header(inputs)["QDATE"] == inputs.meta["QDATE"] == "2026-01-02T03:04:05"
