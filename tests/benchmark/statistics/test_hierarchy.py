# SPDX-License-Identifier: Apache-2.0
"""Preferred layers and their order from planted statistics; the null has no order."""

import numpy as np
import pytest
from scipy.stats import pearsonr, spearmanr

from voxelboard.benchmark.statistics.bootstrap import block_weights
from voxelboard.benchmark.statistics.hierarchy import (
    InnerProducts,
    depth_of_regions,
    layer_correlation,
    order_correlation,
    preferred_layers,
)
from voxelboard.benchmark.statistics.scores import BlockStatistics

REGIONS = ("HG", "HS", "STG", "STS", "IFG", "LatS")
N_LAYERS, N_INNER, N_VOXELS = 6, 5, 10
LABELS = np.repeat(REGIONS, N_VOXELS)


def planted(rng: np.random.Generator, gain: float) -> InnerProducts:
    """Voxels of region k are predicted best from layer k: correlation ``gain`` there, half next to it, and noise."""
    n = len(LABELS)
    inner = InnerProducts.empty(N_LAYERS, N_INNER, n)
    region = np.repeat(np.arange(6), N_VOXELS)
    for layer in range(N_LAYERS):
        r = gain * 0.5 ** np.abs(layer - region) + 0.05 * rng.standard_normal((N_INNER, n))
        inner.add(layer, 100 * r, np.full((N_INNER, n), 100.0), np.full((N_INNER, n), 100.0))
    return inner


def test_each_region_prefers_its_planted_layer_and_depth_follows_the_order() -> None:
    inner = planted(np.random.default_rng(0), 0.3)
    preference = preferred_layers(inner)
    assert (preference.layer == np.repeat(np.arange(6), N_VOXELS)).mean() > 0.95
    depths = depth_of_regions(inner, LABELS, REGIONS, 500, seed=1)
    order = order_correlation(depths, REGIONS, 0.95)
    assert order is not None
    assert order.estimate == pytest.approx(1.0)
    assert order.low > 0.9
    assert order.n == N_INNER
    tied = order_correlation(depths, (REGIONS[:2], *REGIONS[2:]), 0.95)  # as the two hemispheres of a region
    assert tied is not None
    assert tied.estimate == pytest.approx(spearmanr([0, 0, 1, 2, 3, 4], range(6)).statistic)
    assert order_correlation(depths, (REGIONS[:3], REGIONS[3:]), 0.95) is None  # two places have no order to test
    backwards = order_correlation(depths, REGIONS[::-1], 0.95)
    assert backwards is not None
    assert backwards.estimate == pytest.approx(-1.0)
    for k, region in enumerate(REGIONS):
        interval = depths.interval(region, 0.95)
        assert interval is not None
        assert interval.low <= interval.estimate <= interval.high
        assert interval.estimate == pytest.approx(k / 5, abs=0.05)


def test_without_a_mapping_the_interval_of_the_order_covers_zero() -> None:
    covered = 0
    for seed in range(20):
        depths = depth_of_regions(planted(np.random.default_rng([7, seed]), 0.0), LABELS, REGIONS, 200, seed=1)
        order = order_correlation(depths, REGIONS, 0.95)
        assert order is not None
        covered += order.low <= 0 <= order.high
    assert covered >= 17  # nominal 19 of 20


def test_the_same_seed_gives_the_same_draws_and_voxel_chunks_do_not_matter(monkeypatch: pytest.MonkeyPatch) -> None:
    inner = planted(np.random.default_rng(0), 0.3)
    first = depth_of_regions(inner, LABELS, REGIONS, 50, seed=1)
    monkeypatch.setattr("voxelboard.benchmark.statistics.hierarchy._VOXEL_CHUNK", 7)
    again = depth_of_regions(inner, LABELS, REGIONS, 50, seed=1)
    for region in REGIONS:
        np.testing.assert_array_equal(first.draws[region], again.draws[region])


def test_the_pooled_correlation_is_that_of_the_summed_products() -> None:
    rng = np.random.default_rng(3)
    p, y = rng.standard_normal((2, N_INNER, 40, 4))
    inner = InnerProducts.empty(1, N_INNER, 4)
    inner.add(0, (p * y).sum(1), (p**2).sum(1), (y**2).sum(1))
    flat = p.reshape(-1, 4), y.reshape(-1, 4)
    expected = [(a @ b) / np.sqrt((a @ a) * (b @ b)) for a, b in zip(*(x.T for x in flat), strict=True)]
    np.testing.assert_allclose(inner.correlations()[0], expected, rtol=1e-6)
    only_second = np.array([0, 2.0, 0, 0, 0])
    expected = [(a @ b) / np.sqrt((a @ a) * (b @ b)) for a, b in zip(p[1].T, y[1].T, strict=True)]
    np.testing.assert_allclose(inner.correlations(only_second)[0], expected, rtol=1e-6)


def test_voxels_that_nothing_predicts_have_no_preference() -> None:
    inner = planted(np.random.default_rng(0), 0.3)
    inner.c[:, :, :N_VOXELS] = -1.0
    assert (preferred_layers(inner).layer[:N_VOXELS] == -1).all()
    depths = depth_of_regions(inner, LABELS, REGIONS, 50, seed=1)
    assert depths.interval("HG", 0.95) is None
    order = order_correlation(depths, REGIONS, 0.95)
    assert order is not None  # of the five others
    assert order.estimate == pytest.approx(1.0)
    assert order_correlation(depths, ("HG", "HS", "STG"), 0.95) is None


def layers_with_scores(scores: np.ndarray, rng: np.random.Generator, noise: float) -> list[BlockStatistics]:
    n_blocks = 12
    found = []
    for score in scores:
        c = (score + noise * rng.standard_normal((n_blocks, 2))) * 10
        power = np.full((n_blocks, 2), 10.0)
        found.append(BlockStatistics(c, power, power, np.zeros(n_blocks, dtype=np.int64), 15))
    return found


def test_scores_that_follow_the_magnitudes_correlate_with_them() -> None:
    rng = np.random.default_rng(0)
    magnitudes = np.array([1.0, 2, 4, 5, 3, 2.5])
    weights = block_weights(12, 300, seed=0)
    layers = layers_with_scores(magnitudes / 10, rng, 0.02)
    found = layer_correlation(magnitudes, layers, weights, 0.95)
    assert found is not None
    measured = [(s.c.sum(0) / np.sqrt(s.q.sum(0) * s.s.sum(0))).mean() for s in layers]
    assert found.estimate == pytest.approx(pearsonr(magnitudes, measured).statistic, abs=1e-12)
    assert 0.9 < found.low <= found.estimate <= found.high
    null = layer_correlation(magnitudes, layers_with_scores(np.full(6, 0.2), rng, 0.3), weights, 0.95)
    assert null is not None
    assert null.low < 0 < null.high
    assert layer_correlation(magnitudes[:2], layers[:2], weights, 0.95) is None


def test_the_order_is_scipys_spearman() -> None:
    inner = planted(np.random.default_rng(5), 0.1)
    depths = depth_of_regions(inner, LABELS, REGIONS, 20, seed=1)
    order = order_correlation(depths, REGIONS, 0.95)
    assert order is not None
    values = [depths.estimate[region] for region in REGIONS]
    assert order.estimate == pytest.approx(spearmanr(np.arange(6), values).statistic)
