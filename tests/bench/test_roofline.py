# SPDX-License-Identifier: Apache-2.0
"""What this machine can do at most, and how much of it the engine's hot paths reach.

Peaks are the best of several square products and copies, one thread. A hot path's floor is the time that its arithmetic would
take at those peaks: float32 operations at the float32 rate, factorisations at the float64 rate (``extra_info``: floor, share). Time
that no floor counts (scores of predictions, selection, reading blocks) is what the share lacks.
Run alone on the machine: ``OMP_NUM_THREADS=1 pytest tests/bench/test_roofline.py``.
"""

import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import torch
from bench_ridge import N_FOLDS, Data, job, medium_precision, relative

from voxelboard.benchmark.encoding.banded import dirichlet_gammas
from voxelboard.benchmark.encoding.banded_columns import search_columns, stack_columns
from voxelboard.benchmark.encoding.designs import Problem, primal_problem
from voxelboard.benchmark.encoding.operators import DualOperators
from voxelboard.benchmark.encoding.ridge import fit_ridge, sort_by_fold
from voxelboard.benchmark.encoding.streaming import CPU_WIDTH, fold_statistics

SIDE = 2304  # a multiple of every kernel's tile, far beyond the caches
N_COPIED = 32 << 20  # float32 numbers, 128 MiB
ALPHAS = np.logspace(1, 6, 10)

pytestmark = pytest.mark.timeout(600)


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def seconds_of(run: Callable[[], Any], rounds: int = 5) -> float:
    """The shortest of several runs: a peak, not an average."""
    run()
    found = []
    for _ in range(rounds):
        start = time.process_time()
        run()
        found.append(time.process_time() - start)
    return min(found)


def product(dtype: torch.dtype, side: int = SIDE) -> Callable[[], Any]:
    left, right = (torch.randn(side, side).to(dtype) for _ in range(2))
    return lambda: left @ right


@pytest.fixture(scope="module")
def peaks() -> dict[torch.dtype, float]:
    """Operations a second of a square product."""
    dtypes = (torch.float32, torch.float64)
    return {dtype: 2 * SIDE**3 / seconds_of(product(dtype)) for dtype in dtypes}


PRODUCTS = {
    "float32": (torch.float32, False),
    "float32 by oneDNN": (torch.float32, True),
    "float64": (torch.float64, False),
    "bfloat16": (torch.bfloat16, False),
}


@job(f"roofline: products of {SIDE} x {SIDE}")
@pytest.mark.parametrize("name", PRODUCTS)
def test_product(benchmark: Any, name: str) -> None:
    dtype, by_onednn = PRODUCTS[name]
    run = product(dtype)
    if by_onednn:
        with medium_precision():
            benchmark.pedantic(run, rounds=5, warmup_rounds=1)
    else:
        benchmark.pedantic(run, rounds=5, warmup_rounds=1)
    benchmark.extra_info["gflops"] = round(2e-9 * SIDE**3 / benchmark.stats.stats.min, 1)


@job("roofline: memory, 128 MiB float32")
@pytest.mark.parametrize("name", ["copy", "triad", "sum"])
def test_memory(benchmark: Any, name: str) -> None:
    a, b, c = (torch.ones(N_COPIED) for _ in range(3))
    runs = {
        "copy": (lambda: c.copy_(a), 2),
        "triad": (lambda: torch.add(a, b, alpha=2.0, out=c), 3),
        "sum": (a.sum, 1),
    }
    run, n_arrays = runs[name]
    benchmark.pedantic(run, rounds=5, warmup_rounds=1)
    benchmark.extra_info["gb_a_second"] = round(4e-9 * n_arrays * N_COPIED / benchmark.stats.stats.min, 1)


# ------------------------------------------------------------------------------------------------- the engine's hot paths


@pytest.fixture(scope="module")
def data() -> Data:
    return Data(1000, 768, 8000)


def reached(benchmark: Any, peaks: dict[torch.dtype, float], float32: float, float64: float) -> None:
    """The floor of so many operations of each kind, and the share of it that was reached."""
    floor = float32 / peaks[torch.float32] + float64 / peaks[torch.float64]
    benchmark.extra_info.update(
        floor=round(floor, 3),
        share=round(floor / benchmark.stats.stats.min, 3),
        float32_peak=round(peaks[torch.float32] / 1e9, 1),
        float64_peak=round(peaks[torch.float64] / 1e9, 1),
    )


def left_out_products(n: int, n_targets: int) -> float:
    """Operations of predicting every fold from the others at one alpha."""
    n_fold = n // N_FOLDS
    return 2.0 * N_FOLDS * n_fold * (n - n_fold) * n_targets


@job("roofline: hot paths")
def test_products_of_folds_with_responses(benchmark: Any, data: Data, peaks: dict[torch.dtype, float]) -> None:
    """The innermost loop of a fit: predictions of left-out folds at every alpha, and their sums."""
    problem = primal_problem(data.X, data.X_test).to_dual()
    order, slices, _ = sort_by_fold(data.folds)
    operators = DualOperators(problem, torch.as_tensor(order), slices, centred=True, precision="float64")
    built = [operators.build(float(alpha)) for alpha in ALPHAS]
    blocks = [torch.as_tensor(data.Y[:, i : i + CPU_WIDTH]).clone() for i in range(0, 4 * CPU_WIDTH, CPU_WIDTH)]
    sums = benchmark.pedantic(
        lambda: [fold_statistics(operators, built, block, centred=True) for block in blocks], rounds=5, warmup_rounds=1
    )
    assert all(bool(torch.isfinite(table).all()) for found in sums for table in found)
    reached(benchmark, peaks, len(ALPHAS) * left_out_products(len(data.folds), 4 * CPU_WIDTH), 0)


