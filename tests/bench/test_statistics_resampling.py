# SPDX-License-Identifier: Apache-2.0
"""Permutations and bootstraps as matrix products against the loop over resampled series.

Parity with the loops is asserted; ratios of CPU seconds on one thread are reported (``extra_info``), never asserted.
Two loops gather the rows for every draw: one with a plain vectorised correlation of all voxels, and, as published
pipelines do, one with himalaya's ``correlation_score``.
"""

import time
import tracemalloc

import numpy as np
import pytest
from himalaya.scoring import correlation_score

from voxelboard.benchmark.statistics.bootstrap import block_weights, bootstrap_correlations, correlation_draws
from voxelboard.benchmark.statistics.detrending import drift_basis
from voxelboard.benchmark.statistics.permutation import block_permutation_test, draw_block_permutations
from voxelboard.benchmark.statistics.ranking import rank_influence
from voxelboard.benchmark.statistics.surrogates import circular_shift_test

N_DRAWS = 1000
# (n_trs, block_trs, n_voxels): statistics of one test story, and of four of them with fewer voxels
SIZES = [
    pytest.param(300, 10, 20_000, id="n300-B30-P1000-V20k"),
    pytest.param(300, 25, 20_000, id="n300-B12-P1000-V20k"),
    pytest.param(1200, 25, 5_000, id="n1200-B48-P1000-V5k"),
]


def series(n_trs, n_voxels):
    rng = np.random.default_rng(0)
    slow = drift_basis(n_trs, 2.0, 120.0)
    responses = rng.standard_normal((n_trs, n_voxels))
    predictions = 0.2 * responses + rng.standard_normal((n_trs, n_voxels))
    return tuple((x - slow @ (slow.T @ x)).astype(np.float32) for x in (predictions, responses))


def loop_correlation(predictions, responses):
    p, y = predictions - predictions.mean(0), responses - responses.mean(0)
    return (p * y).sum(0) / np.sqrt((p * p).sum(0) * (y * y).sum(0))


def cpu_seconds(function):
    start = time.process_time()
    result = function()
    return time.process_time() - start, result


def report(benchmark, ours, loop, himalaya, n_draws):
    """``ours`` in seconds for ``n_draws``, the loops in seconds per draw."""
    benchmark.extra_info.update(
        cpu_ms_per_draw=round(1e3 * ours / n_draws, 3),
        loop_cpu_ms_per_draw=round(1e3 * loop, 3),
        himalaya_cpu_ms_per_draw=round(1e3 * himalaya, 3),
        times_faster_than_loop=round(loop * n_draws / ours, 1),
        times_faster_than_himalaya=round(himalaya * n_draws / ours, 1),
    )


def himalaya_loop(predictions, responses, pairs):
    """CPU seconds per draw of himalaya's correlation over gathered (prediction rows, response rows), and its draws."""
    seconds, draws = cpu_seconds(lambda: np.array([correlation_score(responses[r], predictions[q]) for q, r in pairs]))
    return seconds / len(pairs), draws


@pytest.mark.benchmark(group="statistics: block permutation")
@pytest.mark.parametrize(("n_trs", "block_trs", "n_voxels"), SIZES)
def test_block_permutation(benchmark, n_trs, block_trs, n_voxels):
    predictions, responses = series(n_trs, n_voxels)
    few = 20
    rows = list(draw_block_permutations(n_trs, few, seed=1, block_trs=block_trs).indices())
    loop, null = cpu_seconds(lambda: np.array([loop_correlation(predictions, responses[r]) for r in rows]))
    test = block_permutation_test(predictions, responses, tr=2.0, n_draws=few, seed=1, block_trs=block_trs)
    np.testing.assert_allclose(test.maxima, null.max(1), atol=1e-6)
    np.testing.assert_allclose(test.mean, null.mean(0, dtype=np.float64), atol=1e-6)

    everything = np.arange(n_trs)
    himalaya, peer = himalaya_loop(predictions, responses, [(everything, r) for r in rows[:5]])
    np.testing.assert_allclose(peer, null[:5], atol=1e-5)

    def ours():
        return block_permutation_test(predictions, responses, tr=2.0, n_draws=N_DRAWS, seed=1, block_trs=block_trs)

    seconds, _ = cpu_seconds(ours)
    benchmark.pedantic(ours, rounds=3, iterations=1)
    report(benchmark, seconds, loop / few, himalaya, N_DRAWS)


