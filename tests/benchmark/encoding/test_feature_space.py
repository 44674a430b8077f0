# SPDX-License-Identifier: Apache-2.0
"""Narrow designs, scored in feature space, against an explicit ridge on every fold and alpha."""

import numpy as np
import pytest
import scipy.linalg

from voxelboard.benchmark.encoding.designs import primal_problem
from voxelboard.benchmark.encoding.feature_space import FeatureOperators
from voxelboard.benchmark.encoding.ridge import RidgeFit, fit_ridge

N_TRAIN, N_TEST, N_COLUMNS, N_TARGETS = 120, 30, 12, 40
FOLDS = np.repeat(np.arange(4), 30)
RELATIVE = (1e-6, 1e-3, 1e-1, 1.0, 100.0)


def world(duplicate: bool = False, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    design = rng.standard_normal((N_TRAIN + N_TEST, N_COLUMNS)) * np.geomspace(1, 100, N_COLUMNS)
    if duplicate:
        design[:, 1] = design[:, 0]
    weights = rng.standard_normal((N_COLUMNS, N_TARGETS)) / np.geomspace(1, 100, N_COLUMNS)[:, None]
    responses = design[:N_TRAIN] @ weights + 3 * rng.standard_normal((N_TRAIN, N_TARGETS))
    return design[:N_TRAIN], design[N_TRAIN:], responses.astype(np.float32)


def explicit(
    train: np.ndarray, responses: np.ndarray, alpha: float, fold: int, centred: bool
) -> tuple[np.ndarray, np.ndarray]:
    """c and q of one fold by the normal equations of its other rows, float64."""
    out = fold == FOLDS
    kept, y = train[~out], responses.astype(np.float64)
    weights = scipy.linalg.solve(kept.T @ kept + alpha * np.eye(N_COLUMNS), kept.T @ y[~out], assume_a="pos")
    predictions, truth = train[out] @ weights, y[out]
    if centred:
        predictions, truth = predictions - predictions.mean(0), truth - truth.mean(0)
    return (predictions * truth).sum(0), (predictions**2).sum(0)


def fit(selection: str = "squared_error", duplicate: bool = False, **options: object) -> tuple[RidgeFit, np.ndarray]:
    train, test, responses = world(duplicate)
    problem = primal_problem(train, test)
    assert FeatureOperators.suits(N_COLUMNS, [slice(30 * f, 30 * f + 30) for f in range(4)])
    return fit_ridge(problem, responses, FOLDS, RELATIVE, selection=selection, **options), responses  # type: ignore[arg-type]


@pytest.mark.parametrize("selection", ["squared_error", "correlation"])
@pytest.mark.parametrize("duplicate", [False, True])
def test_inner_statistics_are_those_of_an_explicit_ridge(selection: str, duplicate: bool) -> None:
    found, responses = fit(selection, duplicate)
    train, _, _ = world(duplicate)
    everything = {
        (alpha, fold): explicit(train, responses, alpha, fold, selection == "correlation")
        for alpha in found.alpha_grid
        for fold in range(4)
    }
    power = np.stack([(responses[fold == FOLDS].astype(np.float64) ** 2).sum(0) for fold in range(4)])
    if selection == "correlation":
        power -= np.stack([30 * responses[fold == FOLDS].mean(0, dtype=np.float64) ** 2 for fold in range(4)])
    np.testing.assert_allclose(found.inner.y2, power, rtol=1e-6)
    gains = np.zeros((len(RELATIVE), 4, N_TARGETS))
    for (alpha, fold), (c, q) in everything.items():
        index = int(np.flatnonzero(found.alpha_grid == alpha)[0])
        gains[index, fold] = 2 * c - q - power[fold] if selection == "squared_error" else c / np.sqrt(q * power[fold])
    assert (gains.sum(1).argmax(0) == found.alpha_index).mean() > 0.99
    for fold in range(4):
        held_out = (gains.sum(1) - gains[:, fold]).argmax(0)
        c = np.array([everything[found.alpha_grid[a], fold][0][v] for v, a in enumerate(held_out)])
        q = np.array([everything[found.alpha_grid[a], fold][1][v] for v, a in enumerate(held_out)])
        agree = np.isclose(found.inner.c[fold], c, rtol=1e-4, atol=1e-3 * np.abs(c).max())
        assert agree.mean() > 0.97  # the rest chose a neighbouring alpha of equal score
        assert np.isclose(found.inner.q[fold], q, rtol=1e-4, atol=1e-3 * q.max()).mean() > 0.97


def test_test_predictions_are_those_of_an_explicit_ridge() -> None:
    found, responses = fit()
    train, test, _ = world()
    for v in range(N_TARGETS):
        weights = scipy.linalg.solve(
            train.T @ train + found.alphas[v] * np.eye(N_COLUMNS), train.T @ responses[:, v].astype(np.float64)
        )
        np.testing.assert_allclose(found.test_predictions[:, v], test @ weights, rtol=1e-4, atol=1e-4)


def test_any_order_and_company_of_targets_gives_the_same_bytes() -> None:
    train, test, responses = world()
    problem = primal_problem(train, test)
    together = fit_ridge(problem, responses, FOLDS, RELATIVE)
    order = np.random.default_rng(1).permutation(N_TARGETS)
    shuffled = fit_ridge(problem, responses[:, order], FOLDS, RELATIVE)
    alone = fit_ridge(problem, responses[:, :3], FOLDS, RELATIVE)
    np.testing.assert_array_equal(shuffled.test_predictions, together.test_predictions[:, order])
    np.testing.assert_array_equal(shuffled.inner.q, together.inner.q[:, order])
    np.testing.assert_array_equal(alone.inner.c, together.inner.c[:, :3])
    np.testing.assert_array_equal(alone.test_predictions, together.test_predictions[:, :3])


def test_wide_designs_keep_the_form_that_predicts_rows() -> None:
    slices = [slice(30 * f, 30 * f + 30) for f in range(4)]
    assert not FeatureOperators.suits(31, slices)
    assert not FeatureOperators.suits(0, slices)
