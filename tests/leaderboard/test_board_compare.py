# SPDX-License-Identifier: Apache-2.0
"""Paired comparison of two submissions."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from voxelboard.benchmark.errors import UserError
from voxelboard.leaderboard.compare import compare


def test_a_planted_difference_is_found_in_every_region(demo_results: Path) -> None:
    (column,) = compare(demo_results, "acme/large", "lab/tiny").columns
    assert column.overall.interval.estimate == pytest.approx(0.131, abs=0.01)
    assert column.overall.interval.low > 0
    assert column.overall.p_holm < 1e-4
    assert [roi.roi for roi in column.rois] == ["AC", "pSTS", "IFG", "AG", "PCC"]
    assert np.mean([roi.interval.estimate for roi in column.rois]) == pytest.approx(column.overall.interval.estimate)
    assert all(roi.p <= roi.p_holm for roi in column.rois)
    assert column.agreeing_subjects == 5


def test_comparison_is_antisymmetric_and_clones_do_not_differ(demo_results: Path) -> None:
    (there,) = compare(demo_results, "acme/medium", "acme/medium-clone").columns
    (back,) = compare(demo_results, "acme/medium-clone", "acme/medium").columns
    assert there.overall.interval.estimate == pytest.approx(-back.overall.interval.estimate)
    assert there.overall.p == pytest.approx(back.overall.p)
    assert there.overall.interval.low < 0 < there.overall.interval.high


def test_a_model_does_not_differ_from_itself(demo_results: Path) -> None:
    (column,) = compare(demo_results, "acme/large", "acme/large").columns
    assert (column.overall.interval.estimate, column.overall.p) == (0.0, 1.0)


def test_only_shared_subjects_are_compared(demo_results: Path) -> None:
    (column,) = compare(demo_results, "acme/large", "lab/halfway").columns
    assert column.subjects == ("sub-01", "sub-02")
    assert column.scope == "stimuli only (N=2 fixed subjects)"


def test_holm_runs_over_the_columns(plant: Any) -> None:
    for dataset in ("one", "two"):
        for name, score in (("a/x", 0.2), ("a/y", 0.195)):
            replace(plant, dataset=dataset).submission(name, score)
    result = compare(plant.results, "a/x", "a/y")
    smallest = min(result.columns, key=lambda column: column.overall.p).overall
    assert smallest.p_holm == pytest.approx(min(1.0, 2 * smallest.p))


def test_names_that_do_not_fit_are_explained(plant: Any, demo_results: Path) -> None:
    with pytest.raises(UserError, match="Did you mean 'acme/large'"):
        compare(demo_results, "acme/larg", "lab/tiny")
    with pytest.raises(UserError, match="no column holds scores of both"):
        compare(demo_results, "acme/large", "lab/huge")
    plant.submission("a/x", 0.2)
    plant.submission("a/x", 0.2, changes={"revision": "f" * 40})
    with pytest.raises(UserError, match="several revisions"):
        compare(plant.results, "a/x", "a/x")
    assert compare(plant.results, "a/x@ffff", "a/x@0123").columns[0].subjects
