# SPDX-License-Identifier: Apache-2.0
"""Flat ridge at the size of the goals beside himalaya: one subject, several subjects, and the matrices alone.

``OMP_NUM_THREADS=1 MKL_NUM_THREADS=1 pytest tests/bench/test_encoding_flat.py``, with VOXELBOARD_BENCH_VOXELS=20000 for the
large one. One round each: a contestant takes from ten seconds to two minutes.
"""

import os
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from bench_ridge import N_FOLDS, Data, agree, job, medium_precision, relative, timed
from sklearn.model_selection import PredefinedSplit

from voxelboard.benchmark.encoding.designs import primal_problem
from voxelboard.benchmark.encoding.operators import DualOperators
from voxelboard.benchmark.encoding.reference import himalaya_backend
from voxelboard.benchmark.encoding.ridge import fit_ridge, sort_by_fold

pytestmark = pytest.mark.timeout(900)

N_VOXELS = int(os.environ.get("VOXELBOARD_BENCH_VOXELS", "4000"))
MANY_ALPHAS = np.logspace(1, 6, 20)
FASTEST: dict[str, Any] = {"precision": "float32", "search": "thinned"}


@pytest.fixture(scope="module")
def flat() -> Data:
    return Data(2000, 768, N_VOXELS)


def flat_ours(data: Data, selection: Any = "correlation", **options: Any) -> tuple[Any, Any]:
    gram = primal_problem(data.X, data.X_test).to_dual()
    fit = fit_ridge(gram, data.Y, data.folds, relative(MANY_ALPHAS, data.X), selection=selection, **options)
    return fit.alphas, fit.cv_scores


def flat_himalaya(data: Data, selection: str = "correlation") -> tuple[Any, Any]:
    from himalaya.kernel_ridge import KernelRidgeCV
    from himalaya.scoring import correlation_score, l2_neg_loss

    with himalaya_backend("torch"):
        model = KernelRidgeCV(
            alphas=MANY_ALPHAS,
            cv=PredefinedSplit(data.folds),
            warn=False,
            solver_params={
                "score_func": correlation_score if selection == "correlation" else l2_neg_loss,
                "n_targets_batch": 2000,
                "n_alphas_batch": 5,
                "n_targets_batch_refit": 400,
            },
        ).fit(torch.as_tensor(data.X).float(), torch.as_tensor(data.Y))
        model.predict(torch.as_tensor(data.X_test).float())
    return np.asarray(model.best_alphas_), np.asarray(model.cv_scores_)


def flat_himalaya_same_blas(data: Data) -> tuple[Any, Any]:
    with medium_precision():
        return flat_himalaya(data)


def flat_himalaya_expert(data: Data) -> tuple[Any, Any]:
    """One kernel, no refit and no prediction: less than the others do."""
    from himalaya.kernel_ridge import solve_multiple_kernel_ridge_random_search
    from himalaya.scoring import correlation_score

    with himalaya_backend("torch"):
        X = torch.as_tensor(data.X).float()
        deltas, _, scores = solve_multiple_kernel_ridge_random_search(
            (X @ X.T)[None],
            torch.as_tensor(data.Y),
            n_iter=torch.ones(1, 1),
            alphas=torch.as_tensor(MANY_ALPHAS).float(),
            score_func=correlation_score,
            cv=PredefinedSplit(data.folds),
            return_weights=None,
            n_targets_batch=2000,
            n_alphas_batch=5,
            progress_bar=False,
        )
    return np.exp(-np.asarray(deltas)[0]), np.asarray(scores)[0]


FLAT: dict[str, Callable[[Data], tuple[Any, Any]]] = {
    "ours_every_alpha": flat_ours,
    "ours_thinned": lambda data: flat_ours(data, search="thinned"),
    "ours_float32": lambda data: flat_ours(data, precision="float32"),
    "ours_float32_thinned": lambda data: flat_ours(data, **FASTEST),
    "ours_float32_thinned_bf16": lambda data: flat_ours(data, **FASTEST, screening="bfloat16"),
    "himalaya_default": flat_himalaya,
    "himalaya_same_blas": flat_himalaya_same_blas,
    "himalaya_expert": flat_himalaya_expert,
}


@pytest.fixture(scope="module")
def flat_expected(flat: Data) -> tuple[Any, Any]:
    return flat_ours(flat)


@job(f"flat CV n2000 p3072 V{N_VOXELS} A20 F5, by correlation")
@pytest.mark.parametrize("name", FLAT)
def test_flat_cv(benchmark: Any, flat: Data, flat_expected: tuple[Any, Any], name: str) -> None:
    alphas, scores = timed(benchmark, lambda: FLAT[name](flat), lambda: flat_ours(flat, **FASTEST), rounds=1)
    agree(benchmark, alphas, scores, flat_expected)


SQUARED: dict[str, Callable[[Data], tuple[Any, Any]]] = {
    "ours_float32_thinned": lambda data: flat_ours(data, "squared_error", **FASTEST),
    "ours_float32_thinned_bf16": lambda data: flat_ours(data, "squared_error", **FASTEST, screening="bfloat16"),
    "himalaya_default": lambda data: flat_himalaya(data, "squared_error"),
}


