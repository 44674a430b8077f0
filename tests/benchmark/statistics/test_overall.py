# SPDX-License-Identifier: Apache-2.0
"""Ranks over several tasks: equal to the ranking of one task where there is one, and calibrated where there are more."""

import numpy as np
import pytest
from numpy.typing import NDArray

from voxelboard.benchmark.errors import InvalidNumbers
from voxelboard.benchmark.statistics.intervals import two_way_interval
from voxelboard.benchmark.statistics.overall import overall_score, rank_overall, satterthwaite
from voxelboard.benchmark.statistics.ranking import rank_influence


def tables(seed: int, truth: list[float], shape: tuple[int, int], noise: float = 0.1) -> NDArray[np.float64]:
    """(n_models, n_subjects, n_blocks) with subject, block and model-by-block parts."""
    rng = np.random.default_rng(seed)
    people, blocks = rng.normal(0, 0.05, (1, shape[0], 1)), rng.normal(0, 0.2, (1, 1, shape[1]))
    own = rng.normal(0, noise, (len(truth), *shape)) + rng.normal(0, noise / 2, (len(truth), 1, shape[1]))
    result: NDArray[np.float64] = np.array(truth)[:, None, None] + people + blocks + own
    return result


@pytest.mark.parametrize("shape", [(6, 16), (3, 20)])
def test_one_task_is_ranked_as_by_itself(shape: tuple[int, int]) -> None:
    z = tables(1, [0.3, 0.28, 0.1, 0.1, 0.0], shape)
    names = [f"m{i}" for i in range(5)]
    alone, overall = rank_influence(names, z), rank_overall([z], [3.0])
    by_name = {model.name: model for model in alone.models}
    for index, name in enumerate(names):
        assert (overall.low[index], overall.high[index]) == (by_name[name].rank_low, by_name[name].rank_high)
        assert overall.scores[index] == by_name[name].score


def test_a_task_of_weight_nothing_does_not_count() -> None:
    z, other = tables(1, [0.3, 0.1], (6, 16)), tables(2, [0.0, 0.9], (5, 10))
    ours = rank_overall([z, other], [1.0, 0.0])
    assert ours.scores == rank_overall([z], [1.0]).scores
    assert ours.weights == (1.0, 0.0)


def test_variance_and_degrees_of_freedom_in_closed_form() -> None:
    one, two = tables(3, [0.2], (6, 16))[0], tables(4, [0.4], (3, 20))[0]
    a, b = two_way_interval(one), two_way_interval(two)
    found = overall_score([one, two], [0.25, 0.75])
    assert found.estimate == pytest.approx(0.25 * a.estimate + 0.75 * b.estimate)
    assert found.se == pytest.approx(np.hypot(0.25 * a.se, 0.75 * b.se))
    va, vb = (0.25 * a.se) ** 2, (0.75 * b.se) ** 2
    assert found.df == pytest.approx((va + vb) ** 2 / (va**2 / a.df + vb**2 / b.df))
    assert satterthwaite([0.0, 0.0], [4.0, 9.0]) == 4.0


def test_a_difference_too_small_for_one_task_is_found_over_three() -> None:
    parts = [tables(seed, [0.1, 0.0], (6, 16), noise=0.35) for seed in (10, 11, 12)]
    alone = [rank_overall([z], [1.0]).significant.any() for z in parts]
    assert rank_overall(parts, [1, 1, 1]).significant.any()
    assert not all(alone)


def test_equal_models_are_told_apart_at_the_nominal_rate() -> None:
    rejected = 0
    n = 600
    for seed in range(n):
        parts = [tables(1000 + 2 * seed, [0.1, 0.1], (6, 16)), tables(1001 + 2 * seed, [0.3, 0.3], (5, 20))]
        rejected += bool(rank_overall(parts, [1, 1]).significant.any())
    # 600 draws: the standard error of a rate of .05 is .009
    assert 0.02 <= rejected / n <= 0.08


def test_another_model_moves_no_score() -> None:
    z = tables(5, [0.3, 0.2, 0.1], (6, 16))
    assert rank_overall([z], [1.0]).scores[:2] == rank_overall([z[:2]], [1.0]).scores


@pytest.mark.parametrize("weights", [[0.0], [-1.0], [float("nan")]])
def test_weights_that_mean_nothing_are_refused(weights: list[float]) -> None:
    with pytest.raises(InvalidNumbers, match="weights of tasks"):
        rank_overall([tables(1, [0.1, 0.2], (6, 16))], weights)
