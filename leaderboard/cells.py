# SPDX-License-Identifier: Apache-2.0
"""One record with what a board needs of its statistics: sums by block, influence values and a voxel histogram."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from functools import cached_property
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
from voxelboard.leaderboard.voxels import LEVEL_PREFIX, Density, SurfaceMap, density, surface_maps

# 0.02 wide: 40 bins over the r that voxels reach
HISTOGRAM_EDGES = tuple(round(-1 + 0.02 * index, 2) for index in range(101))
_EDGES = np.array(HISTOGRAM_EDGES)
_ROWS_BY_ROI = ("unique", "raw", "floor")
_CALIBRATED = ("joint_calibrated", "floor_calibrated")
_VOXEL_ROWS = ("raw", "floor", "unique")
_STATS, _VOXEL_R, _CONDITION = "stats__", "voxel_r__", "condition_stats__"
CONDITION_ROW = "condition:"  # how the row of a condition is named, before its name
_ARRAYS = (
    "rois",
    "block_segment",
    "voxel_roi",
    "voxel_ceiling",
    "voxel_vertex",
    "surface",
    "voxel_layer",
    "null__unique",
)
# The headline of the record and its recomputation come from the same float64 sums.
_TOLERANCE = 1e-9


@dataclass(frozen=True, eq=False)
class StoredCell:
    """A record with the statistics beside it, before any gate.

    Attributes
    ----------
    names : all ROIs of the statistics, in order.
    rows : predictions whose sums there are, in order; ``unique`` is one of them.
    joined : sums of inference blocks, units are rows times ROIs: all rows in one pass.
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
    rows: tuple[str, ...]
    joined: BlockStatistics
    n_voxels: FloatArray
    voxels: Mapping[str, NDArray[np.int64]]
    ceilings: tuple[float, int]
    against_ceiling: Density | None
    against_baseline: Density | None
    maps: Mapping[str, SurfaceMap]
    null: FloatArray | None = None

    @cached_property
    def headline(self) -> BlockStatistics:
        """The sums of the headline row, ROIs as units; their signal power is that of all rows."""
        return self.table("unique")

    def table(self, row: str) -> BlockStatistics:
        """The sums of one row, ROIs as units."""
        place, n_rois, stats = self.rows.index(row), len(self.names), self.joined
        units = slice(place * n_rois, (place + 1) * n_rois)
        return replace(stats, c=stats.c[:, units], q=stats.q[:, units], s=stats.s[:, units])


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
        if row not in self._means:
            self._means[row] = self.influence[row].mean(axis=1)
        return self._means[row]

    @cached_property
    def _means(self) -> dict[str, FloatArray]:
        """What :meth:`macro` has found: several figures of a row rest on the same means."""
        return {}

    @cached_property
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
    return read_statistics(path, record, lambda name: name == "voxel_r__unique").get("voxel_r__unique")


def _is_shown(name: str) -> bool:
    """Whether the board needs an array: folds, weights and the like stay packed."""
    if name.startswith(_STATS):
        return _is_scored(name.removeprefix(_STATS))
    return name in _ARRAYS or name.startswith((_VOXEL_R, _CONDITION, LEVEL_PREFIX))


def _is_scored(row: str) -> bool:
    """Whether a row of the statistics becomes a score of the board."""
    return row in _ROWS_BY_ROI or row in _CALIBRATED or row.endswith("_unique")


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
    arrays = read_statistics(path, record, _is_shown)
    policy = score_policy(record, path)
    rows, joined = _joined(path, arrays, policy)
    if "unique" not in rows:
        raise DataError(f"{path.with_suffix('.npz')} lacks stats__unique", "run its cell with --fresh")
    ceilings = arrays.get("voxel_ceiling", np.zeros(0))
    above = ceilings[np.isfinite(ceilings) & (ceilings > 0)].astype(np.float64)
    names = tuple(arrays["rois"].tolist())
    cell = StoredCell(
        path=path,
        record=record,
        policy=policy,
        names=names,
        rows=rows,
        joined=joined,
        n_voxels=_count_voxels(path, arrays, names),
        voxels={row: voxel_counts(arrays[f"{_VOXEL_R}{row}"]) for row in _VOXEL_ROWS if f"{_VOXEL_R}{row}" in arrays},
        ceilings=(float(above.sum()), len(above)),
        against_ceiling=_against(arrays.get("voxel_ceiling"), arrays),
        against_baseline=_against(baseline, arrays),
        maps=surface_maps(path, arrays, record.model.n_layers),
        null=_null(path, arrays, len(names)),
    )
    _check_headline(cell)
    return cell


