"""Take a picture of a report as a browser shows it: python -m demo.screenshot REPORT PNG."""

from __future__ import annotations

import argparse
import io
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from PIL import Image
from selenium import webdriver

WIDTH, HEIGHT = 1280, 800  # px; the window of a laptop
_BROWSERS = ("chromium", "chromium-browser", "google-chrome")


def programs() -> tuple[str, str] | None:
    """The paths of Chromium and its driver; None if one is missing."""
    found = [shutil.which(name) for name in _BROWSERS]
    driver = shutil.which("chromedriver")
    browser = next(filter(None, found), None)
    return (browser, driver) if browser and driver else None


@contextmanager
def browser(
    *, width: int = WIDTH, height: int = HEIGHT, scripts: bool = True, phone: bool = False
) -> Iterator[webdriver.Chrome]:
    """
    Start headless Chromium without a network.

    Parameters
    ----------
    width, height : int
        Of the window, px.
    scripts : bool
        Whether JavaScript runs.
    phone : bool
        Whether it behaves as a phone does, and takes the viewport that the page asks for.
    """
    program, driver = programs() or ("chromium", "chromedriver")
    options = webdriver.ChromeOptions()
    options.binary_location = program
    for argument in (
        "--headless=new",
        "--no-sandbox",  # there is none for root, e.g. in a container
        "--remote-debugging-pipe",  # with a port, which a file tells, some starts hung
        "--hide-scrollbars",
        "--host-resolver-rules=MAP * ~NOTFOUND",
        f"--window-size={width},{height}",
    ):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    if not scripts:
        blocked = {"profile.managed_default_content_settings.javascript": 2}
        options.add_experimental_option("prefs", blocked)
    window = webdriver.Chrome(options=options, service=webdriver.ChromeService(driver))
    try:
        window.execute_cdp_cmd(
            "Emulation.setDeviceMetricsOverride",
            {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": phone},
        )
        yield window
    finally:
        window.quit()


def main() -> int:
    """Write the beginning of a report as a PNG file of 256 colours."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("report", type=Path, metavar="REPORT", help="a report.html")
    parser.add_argument("picture", type=Path, metavar="PNG", help="the file to write")
    parser.add_argument("--height", type=int, default=2190, help="of the page, px (default: 2190)")
    options = parser.parse_args()
    if not programs():
        print(
            "Chromium and chromedriver are needed; on Debian: apt install chromium-driver",
            file=sys.stderr,
        )
        return 1
    with browser(height=options.height) as window:
        window.get(options.report.resolve().as_uri())
        picture = Image.open(io.BytesIO(window.get_screenshot_as_png())).convert("RGB")
    smaller = picture.resize((WIDTH * 3 // 4, options.height * 3 // 4), Image.Resampling.LANCZOS)
    smaller.quantize(256).save(options.picture, optimize=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