@pytest.mark.benchmark(group="statistics: block bootstrap")
@pytest.mark.parametrize(("n_trs", "block_trs", "n_voxels"), SIZES)
def test_block_bootstrap(benchmark, n_trs, block_trs, n_voxels):
    predictions, responses = series(n_trs, n_voxels)
    n_blocks = n_trs // block_trs
    weights = block_weights(n_blocks, N_DRAWS, seed=1)
    few = 20
    blocks = np.arange(n_trs).reshape(n_blocks, block_trs)
    rows = [blocks[np.repeat(np.arange(n_blocks), w.astype(int))].ravel() for w in weights[:few]]
    loop, draws = cpu_seconds(
        lambda: np.array([loop_correlation(predictions[r].astype("f8"), responses[r].astype("f8")) for r in rows])
    )
    np.testing.assert_allclose(
        correlation_draws(predictions, responses, weights[:few], block_trs=block_trs), draws, atol=1e-6
    )

    himalaya, peer = himalaya_loop(predictions, responses, [(r, r) for r in rows[:5]])
    np.testing.assert_allclose(peer, draws[:5], atol=1e-5)

    def draws_only():
        for start in range(0, n_voxels, 500):
            here = slice(start, start + 500)
            correlation_draws(predictions[:, here], responses[:, here], weights, block_trs=block_trs)

    seconds, _ = cpu_seconds(draws_only)
    with_quantiles, _ = cpu_seconds(
        lambda: bootstrap_correlations(predictions, responses, weights, block_trs=block_trs)
    )
    benchmark.pedantic(draws_only, rounds=3, iterations=1)
    report(benchmark, seconds, loop / few, himalaya, N_DRAWS)
    benchmark.extra_info["cpu_s_with_quantiles"] = round(with_quantiles, 2)


@pytest.mark.benchmark(group="statistics: circular shifts")
def test_circular_shift(benchmark):
    predictions, responses = series(300, 20_000)
    few = 20
    loop, null = cpu_seconds(
        lambda: np.array([loop_correlation(predictions, np.roll(responses, k, axis=0)) for k in range(10, 10 + few)])
    )

    rolls = [np.roll(np.arange(300), k) for k in range(10, 15)]
    himalaya, _ = himalaya_loop(predictions, responses, [(np.arange(300), r) for r in rolls])

    def ours():
        return circular_shift_test(predictions, responses, tr=2.0, seed=0)

    seconds, test = cpu_seconds(ours)
    np.testing.assert_allclose(test.maxima[:few], null.max(1), atol=1e-6)
    benchmark.pedantic(ours, rounds=3, iterations=1)
    report(benchmark, seconds, loop / few, himalaya, test.n_draws)


@pytest.mark.benchmark(group="statistics: ranking")
@pytest.mark.parametrize("n_models", [50, 500])
def test_ranking(benchmark, n_models):
    """All pairs of a board from influence values of 8 subjects and 20 blocks: what a page's rendering waits for."""
    z = np.random.default_rng(0).standard_normal((n_models, 8, 20))
    names = [f"m{k:03d}" for k in range(n_models)]
    ranking = benchmark.pedantic(lambda: rank_influence(names, z), rounds=3, iterations=1)
    assert len(ranking.models) == n_models


@pytest.mark.benchmark(group="statistics: a whole brain")
def test_whole_brain(benchmark):
    """50,000 voxels x 1,000 draws, permutations and bootstrap: within the memory bound, with progress, against the loop."""
    n_trs, block_trs, n_voxels = 300, 25, 50_000
    predictions, responses = series(n_trs, n_voxels)
    weights = block_weights(n_trs // block_trs, N_DRAWS, seed=1)
    told = []

    def permutations():
        return block_permutation_test(
            predictions,
            responses,
            tr=2.0,
            n_draws=N_DRAWS,
            seed=1,
            block_trs=block_trs,
            progress=lambda done, total: told.append((done, total)),
        )

    def bootstrap():
        return bootstrap_correlations(
            predictions,
            responses,
            weights,
            block_trs=block_trs,
            progress=lambda done, total: told.append((done, total)),
        )

    few = 5
    rows = list(draw_block_permutations(n_trs, few, seed=1, block_trs=block_trs).indices())
    loop, null = cpu_seconds(lambda: np.array([loop_correlation(predictions, responses[r]) for r in rows]))
    peak_permutations, peak_bootstrap = (peak_mebibytes(job) for job in (permutations, bootstrap))
    assert told[-1] == (n_voxels, n_voxels)
    assert max(peak_permutations, peak_bootstrap) < 400  # MiB beside the series themselves
    np.testing.assert_allclose(
        block_permutation_test(predictions, responses, tr=2.0, n_draws=few, seed=1, block_trs=block_trs).maxima,
        null.max(1),
        atol=1e-6,
    )
    with_permutations, _ = cpu_seconds(permutations)
    with_bootstrap, _ = cpu_seconds(bootstrap)
    benchmark.pedantic(permutations, rounds=1, iterations=1)
    benchmark.extra_info.update(
        permutations_cpu_s=round(with_permutations, 1),
        bootstrap_with_quantiles_cpu_s=round(with_bootstrap, 1),
        loop_cpu_s=round(loop / few * N_DRAWS, 1),
        times_faster_than_loop=round(loop / few * N_DRAWS / with_permutations, 1),
        peak_mib_permutations=round(peak_permutations),
        peak_mib_bootstrap=round(peak_bootstrap),
    )


def peak_mebibytes(job):
    """Greatest memory that numpy and Python held during the job beyond what they held before."""
    tracemalloc.start()
    job()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return peak / 2**20
