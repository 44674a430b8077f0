# SPDX-License-Identifier: Apache-2.0
"""Circular shifts, random phases and sign flips: parity with explicit surrogates, and calibration."""

import numpy as np
import pytest

from voxelboard.benchmark.errors import UserError
from voxelboard.benchmark.statistics.detrending import drift_basis, low_frequency_share
from voxelboard.benchmark.statistics.scores import voxel_correlation
from voxelboard.benchmark.statistics.surrogates import (
    circular_shift_test,
    phase_randomisation_test,
    phase_randomised,
    sign_flip_test,
)

TR = 2.0


@pytest.fixture(scope="module")
def null_pair(ar1, hrf_smooth, drift, high_pass):
    """3000 null pairs of 250 TRs, as in A1."""
    rng = np.random.default_rng(1)
    responses = ar1(250, 3000, 0.5, rng) + drift(250, 3000, rng)
    return high_pass(hrf_smooth(250, 3000, rng, 0.0)), high_pass(responses)


@pytest.mark.parametrize("n_trs", [120, 121])
def test_circular_shifts_are_all_rolls(n_trs, high_pass):
    rng = np.random.default_rng(2)
    p, y = (high_pass(rng.standard_normal((n_trs, 6))) for _ in range(2))
    test = circular_shift_test(p, y, tr=TR, seed=0, min_shift_trs=10)
    null = np.array([voxel_correlation(p, np.roll(y, k, axis=0)) for k in range(10, n_trs - 9)])
    assert test.n_draws == len(null)
    np.testing.assert_allclose(np.sort(test.maxima), np.sort(null.max(1)), atol=1e-9)
    np.testing.assert_array_equal(test.exceedances, (null >= test.observed).sum(0))
    np.testing.assert_allclose(test.sd, null.std(0), atol=1e-9)


def test_segments_are_shifted_each_within_itself(high_pass):
    """A constant offset between segments of y moves nothing when every segment is shifted within itself."""
    rng = np.random.default_rng(3)
    segments = np.repeat([0, 1, 2], [60, 71, 50])
    p, y = (np.concatenate([high_pass(rng.standard_normal((n, 4))) for n in (60, 71, 50)]) for _ in range(2))
    test = circular_shift_test(p, y, tr=TR, n_draws=300, seed=0, segments=segments)
    assert test.n_draws == 300
    marked = np.zeros((181, 4))
    marked[segments == 1] = high_pass(rng.standard_normal((71, 4)))
    alone = circular_shift_test(marked, y, tr=TR, n_draws=300, seed=0, segments=segments)
    reference = voxel_correlation(marked, y)
    np.testing.assert_allclose(alone.observed, reference, atol=1e-12)
    rolled = [
        voxel_correlation(marked, np.concatenate([y[segments == 0], np.roll(y[segments == 1], k, 0), y[segments == 2]]))
        for k in range(10, 62)
    ]
    possible = np.array(rolled).max(1)
    assert all(np.abs(possible - value).min() < 1e-9 for value in alone.maxima)
    with pytest.raises(UserError, match="no circular shift"):
        circular_shift_test(p, y, tr=TR, seed=0, min_shift_trs=25, segments=segments)
    with pytest.raises(ValueError, match="contiguous"):
        circular_shift_test(p, y, tr=TR, seed=0, segments=np.arange(181, dtype=np.int64) % 2)


@pytest.mark.parametrize("n_trs", [120, 121])
def test_phase_draws_are_those_of_surrogate_series(n_trs, high_pass):
    """Spread of the null against explicit surrogates and against its closed form; a spread of 10,000 has SE .7 %."""
    rng = np.random.default_rng(4)
    p, y = (high_pass(rng.standard_normal((n_trs, 5))) for _ in range(2))
    test = phase_randomisation_test(p, y, tr=TR, n_draws=10_000, seed=0)
    spectrum = np.fft.rfft(p, axis=0)
    null = []
    for _ in range(1500):
        phases = rng.uniform(0, 2 * np.pi, (len(spectrum), 1))
        if n_trs % 2 == 0:
            phases[-1] = np.pi * rng.integers(2)
        null.append(voxel_correlation(np.fft.irfft(spectrum * np.exp(1j * phases), n=n_trs, axis=0), y))
    null = np.array(null)
    np.testing.assert_allclose(test.sd, null.std(0), rtol=0.07)  # 1500 surrogates: SE 1.8 %
    np.testing.assert_allclose(test.mean, 0.0, atol=4 * null.std() / 100)
    power = np.abs(spectrum * np.conj(np.fft.rfft(y, axis=0))) ** 2
    variance = 2 * power[1:].sum(0)  # each frequency: (2 |W|)^2 times the mean 1/2 of a squared cosine
    if n_trs % 2 == 0:
        variance -= power[-1]  # the Nyquist term stands for itself alone, and its cosine is always 1 or -1
    closed = np.sqrt(variance / ((p**2).sum(0) * (y**2).sum(0))) / n_trs
    np.testing.assert_allclose(test.sd, closed, rtol=0.03)


