# SPDX-License-Identifier: Apache-2.0
"""Influence values and intervals: exact identities, nested designs with known variance, coverage."""

import numpy as np
import pytest
from scipy import stats as distributions

from voxelboard.benchmark.errors import InvalidNumbers
from voxelboard.benchmark.statistics.influence import (
    macro_explained_influence,
    macro_influence,
    unit_explained_influence,
    unit_influence,
)
from voxelboard.benchmark.statistics.intervals import (
    jackknife_interval,
    pooled_degrees_of_freedom,
    sign_agreement,
    single_subject_interval,
    two_way_interval,
    two_way_intervals,
    two_way_variance,
)
from voxelboard.benchmark.statistics.scores import BlockStatistics, macro_score, unit_explained_fractions, unit_scores


def random_stats(rng, n_blocks=20, n_rois=3):
    q, s = 5 + rng.random((2, n_blocks, n_rois))
    return BlockStatistics(rng.standard_normal((n_blocks, n_rois)), q, s, np.zeros(n_blocks, dtype=np.int64), 15)


def table(rng, n_subjects, n_blocks, sd_subject, sd_block, sd_rest):
    """(n_subjects, n_blocks) of crossed random effects with mean 0."""
    return (
        sd_subject * rng.standard_normal((n_subjects, 1))
        + sd_block * rng.standard_normal((1, n_blocks))
        + sd_rest * rng.standard_normal((n_subjects, n_blocks))
    )


@pytest.mark.parametrize("n_subjects", [2, 5, 9])
def test_many_tables_at_once_are_each_by_itself(n_subjects):
    rng = np.random.default_rng(n_subjects)
    tables = np.stack([table(rng, n_subjects, 12, *rng.uniform(0, 2, 3)) + k for k in range(6)])
    tables[3] = 0.25  # nothing varies
    for many, alone in zip(two_way_intervals(tables), map(two_way_interval, tables), strict=True):
        for name in ("estimate", "se", "low", "high", "df"):
            assert getattr(many, name) == pytest.approx(getattr(alone, name), rel=1e-12, abs=1e-14)
        assert (many.n, many.estimator) == (alone.n, alone.estimator)
    assert two_way_intervals(tables[:0]) == []


def test_mean_influence_is_exactly_the_score():
    stats = random_stats(np.random.default_rng(0))
    np.testing.assert_allclose(unit_influence(stats).mean(0), unit_scores(stats).values, rtol=1e-12)
    fractions = unit_explained_fractions(stats).values
    np.testing.assert_allclose(unit_explained_influence(stats).mean(0), fractions, rtol=1e-12)
    scored = np.array([True, False, True])
    assert macro_influence(stats, scored).mean() == pytest.approx(macro_score(stats, scored), rel=1e-12)
    assert macro_explained_influence(stats, scored).mean() == pytest.approx(fractions[scored].mean(), rel=1e-12)


@pytest.mark.parametrize(
    ("influence", "scores"), [(unit_influence, unit_scores), (unit_explained_influence, unit_explained_fractions)]
)
def test_influence_is_the_derivative_of_the_score_in_a_blocks_weight(influence, scores):
    stats = random_stats(np.random.default_rng(1))
    step = 1e-6
    z = influence(stats)
    for b in (0, 7, 19):
        weights = np.full(20, 1.0)
        weights[b] += step
        w = weights[:, None]
        moved = BlockStatistics(stats.c * w, stats.q * w, stats.s * w, stats.block_segment, 15)
        slope = (scores(moved).values - scores(stats).values) / step
        np.testing.assert_allclose((z[b] - z.mean(0)) / 20, slope, rtol=1e-4, atol=1e-7)


def test_constant_predictions_have_no_influence_and_missing_power_is_refused():
    stats = random_stats(np.random.default_rng(2))
    zero = BlockStatistics(0 * stats.c, 0 * stats.q, stats.s, stats.block_segment, 15)
    assert not unit_influence(zero).any()
    with pytest.raises(InvalidNumbers, match="not above zero"):
        unit_influence(BlockStatistics(stats.c, stats.q, -stats.s, stats.block_segment, 15))
    with pytest.raises(InvalidNumbers, match="no ROI"):
        macro_influence(stats, np.zeros(3, dtype=bool))


def test_single_subject_interval_is_students():
    z = np.random.default_rng(3).standard_normal(20)
    interval = single_subject_interval(z)
    expected = distributions.ttest_1samp(z, 0.0).confidence_interval(0.95)
    assert (interval.low, interval.high) == pytest.approx((expected.low, expected.high))
    assert (interval.df, interval.n) == (19, 20)


