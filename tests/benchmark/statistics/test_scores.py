# SPDX-License-Identifier: Apache-2.0
"""Block statistics and the score: closed forms, planted correlations, and what must stay additive."""

import numpy as np
import pytest

from voxelboard.benchmark.errors import DataError, InvalidNumbers, UserError
from voxelboard.benchmark.statistics.scores import (
    BlockStatistics,
    coarsen,
    concatenate,
    explained_fraction,
    macro_score,
    noise_corrected,
    pool_rois,
    segment_statistics,
    unit_explained_fractions,
    unit_scores,
    voxel_correlation,
)


def repeats_of(signal, n_repeats, noise_sd, rng):
    """(n_repeats, n_trs, n_voxels) z-scored each repeat, as the protocol does."""
    runs = signal + noise_sd * rng.standard_normal((n_repeats, *signal.shape))
    runs -= runs.mean(axis=1, keepdims=True)
    return runs / runs.std(axis=1, keepdims=True)


@pytest.fixture
def segment():
    rng = np.random.default_rng(0)
    return rng.standard_normal((63, 7)), rng.standard_normal((3, 63, 7))


def test_sums_are_the_formulas_of_the_specification(segment):
    predictions, responses = segment
    stats = segment_statistics(predictions, responses, kind="repeats", block_trs=5)
    mean = responses.mean(0)
    c, q, s = np.zeros(7), np.zeros(7), np.zeros(7)
    for t in range(63):  # statistics.md 2.2, term by term
        for v in range(7):
            p = predictions[t, v] - predictions[:, v].mean()
            y = mean[t, v] - mean[:, v].mean()
            single = np.mean([(responses[r, t, v] - responses[r, :, v].mean()) ** 2 for r in range(3)])
            c[v] += p * y
            q[v] += p * p
            s[v] += (3 * y * y - single) / 2
    np.testing.assert_allclose(stats.totals(), (c, q, s), rtol=1e-12)
    assert stats.n_blocks == 12  # 63 = 11 blocks of 5 and one of 8


def test_signal_power_is_schoppes(segment):
    _, responses = segment
    stats = segment_statistics(responses.mean(0), responses, kind="repeats")
    summed = responses.sum(0)  # Schoppe 2016 eq. 7: [var(sum) - sum(var)] / (R (R - 1))
    power = (summed.var(0, ddof=1) - responses.var(1, ddof=1).sum(0)) / (3 * 2)
    np.testing.assert_allclose(stats.totals()[2] / 62, power, rtol=1e-10)


def test_without_a_ceiling_the_score_is_pearson(segment):
    predictions, responses = segment
    stats = segment_statistics(predictions, responses, kind="none")
    mean = responses.mean(0)
    expected = [np.corrcoef(predictions[:, v], mean[:, v])[0, 1] for v in range(7)]
    np.testing.assert_allclose(unit_scores(stats).values, expected, rtol=1e-12)
    np.testing.assert_allclose(voxel_correlation(predictions, mean), expected, rtol=1e-12)
    fraction = [
        1 - ((y - y.mean() - (p - p.mean())) ** 2).sum() / ((y - y.mean()) ** 2).sum()
        for p, y in zip(predictions.T, mean.T, strict=True)
    ]
    np.testing.assert_allclose(unit_explained_fractions(stats).values, fraction, rtol=1e-10)


def test_correlation_over_segments_centres_each(segment):
    predictions, responses = segment
    labels = np.repeat([0, 1], [30, 33])
    shifted = predictions + np.where(labels == 0, 50.0, -50.0)[:, None]
    np.testing.assert_allclose(
        voxel_correlation(shifted, responses[0], labels), voxel_correlation(predictions, responses[0], labels)
    )
    parts = [
        segment_statistics(predictions[labels == k], responses[:1, labels == k], kind="none", block_trs=5)
        for k in (0, 1)
    ]
    pooled = unit_scores(concatenate(parts)).values
    np.testing.assert_allclose(voxel_correlation(predictions, responses[0], labels), pooled, rtol=1e-12)


