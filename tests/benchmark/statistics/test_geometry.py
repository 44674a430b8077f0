# SPDX-License-Identifier: Apache-2.0
import numpy as np
import pytest
from scipy.spatial.distance import pdist, squareform
from scipy.stats import pearsonr, rankdata

from voxelboard.benchmark.errors import DataError, InvalidNumbers
from voxelboard.benchmark.statistics.geometry import (
    condition_permutation_test,
    crossvalidated_distances,
    match_ranks,
    n_conditions_of,
    normalised_ranks,
    split_half_rdm_reliability,
    top_k,
)


def test_crossvalidated_distances_against_the_definition():
    patterns = np.random.default_rng(0).standard_normal((3, 6, 11))
    expected = []
    for i in range(6):
        for j in range(i + 1, 6):
            pairs = [
                (patterns[a, i] - patterns[a, j]) @ (patterns[b, i] - patterns[b, j]) / 11
                for a in range(3)
                for b in range(3)
                if a != b
            ]
            expected.append(np.mean(pairs))
    np.testing.assert_allclose(crossvalidated_distances(patterns), expected, atol=1e-12)


def test_crossvalidated_distances_of_noise_free_repeats_are_squared_distances():
    pattern = np.random.default_rng(1).standard_normal((9, 20))
    np.testing.assert_allclose(
        crossvalidated_distances(np.stack([pattern, pattern])), pdist(pattern, "sqeuclidean") / 20, atol=1e-12
    )


def test_noise_adds_to_plain_distances_and_not_to_crossvalidated_ones():
    rng = np.random.default_rng(2)
    patterns = rng.standard_normal((2, 60, 400))  # no condition differs from another
    assert pdist(patterns.mean(0), "sqeuclidean").mean() / 400 == pytest.approx(1.0, abs=0.02)
    assert crossvalidated_distances(patterns).mean() == pytest.approx(0.0, abs=0.02)


def test_permutation_of_conditions_against_a_loop():
    rng = np.random.default_rng(3)
    model, brains = pdist(rng.standard_normal((12, 4))), np.stack([pdist(rng.standard_normal((12, 5)))] * 2)
    brains[1] += model
    found = condition_permutation_test(model, brains, n_draws=40, seed=5)
    assert found.observed == pytest.approx([pearsonr(model, brain)[0] for brain in brains])
    orders = np.random.default_rng([5, 12, 40]).permuted(np.tile(np.arange(12), (40, 1)), axis=1)
    square = squareform(model)
    for order, null in zip(orders, found.null, strict=True):
        shuffled = squareform(square[np.ix_(order, order)])
        assert null == pytest.approx([pearsonr(shuffled, brain)[0] for brain in brains])
    assert found.p[1] == 1 / 41
    assert 1 / 41 <= found.p_mean <= 1


def test_a6_conditions_are_permuted_and_entries_are_not_independent():
    rng = np.random.default_rng(4)
    n, naive, proper = 40, [], []
    for k in range(300):
        groups = rng.integers(5, size=n)  # clustered geometries
        model, brain = (
            rng.standard_normal((5, 6))[g] + rng.standard_normal((n, 6)) for g in (groups, rng.permutation(groups))
        )
        a, b = pdist(model), pdist(brain)
        naive.append(pearsonr(a, b, alternative="greater")[1])
        proper.append(condition_permutation_test(a, b, n_draws=99, seed=k).p[0])
    assert (np.array(proper) <= 0.05).mean() <= 0.05 + 3 * np.sqrt(0.05 * 0.95 / 300)
    assert (np.array(naive) <= 0.05).mean() > 0.08


def test_ties_take_the_middle():
    similarity = np.array([[1.0, 2.0, 1.0, 1.0], [0.0, 5.0, 5.0, 5.0]])
    assert match_ranks(similarity).tolist() == [2.0, 1.0]
    assert normalised_ranks(np.zeros((7, 7))).tolist() == [0.5] * 7
    assert top_k(np.zeros((4, 8)), 2).tolist() == [0.25] * 4
    assert top_k(similarity, 1, np.array([1, 1])).tolist() == pytest.approx([1.0, 1 / 3])


def test_ranks_against_scipy():
    similarity = np.random.default_rng(6).integers(0, 5, (30, 30)).astype(float)
    expected = [rankdata(-row)[i] - 1 for i, row in enumerate(similarity)]
    np.testing.assert_allclose(match_ranks(similarity), expected)


def test_reliability_reaches_the_planted_one():
    rng = np.random.default_rng(7)
    signal = rng.standard_normal((50, 200))
    patterns = signal + 2 * rng.standard_normal((4, 50, 200))
    found = split_half_rdm_reliability(patterns, lambda x: pdist(x, "correlation"))
    truth = pdist(signal, "correlation")
    reached = pearsonr(truth, pdist(patterns.mean(0), "correlation"))[0]
    assert np.sqrt(found) == pytest.approx(reached, abs=0.05)


def test_bad_geometries_are_refused():
    with pytest.raises(DataError, match="upper triangle"):
        n_conditions_of(7)
    with pytest.raises(InvalidNumbers, match="constant"):
        condition_permutation_test(np.ones(6), np.arange(6.0), seed=0)
    with pytest.raises(InvalidNumbers, match="NaN"):
        condition_permutation_test(np.full(6, np.nan), np.arange(6.0), seed=0)
    with pytest.raises(DataError, match="n_repeats"):
        crossvalidated_distances(np.ones((1, 5, 3)))
    with pytest.raises(InvalidNumbers, match="finite"):
        match_ranks(np.full((2, 2), np.nan))
