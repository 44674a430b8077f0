# SPDX-License-Identifier: Apache-2.0
"""From predictions to the scores of a cell, each with its interval, and the statistics that they rest on."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from voxelboard.benchmark.protocol import ScorePolicy
from voxelboard.benchmark.readers.base import CeilingKind
from voxelboard.benchmark.readers.surfaces import SHARED
from voxelboard.benchmark.records import Estimate
from voxelboard.benchmark.statistics.gates import signal_gate
from voxelboard.benchmark.statistics.influence import unit_influence
from voxelboard.benchmark.statistics.intervals import Interval, jackknife_interval, single_subject_interval
from voxelboard.benchmark.statistics.scores import (
    BlockStatistics,
    coarsen,
    concatenate,
    pool_rois,
    segment_statistics,
)

FloatArray = NDArray[np.float64]
Float32Array = NDArray[np.float32]

# Mean square of predictions of z-scored responses below which they are rounding: r < 1e-4 at best.
_CONSTANT_POWER = 1e-8

UNITS: dict[CeilingKind, str] = {"repeats": "H", "inter_subject": "H", "none": "pooled r"}


@dataclass(frozen=True, eq=False)
class HeldOutResponses:
    """The test responses of one subject.

    segments : one (n_repeats, n_rows, n_voxels) array a test segment, each repeat z-scored.
    others : None, or for each segment (n_rows, n_voxels), the mean of the other subjects.
    rois : (n_voxels,) labels; scored : the ROIs of the headline.
    vertices : (n_voxels,) places on fsaverage5, -1 for none, where the responses lie on a surface.
    """

    segments: tuple[Float32Array, ...]
    others: tuple[Float32Array, ...] | None
    rois: NDArray[np.str_]
    scored: tuple[str, ...]
    kind: CeilingKind
    vertices: NDArray[np.int32] | None = None

    @property
    def scored_voxels(self) -> NDArray[np.bool_]:
        return np.isin(self.rois, self.scored)

    def split(self, predictions: Float32Array) -> list[Float32Array]:
        """Predictions of all test rows -> one array a segment."""
        return np.split(predictions, np.cumsum([run.shape[1] for run in self.segments])[:-1])


def by_roi(folds: Sequence[Float32Array], rois: NDArray[np.str_]) -> Float32Array:
    """Predictions of all folds, one below the other, each ROI with the same power in each of several folds.

    Without it scores of left-out folds are biased downwards: where training folds happen to agree against the left-out
    one, they are shrunk less and their wrong predictions weigh more. Given the training data the sign of an equally
    scaled fold is fair. One fold stays as it is. Each array is (n_test_rows, n_voxels).
    """
    return folds[0] if len(folds) == 1 else np.concatenate([equalise(fold, rois) for fold in folds])


def by_voxel(folds: Sequence[Float32Array]) -> Float32Array:
    """As :func:`by_roi`, each voxel by itself: for correlations of voxels."""
    return folds[0] if len(folds) == 1 else np.concatenate([equalise(fold) for fold in folds])


def equalise(fold: Float32Array, rois: NDArray[np.str_] | None = None) -> Float32Array:
    """Predictions of one fold, scaled to a mean square of 1 over the voxels of each ROI, or for each voxel.

    Predictions that are constant but for rounding become 0 instead of noise of full power.
    """
    power = (fold.astype(np.float64) ** 2).mean(axis=0)
    if rois is not None:
        for roi in np.unique(rois):
            power[rois == roi] = power[rois == roi].mean()
    alive = power > _CONSTANT_POWER
    scaled: Float32Array = np.where(alive, fold / np.sqrt(np.where(alive, power, 1.0)), 0.0).astype(np.float32)
    return scaled


def voxel_statistics(
    predictions: Float32Array, test: HeldOutResponses, policy: ScorePolicy, kind: CeilingKind | None = None
) -> BlockStatistics:
    """Block statistics voxel by voxel; ``predictions`` (n_test_rows, n_voxels). ``kind`` overrides the data set's."""
    kind = kind or test.kind
    parts = []
    for i, (part, run) in enumerate(zip(test.split(predictions), test.segments, strict=True)):
        others = test.others[i] if kind == "inter_subject" and test.others is not None else None
        parts.append(segment_statistics(part, run, kind=kind, block_trs=policy.stored_block_trs, others=others))
    return concatenate(parts)


def roi_statistics(predictions: Float32Array, test: HeldOutResponses, policy: ScorePolicy) -> BlockStatistics:
    """Block statistics pooled over the voxels of each scored ROI: the table that a record ships."""
    return pool_rois(voxel_statistics(predictions, test, policy), test.rois, test.scored)


def roi_influence(stats: BlockStatistics, policy: ScorePolicy) -> dict[int, FloatArray]:
    """ROI number -> (n_blocks,) influence values at the inference block length, for ROIs that pass the gate."""
    long = coarsen(stats, policy.inference_block_trs)
    passed = np.flatnonzero(signal_gate(long, policy.gate_standard_errors))
    return {int(roi): unit_influence(only_units(long, [int(roi)]))[:, 0] for roi in passed}


def only_units(stats: BlockStatistics, units: Sequence[int]) -> BlockStatistics:
    return replace(stats, c=stats.c[:, units], q=stats.q[:, units], s=stats.s[:, units])


