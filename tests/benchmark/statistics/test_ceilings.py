# SPDX-License-Identifier: Apache-2.0
"""Ceilings against planted signal-to-noise ratios, against each other, and against the published definitions."""

import numpy as np
import pytest
from scipy.optimize import curve_fit

from voxelboard.benchmark.errors import DataError
from voxelboard.benchmark.statistics.ceilings import (
    Ceiling,
    explainable_variance,
    inter_subject_ceiling,
    isc_ceiling,
    leave_one_out_isc,
    ncsnr,
    ncsnr_noise_ceiling,
    normalised,
    nsd_ceiling,
    rdm_ceilings,
    repeat_ceiling,
    voxel_cc_max,
)
from voxelboard.benchmark.statistics.extrapolation import extrapolated_ceiling, fit_saturation, pool_scores
from voxelboard.benchmark.statistics.intervals import t_interval
from voxelboard.benchmark.statistics.scores import voxel_correlation


def zscored(runs):
    runs = runs - runs.mean(axis=1, keepdims=True)
    return runs / runs.std(axis=1, keepdims=True)


def repeats(rng, n_repeats, n_voxels, snr, n_trs=300):
    signal = np.sqrt(snr) * rng.standard_normal((n_trs, n_voxels))
    return zscored(signal + rng.standard_normal((n_repeats, n_trs, n_voxels)))


def test_b3_estimators_of_the_literature_are_one():
    responses = repeats(np.random.default_rng(0), 4, 50, 0.2)
    # Gallant-lab form: residual variance of z-scored repeats about their mean, then the small-R correction
    mean = responses.mean(0)
    raw = 1 - (responses - mean).var(axis=(0, 1), ddof=0)
    corrected = raw - (1 - raw) / 3
    np.testing.assert_allclose(explainable_variance(responses), corrected, rtol=1e-10)
    # Hsu 2004 with Spearman-Brown on the mean correlation of pairs of repeats (z-scored: exactly the same power)
    pairs = np.mean([(responses[i] * responses[j]).mean(0) for i in range(4) for j in range(i)], axis=0)
    reliability = 4 * pairs / (1 + 3 * pairs)
    scores = voxel_cc_max(responses)
    np.testing.assert_allclose(scores.values[scores.defined], np.sqrt(reliability[scores.defined]), rtol=1e-10)
    assert scores.defined.tolist() == (pairs > 0).tolist()


@pytest.mark.parametrize("n_repeats", [2, 3, 5])
def test_b3_pooled_power_is_unbiased_only_without_clipping(n_repeats):
    """Voxels of SNR .12 times a gamma spread: pooled power within 3 % of the planted one."""
    snr = 0.12 * np.random.default_rng(1).gamma(2, 0.5, 4000)
    planted = np.mean(snr / (snr + 1))
    estimate = np.concatenate(
        [explainable_variance(repeats(np.random.default_rng([2, k]), n_repeats, 4000, snr)) for k in range(4)]
    )
    assert estimate.mean() / planted == pytest.approx(1.0, abs=0.03)
    if n_repeats == 2:
        assert np.maximum(estimate, 0).mean() / planted > 1.02  # what clipping per voxel does


def test_b6_voxels_without_signal_have_no_explainable_variance():
    estimate = explainable_variance(repeats(np.random.default_rng(3), 5, 4000, 0.0))
    assert abs(estimate.mean()) <= 0.005
    assert np.maximum(estimate, 0).mean() > 0.005  # clipped, the NULL ROI would seem explainable


@pytest.mark.parametrize(("n_repeats", "snr"), [(2, 0.5), (5, 0.12)])
def test_repeat_ceiling_covers_the_planted_correlation(n_repeats, snr):
    """Greatest correlation with a mean of R repeats is sqrt(snr / (snr + 1/R))."""
    truth = np.sqrt(snr / (snr + 1 / n_repeats))
    covered, estimates = [], []
    for k in range(120):
        rng = np.random.default_rng([4, n_repeats, k])
        runs = [repeats(rng, n_repeats, 30, snr, n_trs=n) for n in (150, 165)]
        ceiling = repeat_ceiling(runs)
        covered.append(ceiling.interval.low <= truth <= ceiling.interval.high)
        estimates.append(ceiling.estimate)
    assert np.mean(estimates) == pytest.approx(truth, abs=0.01)
    assert np.mean(covered) >= 0.89  # 95 % less 3 SEs of 120 draws
    assert (ceiling.kind, ceiling.n, ceiling.unit) == ("repeats", n_repeats, "repeats")


def test_a_ceiling_that_is_not_above_zero_says_so():
    rng = np.random.default_rng(5)
    run = rng.standard_normal((1, 100, 4))
    ceiling = repeat_ceiling([zscored(np.concatenate([run, -run]))])
    assert ceiling.estimate is None
    assert ceiling.interval is None
    assert "not reliably above zero" in ceiling.note


def subjects(rng, n, shared=1.0, noise=1.0, n_trs=300, n_voxels=100):
    common = np.sqrt(shared) * rng.standard_normal((n_trs, n_voxels))
    return common + np.sqrt(noise) * rng.standard_normal((n, n_trs, n_voxels))


