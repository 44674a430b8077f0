# SPDX-License-Identifier: Apache-2.0
"""A whole board from records on disk, and its first page in a browser: ``VOXELBOARD_BENCH_MODELS=500`` for the design's size.

Records hold four tasks and eight subjects. Reading, pooling and drawing are timed together, as ``voxelboard render`` does
them, on all cores and on one; that workers change no byte is asserted beside it. The first paint is that of Chromium's own
Performance interface over ``file://``, in a new browser context each time.
"""

import hashlib
import os
from pathlib import Path
from statistics import median
from typing import Any

import pytest
from planted_records import TASKS, Plant

from voxelboard.leaderboard import aggregate, board_site
from voxelboard.leaderboard.parallel import n_workers
from voxelboard.leaderboard.render import render

N_MODELS = int(os.environ.get("VOXELBOARD_BENCH_MODELS", "40"))
RESULTS = os.environ.get("VOXELBOARD_BENCH_RECORDS", "")  # an earlier run's records, to plant them once
SUBJECTS = tuple(f"sub-{k:02d}" for k in range(1, 9))
N_VISITS = 9
# not playwright's wait_for_function: it evaluates text inside of the page, which the page's own policy forbids
FIRST_PAINT = """() => new Promise(done => new PerformanceObserver(list => {
  const found = list.getEntriesByName("first-contentful-paint")[0];
  if (found) done(found.startTime);
}).observe({type: "paint", buffered: true}))"""

pytestmark = [
    pytest.mark.benchmark(group="board"),
    pytest.mark.timeout(1800),
]  # minutes at full size, planting included


@pytest.fixture(scope="module")
def records(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """``N_MODELS`` models and four rulers on four tasks and eight subjects."""
    folder = Path(RESULTS) if RESULTS else tmp_path_factory.mktemp("records")
    if RESULTS and folder.is_dir() and any(folder.iterdir()):
        return folder
    for task in TASKS:
        plant = Plant(folder, task=task, dataset=f"simulated-{task}")
        for k in range(N_MODELS):
            changes = {
                "n_parameters": 10**6 * (k + 1),
                "metadata": {"family": f"family {k % 40}", "stimulus_exposure": {task: "none"}},
            }
            name = f"org{k % 40}/model-{k:03d}"
            plant.submission(name, 0.05 + 0.0003 * k, subjects=SUBJECTS, seed=k, changes=changes)
        for ruler, value in (("oracle", 0.31), ("static", 0.102), ("constant", 0.0), ("confounds", 0.0)):
            plant.ruler(ruler, value, subjects=SUBJECTS)
    return folder


def digest(site: Path) -> str:
    """SHA-256 of all files with their addresses."""
    found = hashlib.sha256()
    for path in sorted(path for path in site.rglob("*") if path.is_file()):
        found.update(f"{path.relative_to(site)} {hashlib.sha256(path.read_bytes()).hexdigest()}\n".encode())
    return found.hexdigest()


def once(benchmark: Any, records: Path, site: Path) -> None:
    benchmark.pedantic(render, args=(records, site), rounds=1, iterations=1)
    benchmark.extra_info["models"] = N_MODELS
    benchmark.extra_info["index_bytes"] = (site / "index.html").stat().st_size


def test_render_on_all_cores(benchmark: Any, records: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    site = tmp_path_factory.mktemp("all") / "board"
    once(benchmark, records, site)
    benchmark.extra_info["workers"] = n_workers()


@pytest.mark.skipif(N_MODELS > 100, reason="one core is timed up to 100 models")
def test_render_on_one_core(
    benchmark: Any, records: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path_factory.mktemp("one")
    shared = digest(render(records, folder / "shared").parent)
    for module in (aggregate, board_site):
        monkeypatch.setattr(module, "n_workers", lambda: 1)
    once(benchmark, records, folder / "alone")
    assert digest(folder / "alone") == shared


@pytest.mark.parametrize("address", ["index.html", "tasks/narrative--simulated-narrative.html"])
def test_first_paint_from_disk(
    benchmark: Any, address: str, records: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    driver = pytest.importorskip("playwright.sync_api", reason="needs playwright: pip install playwright")
    from shutil import which

    found = os.environ.get("VOXELBOARD_CHROMIUM") or which("chromium")
    if found is None:
        pytest.skip("needs Chromium: apt-get install chromium, or set VOXELBOARD_CHROMIUM")
    page = render(records, tmp_path_factory.mktemp("paint") / "board").parent / address
    paints = []
    with driver.sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=found, args=["--no-sandbox", "--disable-gpu"])

        def visit() -> None:
            context = opened.new_context(viewport={"width": 1280, "height": 900})
            tab = context.new_page()
            tab.goto(page.as_uri())
            tab.wait_for_selector("html[data-ready]", state="attached")
            paints.append(tab.evaluate(FIRST_PAINT))
            context.close()

        visit()  # the browser's own start
        paints.clear()
        benchmark.pedantic(visit, rounds=N_VISITS, iterations=1)
        opened.close()
    benchmark.extra_info["first_contentful_paint_ms"] = round(median(paints), 1)
    benchmark.extra_info["page_bytes"] = page.stat().st_size
