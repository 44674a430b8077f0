# SPDX-License-Identifier: Apache-2.0
"""Random left-out chunks from one inverse, against an SVD of each draw's own rows."""

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from voxelboard.benchmark.encoding import bootstrap
from voxelboard.benchmark.encoding.bootstrap import bootstrap_ridge, chunk_draws
from voxelboard.benchmark.encoding.designs import primal_problem
from voxelboard.benchmark.errors import UserError

ALPHAS = [1e-3, 1e-2, 1e-1, 1.0, 10.0]


def world(n_trs: int, n_columns: int) -> tuple[NDArray[np.float64], ...]:
    rng = np.random.default_rng(3)
    X, X_test = rng.standard_normal((n_trs, n_columns)), rng.standard_normal((40, n_columns))
    weights = rng.standard_normal((n_columns, 25)) * np.linspace(0, 1, 25)
    Y = X @ weights / np.sqrt(n_columns) + rng.standard_normal((n_trs, 25))
    return X, X_test, Y - Y.mean(0)


def by_svd(
    X: NDArray[np.float64], X_new: NDArray[np.float64], Y: NDArray[np.float64], alpha: float
) -> NDArray[np.float64]:
    u, s, vt = np.linalg.svd(X, full_matrices=False)
    predicted: NDArray[np.float64] = X_new @ vt.T @ np.diag(s / (s**2 + alpha)) @ u.T @ Y
    return predicted


def r_of(p: NDArray[np.float64], y: NDArray[np.float64]) -> NDArray[np.float64]:
    p, y = p - p.mean(0), y - y.mean(0)
    r: NDArray[np.float64] = (p * y).sum(0) / np.sqrt((p**2).sum(0) * (y**2).sum(0))
    return r


@pytest.mark.parametrize(("n_trs", "n_columns"), [(150, 30), (120, 300)], ids=["tall", "wide"])
@pytest.mark.parametrize("n_draws", [4, 20], ids=["a matrix a draw", "one shared"])
def test_alphas_and_scores_are_those_of_one_svd_a_draw(n_trs: int, n_columns: int, n_draws: int) -> None:
    X, X_test, Y = world(n_trs, n_columns)
    draws = chunk_draws(n_trs, n_draws, chunk_trs=7, n_chunks=5, seed=0)
    fit = bootstrap_ridge(primal_problem(X, X_test), Y, draws, ALPHAS)
    scores = []
    for rows in draws:
        kept = np.setdiff1d(np.arange(n_trs), rows)
        scores.append([r_of(by_svd(X[kept], X[rows], Y[kept], alpha), Y[rows]) for alpha in fit.alpha_grid])
    mean = np.mean(scores, axis=0)
    np.testing.assert_array_equal(fit.alpha_index, mean.argmax(axis=0))
    np.testing.assert_allclose(fit.cv_scores, mean.max(axis=0), atol=2e-6)
    for v in range(Y.shape[1]):
        expected = by_svd(X, X_test, Y[:, [v]], float(fit.alphas[v]))[:, 0]
        np.testing.assert_allclose(fit.test_predictions[:, v], expected, atol=2e-5)


@pytest.mark.parametrize("size", [1, 6], ids=["single rows", "chunks"])
@pytest.mark.parametrize("precision", ["float64", "float32"])
def test_one_matrix_for_all_draws_is_as_good_as_one_each(
    size: int, precision: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    X, X_test, Y = world(120, 300)
    draws = chunk_draws(120, 25, size, 30 // size, seed=4)
    alphas = np.logspace(-4, 4, 9).tolist()
    problem = primal_problem(X * np.arange(1, 301) ** -1.0, X_test)

    def scores(alpha: float) -> NDArray[np.float64]:
        fit = bootstrap_ridge(problem, Y, draws, [alpha], precision=precision)
        return fit.cv_scores

    shared = np.stack([scores(alpha) for alpha in alphas])
    monkeypatch.setattr(bootstrap._DrawOperators, "_shared", lambda self, inverse: None)
    apart = np.stack([scores(alpha) for alpha in alphas])
    np.testing.assert_allclose(shared, apart, atol=2e-6 if precision == "float64" else 2e-5)
    assert (shared != apart).any(), "not the same way twice"


def test_one_alpha_for_all_targets() -> None:
    X, X_test, Y = world(150, 30)
    fit = bootstrap_ridge(primal_problem(X, X_test), Y, chunk_draws(150, 3, 10, 3, 1), ALPHAS, scope="global")
    assert len(set(fit.alphas.tolist())) == 1


def test_a_singular_gram_is_solved_by_eigenvalues() -> None:
    X, X_test, Y = world(100, 20)
    doubled = primal_problem(np.hstack([X, X]), np.hstack([X_test, X_test]))
    draws = chunk_draws(100, 3, 10, 2, 1)
    tiny = [1e-15, 1e-14]
    one = bootstrap_ridge(primal_problem(X, X_test), Y, draws, tiny)
    two = bootstrap_ridge(doubled, Y, draws, tiny)
    np.testing.assert_allclose(two.test_predictions, one.test_predictions, atol=1e-4)


def test_draws_are_whole_chunks_and_repeat_with_the_seed() -> None:
    draws = chunk_draws(103, n_draws=5, chunk_trs=10, n_chunks=3, seed=7)
    for rows in draws:
        assert len(rows) == 30
        assert rows.max() < 100, "rows behind the last whole chunk are never left out"
        assert (rows.reshape(3, 10) == rows.reshape(3, 10)[:, :1] + np.arange(10)).all()
        assert (rows[::10] % 10 == 0).all()
    again = chunk_draws(103, n_draws=5, chunk_trs=10, n_chunks=3, seed=7)
    assert all((one == other).all() for one, other in zip(draws, again, strict=True))


@pytest.mark.parametrize("sizes", [(100, 0, 10, 3), (100, 3, 0, 3), (100, 3, 10, 0), (100, 3, 10, 10), (5, 1, 10, 1)])
def test_impossible_draws_are_refused(sizes: tuple[int, int, int, int]) -> None:
    with pytest.raises(UserError, match="chunks"):
        chunk_draws(*sizes, seed=0)


@pytest.mark.parametrize("draws", [[], [np.arange(0)], [np.arange(100)], [np.array([3, 3])]])
def test_draws_that_leave_out_nothing_or_everything_are_refused(draws: list[NDArray[np.intp]]) -> None:
    X, X_test, Y = world(100, 5)
    with pytest.raises(UserError, match="draw"):
        bootstrap_ridge(primal_problem(X, X_test), Y, draws, ALPHAS)
