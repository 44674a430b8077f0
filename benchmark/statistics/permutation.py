# SPDX-License-Identifier: Apache-2.0
"""Tests of predictions against responses that keep the autocorrelation of both.

Predictions of the held-out series are tested, nothing is refitted. Three surrogates: permuted blocks (default), circular
shifts, random phases. The same draw holds for all voxels (and subjects), so that the joint null of a model and the
maximum over voxels are valid; independent draws per subject give false-positive rates of .25 (statistics.md A3).

Nulls are matrix products and only counts, moments and maxima are kept. With ``C[j, k, v]`` the product of prediction
block j and response block k, a permuted correlation is ``sum_j C[j, order[j], v]``: one row per block instead of two
multiply-adds per TR.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from voxelboard.benchmark.errors import InvalidNumbers, UserError
from voxelboard.benchmark.statistics.nulls import (
    TIE,
    IntArray,
    NullTest,
    Progress,
    check_series,
    correlation_source,
    stream_nulls,
)
from voxelboard.benchmark.statistics.scores import CONSTANT_PREDICTION, FloatArray

# 25 TRs of 2 s: measured FPR .048-.058 for context-like features with drift, 10 TRs reach .074 (A1)
BLOCK_TRS = 25
# Fewer blocks have too few orders to speak of a distribution (3! = 6).
_MIN_BLOCKS = 4
# Block products of one chunk of voxels: about the size of a second-level cache, larger chunks are slower.
_CACHE_BYTES = 2**20


@dataclass(frozen=True, eq=False)
class BlockDraws:
    """Random orders of contiguous blocks after random rotations of the series.

    Rotated by ``rotation``, the responses are cut into whole blocks; TRs left over stay behind the last block, where
    another set of TRs lies for every rotation. Draws that share a rotation share their block products.

    Attributes
    ----------
    rotations : (n_rotations,) TRs.
    orders : for each rotation (n_orders, n_blocks), rows are permutations of the blocks.
    """

    n_trs: int
    block_trs: int
    rotations: IntArray
    orders: tuple[IntArray, ...]

    @property
    def n_draws(self) -> int:
        return sum(len(order) for order in self.orders)

    @property
    def n_blocks(self) -> int:
        return self.n_trs // self.block_trs

    def rotated(self, k: int) -> IntArray:
        """(n_trs,) rows of the responses after rotation number ``k``, before blocks are reordered."""
        rows: IntArray = (np.arange(self.n_trs) + self.rotations[k]) % self.n_trs
        return rows

    @cached_property
    def one_hots(self) -> list[Any]:
        """For each rotation the sparse matrix (n_orders, n_blocks ** 2) that picks the block products of its orders."""
        return [_one_hot(orders) for orders in self.orders]

    def indices(self) -> Iterator[IntArray]:
        """For each draw (n_trs,): the response TR that is compared with each prediction TR. Every TR exactly once."""
        whole = self.n_blocks * self.block_trs
        for k, orders in enumerate(self.orders):
            rows = self.rotated(k)
            blocks = rows[:whole].reshape(self.n_blocks, self.block_trs)
            for order in orders:
                yield np.concatenate([blocks[order].ravel(), rows[whole:]])


def draw_block_permutations(
    n_trs: int, n_draws: int, *, seed: int, block_trs: int = BLOCK_TRS, n_rotations: int = 10
) -> BlockDraws:
    """Draws for :func:`block_permutation_test`, the same for the same arguments.

    Raises
    ------
    UserError
        when the series is shorter than four blocks.
    """
    n_blocks = n_trs // block_trs
    if n_blocks < _MIN_BLOCKS:
        raise UserError(
            f"{n_trs} TRs hold {n_blocks} blocks of {block_trs} TRs; {_MIN_BLOCKS} or more are needed",
            f"use a block length of at most {n_trs // _MIN_BLOCKS} TRs, or the circular-shift test",
        )
    rng = np.random.default_rng([seed, n_trs, block_trs])
    n_rotations = min(n_rotations, n_draws, block_trs)
    # Cuts are spread evenly within the block length. One cut leaves the null's variance to chance (FPR .078 at a
    # nominal .05, measured as in A1); 10 spread ones do as well as a new cut for every draw (.058 and .055-.058).
    phases = (rng.integers(block_trs) + np.arange(n_rotations) * block_trs // n_rotations) % block_trs
    rotations = phases + block_trs * rng.integers(n_blocks, size=n_rotations)
    sizes = [len(part) for part in np.array_split(np.arange(n_draws), n_rotations)]
    identity = np.arange(n_blocks)
    orders = tuple(rng.permuted(np.tile(identity, (size, 1)), axis=1) for size in sizes)
    return BlockDraws(n_trs, block_trs, rotations, orders)


def block_permutation_test(
    predictions: NDArray[Any],
    responses: NDArray[Any],
    *,
    tr: float,
    n_draws: int = 1000,
    seed: int,
    block_trs: int = BLOCK_TRS,
    segments: IntArray | None = None,
    progress: Progress | None = None,
) -> NullTest:
    """Correlation of each voxel against permuted blocks of its response.

    Parameters
    ----------
    predictions, responses : (n_trs, n_voxels), the test segments behind each other, filtered.
    tr : seconds.
    segments : (n_trs,) segment of each TR, for the check that each was high-pass filtered.

    Raises
    ------
    InvalidNumbers
        for series that are not finite or were not high-pass filtered.
    UserError
        for series shorter than four blocks.
    """
    check_series(predictions, responses, tr, segments)
    draws = draw_block_permutations(len(predictions), n_draws, seed=seed, block_trs=block_trs)

    def nulls(p: FloatArray, y: FloatArray) -> Iterator[NDArray[Any]]:
        return _block_nulls(p, y, draws)

    chunk = int(np.clip(_CACHE_BYTES // (4 * draws.n_blocks**2), 16, 4096))
    method = f"block permutation, {block_trs} TRs, {len(draws.rotations)} rotations"
    source = correlation_source(predictions, responses, nulls)
    return stream_nulls(source, predictions.shape[1], n_draws, chunk=chunk, method=method, progress=progress)


def _block_nulls(p: FloatArray, y: FloatArray, draws: BlockDraws) -> Iterator[NDArray[Any]]:
    """For each rotation (n_orders, n_voxels) permuted correlations; ``p``, ``y`` (n_trs, n_voxels) of unit norm."""
    shape = (p.shape[1], draws.n_blocks, draws.block_trs)
    whole = draws.n_blocks * draws.block_trs
    left = np.ascontiguousarray(p[:whole].T, dtype=np.float32).reshape(shape)
    turned = np.ascontiguousarray(y.T, dtype=np.float32)
    for rotation, chosen in zip(draws.rotations.tolist(), draws.one_hots, strict=True):
        rotated = np.concatenate([turned[:, rotation:], turned[:, :rotation]], axis=1)
        right = rotated[:, :whole].reshape(shape)
        products = (left @ right.transpose(0, 2, 1)).reshape(len(left), -1)  # (n_voxels, n_blocks ** 2)
        rest = np.einsum("tv,vt->v", p[whole:], rotated[:, whole:])
        # adding rows through a sparse one-hot matrix beats the dense product from 12 blocks on (measured: 2-10 times)
        null: NDArray[Any] = chosen @ np.ascontiguousarray(products.T)
        yield null + rest.astype(np.float32)


def _one_hot(orders: IntArray) -> Any:
    """(n_orders, n_blocks ** 2) sparse matrix that picks ``products[j, order[j]]`` for each block j."""
    n_orders, n_blocks = orders.shape
    columns = (np.arange(n_blocks) * n_blocks + orders).ravel()
    starts = np.arange(n_orders + 1) * n_blocks
    return sparse.csr_array(
        (np.ones(columns.size, dtype=np.float32), columns, starts), shape=(n_orders, n_blocks * n_blocks)
    )


@dataclass(frozen=True, eq=False)
class JointUnit:
    """One subject and ROI of a model-level test.

    Attributes
    ----------
    predictions, responses : (n_trs, n_voxels); the same TRs of the same stimulus in every unit.
    signal_power : summed signal power S of the unit, above zero.
    weight : relative weight in the mean, 1 / (scored ROIs of the subject) for the macro score.
    """

    predictions: NDArray[Any]
    responses: NDArray[Any]
    signal_power: float
    weight: float = 1.0


@dataclass(frozen=True, eq=False)
class JointTest:
    """A model-level test: the mean score of all units and its null distribution, (n_draws,)."""

    observed: float
    null: FloatArray
    p: float
    method: str


def permuted_products(
    predictions: NDArray[Any], responses: NDArray[Any], draws: BlockDraws
) -> tuple[float, FloatArray]:
    """Sum over TRs and voxels of prediction times response, observed and (n_draws,) under permuted blocks.

    The numerator C of a score; its denominators do not change under permutation. Series (n_trs, n_voxels) are centred.
    Draws with the same seed and length are the same for every unit, so that numerators of units of one stimulus add up to
    a joint null (statistics.md A3).
    """
    whole, n = draws.n_blocks * draws.block_trs, draws.n_blocks
    p = np.asarray(predictions, dtype=np.float64)
    y = np.asarray(responses, dtype=np.float64)
    p, y = p - p.mean(axis=0), y - y.mean(axis=0)
    null = np.empty(draws.n_draws)
    done = 0
    for k, orders in enumerate(draws.orders):
        rotated = y[draws.rotated(k)]
        products = p[:whole].reshape(n, -1) @ rotated[:whole].reshape(n, -1).T
        fixed = float((p[whole:] * rotated[whole:]).sum())
        null[done : done + len(orders)] = products[np.arange(n), orders].sum(axis=1) + fixed
        done += len(orders)
    return float((p * y).sum()), null


def exceedance_p(observed: float, null: FloatArray) -> float:
    """One-sided ``(1 + exceedances) / (1 + draws)``: never 0."""
    return (1 + int((null >= observed - TIE).sum())) / (1 + len(null))


def joint_permutation_test(
    units: Sequence[JointUnit],
    *,
    tr: float,
    n_draws: int = 1000,
    seed: int,
    block_trs: int = BLOCK_TRS,
    segments: IntArray | None = None,
) -> JointTest:
    """Does a model predict anything? One permutation for all voxels and subjects of a shared stimulus (A3).

    The statistic is the weighted mean over units of ``sum p y / sqrt(Q S)``; Q and S do not change under permutation.

    Raises
    ------
    InvalidNumbers
        for series that are not finite or not filtered, or a unit without signal power.
    """
    if not units or len({len(unit.predictions) for unit in units}) != 1:
        raise ValueError("units must be there and cover the same TRs")
    draws = draw_block_permutations(len(units[0].predictions), n_draws, seed=seed, block_trs=block_trs)
    total_weight = sum(unit.weight for unit in units)
    observed = 0.0
    null = np.zeros(n_draws)
    for unit in units:
        check_series(unit.predictions, unit.responses, tr, segments)
        power = float((np.asarray(unit.predictions - unit.predictions.mean(axis=0), dtype=np.float64) ** 2).sum())
        scale = _unit_scale(power, unit.signal_power) * unit.weight / total_weight
        own, permuted = permuted_products(unit.predictions, unit.responses, draws)
        observed += scale * own
        null += scale * permuted
    return JointTest(observed, null, exceedance_p(observed, null), f"joint block permutation, {block_trs} TRs")


def _unit_scale(power: float, signal_power: float) -> float:
    if signal_power <= 0:
        raise InvalidNumbers("a unit's signal power is not above zero: it must not have passed the gate")
    return 0.0 if power <= CONSTANT_PREDICTION else 1 / np.sqrt(power * signal_power)
