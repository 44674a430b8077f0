# SPDX-License-Identifier: Apache-2.0
"""Descent on the left-out error against scikit-learn, finite differences and a long random search."""

from typing import Any

import numpy as np
import pytest
import torch
from sklearn.linear_model import Ridge

from voxelboard.benchmark.encoding.banded import BandedSearch, dirichlet_gammas
from voxelboard.benchmark.encoding.banded_columns import refit_columns, search_columns, stack_columns
from voxelboard.benchmark.encoding.banded_descent import _LeftOutError, descend_columns, refit_descended
from voxelboard.benchmark.encoding.designs import primal_problem
from voxelboard.benchmark.errors import InvalidNumbers, UserError

N, N_TEST, N_TARGETS, WIDTHS = 240, 80, 12, (6, 9, 4)
ALPHAS = np.logspace(-1, 4, 8).tolist()


class Bands:
    """Three bands; a target is driven by the first, the second, both, or none."""

    def __init__(self) -> None:
        rng = np.random.default_rng(5)
        self.designs = [rng.standard_normal((N + N_TEST, width)) for width in WIDTHS]
        Y = 2.0 * rng.standard_normal((N + N_TEST, N_TARGETS))
        for v in range(N_TARGETS):
            for b in ((0,), (1,), (0, 1), ())[v % 4]:
                Y[:, v] += self.designs[b] @ rng.standard_normal(WIDTHS[b])
        self.Y, self.Y_test = Y[:N].astype(np.float32), Y[N:]
        self.folds = rng.permutation(np.repeat(np.arange(4), N // 4))
        self.problem = stack_columns({str(b): primal_problem(x[:N], x[N:]) for b, x in enumerate(self.designs)})
        self.start = self.search(3)

    def search(self, n_draws: int) -> BandedSearch:
        return search_columns(self.problem, self.Y, self.folds, dirichlet_gammas(n_draws, 3, seed=1), ALPHAS)


@pytest.fixture(scope="module")
def bands() -> Bands:
    return Bands()


def test_error_and_predictions_are_scikit_learn_s(bands: Bands) -> None:
    found = descend_columns(bands.problem, bands.Y, bands.folds, bands.start)
    predicted = refit_descended(bands.problem, bands.Y, found)
    X, X_test = bands.problem.train.numpy(), bands.problem.test.numpy()
    for v in range(N_TARGETS):
        scale = np.repeat(np.sqrt(found.weights[v]), WIDTHS)
        y, error = bands.Y[:, v].astype(float), 0.0
        for f in range(4):
            rows = bands.folds != f
            model = Ridge(alpha=1, fit_intercept=False).fit(X[rows] * scale, y[rows])
            error += float(((y[~rows] - model.predict(X[~rows] * scale)) ** 2).sum())
        assert found.cv_scores[v] == pytest.approx(-error / N, rel=1e-9)
        whole = Ridge(alpha=1, fit_intercept=False).fit(X * scale, y)
        np.testing.assert_allclose(predicted.total[:, v], whole.predict(X_test * scale), atol=1e-5)
    np.testing.assert_allclose(predicted.bands.sum(0), predicted.total, atol=1e-6)
    np.testing.assert_allclose(predicted.gammas / predicted.alphas[:, None], found.weights, rtol=1e-12)


def test_the_gradient_is_that_of_finite_differences(bands: Bands) -> None:
    order = np.argsort(bands.folds, kind="stable")
    slices = [slice(i, i + N // 4) for i in range(0, N, N // 4)]
    error = _LeftOutError(bands.problem, bands.Y, order, slices)
    (part,) = error.blocks()
    theta = error.padded(torch.as_tensor(np.random.default_rng(0).uniform(-5, -1, (N_TARGETS, 3))))
    _, gradient, _ = error.at(theta, part)
    for b in range(3):
        step = torch.zeros(3, dtype=torch.float64)
        step[b] = 1e-4
        difference = (error.at(theta + step, part)[0] - error.at(theta - step, part)[0]) / 2e-4
        torch.testing.assert_close(gradient[:, b], difference, rtol=1e-5, atol=1e-5)


def test_it_is_never_worse_than_its_start_and_as_good_as_a_long_search(bands: Bands) -> None:
    found = descend_columns(bands.problem, bands.Y, bands.folds, bands.start)
    np.testing.assert_allclose(found.start_scores, bands.start.cv_scores.max(0), rtol=1e-3)
    assert (found.cv_scores >= found.start_scores).all()
    long = bands.search(150)
    assert found.cv_scores.mean() > long.cv_scores.max(0).mean()
    driven = np.arange(N_TARGETS) % 4 != 3
    ours, theirs = (
        ((bands.Y_test - p.total) ** 2).mean(0)[driven].mean()
        for p in (refit_descended(bands.problem, bands.Y, found), refit_columns(bands.problem, bands.Y, long))
    )
    assert ours < 1.005 * theirs


def test_the_weights_say_what_drives_a_target(bands: Bands) -> None:
    found = descend_columns(bands.problem, bands.Y, bands.folds, bands.start)
    gammas = refit_descended(bands.problem, bands.Y, found).gammas
    assert (gammas[0::4].argmax(1) == 0).all()
    assert (gammas[1::4].argmax(1) == 1).all()


def test_constant_target_and_empty_band_are_harmless(bands: Bands) -> None:
    Y = bands.Y.copy()
    Y[:, 2] = 0
    empty = {
        "a": primal_problem(bands.designs[0][:N], bands.designs[0][N:]),
        "b": primal_problem(np.zeros((N, 2)), np.zeros((N_TEST, 2))),
    }
    problem = stack_columns(empty)
    start = search_columns(problem, Y, bands.folds, dirichlet_gammas(2, 2, seed=0), ALPHAS)
    found = descend_columns(problem, Y, bands.folds, start)
    predicted = refit_descended(problem, Y, found)
    assert np.isfinite(found.cv_scores).all()
    assert np.abs(predicted.total[:, 2]).max() == 0
    assert np.abs(predicted.bands[1]).max() == 0


@pytest.mark.parametrize(("change", "match"), [({"n_steps": 0}, "one or more"), ({"Y": "fewer"}, "targets")])
def test_bad_input_is_refused(bands: Bands, change: dict[str, Any], match: str) -> None:
    Y = bands.Y[:, 1:] if "Y" in change else bands.Y
    with pytest.raises(UserError, match=match):
        descend_columns(bands.problem, Y, bands.folds, bands.start, n_steps=change.get("n_steps", 2))
    poisoned = bands.Y.copy()
    poisoned[3, 5] = np.nan
    with pytest.raises(InvalidNumbers, match="target 5"):
        descend_columns(bands.problem, poisoned, bands.folds, bands.start)


@pytest.mark.parametrize("widths", [(6, 9, 4), (24, 24), (30, 31)], ids=["19", "48", "61"])
def test_neither_order_nor_neighbours_of_targets_change_a_byte(monkeypatch: pytest.MonkeyPatch, widths: Any) -> None:
    """Also with matrices that do not begin at a multiple of 64 bytes (odd columns), and factorised a few at a time."""
    rng = np.random.default_rng(7)
    n_targets, names = 250, [str(b) for b in range(len(widths))]
    designs = [rng.standard_normal((160, width)) for width in widths]
    Y = rng.standard_normal((120, n_targets))
    for v in range(n_targets):
        b = v % len(widths)
        Y[:, v] += designs[b][:120] @ rng.standard_normal(widths[b])
    problem = stack_columns({name: primal_problem(x[:120], x[120:]) for name, x in zip(names, designs, strict=True)})
    folds, draws = np.repeat(np.arange(3), 40), dirichlet_gammas(2, len(widths), seed=1)

    def fit(targets: Any) -> list[np.ndarray]:
        y = Y[:, targets].astype(np.float32)
        start = search_columns(problem, y, folds, draws, ALPHAS[::3])
        found = descend_columns(problem, y, folds, start, n_steps=2)
        return [found.weights, found.cv_scores, found.start_scores, refit_descended(problem, y, found).total.T]

    whole = fit(np.arange(n_targets))
    parts = [np.arange(n_targets)[::-1], rng.permutation(n_targets), np.arange(37, n_targets), np.array([201])]
    for targets in parts:
        for all_of_them, part in zip(whole, fit(targets), strict=True):
            assert all_of_them[targets].tobytes() == part.tobytes()
    monkeypatch.setattr("voxelboard.benchmark.encoding.banded_descent._CHUNK_BYTES", 7 * 8 * 64**2)
    for all_of_them, part in zip(whole, fit(parts[1]), strict=True):
        assert all_of_them[parts[1]].tobytes() == part.tobytes()
