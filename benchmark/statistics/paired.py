# SPDX-License-Identifier: Apache-2.0
"""Do two models differ, voxel by voxel: signs of block differences flipped, false discoveries controlled.

Swapping single TRs between two models finds differences in .14 to .17 of all voxels where there are none (statistics.md P4).
Blocks of 15 TRs alone still find .07 to .10 (two equally good models with smooth errors, lag-1 autocorrelation .79 to .94, 300
to 900 TRs): neighbouring blocks are correlated. The null is widened by that correlation, pooled over all voxels because that of
one voxel is mostly noise: .055 to .064.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from voxelboard.benchmark.errors import InvalidNumbers, UserError
from voxelboard.benchmark.statistics.fdr import benjamini_hochberg, required_draws
from voxelboard.benchmark.statistics.nulls import IntArray, Progress
from voxelboard.benchmark.statistics.scores import BoolArray, FloatArray
from voxelboard.benchmark.statistics.surrogates import sign_flip_test

# 2^7 sign patterns, of which a pattern and its opposite count as one: the smallest two-sided p is .016 from seven blocks.
MIN_BLOCKS: Final = 7


@dataclass(frozen=True, eq=False)
class PairedVoxels:
    """Two models in the voxels of one subject, first minus second.

    Attributes
    ----------
    difference : (n_voxels,) mean over blocks.
    p : (n_voxels,) two-sided, never 0.
    q : (n_voxels,) smallest false discovery rate at which the voxel is found.
    method : in words.
    """

    difference: FloatArray
    p: FloatArray
    q: FloatArray
    method: str

    def better(self, rate: float) -> BoolArray:
        """(n_voxels,) where the first model is better at a false discovery rate."""
        found: BoolArray = (self.q <= rate) & (self.difference > 0)
        return found

    def worse(self, rate: float) -> BoolArray:
        """(n_voxels,) where the second model is better at a false discovery rate."""
        found: BoolArray = (self.q <= rate) & (self.difference < 0)
        return found


def paired_voxel_test(
    differences: NDArray[np.floating],
    *,
    seed: int,
    segments: IntArray | None = None,
    rate: float = 0.05,
    expected_share: float = 0.05,
    n_draws: int | None = None,
    progress: Progress | None = None,
) -> PairedVoxels:
    """Test every voxel in both directions and correct over all of them (Benjamini & Hochberg 1995).

    Parameters
    ----------
    differences : (n_blocks, n_voxels) influence values of the first model minus those of the second.
    segments : (n_blocks,) test segment of each block; blocks of different segments are no neighbours. Default one segment.
    expected_share : of voxels that differ and should be found at ``rate``; sets the draws that counting takes.
    n_draws : default as many as that takes (8,000 by the other defaults).

    Raises
    ------
    InvalidNumbers
        for values that are not finite.
    UserError
        for fewer than seven blocks.
    """
    n_blocks, n_voxels = differences.shape
    if n_blocks < MIN_BLOCKS:
        raise UserError(
            f"{n_blocks} blocks of test data cannot tell two models apart voxel by voxel; {MIN_BLOCKS} or more are needed",
            "compare them by region",
        )
    if not np.isfinite(differences).all():
        raise InvalidNumbers("differences hold NaN or infinite values")
    values = np.asarray(differences, dtype=np.float64)
    if n_draws is None:
        n_expected = max(1, round(expected_share * n_voxels))
        n_draws = 2 * required_draws(n_voxels, rate, n_expected)  # two sides
    inflation = neighbour_inflation(values, np.zeros(n_blocks, dtype=np.int64) if segments is None else segments)
    one = sign_flip_test(values, n_draws=n_draws, seed=seed, inflation=inflation, progress=progress)
    other = sign_flip_test(-values, n_draws=n_draws, seed=seed, inflation=inflation)
    p = np.minimum(1.0, 2 * np.minimum(one.p, other.p))
    _, q = benjamini_hochberg(p, rate)
    method = f"{one.method}, variance x {inflation:.2f} for correlated neighbours, {n_draws} draws, two-sided"
    return PairedVoxels(values.mean(axis=0), p, q, method)


def neighbour_inflation(values: FloatArray, segments: IntArray) -> float:
    """How much the variance of a mean over blocks exceeds that of independent blocks: ``1 + 2 r``, at least 1.

    ``r`` is the correlation of neighbouring blocks of a segment, pooled over voxels, its bias of ``-1 / n_blocks`` (the mean is
    taken out) added back; ``values`` (n_blocks, n_voxels).
    """
    n_blocks = len(values)
    centred = values - values.mean(axis=0)
    power = float((centred**2).sum())
    neighbours = np.flatnonzero(segments[1:] == segments[:-1])
    if power == 0 or len(neighbours) == 0:
        return 1.0
    together = float((centred[neighbours] * centred[neighbours + 1]).sum()) / len(neighbours)
    r = together / (power / n_blocks) + 1 / n_blocks
    return max(1.0, 1 + 2 * r * len(neighbours) / n_blocks)
