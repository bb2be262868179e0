from pathlib import Path

from wfssbkg.layout import Combination, Folder, subtracted, subtraction_picture, wfss_mask

FOLDER = Folder(Combination("GR150C", "F115W"), Path("/w"), Path("/o"))


def test_names_that_others_rely_on():
    assert FOLDER.table == Path("/w/GR150C-F115W/GR150C-F115W.fits")
    name = "jw01089001001_02101_00001_nis_rate.fits"
    assert FOLDER.rate(name) == Path("/w/GR150C-F115W") / name
    assert FOLDER.masked(name).name == "jw01089001001_02101_00001_nis_masked.fits"
    assert wfss_mask(Path("/r") / name) == Path("/r/jw01089001001_02101_00001_nis_wfssmask.fits")
    assert wfss_mask(Path("/r") / name, Path("/m")).parent == Path("/m")
    without_sky = subtracted(Path("/r") / name)
    assert without_sky == Path("/r/jw01089001001_02101_00001_nis_bkgsub_rate.fits")
    assert subtracted(Path("/r") / name, Path("/m")) == Path("/m") / without_sky.name
    assert subtraction_picture(without_sky) == without_sky.with_name(
        "jw01089001001_02101_00001_nis_bkgsub.png"
    )
    assert FOLDER.background == Path("/w/GR150C-F115W/background.fits")
    assert FOLDER.finished == Path("/o/nis-f115w-gr150c_skyflat.fits")
    assert FOLDER.finished_unflat == Path("/o/nis-f115w-gr150c_skyflat_unflat.fits")


def test_names_and_type_of_direct_images():
    combination = Combination("CLEAR", "F115W")
    folder = Folder(combination, Path("/w"), Path("/o"))
    assert folder.path == Path("/w/CLEAR-F115W")
    assert folder.finished_unflat == Path("/o/nis-f115w-clear_skyflat_unflat.fits")
    assert (combination.direct, combination.exp_type) == (True, "NIS_IMAGE")
    assert (FOLDER.combination.direct, FOLDER.combination.exp_type) == (False, "NIS_WFSS")
