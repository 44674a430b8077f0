# SPDX-License-Identifier: Apache-2.0
"""Banded ridge with fewer columns than rows: random searches (the column form, the dual form and himalaya's: same draws, same
scores), then what descends on the left-out error: ours and himalaya's hyper-gradient, from a start of their own each.
"""

import time
from typing import Any

import numpy as np
import pytest
import torch
from himalaya.kernel_ridge import solve_multiple_kernel_ridge_hyper_gradient
from himalaya.ridge import solve_group_ridge_random_search
from himalaya.scoring import correlation_score, l2_neg_loss
from sklearn.model_selection import PredefinedSplit

from voxelboard.benchmark.encoding.banded import dirichlet_gammas, search_bands, stack_bands
from voxelboard.benchmark.encoding.banded_columns import search_columns, stack_columns
from voxelboard.benchmark.encoding.banded_descent import _LeftOutError, descend_columns
from voxelboard.benchmark.encoding.designs import primal_problem
from voxelboard.benchmark.encoding.reference import himalaya_backend
from voxelboard.benchmark.encoding.ridge import sort_by_fold

N_TRAIN, N_TARGETS, N_BANDS, WIDTH, N_DRAWS = 1500, 600, 5, 48, 4
ALPHAS = np.logspace(-3, 4, 10)


