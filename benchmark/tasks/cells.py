# SPDX-License-Identifier: Apache-2.0
"""One subject's predictions in, everything that its record says out: estimates, profiles, checks and statistics."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from voxelboard.benchmark.protocol import Protocol, ScorePolicy
from voxelboard.benchmark.records import Checks, LayerProfile
from voxelboard.benchmark.statistics.gates import signal_gate
from voxelboard.benchmark.statistics.influence import unit_explained_influence
from voxelboard.benchmark.statistics.scores import BlockStatistics, coarsen, concatenate
from voxelboard.benchmark.tasks.base import Arrays, CellResult, merged_checks
from voxelboard.benchmark.tasks.diagnostics import Diagnosis
from voxelboard.benchmark.tasks.listener_ceilings import Estimates, leave_one_out_estimates
from voxelboard.benchmark.tasks.scoring import (
    UNITS,
    HeldOutResponses,
    by_roi,
    by_voxel,
    ceiling_estimates,
    correlation_influence,
    missing,
    paired_blocks,
    roi_influence,
    roi_statistics,
    summarise,
    surface_arrays,
)
from voxelboard.benchmark.tasks.significance import Significance, significance

FloatArray = NDArray[np.float64]
Float32Array = NDArray[np.float32]
Folds = Sequence[Float32Array]  # one (n_test_rows, n_voxels) array a fold
Found = dict[str, Estimates]  # name -> overall, and each ROI

# Rows of the calibrated predictions, which the additive explained fractions are made of.
CALIBRATED = ("joint", "floor")
DIAGNOSTIC_TEXT = {
    "static_unique": "H_u with static word vectors taken out as well",
    "capacity_unique": "H_u of {n} principal components",
    "shifted_unique": "H_u of the same features shifted by half a story",
    "train25_unique": "H_u from {share} of the training segments",
    "train50_unique": "H_u from {share} of the training segments",
    "train100_unique": "H_u from all training segments",
}


@dataclass(frozen=True, eq=False)
class SubjectResults:
    """What was predicted for one subject.

    Attributes
    ----------
    predictions : row -> folds; rows raw, unique, joint, floor, and ``twin<seed>_raw``, ``twin<seed>_unique``.
    chosen : ROI -> layer of each fold; inner : ROI -> (n_folds, n_layers) pooled inner correlations.
    profile : layer -> block statistics of each fold, of the unique row.
    extrapolated : the extrapolated ceiling where other listeners are the ceiling, over ROIs and each.
    """

    subject: str
    test: HeldOutResponses
    predictions: Mapping[str, Folds]
    twin_seeds: tuple[int, ...]
    chosen: Mapping[str, Sequence[int]]
    inner: Mapping[str, Sequence[Sequence[float]]]
    profile: Mapping[int, Sequence[BlockStatistics]]
    diagnosis: Diagnosis | None
    checks: Checks
    extrapolated: Estimates | None = None


def score_subject(results: SubjectResults, n_train: int, tr: float, protocol: Protocol) -> CellResult:
    """All scores of a subject; ``tr`` in seconds."""
    test, policy = results.test, protocol.score
    stats = {row: roi_statistics(by_roi(f, test.rois), test, policy) for row, f in results.predictions.items()}
    if results.diagnosis is not None:
        stats |= _diagnostic_statistics(results, results.diagnosis, policy)
    for row in CALIBRATED:
        together = np.concatenate(results.predictions[row])
        stats[f"{row}_calibrated"] = roi_statistics(together, test, policy)
    influence = {row: roi_influence(stats[row], policy) for row in stats if not row.endswith("_calibrated")}
    entering = sorted(influence["unique"])
    tested = significance(results.predictions["unique"], stats["unique"], entering, test, tr, protocol)
    found, voxels = _estimates(results, stats, influence, protocol)
    if tested is not None:
        overall, by_roi_ = found["unique"]
        found["unique"] = (
            replace(overall, p=tested.p),
            {roi: replace(estimate, p=tested.roi_p.get(roi)) for roi, estimate in by_roi_.items()},
        )
    return CellResult(
        subject=results.subject,
        scores={name: overall for name, (overall, _) in found.items()},
        by_roi={roi: {name: rois[roi] for name, (_, rois) in found.items()} for roi in test.scored},
        layers=_layers(results, protocol),
        checks=_checks(results, stats, tested, protocol),
        arrays={
            **_arrays(stats, test, voxels, tested),
            "voxel_blocks__unique": paired_blocks(results.predictions["unique"], test, policy),
            **surface_arrays(test, results.chosen),
        },
        n_train=n_train,
        n_test=sum(run.shape[1] for run in test.segments),
        n_voxels=len(test.rois),
        n_repeats=min(len(run) for run in test.segments),
    )


def _diagnostic_statistics(
    results: SubjectResults, diagnosis: Diagnosis, policy: ScorePolicy
) -> dict[str, BlockStatistics]:
    """Row -> statistics, rows named ``<diagnostic>_unique``; with all training data that is the layer's own profile."""
    stats = {
        f"{name}_unique": roi_statistics(by_roi(folds, results.test.rois), results.test, policy)
        for name, folds in diagnosis.predictions.items()
    }
    stats["train100_unique"] = concatenate(results.profile[diagnosis.layer])
    return stats