@pytest.mark.parametrize("n_repeats", [2, 5, 10])
@pytest.mark.parametrize("rho", [1.0, 0.6, 0.3, 0.0])
def test_b1_b2_score_recovers_the_planted_correlation_with_the_signal(n_repeats, rho):
    """600 voxels, SNR .12, no mask; the bound is statistics.md B1/B2 plus 3 Monte-Carlo standard errors."""
    worlds = []
    for seed in range(8):
        rng = np.random.default_rng([2, seed])
        signal, other = rng.standard_normal((2, 300, 600))
        responses = repeats_of(signal, n_repeats, np.sqrt(1 / 0.12), rng)
        predictions = rho * signal + np.sqrt(1 - rho**2) * other
        stats = segment_statistics(predictions, responses, kind="repeats")
        worlds.append(macro_score(pool_rois(stats, np.full(600, "ROI"), ["ROI"]), np.array([True])))
    error = np.std(worlds, ddof=1) / np.sqrt(len(worlds))
    bound = 0.005 if n_repeats == 10 and rho == 1.0 else 0.01
    assert abs(np.mean(worlds) - rho) <= bound + 3 * error
    assert error < 0.01


def test_mean_of_voxel_ratios_would_fail_the_same_bound():
    """The test above has teeth: r / ceiling voxel by voxel, ceilings clipped at 1, misses by far (statistics.md B2)."""
    rng = np.random.default_rng(3)
    signal = rng.standard_normal((300, 600))
    responses = repeats_of(signal, 2, np.sqrt(1 / 0.12), rng)
    stats = segment_statistics(signal, responses, kind="repeats")
    power = np.clip(stats.totals()[2] / 300, 1e-3, 1)
    ratio = voxel_correlation(signal, responses.mean(0)) / np.sqrt(power / responses.mean(0).var(0))
    assert np.mean(ratio) > 1.1


def test_inter_subject_power_is_unbiased_for_the_shared_signal():
    rng = np.random.default_rng(4)
    shared = rng.standard_normal((400, 500))
    y = shared + 2 * rng.standard_normal((6, 400, 500))
    stats = segment_statistics(shared, y[:1], kind="inter_subject", others=y[1:].mean(0))
    share = stats.totals()[2].mean() / 400
    assert abs(share - 1.0) < 0.02  # planted shared power 1, own noise power 4
    score = macro_score(pool_rois(stats, np.full(500, "A"), ["A"]), np.array([True]))
    assert abs(score - 1.0) < 0.02


def test_score_is_signed_scale_free_and_never_clipped(segment):
    predictions, responses = segment
    stats = segment_statistics(predictions, responses, kind="none")
    for scale, sign in ((1e-3, 1), (-7.0, -1)):
        other = segment_statistics(scale * predictions + 3.0, responses, kind="none")
        np.testing.assert_allclose(unit_scores(other).values, sign * unit_scores(stats).values, rtol=1e-9)
    assert noise_corrected(3.0, 1.0, 1.0) == 3.0
    assert noise_corrected(-3.0, 1.0, 1.0) == -3.0
    assert explained_fraction(0.0, 2.0, 1.0) == -2.0


def test_constant_predictions_score_zero_and_missing_power_is_said():
    rng = np.random.default_rng(5)
    responses = rng.standard_normal((2, 50, 3))
    stats = segment_statistics(np.full((50, 3), 0.1), responses, kind="none")
    assert unit_scores(stats).values.tolist() == [0.0, 0.0, 0.0]
    assert voxel_correlation(np.full((50, 3), 0.1), responses[0]).tolist() == [0.0, 0.0, 0.0]
    assert noise_corrected(1.0, 1.0, 0.0) is None
    assert explained_fraction(1.0, 1.0, -1.0) is None
    opposite = np.stack([responses[0], -responses[0]])  # signal power is negative by construction
    scores = unit_scores(segment_statistics(responses[0], opposite, kind="repeats"))
    assert not scores.defined.any()
    assert scores.values.tolist() == [0.0, 0.0, 0.0]
    with pytest.raises(InvalidNumbers, match="not above zero"):
        macro_score(segment_statistics(responses[0], opposite, kind="repeats"), np.ones(3, dtype=bool))


