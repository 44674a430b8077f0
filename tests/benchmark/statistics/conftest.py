# SPDX-License-Identifier: Apache-2.0
"""Null series of fMRI-like autocorrelation, shared by the calibration tests."""

from collections.abc import Callable

import numpy as np
import pytest
from scipy import signal
from scipy.special import gammaln

TR = 2.0


def _ar1(n_trs, n, phi, rng):
    noise = rng.standard_normal((n_trs + 100, n))
    return signal.lfilter([1.0], [1.0, -phi], noise, axis=0)[100:] * np.sqrt(1 - phi**2)


def _double_gamma(times):
    def law(shape):
        return np.exp((shape - 1) * np.log(np.maximum(times, 1e-9)) - times - gammaln(shape))

    return law(6.0) - law(16.0) / 6


def _hrf_smooth(n_trs, n, rng, phi):
    """Series driven by an AR(phi) stimulus through a double-gamma response: lag-1 autocorrelation .79 at phi 0."""
    driven = signal.lfilter(_double_gamma(np.arange(0, 32, TR)), [1.0], _ar1(n_trs + 60, n, phi, rng), axis=0)[60:]
    return driven / driven.std(axis=0)


def _drift(n_trs, n, rng, amplitude=0.6, period_s=200.0):
    order = max(1, int(2 * n_trs * TR / period_s))
    times = (np.arange(n_trs)[:, None] + 0.5) * np.arange(1, order + 1) / n_trs
    slow = np.cos(np.pi * times) @ (rng.standard_normal((order, n)) / np.arange(1, order + 1)[:, None])
    return amplitude * slow / slow.std(axis=0)


def _high_pass(series, cutoff_s=120.0):
    """120-s filter by least squares on cosines: written here on its own, not with the code under test."""
    n_trs = len(series)
    order = np.arange(int(2 * n_trs * TR / cutoff_s) + 1)
    basis = np.cos(np.pi * (np.arange(n_trs)[:, None] + 0.5) * order / n_trs)
    return series - basis @ np.linalg.lstsq(basis, series, rcond=None)[0]


@pytest.fixture(scope="session")
def ar1() -> Callable[..., np.ndarray]:
    """(n_trs, n, phi, rng) -> unit-variance AR(1) series."""
    return _ar1


@pytest.fixture(scope="session")
def hrf_smooth() -> Callable[..., np.ndarray]:
    """(n_trs, n, rng, phi) -> predictions with the smoothness of a hemodynamic response."""
    return _hrf_smooth


@pytest.fixture(scope="session")
def drift() -> Callable[..., np.ndarray]:
    """(n_trs, n, rng) -> scanner drift with periods of 200 s and more."""
    return _drift


@pytest.fixture(scope="session")
def high_pass() -> Callable[..., np.ndarray]:
    """series -> series without periods above 120 s."""
    return _high_pass
