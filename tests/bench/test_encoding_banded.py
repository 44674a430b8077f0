# SPDX-License-Identifier: Apache-2.0
"""Banded ridge with fewer columns than rows: the column form, the dual form and himalaya's, same draws, same scores."""

from typing import Any

import numpy as np
import pytest
import torch
from himalaya.ridge import solve_group_ridge_random_search
from himalaya.scoring import correlation_score
from sklearn.model_selection import PredefinedSplit

from voxelboard.benchmark.encoding.banded import dirichlet_gammas, search_bands, stack_bands
from voxelboard.benchmark.encoding.banded_columns import search_columns, stack_columns
from voxelboard.benchmark.encoding.designs import primal_problem
from voxelboard.benchmark.encoding.reference import himalaya_backend

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
