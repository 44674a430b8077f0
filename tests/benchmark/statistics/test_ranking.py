# SPDX-License-Identifier: Apache-2.0
"""Ranks: family-wise error over tied models, power over planted ones, and independence of what others submit."""

import json
from dataclasses import asdict
from itertools import combinations

import numpy as np
import pytest
from scipy import stats as distributions

from voxelboard.benchmark.errors import InvalidNumbers
from voxelboard.benchmark.statistics.ranking import (
    baseline_badges,
    holm,
    pair_tests,
    rank_influence,
    rank_models,
)
from voxelboard.benchmark.statistics.scores import BlockStatistics, segment_statistics

SUBJECTS = ("s1", "s2", "s3", "s4", "s5", "s6")
# (n_subjects, n_blocks, sd of model x subject, sd of model x block, sd of the rest): the cells of statistics.md H
CELLS = {
    "8x20": (8, 20, 0.02, 0.05, 0.1),
    "8x60": (8, 60, 0.02, 0.05, 0.1),
    "3x60 big subject variance": (3, 60, 0.1, 0.05, 0.1),
    "6x30 big subject variance": (6, 30, 0.06, 0.03, 0.1),
    "20x12": (20, 12, 0.02, 0.1, 0.1),
}


def influence_tables(rng, cell, n_models=8, steps=0.0):
    """(n_models, n_subjects, n_blocks): what models share cancels in pairs, what they do not is heteroscedastic."""
    n, b, sd_subject, sd_block, sd_rest = CELLS[cell]
    spread = rng.uniform(0.5, 1.5, (3, n_models, 1, 1))
    return (
        steps * np.arange(n_models, 0, -1)[:, None, None]
        + 0.2 * rng.standard_normal((1, n, 1))
        + 0.2 * rng.standard_normal((1, 1, b))
        + spread[0] * sd_subject * rng.standard_normal((n_models, n, 1))
        + spread[1] * sd_block * rng.standard_normal((n_models, 1, b))
        + spread[2] * sd_rest * rng.standard_normal((n_models, n, b))
    )


def stored_models(quality, n_trs=315, n_voxels=20, drop=(), seed=0):
    """name -> subject -> stored block statistics (5 TRs, one ROI with signal and one without)."""
    rng = np.random.default_rng(seed)
    models = {name: {} for name in quality}
    for subject in SUBJECTS:
        signal = rng.standard_normal((n_trs, 2 * n_voxels)) * np.repeat([1.0, 0.0], n_voxels)
        responses = signal + 1.5 * rng.standard_normal((3, n_trs, 2 * n_voxels))
        for name, q in quality.items():
            predictions = q * signal + np.sqrt(1 - q**2) * rng.standard_normal(signal.shape)
            stats = segment_statistics(predictions, responses, kind="repeats")
            c, q_, s = (t.reshape(-1, 2, n_voxels).sum(2) for t in (stats.c, stats.q, stats.s))
            if (name, subject) not in drop:
                models[name][subject] = BlockStatistics(c, q_, s, stats.block_segment, 5)
    return models


def canonical(ranking):
    rows = [asdict(model) for model in ranking.models]
    pairs = {name: value.tolist() for name, value in asdict(ranking.pairs).items() if name != "df"}
    return json.dumps([rows, pairs, ranking.pairs.df, dict(ranking.unranked), ranking.scope]).encode()


def test_holm_is_closed_testing_with_bonferroni():
    p = np.array([0.011, 0.02, 0.02, 0.4, 0.001, 0.9])
    closed = [
        max(
            min(1.0, len(family) * p[list(family)].min())
            for size in range(1, 7)
            for family in combinations(range(6), size)
            if i in family
        )
        for i in range(6)
    ]
    np.testing.assert_allclose(holm(p), closed)
    assert holm(np.zeros(0)).shape == (0,)


@pytest.mark.parametrize("cell", CELLS)
def test_h1_family_wise_error_of_tied_models(cell):
    """600 tables of 8 tied models; H1's own CI bound at n = 600."""
    rng = np.random.default_rng([1, sorted(CELLS).index(cell)])
    false = [pair_tests(influence_tables(rng, cell), scope="subjects+stimuli").significant.any() for _ in range(600)]
    assert np.mean(false) <= 0.065