@job("roofline: hot paths")
def test_factorisations(benchmark: Any, data: Data, peaks: dict[torch.dtype, float]) -> None:
    """An inverse an alpha, and the left-out folds from it."""
    problem = primal_problem(data.X, data.X_test).to_dual()
    order, slices, _ = sort_by_fold(data.folds)
    operators = DualOperators(problem, torch.as_tensor(order), slices, centred=True, precision="float64")
    benchmark.pedantic(lambda: [operators.build(float(alpha)) for alpha in ALPHAS[:4]], rounds=5, warmup_rounds=1)
    n, n_fold = len(data.folds), len(data.folds) // N_FOLDS
    a_fold = n_fold**3 / 3 + 2.0 * n_fold**2 * (n - n_fold)
    reached(benchmark, peaks, 0, 4 * (float(n) ** 3 + N_FOLDS * a_fold + 2.0 * n**2 * problem.n_test))


@job("roofline: hot paths")
def test_gram_by_shifts(benchmark: Any, data: Data, peaks: dict[torch.dtype, float]) -> None:
    """Inner products of the undelayed features, one float64 product."""
    found: Problem = benchmark.pedantic(
        lambda: data.design.problem(data.train, data.test, form="dual"), rounds=3, warmup_rounds=1
    )
    n = found.n_train + found.n_test
    reached(benchmark, peaks, 0, 2.0 * n * found.n_train * data.design.n_features)


@job("roofline: hot paths")
def test_whole_fit(benchmark: Any, data: Data, peaks: dict[torch.dtype, float]) -> None:
    """Cross-validated ridge from the Gram to the predictions of the test rows."""
    problem, units = primal_problem(data.X, data.X_test).to_dual(), relative(ALPHAS, data.X)
    fit = benchmark.pedantic(
        lambda: fit_ridge(problem, data.Y, data.folds, units, selection="correlation"), rounds=3, warmup_rounds=1
    )
    assert np.isfinite(fit.cv_scores).all()
    n, n_fold, n_targets = len(data.folds), len(data.folds) // N_FOLDS, data.Y.shape[1]
    a_fold = n_fold**3 / 3 + 2.0 * n_fold**2 * (n - n_fold)
    factors = len(ALPHAS) * (float(n) ** 3 + N_FOLDS * a_fold + 2.0 * n**2 * problem.n_test)
    products = len(ALPHAS) * left_out_products(n, n_targets) + 2.0 * problem.n_test * n * n_targets
    reached(benchmark, peaks, products, factors)


@job("roofline: hot paths")
def test_narrow_fit(benchmark: Any, peaks: dict[torch.dtype, float]) -> None:
    """The same with fewer columns than rows, scored in feature space: float32 rows, float64 rotations, float32 quadratic forms."""
    narrow = Data(3000, 100, 4000)
    problem, units = primal_problem(narrow.X, narrow.X_test), relative(ALPHAS, narrow.X)
    benchmark.pedantic(lambda: fit_ridge(problem, narrow.Y, narrow.folds, units), rounds=3, warmup_rounds=1)
    n, p, n_targets = len(narrow.folds), problem.n_columns, narrow.Y.shape[1]
    rows = 2 * 2.0 * n * p * n_targets  # once to choose, once to predict
    forms = 2.0 * len(ALPHAS) * N_FOLDS * p**2 * n_targets
    rotations = 2 * 2.0 * N_FOLDS * p**2 * n_targets
    decompositions = 9.0 * (N_FOLDS + 1) * p**3 + 2 * 2.0 * n * p**2
    reached(benchmark, peaks, rows + forms, rotations + decompositions)


@job("roofline: hot paths")
def test_banded_draws(benchmark: Any, peaks: dict[torch.dtype, float]) -> None:
    """Twelve draws of band weights in column form, all float64."""
    n, width, n_targets = 1500, 48, 2304
    rng = np.random.default_rng(0)
    designs = {str(b): primal_problem(x, x[:10]) for b, x in enumerate(rng.standard_normal((5, n, width)))}
    columns, folds = stack_columns(designs), np.arange(n) * 4 // n
    Y = rng.standard_normal((n, n_targets)).astype(np.float32)
    gammas = dirichlet_gammas(12, 5, seed=0)
    benchmark.pedantic(lambda: search_columns(columns, Y, folds, gammas, ALPHAS.tolist()), rounds=3, warmup_rounds=1)
    p = 5 * width
    of_targets = 2.0 * p**2 * n_targets * (2 + len(ALPHAS))
    draw = 4 * (9.0 * p**3 + 2 * 2.0 * p**3 + of_targets)
    reached(benchmark, peaks, 0, len(gammas) * draw + 2.0 * n * p * n_targets)
