# SPDX-License-Identifier: Apache-2.0
"""Voxelwise tests between two models: calibrated where nothing differs, right where something does."""

import numpy as np
import pytest
from scipy import stats

from voxelboard.benchmark.errors import InvalidNumbers, UserError
from voxelboard.benchmark.statistics.influence import unit_influence
from voxelboard.benchmark.statistics.paired import neighbour_inflation, paired_voxel_test
from voxelboard.benchmark.statistics.scores import coarsen, segment_statistics

N_TRS, N_VOXELS = 450, 1500


def influence(predictions, responses):
    """(n_blocks, n_voxels), 15-TR blocks, as records store them."""
    table = segment_statistics(predictions, responses[None], kind="none", block_trs=5)
    return unit_influence(coarsen(table, 15)).astype(np.float16)


def pair(hrf_smooth, high_pass, ar1, seed, gain=0.0):
    """Two models that share a signal with smooth errors of their own; the first has ``gain`` more of it in a tenth of voxels."""
    rng = np.random.default_rng(seed)
    signal = hrf_smooth(N_TRS, N_VOXELS, rng, 0.5)
    responses = high_pass(0.6 * signal + ar1(N_TRS, N_VOXELS, 0.5, rng))
    own = [hrf_smooth(N_TRS, N_VOXELS, rng, 0.5) for _ in range(2)]
    more = gain * (np.arange(N_VOXELS) < N_VOXELS // 10)
    predictions = [high_pass((0.5 + extra) * signal + error) for extra, error in zip((more, 0.0), own, strict=True)]
    return influence(predictions[0], responses).astype(np.float64) - influence(predictions[1], responses)


def test_equal_models_differ_in_the_nominal_share_of_voxels(hrf_smooth, high_pass, ar1):
    found = paired_voxel_test(pair(hrf_smooth, high_pass, ar1, 1), seed=0, n_draws=1999)
    for level in (0.05, 0.2):
        share = (found.p <= level).mean()
        assert share == pytest.approx(level, abs=3 * np.sqrt(level * (1 - level) / N_VOXELS) + 0.01)
    assert found.q.min() > 0.05


def test_false_discoveries_are_controlled_and_true_ones_found(hrf_smooth, high_pass, ar1):
    false, power = [], []
    for seed in range(2, 5):
        found = paired_voxel_test(pair(hrf_smooth, high_pass, ar1, seed, gain=2.5), seed=0, expected_share=0.1)
        truth = np.arange(N_VOXELS) < N_VOXELS // 10
        better = found.better(0.05)
        claims = better | found.worse(0.05)
        assert claims.any()
        false.append((claims & ~truth).sum() / claims.sum())
        power.append((better & truth).sum() / truth.sum())
    assert np.mean(false) <= 0.08
    assert np.mean(power) > 0.5


def test_p_values_are_those_of_the_reference():
    """SciPy's paired permutation test over all 2^8 patterns of signs."""
    differences = np.random.default_rng(7).standard_normal((8, 5)) + 0.4
    found = paired_voxel_test(differences, seed=3, segments=np.arange(8), n_draws=20_000)
    for voxel in range(5):
        expected = stats.permutation_test(
            (differences[:, voxel],), np.sum, permutation_type="samples", n_resamples=np.inf
        ).pvalue
        assert found.p[voxel] == pytest.approx(expected, abs=0.02)  # 3 standard errors of twice a share
    assert found.difference == pytest.approx(differences.mean(axis=0))


def test_exchanged_models_change_signs_alone():
    differences = np.random.default_rng(1).standard_normal((20, 30)) + 0.3
    there, back = (paired_voxel_test(sign * differences, seed=3, n_draws=999) for sign in (1, -1))
    assert np.array_equal(there.p, back.p)
    assert np.array_equal(there.better(0.2), back.worse(0.2))
    nothing = paired_voxel_test(np.zeros((20, 3)), seed=0, n_draws=99)
    assert (nothing.p == 1).all()
    assert not nothing.better(0.05).any()


def test_draws_suffice_for_counted_p_values():
    found = paired_voxel_test(np.random.default_rng(1).standard_normal((10, 40)), seed=3, segments=np.arange(10))
    assert found.method == "sign flips of 10 blocks, variance x 1.00 for correlated neighbours, 8000 draws, two-sided"


def test_correlated_neighbours_widen_the_null(ar1):
    """Blocks that follow an AR(.3): the pooled correlation is found, and the rate stays where plain flips exceed it."""
    blocks = ar1(60, 4000, 0.3, np.random.default_rng(3))
    assert neighbour_inflation(blocks, np.zeros(60, dtype=int)) == pytest.approx(1.6, abs=0.05)
    assert neighbour_inflation(blocks, np.repeat(np.arange(30), 2)) == pytest.approx(1.3, abs=0.05)
    assert (paired_voxel_test(blocks, seed=1, n_draws=999).p <= 0.05).mean() <= 0.075
    assert (paired_voxel_test(blocks, seed=1, n_draws=999, segments=np.arange(60)).p <= 0.05).mean() >= 0.1


def test_too_few_blocks_and_bad_numbers_are_refused():
    with pytest.raises(UserError, match="6 blocks of test data cannot tell"):
        paired_voxel_test(np.zeros((6, 3)), seed=0)
    with pytest.raises(InvalidNumbers, match="NaN or infinite"):
        paired_voxel_test(np.full((9, 3), np.nan), seed=0)
