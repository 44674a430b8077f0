# SPDX-License-Identifier: Apache-2.0
"""Block influence values: a score as a mean over blocks, so that its error is the error of a mean (statistics.md 2.4)."""

import numpy as np

from voxelboard.benchmark.errors import InvalidNumbers
from voxelboard.benchmark.statistics.scores import CONSTANT_PREDICTION, BlockStatistics, BoolArray, FloatArray


def unit_influence(stats: BlockStatistics) -> FloatArray:
    """First-order contributions of the blocks to the noise-corrected score of each unit.

    ``z_b = H + B (c_b / sqrt(QS) - H/2 (q_b / Q + s_b / S))``; their mean over blocks is exactly H. The last term
    carries the uncertainty of the ceiling into every interval.

    Returns
    -------
    (n_blocks, n_units); 0 for constant predictions.

    Raises
    ------
    InvalidNumbers
        when the signal power of a unit is not above zero.
    """
    c, q, s = stats.totals()
    _require_power(s)
    moving = q > CONSTANT_PREDICTION
    q = np.where(moving, q, 1.0)
    norm = np.sqrt(q * s)
    score = c / norm
    values: FloatArray = score + stats.n_blocks * (stats.c / norm - score / 2 * (stats.q / q + stats.s / s))
    return np.where(moving, values, 0.0)


def unit_explained_influence(stats: BlockStatistics) -> FloatArray:
    """As :func:`unit_influence`, for the explained fraction ``F = (2C - Q) / S`` of each unit."""
    c, q, s = stats.totals()
    _require_power(s)
    fraction = (2 * c - q) / s
    values: FloatArray = fraction + stats.n_blocks * ((2 * stats.c - stats.q) / s - fraction * stats.s / s)
    return values


def macro_influence(stats: BlockStatistics, scored: BoolArray) -> FloatArray:
    """(n_blocks,) influence values of the mean score over the scored ROIs.

    Raises
    ------
    InvalidNumbers
        when no ROI is scored, or a scored ROI has no signal power above zero.
    """
    return _mean_over_scored(stats, scored, explained=False)


def macro_explained_influence(stats: BlockStatistics, scored: BoolArray) -> FloatArray:
    """(n_blocks,) influence values of the mean explained fraction over the scored ROIs."""
    return _mean_over_scored(stats, scored, explained=True)


def _mean_over_scored(stats: BlockStatistics, scored: BoolArray, *, explained: bool) -> FloatArray:
    if not scored.any():
        raise InvalidNumbers("no ROI passes the gate: there is nothing to score")
    kept = BlockStatistics(
        stats.c[:, scored], stats.q[:, scored], stats.s[:, scored], stats.block_segment, stats.block_trs
    )
    values: FloatArray = (unit_explained_influence if explained else unit_influence)(kept).mean(axis=1)
    return values


def _require_power(s: FloatArray) -> None:
    if not (s > 0).all():
        raise InvalidNumbers(f"the ceiling of {int((s <= 0).sum())} of {len(s)} units is not above zero")