def voxel_counts(values: NDArray[Any]) -> NDArray[np.int64]:
    """(n_bins,) voxels by correlation, over :data:`HISTOGRAM_EDGES`; one without a number is not counted."""
    kept = np.minimum(np.maximum(values[np.isfinite(values)], -1), 1)  # np.clip asks for types first
    place = np.searchsorted(_EDGES, kept, side="right") - 1  # as numpy.histogram, in a quarter of its time
    return np.bincount(np.minimum(place, len(_EDGES) - 2), minlength=len(_EDGES) - 1)


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
    if pooled.any():
        n_rows, stats = len(cell.rows), cell.joined
        s = np.where(np.tile(pooled, n_rows), np.tile(power, n_rows), stats.s)
        cell = replace(cell, joined=replace(stats, s=s))
    return Cell(
        path=cell.path,
        record=cell.record,
        policy=cell.policy,
        rois=tuple(name for name, enters in zip(cell.names, scored, strict=True) if enters),
        block_segment=cell.headline.block_segment,
        influence=_influence(cell, scored),
        sums=_sums(cell.names, cell.headline, scored, pooled),
        voxels=cell.voxels,
        ceilings=cell.ceilings,
        against_ceiling=cell.against_ceiling,
        against_baseline=cell.against_baseline,
        maps=cell.maps,
        null=_null_scores(cell.null, cell.headline, scored),
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


def _influence(cell: StoredCell, rois: BoolArray) -> dict[str, FloatArray]:
    """Row -> (n_blocks, n_scored) influence values, all rows at once: units are independent of each other."""
    rows = [row for row in cell.rows if row not in _CALIBRATED]
    try:
        values = unit_influence(_units(cell, rows, rois))
        found = dict(zip(rows, np.moveaxis(values.reshape(len(values), len(rows), -1), 1, 0), strict=True))
        if set(_CALIBRATED) <= set(cell.rows):  # Delta-FVE: what the model adds to the confounds
            pair = unit_explained_influence(_units(cell, _CALIBRATED, rois))
            joint, floor = np.moveaxis(pair.reshape(len(pair), 2, -1), 1, 0)
            found["fve"] = joint - floor
        return found
    except InvalidNumbers as error:
        raise DataError(f"{cell.path.with_suffix('.npz')}: {error}", "run its cell with --fresh") from error


def _units(cell: StoredCell, rows: Sequence[str], rois: BoolArray) -> BlockStatistics:
    """The sums of some rows over the ROIs that enter, row by row."""
    first = np.array([cell.rows.index(row) for row in rows]) * len(cell.names)
    kept = (first[:, None] + np.flatnonzero(rois)).ravel()
    stats = cell.joined
    return replace(stats, c=stats.c[:, kept], q=stats.q[:, kept], s=stats.s[:, kept])


def _count_voxels(path: Path, arrays: Mapping[str, NDArray[Any]], names: Sequence[str]) -> FloatArray:
    """(n_rois,) voxels of each ROI, at least one."""
    labels = arrays.get("voxel_roi", np.zeros(0, dtype=str))
    found = Counter(labels.tolist())  # one pass, where comparing the labels with each name is one per ROI
    counted = np.array([float(found[name]) for name in names])
    if not (counted > 0).all():
        raise DataError(
            f"{path.with_suffix('.npz')}: voxel_roi does not hold a voxel of each ROI", "run its cell with --fresh"
        )
    return counted


def _joined(
    path: Path, arrays: Mapping[str, NDArray[Any]], policy: ScorePolicy
) -> tuple[tuple[str, ...], BlockStatistics]:
    """Names of the rows and their sums over inference blocks, rows times ROIs as units."""
    rows = [name for name in sorted(arrays) if name.startswith(_STATS)]
    try:
        n_rois, segments = len(arrays["rois"]), np.asarray(arrays["block_segment"], dtype=np.int64)
        for name in rows:
            if arrays[name].shape != (len(segments), n_rois, 3):
                raise ValueError(
                    f"{name} has shape {arrays[name].shape}, expected {(len(segments), n_rois, 3)} (n_blocks, n_rois, c q s)"
                )
        # (n_blocks, n_rows * n_rois, 3)
        all_rows = np.concatenate([arrays[name] for name in rows] or [np.zeros((len(segments), 0, 3))], axis=1)
        c, q, s = np.ascontiguousarray(np.moveaxis(all_rows.astype(np.float64, copy=False), -1, 0))
        stats = coarsen(BlockStatistics(c, q, s, segments, policy.stored_block_trs), policy.inference_block_trs)
        conditions = [name for name in sorted(arrays) if name.startswith(_CONDITION)]
        if conditions:
            unique = slice(rows.index(f"{_STATS}unique") * n_rois, None)
            stats = _with_conditions(
                stats, [np.asarray(arrays[name]) for name in conditions], stats.s[:, unique][:, :n_rois]
            )
    except (KeyError, ValueError, InvalidNumbers) as error:
        raise DataError(f"{path.with_suffix('.npz')}: {error}", "run its cell with --fresh") from error
    names = [name.removeprefix(_STATS) for name in rows]
    return (*names, *(CONDITION_ROW + name.removeprefix(_CONDITION) for name in conditions)), stats


def _with_conditions(stats: BlockStatistics, tables: Sequence[NDArray[Any]], signal: FloatArray) -> BlockStatistics:
    """The sums with those of conditions, which ship c and q in inference blocks (n_blocks, n_rois, 2).

    Their signal power is that of the intact text, (n_blocks, n_rois). Raises ValueError for tables of another shape.
    """
    if any(table.shape != (*signal.shape, 2) for table in tables):
        raise ValueError(f"{_CONDITION} tables must have the shape {(*signal.shape, 2)}")
    c, q = np.moveaxis(np.concatenate(tables, axis=1).astype(np.float64), -1, 0)
    s = np.concatenate([stats.s, *[signal] * len(tables)], axis=1)
    return replace(stats, c=np.concatenate([stats.c, c], axis=1), q=np.concatenate([stats.q, q], axis=1), s=s)


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
