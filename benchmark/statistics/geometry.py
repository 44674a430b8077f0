# SPDX-License-Identifier: Apache-2.0
"""Tests and unbiased distances for representational geometries, and ranks of a true match in a gallery.

The entries of a dissimilarity matrix (RDM) are not independent: every condition is in n - 1 of them, and a naive p value
of their correlation is wrong (false positives .085-.14, statistics.md A6). Conditions are permuted instead, rows and
columns together. Distances between noisy patterns are biased upwards by the noise, and where noise follows a property of
the conditions the bias looks like geometry (r .98 with that property, A7): distances across disjoint repeats are not.
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np
from numpy.typing import NDArray

from voxelboard.benchmark.errors import DataError, InvalidNumbers
from voxelboard.benchmark.statistics.nulls import TIE
from voxelboard.benchmark.statistics.scores import FloatArray

_MEMORY_BYTES = 64 * 2**20


@dataclass(frozen=True, eq=False)
class GeometryTest:
    """Correlations of one model RDM with brain RDMs, against permuted conditions.

    Attributes
    ----------
    observed : (n_rdms,) correlations of the upper triangles.
    null : (n_draws, n_rdms); one permutation holds for all RDMs (ROIs, subjects), so maxima and means are valid too.
    """

    observed: FloatArray
    null: FloatArray
    method: str

    @property
    def p(self) -> FloatArray:
        """(n_rdms,) one-sided ``(1 + exceedances) / (1 + draws)``: never 0."""
        reached = (self.null >= self.observed - TIE).sum(axis=0)
        p: FloatArray = (1 + reached) / (1 + len(self.null))
        return p

    @property
    def p_mean(self) -> float:
        """One-sided p of the mean correlation over all RDMs."""
        reached = int((self.null.mean(axis=1) >= self.observed.mean() - TIE).sum())
        return (1 + reached) / (1 + len(self.null))


def n_conditions_of(n_pairs: int) -> int:
    """Conditions of an RDM whose upper triangle has ``n_pairs`` entries; raises DataError when there is none such."""
    n = round((1 + math.sqrt(1 + 8 * n_pairs)) / 2)
    if n < 2 or n * (n - 1) // 2 != n_pairs:
        raise DataError(f"{n_pairs} dissimilarities are not the upper triangle of a matrix")
    return n


def crossvalidated_distances(patterns: NDArray[Any]) -> FloatArray:
    """(n_pairs,) squared distances across disjoint repeats, in the order of ``scipy.spatial.distance.pdist``.

    ``d_ij = mean over pairs of repeats (a, b) of (a_i - a_j) . (b_i - b_j) / n_voxels`` (Walther et al. 2016): unbiased, so
    that conditions that do not differ have a distance of 0 on average and single entries may be negative.

    Parameters
    ----------
    patterns : (n_repeats, n_conditions, n_voxels), two or more repeats with noise of their own.
    """
    if patterns.ndim != 3 or patterns.shape[0] < 2 or patterns.shape[1] < 2:
        raise DataError(
            f"patterns {patterns.shape}: expected (n_repeats, n_conditions, n_voxels) with two or more of both"
        )
    values = np.asarray(patterns, dtype=np.float64)
    if not np.isfinite(values).all():
        raise InvalidNumbers("patterns hold NaN or infinite values")
    n_repeats, n, n_voxels = values.shape
    values = values - values.mean(axis=1, keepdims=True)
    # sum over a != b of a_i . b_j = (sum a)_i . (sum b)_j - sum_a a_i . a_j
    total = values.sum(axis=0)
    products = total @ total.T - np.einsum("riv,rjv->ij", values, values, optimize=True)
    products /= n_repeats * (n_repeats - 1) * n_voxels
    power = np.diag(products)
    distances = power[:, None] + power[None, :] - products - products.T
    return np.asarray(distances[np.triu_indices(n, k=1)])


def condition_permutation_test(
    model: NDArray[Any],
    brains: NDArray[Any],
    *,
    n_draws: int = 1000,
    seed: int,
    progress: Callable[[int, int], None] | None = None,
) -> GeometryTest:
    """Does a model's geometry match that of brains? Conditions of the model RDM are permuted (Nili et al. 2014).

    Parameters
    ----------
    model : (n_pairs,) upper triangle, as of ``scipy.spatial.distance.pdist``; pass ranks for Spearman's correlation.
    brains : (n_rdms, n_pairs) of the same conditions in the same order (ROIs, subjects).

    Raises
    ------
    InvalidNumbers
        for values that are not finite and for a geometry that is constant.
    """
    brains = np.atleast_2d(np.asarray(brains, dtype=np.float64))
    model = np.asarray(model, dtype=np.float64)
    if model.ndim != 1 or brains.shape[1] != len(model):
        raise DataError(f"an RDM of {model.shape} and RDMs of {brains.shape}; expected (n_pairs,), (n_rdms, n_pairs)")
    n = n_conditions_of(len(model))
    if not (np.isfinite(model).all() and np.isfinite(brains).all()):
        raise InvalidNumbers("dissimilarities hold NaN or infinite values")
    targets = _unit(brains)
    rng = np.random.default_rng([seed, n, n_draws])
    square = np.zeros((n, n))
    square[np.triu_indices(n, k=1)] = _unit(model[None])[0]
    square += square.T
    null = np.empty((n_draws, len(brains)))
    for draws in _chunks(n_draws, len(model)):
        orders = rng.permuted(np.tile(np.arange(n), (len(draws), 1)), axis=1)
        rows, columns = np.triu_indices(n, k=1)
        null[draws] = square[orders[:, rows], orders[:, columns]] @ targets.T
        if progress is not None:
            progress(draws.stop, n_draws)
    observed = targets @ square[np.triu_indices(n, k=1)]
    return GeometryTest(observed, null, f"condition permutation, {n} conditions")


def _chunks(n_draws: int, n_pairs: int) -> Iterator[range]:
    size = max(1, _MEMORY_BYTES // (24 * n_pairs))
    return (range(start, min(start + size, n_draws)) for start in range(0, n_draws, size))


def _unit(rdms: FloatArray) -> FloatArray:
    """Rows centred and of unit norm."""
    centred = rdms - rdms.mean(axis=1, keepdims=True)
    norm = np.sqrt((centred**2).sum(axis=1, keepdims=True))
    if not (norm > 0).all():
        raise InvalidNumbers("a geometry is constant: all its dissimilarities are equal")
    unit: FloatArray = centred / norm
    return unit


def split_half_rdm_reliability(patterns: NDArray[Any], distance: Callable[[FloatArray], FloatArray]) -> float:
    """Mean correlation of one subject's RDMs from disjoint halves of the repeats, Spearman-Brown corrected.

    Parameters
    ----------
    patterns : (n_repeats, n_conditions, n_voxels).
    distance : (n_conditions, n_voxels) -> (n_pairs,), for example ``lambda x: pdist(x, "correlation")``.

    Returns
    -------
    The reliability of the RDM of all repeats; its square root is the greatest correlation that a noise-free geometry has.
    Never clipped. With an odd number of repeats the halves are of unequal size, which the correction ignores.
    """
    n_repeats = len(patterns)
    if n_repeats < 2:
        raise DataError(f"a reliability needs two or more repeats, got {n_repeats}")
    found = []
    for half in combinations(range(n_repeats), n_repeats // 2):
        rest = [i for i in range(n_repeats) if i not in half]
        a, b = (_unit(distance(patterns[list(part)].mean(axis=0))[None])[0] for part in (half, rest))
        found.append(float(a @ b))
    r = float(np.mean(found))
    return 2 * r / (1 + r)


def match_ranks(similarity: NDArray[Any], truth: NDArray[np.integer] | None = None) -> FloatArray:
    """(n_queries,) rank of each query's true gallery entry, 0 is best; ties count half.

    With optimistic ties a constant output is always first (top-1 of 1.00); mid-ranks give it .50 (statistics.md A8).

    Parameters
    ----------
    similarity : (n_queries, n_gallery), greater is more alike.
    truth : (n_queries,) gallery index of the true entry; default the query's own number.
    """
    values = np.asarray(similarity, dtype=np.float64)
    if values.ndim != 2 or not np.isfinite(values).all():
        raise InvalidNumbers("similarities must be a finite (n_queries, n_gallery) table")
    index = np.arange(len(values)) if truth is None else np.asarray(truth)
    own = values[np.arange(len(values)), index][:, None]
    ranks: FloatArray = (values > own).sum(axis=1) + ((values == own).sum(axis=1) - 1) / 2
    return ranks


def normalised_ranks(similarity: NDArray[Any], truth: NDArray[np.integer] | None = None) -> FloatArray:
    """(n_queries,) ``1 - rank / (n_gallery - 1)``: 1 is the best match, .5 on average for no information.

    Other than top-k it does not depend on the size of the gallery.
    """
    n_gallery = np.shape(similarity)[1]
    if n_gallery < 2:
        raise DataError("a gallery needs two or more entries")
    normalised: FloatArray = 1 - match_ranks(similarity, truth) / (n_gallery - 1)
    return normalised


def top_k(similarity: NDArray[Any], k: int, truth: NDArray[np.integer] | None = None) -> FloatArray:
    """(n_queries,) probability that the true entry is among the first ``k`` when ties are broken at random."""
    values = np.asarray(similarity, dtype=np.float64)
    index = np.arange(len(values)) if truth is None else np.asarray(truth)
    own = values[np.arange(len(values)), index][:, None]
    better, equal = (values > own).sum(axis=1), (values == own).sum(axis=1)
    share: FloatArray = np.clip((k - better) / equal, 0.0, 1.0)
    return share
