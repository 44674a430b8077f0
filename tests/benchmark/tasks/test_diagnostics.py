# SPDX-License-Identifier: Apache-2.0
"""What a headline depends on, on worlds whose answer is known."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from voxelboard.benchmark.protocol import Protocol
from voxelboard.benchmark.statistics.permutation import exceedance_p
from voxelboard.benchmark.statistics.scores import BlockStatistics
from voxelboard.benchmark.tasks.base import CellResult
from voxelboard.benchmark.tasks.canaries import time_only_features
from voxelboard.benchmark.tasks.cells import unique_fve_influence
from voxelboard.benchmark.tasks.cohort_scores import ModelFeatures
from voxelboard.benchmark.tasks.diagnostics import (
    Beside,
    _restrict,
    _with_less_training,
    effective_rank,
    without_deviation,
)
from voxelboard.benchmark.tasks.narrative import Narrative
from voxelboard.benchmark.tasks.preparation import cohorts, rows_of
from voxelboard.benchmark.tasks.scoring import roi_influence, summarise

World = Any
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def light(quick: Protocol) -> Protocol:
    return replace(quick, diagnostics=replace(quick.diagnostics, n_permutations=199, capacity_components=4))


def layered(world: World, q: float = 0.6, width: int = 0) -> dict[str, np.ndarray]:
    """Two layers, noise and the driving features; ``width`` more columns of noise."""
    rng = np.random.default_rng(3)
    features = {}
    for name, true in world.features.items():
        noise = rng.standard_normal((2, len(true), true.shape[1] + width))
        noise[1, :, : true.shape[1]] = np.sqrt(q) * true + np.sqrt(1 - q) * noise[1, :, : true.shape[1]]
        features[name] = noise.astype(np.float32)
    return features


def score(world: World, model: ModelFeatures, protocol: Protocol, subjects: tuple[str, ...]) -> dict[str, CellResult]:
    return {cell.subject: cell for cell in Narrative().run(world, subjects, model, protocol, CPU)}


def value(cell: CellResult, name: str) -> float:
    found = cell.scores[name].estimate
    assert found is not None, cell.scores[name].reason
    return found


def test_effective_rank_of_known_spectra() -> None:
    basis = np.linalg.qr(np.random.default_rng(0).standard_normal((50, 8)))[0]
    assert effective_rank(basis) == pytest.approx(8)
    assert effective_rank(basis[:, :1] @ np.ones((1, 30))) == pytest.approx(1)
    scaled = basis * np.sqrt([4.0, 1, 1, 0, 0, 0, 0, 0])
    assert effective_rank(scaled) == pytest.approx(36 / 18)
    assert effective_rank(scaled.T) == pytest.approx(36 / 18)  # the smaller Gram is used
    assert effective_rank(np.zeros((4, 3))) == 0.0


def test_no_deviation_changes_nothing_and_one_is_taken_off() -> None:
    features = {"a": np.arange(12, dtype=np.float32).reshape(4, 3)}
    np.testing.assert_array_equal(without_deviation(features, np.zeros((5, 3), np.float32), 0)["a"], features["a"])
    taken = without_deviation(features, np.full((5, 3), 0.25, np.float32), 0)["a"]
    np.testing.assert_array_equal(taken, features["a"] - np.float32(0.25))


@pytest.fixture(scope="module")
def diagnosed(world: Callable[..., World], light: Protocol) -> tuple[World, dict[str, CellResult]]:
    sim = world(noise=0.7)
    static = {name: table[:, :3].astype(np.float32) for name, table in sim.features.items()}
    deviation = np.zeros((2, 7, 6), np.float32)
    return sim, score(sim, ModelFeatures(layered(sim), beside=Beside(static, deviation)), light, ("s0", "s1"))


def test_the_main_layer_is_where_the_signal_is(diagnosed: tuple[World, dict[str, CellResult]]) -> None:
    _, cells = diagnosed
    for cell in cells.values():
        assert cell.checks.main_layer == 1
        assert cell.checks.effective_rank == pytest.approx(6, abs=0.3)  # six independent columns
        assert cell.checks.receipt_score_effect == 0.0  # measured on deviations of exactly 0
        profile = np.mean([cell.layers[roi].test[1].estimate for roi in ("A", "B")])
        assert value(cell, "train100_unique") == pytest.approx(profile, abs=1e-12)


def test_less_data_less_width_and_a_wrong_time_score_less(diagnosed: tuple[World, dict[str, CellResult]]) -> None:
    _, cells = diagnosed
    means = {name: np.mean([value(cell, name) for cell in cells.values()]) for name in cells["s0"].scores}
    assert means["train50_unique"] < means["train100_unique"]
    assert means["capacity_unique"] < means["train100_unique"] - 0.05  # 4 of 6 independent columns
    assert abs(means["shifted_unique"]) < 0.12
    # half of the driving columns are taken out: at most the root of the other half is left
    assert means["static_unique"] < 0.85 * means["train100_unique"]
    assert means["static_unique"] > 0.2


def test_a_narrow_model_keeps_its_score_at_equal_width(world: Callable[..., World], quick: Protocol) -> None:
    """50 components of 6 columns are a rotation of them, which ridge on unscaled components cannot tell."""
    sim = world(noise=0.7)
    cell = score(sim, ModelFeatures(layered(sim), beside=Beside()), quick, ("s0",))["s0"]
    assert cell.checks.capacity_components == 6
    assert value(cell, "capacity_unique") == pytest.approx(value(cell, "train100_unique"), abs=1e-6)
    assert cell.scores["static_unique"].estimate is None
    assert "no table of static" in (cell.scores["static_unique"].reason or "")


def test_a_subject_is_diagnosed_the_same_alone_and_in_company(
    diagnosed: tuple[World, dict[str, CellResult]], light: Protocol
) -> None:
    sim, together = diagnosed
    static = {name: table[:, :3].astype(np.float32) for name, table in sim.features.items()}
    model = ModelFeatures(layered(sim), beside=Beside(static, np.zeros((2, 7, 6), np.float32)))
    alone = score(sim, model, light, ("s1",))["s1"]
    assert alone.scores == together["s1"].scores
    assert alone.checks == together["s1"].checks
    for name, array in alone.arrays.items():
        np.testing.assert_array_equal(array, together["s1"].arrays[name])


def test_static_vectors_taken_out_of_themselves_leave_nothing(world: Callable[..., World], quick: Protocol) -> None:
    sim = world(noise=0.7)
    static = {name: table.astype(np.float32) for name, table in sim.features.items()}
    rng = np.random.default_rng(8)
    mixing = np.random.default_rng(9).standard_normal((6, 8))
    own = {name: (table @ mixing)[None].astype(np.float32) for name, table in static.items()}
    cell = score(sim, ModelFeatures(own, beside=Beside(static)), quick, ("s0",))["s0"]
    assert value(cell, "train100_unique") > 0.7
    assert value(cell, "static_unique") == 0.0
    # a few columns of noise do not bring it back
    padded = {
        name: np.concatenate([table[0], rng.standard_normal((len(table[0]), 4))], axis=1)[None].astype(np.float32)
        for name, table in own.items()
    }
    cell = score(sim, ModelFeatures(padded, beside=Beside(static)), quick, ("s0",))["s0"]
    assert value(cell, "train100_unique") > 0.7
    assert abs(value(cell, "static_unique")) < 0.2


def test_shuffled_trs_let_the_time_alone_score(world: Callable[..., World], light: Protocol) -> None:
    """E3: the time-only feature gains everything from shuffled TRs, on a brain of noise too."""
    sim = world()
    time = {name: table[None].astype(np.float32) for name, table in time_only_features(sim.stories, 1.8).items()}
    own = score(sim, ModelFeatures(time, beside=Beside()), light, ("s0",))["s0"]
    assert own.checks.shuffled_gap_noise is not None
    assert own.checks.shuffled_gap_noise > 0.2
    true = score(sim, ModelFeatures(layered(sim), beside=Beside()), light, ("s0",))["s0"]
    assert true.checks.shuffled_gap_noise is not None
    assert abs(true.checks.shuffled_gap_noise) < 0.05  # white features have no time to leak


def test_whole_segments_are_left_out_of_training(world: Callable[..., World], light: Protocol) -> None:
    (cohort,) = cohorts(world(), ("s0",), light)
    (fold,) = cohort.folds
    smaller = _with_less_training(cohort, 0.5, light)
    assert smaller is not None
    (part,) = smaller.folds
    assert len(part.train) == 2
    rows = rows_of(fold.train[0], light.design)
    n = rows.stop - rows.start
    kept = [fold.train.index(segment) for segment in part.train]
    np.testing.assert_array_equal(part.responses, np.concatenate([fold.responses[i * n : (i + 1) * n] for i in kept]))
    assert len(np.unique(part.inner_folds)) == 2
    assert _with_less_training(cohort, 1.0, light) is None
    assert len(_restrict(fold, [0, 1, 2], light).responses) == 3 * n


def test_chance_is_told_from_prediction(diagnosed: tuple[World, dict[str, CellResult]], light: Protocol) -> None:
    _, cells = diagnosed
    cell = cells["s0"]
    n_draws = light.diagnostics.n_permutations
    assert cell.scores["unique"].p == 1 / (1 + n_draws)
    p, q = cell.arrays["voxel_p__unique"], cell.arrays["voxel_q__unique"]
    driven = cell.arrays["voxel_roi"] != "silent"
    assert (q[driven] <= 0.05).mean() > 0.8
    assert (q[~driven] > 0.05).all()
    assert p.min() == pytest.approx(1 / (1 + n_draws))
    assert cell.checks.significant_voxels == int((q <= 0.05).sum())
    assert "gaussian tail" in cell.checks.significance
    # the null numerators that a record ships give its p again, with the denominators of its block table
    c, sizes, power = cell.arrays["stats__unique"].sum(axis=0).T
    scale = 1 / np.sqrt(sizes * power)
    null = (cell.arrays["null__unique"] * scale).sum(axis=1)
    assert exceedance_p(float((c * scale).sum()), null) == cell.scores["unique"].p
    assert null.mean() == pytest.approx(0, abs=4 * null.std() / np.sqrt(n_draws))


def test_noise_is_not_significant(world: Callable[..., World], light: Protocol) -> None:
    found = []
    for seed in range(4):
        sim = world(seed=seed)
        noise = layered(sim, q=0.0)
        found += [cell.scores["unique"].p for cell in score(sim, ModelFeatures(noise), light, ("s0", "s1")).values()]
    assert all(p is not None for p in found)
    assert np.mean([p <= 0.05 for p in found if p is not None]) <= 0.25  # 8 tests, two stimuli each shared by two


def test_rows_without_diagnostics_still_have_their_fve(world: Callable[..., World], light: Protocol) -> None:
    cell = score(world(noise=0.7), ModelFeatures(layered(world(noise=0.7))), light, ("s0",))["s0"]
    assert cell.checks.main_layer is None
    assert "capacity_unique" not in cell.scores
    assert value(cell, "unique_fve") == pytest.approx(
        value(cell, "normalised") ** 2, abs=0.1
    )  # confounds drive nothing


def test_what_a_record_ships_gives_its_scores_again_to_the_byte(
    diagnosed: tuple[World, dict[str, CellResult]], light: Protocol
) -> None:
    """Re-aggregation: the tables of a record, without any prediction, give its estimates, intervals and all."""
    policy = light.score
    for cell in diagnosed[1].values():
        rois = tuple(cell.arrays["rois"].tolist())
        tables = {}
        for name, array in cell.arrays.items():
            if name.startswith("stats__"):
                c, q, s = np.moveaxis(array, -1, 0)
                tables[name.removeprefix("stats__")] = BlockStatistics(
                    c.copy(), q.copy(), s.copy(), cell.arrays["block_segment"], int(cell.arrays["block_trs"])
                )
        rows = {"unique": "unique", "normalised": "raw", "floor": "floor", "shifted_unique": "shifted_unique"}
        for name, row in rows.items():
            stored = cell.scores[name]
            again, by_roi = summarise(
                roi_influence(tables[row], policy), rois, stored.estimator, stored.unit, policy.confidence
            )
            assert replace(again, p=None) == replace(stored, p=None)
            for roi in rois:
                assert replace(by_roi[roi], p=None) == replace(cell.by_roi[roi][name], p=None)
        fve = unique_fve_influence(tables["joint_calibrated"], tables["floor_calibrated"], policy)
        stored = cell.scores["unique_fve"]
        assert summarise(fve, rois, stored.estimator, stored.unit, policy.confidence)[0] == stored


def test_a_model_made_of_confounds_adds_nothing_to_them(world: Callable[..., World], light: Protocol) -> None:
    sim = world(noise=0.7)
    columns = {name: np.bincount(story.word_trs, minlength=story.n_trs) for name, story in sim.stories.items()}
    rate = {name: table[None, :, None].astype(np.float32) for name, table in columns.items()}
    cell = score(sim, ModelFeatures(rate), light, ("s0",))["s0"]
    assert value(cell, "unique_fve") == 0.0
    assert value(cell, "joint_r") == pytest.approx(value(cell, "floor_r"), abs=1e-6)
