# SPDX-License-Identifier: Apache-2.0
"""Block permutation: exact draws, parity with the loop, and calibration where i.i.d. permutation fails."""

import numpy as np
import pytest
from scipy import stats as distributions

from voxelboard.benchmark.errors import InvalidNumbers, UserError
from voxelboard.benchmark.statistics.fdr import discover
from voxelboard.benchmark.statistics.permutation import (
    JointUnit,
    block_permutation_test,
    draw_block_permutations,
    joint_permutation_test,
)
from voxelboard.benchmark.statistics.scores import segment_statistics, voxel_correlation
from voxelboard.benchmark.statistics.surrogates import phase_randomisation_test

TR = 2.0


@pytest.mark.parametrize(("n_trs", "block_trs"), [(250, 25), (287, 25), (101, 25), (63, 7), (40, 10)])
def test_e8_every_draw_is_a_bijection(n_trs, block_trs):
    draws = draw_block_permutations(n_trs, 60, seed=1, block_trs=block_trs)
    rows = np.array(list(draws.indices()))
    assert rows.shape == (60, n_trs)
    np.testing.assert_array_equal(np.sort(rows, axis=1), np.broadcast_to(np.arange(n_trs), rows.shape))
    kept_together = np.diff(rows, axis=1) == 1
    assert kept_together.mean() > 1 - 1.5 / block_trs  # cuts only between blocks and where the series is closed
    assert len({row.tobytes() for row in rows}) > 50
    again = draw_block_permutations(n_trs, 60, seed=1, block_trs=block_trs)
    assert np.array_equal(rows, np.array(list(again.indices())))


@pytest.mark.parametrize(("n_trs", "block_trs"), [(250, 25), (287, 25), (301, 7)])
def test_streamed_null_is_the_loop_over_permuted_series(n_trs, block_trs, high_pass):
    rng = np.random.default_rng(2)
    predictions = high_pass(rng.standard_normal((n_trs, 9)))
    responses = high_pass(rng.standard_normal((n_trs, 9)) + 0.1 * predictions)
    test = block_permutation_test(predictions, responses, tr=TR, n_draws=137, seed=3, block_trs=block_trs)
    draws = draw_block_permutations(n_trs, 137, seed=3, block_trs=block_trs)
    null = np.array([voxel_correlation(predictions, responses[rows]) for rows in draws.indices()])
    np.testing.assert_allclose(test.observed, voxel_correlation(predictions, responses), atol=1e-12)
    np.testing.assert_allclose(test.maxima, null.max(1), atol=1e-6)
    np.testing.assert_allclose(test.mean, null.mean(0), atol=1e-6)
    np.testing.assert_allclose(test.sd, null.std(0), atol=1e-6)
    np.testing.assert_allclose(test.skew, distributions.skew(null), atol=1e-3)
    np.testing.assert_array_equal(test.exceedances, (null >= test.observed - 1e-6).sum(0))
    np.testing.assert_allclose(test.p, (1 + (null >= test.observed).sum(0)) / 138)
    family = [(1 + (null.max(1) >= r).sum()) / 138 for r in test.observed]
    np.testing.assert_allclose(test.p_family_wise, family)


def test_chunks_do_not_show_and_progress_is_told(high_pass):
    rng = np.random.default_rng(4)
    predictions, responses = (high_pass(rng.standard_normal((250, 5000))) for _ in range(2))
    told = []
    whole = block_permutation_test(
        predictions, responses, tr=TR, n_draws=20, seed=0, progress=lambda *at: told.append(at)
    )
    part = block_permutation_test(predictions[:, 4990:], responses[:, 4990:], tr=TR, n_draws=20, seed=0)
    np.testing.assert_array_equal(whole.exceedances[4990:], part.exceedances)
    assert len(told) > 1
    assert told[-1] == (5000, 5000)


def test_p_is_never_zero_and_an_identity_draw_counts(high_pass):
    series = high_pass(np.random.default_rng(5).standard_normal((100, 3)))
    test = block_permutation_test(series, series, tr=TR, n_draws=99, seed=0)
    assert test.p.min() >= 0.01
    np.testing.assert_allclose(test.observed, 1.0)
    constant = block_permutation_test(np.zeros((100, 3)), series, tr=TR, n_draws=99, seed=0)
    assert constant.p.tolist() == [1.0, 1.0, 1.0]
    assert constant.gaussian_p.tolist() == [1.0, 1.0, 1.0]


