# SPDX-License-Identifier: Apache-2.0
"""Scores of one viewer: those that every task has, and what each level of annotation explains alone and beyond others.

Three quantities of a level that the literature confuses, each under a name of its own:

- ``alone``: H_u of the level by itself;
- ``loo_r``, ``loo_fve``: *leave-one-out unique*, the full model minus the model that was searched and fitted again without
  the level, in mean voxelwise r (Nakagi et al. 2024) and in explained fraction;
- ``split_r``: how the joint r divides among the bands of the one full model. The parts of all levels add up to it. It is
  not unique: shared variance goes to whichever band the ridge preferred.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from voxelboard.benchmark.protocol import Protocol, ScorePolicy
from voxelboard.benchmark.records import Checks, Estimate, Facet, LayerProfile
from voxelboard.benchmark.statistics.influence import unit_influence
from voxelboard.benchmark.statistics.scores import BlockStatistics, coarsen
from voxelboard.benchmark.tasks.base import Arrays, CellResult
from voxelboard.benchmark.tasks.cells import SubjectResults, score_subject, unique_fve_influence
from voxelboard.benchmark.tasks.drama_encode import DramaEncoding
from voxelboard.benchmark.tasks.scoring import (
    UNITS,
    HeldOutResponses,
    correlation_influence,
    roi_influence,
    roi_statistics,
    summarise,
    voxel_statistics,
)

FloatArray = NDArray[np.float64]
Float32Array = NDArray[np.float32]
Scored = tuple[Estimate, dict[str, Estimate]]  # over all scored ROIs, and each ROI

NO_LEVEL = "none"  # of a voxel that no level wins


@dataclass(frozen=True, eq=False)
class ViewerResults:
    """What was predicted for one viewer.

    Attributes
    ----------
    voxels : of the viewer, in the cohort's columns.
    floor : (n_test_rows, n_voxels of the cohort) predictions of the confounds.
    twins : seed -> encoding of an untrained twin.
    profile : level -> layer -> block statistics of the level alone, of this viewer.
    """

    subject: str
    test: HeldOutResponses
    voxels: slice
    encoding: DramaEncoding
    floor: Float32Array
    twins: Mapping[int, DramaEncoding]
    profile: Mapping[str, Mapping[int, BlockStatistics]]
    checks: Checks


def score_viewer(viewer: ViewerResults, n_train: int, tr: float, protocol: Protocol) -> CellResult:
    """All scores of a viewer; ``tr`` in seconds."""
    at, encoding = viewer.voxels, viewer.encoding
    predictions: dict[str, list[Float32Array]] = {
        row: [table[:, at]]
        for row, table in (
            ("raw", encoding.raw),
            ("unique", encoding.unique),
            ("joint", encoding.joint),
            ("floor", viewer.floor),
        )
    }
    for seed, twin in viewer.twins.items():
        predictions |= {f"twin{seed}_raw": [twin.raw[:, at]], f"twin{seed}_unique": [twin.unique[:, at]]}
    scored = viewer.test.scored
    common = SubjectResults(
        viewer.subject,
        viewer.test,
        predictions,
        tuple(viewer.twins),
        dict.fromkeys(scored, (0,)),
        dict.fromkeys(scored, ((0.0,),)),
        {},
        None,
        viewer.checks,
    )
    block = replace(protocol.diagnostics, permutation_block_trs=protocol.drama.permutation_block_trs)
    cell = score_subject(common, n_train, tr, replace(protocol, diagnostics=block))
    levels, arrays = _levels(viewer, protocol)
    return replace(
        cell,
        facets=levels,
        layers={level: _profile(viewer, level, protocol.score) for level in encoding.alone},
        arrays={**cell.arrays, **arrays, **_winners(arrays, cell.arrays, protocol)},
    )


def _levels(viewer: ViewerResults, protocol: Protocol) -> tuple[tuple[Facet, ...], Arrays]:
    """The facets of every level, over all and by ROI, and what they rest on voxel by voxel."""
    encoding, policy = viewer.encoding, protocol.score
    at, test = viewer.voxels, viewer.test
    whole = encoding.unique[:, at]
    full_r, full_voxels = correlation_influence(whole, test, policy)
    full = roi_statistics(whole, test, policy)
    splits = split_influence({level: table[:, at] for level, table in encoding.bands.items()}, whole, test, policy)
    facets: list[Facet] = []
    arrays: Arrays = {}
    for level, alone in encoding.alone.items():
        found = {
            "alone": _summary(roi_influence(roi_statistics(alone[:, at], test, policy), policy), "H_u", test, policy)
        }
        if level in splits:
            found["split_r"] = _summary(splits[level][0], "split of the joint r", test, policy, "r")
            arrays[f"voxel_split_r__{level}"] = splits[level][1]
            arrays[f"voxel_gamma__{level}"] = encoding.gammas[level][at]
        if encoding.without.get(level) is not None and encoding.without[level].any():
            rest = encoding.without[level][:, at]
            rest_r, rest_voxels = correlation_influence(rest, test, policy)
            difference = {roi: full_r[roi] - rest_r[roi] for roi in full_r}
            reduced = roi_statistics(rest, test, policy)
            text = "all levels minus all but this one, refitted"
            found["loo_r"] = _summary(difference, f"mean voxelwise r, {text}", test, policy, "r")
            found["loo_fve"] = _summary(
                unique_fve_influence(full, reduced, policy), f"explained fraction, {text}", test, policy, "FVE"
            )
            arrays[f"voxel_loo_r__{level}"] = full_voxels - rest_voxels
            arrays[f"stats__without_{level}"] = np.stack([reduced.c, reduced.q, reduced.s], axis=-1)
        facets += _facets(level, found, test.scored)
    return tuple(facets), arrays


def _facets(level: str, found: Mapping[str, Scored], rois: Sequence[str]) -> list[Facet]:
    overall = Facet(axis="level", value=level, scores={name: estimate for name, (estimate, _) in found.items()})
    by_roi = [
        Facet(axis="level", value=level, roi=roi, scores={name: rois_[roi] for name, (_, rois_) in found.items()})
        for roi in rois
    ]
    return [overall, *by_roi]


def _summary(
    influence: Mapping[int, FloatArray],
    estimator: str,
    test: HeldOutResponses,
    policy: ScorePolicy,
    unit: str | None = None,
) -> Scored:
    blocks = f"{estimator}, {policy.inference_block_trs}-TR block influence, t"
    return summarise(influence, test.scored, blocks, unit or UNITS[test.kind], policy.confidence)


def split_influence(
    bands: Mapping[str, Float32Array], whole: Float32Array, test: HeldOutResponses, policy: ScorePolicy
) -> dict[str, tuple[dict[int, FloatArray], Float32Array]]:
    """Split of the joint r: level -> ROI number -> (n_blocks,) influence values, and (n_voxels,) the split of each voxel.

    For band b with prediction ``p_b`` and the joint prediction ``p``: ``sum p_b y / sqrt(sum p^2 sum y^2)``, so the parts
    add up to the joint r (the correlation split of himalaya).
    """
    joint = voxel_statistics(whole, test, policy, kind="none")
    found = {}
    for level, prediction in bands.items():
        own = voxel_statistics(prediction, test, policy, kind="none")
        part = coarsen(replace(joint, c=own.c), policy.inference_block_trs)
        z = unit_influence(part)
        by_roi = {i: z[:, test.rois == roi].mean(axis=1) for i, roi in enumerate(test.scored)}
        found[level] = (by_roi, z.mean(axis=0).astype(np.float32))
    return found


def _profile(viewer: ViewerResults, level: str, policy: ScorePolicy) -> LayerProfile:
    """Inner score of every layer and, never used to choose, its test score over all scored ROIs."""
    tested = tuple(
        _summary(roi_influence(stats, policy), "H_u of one layer", viewer.test, policy)[0]
        for _, stats in sorted(viewer.profile[level].items())
    )
    encoding = viewer.encoding
    return LayerProfile(
        chosen=(encoding.chosen[viewer.subject, level],),
        inner=tuple(encoding.inner[viewer.subject, level]),
        test=tested,
    )


def _winners(levels: Arrays, common: Arrays, protocol: Protocol) -> Arrays:
    """``voxel_winner``: which level has the largest leave-one-out r, where the whole model beats chance at the FDR."""
    loo = {
        name.removeprefix("voxel_loo_r__"): np.asarray(table, dtype=np.float64)
        for name, table in levels.items()
        if name.startswith("voxel_loo_r__")
    }
    if not loo or "voxel_q__unique" not in common:
        return {}
    significant = np.asarray(common["voxel_q__unique"], dtype=np.float64) <= protocol.diagnostics.fdr
    return {"voxel_winner": winning_level(loo, significant)}


def winning_level(unique: Mapping[str, FloatArray], significant: NDArray[np.bool_]) -> NDArray[np.str_]:
    """(n_voxels,) the level with the largest unique score; none where it is not above 0 or the model is not significant."""
    table = np.stack(list(unique.values()))
    best = np.array(list(unique))[table.argmax(axis=0)]
    return np.where(significant & (table.max(axis=0) > 0), best, NO_LEVEL)