class Film:
    """Five bands of 48 columns, four title folds, targets driven by one band each."""

    def __init__(self) -> None:
        rng = np.random.default_rng(0)
        designs = [rng.standard_normal((N_TRAIN, WIDTH)) for _ in range(N_BANDS)]
        self.problems = {f"band{b}": primal_problem(x, x[:10]) for b, x in enumerate(designs)}
        self.designs = [torch.as_tensor(x) for x in designs]
        weights = rng.standard_normal((N_BANDS, WIDTH, N_TARGETS)) / np.sqrt(WIDTH)
        signal = np.stack([designs[v % N_BANDS] @ weights[v % N_BANDS, :, v] for v in range(N_TARGETS)], axis=1)
        self.Y = (signal + 2 * rng.standard_normal(signal.shape)).astype(np.float32)
        self.folds = np.repeat(np.arange(4), N_TRAIN // 4)
        self.gammas = dirichlet_gammas(N_DRAWS, N_BANDS, seed=1)


@pytest.fixture(scope="module")
def film() -> Film:
    return Film()


def _columns(film: Film) -> np.ndarray:
    problem = stack_columns(film.problems, normalise=False)
    return search_columns(problem, film.Y, film.folds, film.gammas, ALPHAS.tolist(), selection="correlation").cv_scores


def _dual(film: Film) -> np.ndarray:
    problem = stack_bands(film.problems, normalise=False)
    return search_bands(problem, film.Y, film.folds, film.gammas, ALPHAS.tolist(), selection="correlation").cv_scores


def _himalaya(film: Film) -> np.ndarray:
    with himalaya_backend("torch"):
        *_, scores = solve_group_ridge_random_search(
            film.designs,
            torch.as_tensor(film.Y).double(),
            n_iter=torch.as_tensor(film.gammas),
            alphas=torch.as_tensor(ALPHAS),
            score_func=correlation_score,
            cv=PredefinedSplit(film.folds),
            fit_intercept=False,
            progress_bar=False,
        )
        return np.asarray(scores)


@pytest.mark.parametrize("solver", ["columns", "dual", "himalaya"])
def test_banded_search(benchmark: Any, film: Film, solver: str) -> None:
    solve = {"columns": _columns, "dual": _dual, "himalaya": _himalaya}[solver]
    benchmark.group = f"banded random search, {N_TRAIN} TRs, {N_BANDS} x {WIDTH} columns, {N_TARGETS} targets"
    found = benchmark.pedantic(solve, args=(film,), rounds=1 if solver == "dual" else 3)
    np.testing.assert_allclose(found, _columns(film), atol=2e-5)


# ----------------------------------------------------------------------------------------------- descent on the left-out error


class Shares:
    """Three bands of 24 columns, each target driven by shares of them; every Gram of mean row power one."""

    def __init__(self) -> None:
        n, n_targets, self.n_bands = 600, 128, 3
        rng = np.random.default_rng(0)
        designs = rng.standard_normal((self.n_bands, n, 24))
        designs /= np.sqrt((designs**2).sum(2).mean(1))[:, None, None]
        weights = rng.standard_normal((self.n_bands, 24, n_targets))
        share = np.sqrt(rng.dirichlet([0.5] * self.n_bands, n_targets))
        signal = sum(share[:, b] * (x @ weights[b]) for b, x in enumerate(designs))
        Y = signal + 2 * rng.standard_normal(signal.shape)
        self.Y = (Y / Y.std(0)).astype(np.float32)
        self.folds = np.arange(n) * 4 // n
        self.kernels = torch.as_tensor(designs @ designs.transpose(0, 2, 1)).float()
        self.problem = stack_columns({str(b): primal_problem(x, x[:5]) for b, x in enumerate(designs)})

    def search(self, n_draws: int) -> Any:
        draws = dirichlet_gammas(n_draws, self.n_bands, seed=1)
        return search_columns(self.problem, self.Y, self.folds, draws, ALPHAS.tolist())

    def score(self, log_weights: Any) -> np.ndarray:
        """(n_targets,) minus the mean squared error of the left-out folds at (n_targets, n_bands) log(gamma / alpha)."""
        order, slices, _ = sort_by_fold(self.folds)
        error = _LeftOutError(self.problem, self.Y, order, slices)
        (block,) = error.blocks()
        theta = error.padded(torch.as_tensor(log_weights, dtype=torch.float64))
        return -error.at(theta, block)[0].numpy()[: self.Y.shape[1]] / len(order)


@pytest.fixture(scope="module")
def shares() -> Shares:
    return Shares()


def _hyper_gradient(world: Shares, n_steps: int) -> np.ndarray:
    with himalaya_backend("torch"):
        deltas, *_ = solve_multiple_kernel_ridge_hyper_gradient(
            world.kernels,
            torch.as_tensor(world.Y),
            score_func=l2_neg_loss,
            cv=PredefinedSplit(world.folds),
            initial_deltas="ridgecv",
            max_iter=n_steps,
            tol=None,
            progress_bar=False,
        )
    return np.asarray(deltas).T


def _of_search(world: Shares, n_draws: int) -> np.ndarray:
    found = world.search(n_draws)
    draw, alpha = found.best()
    return np.log(np.maximum(found.gammas[draw], 1e-6) / found.alpha_grid[alpha][:, None])


WAYS = {
    "descent_2_steps": lambda world: np.log(
        descend_columns(world.problem, world.Y, world.folds, world.search(5), n_steps=2).weights
    ),
    "descent_4_steps": lambda world: np.log(
        descend_columns(world.problem, world.Y, world.folds, world.search(5), n_steps=4).weights
    ),
    "search_100_draws": lambda world: _of_search(world, 100),
    "himalaya_hyper_gradient_10": lambda world: _hyper_gradient(world, 10),
    "himalaya_hyper_gradient_100": lambda world: _hyper_gradient(world, 100),
}


@pytest.mark.benchmark(group="band weights by descent, 600 TRs, 3 x 24 columns, 128 targets", timer=time.process_time)
@pytest.mark.parametrize("way", WAYS)
def test_band_weights(benchmark: Any, shares: Shares, way: str) -> None:
    """``score`` is the mean over targets, computed in the same way for all."""
    found = benchmark.pedantic(WAYS[way], args=(shares,), rounds=1 if "100" in way else 3)
    scores = shares.score(found)
    start = shares.score(_of_search(shares, 1))
    benchmark.extra_info.update(score=round(float(scores.mean()), 5), start=round(float(start.mean()), 5))
    assert scores.mean() > start.mean()