def _estimates(
    results: SubjectResults,
    stats: Mapping[str, BlockStatistics],
    influence: Mapping[str, Mapping[int, FloatArray]],
    protocol: Protocol,
) -> tuple[Found, dict[str, Float32Array]]:
    """All estimates of a subject: name -> overall and each ROI; and row -> r of each voxel."""
    policy, test = protocol.score, results.test
    blocks = f"{policy.inference_block_trs}-TR block influence, t"
    unit = UNITS[test.kind]
    found: Found = {}

    def add(name: str, values: Mapping[int, FloatArray], estimator: str, unit: str) -> None:
        found[name] = summarise(values, test.scored, f"{estimator}, {blocks}", unit, policy.confidence)

    add("unique", influence["unique"], "H_u", unit)
    add("normalised", influence["raw"], "H", unit)
    add("floor", influence["floor"], "H of the confounds", unit)
    fve = unique_fve_influence(stats["joint_calibrated"], stats["floor_calibrated"], policy)
    add("unique_fve", fve, "explained fraction beyond the confounds", "FVE")
    for name, row in (("twin_unique", "unique"), ("twin_normalised", "raw")):
        if results.twin_seeds:
            mean = {
                roi: np.mean([influence[f"twin{seed}_{row}"][roi] for seed in results.twin_seeds], axis=0)
                for roi in influence[row]
            }
            add(name, mean, f"mean of {len(results.twin_seeds)} untrained twins", unit)
    if results.diagnosis is not None:
        found |= _diagnostic_estimates(results.diagnosis, influence, test, policy)
    voxels = {}
    for name, row in (("raw_r", "raw"), ("floor_r", "floor"), ("joint_r", "joint"), ("unique_r", "unique")):
        means, voxels[row] = correlation_influence(by_voxel(results.predictions[row]), test, policy)
        add(name, means, "mean voxelwise r", "r")
    found["ceiling"] = ceiling_estimates(test, policy)
    if results.extrapolated is not None:
        found["ceiling_leave_one_out"] = leave_one_out_estimates(test, policy)
        found["ceiling_extrapolated"] = results.extrapolated
    return found, voxels


def unique_fve_influence(joint: BlockStatistics, floor: BlockStatistics, policy: ScorePolicy) -> dict[int, FloatArray]:
    """ROI number -> (n_blocks,) influence values of ``FVE(confounds, then model) - FVE(confounds)`` (Delta-FVE).

    The joint prediction is that of the confounds plus that of what they leave of the model: in ordinary least squares the
    joint regression (Frisch-Waugh-Lovell). Measured against banded ridge of both spaces: on a brain of confounds -.0004
    against -.013, and within .004 of its value on the noise-free response (statistics.md F1, F2), without another fit.
    """
    full, reduced = (coarsen(table, policy.inference_block_trs) for table in (joint, floor))
    passed = np.flatnonzero(signal_gate(full, policy.gate_standard_errors))

    def values(stats: BlockStatistics, roi: int) -> FloatArray:
        one = replace(stats, c=stats.c[:, [roi]], q=stats.q[:, [roi]], s=stats.s[:, [roi]])
        return unit_explained_influence(one)[:, 0]

    return {int(roi): values(full, int(roi)) - values(reduced, int(roi)) for roi in passed}


