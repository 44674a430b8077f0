# SPDX-License-Identifier: Apache-2.0
"""What is lost under a condition: paired over blocks and subjects by the column's gate, and shown on the task's page."""

from pathlib import Path

import numpy as np
import pytest
from planted_records import Plant

from voxelboard.benchmark.errors import DataError
from voxelboard.benchmark.records import Estimate, Facet, read_record, read_statistics, write_record
from voxelboard.benchmark.statistics.intervals import Interval
from voxelboard.benchmark.statistics.scores import BlockStatistics, coarsen
from voxelboard.leaderboard.aggregate import aggregate
from voxelboard.leaderboard.board import Row, Table
from voxelboard.leaderboard.pages.conditions import conditions_view
from voxelboard.leaderboard.render import render

LEFT = {"noun": 0.7, "random-noun": 0.8, "backward": 1.0}  # share of the covariance that is left
SAID = Estimate(estimate=0.5, standard_error=0.2, low=0.1, high=0.9, estimator="own", n=8, unit="H")


def with_conditions(path: Path, shares: dict[str, float], *, stored: bool = True) -> None:
    """The record with conditions that leave a share of the intact covariance in every block."""
    record = read_record(path)
    arrays = dict(read_statistics(path, record))
    c, q, s = np.moveaxis(arrays["stats__unique"], -1, 0)
    unique = coarsen(BlockStatistics(c, q, s, arrays["block_segment"], 5), 15)
    if stored:
        tables = {f"condition_stats__{name}": np.stack([x * unique.c, unique.q], axis=-1) for name, x in shares.items()}
        arrays.update(tables)
    facets = []
    for name in shares:
        scores = {"unique": SAID, "delta": SAID, **({"beyond_control": SAID} if f"random-{name}" in shares else {})}
        facets += [Facet(axis="condition", value=name, roi=roi, scores=scores) for roi in (None, "V1")]
    write_record(path, record.model_copy(update={"facets": tuple(facets)}), arrays)


def table_of(plant: Plant) -> Table:
    (board,) = aggregate(plant.results)
    (table,) = board.tables
    return table


@pytest.fixture
def ablated(tmp_path: Path) -> Plant:
    return Plant(tmp_path / "results", task="ablation", kind="real", dataset="made-up")


def overall(row: Row, name: str, score: str) -> Interval:
    (facet,) = [facet for facet in row.facets if (facet.value, facet.roi) == (name, None)]
    found = facet.scores[score]
    assert isinstance(found, Interval)
    return found


def test_deltas_have_the_intervals_of_paired_differences(ablated: Plant) -> None:
    for path in ablated.submission("lab/model", 0.3):
        with_conditions(path, LEFT)
    (row,) = table_of(ablated).ranked
    headline = row.headline
    assert isinstance(headline, Interval)
    for name, score, share in (("noun", "delta", 0.3), ("noun", "beyond_control", 0.1), ("noun", "unique", 0.7)):
        found = overall(row, name, score)
        expected = [share * value for value in (headline.estimate, headline.low, headline.high)]
        assert [found.estimate, found.low, found.high] == pytest.approx(expected, rel=1e-9)
    assert overall(row, "backward", "delta").estimate == 0.0
    (region,) = [facet for facet in row.facets if (facet.value, facet.roi) == ("noun", "V1")]
    assert getattr(region.scores["delta"], "estimate", None) == 0.5, "regions are those of the records"


def test_records_without_the_sums_show_what_they_say(ablated: Plant) -> None:
    for path in ablated.submission("lab/model", 0.3):
        with_conditions(path, LEFT, stored=False)
    (row,) = table_of(ablated).ranked
    assert overall(row, "noun", "delta").estimate == 0.5


def test_the_page_of_the_task_says_what_is_lost(ablated: Plant, tmp_path: Path) -> None:
    for path in ablated.submission("lab/model", 0.3):
        with_conditions(path, LEFT)
    for path in ablated.ruler("constant", 0.0):
        with_conditions(path, dict.fromkeys(LEFT, 1.0))
    view = conditions_view(table_of(ablated))
    assert view is not None
    assert view["models"] == ["model"], "a row that loses nothing at all is not shown"
    (noun, control, backward) = view["rows"]
    assert (noun["name"], noun["reads"]) == ("noun", "nouns as NNOUN")
    ((delta, beyond),) = noun["cells"]
    assert delta[2]
    assert float(delta[0]) == pytest.approx(3 * float(beyond[0]), abs=0.002)
    assert control["cells"][0][1] is None
    assert backward["cells"][0][0] == ("0.000", "[0.000, 0.000]", False)
    render(ablated.results, tmp_path / "board")
    (page,) = (tmp_path / "board" / "tasks").glob("ablation*.html")
    text = page.read_text(encoding="utf-8")
    assert "What is lost" in text
    assert delta[0] in text


def test_no_section_without_conditions(plant: Plant) -> None:
    plant.submission("lab/model", 0.3)
    assert conditions_view(table_of(plant)) is None


def test_sums_of_another_shape_are_no_score(ablated: Plant) -> None:
    paths = ablated.submission("lab/model", 0.3)
    for path in paths:
        with_conditions(path, LEFT)
    record = read_record(paths[0])
    arrays = dict(read_statistics(paths[0], record))
    arrays["condition_stats__noun"] = arrays["condition_stats__noun"][:-1]
    write_record(paths[0], record, arrays)
    with pytest.raises(DataError, match="condition_stats__"):
        aggregate(ablated.results)