def test_phase_of_the_nyquist_term_is_a_sign():
    """An alternating series has that term alone: each surrogate is the series or its negative."""
    series = np.tile([1.0, -1.0], 60)[:, None]
    test = phase_randomisation_test(series, series, tr=TR, n_draws=400, seed=0)
    np.testing.assert_allclose(np.abs(test.maxima), 1.0, rtol=1e-9)
    assert test.p[0] == pytest.approx(0.5, abs=0.08)


def test_circular_shift_is_calibrated(null_pair):
    test = circular_shift_test(*null_pair, tr=TR, seed=0)
    assert 0.04 <= np.mean(test.p <= 0.05) <= 0.065


def test_phase_randomisation_is_calibrated(null_pair):
    test = phase_randomisation_test(*null_pair, tr=TR, n_draws=400, seed=0)
    assert 0.04 <= np.mean(test.p <= 0.05) <= 0.065


def test_sign_flips_of_blocks_are_calibrated_and_of_single_trs_are_not(ar1, hrf_smooth, high_pass):
    """Two equally bad models, 2000 voxels: P4's failure of exchanging single TRs, and its cure."""
    rng = np.random.default_rng(5)
    first, second = (high_pass(hrf_smooth(250, 2000, rng, 0.5)) for _ in range(2))
    responses = high_pass(ar1(250, 2000, 0.5, rng))
    gain = (first - second) * responses
    blocks = gain.reshape(10, 25, 2000).sum(1)
    test = sign_flip_test(blocks, n_draws=999, seed=0)
    assert np.mean(test.p <= 0.05) <= 0.065
    naive = sign_flip_test(gain, n_draws=199, seed=0)
    assert np.mean(naive.p <= 0.05) > 0.1


def test_sign_flips_enumerate_exactly():
    differences = np.array([[1.0], [2.0], [4.0]])
    test = sign_flip_test(differences, n_draws=4000, seed=1)
    assert test.p[0] == pytest.approx(1 / 8, abs=0.02)  # only the observed signs reach the sum of 7
    assert sign_flip_test(-differences, n_draws=4000, seed=1).p[0] == 1.0


def test_drift_basis_is_the_dct(high_pass):
    from scipy.fft import idct

    basis = drift_basis(150, TR, 120.0)
    np.testing.assert_allclose(basis, idct(np.eye(150), norm="ortho", axis=0)[:, 1:6], atol=1e-12)
    rng = np.random.default_rng(6)
    slow, fast = basis @ rng.standard_normal((5, 3)), high_pass(rng.standard_normal((150, 3)))
    assert low_frequency_share(slow + 7.0, TR) == pytest.approx(1.0)
    assert low_frequency_share(fast, TR) < 1e-20
    assert low_frequency_share(np.zeros((150, 3)), TR) == 0.0


def test_a_white_series_is_not_taken_for_a_filtered_one(ar1, drift, high_pass):
    rng = np.random.default_rng(7)
    assert low_frequency_share(rng.standard_normal((250, 500)), TR) > 0.025
    trimmed = high_pass(ar1(260, 500, 0.5, rng) + drift(260, 500, rng))[5:-5]
    assert low_frequency_share(trimmed, TR) < 0.01


def test_phase_randomised_series_keep_spectra_and_correlations(ar1):
    rng = np.random.default_rng(21)
    series = ar1(240, 5, 0.7, rng) @ rng.standard_normal((5, 5))
    surrogate = phase_randomised(series, seed=3)
    np.testing.assert_allclose(np.abs(np.fft.rfft(surrogate, axis=0)), np.abs(np.fft.rfft(series, axis=0)), atol=1e-9)
    np.testing.assert_allclose(np.cov(surrogate.T), np.cov(series.T), atol=1e-9)
    np.testing.assert_allclose(surrogate.mean(0), series.mean(0), atol=1e-12)
    own = [np.corrcoef(series[:, i], surrogate[:, i])[0, 1] for i in range(5)]
    assert np.abs(own).max() < 0.6
    np.testing.assert_array_equal(surrogate, phase_randomised(series, seed=3))
