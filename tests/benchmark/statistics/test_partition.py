# SPDX-License-Identifier: Apache-2.0
"""Variance partition: planted orthogonal spaces, himalaya's split score, and no clipping."""

import numpy as np
import pytest
from himalaya.scoring import r2_score_split

from voxelboard.benchmark.errors import InvalidNumbers
from voxelboard.benchmark.statistics.intervals import two_way_interval
from voxelboard.benchmark.statistics.partition import (
    commonality,
    split_statistics,
    unique_fractions,
    unique_influence,
    unique_interval,
)
from voxelboard.benchmark.statistics.scores import (
    BlockStatistics,
    coarsen,
    segment_statistics,
    unit_explained_fractions,
)


def world(seed, noise=1.0, unique=0.3, n_trs=315, n_voxels=40):
    """Two orthogonal spaces that explain .5 and ``unique`` of the signal; predictions are the planted parts."""
    rng = np.random.default_rng(seed)
    basis = rng.standard_normal((n_trs, 3 * n_voxels))
    basis -= basis.mean(0)
    basis = np.linalg.qr(basis)[0] * np.sqrt(n_trs)
    first, second, rest = (basis[:, k * n_voxels : (k + 1) * n_voxels] for k in range(3))
    first, second = np.sqrt(0.5) * first, np.sqrt(unique) * second
    signal = first + second + np.sqrt(0.5 - unique) * rest
    responses = signal + noise * rng.standard_normal((3, n_trs, n_voxels))
    return first, second, responses


def one_roi(stats, block_trs=15):
    c, q, s = (t.sum(1, keepdims=True) for t in (stats.c, stats.q, stats.s))
    return coarsen(BlockStatistics(c, q, s, stats.block_segment, stats.block_trs), block_trs)


def test_unique_is_the_planted_share_of_the_second_space():
    first, second, responses = world(0)
    full, reduced = (segment_statistics(p, responses, kind="repeats") for p in (first + second, first))
    assert unique_fractions(full, reduced).values.mean() == pytest.approx(0.3, abs=0.02)
    z = unique_influence(one_roi(full), one_roi(reduced), np.array([True]))
    pooled = unit_explained_fractions(one_roi(full)).values - unit_explained_fractions(one_roi(reduced)).values
    assert z.mean() == pytest.approx(pooled[0], rel=1e-9)


def test_intervals_of_unique_cover_the_planted_share():
    covered = []
    for k in range(60):
        tables = []
        for subject in range(5):
            first, second, responses = world([1, k, subject], n_voxels=15)
            stats = (segment_statistics(p, responses, kind="repeats") for p in (first + second, first))
            tables.append([one_roi(s) for s in stats])
        full, reduced = zip(*tables, strict=True)
        interval = unique_interval(full, reduced, [np.array([True])] * 5)
        covered.append(interval.low <= 0.3 <= interval.high)
    assert np.mean(covered) >= 0.87  # .95 less 3 SEs of 60 draws
    alone = unique_interval(full[:1], reduced[:1], [np.array([True])])
    assert alone.estimator == "block influence, t"


def test_null_contributions_are_negative_as_often_as_their_cost_says():
    """A space of noise costs ``q / s``: the estimate is negative, and clipping it would be a lie (F1)."""
    first, _, responses = world(2)
    junk = first + 0.2 * np.random.default_rng(3).standard_normal(first.shape)
    full, reduced = (segment_statistics(p, responses, kind="repeats") for p in (junk, first))
    values = unique_fractions(full, reduced).values
    assert values.mean() == pytest.approx(-0.04, abs=0.02)
    assert (values < 0).mean() > 0.6


def test_split_parts_add_up_and_are_himalayas():
    rng = np.random.default_rng(4)
    y = rng.standard_normal((200, 6))
    bands = {name: 0.3 * y + rng.standard_normal((200, 6)) for name in ("a", "b", "c")}
    parts = split_statistics(bands, y[None], kind="none")
    fractions = np.stack([unit_explained_fractions(part).values for part in parts.values()])
    joint = segment_statistics(sum(bands.values()), y[None], kind="none")
    np.testing.assert_allclose(fractions.sum(0), unit_explained_fractions(joint).values, rtol=1e-9)
    centred = np.stack([p - p.mean(0) for p in bands.values()])
    np.testing.assert_allclose(fractions, r2_score_split(y - y.mean(0), centred), rtol=1e-9)


def test_split_is_not_unique_when_spaces_share_variance():
    rng = np.random.default_rng(5)
    signal = rng.standard_normal((300, 30))
    responses = signal + 0.5 * rng.standard_normal((2, 300, 30))
    halves = {"a": 0.5 * signal, "b": 0.5 * signal}  # either alone could predict everything
    split = split_statistics(halves, responses, kind="repeats")
    full = segment_statistics(signal, responses, kind="repeats")
    unique = unique_fractions(full, full).values.mean()  # refitted on b alone, the prediction is the same signal
    assert unit_explained_fractions(split["a"]).values.mean() == pytest.approx(0.5, abs=0.02)
    assert unique == 0.0


def test_commonality_of_planted_parts():
    parts = {"a": 0.1, "b": 0.2, "c": 0.3, "ab": 0.05, "ac": -0.02, "bc": 0.04, "abc": 0.08}
    names = [frozenset(name) for name in parts]
    explained = {subset: np.array(sum(v for k, v in parts.items() if set(k) & subset)) for subset in names}
    found = commonality(explained)
    for name, value in parts.items():
        assert found[frozenset(name)] == pytest.approx(value)
    assert sum(found.values()) == pytest.approx(explained[frozenset("abc")])
    with pytest.raises(ValueError, match="missing"):
        commonality({k: v for k, v in explained.items() if k != frozenset("ab")})


def test_commonality_of_influence_values_gives_the_paired_interval():
    rng = np.random.default_rng(6)
    tables = {subset: rng.standard_normal((6, 20)) for subset in map(frozenset, ("a", "b", "ab"))}
    parts = commonality(tables)
    expected = two_way_interval(tables[frozenset("ab")] - tables[frozenset("b")])
    assert two_way_interval(parts[frozenset("a")]) == expected


def test_models_of_other_responses_are_refused():
    first, _, responses = world(7)
    _, _, others = world(8)
    full, reduced = (segment_statistics(first, y, kind="repeats") for y in (responses, others))
    with pytest.raises(InvalidNumbers, match="different responses"):
        unique_fractions(full, reduced)