@pytest.mark.parametrize("n_trs", [4, 15, 44, 63, 292])
def test_coarsening_is_cutting_longer_blocks(n_trs):
    rng = np.random.default_rng(n_trs)
    predictions, responses = rng.standard_normal((n_trs, 4)), rng.standard_normal((2, n_trs, 4))
    fine = segment_statistics(predictions, responses, kind="repeats", block_trs=5)
    direct = segment_statistics(predictions, responses, kind="repeats", block_trs=15)
    joined = coarsen(fine, 15)
    assert joined.block_trs == 15
    np.testing.assert_allclose(joined.c, direct.c, rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(joined.s, direct.s, rtol=1e-12, atol=1e-12)


def test_coarsening_never_crosses_segments():
    rng = np.random.default_rng(6)
    parts = [
        segment_statistics(rng.standard_normal((n, 2)), rng.standard_normal((2, n, 2)), kind="repeats")
        for n in (37, 52, 9)
    ]
    whole = coarsen(concatenate(parts), 15)
    apart = concatenate([coarsen(part, 15) for part in parts])
    np.testing.assert_array_equal(whole.c, apart.c)
    assert whole.block_segment.tolist() == [0, 0, 1, 1, 1, 2]
    np.testing.assert_allclose(whole.totals(), concatenate(parts).totals())
    with pytest.raises(ValueError, match="cannot be joined"):
        coarsen(whole, 25)


def test_pooling_rois_sums_their_voxels(segment):
    predictions, responses = segment
    stats = segment_statistics(predictions, responses, kind="repeats")
    labels = np.array(list("abcabca"))
    pooled = pool_rois(stats, labels, ["c", "a"])
    np.testing.assert_allclose(pooled.q[:, 1], stats.q[:, [0, 3, 6]].sum(1))
    np.testing.assert_allclose(pooled.q[:, 0], stats.q[:, [2, 5]].sum(1))
    with pytest.raises(UserError, match="unknown ROI 'd'"):
        pool_rois(stats, labels, ["d"])


def test_macro_score_gives_each_roi_the_same_weight():
    c = np.array([[4.0, 0.2, 9.0]])
    stats = BlockStatistics(c, np.array([[4.0, 1.0, 1.0]]), np.array([[4.0, 1.0, 1.0]]), np.zeros(1, dtype=np.int64), 5)
    assert macro_score(stats, np.array([True, True, False])) == pytest.approx((1.0 + 0.2) / 2)
    assert macro_score(stats, np.array([False, False, False])) is None


def test_arrays_round_trip_to_the_same_bytes(segment, tmp_path):
    stats = segment_statistics(*segment, kind="repeats")
    np.savez(tmp_path / "cell.npz", **stats.as_arrays())
    with np.load(tmp_path / "cell.npz", allow_pickle=False) as stored:
        back = BlockStatistics.from_arrays(stored)
    assert back.block_trs == stats.block_trs
    for name in ("c", "q", "s", "block_segment"):
        assert getattr(back, name).tobytes() == getattr(stats, name).tobytes()


def test_voxel_chunks_do_not_show():
    rng = np.random.default_rng(7)
    predictions, responses = rng.standard_normal((40, 2500)), rng.standard_normal((2, 40, 2500))
    whole = segment_statistics(predictions, responses, kind="repeats")
    part = segment_statistics(predictions[:, 2040:2060], responses[:, :, 2040:2060], kind="repeats")
    np.testing.assert_allclose(whole.s[:, 2040:2060], part.s, rtol=1e-12)
    np.testing.assert_allclose(whole.c[:, 2040:2060], part.c, rtol=1e-12)


def test_bad_input_is_refused(segment):
    predictions, responses = segment
    with pytest.raises(DataError, match="two presentations"):
        segment_statistics(predictions, responses[:1], kind="repeats")
    with pytest.raises(ValueError, match="do not match"):
        segment_statistics(predictions[:-1], responses, kind="repeats")
    with pytest.raises(ValueError, match="inter_subject"):
        segment_statistics(predictions, responses, kind="inter_subject")
    with pytest.raises(UserError, match="Did you mean 'repeats'"):
        segment_statistics(predictions, responses, kind="repeat")
    broken = predictions.copy()
    broken[3, 3] = np.nan
    with pytest.raises(InvalidNumbers, match="predictions"):
        segment_statistics(broken, responses, kind="repeats")
