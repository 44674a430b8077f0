# SPDX-License-Identifier: Apache-2.0
"""One process or several: the same bytes, and the caller sees what went wrong."""

import hashlib
from dataclasses import replace
from pathlib import Path

import pytest
from planted_records import Plant

from voxelboard.leaderboard import aggregate, board_site
from voxelboard.leaderboard.parallel import for_each, n_workers
from voxelboard.leaderboard.render import render

URL = "https://example.org/board"


def digests(site: Path) -> dict[str, str]:
    """Address -> SHA-256 of every file."""
    files = sorted(path for path in site.rglob("*") if path.is_file())
    return {str(path.relative_to(site)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


@pytest.fixture
def two_tasks(plant: Plant) -> Path:
    for task in ("narrative", "captions"):
        one = replace(plant, task=task, dataset=f"simulated-{task}")
        for name, score in (("a/large", 0.2), ("a/small", 0.12), ("b/masked", 0.15)):
            one.submission(name, score)
        one.ruler("static", 0.1)
        one.failure("c/gated", "sub-01", "gated", "asks for an agreement")
    return plant.results


def test_workers_change_no_byte(two_tasks: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if n_workers() == 1:
        monkeypatch.setattr("os.sched_getaffinity", lambda _: {0, 1}, raising=False)
    alone = digests(render(two_tasks, tmp_path / "alone", site_url=URL, release="1").parent)
    monkeypatch.setattr(aggregate, "_MANY_RECORDS", 0)
    monkeypatch.setattr(board_site, "_MANY_PAGES", 0)
    for workers in (2, 3):
        monkeypatch.setattr(aggregate, "n_workers", lambda workers=workers: workers)
        monkeypatch.setattr(board_site, "n_workers", lambda workers=workers: workers)
        shared = digests(render(two_tasks, tmp_path / f"shared{workers}", site_url=URL, release="1").parent)
        assert shared == alone
    assert {"sitemap.xml", "data/board.parquet", "compare.html", "releases/1/index.html"} <= set(alone)


@pytest.mark.parametrize("workers", [1, 3])
def test_items_come_back_in_order_and_errors_reach_the_caller(workers: int) -> None:
    assert for_each(lambda index: index * index, 7, workers) == [0, 1, 4, 9, 16, 25, 36]

    def fail(index: int) -> int:
        if index == 4:
            raise KeyError(index)
        return index

    with pytest.raises(KeyError, match="4"):
        for_each(fail, 6, workers)
