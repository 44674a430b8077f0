# SPDX-License-Identifier: Apache-2.0
"""One record with what a board needs of its statistics: sums by block, influence values and a voxel histogram."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from voxelboard.benchmark.errors import DataError, InvalidNumbers
from voxelboard.benchmark.protocol import ScorePolicy
from voxelboard.benchmark.records import Record, read_statistics
from voxelboard.benchmark.statistics.gates import signal_gate
from voxelboard.benchmark.statistics.influence import unit_explained_influence, unit_influence
from voxelboard.benchmark.statistics.scores import (
    CONSTANT_PREDICTION,
    BlockStatistics,
    BoolArray,
    FloatArray,
    coarsen,
    noise_corrected,
)
from voxelboard.leaderboard.board import RoiSums
from voxelboard.leaderboard.voxels import Density, SurfaceMap, density, surface_maps

# 0.02 wide: 40 bins over the r that voxels reach
HISTOGRAM_EDGES = tuple(round(-1 + 0.02 * index, 2) for index in range(101))
_ROWS_BY_ROI = ("unique", "raw", "floor")
_VOXEL_ROWS = ("raw", "floor", "unique")
# The headline of the record and its recomputation come from the same float64 sums.
_TOLERANCE = 1e-9


@dataclass(frozen=True, eq=False)
class StoredCell:
    """A record with the statistics beside it, before any gate.

    Attributes
    ----------
    names : all ROIs of the statistics, in order.
    tables : row -> sums of inference blocks, ROIs as units.
    n_voxels : (n_rois,) voxels of each ROI.
    voxels : row -> (n_bins,) voxels by correlation.
    ceilings : sum and number of the voxel ceilings that are above 0.
    against_ceiling : voxels by ceiling and r beyond confounds; None without ceilings.
    against_baseline : voxels by the best baseline's r and the model's, both beyond confounds.
    maps : by name, on a shared surface; empty without one.
    null : (n_draws, n_rois) numerators of the headline under permuted blocks, or None. The draws are the same for all cells
        of a data set.
    """

    path: Path
    record: Record
    policy: ScorePolicy
    names: tuple[str, ...]
    tables: Mapping[str, BlockStatistics]
    n_voxels: FloatArray
    voxels: Mapping[str, NDArray[np.int64]]
    ceilings: tuple[float, int]
    against_ceiling: Density | None
    against_baseline: Density | None
    maps: Mapping[str, SurfaceMap]
    null: FloatArray | None = None

    @property
    def headline(self) -> BlockStatistics:
        """The sums of the headline row; their signal power is that of all rows."""
        return self.tables["unique"]


@dataclass(frozen=True, eq=False)
class Cell:
    """A scored cell, judged by the gate of its column.

    Attributes
    ----------
    rois : ROIs that enter this subject's score, in order.
    block_segment : (n_blocks,) test segment of each inference block.
    influence : row -> (n_blocks, n_rois) influence values of that row's score; the mean over both axes is the score.
    sums : totals of the headline row, of all ROIs.
    voxels, ceilings, against_ceiling, against_baseline, maps : as in :class:`StoredCell`.
    null : (n_draws,) headline under permuted blocks, or None.
    """

    path: Path
    record: Record
    policy: ScorePolicy
    rois: tuple[str, ...]
    block_segment: NDArray[np.int64]
    influence: Mapping[str, FloatArray]
    sums: tuple[RoiSums, ...]
    voxels: Mapping[str, NDArray[np.int64]]
    ceilings: tuple[float, int]
    against_ceiling: Density | None
    against_baseline: Density | None
    maps: Mapping[str, SurfaceMap]
    null: FloatArray | None = None

    def macro(self, row: str) -> FloatArray:
        """(n_blocks,) influence values of the mean over ROIs."""
        values: FloatArray = self.influence[row].mean(axis=1)
        return values

    def twin(self) -> FloatArray | None:
        """(n_blocks,) influence values of the mean over the untrained twins, or None."""
        twins = [
            self.macro(row) for row in sorted(self.influence) if row.startswith("twin") and row.endswith("_unique")
        ]
        return np.mean(twins, axis=0) if twins else None


def score_policy(record: Record, path: Path) -> ScorePolicy:
    """The score's constants as stamped on the record; raises DataError when they are not those of a protocol."""
    stamped = record.protocol.constants.get("score")
    names = {field.name for field in fields(ScorePolicy)}
    if not isinstance(stamped, dict) or set(stamped) != names:
        raise DataError(
            f"{path}: protocol.constants.score does not hold {', '.join(sorted(names))}",
            "the record was written by another version: run its cell with --fresh",
        )
    values: dict[str, Any] = {
        name: tuple(value) if isinstance(value, list) else value for name, value in stamped.items()
    }
    return ScorePolicy(**values)


