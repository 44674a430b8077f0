# SPDX-License-Identifier: Apache-2.0
import numpy as np
import pytest

from voxelboard.benchmark.statistics.adaptivity import best_of_nulls, ladder, ladder_margin


@pytest.mark.parametrize(("n", "exact"), [(1, 0.0), (2, 0.5642), (10, 1.5388), (100, 2.5076)])
def test_the_best_of_nulls_against_exact_order_statistics(n, exact):
    """Expected maxima of standard normals, e.g. Harter 1961."""
    assert best_of_nulls(n) == pytest.approx(exact, abs=0.03)


def test_a_margin_is_that_of_a_bonferroni_corrected_test():
    assert ladder_margin(0.01, 1) == pytest.approx(0.01 * 1.6449, abs=1e-5)
    assert ladder_margin(0.01, 5) == pytest.approx(0.01 * 2.3263, abs=1e-5)
    assert ladder_margin(0.01, 5, df=10) > ladder_margin(0.01, 5)


def test_small_steps_do_not_climb_and_real_ones_do():
    steps = np.arange(10) * 0.001
    assert set(ladder(steps.tolist(), 0.01)) == {0.0}
    assert ladder([0.1, 0.12, 0.2], 0.01).tolist() == [0.1, 0.1, 0.2]
    with pytest.raises(ValueError, match="submissions"):
        ladder_margin(0.01, 0)
