# SPDX-License-Identifier: Apache-2.0
"""Paired comparison of two submissions."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from voxelboard.benchmark.errors import DataError, UserError
from voxelboard.leaderboard.compare import compare
from voxelboard.leaderboard.compare_voxels import compare_voxels
from voxelboard.runners.cli import app


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
    assert there.overall.probability_better == pytest.approx(1 - back.overall.probability_better)
    (large,) = compare(demo_results, "acme/large", "lab/tiny").columns
    assert large.overall.probability_better > 0.999
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


@pytest.fixture
def by_voxel(plant: Any) -> Path:
    """Two equal models, a better one, and one whose records are older."""
    stored = replace(plant, voxel_blocks=True)
    for name, score in (("a/good", 0.30), ("a/fair", 0.15), ("b/fair", 0.15)):
        stored.submission(name, score, subjects=("sub-01", "sub-02"))
    plant.submission("b/older", 0.15, subjects=("sub-01", "sub-02"))
    results: Path = plant.results
    return results


def test_voxels_that_differ_are_found_and_equal_ones_are_not(by_voxel: Path) -> None:
    first, second = compare_voxels(by_voxel, "a/good", "a/fair")
    assert [first.subject, second.subject] == ["sub-01", "sub-02"]
    voxels, better, worse = first.counts()["all"]
    assert (voxels, worse) == (60, 0)
    assert better >= 55
    assert first.counts()["AC"][0] == 10
    for found in compare_voxels(by_voxel, "a/fair", "b/fair"):
        assert found.counts()["all"][1:] == (0, 0)


def test_the_command_counts_voxels_and_writes_them(by_voxel: Path, tmp_path: Path) -> None:
    table = tmp_path / "voxels.csv"
    line = ["compare", "a/good", "a/fair", "--voxels", "--csv", str(table), "-o", str(by_voxel)]
    result = CliRunner().invoke(app, line, env={"COLUMNS": "200"})
    assert result.exit_code == 0, result.output
    assert "a/good better" in result.output
    assert "sign flips of 16 blocks" in result.output
    lines = [line.split() for line in result.output.splitlines()]
    (region,) = (line for line in lines if "AC" in line and line[-3:-2] == ["20"])  # both subjects together
    assert int(region[-2]) >= 18
    assert [line[-3] for line in lines if line[-4:-3] in (["sub-01"], ["sub-02"])] == ["60", "60"]
    head, *rows = table.read_text().splitlines()
    assert head == "task,dataset,track,subject,voxel,region,difference_r,p,q"
    assert len(rows) == 120
    assert rows[0].startswith("narrative,simulated-ci,fixed,sub-01,0,AC,0.1")


def test_records_without_blocks_and_wrong_flags_are_explained(by_voxel: Path) -> None:
    with pytest.raises(DataError, match="holds no blocks of voxels") as raised:
        list(compare_voxels(by_voxel, "a/good", "b/older"))
    assert "voxelboard run -t narrative --data simulated-ci -m b/older --fresh" in str(raised.value.hint)
    with pytest.raises(UserError, match="--csv is where voxels are written"):
        CliRunner().invoke(
            app, ["compare", "a/good", "a/fair", "--csv", "x.csv", "-o", str(by_voxel)], catch_exceptions=False
        )
