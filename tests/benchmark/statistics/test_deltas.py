# SPDX-License-Identifier: Apache-2.0
"""Intervals of paired differences against planted variance components; indices against hand values."""

import numpy as np
import pytest

from voxelboard.benchmark.errors import InvalidNumbers
from voxelboard.benchmark.statistics.deltas import (
    crossed_interval,
    delta_intervals,
    describe_factors,
    jaccard,
    peak_regions,
    pooled_freedom,
    specificity_index,
)
from voxelboard.benchmark.statistics.intervals import single_subject_interval, two_way_interval


def test_one_factor_is_the_t_interval_and_two_are_the_two_way_interval() -> None:
    z = np.random.default_rng(0).standard_normal((8, 20)) + np.linspace(0, 1, 8)[:, None]
    one, expected = crossed_interval(z, (False, True)), single_subject_interval(z.mean(axis=0))
    assert one.low == pytest.approx(expected.low)
    two, expected = crossed_interval(z, (True, True)), two_way_interval(z, scope="subjects+stimuli")
    assert two.se == pytest.approx(expected.se)


@pytest.mark.parametrize(
    ("n_levels", "sds"),
    [
        ((8, 20, 3), (1.0, 1.0, 1.0)),
        ((8, 20, 3), (0.1, 1.0, 2.0)),
        ((27, 12, 3), (1.0, 0.1, 0.1)),
        ((6, 30, 4), (0.0, 0.0, 0.0)),
    ],
)
def test_intervals_cover_the_planted_mean(n_levels: tuple[int, int, int], sds: tuple[float, float, float]) -> None:
    """95 % intervals over subjects, blocks and seeds with effects of each; 60 studies of 10 deltas."""
    rng = np.random.default_rng(1)
    covered = 0
    for _ in range(60):
        tables = []
        for _ in range(10):
            z = rng.standard_normal(n_levels)
            for axis, sd in enumerate(sds):
                shape = [1, 1, 1]
                shape[axis] = n_levels[axis]
                z = z + sd * rng.standard_normal(shape)
            tables.append(z + 0.7)
        df = pooled_freedom(tables, (True, True, True))
        intervals = [crossed_interval(z, (True, True, True), df=df) for z in tables]
        covered += sum(interval.low <= 0.7 <= interval.high for interval in intervals)
    assert covered / 600 >= 0.93  # .95 less two standard errors


def test_ignoring_the_seeds_would_not_cover() -> None:
    rng = np.random.default_rng(2)
    covered = 0
    for _ in range(300):
        z = rng.standard_normal((8, 20, 3)) + 2 * rng.standard_normal((1, 1, 3))
        interval = crossed_interval(z, (True, True, False))
        covered += interval.low <= 0 <= interval.high
    assert covered / 300 < 0.5


def test_what_both_share_cancels() -> None:
    rng = np.random.default_rng(3)
    shared = 5 * rng.standard_normal((6, 30, 3))
    original = shared + 0.1 + 0.01 * rng.standard_normal((6, 30, 3))
    delta = delta_intervals([original], [shared])[0]
    assert delta.low < 0.1 < delta.high
    assert delta.high - delta.low < 0.01


def test_few_subjects_and_one_seed_are_taken_as_they_are() -> None:
    rng = np.random.default_rng(4)
    z = rng.standard_normal((2, 30, 1)) + np.array([0.0, 9.0])[:, None, None]
    delta = delta_intervals([z], [np.zeros_like(z)])[0]
    assert delta.se < 0.5  # the difference between the two subjects is not in it
    assert describe_factors(2, 1) == "2 fixed subjects × story blocks, one training seed"
    assert describe_factors(27, 3) == "subjects × story blocks × 3 training seeds"


def test_tables_that_cannot_be_paired() -> None:
    with pytest.raises(InvalidNumbers, match="one shape"):
        delta_intervals([np.zeros((2, 3, 1))], [np.zeros((2, 4, 1))])
    with pytest.raises(InvalidNumbers, match="two levels"):
        crossed_interval(np.zeros((1, 5)), (True, True))
    with pytest.raises(InvalidNumbers, match="needs a random factor"):
        crossed_interval(np.zeros((3, 5)), (False, False))


def test_specificity_by_hand() -> None:
    semantics, syntax = np.array([0.1, 0.01, 0.1, -0.1, -0.1, 0.0]), np.array([0.01, 0.1, -0.1, 0.1, -0.1, 0.0])
    found = specificity_index(semantics, syntax)
    np.testing.assert_allclose(found[:4], [1.0, -1.0, 4.0, -4.0])
    assert np.isnan(found[4:]).all()


def test_peaks_and_their_overlap_by_hand() -> None:
    values = np.arange(100.0)
    peaks = peak_regions(values)
    assert peaks.sum() == 10
    assert peaks[90:].all()
    assert jaccard(peaks, peaks) == 1.0
    assert jaccard(peaks, peak_regions(values[::-1])) == 0.0
    assert jaccard(peaks, np.arange(100) >= 85) == pytest.approx(10 / 15)
    assert jaccard(np.zeros(3, dtype=bool), np.zeros(3, dtype=bool)) == 0.0