def summarise(
    influence: Mapping[int, FloatArray], rois: Sequence[str], estimator: str, unit: str, confidence: float
) -> tuple[Estimate, dict[str, Estimate]]:
    """Mean over ROIs, and each ROI, with intervals over blocks; a ROI without influence values has no estimate."""
    by_roi = {
        roi: (
            to_estimate(single_subject_interval(influence[number], confidence=confidence), estimator, unit)
            if number in influence
            else missing(estimator, unit, "the signal power of this ROI is not above its gate for this subject")
        )
        for number, roi in enumerate(rois)
    }
    if not influence:
        return missing(estimator, unit, "no ROI passes the signal gate for this subject"), by_roi
    mean = np.mean([influence[number] for number in sorted(influence)], axis=0)
    return to_estimate(single_subject_interval(mean, confidence=confidence), estimator, unit), by_roi


def correlation_influence(
    predictions: Float32Array, test: HeldOutResponses, policy: ScorePolicy
) -> tuple[dict[int, FloatArray], Float32Array]:
    """Mean voxelwise r: ROI number -> (n_blocks,) influence values, and (n_voxels,) the r of each voxel."""
    z = voxel_influence(predictions, test, policy)
    means = {i: z[:, test.rois == roi].mean(axis=1) for i, roi in enumerate(test.scored)}
    return means, z.mean(axis=0).astype(np.float32)


def voxel_influence(predictions: Float32Array, test: HeldOutResponses, policy: ScorePolicy) -> FloatArray:
    """(n_blocks, n_voxels) influence values of each voxel's r; their mean over blocks is r."""
    stats = voxel_statistics(predictions, test, policy, kind="none")
    return unit_influence(coarsen(stats, policy.inference_block_trs))


def paired_blocks(folds: Sequence[Float32Array], test: HeldOutResponses, policy: ScorePolicy) -> NDArray[np.float16]:
    """(n_blocks, n_voxels) of :func:`voxel_influence`, as a record stores them to compare two models voxel by voxel.

    Half precision rounds by 1/2048, far below what blocks differ by: 12 MB instead of 46 for 100,000 voxels and 60 blocks.
    """
    return voxel_influence(by_voxel(folds), test, policy).astype(np.float16)


def ceiling_estimates(test: HeldOutResponses, policy: ScorePolicy) -> tuple[Estimate, dict[str, Estimate]]:
    """How well the mean test response could be predicted, in r: pooled over the voxels of a ROI, mean over ROIs.

    repeats: CCmax, ``sqrt(signal power / power of the mean response)``; inter_subject: the same with the power that is
    shared with the other subjects. Jackknife over blocks.
    """
    label = {"repeats": "CCmax from repeats", "inter_subject": "root of inter-subject shared power"}
    if test.kind == "none":
        reason = "this data set has no repeats and no subjects in correspondence"
        empty = missing("none", "r", reason)
        return empty, dict.fromkeys(test.scored, empty)
    means = np.concatenate([run.mean(axis=0) for run in test.segments]).astype(np.float32)
    stats = coarsen(roi_statistics(means, test, policy), policy.inference_block_trs)
    left_out_s, left_out_q = stats.s.sum(axis=0) - stats.s, stats.q.sum(axis=0) - stats.q
    estimator = f"{label[test.kind]}, jackknife over {policy.inference_block_trs}-TR blocks"
    usable = (stats.s.sum(axis=0) > 0) & (left_out_s > 0).all(axis=0)
    values = np.sqrt(np.where(usable, stats.s.sum(axis=0), 0) / stats.q.sum(axis=0))
    jackknife = np.sqrt(np.where(usable, left_out_s, 0) / left_out_q)
    by_roi = {
        roi: (
            to_estimate(jackknife_interval(float(values[i]), jackknife[:, i], estimator), estimator, "r")
            if usable[i]
            else missing(estimator, "r", "the signal power is not reliably above zero")
        )
        for i, roi in enumerate(test.scored)
    }
    if not usable.any():
        return missing(estimator, "r", "the signal power of no ROI is reliably above zero"), by_roi
    overall = jackknife_interval(float(values[usable].mean()), jackknife[:, usable].mean(axis=1), estimator)
    return to_estimate(overall, estimator, "r"), by_roi


def surface_arrays(test: HeldOutResponses, chosen: Mapping[str, Sequence[int]]) -> dict[str, NDArray[np.generic]]:
    """Where voxels lie on a shared surface, and the layer that their region chose on training data; nothing without one."""
    if test.vertices is None:
        return {}
    layer = np.full(len(test.rois), np.nan, dtype=np.float32)
    for roi in test.scored:
        counted = Counter(chosen[roi])
        layer[test.rois == roi] = min(counted, key=lambda one: (-counted[one], one))
    return {"surface": np.array(SHARED), "voxel_vertex": test.vertices, "voxel_layer": layer}


def to_estimate(interval: Interval, estimator: str, unit: str) -> Estimate:
    """An interval as a record carries it."""
    return Estimate(
        estimate=interval.estimate,
        standard_error=interval.se,
        low=interval.low,
        high=interval.high,
        estimator=estimator,
        n=interval.n,
        unit=unit,
    )


def missing(estimator: str, unit: str, reason: str) -> Estimate:
    """No number, and why."""
    return Estimate(estimate=None, estimator=estimator, n=0, unit=unit, reason=reason)
