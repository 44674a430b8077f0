# SPDX-License-Identifier: Apache-2.0
"""Our solvers beside himalaya and others: the same job, one process, CPU seconds of one thread.

Run with ``OMP_NUM_THREADS=1 MKL_NUM_THREADS=1 pytest tests/bench/test_encoding_ridge.py``; groups are jobs, each row one
contestant. Every contestant's scores are compared with ours in the test that times it.
"""

from collections.abc import Callable
from importlib.util import find_spec
from typing import Any

import numpy as np
import pytest
import torch
from bench_ridge import N_FOLDS, Data, agree, job, relative, timed
from numpy.typing import NDArray
from sklearn.model_selection import PredefinedSplit

from voxelboard.benchmark.encoding.banded import dirichlet_gammas, search_bands, stack_bands
from voxelboard.benchmark.encoding.designs import Problem, primal_problem
from voxelboard.benchmark.encoding.fractional import alphas_of_fractions, decompose
from voxelboard.benchmark.encoding.nested import nested_ridge
from voxelboard.benchmark.encoding.reference import himalaya_backend
from voxelboard.benchmark.encoding.ridge import fit_ridge

# --------------------------------------------------------------------------------------------- Gram of delayed features


@pytest.fixture(scope="module")
def wide() -> Data:
    return Data(2000, 4096, 1)


def gram_shifted(data: Data, dtype: torch.dtype) -> torch.Tensor:
    return data.design.problem(data.train, [], form="dual", gemm_dtype=dtype).train


def gram_delayed(data: Data, dtype: torch.dtype) -> torch.Tensor:
    rows = data.design.rows(data.train, data.design.inverse_scales(data.train))
    design = torch.as_tensor(rows).to(dtype)
    return (design @ design.T).double()


@job("FIR Gram n2000 D4096 k4")
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=["float32", "float64"])
@pytest.mark.parametrize("build", [gram_shifted, gram_delayed], ids=["ours", "delayed_gemm"])
def test_fir_gram(benchmark: Any, wide: Data, build: Any, dtype: torch.dtype) -> None:
    found = timed(benchmark, lambda: build(wide, dtype), lambda: gram_shifted(wide, dtype), rounds=1)
    exact = gram_delayed(wide, torch.float64)
    tolerance = 1e-12 if dtype is torch.float64 else 2e-6
    assert float((found - exact).abs().max() / exact.abs().max()) < tolerance


ALPHAS = np.logspace(1, 6, 10)
FASTEST: dict[str, Any] = {"precision": "float32", "search": "thinned"}

# ------------------------------------------------------------------------------------------------------------ p < n


@pytest.fixture(scope="module")
def tall() -> Data:
    return Data(3000, 100, 4000)


def tall_ours(data: Data) -> tuple[Any, Any]:
    problem = primal_problem(data.X, data.X_test)
    fit = fit_ridge(problem, data.Y, data.folds, relative(ALPHAS, data.X), selection="correlation", weights=True)
    return fit.alphas, fit.cv_scores


def tall_himalaya(data: Data) -> tuple[Any, Any]:
    from himalaya.ridge import RidgeCV
    from himalaya.scoring import correlation_score

    with himalaya_backend("torch"):
        model = RidgeCV(
            alphas=ALPHAS,
            cv=PredefinedSplit(data.folds),
            solver_params={
                "score_func": correlation_score,
                "n_targets_batch": 2000,
                "n_alphas_batch": 5,
                "n_targets_batch_refit": 400,
            },
        ).fit(torch.as_tensor(data.X).float(), torch.as_tensor(data.Y))
        model.predict(torch.as_tensor(data.X_test).float())
    return np.asarray(model.best_alphas_), np.asarray(model.cv_scores_)


