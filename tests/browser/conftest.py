# SPDX-License-Identifier: Apache-2.0
"""A real browser on a real site: Chromium of the system, driven by playwright; skipped where there is none."""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from board_pages import OpenPage
from planted_records import plant_showcase

from voxelboard.leaderboard.render import render

HERE = Path(__file__).resolve().parent
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
FLAGS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)


def find_browser() -> str | None:
    """``VOXELBOARD_CHROMIUM``, or the first Chromium on the path."""
    return os.environ.get("VOXELBOARD_CHROMIUM") or next(filter(None, map(shutil.which, BROWSERS)), None)


@pytest.fixture(scope="session")
def node_modules() -> Path:
    """The folder with axe-core and html-validate, or a skip."""
    folder = Path(os.environ.get("VOXELBOARD_NODE_MODULES", HERE / "node_modules"))
    if not (folder / "axe-core").is_dir():
        pytest.skip("needs axe-core and html-validate: npm ci in tests/browser")
    return folder


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    """Headless Chromium."""
    found = find_browser()
    if found is None:
        pytest.skip("needs Chromium: apt-get install chromium, or set VOXELBOARD_CHROMIUM")
    driver = pytest.importorskip("playwright.sync_api", reason="needs playwright: pip install playwright")
    with driver.sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=found, args=list(FLAGS))
        yield opened
        opened.close()


@pytest.fixture(scope="session")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Records of four tasks with everything that can happen to a row; read only."""
    folder = tmp_path_factory.mktemp("showcase") / "results"
    plant_showcase(folder)
    return folder


@pytest.fixture(scope="session")
def site(results: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The board of those records, after a release, so that there is something to compare with."""
    output = tmp_path_factory.mktemp("site") / "board"
    render(results, output, release="2026.1")
    return output


@pytest.fixture
def open_page(browser: Any) -> Iterator[OpenPage]:
    """Opens a page and fails at the end if it threw, was refused something by its policy, or asked for the network."""
    contexts, trouble = [], []

    def open_it(path: Path, fragment: str = "", *, width: int = 1280, wait: bool = True, **options: Any) -> Any:
        context = browser.new_context(viewport={"width": width, "height": 900}, accept_downloads=True, **options)
        contexts.append(context)
        page = context.new_page()
        page.on("pageerror", lambda error: trouble.append(f"{path.name}: {error}"))
        page.on("console", lambda message: trouble.append(message.text) if message.type == "error" else None)
        page.on("dialog", lambda dialog: (trouble.append(dialog.message), dialog.dismiss()))
        page.on("request", lambda sent: None if _is_local(sent.url) else trouble.append(sent.url))
        page.goto(path.as_uri() + fragment)
        if wait and options.get("java_script_enabled", True):
            page.wait_for_selector("html[data-ready]", state="attached")
        return page

    yield open_it
    for context in contexts:
        context.close()
    assert trouble == []


def _is_local(url: str) -> bool:
    return url.startswith(("file:", "data:", "blob:"))
