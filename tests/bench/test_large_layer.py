# SPDX-License-Identifier: Apache-2.0
"""One layer of a whole brain: what it takes when the responses are larger than memory and lie in a file.

``VOXELBOARD_BENCH_STORIES=84 VOXELBOARD_BENCH_VOXELS=95000 VOXELBOARD_BENCH_FEATURES=768`` is a layer of GPT-2 on LeBel's
longest subject: 33,000 TRs, a file of 12.5 GB under ``VOXELBOARD_CACHE``, half an hour of one core. ``VOXELBOARD_BENCH_EVERY_ALPHA=3``
takes every third alpha of the protocol: less time, nearly the same memory. Memory is what the process itself holds (RssAnon,
read twenty times a second): pages of the file are the system's to give back.
"""

import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from voxelboard.benchmark.encoding.designs import Problem, SegmentedDesign, SegmentRows
from voxelboard.benchmark.encoding.memory import BASE_BYTES, estimate_memory
from voxelboard.benchmark.encoding.ridge import RidgeFit, fit_ridge
from voxelboard.benchmark.protocol import V1
from voxelboard.benchmark.scratch import working_array

N_STORIES = int(os.environ.get("VOXELBOARD_BENCH_STORIES", "12"))
N_VOXELS = int(os.environ.get("VOXELBOARD_BENCH_VOXELS", "3000"))
N_FEATURES = int(os.environ.get("VOXELBOARD_BENCH_FEATURES", "96"))
N_ROWS, N_FOLDS, BLOCK = 393, 5, 4096
ALPHAS = V1.encoding.relative_alphas[:: int(os.environ.get("VOXELBOARD_BENCH_EVERY_ALPHA", "1"))]

pytestmark = [
    pytest.mark.benchmark(group=f"one layer, {N_STORIES * N_ROWS} TRs x {N_VOXELS} voxels x {N_FEATURES} features"),
    pytest.mark.timeout(0),
    pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads its memory from /proc"),
]


def held_bytes() -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("RssAnon"))


@contextmanager
def watched_memory() -> Iterator[list[int]]:
    """The most that the process held while it ran, in a list of one."""
    most, done = [held_bytes()], threading.Event()

    def watch() -> None:
        while not done.wait(0.05):
            most[0] = max(most[0], held_bytes())

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield most
    finally:
        done.set()
        thread.join()


@pytest.fixture(scope="module")
def design() -> SegmentedDesign:
    rng = np.random.default_rng(0)
    scale = np.arange(1, N_FEATURES + 1, dtype=np.float32) ** -0.25
    features = {
        i: rng.standard_normal((N_ROWS + 2 * V1.design.trim_trs, N_FEATURES), dtype=np.float32) * scale
        for i in range(N_STORIES + 1)
    }
    return SegmentedDesign(features, V1.design.delays_trs, V1.design.trim_trs, 2.0, V1.design.high_pass_s)


def segments(stories: range) -> list[SegmentRows]:
    return [SegmentRows(i, 0, N_ROWS + 2 * V1.design.trim_trs) for i in stories]


@pytest.fixture(scope="module")
def responses(design: SegmentedDesign) -> np.ndarray:
    """Half noise, half the first eight features, on disk where they are large."""
    rng = np.random.default_rng(1)
    cache = Path(os.environ.get("VOXELBOARD_CACHE", "~/.cache/voxelboard")).expanduser()
    table = working_array((N_STORIES * N_ROWS, N_VOXELS), cache)
    few = SegmentedDesign(
        {i: x[:, :8] for i, x in design.features.items()}, design.delays, design.trim, design.tr, design.cutoff_s
    )
    rows = few.rows(segments(range(N_STORIES)), np.ones(8)).astype(np.float32)
    weights = rng.standard_normal((rows.shape[1], N_VOXELS), dtype=np.float32) / np.float32(rows.shape[1] ** 0.5)
    for first in range(0, len(table), N_ROWS):
        part = slice(first, first + N_ROWS)
        table[part] = rows[part] @ weights + rng.standard_normal((N_ROWS, N_VOXELS), dtype=np.float32)
    return table


def test_one_layer(benchmark: Any, design: SegmentedDesign, responses: np.ndarray) -> None:
    train, test = segments(range(N_STORIES)), segments(range(N_STORIES, N_STORIES + 1))
    folds = np.repeat(np.arange(N_STORIES) % N_FOLDS, N_ROWS)
    seconds: dict[str, float] = {}

    def fit() -> tuple[Problem, RidgeFit]:
        start = time.process_time()
        problem = design.problem(train, test)
        seconds["design"] = time.process_time() - start
        found = fit_ridge(problem, responses, folds, ALPHAS, target_block=BLOCK)
        seconds["fit"] = time.process_time() - start - seconds["design"]
        return problem, found

    base = held_bytes()
    with watched_memory() as most:
        problem, found = benchmark.pedantic(fit, rounds=1)
    estimate = estimate_memory(
        n_train=len(folds), n_test=N_ROWS, n_features=N_FEATURES, n_delays=len(design.delays), n_targets=N_VOXELS,
        n_alphas=len(ALPHAS), n_folds=N_FOLDS, target_block=BLOCK, responses_in_memory=False,
    )  # fmt: skip
    grown, expected = most[0] - base, estimate.host - BASE_BYTES
    benchmark.extra_info.update(
        cpu_seconds={stage: round(value, 1) for stage, value in seconds.items()},
        form=problem.form,
        response_gib=round(responses.nbytes / 2**30, 2),
        grown_mib=round(grown / 2**20),
        estimated_mib=round(expected / 2**20),
    )
    assert grown < expected
    assert problem.form == "primal", "the check below is made for designs of fewer columns than half of the rows"
    rows = problem.train.numpy()
    for v in (0, N_VOXELS - 1):  # the closed form at the chosen alpha
        gram = rows.T @ rows
        gram[np.diag_indices_from(gram)] += found.alphas[v]
        weights = np.linalg.solve(gram, rows.T @ responses[:, v].astype(np.float64))
        np.testing.assert_allclose(found.test_predictions[:, v], problem.test.numpy() @ weights, atol=2e-5)
