# SPDX-License-Identifier: Apache-2.0
"""Benjamini-Hochberg against SciPy, the number of draws that it needs, and fitted tails against exact ones."""

import numpy as np
import pytest
from scipy import stats as distributions

from voxelboard.benchmark.errors import InvalidNumbers, UserError
from voxelboard.benchmark.statistics.fdr import benjamini_hochberg, discover, required_draws
from voxelboard.benchmark.statistics.nulls import NullTest
from voxelboard.benchmark.statistics.tails import gamma_tail, gaussian_tail, pareto_tail


def null_test(observed, draws):
    mean, sd, skew = draws.mean(0), draws.std(0), distributions.skew(draws)
    reached = (draws >= observed).sum(0)
    return NullTest(observed, reached, len(draws), mean, sd, skew, draws.max(1), "drawn")


def test_adjusted_p_are_scipys():
    p = np.concatenate([np.random.default_rng(0).uniform(1e-6, 1, 400), np.full(20, 1e-4), [1.0, 1.0]])
    rejected, adjusted = benjamini_hochberg(p, 0.1)
    np.testing.assert_allclose(adjusted, distributions.false_discovery_control(p), rtol=1e-12)
    assert rejected.sum() == (adjusted <= 0.1).sum() > 10


@pytest.mark.parametrize("bad", [0.0, -0.1, 1.1, np.nan])
def test_impossible_p_values_are_refused(bad):
    with pytest.raises(InvalidNumbers, match="must lie in"):
        benjamini_hochberg(np.array([0.5, bad]))


def test_required_draws_is_the_rule():
    assert required_draws(2000, 0.05, 200) == 2000
    assert required_draws(50_000, 0.05, 5000) == 2000
    with pytest.raises(ValueError, match="n_expected"):
        required_draws(100, 0.05, 0)


def test_counting_needs_draws_and_the_tail_fit_does_not():
    """A5: at 100 draws the floor of counted p leaves no power, the fitted tail finds the live voxels."""
    rng = np.random.default_rng(1)
    live = np.arange(2000) < 100
    observed = rng.standard_normal(2000) + 6.0 * live
    few = null_test(observed, rng.standard_normal((100, 2000)))
    assert not benjamini_hochberg(few.p, 0.05)[0].any()
    fitted = discover(few, n_expected=100)
    assert fitted.p_kind == "gaussian tail"
    assert fitted.rejected[live].mean() > 0.9
    assert (fitted.rejected & ~live).sum() / fitted.rejected.sum() < 0.1
    with pytest.raises(UserError, match="use 4000 permutations"):
        discover(few, n_expected=100, few_draws="refuse")
    many = null_test(observed, rng.standard_normal((4000, 2000)))
    counted = discover(many, n_expected=100, few_draws="refuse")
    assert counted.p_kind == "counted"
    assert counted.rejected[live].mean() > 0.9


def test_gaussian_and_gamma_tails_are_exact_on_their_own_laws():
    x = np.array([0.5, 2.0, 5.0])
    np.testing.assert_allclose(gaussian_tail(x, np.full(3, 0.1), np.full(3, 0.7)), distributions.norm.sf(x, 0.1, 0.7))
    shape = 4.0
    moments = (np.full(3, shape), np.full(3, np.sqrt(shape)), np.full(3, 2 / np.sqrt(shape)))
    np.testing.assert_allclose(gamma_tail(x + shape, *moments), distributions.gamma.sf(x + shape, shape), rtol=1e-10)
    assert gaussian_tail(np.array([3.0]), np.zeros(1), np.zeros(1)).tolist() == [1.0]
    assert gaussian_tail(np.array([60.0]), np.zeros(1), np.ones(1))[0] > 0


@pytest.mark.parametrize("law", [distributions.norm, distributions.expon])
def test_pareto_tail_extrapolates(law):
    """Median over 200 nulls of 1000 draws, at a point whose true p is 2e-4: five times beyond the resolution."""
    rng = np.random.default_rng(2)
    point = float(law.isf(2e-4))
    found = [pareto_tail(law.rvs(size=1000, random_state=rng), point) for _ in range(200)]
    assert 1e-4 < np.median(found) < 4e-4
    assert min(found) > 0
    null = law.rvs(size=1000, random_state=rng)
    middle = float(np.median(null))
    assert pareto_tail(null, middle) == (1 + (null >= middle).sum()) / 1001
    with pytest.raises(InvalidNumbers, match="200 or more"):
        pareto_tail(null[:50], point)
