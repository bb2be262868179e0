"""The pictures of a comparison."""

import base64
import io

import matplotlib as mpl
import numpy as np
import pytest
from PIL import Image

from tests.compare.test_report import comparison
from wfssbkg.compare import pictures
from wfssbkg.files import exposure_table
from wfssbkg.files.comparison_file import Picture


def colour(residual, masked):
    """Colour of the middle of a thumbnail, 0 to 255."""
    shape = (32, 32)
    flat = Picture(np.full(shape, residual), np.full(shape, masked), 0.5, 0)
    image = pictures.thumbnail(flat, 1.0, side=32)
    return np.asarray(as_rgb(image))[16, 16].astype(int)


def as_rgb(image):
    data = base64.b64decode(image.uri.removeprefix("data:image/webp;base64,"))
    return Image.open(io.BytesIO(data)).convert("RGB")


def test_a_thumbnail_is_white_at_zero_red_above_blue_below_and_grey_where_masked():
    assert colour(0.0, 0.0).min() > 240
    red, blue = colour(0.8, 0.0), colour(-0.8, 0.0)
    assert red[0] > red[2] + 80
    assert blue[2] > blue[0] + 80
    for residual, masked in ((0.8, 1.0), (np.nan, 0.0)):
        grey = colour(residual, masked)
        assert np.ptp(grey) < 12
        assert grey.max() < 235


def test_a_mask_is_coloured_over_grey_and_nothing_at_the_reference_pixels():
    residual, masked = np.zeros((32, 32)), np.zeros((32, 32))
    masked[:, 16:] = 1
    residual[28:], masked[28:] = np.nan, np.nan
    image = pictures.mask(Picture(residual, masked, 0.5, 0), 1, side=32)
    pixels = np.asarray(as_rgb(image)).astype(int)
    assert np.ptp(pixels[20, 6]) < 12
    assert pixels[20, 26, 0] > pixels[20, 26, 2] + 80
    assert pixels[1, 6] == pytest.approx((213, 216, 220), abs=12)


def test_row_0_is_below():
    residual = np.zeros((32, 32))
    residual[:16] = 1
    picture = Picture(residual, np.zeros_like(residual), 0.5, 0)
    image = np.asarray(as_rgb(pictures.thumbnail(picture, 1, side=32)))
    assert image[24, 16, 2] < 150 < 240 < image[8, 16, 2]


def test_colours_end_where_most_residuals_do():
    rng = np.random.default_rng(3)
    values = rng.normal(scale=0.4, size=(64, 64))
    masked = np.zeros_like(values)
    values[:4], masked[:4] = 100, 1  # sources
    assert pictures.residual_range([Picture(values, masked, 0.4, 0)]) == 1.0
    assert pictures.residual_range([]) > 0


@pytest.fixture
def drawn(monkeypatch):
    """Figures as they are drawn, instead of their pixels; by the beginning of their words."""
    figures = {}

    def keep(figure, alt, **options):
        figures[alt[:12]] = figure
        figure.canvas.draw()
        return pictures.Image("", 1, 1, alt)

    monkeypatch.setattr(pictures, "_drawn", keep)
    return figures


def test_each_profile_has_a_panel_and_what_is_beyond_its_scale_is_marked(drawn):
    one = comparison()
    one.scores["out"].column_profile[[20, 30]] = 500, -400
    images = pictures.plates(one)
    assert "2 of them beyond" in images["column"].alt
    assert "1 of them beyond" in images["row"].alt
    pictures._profile(one, "column", 2.0)
    panels = drawn["Median resid"].axes
    assert [axes.get_title(loc="left") for axes in panels] == [
        "new, on exposures it was made without",
        "new, on exposures it was made of",
        "jwst_niriss_bkg_0001.fits",
    ]
    marks = [
        line for line in panels[0].lines if line.get_marker() in "^v" and len(line.get_xdata())
    ]
    assert [(line.get_marker(), *line.get_xydata()[0]) for line in marks] == [
        ("^", 20, 2.0),
        ("v", 30, -2.0),
    ]


def test_what_two_backgrounds_leave_is_on_one_scale_and_in_its_place(drawn):
    one = comparison()
    one.scores["out"].mean[:] = 0.1
    one.scores["out"].mean[5, 20] = 0.4
    one.scores["official"].mean[:] = 1.0
    images = pictures.plates(one)
    assert "the new background leaves" in images["residual_new"].alt
    assert "jwst_niriss_bkg_0001.fits leaves" in images["residual_reference"].alt
    new = drawn["What the new"].axes[0].images[0]
    reference = drawn["What jwst_ni"].axes[0].images[0]
    assert new.get_clim() == reference.get_clim() == (-1, 1)
    assert np.nanmax(new.get_array()) == new.get_array()[5, 20] == pytest.approx(0.4)
    del one.scores["official"]
    assert "residual_reference" not in pictures.plates(one)


