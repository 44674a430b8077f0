# SPDX-License-Identifier: Apache-2.0
"""Block bootstraps as matrix products: resampling weights times block sums, no series is ever resampled.

A correlation needs five sums per block (y, p, y^2, p^2, y p), so 1000 draws of all voxels are one product
``weights (n_draws, n_blocks) @ sums (n_blocks, 5 n_voxels)``. The same weights for every model make all differences
paired. Intervals of a board come from influence values (rule C); these draws are for maps and for display.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from voxelboard.benchmark.errors import InvalidNumbers
from voxelboard.benchmark.statistics.intervals import Scope, default_scope, two_way_interval
from voxelboard.benchmark.statistics.nulls import Progress
from voxelboard.benchmark.statistics.scores import CONSTANT_PREDICTION, FloatArray, block_starts

_MEMORY_BYTES = 64 * 2**20


@dataclass(frozen=True, eq=False)
class VoxelBootstrap:
    """Bootstrap of one number per voxel; every array (n_voxels,).

    ``low`` and ``high`` are percentiles of the draws.
    """

    observed: FloatArray
    se: FloatArray
    low: FloatArray
    high: FloatArray
    n_draws: int


def block_weights(n_blocks: int, n_draws: int, *, seed: int) -> FloatArray:
    """(n_draws, n_blocks) how often each block is drawn, with replacement; the same for all models of a comparison."""
    if n_blocks < 2:
        raise InvalidNumbers(f"a block bootstrap needs at least two blocks, got {n_blocks}")
    rng = np.random.default_rng([seed, n_blocks])
    return rng.multinomial(n_blocks, np.full(n_blocks, 1 / n_blocks), size=n_draws).astype(np.float64)


def correlation_draws(
    predictions: NDArray[Any], responses: NDArray[Any], weights: FloatArray, *, block_trs: int = 15
) -> FloatArray:
    """(n_draws, n_voxels) correlations of resampled blocks; 0 where a resampled series is constant.

    Parameters
    ----------
    predictions, responses : (n_trs, n_voxels).
    weights : (n_draws, n_blocks), see :func:`block_weights`; blocks as in
        :func:`~voxelboard.benchmark.statistics.scores.block_starts`.
    """
    starts = block_starts(len(predictions), block_trs)
    if weights.shape[1] != len(starts):
        raise ValueError(f"weights for {weights.shape[1]} blocks, but the series have {len(starts)}")
    # Centred first: the variances below are differences of sums and would cancel badly far from 0.
    p = np.asarray(predictions, dtype=np.float64)
    y = np.asarray(responses, dtype=np.float64)
    p, y = p - p.mean(axis=0), y - y.mean(axis=0)
    sums = np.concatenate([np.add.reduceat(x, starts, axis=0) for x in (y, p, y * y, p * p, y * p)], axis=1)
    lengths = np.diff(starts, append=len(p)).astype(np.float64)
    means = (weights @ sums) / (weights @ lengths)[:, None]
    y_mean, p_mean, yy, pp, yp = np.split(means, 5, axis=1)
    power = (yy - y_mean**2) * (pp - p_mean**2)
    moving = power > CONSTANT_PREDICTION**2
    draws: FloatArray = np.where(moving, yp - y_mean * p_mean, 0.0) / np.sqrt(np.where(moving, power, 1.0))
    return draws


def bootstrap_correlations(
    predictions: NDArray[Any],
    responses: NDArray[Any],
    weights: FloatArray,
    *,
    block_trs: int = 15,
    baseline: NDArray[Any] | None = None,
    confidence: float = 0.95,
    progress: Progress | None = None,
) -> VoxelBootstrap:
    """Bootstrap of each voxel's correlation, or of its gain over a ``baseline`` prediction, in bounded memory.

    Parameters
    ----------
    predictions, responses : (n_trs, n_voxels).
    weights : (n_draws, n_blocks).
    baseline : (n_trs, n_voxels) predictions of another model: the draws are paired differences.
    progress : called with (voxels done, voxels in all).
    """
    n_trs, n_voxels = predictions.shape
    observed, se, low, high = (np.empty(n_voxels) for _ in range(4))
    whole = np.ones((1, weights.shape[1]))
    tails = np.array([(1 - confidence) / 2, (1 + confidence) / 2])
    for here in _chunks(n_voxels, 8 * (8 * n_trs + 12 * len(weights))):

        def values(w: FloatArray, here: slice = here) -> FloatArray:
            own = correlation_draws(predictions[:, here], responses[:, here], w, block_trs=block_trs)
            if baseline is None:
                return own
            return own - correlation_draws(baseline[:, here], responses[:, here], w, block_trs=block_trs)

        draws = values(weights)
        observed[here] = values(whole)[0]
        se[here] = draws.std(axis=0, ddof=1)
        low[here], high[here] = np.quantile(draws, tails, axis=0, overwrite_input=True)
        if progress is not None:
            progress(here.stop, n_voxels)
    return VoxelBootstrap(observed, se, low, high, len(weights))


def _chunks(n_voxels: int, bytes_per_voxel: int) -> Iterator[slice]:
    size = max(16, _MEMORY_BYTES // bytes_per_voxel)
    return (slice(start, min(start + size, n_voxels)) for start in range(0, n_voxels, size))


def two_way_bootstrap(z: FloatArray, *, n_draws: int = 1000, seed: int, scope: Scope | None = None) -> FloatArray:
    """Draws of all models' scores for display: subjects and blocks resampled, the same for every model.

    Resampling both margins counts the residual up to three times over; the draws are shrunk about the estimates so that
    their mean variance is that of the two-way interval (the correction of Schuett et al. 2023, on our estimator).

    Parameters
    ----------
    z : (n_models, n_subjects, n_blocks) influence values.

    Returns
    -------
    (n_draws, n_models) scores.
    """
    n_models, n_subjects, n_blocks = z.shape
    scope = scope or default_scope(n_subjects)
    rng = np.random.default_rng([seed, n_subjects, n_blocks])
    subjects = np.full((n_draws, n_subjects), 1 / n_subjects)
    if scope == "subjects+stimuli":
        subjects = rng.multinomial(n_subjects, subjects[0], size=n_draws) / n_subjects
    blocks = rng.multinomial(n_blocks, np.full(n_blocks, 1 / n_blocks), size=n_draws) / n_blocks
    draws = np.stack([((subjects @ table) * blocks).sum(axis=1) for table in z], axis=1)
    estimates = z.mean(axis=(1, 2))
    spread = float(draws.var(axis=0, ddof=1).mean())
    if spread == 0:
        return np.broadcast_to(estimates, (n_draws, n_models)).copy()
    target = float(np.mean([two_way_interval(table, scope=scope).se ** 2 for table in z]))
    shrunk: FloatArray = estimates + (draws - estimates) * np.sqrt(target / spread)
    return shrunk