@pytest.mark.parametrize(("cell", "naive_error"), [("8x20", 0.5), ("20x12", 0.5)])
def test_uncorrected_subject_tests_fail_on_the_same_tables(cell, naive_error):
    rng = np.random.default_rng([1, sorted(CELLS).index(cell)])
    false = []
    for _ in range(60):
        means = influence_tables(rng, cell).mean(2)
        false.append(
            min(distributions.ttest_rel(means[i], means[j]).pvalue for i, j in combinations(range(8), 2)) < 0.05
        )
    assert np.mean(false) > naive_error


def test_planted_differences_are_found_and_rank_intervals_cover():
    rng = np.random.default_rng(2)
    power, covered = [], []
    for _ in range(100):
        z = influence_tables(rng, "8x60", steps=0.03)
        ranking = rank_influence([f"m{k}" for k in range(8)], z)
        rows, columns = np.triu_indices(8, k=1)
        order = [int(model.name[1:]) for model in ranking.models]
        power.append(ranking.pairs.significant[rows, columns].mean())
        covered.append(all(m.rank_low <= k + 1 <= m.rank_high for k, m in zip(order, ranking.models, strict=True)))
    assert np.mean(power) > 0.5
    assert np.mean(covered) >= 0.9  # simultaneous coverage .95, 100 draws


def test_rank_intervals_count_significant_pairs():
    rng = np.random.default_rng(3)
    ranking = rank_influence([f"m{k}" for k in range(8)], influence_tables(rng, "8x60", steps=0.04))
    tests = ranking.pairs
    for i, model in enumerate(ranking.models):
        better = sum(tests.p_holm[i, j] <= 0.05 and tests.difference[i, j] < 0 for j in range(8))
        worse = sum(tests.p_holm[i, j] <= 0.05 and tests.difference[i, j] > 0 for j in range(8))
        assert (model.rank_low, model.rank_high, model.rank) == (1 + better, 8 - worse, 1 + better)
        assert model.name in model.tie_group
        assert {m.name for m in ranking.models if m.rank == model.rank} == set(model.tie_group)
    assert np.array_equal(tests.difference, -tests.difference.T)
    np.testing.assert_allclose(tests.probability_better + tests.probability_better.T, 1.0)
    scores = [model.score.estimate for model in ranking.models]
    assert scores == sorted(scores, reverse=True)


def test_two_models_are_a_paired_t_test_when_blocks_dominate():
    """Without subject variance the pair's test is Student's on block means: a known special case of rule C."""
    blocks = np.random.default_rng(4).standard_normal((2, 1, 30))
    z = np.repeat(blocks, 8, axis=1)
    tests = pair_tests(z)
    expected = distributions.ttest_rel(blocks[0, 0], blocks[1, 0])
    assert tests.p[0, 1] == pytest.approx(expected.pvalue, rel=1e-9)
    assert tests.probability_better[0, 1] == pytest.approx(distributions.t.cdf(expected.statistic, 29), rel=1e-9)


def test_smallest_resolvable_difference_is_where_significance_starts():
    z = influence_tables(np.random.default_rng(5), "8x20", n_models=2)
    z[0] -= z[0].mean() - z[1].mean()
    ranking = rank_influence(["a", "b"], z)
    edge = ranking.smallest_resolvable
    assert ranking.smallest_resolvable_ranked == edge  # one pair: Holm changes nothing
    for factor, found in ((0.99, False), (1.01, True)):
        shifted = np.stack([z[0] + factor * edge, z[1]])
        assert bool(pair_tests(shifted).significant.any()) is found


def test_clones_tie_exactly():
    z = influence_tables(np.random.default_rng(6), "8x20", n_models=3, steps=0.1)
    ranking = rank_influence(["a", "b", "twin of b"], np.stack([z[0], z[1], z[1] + 1e-15]))
    rows = {model.name: model for model in ranking.models}
    assert rows["b"].rank == rows["twin of b"].rank
    names = [model.name for model in ranking.models]
    i, j = names.index("b"), names.index("twin of b")
    assert ranking.pairs.p[i, j] == 1.0
    assert ranking.pairs.probability_better[i, j] == 0.5
    assert [model.name for model in rank_influence(["y", "x"], z[[1, 1]]).models] == ["x", "y"]


def test_one_model_alone_ranks_first():
    ranking = rank_influence(["a"], influence_tables(np.random.default_rng(7), "8x20", n_models=1))
    assert (ranking.models[0].rank_low, ranking.models[0].rank_high) == (1, 1)
    assert ranking.smallest_resolvable is None