def false_positive_rate(p):
    return float(np.mean(np.asarray(p) <= 0.05))


@pytest.mark.parametrize("phi", [0.0, 0.5])
def test_a1_voxel_false_positives(phi, ar1, hrf_smooth, drift, high_pass):
    """3000 null pairs of 250 TRs, predictions of lag-1 autocorrelation .79-.92; band [.04, .065] as in A1."""
    rng = np.random.default_rng([6, int(10 * phi)])
    predictions = high_pass(hrf_smooth(250, 3000, rng, phi))
    responses = high_pass(ar1(250, 3000, 0.5, rng) + drift(250, 3000, rng))
    test = block_permutation_test(predictions, responses, tr=TR, n_draws=500, seed=0)
    assert 0.04 <= false_positive_rate(test.p) <= 0.065
    assert 0.04 <= false_positive_rate(test.gaussian_p) <= 0.07
    # the same data defeat the permutation of single TRs: the test above has teeth
    iid = np.zeros(3000)
    p, y = (distributions.zscore(series).astype(np.float32) for series in (predictions, responses))
    observed = np.einsum("tv,tv->v", p, y)
    for _ in range(99):
        iid += np.einsum("tv,tv->v", p, y[rng.permutation(250)]) >= observed
    assert false_positive_rate((1 + iid) / 100) > 0.12


def test_a2_drifting_series_are_refused_and_filtered_ones_calibrated(ar1, drift, high_pass):
    rng = np.random.default_rng(7)
    ramp = np.linspace(-1, 1, 250)[:, None] + 0.3 * ar1(250, 1500, 0.5, rng)
    responses = ar1(250, 1500, 0.5, rng) + drift(250, 1500, rng, amplitude=1.0)
    with pytest.raises(InvalidNumbers, match=r"predictions: .* periods above 120 s"):
        block_permutation_test(ramp, high_pass(responses), tr=TR, seed=0)
    with pytest.raises(InvalidNumbers, match="responses: "):
        block_permutation_test(high_pass(ramp), responses, tr=TR, seed=0)
    test = block_permutation_test(high_pass(ramp), high_pass(responses), tr=TR, n_draws=500, seed=0)
    error = np.sqrt(0.05 * 0.95 / 1500)
    assert false_positive_rate(test.p) <= 0.065 + 2 * error


def null_worlds(n_worlds, hrf_smooth, ar1, high_pass, n_subjects=8, n_voxels=6):
    """A model unrelated to the stimulus that all subjects heard; both are alike in all subjects."""
    rng = np.random.default_rng(8)
    for _ in range(n_worlds):
        feature, stimulus = hrf_smooth(250, 3, rng, 0.5), hrf_smooth(250, 3, rng, 0.5)
        mixing, tuning = rng.standard_normal((2, 3, n_voxels))
        subjects = []
        for _ in range(n_subjects):
            p = feature @ (mixing + 0.5 * rng.standard_normal((3, n_voxels)))
            y = stimulus @ (tuning + 0.5 * rng.standard_normal((3, n_voxels)))
            noise = ar1(250, n_voxels, 0.5, rng)
            subjects.append((high_pass(p), high_pass(0.6 * y + noise)))
        yield subjects


def test_a3_joint_permutation_is_calibrated_where_subject_statistics_are_not(hrf_smooth, ar1, high_pass):
    """Does a model beat 0, eight subjects, one stimulus: 400 worlds, bound .07 plus 1.5 Monte-Carlo SEs (.011)."""
    joint, by_subject = [], []
    for k, subjects in enumerate(null_worlds(400, hrf_smooth, ar1, high_pass)):
        units = [JointUnit(p, y, signal_power=100.0) for p, y in subjects]
        joint.append(joint_permutation_test(units, tr=TR, n_draws=199, seed=k).p)
        scores = [np.sum(p * y) / np.sqrt((p**2).sum()) for p, y in subjects]
        by_subject.append(distributions.ttest_1samp(scores, 0, alternative="greater").pvalue)
    assert false_positive_rate(joint) <= 0.07 + 0.0165
    assert false_positive_rate(by_subject) > 0.2


