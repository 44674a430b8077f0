# SPDX-License-Identifier: Apache-2.0
"""The extrapolated inter-subject ceiling of the literature, for comparison with published numbers only.

Schrimpf et al. 2021 predict held-out subjects from pools of k others, fit ``v(k) = v0 (1 - exp(-k / tau))`` and take v0
as the ceiling of an infinite pool. It is biased: the exponential is not the law of averaging (for planted signal and
noise variance that is ``s / sqrt((s + n) (s + n / k))``), and with v0 confined to [0, 1] a fifth of pure-noise voxels
get a ceiling of 1.0 (statistics.md P5). v0 is not confined here, and no score of this project divides by it.
"""

from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import least_squares

from voxelboard.benchmark.errors import DataError
from voxelboard.benchmark.statistics.ceilings import Ceiling
from voxelboard.benchmark.statistics.intervals import default_scope, jackknife_interval
from voxelboard.benchmark.statistics.scores import FloatArray, voxel_correlation

_TIME_BLOCKS = 10


@dataclass(frozen=True, eq=False)
class PoolScores:
    """Mean correlation of a held-out subject with the mean of a pool of others.

    members : (n_scores, n_subjects) True for the held-out subject and the pool.
    sizes : (n_scores,) subjects in the pool.
    scores : (n_scores,) mean over voxels.
    """

    members: NDArray[np.bool_]
    sizes: FloatArray
    scores: FloatArray

    def without(self, subject: int) -> "PoolScores":
        """The scores that a subject has no part in."""
        kept = ~self.members[:, subject]
        return PoolScores(self.members[kept], self.sizes[kept], self.scores[kept])


def pool_scores(responses: NDArray[Any], *, max_pools: int = 40, seed: int = 0) -> PoolScores:
    """Scores of all pools, or of ``max_pools`` drawn ones for each held-out subject and size.

    Parameters
    ----------
    responses : (n_subjects, n_trs, n_voxels), voxels in correspondence, z-scored.
    """
    n_subjects = len(responses)
    if n_subjects < 3:
        raise DataError(f"extrapolation over subjects needs at least three, got {n_subjects}")
    members, sizes, scores = [], [], []
    rng = np.random.default_rng([seed, n_subjects])
    for held_out in range(n_subjects):
        others = [i for i in range(n_subjects) if i != held_out]
        for size in range(1, n_subjects):
            pools = list(combinations(others, size))
            if len(pools) > max_pools:
                pools = [pools[i] for i in sorted(rng.choice(len(pools), max_pools, replace=False))]
            for pool in pools:
                r = voxel_correlation(responses[list(pool)].mean(axis=0), responses[held_out])
                scores.append(float(r.mean()))
                sizes.append(float(size))
                members.append(np.isin(np.arange(n_subjects), [held_out, *pool]))
    return PoolScores(np.array(members), np.array(sizes), np.array(scores))


def fit_saturation(sizes: FloatArray, scores: FloatArray) -> tuple[float, float] | None:
    """(v0, tau) of ``v0 (1 - exp(-k / tau))`` by least squares, v0 free; None when the fit does not converge."""

    def residuals(parameters: FloatArray) -> FloatArray:
        v0, log_tau = parameters
        left: FloatArray = v0 * -np.expm1(-sizes * np.exp(-log_tau)) - scores
        return left

    # tau within [e^-5, e^5] pools: outside the law is a constant or a straight line, and v0 is not identified
    bounds = ([-np.inf, -5.0], [np.inf, 5.0])
    fit = least_squares(residuals, x0=[float(scores[np.argmax(sizes)]), 0.0], bounds=bounds)
    return (float(fit.x[0]), float(np.exp(fit.x[1]))) if fit.success else None


def extrapolated_ceiling(responses: NDArray[Any], *, max_pools: int = 40, seed: int = 0) -> Ceiling:
    """v0 of the pools' scores with its jackknife interval; biased, see the module's text.

    From five subjects on the interval is for new subjects (subjects left out in turn); with three or four, where no
    curve is left without one of them, for new stimuli and these subjects (a tenth of the time left out in turn), as the
    scope of scores is (``intervals.default_scope``).

    ``responses`` as in :func:`pool_scores`.
    """
    n, note = len(responses), "biased: exponential law"
    pools = pool_scores(responses, max_pools=max_pools, seed=seed)
    full = fit_saturation(pools.sizes, pools.scores)
    if full is None or full[0] <= 0:
        return Ceiling("isc_extrapolated", None, None, n, "subjects", f"{note}; no fit above zero")
    if default_scope(n) == "stimuli":
        unit = "blocks of time"
        left_out = [
            pool_scores(np.delete(responses, rows, axis=1), max_pools=max_pools, seed=seed)
            for rows in np.array_split(np.arange(responses.shape[1]), _TIME_BLOCKS)
        ]
    else:
        unit = "subjects"
        left_out = [pools.without(subject) for subject in range(n)]
    fits = [fit_saturation(part.sizes, part.scores) for part in left_out]
    found = [fit[0] for fit in fits if fit is not None]
    if len(found) < len(fits):
        return Ceiling("isc_extrapolated", full[0], None, n, "subjects", f"{note}; a fit of the jackknife fails")
    interval = jackknife_interval(full[0], np.array(found), f"jackknife over {unit}")
    return Ceiling("isc_extrapolated", full[0], interval, n, "subjects", note)