@job("primal CV n3000 p400 V4000 A10 F5")
@pytest.mark.parametrize("solve", [tall_ours, tall_himalaya], ids=["ours", "himalaya_RidgeCV"])
def test_primal_cv(benchmark: Any, tall: Data, solve: Any) -> None:
    alphas, scores = timed(benchmark, lambda: solve(tall), lambda: tall_ours(tall))
    agree(benchmark, alphas, scores, tall_ours(tall))


# ----------------------------------------------------------------------------------------------------------- nested


@pytest.fixture(scope="module")
def outer() -> Data:
    return Data(1500, 384, 4000)


def nested_ours(data: Data, **options: Any) -> tuple[Any, Any]:
    gram = primal_problem(data.X, data.X_test).to_dual()
    alphas = relative(ALPHAS, data.X)
    fit = nested_ridge(gram, data.Y, data.folds, alphas, selection="correlation", **options)
    return fit.alpha_grid[fit.alpha_index].T, _outer_r(data, fit.predictions)


def _outer_r(data: Data, predictions: NDArray[np.float32]) -> NDArray[np.float64]:
    scores = []
    for f in range(N_FOLDS):
        p, y = predictions[data.folds == f], data.Y[data.folds == f]
        p, y = p - p.mean(0), y - y.mean(0)
        scores.append((p * y).sum(0) / np.sqrt((p**2).sum(0) * (y**2).sum(0)))
    return np.stack(scores, axis=1)


def nested_himalaya(data: Data) -> tuple[Any, Any]:
    from himalaya.kernel_ridge import KernelRidgeCV
    from himalaya.scoring import correlation_score

    predictions = np.empty_like(data.Y)
    alphas = []
    with himalaya_backend("torch"):
        X = torch.as_tensor(data.X).float()
        gram = X @ X.T
        for f in range(N_FOLDS):
            rows = torch.as_tensor(data.folds != f)
            model = KernelRidgeCV(
                alphas=ALPHAS,
                kernel="precomputed",
                cv=PredefinedSplit(data.folds[data.folds != f]),
                solver_params={
                    "score_func": correlation_score,
                    "n_targets_batch": 2000,
                    "n_alphas_batch": 5,
                    "n_targets_batch_refit": 400,
                },
            ).fit(gram[rows][:, rows], torch.as_tensor(data.Y)[rows])
            predictions[data.folds == f] = model.predict(gram[~rows][:, rows]).numpy()
            alphas.append(np.asarray(model.best_alphas_))
    return np.stack(alphas, axis=1), _outer_r(data, predictions)


NESTED: dict[str, Callable[[Data], tuple[Any, Any]]] = {
    "ours": nested_ours,
    "ours_float32": lambda data: nested_ours(data, precision="float32"),
    "ours_float32_thinned": lambda data: nested_ours(data, **FASTEST),
    "himalaya_per_outer_fold": nested_himalaya,
}


@job("nested CV 5x4 n1500 p1536 V4000 A10")
@pytest.mark.parametrize("name", NESTED)
def test_nested_cv(benchmark: Any, outer: Data, name: str) -> None:
    ours = NESTED["ours_float32"]
    alphas, scores = timed(benchmark, lambda: NESTED[name](outer), lambda: ours(outer), rounds=1)
    expected = nested_ours(outer)
    same = np.abs(np.log10(alphas / expected[0])) < 1e-3
    benchmark.extra_info.update(same_alpha=float(same.mean()))
    assert same.mean() > 0.99
    assert np.abs(scores - expected[1])[same].max() < 1e-3
    assert np.median(np.abs(scores - expected[1])) < 1e-5


# ----------------------------------------------------------------------------------------------------------- banded


@pytest.fixture(scope="module")
def banded() -> tuple[Any, NDArray[Any], NDArray[Any], NDArray[Any]]:
    parts = [Data(1000, d, 6000, seed=i) for i, d in enumerate((300, 200, 250))]
    problems: dict[str, Problem] = {str(i): primal_problem(part.X, part.X_test) for i, part in enumerate(parts)}
    Y = sum(part.Y for part in parts)
    return stack_bands(problems), Y / Y.std(0), parts[0].folds, dirichlet_gammas(3, 3, seed=0)


