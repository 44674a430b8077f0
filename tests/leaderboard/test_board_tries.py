# SPDX-License-Identifier: Apache-2.0
"""Many submissions of one team: its best has to lead by more than many tries give."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from voxelboard.benchmark.statistics.adaptivity import best_of_nulls, ladder_margin
from voxelboard.leaderboard.aggregate import aggregate
from voxelboard.leaderboard.board import Row
from voxelboard.leaderboard.pages.facts import tries_text
from voxelboard.leaderboard.render import render


def rows(results: Path) -> dict[str, Row]:
    (board,) = aggregate(results)
    return {row.entry.submission: row for row in board.tables[0].rows}


@pytest.fixture
def many(plant: Any) -> Path:
    """A team of twelve equal entries, one of two that differ, one of a single entry; and a ruler."""
    for k in range(12):
        plant.submission(f"many/try{k}", 0.2, seed=100 + k)
    plant.submission("two/good", 0.3)
    plant.submission("two/poor", 0.1)
    plant.submission("one/only", 0.25)
    plant.ruler("static", 0.05)
    results: Path = plant.results
    return results


def test_the_best_of_many_equal_tries_does_not_count_as_better(many: Path) -> None:
    found = rows(many)
    mine = [row for name, row in found.items() if name.startswith("many/")]
    (best,) = [row for row in mine if row.tries.lead is not None]
    assert best.headline.estimate == max(row.headline.estimate for row in mine)
    assert best.tries.n == 12
    assert best.tries.by_chance == best_of_nulls(12)
    assert best.tries.lead.estimate > 0
    assert best.tries.margin == ladder_margin(best.tries.lead.se, 12, df=best.tries.lead.df)
    assert not best.tries.counts
    assert "does not count as better" in tries_text(best)
    others = [row for row in mine if row is not best]
    assert {tries_text(row) for row in others} == {"One of 12 entries of many in this table, and not its best."}


def test_a_real_step_counts_and_single_entries_say_nothing(many: Path) -> None:
    found = rows(many)
    good = found["two/good"]
    assert good.tries.counts
    assert good.tries.next_best == found["two/poor"].entry
    assert "it counts as better" in tries_text(good)
    assert tries_text(found["one/only"]) == ""
    assert found["voxelboard/static"].tries is None


def test_ranks_do_not_depend_on_teams(many: Path, plant: Any, tmp_path: Path) -> None:
    """The ladder is told beside the ranks, which the tests between all pairs already hold back."""
    apart = replace(plant, results=tmp_path / "apart")
    for k in range(12):
        apart.submission(f"team{k}/try{k}", 0.2, seed=100 + k)
    ranks = {row.entry.submission[-5:]: row.rank.low for row in rows(apart.results).values()}
    assert set(ranks.values()) == {1}


def test_the_page_of_a_model_and_the_data_say_it(many: Path, tmp_path: Path) -> None:
    render(many, tmp_path / "board")
    pages = "".join(page.read_text() for page in (tmp_path / "board").rglob("models/*.html"))
    assert "would have to exceed" in pages
    data = next((tmp_path / "board").rglob("board.json")).read_text()
    assert '"by_chance"' in data
