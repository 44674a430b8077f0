# SPDX-License-Identifier: Apache-2.0
"""p values beyond the resolution of a number of draws, from a fitted tail of the null distribution."""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import stats as distributions

from voxelboard.benchmark.errors import InvalidNumbers
from voxelboard.benchmark.statistics.scores import FloatArray


def gaussian_tail(observed: NDArray[Any], mean: NDArray[Any], sd: NDArray[Any]) -> FloatArray:
    """Upper-tail p from the null's mean and standard deviation; 1 where the null does not vary. Any one shape."""
    return _standardised_tail(observed, mean, sd, lambda z, _: distributions.norm.sf(z), np.zeros_like(mean))


def gamma_tail(observed: NDArray[Any], mean: NDArray[Any], sd: NDArray[Any], skew: NDArray[Any]) -> FloatArray:
    """Upper-tail p of the Pearson type III law with the null's first three moments (Winkler et al. 2016).

    The skewness of a few hundred draws is noise (its standard error is sqrt(6 / n)): use it from 1000 draws on.
    """
    return _standardised_tail(observed, mean, sd, distributions.pearson3.sf, skew)


def _standardised_tail(
    observed: NDArray[Any], mean: NDArray[Any], sd: NDArray[Any], tail: Any, skew: NDArray[Any]
) -> FloatArray:
    varies = sd > 0
    z = np.where(varies, observed - mean, -np.inf) / np.where(varies, sd, 1.0)
    p: FloatArray = np.where(varies, tail(np.where(varies, z, 0.0), skew), 1.0)
    return np.maximum(p, np.finfo(np.float64).tiny)  # a p value is never 0


def pareto_tail(null: NDArray[Any], observed: float, *, tail_share: float = 0.1) -> float:
    """Upper-tail p from a generalised Pareto law fitted to the largest draws (Knijnenburg et al. 2009).

    Counts as long as ten draws exceed the observed value, ``(1 + count) / (1 + n)``; extrapolates beyond.

    Parameters
    ----------
    null : (n_draws,) at least 200 draws.

    Raises
    ------
    InvalidNumbers
        for fewer draws.
    """
    n = len(null)
    if n < 200:
        raise InvalidNumbers(f"a tail cannot be fitted to {n} draws; 200 or more are needed")
    exceeding = int((null >= observed).sum())
    if exceeding >= 10:
        return (1 + exceeding) / (1 + n)
    ordered = np.sort(null)[::-1]
    size = int(tail_share * n)
    threshold = (ordered[size - 1] + ordered[size]) / 2
    excess = ordered[:size] - threshold
    shape, scale = _pareto_moments(excess)
    p = size / n * float(distributions.genpareto.sf(observed - threshold, shape, scale=scale))
    # a bounded fitted tail gives 0 beyond its end, which no finite number of draws supports
    return max(p, 1 / (1 + n) / n)


def _pareto_moments(excess: FloatArray) -> tuple[float, float]:
    """Shape and scale by moments (Hosking & Wallis 1987): closed form, so that the same draws give the same p."""
    mean, variance = float(excess.mean()), float(excess.var(ddof=1))
    ratio = mean**2 / variance
    return 0.5 * (1 - ratio), 0.5 * mean * (1 + ratio)
