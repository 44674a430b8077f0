# SPDX-License-Identifier: Apache-2.0
"""What the ridge benchmarks share: the data, and how a contestant is timed beside ours."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from voxelboard.benchmark.encoding.designs import SegmentedDesign, SegmentRows

ROUNDS = 3
N_FOLDS = 5


def job(name: str) -> pytest.MarkDecorator:
    """A group of the table. CPU seconds: wall time of a shared machine says nothing."""
    return pytest.mark.benchmark(group=name, timer=time.process_time, warmup=False)


class Data:
    """Stories with smooth features of power-law spectrum, and voxels with autocorrelated noise."""

    def __init__(self, n_trs: int, n_features: int, n_targets: int, seed: int = 0) -> None:
        rng = np.random.default_rng([seed, n_trs, n_features])
        length = n_trs // N_FOLDS + 10
        scale = np.arange(1, n_features + 1) ** -0.5
        self.features: dict[Any, Any] = {}
        for i in range(N_FOLDS + 1):
            x = rng.standard_normal((length + 2, n_features)) * scale
            self.features[i] = (x[2:] + x[1:-1] + x[:-2]).astype(np.float32)
        segments = [SegmentRows(i, 0, length) for i in range(N_FOLDS + 1)]
        self.train, self.test = segments[:-1], segments[-1:]
        self.design = SegmentedDesign(self.features, (1, 2, 3, 4), 5, 2.0, 120.0)
        scales = self.design.inverse_scales(self.train)
        self.X, self.X_test = self.design.rows(self.train, scales), self.design.rows(self.test, scales)
        self.folds = np.repeat(np.arange(N_FOLDS), n_trs // N_FOLDS)
        weights = rng.standard_normal((self.X.shape[1], n_targets)).astype(np.float32)
        share = rng.uniform(0, 0.4, n_targets).astype(np.float32)
        spread = (self.X.astype(np.float32) @ weights).std(0)

        def responses(design: NDArray[np.float64]) -> NDArray[np.float32]:
            noise = rng.standard_normal((len(design) + 1, n_targets), dtype=np.float32)
            noise = noise[1:] + 0.5 * noise[:-1]
            signal = design.astype(np.float32) @ weights / spread
            mixed: NDArray[np.float32] = np.sqrt(share) * signal + np.sqrt(1 - share) * noise / noise.std(0)
            return mixed

        self.Y, self.Y_test = responses(self.X), responses(self.X_test)


@contextmanager
def medium_precision() -> Iterator[None]:
    """The BLAS path that torch takes on CPU for float32_matmul_precision "medium"."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("medium")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)


def relative(alphas: NDArray[np.float64], X: NDArray[np.float64]) -> list[float]:
    return (alphas / ((X**2).sum() / len(X))).tolist()


def timed(benchmark: Any, run: Callable[[], Any], ours: Callable[[], Any] | None = None, rounds: int = ROUNDS) -> Any:
    """The result of ``run``; its time goes into the table. One thread.

    ``ours`` runs before every round, so that ``extra_info["ratio"]`` compares neighbours in time: on a shared machine
    rows of the table that are minutes apart do not compare.
    """
    beside: list[float] = []

    def run_ours() -> None:
        if ours is not None:
            start = time.process_time()
            ours()
            beside.append(time.process_time() - start)

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        result = benchmark.pedantic(run, setup=run_ours, rounds=rounds, iterations=1)
    finally:
        torch.set_num_threads(before)
    if beside:
        benchmark.extra_info.update(ratio=benchmark.stats.stats.median / float(np.median(beside)))
    return result


def agree(benchmark: Any, alphas: Any, scores: Any, expected: tuple[Any, Any]) -> None:
    """Alphas equal except at ties, scores equal to float32 of the reference's eigendecomposition."""
    difference = np.abs(scores - expected[1])
    same = float((np.abs(np.log10(alphas / expected[0])) < 1e-3).mean())
    benchmark.extra_info.update(same_alpha=same, median=float(np.median(difference)), max=float(difference.max()))
    assert same > 0.99
    assert np.median(difference) < 1e-5
    assert difference.max() < 1e-3
