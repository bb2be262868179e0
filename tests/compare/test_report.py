"""The report of a comparison, as a file and in a browser."""

import os
import re
from pathlib import Path

import astropy
import numpy as np
import pytest

from wfssbkg import config
from wfssbkg.compare import pictures, report
from wfssbkg.detector import science_pixels
from wfssbkg.files import exposure_table
from wfssbkg.files.combined_background import Background
from wfssbkg.files.comparison_file import Comparison, Example, Picture, Score
from wfssbkg.layout import Combination, Folder

NPIX = 256
SPITEFUL = "jw<i>slanted<script>alert(1)</script>_nis_rate.fits"
REASON = 'crowded <script>document.title = "spoilt"</script> & worse'
AGAINST = "/data/my <b>zenodo $files$/nis-f115w-gr150r_skyflat.fits"
NOTE = "the reference <b>file</b> could not be read"


def score(rng, rms):
    profiles = rms / 5 * rng.normal(size=(2, NPIX))
    mean = np.full((NPIX // 8, NPIX // 8), rms / 2, dtype=np.float32)
    return Score(rms, *profiles, mean_rms=rms / 2, mean=mean)


def comparison(name="GR150C-F115W", exposed=12, seed=1):
    """A background of some exposures; the last two are rejected, one more was excluded."""
    rng = np.random.default_rng(seed)
    names = [f"jw9000{k % 3}001001_02101_{k:05d}_nis_rate.fits" for k in range(exposed)]
    rows = [
        {
            "productFilename": name,
            "program": "9000",
            "ra": 10.0 * k,
            "dec": -20.0,
            "mjd": 59800.0 + 30 * k,
            "effinttm": 300.0,
            "level": 1.5 - 0.1 * k,
            "masked_fraction": 0.1,
        }
        for k, name in enumerate(names)
    ]
    rows[-1] |= {"productFilename": SPITEFUL, "status": exposure_table.REJECTED, "reason": REASON}
    rows[-2] |= {"status": exposure_table.REJECTED, "reason": "scattered light"}
    rows.append(
        {
            "productFilename": "jw80001_nis_rate.fits",
            "status": exposure_table.EXCLUDED,
            "reason": "dark",
        }
    )
    table = exposure_table.new(rows)
    table.meta["QDATE"] = "2026-01-02T03:04:05"

    science = science_pixels((NPIX, NPIX))
    sky = np.where(science, 1 + 0.02 * rng.normal(size=science.shape), 0).astype(np.float32)
    number = np.where(science, rng.integers(0, 10, science.shape), 0)
    background = Background(sky, np.full_like(sky, 0.01), number, ~science, number, table)
    return Comparison(
        Folder(Combination(*name.split("-")), Path("work"), Path("out")),
        background,
        science & (number == 0),
        official=(sky * 1.01).astype(np.float32),
        official_name="jwst_niriss_bkg_0001.fits",
        scores={"in": score(rng, 0.4), "out": score(rng, 0.5), "official": score(rng, 1.5)},
        pictures={
            row["productFilename"]: Picture(
                rng.normal(size=(64, 64)).astype(np.float32),
                np.pad(rng.uniform(size=(62, 62)) ** 8, 1, constant_values=np.nan),
                np.nan if row.get("status") == exposure_table.REJECTED else 0.5,
                number % 3,
                scored="out",
            )
            for number, row in enumerate(rows[:-1])
        },
        examples={
            kind: Example(name, *rng.normal(size=(2, NPIX // 8, NPIX // 8)), 2.34, rms, "out")
            for kind, name, rms in (("typical", names[3], 0.51), ("worst", names[4], 0.76))
        },
    )


def both():
    """Two comparisons, the second one with a background of the user's choice."""
    one, two = comparison(), comparison("GR150R-F115W", exposed=13, seed=2)
    two.against, two.against_file = (two.background.sci * 1.02).astype(np.float32), AGAINST
    two.scores["against"] = score(np.random.default_rng(3), 0.9)
    two.notes.append(NOTE)
    return [one, two]


@pytest.fixture(scope="module")
def settings():
    return config.read(config.DEFAULTS)


@pytest.fixture(scope="module")
def written(settings, tmp_path_factory):
    """A report of two combinations, 27 exposures."""
    path = tmp_path_factory.mktemp("report") / "report.html"
    report.write(path, both(), settings)
    return path


# ---- what it says ------------------------------------------------------------------------------


def test_the_same_comparison_makes_the_same_file(written, settings, tmp_path):
    report.write(tmp_path / "again.html", both(), settings)
    assert (tmp_path / "again.html").read_bytes() == written.read_bytes()
    assert [path.name for path in tmp_path.iterdir()] == ["again.html"]


def test_nothing_of_a_table_becomes_html(written):
    page = written.read_text()
    assert "<script>document" not in page
    assert "<script>alert" not in page
    assert "<b>file</b>" not in page
    assert "crowded &lt;script&gt;document.title" in page


def test_settings_versions_and_the_date_of_the_query_are_in_it(written):
    page = written.read_text()
    assert "gratings:\n- GR150C" in page
    assert f"astropy {astropy.__version__}" in page
    assert "2026-01-02T03:04:05" in page
    assert "field 1: 11 % masked" in page


def test_simulated_exposures_are_called_so_in_the_first_lines(written, settings, tmp_path):
    assert "<b>Simulated" not in written.read_text()
    one, two = comparison(), comparison("GR150R-F115W", exposed=13, seed=2)
    one.background.inputs["pi_name"] = exposure_table.SIMULATED
    path = tmp_path / "report.html"
    report.write(path, [one], settings)
    beginning, _, rest = path.read_text().partition("<nav")
    assert "<b>Simulated</b>: all combined exposures" in beginning
    assert "<b>Simulated.</b> <span" in rest
    two.background.inputs["pi_name"][1] = exposure_table.SIMULATED
    report.write(path, [one, two], settings)
    beginning, _, rest = path.read_text().partition("<nav")
    assert "<b>Simulated</b>: 11 of the 21 combined exposures" in beginning
    assert rest.count("<b>Simulated.</b>") == rest.count("<b>Simulated in part.</b>") == 1


def test_the_files_are_linked_from_where_the_report_is(settings, tmp_path):
    one = comparison()
    one.folder = Folder(one.folder.combination, tmp_path / "my work", tmp_path / "out")
    path = tmp_path / "out" / "report.html"
    path.parent.mkdir()
    report.write(path, [one], settings)
    addresses = re.findall('<a href="([^"#]*)"', path.read_text())
    folder = "../my%20work/GR150C-F115W"
    assert addresses == [
        "quality.ecsv",
        "nis-f115w-gr150c_skyflat.fits",
        "nis-f115w-gr150c_skyflat_unflat.fits",
        f"{folder}/background.fits",
        f"{folder}/GR150C-F115W.fits",
        f"{folder}/comparison.fits",
    ]


def test_exposure_time_programmes_and_reasons_are_told(settings, tmp_path):
    path = tmp_path / "report.html"
    report.write(path, [comparison()], settings)
    page = path.read_text()
    assert "exposure time, h</dt><dd>0.8</dd>" in page  # 10 exposures of 300 s
    programme = page.partition('id="GR150C-F115W-programmes"')[2].partition("</table>")[0]
    row = re.search(">9000</th>.*?</tr>", programme, re.DOTALL)[0]
    assert re.findall('class="n">([^<]*)', row) == [
        "10",
        "2",
        "0",
        "0",
        "0.83",
        "0.00",
        "1.05",
        "0.50",
    ]
    reasons = page.partition('GR150C-F115W-left-out"')[2].partition("</table>")[0]
    for status, reason in (("rejected", "scattered light"), ("excluded", "dark")):
        assert (
            f'<td class="n">1</td><td class="status {status}">{status}</td><td>{reason}<' in reasons
        )


def test_levels_of_simulated_exposures_are_not_said_to_follow_the_sky(settings, tmp_path):
    one, path = comparison(), tmp_path / "report.html"
    for simulated in (False, True):
        if simulated:
            one.background.inputs["pi_name"] = exposure_table.SIMULATED
        report.write(path, [one], settings)
        caption = path.read_text().partition('id="levels"')[2]
        assert ("levels at random" in caption) == simulated


def test_each_picture_says_whether_the_background_was_made_of_the_exposure(settings, tmp_path):
    one = comparison()
    one.pictures["jw90000001001_02101_00000_nis_rate.fits"].scored = "in"
    path = tmp_path / "report.html"
    report.write(path, [one], settings)
    captions = re.findall('<figure id="exposure-.*?</figcaption>', path.read_text(), re.DOTALL)
    own = [caption for caption in captions if "<br>in sample" in caption]
    assert len(own) == 1
    assert "jw90000001001_<wbr>02101_<wbr>00000" in own[0]
    assert sum("<br>out of sample" in caption for caption in captions) == 11


def test_another_background_is_judged_and_its_file_is_told_once(written):
    page = written.read_text()
    assert page.count("/data/my &lt;b&gt;zenodo $files$/nis-f115w-gr150r") == 1
    assert page.count("than my &lt;b&gt;zenodo $files$: RMS 44\u00a0% lower") == 2
    first, _, second = page.partition('<section id="GR150R-F115W"')
    for words in ("Which exposures it was made of is not known", "files$, perhaps in sample</th>"):
        assert words in second
        assert words not in first
    assert second.count("New background minus my &lt;b&gt;zenodo") == 2  # alt, and in the caption
    assert second.count("files$ leaves of the same mean; perhaps in sample") == 1


def test_residuals_are_linked_from_their_rows_if_they_are_there(settings, tmp_path):
    one = comparison()
    one.folder = Folder(one.folder.combination, tmp_path / "work", tmp_path / "out")
    there = one.folder.residual("jw90000001001_02101_00000_nis_rate.fits")
    there.parent.mkdir(parents=True)
    there.touch()
    path = tmp_path / "out" / "report.html"
    report.write(path, [one], settings)
    page = path.read_text()
    row = page.partition('<tr id="row-jw90000001001_02101_00000_nis"')[2].partition("</tr>")[0]
    assert f'<a href="residuals/GR150C-F115W/{there.name}">residual (FITS)</a>' in row
    assert page.count("residual (FITS)") == 1


def test_a_typical_exposure_and_the_worst_are_shown_before_and_after(written):
    page = written.read_text()
    part = page.partition('id="GR150C-F115W-examples"')[2].partition("<h3")[0]
    captions = re.findall("<figcaption><b>(.*?)</b><br>(.*?)</figcaption>", part)
    assert [(words, name.replace("<wbr>", "")) for words, name in captions] == [
        ("Typical exposure, before: RMS 2.34 %", "jw90000001001_02101_00003"),
        ("Typical exposure, after, out of sample: RMS 0.51 %", "jw90000001001_02101_00003"),
        ("Worst exposure, before: RMS 2.34 %", "jw90001001001_02101_00004"),
        ("Worst exposure, after, out of sample: RMS 0.76 %", "jw90001001001_02101_00004"),
    ]


def test_uncertainty_and_filled_part_are_in_per_cent(settings, tmp_path):
    one = comparison()
    one.filled = np.zeros((NPIX, NPIX), dtype=bool)
    one.filled[4 : NPIX // 2] = True  # half of what sees the sky
    report.write(tmp_path / "report.html", [one], settings)
    page = (tmp_path / "report.html").read_text()
    assert "median uncertainty of a pixel</dt><dd>1.00 %" in page
    assert "filled</dt><dd>50.00 %" in page


def test_without_a_reference_scores_and_pictures_there_is_a_report(settings, tmp_path):
    bare = comparison()
    bare.official, bare.official_name, bare.scores, bare.pictures = None, "", {}, {}
    bare.examples = {}
    bare.background.inputs["level"] = bare.background.inputs["ra"] = np.nan
    bare.background.inputs["mjd"] = np.nan
    bare.notes = [NOTE]
    report.write(tmp_path / "report.html", [bare], settings)
    page = (tmp_path / "report.html").read_text()
    assert "not compared" in page
    assert "scattered light" in page
    assert "Before and after" not in page
    report.write(tmp_path / "none.html", [], settings)
    assert "No combination could be compared" in (tmp_path / "none.html").read_text()


def test_many_exposures_make_small_thumbnails_then_fewer(settings, tmp_path, monkeypatch):
    path = tmp_path / "report.html"
    many = comparison(exposed=40)
    report.write(path, [many], settings)
    whole = path.stat().st_size
    assert "Made as small as" not in path.read_text()

    monkeypatch.setattr(report, "LARGEST", whole - 20_000)
    report.write(path, [many], settings)
    page = path.read_text()
    assert path.stat().st_size <= whole - 20_000
    assert "Made as small as" in page
    assert "are not shown" not in page
    assert page.count('<figure id="exposure-') == 40

    thumbnails = sum(
        len(pictures.thumbnail(p, 1, side=report.SMALLEST).uri) for p in many.pictures.values()
    )
    least = path.stat().st_size - thumbnails
    monkeypatch.setattr(report, "LARGEST", least - 5_000)
    report.write(path, [many], settings)
    page = path.read_text()
    assert path.stat().st_size <= least - 5_000
    assert "are not shown" in page
    assert page.count('class="rejected"><img') == 2  # they go last
    assert page.count('<tr id="row-') == 41


# ---- in a browser ------------------------------------------------------------------------------


def open_browser(**options):
    screenshot = pytest.importorskip("demo.screenshot")
    if not screenshot.programs():
        text = "Chromium and chromedriver are not installed"
        (pytest.fail if os.environ.get("REQUIRE_BROWSER") else pytest.skip)(text)
    return screenshot.browser(**options)


@pytest.fixture(scope="module")
def page(written):
    """The report in a window of a laptop."""
    with open_browser() as window:
        window.get(written.as_uri())
        yield window


@pytest.fixture(autouse=True)
def fresh(request):
    """A page as it is at first, for each test."""
    if "page" in request.fixturenames:
        request.getfixturevalue("page").refresh()


def column(page, name, heading):
    """What the shown rows of the exposure table of a combination have in a column."""
    return page.execute_script(
        """
        const table = document.getElementById(arguments[0] + "-exposures");
        const names = [...table.tHead.rows[0].cells].map(cell => cell.textContent.trim());
        const rows = [...table.tBodies[0].rows].filter(row => row.offsetParent);
        return rows.map(row => row.cells[names.indexOf(arguments[1])].textContent.trim());
        """,
        name,
        heading,
    )


def button(page, name, heading):
    return page.find_element(
        "xpath", f"//table[@id='{name}-exposures']//button[normalize-space()='{heading}']"
    )


def test_it_loads_without_an_error_and_asks_for_nothing(written):
    import json

    with open_browser() as window:
        window.get(written.as_uri())
        window.execute_script("window.scrollTo(0, document.body.scrollHeight)")
        events = [
            json.loads(entry["message"])["message"] for entry in window.get_log("performance")
        ]
        requests = [
            event["params"]["request"]["url"]
            for event in events
            if event["method"] == "Network.requestWillBeSent"
        ]
        assert [url for url in requests if not url.startswith("data:")] == [written.as_uri()]
        assert window.get_log("browser") == []
        assert window.title == "NIRISS backgrounds, compared"
        broken = "return [...document.images].filter(i => !i.complete || !i.naturalWidth).length"
        assert window.execute_script(broken) == 0
        assert window.execute_script("return document.images.length") > 40
        assert window.execute_script("return [...document.images].every(i => i.alt)")


def test_names_and_reasons_are_shown_as_they_are(page):
    assert SPITEFUL.removesuffix("_nis_rate.fits") in column(page, "GR150C-F115W", "exposure")
    assert REASON in column(page, "GR150C-F115W", "reason")
    assert NOTE in page.find_element("id", "GR150R-F115W").text
    assert not page.find_elements("css selector", "table i, table script, .notes b, td b, .path b")


def test_a_click_on_a_heading_sorts_numbers_and_turns_the_order(page):
    heading = button(page, "GR150C-F115W", "level, DN/s")
    heading.click()
    levels = column(page, "GR150C-F115W", "level, DN/s")
    assert levels[-1] == "–"
    assert [float(level) for level in levels[:-1]] == sorted(float(x) for x in levels[:-1])
    assert levels[0] == "0.400"
    cell = heading.find_element("xpath", "..")
    assert cell.get_attribute("aria-sort") == "ascending"
    heading.click()
    assert column(page, "GR150C-F115W", "level, DN/s") == [*levels[-2::-1], "–"]
    assert cell.get_attribute("aria-sort") == "descending"
    button(page, "GR150C-F115W", "status").click()
    assert cell.get_attribute("aria-sort") is None
    # The other table is left alone.
    statuses = column(page, "GR150R-F115W", "status")
    assert statuses == ["accepted"] * 11 + ["rejected"] * 2 + ["excluded"]


def test_the_keyboard_alone_searches_and_sorts(page):
    from selenium.webdriver.common.keys import Keys

    search = page.find_element("css selector", "#GR150C-F115W-search input")
    search.send_keys(Keys.TAB, Keys.NULL)
    for _ in range(10):
        active = page.switch_to.active_element
        if active.text.startswith("status"):
            break
        active.send_keys(Keys.TAB)
    active.send_keys(Keys.SPACE)
    statuses = column(page, "GR150C-F115W", "status")
    assert statuses == sorted(statuses)
    assert len(set(statuses)) == 3
    active.send_keys(Keys.ENTER)
    assert column(page, "GR150C-F115W", "status") == statuses[::-1]


def test_the_search_counts_what_it_finds(page):
    search = page.find_element("css selector", "#GR150C-F115W-search input")
    count = page.find_element("css selector", "#GR150C-F115W-search output")
    assert count.text == "13 of 13 exposures"
    search.send_keys("rejected SCATTERED")
    assert count.text == "1 of 13 exposures"
    assert column(page, "GR150C-F115W", "reason") == ["scattered light"]
    assert len(column(page, "GR150R-F115W", "reason")) == 14
    search.send_keys("nowhere")
    assert count.text == "0 of 13 exposures"
    search.clear()
    search.send_keys(" ")
    assert count.text == "13 of 13 exposures"


LAPTOP = {"width": 1280, "height": 800, "deviceScaleFactor": 1, "mobile": False}
LANDSCAPE = 1032  # px; the width of an A4 page between its margins
IN_VIEW = """
const place = document.querySelector(":target").getBoundingClientRect();
const bar = document.querySelector("nav").getBoundingClientRect().bottom;
return place.top >= bar && place.bottom <= innerHeight;
"""


@pytest.mark.parametrize("name", ["jw90001001001_02101_00001", SPITEFUL[: -len("_nis_rate.fits")]])
def test_a_row_leads_to_its_thumbnail_and_back(page, name):
    page.find_element("id", "GR150C-F115W-exposures").find_element("link text", name).click()
    target = page.find_element("css selector", ":target")
    assert target.tag_name == "figure"
    assert page.execute_script(IN_VIEW)
    target.find_element("tag name", "a").click()
    target = page.find_element("css selector", ":target")
    assert target.tag_name == "tr"
    assert name in target.text
    assert page.execute_script(IN_VIEW)


def enlarged(page):
    """The caption of the picture that is enlarged, and its width; None if there is none."""
    found = page.find_elements("css selector", "dialog[open]")
    if not found:
        return None
    (image,) = found[0].find_elements("tag name", "img")
    return found[0].find_element("tag name", "p").text, image.size["width"]


def test_a_click_enlarges_a_picture_and_another_closes_it(page):
    for words in ("The finished background, flat field out.", "jw90000001001_02101_00000\n"):
        (small,) = (
            figure.find_element("tag name", "img")
            for figure in page.find_elements("css selector", "#GR150C-F115W figure")
            if figure.text.startswith(words)
        )
        before = small.size["width"]
        small.click()
        caption, width = enlarged(page)
        assert f"{caption}\n".startswith(words)
        assert width > 1.5 * before
        page.find_element("css selector", "dialog img").click()
        assert enlarged(page) is None
        assert small.size["width"] == before


def test_pictures_are_enlarged_by_the_keyboard_alone(page):
    from selenium.webdriver.common.keys import Keys

    first = page.find_element("css selector", ".sheet .enlarge")
    first.send_keys(Keys.ENTER)
    captions = [enlarged(page)[0]]
    for key in (Keys.ARROW_RIGHT, Keys.ARROW_RIGHT, Keys.ARROW_LEFT, Keys.ARROW_LEFT):
        page.switch_to.active_element.send_keys(key)
        captions.append(enlarged(page)[0])
    assert captions[0] == captions[4] != captions[1] == captions[3]
    assert len(set(captions)) == 3
    page.switch_to.active_element.send_keys(Keys.ESCAPE)
    assert enlarged(page) is None
    assert page.switch_to.active_element == first
    first.send_keys(Keys.SPACE)
    page.switch_to.active_element.send_keys(Keys.ENTER)  # on the button that closes
    assert enlarged(page) is None


def test_before_and_after_are_large_and_one_key_leads_from_one_to_the_other(page):
    from selenium.webdriver.common.keys import Keys

    buttons = page.find_elements("css selector", "#GR150C-F115W-examples ~ .plates .enlarge")
    sizes = [x.find_element("tag name", "img").rect for x in buttons]
    assert len(sizes) == 4
    assert all(size["width"] > 500 for size in sizes)
    assert sizes[0]["y"] == sizes[1]["y"] < sizes[2]["y"] == sizes[3]["y"]
    buttons[2].send_keys(Keys.ENTER)
    captions = [enlarged(page)]
    page.switch_to.active_element.send_keys(Keys.ARROW_RIGHT)
    captions.append(enlarged(page))
    assert [caption.partition(":")[0] for caption, _ in captions] == [
        "Worst exposure, before",
        "Worst exposure, after, out of sample",
    ]
    assert captions[0][1] == captions[1][1] > sizes[2]["width"]
    page.switch_to.active_element.send_keys(Keys.ESCAPE)
    assert page.switch_to.active_element == buttons[2]


def test_no_column_is_lost_on_a_laptop(page):
    boxes = page.find_elements("css selector", ".box, .exposures-box")
    assert len(boxes) == 9
    for box in boxes:
        beyond = "return arguments[0].scrollWidth - arguments[0].clientWidth"
        assert page.execute_script(beyond, box) <= 0, box.get_attribute("aria-label")


def test_on_a_phone_the_key_figures_are_seen_and_only_boxes_scroll_sideways(page):
    screen = {"width": 390, "height": 844, "deviceScaleFactor": 2, "mobile": True}
    page.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", screen)
    try:
        widths = "return [document.documentElement.scrollWidth, innerWidth]"
        assert page.execute_script(widths) == [390, 390]
        cells = page.find_elements("css selector", ".summary td.n, .residuals td.key")
        assert len(cells) == 2 * (11 + 6) + 2
        for cell in cells:
            assert cell.is_displayed()
            assert cell.rect["x"] + cell.rect["width"] <= 390
        labels = "return getComputedStyle(arguments[0], '::before').content"
        assert page.execute_script(labels, cells[0]) == '"RMS, new, %"'
        selector = "#GR150C-F115W-examples ~ .plates img"
        before, after, *_ = (x.rect for x in page.find_elements("css selector", selector))
        assert before["width"] == after["width"] > 340
        assert before["y"] + before["height"] < after["y"]
    finally:
        page.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", LAPTOP)


def test_on_paper_everything_is_there_but_the_controls(page):
    page.find_element("css selector", "#GR150C-F115W-search input").send_keys("nowhere")
    page.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "print"})
    paper = {"width": LANDSCAPE, "height": 703, "deviceScaleFactor": 1, "mobile": False}
    page.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", paper)
    try:
        assert len(column(page, "GR150C-F115W", "exposure")) == 13
        box = page.find_element("css selector", ".exposures-box")
        assert page.execute_script("return arguments[0].scrollHeight", box) <= box.size["height"]
        assert not page.find_element("css selector", ".search").is_displayed()
        assert not page.find_element("tag name", "nav").is_displayed()
        summary = page.find_element("css selector", ".summary")
        assert summary.rect["y"] + summary.rect["height"] < 1000  # px; an A4 page has 1122
        assert page.find_element("css selector", "h2").text == "Summary"
        assert page.find_element("css selector", ".exposures").rect["width"] <= LANDSCAPE
        selector = "#GR150C-F115W-examples ~ .plates img"
        before, after, *_ = (x.rect for x in page.find_elements("css selector", selector))
        assert before["y"] == after["y"]
        assert after["x"] + after["width"] <= LANDSCAPE
    finally:
        page.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": ""})
        page.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", LAPTOP)


def test_without_javascript_all_is_there_and_no_control_is_dead(written):
    with open_browser(scripts=False) as window:
        window.get(written.as_uri())
        rows = window.find_elements("css selector", ".exposures tbody tr")
        assert len(rows) == 27
        assert all(row.is_displayed() for row in rows)
        assert not window.find_elements("css selector", "button")
        assert not any(x.is_displayed() for x in window.find_elements("tag name", "input"))
