# SPDX-License-Identifier: Apache-2.0
"""Scores of a stored cell, computed again from the sufficient statistics beside its record; no model, no brain."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Final

import numpy as np
from numpy.typing import NDArray

from voxelboard.benchmark.protocol import ScorePolicy
from voxelboard.benchmark.records import Arrays, Estimate, Record
from voxelboard.benchmark.statistics.scores import BlockStatistics, coarsen
from voxelboard.benchmark.tasks.cells import CALIBRATED, DIAGNOSTIC_TEXT, unique_fve_influence
from voxelboard.benchmark.tasks.scoring import roi_influence, summarise

FloatArray = NDArray[np.float64]
Influence = Mapping[int, FloatArray]  # ROI number -> (n_blocks,)

ROWS: Final = {"unique": "unique", "normalised": "raw", "floor": "floor", **{name: name for name in DIAGNOSTIC_TEXT}}
_TWINS: Final = {"twin_unique": "unique", "twin_normalised": "raw"}
_PREFIX = "stats__"
CONDITION = "condition_stats__"


def stored_statistics(arrays: Arrays, row: str) -> BlockStatistics:
    """The block table of a row, (n_blocks, n_rois) each of c, q and s; raises KeyError for a row that is not there."""
    table = np.asarray(arrays[f"{_PREFIX}{row}"], dtype=np.float64)
    segments = np.asarray(arrays["block_segment"])
    return BlockStatistics(table[..., 0], table[..., 1], table[..., 2], segments, int(arrays["block_trs"]))


def condition_table(stats: BlockStatistics, policy: ScorePolicy) -> NDArray[np.float32]:
    """(n_inference_blocks, n_rois, 2) c and q of a condition, for its record.

    A condition needs no fine blocks, and its signal power is that of the intact text: a sixth of a row's bytes.
    """
    coarse = coarsen(stats, policy.inference_block_trs)
    return np.stack([coarse.c, coarse.q], axis=-1).astype(np.float32)


def stored_condition(arrays: Arrays, condition: str, policy: ScorePolicy) -> BlockStatistics:
    """The statistics of a condition in inference blocks; c and q to float32. Raises KeyError for one that is not there."""
    table = np.asarray(arrays[f"{CONDITION}{condition}"], dtype=np.float64)
    intact = coarsen(stored_statistics(arrays, "unique"), policy.inference_block_trs)
    return replace(intact, c=table[..., 0], q=table[..., 1])


def recomputed_scores(record: Record, arrays: Arrays, policy: ScorePolicy) -> dict[str, dict[str | None, Estimate]]:
    """Every score that rests on block tables: name -> ROI, or None for the mean over ROIs -> estimate.

    The functions are those that scored the cell, so that the same machine gives the same bytes. What a table cannot tell is
    taken from the record: the words of the estimator, the unit, and p.
    """
    rois = tuple(str(roi) for roi in np.asarray(arrays["rois"]).tolist())
    found = {}
    for name, influence in _influences(record, arrays, policy).items():
        said = record.scores[name]
        overall, by_roi = summarise(influence, rois, said.estimator, said.unit, policy.confidence)
        stored: dict[str | None, Estimate | None] = {None: said}
        stored.update((roi, record.by_roi.get(roi, {}).get(name)) for roi in rois)
        estimates: dict[str | None, Estimate] = {None: overall}
        estimates.update(by_roi)
        found[name] = {roi: _with_p(estimate, stored[roi]) for roi, estimate in estimates.items()}
    return found


def _influences(record: Record, arrays: Arrays, policy: ScorePolicy) -> dict[str, Influence]:
    rows = {name.removeprefix(_PREFIX) for name in arrays if name.startswith(_PREFIX)}

    def of(row: str) -> Influence:
        return roi_influence(stored_statistics(arrays, row), policy)

    found = {name: of(row) for name, row in ROWS.items() if row in rows and name in record.scores}
    for name, row in _TWINS.items():
        twins = [of(twin) for twin in sorted(rows, key=_seed) if twin.startswith("twin") and twin.endswith(f"_{row}")]
        if twins and name in record.scores:
            found[name] = {roi: np.mean([twin[roi] for twin in twins], axis=0) for roi in of(row)}
    joint, floor = (f"{row}_calibrated" for row in CALIBRATED)
    if {joint, floor} <= rows and "unique_fve" in record.scores:
        found["unique_fve"] = unique_fve_influence(
            stored_statistics(arrays, joint), stored_statistics(arrays, floor), policy
        )
    return found


def _seed(row: str) -> tuple[int, str]:
    number = row.removeprefix("twin").partition("_")[0]
    return (int(number) if number.isdecimal() else -1, row)


def _with_p(estimate: Estimate, stored: Estimate | None) -> Estimate:
    return estimate if stored is None else replace(estimate, p=stored.p)


def only_segments(stats: BlockStatistics, segments: range) -> BlockStatistics:
    """The blocks of some test segments, the first of them number 0: of one fold."""
    kept = np.isin(stats.block_segment, list(segments))
    return replace(
        stats,
        c=stats.c[kept],
        q=stats.q[kept],
        s=stats.s[kept],
        block_segment=stats.block_segment[kept] - segments.start,
    )


def fold_scores(part: BlockStatistics, signal: FloatArray) -> tuple[FloatArray, FloatArray]:
    """The score of one fold and its standard error over blocks, each (n_rois,).

    ``c / sqrt(q s)`` with the signal power a block that all folds together have, for that of a few blocks may not be above
    zero. Predictions of one fold have no scale of their own, and this score has none either.

    Parameters
    ----------
    signal : (n_rois,) mean signal power of a block over all folds; above 0.
    """
    n_blocks = len(part.c)
    c, q = part.c.sum(axis=0), part.q.sum(axis=0)
    moving = q > 0
    norm = np.sqrt(np.where(moving, q, 1.0) * signal * n_blocks)
    score = np.where(moving, c / norm, 0.0)
    shares = np.where(moving, part.c / norm - score / 2 * part.q / np.where(moving, q, 1.0), 0.0)
    around = shares - shares.mean(axis=0)
    error = np.sqrt((around**2).sum(axis=0) * n_blocks / max(1, n_blocks - 1))
    return score, error