def test_joint_statistic_is_the_score_and_its_null_the_loop(high_pass):
    rng = np.random.default_rng(9)
    units, scores = [], []
    for _ in range(3):
        signal = rng.standard_normal((130, 5))
        runs = np.stack([high_pass(signal + rng.standard_normal((130, 5))) for _ in range(3)])
        predictions = high_pass(signal + rng.standard_normal((130, 5)))
        c, q, s = (t.sum() for t in segment_statistics(predictions, runs, kind="repeats").totals())
        units.append(JointUnit(predictions, runs.mean(0), signal_power=float(s)))
        scores.append(c / np.sqrt(q * s))
    test = joint_permutation_test(units, tr=TR, n_draws=50, seed=1)
    assert test.observed == pytest.approx(np.mean(scores), rel=1e-9)
    draws = draw_block_permutations(130, 50, seed=1)
    null = [
        np.mean(
            [
                (u.predictions * u.responses[rows]).sum() / np.sqrt((u.predictions**2).sum() * u.signal_power)
                for u in units
            ]
        )
        for rows in draws.indices()
    ]
    np.testing.assert_allclose(test.null, null, atol=1e-9)
    assert test.p == (1 + np.sum(np.array(null) >= test.observed)) / 51
    weighted = [JointUnit(units[0].predictions, units[0].responses, units[0].signal_power, weight=0.0), *units[1:]]
    assert joint_permutation_test(weighted, tr=TR, n_draws=50, seed=1).observed == pytest.approx(np.mean(scores[1:]))
    with pytest.raises(InvalidNumbers, match="signal power"):
        joint_permutation_test([JointUnit(units[0].predictions, units[0].responses, 0.0)], tr=TR, seed=0)


def test_a5_false_discoveries_and_power(ar1, hrf_smooth, high_pass):
    """2000 spatially correlated voxels, a tenth live, 200 draws: 20 worlds, mean FDR bound .08 plus 2 SEs."""
    wrong, found = [], []
    live = np.arange(2000) < 200
    for world in range(20):
        rng = np.random.default_rng([10, world])
        predictions = hrf_smooth(250, 2000, rng, 0.0)
        field = np.repeat(ar1(250, 400, 0.5, rng), 5, axis=1)  # neighbours share half of their noise
        noise = (field + ar1(250, 2000, 0.5, rng)) / np.sqrt(2)
        responses = high_pass(noise + 0.35 * predictions * live)
        test = block_permutation_test(high_pass(predictions), responses, tr=TR, n_draws=200, seed=world)
        result = discover(test, q=0.05, n_expected=200)
        assert result.p_kind == "gaussian tail"
        wrong.append((result.rejected & ~live).sum() / max(1, result.rejected.sum()))
        found.append(result.rejected[live].mean())
        counted_floor = 1 / 201
        assert counted_floor > 0.05 * 1 / 2000  # counting alone could not reach the smallest step of BH
    assert np.mean(wrong) <= 0.08 + 2 * np.std(wrong) / np.sqrt(20)
    assert np.mean(found) > 0.8


def test_family_wise_error_of_the_maximum(ar1, hrf_smooth, high_pass):
    """150 worlds of 200 null voxels: any voxel below .05 in at most .05 plus 2 Monte-Carlo SEs (.018) of them.

    Permuted blocks have 4 % too little spread (cuts break autocorrelation), which adds up in the extreme tail: 500
    worlds gave .078, random phases .058. Their bound starts at A1's .065.
    """
    blocks, phases = [], []
    for world in range(150):
        rng = np.random.default_rng([11, world])
        predictions, responses = high_pass(hrf_smooth(250, 200, rng, 0.0)), high_pass(ar1(250, 200, 0.5, rng))
        test = block_permutation_test(predictions, responses, tr=TR, n_draws=199, seed=world)
        blocks.append((test.p_family_wise <= 0.05).any())
        test = phase_randomisation_test(predictions, responses, tr=TR, n_draws=199, seed=world)
        phases.append((test.p_family_wise <= 0.05).any())
    assert np.mean(blocks) <= 0.065 + 0.036
    assert np.mean(phases) <= 0.05 + 0.036


def test_bad_input_is_refused(high_pass):
    series = high_pass(np.random.default_rng(12).standard_normal((90, 4)))
    with pytest.raises(UserError, match="3 blocks of 25 TRs"):
        block_permutation_test(series, series, tr=TR, seed=0)
    broken = series.copy()
    broken[0, 0] = np.inf
    with pytest.raises(InvalidNumbers, match="responses hold NaN"):
        block_permutation_test(series, broken, tr=TR, seed=0, block_trs=20)
    with pytest.raises(ValueError, match="shapes"):
        block_permutation_test(series, series[:, :2], tr=TR, seed=0)