def baseline_voxels(path: Path, record: Record) -> NDArray[Any] | None:
    """(n_voxels,) r beyond confounds of a baseline's cell, or None where it holds none."""
    return read_statistics(path, record).get("voxel_r__unique")


def read_cell(path: Path, record: Record, baseline: NDArray[Any] | None = None) -> StoredCell:
    """Read the statistics beside a record that has status success and a headline.

    Parameters
    ----------
    baseline : r of the same voxels under the best baseline, to count the model's against.

    Raises
    ------
    DataError
        when they are not whole, or do not give the record's headline.
    """
    arrays = read_statistics(path, record)
    policy = score_policy(record, path)
    tables = _tables(path, arrays, policy)
    if "unique" not in tables:
        raise DataError(f"{path.with_suffix('.npz')} lacks stats__unique", "run its cell with --fresh")
    ceilings = arrays.get("voxel_ceiling", np.zeros(0))
    above = ceilings[np.isfinite(ceilings) & (ceilings > 0)].astype(np.float64)
    names = tuple(str(roi) for roi in arrays["rois"])
    cell = StoredCell(
        path=path,
        record=record,
        policy=policy,
        names=names,
        tables={row: coarsen(stats, policy.inference_block_trs) for row, stats in tables.items()},
        n_voxels=_count_voxels(path, arrays, names),
        voxels={
            row: np.histogram(np.clip(arrays[f"voxel_r__{row}"], -1, 1), bins=np.array(HISTOGRAM_EDGES))[0]
            for row in _VOXEL_ROWS
            if f"voxel_r__{row}" in arrays
        },
        ceilings=(float(above.sum()), len(above)),
        against_ceiling=_against(arrays.get("voxel_ceiling"), arrays),
        against_baseline=_against(baseline, arrays),
        maps=surface_maps(path, arrays, record.model.n_layers),
        null=_null(path, arrays, len(names)),
    )
    _check_headline(cell)
    return cell


def _check_headline(cell: StoredCell) -> None:
    """Raise DataError when the headline in the record is not the one of the statistics beside it.

    A record is written for one subject, so it is checked by that subject's own gate, not by the column's.
    """
    own = signal_gate(cell.headline, cell.policy.gate_standard_errors)
    found = [noise_corrected(float(c), float(q), float(s)) for c, q, s in zip(*cell.headline.totals(), strict=True)]
    scores = [score for score, enters in zip(found, own, strict=True) if enters and score is not None]
    mean = float(np.mean(scores)) if scores else None
    stored = cell.record.scores["unique"].estimate
    same = stored is None and mean is None
    if stored is not None and mean is not None:
        same = abs(stored - mean) <= _TOLERANCE
    if not same:
        raise DataError(
            f"{cell.path}: the record says unique {stored}, its statistics give {mean}",
            "the record was edited or damaged: run its cell with --fresh",
        )


def score_cell(cell: StoredCell, scored: BoolArray, pooled: BoolArray, power: FloatArray) -> Cell:
    """Score a cell by a gate.

    Parameters
    ----------
    scored : (n_rois,) which ROIs enter; one at least.
    pooled : (n_rois,) which of them are scored against ``power`` instead of their own signal power.
    power : (n_blocks, n_rois) signal power pooled over subjects.
    """
    tables = {row: replace(table, s=np.where(pooled, power, table.s)) for row, table in cell.tables.items()}
    return Cell(
        path=cell.path,
        record=cell.record,
        policy=cell.policy,
        rois=tuple(name for name, enters in zip(cell.names, scored, strict=True) if enters),
        block_segment=cell.headline.block_segment,
        influence=_influence(cell.path, tables, scored),
        sums=_sums(cell.names, tables["unique"], scored, pooled),
        voxels=cell.voxels,
        ceilings=cell.ceilings,
        against_ceiling=cell.against_ceiling,
        against_baseline=cell.against_baseline,
        maps=cell.maps,
        null=_null_scores(cell.null, tables["unique"], scored),
    )