BANDED_ALPHAS = np.logspace(-3, 4, 20)


def banded_ours(world: Any, **options: Any) -> Any:
    problem, Y, folds, gammas = world
    found = search_bands(problem, Y, folds, gammas, BANDED_ALPHAS.tolist(), selection="correlation", **options)
    return found.cv_scores


def banded_himalaya(world: Any) -> Any:
    from himalaya.kernel_ridge import MultipleKernelRidgeCV
    from himalaya.scoring import correlation_score

    problem, Y, folds, gammas = world
    with himalaya_backend("torch"):
        return np.asarray(
            MultipleKernelRidgeCV(
                kernels="precomputed",
                solver="random_search",
                cv=PredefinedSplit(folds),
                solver_params={
                    "n_iter": torch.as_tensor(gammas).float(),
                    "alphas": torch.as_tensor(BANDED_ALPHAS).float(),
                    "score_func": correlation_score,
                    "n_targets_batch": 2000,
                    "n_alphas_batch": 5,
                    "n_targets_batch_refit": 400,
                    "progress_bar": False,
                },
            )
            .fit(problem.grams.float(), torch.as_tensor(Y))
            .cv_scores_
        )


BANDED: dict[str, Callable[[Any], Any]] = {
    "ours": banded_ours,
    "ours_float32_thinned": lambda world: banded_ours(world, **FASTEST),
    "himalaya_MultipleKernelRidgeCV": banded_himalaya,
}


@job("banded m3 n1000 V6000 A20 3 draws")
@pytest.mark.parametrize("name", BANDED)
def test_banded(benchmark: Any, banded: Any, name: str) -> None:
    ours = BANDED["ours_float32_thinned"]
    scores = timed(benchmark, lambda: BANDED[name](banded), lambda: ours(banded), rounds=1)
    difference = np.abs(scores - banded_ours(banded))
    benchmark.extra_info.update(median=float(np.median(difference)), max=float(difference.max()))
    assert np.median(difference) < 1e-5
    assert difference.max() < 1e-3


# ------------------------------------------------------------------------------------------------------- fractional

FRACTIONS = np.linspace(0.1, 1.0, 10)


@pytest.fixture(scope="module")
def small() -> Data:
    return Data(600, 60, 1000)


def fractional_ours(data: Data) -> Any:
    spectrum = decompose(primal_problem(data.X, data.X_test))
    b = spectrum.left.T @ torch.as_tensor(data.Y).double()
    alphas = alphas_of_fractions(spectrum.values, b, torch.as_tensor(FRACTIONS))
    values = spectrum.values[:, None]
    return np.stack([(spectrum.scores @ (values.sqrt() * b / (values + alpha))).numpy() for alpha in alphas])


def fractional_fracridge(data: Data) -> Any:
    fracridge = pytest.importorskip("fracridge").fracridge
    jit = find_spec("numba") is not None  # without numba it warns and does the same in scipy
    coefficients, _ = fracridge(data.X, data.Y.astype(np.float64), FRACTIONS, jit=jit)
    return np.einsum("tp,pfv->ftv", data.X_test, coefficients)


@job("fractional n600 p240 V1000 10 fractions")
@pytest.mark.parametrize("solve", [fractional_ours, fractional_fracridge], ids=["ours", "fracridge"])
def test_fractional(benchmark: Any, small: Data, solve: Any) -> None:
    if solve is fractional_fracridge:
        pytest.importorskip("fracridge")
    found = timed(benchmark, lambda: solve(small), lambda: fractional_ours(small))
    expected = fractional_ours(small)
    # fracridge interpolates alphas on a grid, we find the root
    assert np.abs(found - expected).max() < 0.05 * np.abs(expected).max()