def test_few_subjects_are_fixed_and_said_so():
    z = influence_tables(np.random.default_rng(8), "3x60 big subject variance", n_models=2, steps=0.5)
    ranking = rank_influence(["a", "b"], z)
    assert ranking.scope == "stimuli only (N=3 fixed subjects)"
    difference = (z[0] - z[1]).mean(0)
    assert ranking.pairs.p[0, 1] == pytest.approx(distributions.ttest_1samp(difference, 0).pvalue, rel=1e-9)
    assert ranking.pairs.agreeing_subjects[0, 1] == ((z[0] - z[1]).mean(1) > 0).sum()


def test_no_submission_reorders_others_or_moves_their_scores():
    """Independence of irrelevant alternatives, over 60 random boards and every model left out in turn."""
    rng = np.random.default_rng(9)
    for _ in range(60):
        z = influence_tables(rng, "8x20", n_models=6, steps=0.01)
        names = [f"m{k}" for k in range(6)]
        full = rank_influence(names, z)
        rows = {model.name: model for model in full.models}
        for left_out in range(6):
            keep = [k for k in range(6) if k != left_out]
            part = rank_influence([names[k] for k in keep], z[keep])
            assert [m.name for m in part.models] == [m.name for m in full.models if m.name != names[left_out]]
            assert all(model.score == rows[model.name].score for model in part.models)


def test_stored_statistics_rank_to_the_same_bytes(tmp_path):
    models = stored_models({"good": 0.9, "fair": 0.6, "poor": 0.1})
    first = rank_models(models, SUBJECTS)
    stored = {}
    for name in reversed(list(models)):
        stored[name] = {}
        for subject in reversed(SUBJECTS):
            path = tmp_path / f"{name}-{subject}.npz"
            np.savez(path, **models[name][subject].as_arrays())
            with np.load(path, allow_pickle=False) as arrays:
                stored[name][subject] = BlockStatistics.from_arrays(arrays)
    assert canonical(rank_models(stored, SUBJECTS)) == canonical(first)


def test_planted_models_rank_in_order_and_score_their_truth():
    ranking = rank_models(stored_models({"good": 0.9, "fair": 0.6, "poor": 0.1, "null": 0.0}), SUBJECTS)
    assert [model.name for model in ranking.models][:2] == ["good", "fair"]
    assert ranking.models[0].rank_high == 1
    assert ranking.scope == "subjects+stimuli"
    for model, truth in zip(ranking.models[:2], (0.9, 0.6), strict=True):
        assert model.score.low <= truth <= model.score.high  # the ROI without signal never entered
    interval = ranking.pair("good", "fair")
    assert interval.low <= 0.3 <= interval.high


def test_incomplete_models_are_unranked_and_listed():
    models = stored_models({"a": 0.9, "b": 0.6, "c": 0.3}, drop={("b", "s2"), ("b", "s5")})
    ranking = rank_models(models, SUBJECTS)
    assert [model.name for model in ranking.models] == ["a", "c"]
    assert dict(ranking.unranked) == {"b": "4/6 subjects, without s2, s5"}
    with pytest.raises(InvalidNumbers, match="no model is complete"):
        rank_models({"b": models["b"]}, SUBJECTS)


def test_models_scored_on_other_responses_are_not_compared():
    models = stored_models({"a": 0.9}) | stored_models({"b": 0.9}, seed=1)
    with pytest.raises(InvalidNumbers, match="different responses"):
        rank_models(models, SUBJECTS)


def test_badges_are_paired_tests_that_no_other_submission_moves():
    rng = np.random.default_rng(10)
    z = influence_tables(rng, "8x20", n_models=4, steps=0.06)
    badges = baseline_badges(z[0], {"static": z[3], "twin": z[1]})
    assert [badge.baseline for badge in badges] == ["static", "twin"]
    assert badges[0].beaten
    assert not baseline_badges(z[3], {"model": z[0]})[0].beaten
    alone = baseline_badges(z[0], {"static": z[3]})[0]
    assert alone.difference.estimate == pytest.approx((z[0] - z[3]).mean())
    pair = pair_tests(np.stack([z[0], z[3]]))
    assert alone.p == pytest.approx(pair.p[0, 1], rel=1e-9)
    assert baseline_badges(z[0], {}) == ()


def test_badge_error_rate_against_an_equal_baseline():
    rng = np.random.default_rng(11)
    beaten = []
    for _ in range(600):
        z = influence_tables(rng, "8x20", n_models=2)
        beaten.append(baseline_badges(z[0], {"equal": z[1]})[0].beaten)
    assert np.mean(beaten) <= 0.025 + 2.6 * np.sqrt(0.025 * 0.975 / 600)  # one side of a two-sided .05