@job(f"flat CV n2000 p3072 V{N_VOXELS} A20 F5, by squared error")
@pytest.mark.parametrize("name", SQUARED)
def test_flat_cv_by_squared_error(benchmark: Any, flat: Data, name: str) -> None:
    ours = SQUARED["ours_float32_thinned_bf16"]
    alphas, scores = timed(benchmark, lambda: SQUARED[name](flat), lambda: ours(flat), rounds=1)
    agree(benchmark, alphas, scores, ours(flat))


# ------------------------------------------------------------------------------- several subjects who got one stimulus


def subjects_ours(data: Data, n_subjects: int) -> tuple[Any, Any]:
    """One fit of all: the factorisations are paid once."""
    gram = primal_problem(data.X, data.X_test).to_dual()
    Y = data.Y[:, : n_subjects * (N_VOXELS // 8)]
    fit = fit_ridge(gram, Y, data.folds, relative(MANY_ALPHAS, data.X), selection="correlation", **FASTEST)
    return fit.alphas, fit.cv_scores


def subjects_himalaya(data: Data, n_subjects: int) -> tuple[Any, Any]:
    """A call a subject, as its users write it."""
    size, whole = N_VOXELS // 8, data.Y
    found = []
    try:
        for s in range(n_subjects):
            data.Y = whole[:, s * size : (s + 1) * size]
            found.append(flat_himalaya(data))
    finally:
        data.Y = whole
    return tuple(np.concatenate(parts) for parts in zip(*found, strict=True))  # type: ignore[return-value]


@job(f"subjects of {N_VOXELS // 8} voxels, n2000 p3072 A20 F5")
@pytest.mark.parametrize("n_subjects", [1, 3, 8])
@pytest.mark.parametrize("solve", [subjects_ours, subjects_himalaya], ids=["ours", "himalaya_per_subject"])
def test_multisubject_sharing(benchmark: Any, flat: Data, solve: Any, n_subjects: int) -> None:
    alphas, scores = timed(
        benchmark, lambda: solve(flat, n_subjects), lambda: subjects_ours(flat, n_subjects), rounds=1
    )
    agree(benchmark, alphas, scores, subjects_ours(flat, n_subjects))


# ------------------------------------------------------------------------------ all folds from one factorisation


def resolution_ours(data: Data, precision: Any) -> list[list[torch.Tensor]]:
    """The fold matrices of every alpha, from the Gram."""
    problem = primal_problem(data.X, data.X_test[:0]).to_dual()
    order, slices, _ = sort_by_fold(data.folds)
    operators = DualOperators(problem, torch.as_tensor(order), slices, centred=False, precision=precision)
    return [operators.build(float(alpha)).folds for alpha in MANY_ALPHAS]


def resolution_by_eigenvalues(data: Data, dtype: torch.dtype) -> list[list[torch.Tensor]]:
    """One decomposition a fold, then a product for each alpha: himalaya's way."""
    X = torch.as_tensor(data.X).to(dtype)
    gram, folds = X @ X.T, torch.as_tensor(data.folds)
    found: list[list[torch.Tensor]] = [[] for _ in MANY_ALPHAS]
    for f in range(N_FOLDS):
        kept = folds != f
        values, vectors = torch.linalg.eigh(gram[kept][:, kept])
        left = gram[~kept][:, kept] @ vectors
        for a, alpha in enumerate(MANY_ALPHAS):
            found[a].append((left / (values + float(alpha))) @ vectors.T)
    return found


RESOLUTIONS: dict[str, Callable[[Data], list[list[torch.Tensor]]]] = {
    "ours_float64": lambda data: resolution_ours(data, "float64"),
    "ours_float32": lambda data: resolution_ours(data, "float32"),
    "eigenvalues_float32": lambda data: resolution_by_eigenvalues(data, torch.float32),
    "eigenvalues_float64": lambda data: resolution_by_eigenvalues(data, torch.float64),
}


@pytest.fixture(scope="module")
def exact_resolution(flat: Data) -> list[list[torch.Tensor]]:
    return resolution_by_eigenvalues(flat, torch.float64)


@job("matrices of 5 left-out folds at 20 alphas, n2000")
@pytest.mark.parametrize("name", RESOLUTIONS)
def test_resolution_of_all_folds(
    benchmark: Any, flat: Data, exact_resolution: list[list[torch.Tensor]], name: str
) -> None:
    found = timed(benchmark, lambda: RESOLUTIONS[name](flat), lambda: RESOLUTIONS["ours_float32"](flat), rounds=1)
    error = [
        float((a - b).norm() / b.norm())
        for mine, true in zip(found, exact_resolution, strict=True)
        for a, b in zip(mine, true, strict=True)
    ]
    benchmark.extra_info.update(largest_error=max(error), median_error=float(np.median(error)))
    assert max(error) < 1e-2
