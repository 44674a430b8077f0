# SPDX-License-Identifier: Apache-2.0
import numpy as np

from voxelboard.benchmark.encoding.designs import primal_problem
from voxelboard.benchmark.encoding.ridge import RidgeFit, fit_ridge
from voxelboard.benchmark.tasks.fit_checks import edge_alarms, edge_count, ratio_alarms, worst_ratio

N_TRAIN, N_SIGNAL, N_NOISE = 400, 30, 50


def fit(alphas: list[float]) -> RidgeFit:
    """Voxels of noise after voxels of which the features explain a half."""
    rng = np.random.default_rng(0)
    X = rng.standard_normal((N_TRAIN + 100, 40))
    signal = X @ rng.standard_normal((40, N_SIGNAL)) / np.sqrt(40)
    Y = np.concatenate([signal, np.zeros((len(X), N_NOISE))], axis=1) + rng.standard_normal(
        (len(X), N_SIGNAL + N_NOISE)
    )
    problem = primal_problem(X[:N_TRAIN], X[N_TRAIN:])
    return fit_ridge(problem, Y[:N_TRAIN].astype(np.float32), np.arange(N_TRAIN) // 100, alphas)


def test_predictable_voxels_at_an_end_of_the_grid_are_counted() -> None:
    wide, short = fit([1e-3, 1e-2, 1e-1, 1.0, 10.0, 1e3]), fit([1e3, 1e4, 1e5])
    people, noise = slice(N_SIGNAL), slice(N_SIGNAL, None)
    assert edge_count(wide, people) == (0, N_SIGNAL)
    assert edge_count(short, np.arange(N_SIGNAL)) == (N_SIGNAL, N_SIGNAL)
    assert edge_count(wide, noise)[1] < 10  # they take the largest alpha and are right to
    assert edge_alarms([edge_count(wide, people)]) == []
    (alarm,) = edge_alarms([edge_count(short, people), edge_count(short, people)])
    assert alarm == "alpha lies at an end of its grid for 100 % of the predictable voxels (allowed 5 %)"


def test_few_voxels_give_no_alarm_of_the_grid() -> None:
    assert edge_alarms([(10, 10), (5, 9)]) == []
    assert edge_alarms([(10, 10), (5, 10)]) != []
    assert edge_alarms([(1, 20)]) == []  # just what is allowed


def test_the_worst_ratio_is_the_farthest_from_one_either_way() -> None:
    assert worst_ratio([1.1, float("nan"), 0.5, 1.9]) == 0.5
    assert worst_ratio([float("nan")]) is None
    assert ratio_alarms(None, (0.9, 1.15), "some", "a test") == []
    assert ratio_alarms(1.0, (0.9, 1.15), "some", "a test") == []
    assert ratio_alarms(1.5, (0.9, 1.15), "some", "a test") == [
        "some features have 1.50 times the training SD on a test (allowed 0.9-1.15)"
    ]
