# SPDX-License-Identifier: Apache-2.0
"""Null series with the autocorrelation of fMRI, for the calibration of tests."""

import numpy as np
from numpy.typing import NDArray
from scipy.signal import lfilter

from voxelboard.benchmark.features.confounds import canonical_hrf
from voxelboard.benchmark.stimuli.simulated import ar1

FloatArray = NDArray[np.float64]

TR = 2.0


def smooth_predictions(n_trs: int, n_series: int, phi: float, rng: np.random.Generator) -> FloatArray:
    """(n_trs, n_series) predictions as smooth as a haemodynamic response: an AR(phi) stimulus through one."""
    burn_in = 60
    driven = lfilter(canonical_hrf(TR), [1.0], ar1(n_trs + burn_in, n_series, phi, rng), axis=0)[burn_in:]
    return np.asarray(driven / driven.std(axis=0))


def slow_drift(n_trs: int, n_series: int, amplitude: float, rng: np.random.Generator) -> FloatArray:
    """(n_trs, n_series) scanner drift with periods of 200 s and more, standard deviation ``amplitude``."""
    orders = np.arange(1, max(1, int(2 * n_trs * TR / 200.0)) + 1)
    cosines = np.cos(np.pi * (np.arange(n_trs)[:, None] + 0.5) * orders / n_trs)
    drift = cosines @ (rng.standard_normal((len(orders), n_series)) / orders[:, None])
    return np.asarray(amplitude * drift / drift.std(axis=0))
