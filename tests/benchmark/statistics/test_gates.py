# SPDX-License-Identifier: Apache-2.0
"""The gate: only responses decide, noise stays out, weak subjects are scored against the pooled power."""

import numpy as np
import pytest

from voxelboard.benchmark.errors import DataError
from voxelboard.benchmark.statistics.gates import gate_subjects, signal_gate
from voxelboard.benchmark.statistics.scores import BlockStatistics, coarsen, pool_rois, segment_statistics


def subject(snr, seed, n_repeats=2, n_voxels=30, n_trs=300):
    """One subject with ROIs A (signal at ``snr``) and NULL."""
    rng = np.random.default_rng(seed)
    signal = np.sqrt(snr) * rng.standard_normal((n_trs, 2 * n_voxels)) * np.repeat([1.0, 0.0], n_voxels)
    responses = signal + rng.standard_normal((n_repeats, n_trs, 2 * n_voxels))
    predictions = signal + 0.1 * rng.standard_normal(signal.shape)
    stats = segment_statistics(predictions, responses, kind="repeats")
    return coarsen(pool_rois(stats, np.repeat(["A", "NULL"], n_voxels), ["A", "NULL"]), 15)


def test_signal_passes_and_noise_does_not():
    gates = np.array([signal_gate(subject(0.12, seed)) for seed in range(60)])
    assert gates[:, 0].mean() > 0.95
    assert gates[:, 1].mean() <= 0.05  # a 3-SE gate over 20 blocks: t(19) gives .004, 60 draws allow 3


def test_gate_does_not_look_at_predictions():
    stats = subject(0.02, 1)
    other = BlockStatistics(-3 * stats.c, 9 * stats.q, stats.s, stats.block_segment, stats.block_trs)
    np.testing.assert_array_equal(signal_gate(stats), signal_gate(other))


def test_all_are_scored_against_the_pooled_power_where_one_is_weak():
    subjects = [subject(0.02, [7, i]) for i in range(8)]
    gated = gate_subjects(subjects)
    own = np.stack([signal_gate(stats) for stats in subjects])
    assert own[:, 0].any()
    assert not own[:, 0].all()
    assert gated.scored[:, 0].all()
    assert gated.pooled[:, 0].all()
    assert not gated.scored[:, 1].any()
    pooled = np.mean([stats.s for stats in subjects], axis=0)
    for stats in gated.subjects:
        np.testing.assert_allclose(stats.s[:, 0], pooled[:, 0])


def test_strong_subjects_keep_their_own_power():
    subjects = [subject(0.3, [8, i]) for i in range(4)]
    gated = gate_subjects(subjects)
    assert gated.scored[:, 0].all()
    assert not gated.pooled.any()
    for stats, before in zip(gated.subjects, subjects, strict=True):
        np.testing.assert_array_equal(stats.s, before.s)


def test_weak_subjects_do_not_bias_a_score():
    """The truth as prediction scores 1: with each subject against its own power where it passes, .93."""
    found = []
    for k in range(40):
        gated = gate_subjects([subject(0.025, [9, k, i], n_voxels=20) for i in range(6)])
        if gated.scored[:, 0].any():
            totals = [[float(x[0]) for x in stats.totals()] for stats in gated.subjects]
            found.append(np.mean([c / np.sqrt(q * s) for c, q, s in totals]))
    oracle = 1 / np.sqrt(1 + 0.01 / 0.025)  # predictions carry a hundredth of unit noise
    assert np.mean(found) == pytest.approx(oracle, abs=0.04)


def test_pooled_power_is_scaled_to_the_voxels_of_a_subject():
    subjects = [subject(0.02, [7, i]) for i in range(8)]
    n_voxels = np.full((8, 2), 30.0)
    n_voxels[0] = 90.0
    equal, scaled = gate_subjects(subjects), gate_subjects(subjects, n_voxels=n_voxels)
    weak = 3
    share = n_voxels[weak, 0] / n_voxels[:, 0].sum()
    np.testing.assert_allclose(scaled.subjects[weak].s[:, 0], 8 * share * equal.subjects[weak].s[:, 0])


def test_subjects_with_other_blocks_are_refused():
    with pytest.raises(DataError, match="different test blocks"):
        gate_subjects([subject(0.1, 0), subject(0.1, 1, n_trs=200)])
    with pytest.raises(DataError, match="at least two inference blocks"):
        signal_gate(subject(0.1, 0, n_trs=20))
