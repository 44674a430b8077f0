# SPDX-License-Identifier: Apache-2.0
"""Intervals over images and seeds, against numpy on the repeated pairs themselves."""

import numpy as np
import pytest

from voxelboard.benchmark.errors import DataError
from voxelboard.benchmark.similarity.image_bootstrap import bootstrap_correlations, image_counts, seeded_difference
from voxelboard.benchmark.similarity.rdms import correlation_distances

RNG = np.random.default_rng(5)


def test_every_draw_is_the_correlation_of_the_pairs_it_repeats():
    models, brains = (correlation_distances(RNG.standard_normal((n, 12, 6))) for n in (2, 3))
    counts = image_counts(12, 5, seed=0)
    found = bootstrap_correlations(models, brains, counts)
    rows, columns = np.triu_indices(12, k=1)
    for draw, drawn in enumerate(counts):
        times = drawn[rows] * drawn[columns]
        for i, model in enumerate(models):
            for j, brain in enumerate(brains):
                expected = np.corrcoef(np.repeat(model, times), np.repeat(brain, times))[0, 1]
                assert found[draw, i, j] == pytest.approx(expected, abs=1e-10)


def test_the_first_draw_is_the_images_themselves_and_the_others_have_as_many():
    counts = image_counts(30, 4, seed=1)
    assert (counts[0] == 1).all()
    assert (counts.sum(axis=1) == 30).all()
    assert np.array_equal(counts, image_counts(30, 4, seed=1))
    assert not np.array_equal(counts[1:], image_counts(30, 4, seed=2)[1:])


def test_the_interval_holds_a_planted_difference_and_widens_with_disagreeing_seeds():
    noise = RNG.normal(0, 0.01, (2000, 1))
    first = 0.1 + noise + np.zeros((1, 3))
    agreed = seeded_difference(first, np.zeros((2000, 3)), seed=0)
    assert agreed.low == pytest.approx(0.1 - 0.0196, abs=0.003)
    assert agreed.high == pytest.approx(0.1 + 0.0196, abs=0.003)
    apart = seeded_difference(first + np.array([-0.1, 0.0, 0.1]), np.zeros((2000, 3)), seed=0)
    assert apart.low < agreed.low - 0.05


def test_what_does_not_fit_is_refused():
    rdms = correlation_distances(RNG.standard_normal((1, 12, 6)))
    with pytest.raises(DataError, match="13 images have 78"):
        bootstrap_correlations(rdms, rdms, image_counts(13, 2, seed=0))
    with pytest.raises(DataError, match="four images or more"):
        image_counts(3, 10, seed=0)
