# SPDX-License-Identifier: Apache-2.0
"""One gate for all models of a column: weak subjects count where the subjects together have signal."""

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from voxelboard.benchmark.errors import DataError
from voxelboard.benchmark.records import read_record, read_statistics, write_record
from voxelboard.benchmark.statistics.intervals import Interval
from voxelboard.leaderboard.aggregate import aggregate
from voxelboard.leaderboard.board import GateCount, Row, Table
from voxelboard.leaderboard.compare import compare

# The planted signal power is near 40 a block: this is positive in sum and far from reliable.
WEAK = np.where(np.arange(48) % 6 < 3, 30.0, -29.0)


def weaken(path: Path, n_ac_voxels: int = 10) -> None:
    """Take the signal of one subject's record away, as a run would have written it: without a headline."""
    record = read_record(path)
    arrays = dict(read_statistics(path, record))
    for name in [name for name in arrays if name.startswith("stats__")]:
        table = arrays[name].copy()
        table[:, :5, 2] = WEAK[:, None]
        arrays[name] = table
    arrays["voxel_roi"] = np.array(["AC"] * n_ac_voxels + ["pSTS", "IFG", "AG", "PCC", "NULL"] * 10)
    nothing = {"estimate": None, "standard_error": None, "low": None, "high": None, "reason": "below the gate"}
    scores = {**record.scores, "unique": replace(record.scores["unique"], **nothing)}
    write_record(path, record.model_copy(update={"scores": scores}), arrays)


def table_of(results: Path) -> Table:
    ((table,),) = (board.tables for board in aggregate(results))
    return table


def row_of(table: Table, name: str) -> Row:
    return next(row for row in table.rows if row.entry.submission == name)


def test_a_weak_subject_counts_in_every_model(plant: Any) -> None:
    for name, score in (("a/x", 0.2), ("a/y", 0.1)):
        weaken(plant.submission(name, score)[2])
    table = table_of(plant.results)
    assert table.subjects == ("sub-01", "sub-02", "sub-03", "sub-04", "sub-05")
    # five subjects with five ROIs of signal, NULL in none
    assert table.gate == GateCount(entries=30, scored=25, pooled=25)
    for row in table.ranked:
        assert [(roi.roi, roi.n_subjects, roi.n_pooled) for roi in row.rois] == [
            (roi, 5, 5) for roi in ("AC", "pSTS", "IFG", "AG", "PCC")
        ]
        assert [sums.pooled for sums in row.subjects[2].sums] == [True] * 5 + [False]
        assert isinstance(row.subjects[2].headline, Interval)
    (column,) = compare(plant.results, "a/x", "a/y").columns
    assert column.subjects == table.subjects
    scores = [row_of(table, name).headline for name in ("a/x", "a/y")]
    difference = [score.estimate for score in scores if isinstance(score, Interval)]
    assert column.overall.interval.estimate == pytest.approx(difference[0] - difference[1], rel=1e-12)


def test_pooled_power_is_shared_by_voxels(plant: Any) -> None:
    """statistics.md 2.2 by hand: s of the weak subject is the sum over subjects times its share of the voxels."""
    paths = plant.submission("a/x", 0.2)
    weaken(paths[2], n_ac_voxels=30)
    stats = [read_statistics(path, read_record(path))["stats__unique"].sum(axis=0) for path in paths]
    summed = sum(table[0, 2] for table in stats)
    c, q, _ = stats[2][0]
    expected = c / math.sqrt(q * summed * 30 / (30 + 4 * 10))
    (row,) = table_of(plant.results).ranked
    assert row.subjects[2].sums[0].score == pytest.approx(expected, rel=1e-12)


def test_a_model_with_some_subjects_is_judged_by_the_gate_of_all(plant: Any) -> None:
    weaken(plant.submission("a/whole", 0.2, seed=5)[2])
    (alone,) = plant.submission("a/some", 0.2, subjects=("sub-03",), seed=5)
    weaken(alone)
    table = table_of(plant.results)
    whole, some = row_of(table, "a/whole"), row_of(table, "a/some")
    assert some.state.detail == "partial 1/5 subjects, unranked"
    assert some.subjects[0].headline == whole.subjects[2].headline


def test_subjects_without_signal_in_sum_have_no_score(plant: Any) -> None:
    for path in plant.submission("a/x", 0.2, subjects=("sub-03", "sub-04")):
        weaken(path)
    table = table_of(plant.results)
    assert (table.subjects, table.gate) == ((), GateCount(12, 0, 0))
    assert row_of(table, "a/x").state.detail == "below the gate"


def test_a_trial_on_other_test_data_is_judged_by_itself(plant: Any) -> None:
    plant.submission("a/x", 0.2)
    trial = replace(plant, n_blocks=18)
    trial.submission("a/trial", 0.2, partial=True)
    table = table_of(plant.results)
    assert table.gate == GateCount(30, 25, 0)
    assert row_of(table, "a/trial").subjects[0].sums[0].pooled is False


def test_a_null_headline_that_the_statistics_contradict_is_refused(plant: Any) -> None:
    (path, *_) = plant.submission("a/x", 0.2)
    record = read_record(path)
    nothing = {"estimate": None, "standard_error": None, "low": None, "high": None, "reason": "edited away"}
    scores = {**record.scores, "unique": replace(record.scores["unique"], **nothing)}
    write_record(path, record.model_copy(update={"scores": scores}))
    with pytest.raises(DataError, match="the record says unique None"):
        aggregate(plant.results)


def test_subjects_with_other_regions_are_refused(plant: Any) -> None:
    path = plant.submission("a/x", 0.2)[1]
    record = read_record(path)
    arrays = dict(read_statistics(path, record))
    arrays["rois"] = np.array(["AC", "pSTS", "IFG", "AG", "PCC", "other"])
    arrays["voxel_roi"] = np.repeat(arrays["rois"], 10)
    write_record(path, record, arrays)
    with pytest.raises(DataError, match="different test blocks or regions"):
        aggregate(plant.results)
