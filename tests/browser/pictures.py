# SPDX-License-Identifier: Apache-2.0
"""Pictures of a board for a README or a paper: ``python tests/browser/pictures.py BOARD FOLDER``.

One of each kind of page, wide; the first page also in dark and on a phone. Needs Chromium and playwright. The pages are as
rendered: a board of simulated data says so on each picture.
"""

import os
import shutil
import sys
from pathlib import Path

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
FLAGS = ("--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking", "--disable-sync")
KINDS = (
    "index.html",
    "tasks/*.html",
    "models/*.html",
    "compare.html",
    "protocol.html",
    "submit.html",
    "queue.html",
    "releases.html",
    "diff.html",
    "studies.html",
    "captions.html",
)


def main(board: Path, folder: Path) -> None:
    """Write ``KIND.png`` for each kind of page that the board has."""
    from playwright.sync_api import sync_playwright

    browser = os.environ.get("VOXELBOARD_CHROMIUM") or next(filter(None, map(shutil.which, BROWSERS)), None)
    if browser is None:
        sys.exit("no Chromium here: apt-get install chromium, or set VOXELBOARD_CHROMIUM")
    if not (board / "index.html").is_file():
        sys.exit(f"{board} holds no board: voxelboard render first")
    folder.mkdir(parents=True, exist_ok=True)
    with sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=browser, args=list(FLAGS))
        for kind in KINDS:
            # of several, the largest: the one with the most to see
            pages = sorted(board.glob(kind), key=lambda path: (-path.stat().st_size, path.name))
            looks = (("", 1280, "light"), ("-dark", 1280, "dark"), ("-phone", 390, "light"))
            for suffix, width, theme in looks if kind == "index.html" else looks[:1]:
                if pages:
                    _take(
                        opened,
                        pages[0],
                        folder / f"{kind.partition('/')[0].removesuffix('.html')}{suffix}.png",
                        width,
                        theme,
                    )
        opened.close()


def _take(browser: object, page: Path, picture: Path, width: int, theme: str) -> None:
    context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=theme)  # type: ignore[attr-defined]
    tab = context.new_page()
    tab.goto(page.resolve().as_uri())
    tab.wait_for_selector("html[data-ready]", state="attached")
    tab.wait_for_timeout(800)
    tab.screenshot(path=picture)
    context.close()
    sys.stdout.write(f"{picture}\n")


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    main(Path(sys.argv[1]), Path(sys.argv[2]))