def test_an_exposure_before_and_after_is_on_one_scale(drawn):
    one = comparison()
    example = one.examples["typical"]
    example.before[:], example.after[:] = 2.0, 0.1
    example.after[5, 20] = np.nan
    before, after = pictures.before_and_after(example, (256, 256))
    assert before.alt == "Exposure before the subtraction: RMS 2.34 per cent of the sky"
    assert after.alt == "Exposure after the subtraction: RMS 0.51 per cent of the sky"
    shown = [drawn[words].axes[0].images[0] for words in ("Exposure bef", "Exposure aft")]
    assert shown[0].get_clim() == shown[1].get_clim() == (-2, 2)
    np.testing.assert_array_equal(np.argwhere(shown[1].get_array().mask), [[5, 20]])


def test_the_name_of_a_folder_is_no_formula(drawn):
    one = comparison()
    one.against_file = "/data/a $\\frac{x$ b/nis.fits"
    one.scores["against"] = one.scores["official"]
    pictures.plates(one)
    titles = [axes.get_title(loc="left") for axes in drawn["Median resid"].axes]
    assert titles[-1] == "a $\\frac{x$ b, perhaps in sample"


def test_coverage_is_told_in_whole_numbers(drawn):
    one = comparison()
    one.background.number = np.minimum(one.background.number, 3)
    pictures.plates(one)
    bar = drawn["Coverage: 0 "].axes[1]
    ticks = [tick for tick in bar.get_yticks() if 0 <= tick <= 3]
    assert ticks == [0, 1, 2, 3]


def test_ecliptic_latitude_of_a_pole_and_of_an_equinox():
    table = exposure_table.new(
        [
            {"productFilename": "a", "ra": 270.0, "dec": 66.5607},
            {"productFilename": "b", "ra": 180.0, "dec": 0.0},
            {"productFilename": "c"},
            {"productFilename": "d", "ra": 270.0, "dec": -50.0},
        ]
    )
    latitude = pictures.ecliptic_latitude(table)
    assert latitude[[0, 1, 3]] == pytest.approx([90, 0, 26.56], abs=0.01)
    assert np.isnan(latitude[2])


def test_solar_elongation_where_the_sun_is_known():
    """At the equinox of 2024 March 20, 03:06 UT, the Sun is at RA 0, Dec 0."""
    equinox = {"mjd": 60389.129}
    table = exposure_table.new(
        [
            {"productFilename": "a", "ra": 0.0, "dec": 0.0} | equinox,
            {"productFilename": "b", "ra": 90.0, "dec": 0.0} | equinox,
            {"productFilename": "c", "ra": 100.0, "dec": 0.0} | equinox,
            {"productFilename": "d", "ra": 0.0, "dec": -70.0} | equinox,
            {"productFilename": "e", "ra": 0.0, "dec": 0.0, "mjd": 60575.53},  # September 22,
            {"productFilename": "f", "ra": 0.0, "dec": 0.0},
            {"productFilename": "g"} | equinox,
        ]
    )
    elongation = pictures.solar_elongation(table)
    # Coordinates are those of the year 2000: precession is 0.3 deg since then.
    assert elongation[:5] == pytest.approx([0, 90, 100, 70, 180], abs=0.5)
    assert np.isnan(elongation[5:]).all()


def test_levels_are_plotted_with_complete_axes(monkeypatch):
    figures = []
    monkeypatch.setattr(pictures, "_drawn", lambda figure, *_, **__: figures.append(figure))
    pictures.levels([comparison()])
    labels = [(figure.axes[0].get_xlabel(), figure.axes[0].get_ylabel()) for figure in figures]
    assert labels == [
        ("distance from the ecliptic, deg", "level, DN/s"),
        ("solar elongation, deg", "level, DN/s"),
        ("start of the exposure, UTC", "level, DN/s"),
    ]
    for figure in figures:
        assert [len(line.get_xdata()) for line in figure.axes[0].lines] == [10, 2]


def test_the_user_s_style_of_matplotlib_is_neither_used_nor_changed():
    import matplotlib.pyplot as plt

    one = comparison()
    plain = pictures.plates(one)["background"].uri
    with mpl.rc_context({"font.size": 30, "image.cmap": "hot"}):
        before = dict(mpl.rcParams)
        assert pictures.plates(one)["background"].uri == plain
        assert dict(mpl.rcParams) == before
    assert plt.get_fignums() == []
