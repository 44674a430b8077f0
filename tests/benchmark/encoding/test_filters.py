# SPDX-License-Identifier: Apache-2.0
import math

import numpy as np
import pytest
from scipy.fft import dct

from voxelboard.benchmark.encoding.filters import high_pass, high_pass_basis, trim_and_high_pass
from voxelboard.benchmark.errors import UserError


@pytest.mark.parametrize(("n_trs", "tr", "cutoff_s"), [(180, 2.0, 120.0), (291, 2.0045, 120.0), (60, 1.5, 45.0)])
def test_basis_is_the_first_vectors_of_the_orthonormal_dct(n_trs: int, tr: float, cutoff_s: float) -> None:
    basis = high_pass_basis(n_trs, tr, cutoff_s)
    assert basis.shape[1] == math.floor(2 * n_trs * tr / cutoff_s) + 1
    expected = dct(np.eye(n_trs), axis=0, norm="ortho")[: basis.shape[1]].T
    np.testing.assert_allclose(basis, expected, atol=1e-12)


def test_slow_sines_go_and_fast_ones_stay() -> None:
    seconds = np.arange(240) * 2.0
    slow, fast = np.cos(2 * np.pi * (seconds + 1) / 320), np.cos(2 * np.pi * (seconds + 1) / 40)
    filtered = high_pass(np.stack([slow, fast, slow + 7], axis=1), tr=2.0, cutoff_s=120.0)
    assert np.abs(filtered[:, [0, 2]]).max() < 1e-10
    np.testing.assert_allclose(filtered[:, 1], fast, atol=1e-10)


def test_filtering_twice_changes_nothing_and_large_offsets_cost_no_digits() -> None:
    y = np.random.default_rng(0).standard_normal((150, 3))
    once = high_pass(y, 2.0, 120.0)
    np.testing.assert_allclose(high_pass(once, 2.0, 120.0), once, atol=1e-12)
    np.testing.assert_allclose(high_pass(y + 2.0**40, 2.0, 120.0), high_pass((y + 2.0**40) - 2.0**40, 2.0, 120.0))


def test_trim_comes_before_the_filter() -> None:
    y = np.random.default_rng(1).standard_normal((100, 2))
    y[:5] += 1e6  # an onset transient that a filter would spread over the run
    found = trim_and_high_pass(y, 0, 100, trim=5, tr=2.0, cutoff_s=120.0)
    np.testing.assert_array_equal(found, high_pass(y[5:95], 2.0, 120.0))
    assert np.abs(found).max() < 10


def test_infinite_cutoff_removes_the_mean_alone() -> None:
    y = np.random.default_rng(2).standard_normal((30, 4))
    np.testing.assert_allclose(high_pass(y, 2.0, math.inf), y - y.mean(0), atol=1e-14)


@pytest.mark.parametrize(
    ("n_trs", "tr", "cutoff_s"), [(10, 2.0, 4.0), (0, 2.0, 120.0), (10, -1.0, 120.0), (9, 2.0, 0.0)]
)
def test_filters_that_leave_nothing_are_refused(n_trs: int, tr: float, cutoff_s: float) -> None:
    with pytest.raises(UserError):
        high_pass_basis(n_trs, tr, cutoff_s)
    with pytest.raises(UserError, match="trimmed"):
        trim_and_high_pass(np.zeros((20, 1)), 0, 10, trim=5, tr=2.0, cutoff_s=120.0)
