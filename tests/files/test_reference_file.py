import numpy as np
from astropy.io import fits

from tests import small
from wfssbkg import detector
from wfssbkg.files import combined_background, exposure_table, reference_file
from wfssbkg.finalize import finish, reference_header
from wfssbkg.layout import Combination


def test_flags_tell_filled_few_bad_and_reference_pixels(tmp_path):
    number = np.full((16, 16), 9, np.int16)
    number[8, 8], number[8, 9], number[8, 10] = 0, 0, 2
    bad = np.zeros(number.shape, dtype=bool)
    bad[8, 9] = True
    image = np.ones(number.shape, np.float32)
    inputs = exposure_table.new([])
    inputs.meta["QDATE"] = "2026-01-01"
    pointings = number.clip(0, 3)
    pointings[8, 11] = 1
    background = combined_background.Background(
        image, 0.01 * image, number, bad, pointings, inputs, systematic=0.001
    )
    dq = finish.flags(background, fewest=3, pointings=2)
    reference_file.write(tmp_path / "a.fits", background, dq, fits.Header(), {"mask.growth": 1})
    with fits.open(tmp_path / "a.fits") as hdus:
        dq = hdus["DQ"].data
        values = {row["NAME"]: row["VALUE"] for row in hdus["DQ_DEF"].data}
    assert dq[8, 8] == values["FLUX_ESTIMATED"]
    assert dq[8, 9] == values["FLUX_ESTIMATED"] | values["OTHER_BAD_PIXEL"]
    assert dq[8, 10] == values["UNRELIABLE_SLOPE"]
    assert dq[8, 11] == values["UNRELIABLE_BIAS"]
    assert fits.getheader(tmp_path / "a.fits")["NPOINT"] == 3
    assert dq[0, 0] == values["REFERENCE_PIXEL"]
    assert dq[6, 6] == 0
    combined_background.write(tmp_path / "b.fits", background, settings={})
    again = combined_background.read(tmp_path / "b.fits")
    assert again.systematic == 0.001
    np.testing.assert_array_equal(again.bad, bad)


def test_the_outer_four_rows_and_columns_see_no_light():
    science = detector.science_pixels((16, 20))
    expected = np.zeros((16, 20), dtype=bool)
    expected[4:12, 4:16] = True
    np.testing.assert_array_equal(science, expected)
    assert science[detector.inner_pixels()].shape == (8, 12)


USED = {"R_FLAT": "crds://flat.fits", "CRDS_CTX": "jwst_1.pmap", "USEAFTER": "2023-01-01T00:00:00"}


def header_of(inputs, dark=(0.0, np.inf)):
    nothing = np.zeros((1, 1))
    return reference_header.reference_header(
        Combination("GR150C", "F115W"),
        exposure=fits.Header(),
        background=combined_background.Background(*5 * [nothing], inputs, dark=dark),
        author="A. Author",
        used=USED,
        settings={"mask.flicker_noise": "uncleaned"},
        flat_is_out=True,
    )


def test_the_header_counts_the_exposures_that_were_combined():
    fates = [exposure_table.ACCEPTED] * 3 + [
        exposure_table.REJECTED,
        exposure_table.EXCLUDED,
        exposure_table.FAILED,
    ]
    rows = [{"productFilename": str(k), "status": fate} for k, fate in enumerate(fates)]
    assert header_of(small.table(*rows))["NEXP"] == 3


def test_the_header_has_the_date_of_the_query():
    inputs = small.table({"productFilename": "a"})
    assert header_of(inputs)["QDATE"] == inputs.meta["QDATE"] == "2026-01-02T03:04:05"


def test_the_header_has_the_days_of_the_first_and_of_the_last_exposure():
    """As CRDS wants them; 59764 is 2022-07-04."""
    rows = [{"productFilename": str(k), "mjd": 59764.5 + k} for k in (1, 0, 2)]
    rows.append({"productFilename": "x", "mjd": 59999.5, "status": exposure_table.REJECTED})
    assert header_of(small.table(*rows))["PEDIGREE"] == "INFLIGHT 2022-07-04 2022-07-06"


def test_the_header_has_the_dark_residual_and_its_error_where_there_is_one():
    inputs = small.table({"productFilename": "a"})
    header = header_of(inputs, (0.0123, 0.0004))
    assert (header["DARKRES"], header["DARKERR"]) == (0.0123, 0.0004)
    header = header_of(inputs)
    assert header["DARKRES"] == 0
    assert "DARKERR" not in header


def test_new_figures_take_the_place_of_all_former_ones(tmp_path):
    path, header = tmp_path / "a.fits", fits.Header()
    header["AUTHOR"] = "A. Author"
    header.add_history("made")
    fits.PrimaryHDU(header=header).writeto(path)
    former = {"XIRMS": (0.1, "rms"), "XVRMS": (0.2, "rms"), "XVMEAN": (0.3, "mean")}
    for figures in (former, {"XIRMS": (0.4, "rms")}):
        reference_file.note(path, figures, instead_of=reference_file.FIGURES)
    found = fits.getheader(path)
    assert found["XIRMS"] == 0.4
    assert "XVRMS" not in found
    assert "XVMEAN" not in found
    assert found["AUTHOR"] == "A. Author"
