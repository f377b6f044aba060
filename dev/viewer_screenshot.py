"""Take the pictures of the viewer that the documentation shows.

Usage: ``python dev/viewer_screenshot.py`` with Chromium on the path; it runs the demo in a folder of its own.
"""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

from playwright.sync_api import Page, sync_playwright

from flowmaps.demo.run import DemoOptions, Progress, RunningDemo, running_demo

IMAGES = Path(__file__).resolve().parent.parent / "docs" / "images"


def main() -> None:
    IMAGES.mkdir(parents=True, exist_ok=True)
    program = shutil.which("chromium")
    with tempfile.TemporaryDirectory(dir="/var/tmp") as folder:
        Path(folder).chmod(0o755)
        options = DemoOptions(None, Path(folder), install=True)
        with running_demo(options, Progress(print, lambda *_: None)) as demo, sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path=program, args=["--no-sandbox", "--disable-gpu"])
            page = browser.new_page(viewport={"width": 1280, "height": 800})
            make_map(page, demo)
            page.screenshot(path=IMAGES / "viewer.png")
            page.close()
            page = browser.new_page(viewport={"width": 390, "height": 800}, has_touch=True)
            page.goto(demo.map_url)
            page.wait_for_timeout(4000)
            page.screenshot(path=IMAGES / "viewer-phone.png")
            browser.close()


def make_map(page: Page, demo: RunningDemo) -> None:
    """Make a map by the form, and click on a point in the middle of it."""
    page.goto(f"{demo.url}/viewer/")
    page.fill("#client-secret", demo.credentials.client_secret)
    page.click("#go")
    page.wait_for_selector(".points img.leaflet-tile-loaded")
    page.wait_for_timeout(3000)
    box = page.locator("#map").bounding_box()
    if box is None:
        raise RuntimeError("the page has no map")
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    for step in range(200):
        # Outwards from the middle until a point is hit.
        page.mouse.click(x + step % 20 * 7, y + step // 20 * 9)
        page.wait_for_timeout(120)
        if page.locator("#feature").is_visible():
            break
    page.wait_for_timeout(500)


if __name__ == "__main__":
    main()
