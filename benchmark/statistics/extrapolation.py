# SPDX-License-Identifier: Apache-2.0
"""The extrapolated inter-subject ceiling of the literature, for comparison with published numbers only.

Schrimpf et al. 2021 predict held-out subjects from pools of k others, fit ``v(k) = v0 (1 - exp(-k / tau))`` and take v0
as the ceiling of an infinite pool. It is biased: the exponential is not the law of averaging (for planted signal and
noise variance that is ``s / sqrt((s + n) (s + n / k))``), and with v0 confined to [0, 1] a fifth of pure-noise voxels
get a ceiling of 1.0 (statistics.md P5). v0 is not confined here, and no score of this project divides by it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from math import comb
from typing import Any

import numpy as np
from numpy.typing import NDArray

from voxelboard.benchmark.errors import DataError
from voxelboard.benchmark.statistics.ceilings import Ceiling
from voxelboard.benchmark.statistics.intervals import default_scope, jackknife_interval
from voxelboard.benchmark.statistics.scores import FloatArray

_TIME_BLOCKS = 10
_VOXELS_AT_ONCE = 256  # a float64 copy of all subjects' responses: 83 MB for 27 subjects and 1,500 TRs
_LOG_TAU_LIMIT = 5.0  # outside the law is a constant or a straight line
_GRID, _ZOOMS = 41, 5
_NOTE = "biased: exponential law"


@dataclass(frozen=True, eq=False)
class PoolScores:
    """Mean correlation of a held-out subject with the mean of a pool of others.

    held_out : (n_scores,) number of the held-out subject.
    members : (n_scores, n_subjects) True for the held-out subject and the pool.
    sizes : (n_scores,) subjects in the pool.
    scores : (1 + n_blocks, n_scores) mean over voxels, over all of the time, then without each block of it in turn.
    """

    held_out: NDArray[np.intp]
    members: NDArray[np.bool_]
    sizes: FloatArray
    scores: FloatArray

    def without(self, subject: int) -> "PoolScores":
        """The scores that a subject has no part in."""
        return self._only(~self.members[:, subject])

    def of(self, subject: int) -> "PoolScores":
        """The scores of a held-out subject."""
        return self._only(self.held_out == subject)

    def _only(self, kept: NDArray[np.bool_]) -> "PoolScores":
        return PoolScores(self.held_out[kept], self.members[kept], self.sizes[kept], self.scores[:, kept])


def pool_scores(
    responses: NDArray[Any], *, max_pools: int = 40, seed: int = 0, held_out: Sequence[int] | None = None
) -> PoolScores:
    """Scores of all pools, or of ``max_pools`` drawn ones for each held-out subject and size.

    All correlations of a voxel follow from the products of its subjects' series, so no pool is averaged. Each subject has
    random numbers of its own.

    Parameters
    ----------
    responses : (n_subjects, n_trs, n_voxels), voxels in correspondence, z-scored.
    held_out : numbers of the subjects that are held out in turn; default all.

    Raises
    ------
    DataError
        for fewer than three subjects.
    """
    n_subjects, n_trs, n_voxels = responses.shape
    if n_subjects < 3:
        raise DataError(f"extrapolation over subjects needs at least three, got {n_subjects}")
    subjects = range(n_subjects) if held_out is None else held_out
    pools = {i: _draw_pools(n_subjects, i, max_pools, seed) for i in subjects}
    own = np.repeat(list(pools), [len(drawn) for drawn in pools.values()])
    scores = np.zeros((1 + min(_TIME_BLOCKS, n_trs), len(own)))
    for first in range(0, n_voxels, _VOXELS_AT_ONCE):
        products = _products(responses[:, :, first : first + _VOXELS_AT_ONCE], len(scores) - 1)
        for i, drawn in pools.items():
            scores[:, own == i] += _correlations(products, i, drawn).sum(axis=1)
    drawn = np.concatenate(list(pools.values()))
    members = drawn.astype(bool)
    members[np.arange(len(members)), own] = True
    return PoolScores(own, members, drawn.sum(axis=1), scores / n_voxels)


def _draw_pools(n_subjects: int, held_out: int, max_pools: int, seed: int) -> FloatArray:
    """(n_pools, n_subjects) 1 for the members of pools of every size from the others, no pool twice."""
    rng = np.random.default_rng([seed, n_subjects, held_out])
    others = [i for i in range(n_subjects) if i != held_out]
    found: list[tuple[int, ...]] = []
    for size in range(1, n_subjects):
        if comb(len(others), size) <= max_pools:
            found += combinations(others, size)
            continue
        drawn: set[tuple[int, ...]] = set()  # never listed in full: of 26 others there are 10 million pools of 13
        while len(drawn) < max_pools:
            drawn.add(tuple(sorted(int(i) for i in rng.choice(others, size, replace=False))))
        found += sorted(drawn)
    pools = np.zeros((len(found), n_subjects))
    for row, pool in zip(pools, found, strict=True):
        row[list(pool)] = 1.0
    return pools


def _products(responses: NDArray[Any], n_blocks: int) -> FloatArray:
    """(1 + n_blocks, n_voxels, n_subjects, n_subjects) centred products: of all of the time, then without each block."""
    by_voxel = np.moveaxis(np.asarray(responses, dtype=np.float64), 2, 0)
    parts = np.array_split(by_voxel, n_blocks, axis=2)
    product = np.stack([part @ part.transpose(0, 2, 1) for part in parts])
    total = np.stack([part.sum(axis=2) for part in parts])
    length = np.array([part.shape[2] for part in parts])
    product, total, length = (
        np.concatenate([x.sum(axis=0, keepdims=True), x.sum(axis=0) - x]) for x in (product, total, length)
    )
    centred: FloatArray = product - total[..., :, None] * total[..., None, :] / length[:, None, None, None]
    return centred


def _correlations(products: FloatArray, held_out: int, pools: FloatArray) -> FloatArray:
    """(n_sets, n_voxels, n_pools) correlation of the held-out subject with the mean of each pool; 0 where one is constant."""
    together = products @ pools.T
    shared = together[:, :, held_out]
    power = np.einsum("svip,pi->svp", together, pools) * products[:, :, held_out, held_out, None]
    moving = power > 0
    r: FloatArray = np.where(moving, shared / np.sqrt(np.where(moving, power, 1.0)), 0.0)
    return r


def fit_saturation(sizes: FloatArray, scores: FloatArray) -> tuple[float, float] | None:
    """(v0, tau) of ``v0 (1 - exp(-k / tau))`` by least squares, v0 free, tau within [e^-5, e^5] pools.

    For a given tau v0 is a plain regression, so only tau is searched: on a grid, then on ever finer ones around its best
    point, to 1e-6 of tau. None where the best curve is a straight line up to the largest pool, for then v0 is anything.
    """
    distinct, which = np.unique(sizes, return_inverse=True)
    count, total = np.bincount(which), np.bincount(which, weights=scores)

    def rise(log_tau: FloatArray) -> FloatArray:
        return -np.expm1(-distinct * np.exp(-log_tau)[:, None])

    grid = np.linspace(-_LOG_TAU_LIMIT, _LOG_TAU_LIMIT, _GRID)
    for step in range(_ZOOMS):
        curves = rise(grid)
        best = int(np.argmax((curves @ total) ** 2 / (curves**2 @ count)))  # the explained square
        if step == 0 and best == _GRID - 1:
            return None
        grid = np.linspace(grid[max(best - 1, 0)], grid[min(best + 1, _GRID - 1)], _GRID)
    (curve,) = rise(grid[[_GRID // 2]])
    return float((curve @ total) / (curve**2 @ count)), float(np.exp(grid[_GRID // 2]))


def extrapolated_ceiling(responses: NDArray[Any], *, max_pools: int = 40, seed: int = 0) -> Ceiling:
    """v0 of the pools' scores with its jackknife interval; biased, see the module's text.

    From five subjects on the interval is for new subjects (subjects left out in turn); with three or four, where no
    curve is left without one of them, for new stimuli and these subjects (a tenth of the time left out in turn), as the
    scope of scores is (``intervals.default_scope``).

    ``responses`` as in :func:`pool_scores`.
    """
    n = len(responses)
    pools = pool_scores(responses, max_pools=max_pools, seed=seed)
    if default_scope(n) == "stimuli":
        return _ceiling(pools, [(pools.sizes, scores) for scores in pools.scores[1:]], n, "blocks of time")
    left_out = [pools.without(subject) for subject in range(n)]
    return _ceiling(pools, [(part.sizes, part.scores[0]) for part in left_out], n, "subjects")


def _ceiling(pools: PoolScores, left_out: list[tuple[FloatArray, FloatArray]], n: int, unit: str) -> Ceiling:
    full = fit_saturation(pools.sizes, pools.scores[0])
    if full is None:
        return Ceiling("isc_extrapolated", None, None, n, "subjects", f"{_NOTE}; the curve does not level off")
    fits = [fit_saturation(*part) for part in left_out]
    found = [fit[0] for fit in fits if fit is not None]
    if len(found) < len(fits):
        return Ceiling("isc_extrapolated", full[0], None, n, "subjects", f"{_NOTE}; a fit of the jackknife fails")
    interval = jackknife_interval(full[0], np.array(found), f"jackknife over {unit}")
    return Ceiling("isc_extrapolated", full[0], interval, n, "subjects", _NOTE)