@pytest.mark.parametrize(
    ("s", "n", "expected"), [(0.5, 0.5, None), (1.0, 1.0, 0.661), (0.2, 0.8, None), (1.0, 3.0, None)]
)
def test_leave_one_out_isc_has_its_closed_form(s, n, expected):
    """Eight subjects, planted variances s and n: r = s / sqrt((s + n)(s + n/7))."""
    truth = s / np.sqrt((s + n) * (s + n / 7))
    if expected is not None:
        assert truth == pytest.approx(expected, abs=0.001)  # the figure of protocols.md
    r = leave_one_out_isc(subjects(np.random.default_rng(6), 8, s, n))
    assert r.shape == (8, 100)
    assert r.mean() == pytest.approx(truth, abs=0.01)
    ceiling = isc_ceiling([subjects(np.random.default_rng([7, k]), 8, s, n) for k in range(2)])
    assert ceiling.estimate == pytest.approx(truth, abs=0.01)
    assert ceiling.interval.low < ceiling.estimate < ceiling.interval.high


def test_inter_subject_ceiling_is_the_root_of_the_shared_share():
    found = [inter_subject_ceiling([subjects(np.random.default_rng([8, k]), 6, 1.0, 3.0)], k) for k in range(6)]
    assert np.mean([ceiling.estimate for ceiling in found]) == pytest.approx(np.sqrt(1 / 4), abs=0.01)
    assert {ceiling.kind for ceiling in found} == {"inter_subject"}


def test_extrapolation_recovers_its_own_law_and_misses_the_true_one():
    sizes = np.arange(1.0, 8.0)
    v0, tau = fit_saturation(sizes, 0.6 * (1 - np.exp(-sizes / 1.7)))
    assert (v0, tau) == pytest.approx((0.6, 1.7), rel=1e-4)
    v0, _ = fit_saturation(sizes, -0.05 * (1 - np.exp(-sizes / 1.7)))
    assert v0 == pytest.approx(-0.05, rel=1e-3)  # noise voxels may come out negative: no bound at 0 or 1
    responses = subjects(np.random.default_rng(9), 5, 1.0, 3.0, n_voxels=60)
    pools = pool_scores(responses)
    assert len(pools.sizes) == 5 * 15  # all subsets of the four others
    for k in (1, 4):
        truth = 1.0 / np.sqrt(4.0 * (1 + 3.0 / k))
        assert pools.scores[0, pools.sizes == k].mean() == pytest.approx(truth, abs=0.02)
    ceiling = extrapolated_ceiling(responses)
    assert ceiling.estimate < np.sqrt(1 / 4) - 0.05  # documented bias: the infinite pool would reach .5
    assert "biased" in ceiling.note
    assert extrapolated_ceiling(responses) == ceiling
    assert ceiling.interval.estimator == "jackknife over subjects"


def test_scores_of_pools_are_correlations_with_their_means():
    """Held against the definition: pools averaged, blocks of time cut out."""
    responses = subjects(np.random.default_rng(13), 4, 1.0, 3.0, n_voxels=3)[:, :60]
    pools = pool_scores(responses)
    rows = np.array_split(np.arange(60), 10)
    cut = [responses, *(np.delete(responses, block, axis=1) for block in rows)]
    for number in range(len(pools.sizes)):
        own = pools.held_out[number]
        pool = [i for i in np.flatnonzero(pools.members[number]) if i != own]
        assert len(pool) == pools.sizes[number]
        expected = [voxel_correlation(part[pool].mean(axis=0), part[own]).mean() for part in cut]
        np.testing.assert_allclose(pools.scores[:, number], expected, atol=1e-12)


def test_pools_of_many_subjects_are_drawn_without_being_listed():
    """Of 39 others there are 69 billion pools of 19; who else is held out changes nothing."""
    responses = np.random.default_rng(14).standard_normal((40, 30, 300))  # more voxels than are looked at together
    pools = pool_scores(responses, max_pools=5, seed=3)
    sizes = pools.of(7).sizes
    assert {int(k): int((sizes == k).sum()) for k in np.unique(sizes)} == {**dict.fromkeys(range(1, 39), 5), 39: 1}
    assert len(np.unique(pools.of(7).members, axis=0)) == len(sizes)
    alone = pool_scores(responses, max_pools=5, seed=3, held_out=[7])
    assert np.array_equal(alone.scores, pools.of(7).scores)


@pytest.mark.parametrize("seed", range(5))
def test_the_law_is_fitted_as_a_general_optimiser_does(seed):
    rng = np.random.default_rng([15, seed])
    sizes = np.repeat(np.arange(1.0, 12.0), 6)
    scores = 0.4 * (1 - np.exp(-sizes / rng.uniform(0.5, 4.0))) + 0.05 * rng.standard_normal(len(sizes))
    (v0, tau), _ = curve_fit(lambda k, v0, tau: v0 * (1 - np.exp(-k / tau)), sizes, scores, p0=(0.4, 1.0))
    assert fit_saturation(sizes, scores) == pytest.approx((v0, tau), rel=1e-4)