def _diagnostic_estimates(
    diagnosis: Diagnosis,
    influence: Mapping[str, Mapping[int, FloatArray]],
    test: HeldOutResponses,
    policy: ScorePolicy,
) -> Found:
    blocks = f"layer {diagnosis.layer}, {policy.inference_block_trs}-TR block influence, t"
    found: Found = {}
    for name, text in DIAGNOSTIC_TEXT.items():
        share = diagnosis.shares.get(name.removesuffix("_unique"), 1.0)
        estimator = f"{text.format(n=diagnosis.n_components, share=f'{100 * share:.0f} %')}, {blocks}"
        if name in influence:
            found[name] = summarise(influence[name], test.scored, estimator, UNITS[test.kind], policy.confidence)
            continue
        reason = "the data set has no table of static word vectors"
        if name.startswith("train"):
            reason = "too few training segments"
        nothing = missing(estimator, UNITS[test.kind], reason)
        found[name] = (nothing, dict.fromkeys(test.scored, nothing))
    return found


def _checks(
    results: SubjectResults,
    stats: Mapping[str, BlockStatistics],
    tested: Significance | None,
    protocol: Protocol,
) -> Checks:
    """The checks so far with what was found on the way."""
    fields: dict[str, object] = {}
    if tested is not None:
        fields["significant_voxels"] = int((tested.voxel_q <= protocol.diagnostics.fdr).sum())
        fields["significance"] = (
            f"H_u of each voxel against {protocol.diagnostics.n_permutations} permutations of "
            f"{protocol.diagnostics.permutation_block_trs}-TR blocks, FDR {protocol.diagnostics.fdr:g}, {tested.p_kind}"
        )
    diagnosis = results.diagnosis
    if diagnosis is not None:
        fields |= {
            "main_layer": diagnosis.layer,
            "effective_rank": diagnosis.effective_rank,
            "capacity_components": diagnosis.n_components,
            "shuffled_gap": diagnosis.shuffled_gap,
            "shuffled_gap_noise": diagnosis.shuffled_gap_noise,
        }
        exact, own = (_macro(stats.get(row), protocol.score) for row in ("exact_unique", "train100_unique"))
        if exact is not None and own is not None:
            fields["receipt_score_effect"] = exact - own
    return merged_checks(results.checks, fields)


def _macro(stats: BlockStatistics | None, policy: ScorePolicy) -> float | None:
    """Mean score over the ROIs that enter."""
    influence = {} if stats is None else roi_influence(stats, policy)
    return float(np.mean([values.mean() for values in influence.values()])) if influence else None


def _layers(results: SubjectResults, protocol: Protocol) -> dict[str, LayerProfile]:
    """The profile of each scored ROI: inner score and, never used to choose, the test score of every layer."""
    policy, test = protocol.score, results.test
    estimator = f"H_u of one layer, {policy.inference_block_trs}-TR block influence, t"
    tested = [
        summarise(
            roi_influence(concatenate(results.profile[layer]), policy),
            test.scored,
            estimator,
            UNITS[test.kind],
            policy.confidence,
        )[1]
        for layer in sorted(results.profile)
    ]
    return {
        roi: LayerProfile(
            chosen=tuple(results.chosen[roi]),
            inner=tuple(np.mean(results.inner[roi], axis=0).tolist()),
            test=tuple(layer[roi] for layer in tested),
        )
        for roi in test.scored
    }


def _arrays(
    stats: Mapping[str, BlockStatistics],
    test: HeldOutResponses,
    voxels: Mapping[str, Float32Array],
    tested: Significance | None,
) -> Arrays:
    """What a record ships so that anyone can score again: block tables by row, r and p by voxel, null numerators."""
    first = next(iter(stats.values()))
    arrays: Arrays = {
        "rois": np.array(test.scored),
        "block_segment": first.block_segment,
        "block_trs": np.array(first.block_trs),
        "voxel_roi": test.rois,
    }
    for row, table in stats.items():
        arrays[f"stats__{row}"] = np.stack([table.c, table.q, table.s], axis=-1)  # (n_blocks, n_rois, 3)
    for row, r in voxels.items():
        arrays[f"voxel_r__{row}"] = r
    if tested is not None:
        arrays |= {
            "voxel_p__unique": tested.voxel_p,
            "voxel_q__unique": tested.voxel_q,
            "null__unique": tested.null,
        }
    return arrays
