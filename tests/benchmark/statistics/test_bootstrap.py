# SPDX-License-Identifier: Apache-2.0
"""Bootstraps against explicit resampling and against known standard errors."""

import numpy as np
import pytest

from voxelboard.benchmark.errors import InvalidNumbers
from voxelboard.benchmark.statistics.bootstrap import (
    block_weights,
    bootstrap_correlations,
    correlation_draws,
    two_way_bootstrap,
)
from voxelboard.benchmark.statistics.intervals import two_way_interval
from voxelboard.benchmark.statistics.scores import block_starts, voxel_correlation


def correlated(rng, n_trs, n_voxels, rho):
    y = rng.standard_normal((n_trs, n_voxels))
    return rho * y + np.sqrt(1 - rho**2) * rng.standard_normal(y.shape), y


@pytest.mark.parametrize("n_trs", [150, 163])
def test_draws_are_those_of_resampled_series(n_trs):
    p, y = correlated(np.random.default_rng(0), n_trs, 6, 0.4)
    starts = block_starts(n_trs, 15)
    weights = block_weights(len(starts), 40, seed=1)
    draws = correlation_draws(p + 100.0, y - 50.0, weights, block_trs=15)
    blocks = np.split(np.arange(n_trs), starts[1:])
    for w, draw in zip(weights, draws, strict=True):
        rows = np.concatenate([np.tile(rows, int(k)) for rows, k in zip(blocks, w, strict=True)])
        np.testing.assert_allclose(draw, voxel_correlation(p[rows], y[rows]), atol=1e-12)


def test_weights_are_resamples_and_reproducible():
    weights = block_weights(12, 3000, seed=2)
    assert (weights.sum(1) == 12).all()
    assert weights.mean() == 1.0
    assert weights.var(axis=0).mean() == pytest.approx(11 / 12, rel=0.05)
    np.testing.assert_array_equal(weights, block_weights(12, 3000, seed=2))
    with pytest.raises(InvalidNumbers, match="two blocks"):
        block_weights(1, 10, seed=0)


def test_standard_error_of_white_series_is_fishers():
    p, y = correlated(np.random.default_rng(3), 900, 3000, 0.5)
    result = bootstrap_correlations(p, y, block_weights(60, 400, seed=4))
    np.testing.assert_allclose(result.observed, voxel_correlation(p, y), atol=1e-12)
    assert result.se.mean() == pytest.approx((1 - 0.25) / np.sqrt(900), rel=0.05)
    covered = (result.low <= 0.5) & (result.high >= 0.5)
    assert 0.91 <= covered.mean() <= 0.97


def test_differences_are_paired():
    rng = np.random.default_rng(5)
    p, y = correlated(rng, 300, 500, 0.4)
    weights = block_weights(20, 300, seed=6)
    same = bootstrap_correlations(p, y, weights, baseline=p)
    assert not same.se.any()
    other = p + 0.1 * rng.standard_normal(p.shape)
    paired = bootstrap_correlations(p, y, weights, baseline=other)
    alone = bootstrap_correlations(p, y, weights)
    assert paired.se.mean() < 0.3 * alone.se.mean()
    np.testing.assert_allclose(paired.observed, voxel_correlation(p, y) - voxel_correlation(other, y), atol=1e-12)


def test_constant_predictions_stay_finite():
    y = np.random.default_rng(7).standard_normal((60, 3))
    result = bootstrap_correlations(np.full((60, 3), 2.0), y, block_weights(4, 50, seed=0))
    assert not result.se.any()
    with pytest.raises(ValueError, match="weights for 5 blocks"):
        correlation_draws(y, y, block_weights(5, 50, seed=0))


def test_two_way_draws_have_the_intervals_width_and_stay_paired():
    rng = np.random.default_rng(8)
    shared = rng.standard_normal((1, 8, 1)) + rng.standard_normal((1, 1, 20))
    z = shared + 0.1 * rng.standard_normal((3, 8, 20)) + np.array([0.3, 0.2, 0.0])[:, None, None]
    draws = two_way_bootstrap(z, n_draws=4000, seed=0)
    assert draws.shape == (4000, 3)
    expected = np.mean([two_way_interval(table).se ** 2 for table in z])
    assert draws.var(axis=0).mean() == pytest.approx(expected, rel=0.01)
    np.testing.assert_allclose(draws.mean(0), z.mean((1, 2)), atol=4 * np.sqrt(expected / 4000))
    assert np.mean(draws[:, 0] > draws[:, 2]) > 0.99  # what models share cancels
    fixed = two_way_bootstrap(z[:, :3], n_draws=4000, seed=0)
    expected = np.mean([two_way_interval(table).se ** 2 for table in z[:, :3]])
    assert fixed.var(axis=0).mean() == pytest.approx(expected, rel=0.01)
    np.testing.assert_array_equal(draws, two_way_bootstrap(z, n_draws=4000, seed=0))