def test_a_straight_line_has_no_end():
    sizes = np.arange(1.0, 8.0)
    assert fit_saturation(sizes, 0.05 * sizes) is None
    assert fit_saturation(sizes, 0.0 * sizes)[0] == 0.0


def test_extrapolation_from_three_subjects_has_an_interval_over_time():
    """They are taken as they are: the interval covers what these three give on an endless stimulus (95 of 100 worlds)."""
    few = [subjects(np.random.default_rng([11, k]), 3, 1.0, 3.0, n_voxels=20) for k in range(40)]
    found = [extrapolated_ceiling(responses) for responses in few]
    assert {ceiling.interval.estimator for ceiling in found} == {"jackknife over blocks of time"}
    truth = np.mean([ceiling.estimate for ceiling in found])
    covered = [ceiling.interval.low <= truth <= ceiling.interval.high for ceiling in found]
    assert np.mean(covered) >= 0.85
    widths = [ceiling.interval.high - ceiling.interval.low for ceiling in found]
    assert np.mean(widths) < 0.3  # and says something
    null = np.random.default_rng(12).standard_normal((3, 300, 20))
    assert extrapolated_ceiling(null).estimate is None or abs(extrapolated_ceiling(null).estimate) < 0.2


def betas(rng, n_trials, snr2, n_images=1000, n_voxels=200):
    """Signal variance snr2 / (1 + snr2), total variance one, z-scored over the session."""
    signal = rng.standard_normal((n_images, 1, n_voxels)) * np.sqrt(snr2)
    values = (signal + rng.standard_normal((n_images, n_trials, n_voxels))).reshape(-1, n_voxels)
    values = (values - values.mean(0)) / values.std(0)
    return values.reshape(n_images, n_trials, n_voxels)


@pytest.mark.parametrize("n_trials", [2, 3])
def test_b4_nsd_noise_ceiling(n_trials):
    snr2 = 0.25
    values = betas(np.random.default_rng(10), n_trials, snr2)
    ratio, signal = ncsnr(values)
    truth = snr2 / (snr2 + 1 / n_trials)
    assert ncsnr_noise_ceiling(ratio, n_trials).mean() == pytest.approx(truth, abs=0.01)
    assert signal.mean() == pytest.approx(snr2 / (1 + snr2), abs=0.005)
    ceiling = nsd_ceiling(values, n_trials)
    assert ceiling.estimate == pytest.approx(np.sqrt(truth), abs=0.01)
    assert ceiling.interval.low <= np.sqrt(truth) <= ceiling.interval.high


def test_nsd_pooled_signal_is_not_clipped():
    _, signal = ncsnr(betas(np.random.default_rng(11), 2, 0.0, n_voxels=2000))
    assert abs(signal.mean()) < 0.005
    assert (signal < 0).mean() > 0.3


def test_nsd_ceiling_against_an_oracle_prediction():
    """The ceiling is what the planted signal itself correlates with the mean of the trials."""
    rng = np.random.default_rng(12)
    signal = rng.standard_normal((800, 300))
    values = signal[:, None] + 2 * rng.standard_normal((800, 3, 300))
    scale = values.reshape(-1, 300).std(0)
    mean = values.mean(1)
    r = np.mean([np.corrcoef(signal[:, v], mean[:, v])[0, 1] for v in range(300)])
    assert nsd_ceiling((values - values.mean((0, 1))) / scale, 3).estimate == pytest.approx(r, abs=0.01)


def test_rdm_ceilings_bracket_the_truth():
    rng = np.random.default_rng(13)
    geometry = rng.standard_normal(4950)
    rdms = geometry + rng.standard_normal((8, 4950))
    lower, upper = rdm_ceilings(rdms)
    best = np.mean([np.corrcoef(geometry, rdm)[0, 1] for rdm in rdms])
    assert lower.estimate < best < upper.estimate
    assert lower.estimate == pytest.approx(1 / np.sqrt(2 * (1 + 1 / 7)), abs=0.01)
    assert (lower.kind, upper.kind) == ("rdm_lower", "rdm_upper")
    assert lower.interval.low < lower.estimate < lower.interval.high
    with pytest.raises(DataError, match="three subjects"):
        rdm_ceilings(rdms[:2])


def test_normalised_score_carries_both_uncertainties_and_is_not_clipped():
    score = t_interval(0.6, 0.03, 20, 20, "raw")
    limit = Ceiling("repeats", 0.5, t_interval(0.5, 0.04, 15, 20, "jackknife"), 5, "repeats")
    found = normalised(score, limit)
    assert found.estimate == pytest.approx(1.2)
    assert found.se == pytest.approx(1.2 * np.sqrt((0.03 / 0.6) ** 2 + (0.04 / 0.5) ** 2))
    assert found.df == 15
    assert normalised(score, Ceiling("repeats", None, None, 5, "repeats")) is None


def test_one_repeat_or_one_subject_is_refused():
    with pytest.raises(DataError, match="two or more repeats"):
        explainable_variance(np.ones((1, 30, 2)))
    with pytest.raises(DataError, match="two subjects"):
        leave_one_out_isc(np.ones((1, 30, 2)))