def _against(x: NDArray[Any] | None, arrays: Mapping[str, NDArray[Any]]) -> Density | None:
    y = arrays.get("voxel_r__unique")
    return density(x, y) if x is not None and y is not None and x.shape == y.shape else None


def _null(path: Path, arrays: Mapping[str, NDArray[Any]], n_rois: int) -> FloatArray | None:
    if "null__unique" not in arrays:
        return None
    null = np.asarray(arrays["null__unique"], dtype=np.float64)
    if null.ndim != 2 or null.shape[1] != n_rois:
        raise DataError(f"{path.with_suffix('.npz')}: null__unique has shape {null.shape}", "run its cell with --fresh")
    return null


def _null_scores(null: FloatArray | None, stats: BlockStatistics, scored: BoolArray) -> FloatArray | None:
    """(n_draws,) mean over the scored ROIs of the permuted numerators over the same denominators."""
    if null is None:
        return None
    _, q, s = stats.totals()
    moving = scored & (q > CONSTANT_PREDICTION)
    scores: FloatArray = (null[:, moving] / np.sqrt(q[moving] * s[moving])).sum(axis=1) / scored.sum()
    return scores


def _influence(path: Path, tables: Mapping[str, BlockStatistics], rois: BoolArray) -> dict[str, FloatArray]:
    kept = {row: replace(t, c=t.c[:, rois], q=t.q[:, rois], s=t.s[:, rois]) for row, t in tables.items()}
    try:
        found = {row: unit_influence(t) for row, t in kept.items() if row in _ROWS_BY_ROI or row.endswith("_unique")}
        if {"joint_calibrated", "floor_calibrated"} <= set(kept):  # Delta-FVE: what the model adds to the confounds
            joint, floor = (unit_explained_influence(kept[f"{row}_calibrated"]) for row in ("joint", "floor"))
            found["fve"] = joint - floor
        return found
    except InvalidNumbers as error:
        raise DataError(f"{path.with_suffix('.npz')}: {error}", "run its cell with --fresh") from error


def _count_voxels(path: Path, arrays: Mapping[str, NDArray[Any]], names: Sequence[str]) -> FloatArray:
    """(n_rois,) voxels of each ROI, at least one."""
    labels = arrays.get("voxel_roi", np.zeros(0, dtype=str))
    counted = np.array([float((labels == name).sum()) for name in names])
    if not (counted > 0).all():
        raise DataError(
            f"{path.with_suffix('.npz')}: voxel_roi does not hold a voxel of each ROI", "run its cell with --fresh"
        )
    return counted


def _tables(path: Path, arrays: Mapping[str, NDArray[Any]], policy: ScorePolicy) -> dict[str, BlockStatistics]:
    try:
        n_rois, segments = len(arrays["rois"]), np.asarray(arrays["block_segment"], dtype=np.int64)
        tables = {}
        for name in sorted(arrays):
            if name.startswith("stats__"):
                c, q, s = np.moveaxis(np.asarray(arrays[name], dtype=np.float64), -1, 0)
                if c.shape != (len(segments), n_rois):
                    raise ValueError(
                        f"{name} has shape {c.shape}, expected {(len(segments), n_rois)} (n_blocks, n_rois)"
                    )
                tables[name.removeprefix("stats__")] = BlockStatistics(c, q, s, segments, policy.stored_block_trs)
    except (KeyError, ValueError, InvalidNumbers) as error:
        raise DataError(f"{path.with_suffix('.npz')}: {error}", "run its cell with --fresh") from error
    return tables


def _sums(rois: Sequence[str], stats: BlockStatistics, scored: BoolArray, pooled: BoolArray) -> tuple[RoiSums, ...]:
    return tuple(
        RoiSums(
            roi,
            float(c),
            float(q),
            float(s),
            noise_corrected(float(c), float(q), float(s)) if enters else None,
            bool(shared),
        )
        for roi, c, q, s, enters, shared in zip(rois, *stats.totals(), scored, pooled, strict=True)
    )