def test_two_way_variance_matches_anova_and_its_expectation():
    n, b = 6, 11
    z = table(np.random.default_rng(4), n, b, 1.0, 0.5, 2.0)
    found = two_way_variance(z)
    mean = z.mean()  # mean squares of a two-way layout without replication
    ms_subject = b * ((z.mean(1) - mean) ** 2).sum() / (n - 1)
    ms_block = n * ((z.mean(0) - mean) ** 2).sum() / (b - 1)
    ms_rest = ((z - z.mean(1, keepdims=True) - z.mean(0, keepdims=True) + mean) ** 2).sum() / ((n - 1) * (b - 1))
    assert found.subjects == pytest.approx(ms_subject / (n * b))
    assert found.blocks == pytest.approx(ms_block / (n * b))
    assert found.residual == pytest.approx(ms_rest / (n * b))
    draws = np.stack([table(np.random.default_rng([5, k]), n, b, 1.0, 0.5, 2.0) for k in range(3000)])
    parts = two_way_variance(draws)
    truth = 1.0 / n + 0.25 / b + 4.0 / (n * b)
    unbiased = parts.subjects + parts.blocks - parts.residual
    assert unbiased.mean() == pytest.approx(truth, rel=0.05)
    assert draws.mean(axis=(1, 2)).var() == pytest.approx(truth, rel=0.08)


def test_total_variance_never_falls_below_a_margin():
    z = table(np.random.default_rng(6), 5, 8, 0.0, 0.0, 1.0)
    parts = two_way_variance(np.stack([z, z.T[:5, :5].repeat(2, 1)[:, :8]]))
    assert (parts.total >= np.maximum(parts.subjects, parts.blocks)).all()


def test_degrees_of_freedom_tend_to_the_margins():
    rng = np.random.default_rng(7)
    subjects = np.stack([table(rng, 6, 30, 1.0, 0.0, 1e-4) for _ in range(50)])
    blocks = np.stack([table(rng, 6, 30, 0.0, 1.0, 1e-4) for _ in range(50)])
    assert pooled_degrees_of_freedom(two_way_variance(subjects), 6, 30) == pytest.approx(5, rel=1e-3)
    assert pooled_degrees_of_freedom(two_way_variance(blocks), 6, 30) == pytest.approx(29, rel=1e-3)


@pytest.mark.parametrize(
    ("n", "b", "sds"), [(8, 20, (0.3, 0.6, 1.0)), (6, 30, (1.0, 0.1, 1.0)), (20, 12, (0.1, 1.0, 0.5))]
)
def test_h2_intervals_cover(n, b, sds):
    """Coverage of 95 % intervals over 800 tables; the lower bound .94 of H2 less 2.6 Monte-Carlo SEs (.02)."""
    covered = [
        (interval := two_way_interval(table(np.random.default_rng([8, n, k]), n, b, *sds))).low <= 0 <= interval.high
        for k in range(800)
    ]
    assert np.mean(covered) >= 0.92


def test_a_subject_t_test_on_the_same_tables_does_not_cover():
    """Stimulus as fixed effect (P10): the tables that the two-way interval covers defeat the usual t test."""
    misses = [
        distributions.ttest_1samp(table(np.random.default_rng([8, 20, k]), 20, 12, 0.1, 1.0, 0.5).mean(1), 0).pvalue
        < 0.05
        for k in range(300)
    ]
    assert np.mean(misses) > 0.3


def test_scope_follows_the_number_of_subjects():
    rng = np.random.default_rng(9)
    z = table(rng, 3, 20, 5.0, 0.2, 0.2)
    fixed = two_way_interval(z)
    assert "N=3 fixed subjects" in fixed.estimator
    expected = distributions.ttest_1samp(z.mean(0), 0.0).confidence_interval(0.95)
    assert (fixed.low, fixed.high) == pytest.approx((expected.low, expected.high))
    assert "subjects+stimuli" in two_way_interval(table(rng, 5, 20, 1, 1, 1)).estimator
    assert sign_agreement(np.array([[1.0, 1.0], [2.0, 2.0], [-0.5, -0.5]])) == 2
    with pytest.raises(InvalidNumbers, match="at least two blocks"):
        two_way_interval(z[:, :1])


def test_jackknife_of_a_mean_is_the_standard_error():
    x = np.random.default_rng(10).standard_normal(15)
    interval = jackknife_interval(x.mean(), (x.sum() - x) / 14, "mean")
    assert interval.se == pytest.approx(x.std(ddof=1) / np.sqrt(15))
