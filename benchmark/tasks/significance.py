# SPDX-License-Identifier: Apache-2.0
"""Does a prediction beat chance: voxel by voxel, region by region, and for the subject as a whole.

Blocks of the test responses are permuted against the predictions, which keeps the autocorrelation of both (statistics.md
A1, A3). The draws are the same for all voxels, regions, subjects and models of a data set, so a record's null numerators
(``null__unique``) add up to the joint test of a model over subjects without the predictions.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from voxelboard.benchmark.encoding.filters import high_pass
from voxelboard.benchmark.protocol import Protocol
from voxelboard.benchmark.statistics.fdr import discover
from voxelboard.benchmark.statistics.permutation import (
    block_permutation_test,
    draw_block_permutations,
    exceedance_p,
    permuted_products,
)
from voxelboard.benchmark.statistics.scores import BlockStatistics
from voxelboard.benchmark.tasks.scoring import HeldOutResponses, by_roi, by_voxel

FloatArray = NDArray[np.float64]
Float32Array = NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Significance:
    """Tests of one row of one subject.

    Attributes
    ----------
    voxel_p : (n_voxels,) one-sided, ``(1 + exceedances) / (1 + draws)``.
    voxel_q : (n_voxels,) smallest false discovery rate at which the voxel is found (Benjamini-Hochberg over all voxels).
    p_kind : what the rates rest on, "counted" p or a "gaussian tail" where the draws are too few to count.
    null : (n_draws, n_rois) numerators of the scored ROIs under permuted blocks.
    roi_p : ROI -> one-sided p, for ROIs that enter the score; p : of their mean. None when no ROI enters.
    """

    voxel_p: Float32Array
    voxel_q: Float32Array
    p_kind: str
    null: Float32Array
    roi_p: Mapping[str, float]
    p: float | None


def significance(
    folds: Sequence[Float32Array],
    stats: BlockStatistics,
    entering: Sequence[int],
    test: HeldOutResponses,
    tr: float,
    protocol: Protocol,
) -> Significance | None:
    """Test the predictions of all folds, one (n_test_rows, n_voxels) array each; None where the test is too short.

    Parameters
    ----------
    stats : block statistics of the row, scored ROIs as units.
    entering : numbers of the ROIs that pass the subject's own gate.
    """
    policy = protocol.diagnostics
    responses = np.concatenate([run.mean(axis=0, dtype=np.float64) for run in test.segments]).astype(np.float32)
    if len(responses) < 4 * policy.permutation_block_trs:
        return None
    segments = np.repeat(np.arange(len(test.segments)), [run.shape[1] for run in test.segments])
    # The projector holds derivatives of filtered confounds, which are not filtered themselves: what little drift they
    # leave in a prediction counts for nothing against filtered responses, but would against permuted ones.
    filtered, pooled = (
        np.concatenate([high_pass(part, tr, protocol.design.high_pass_s) for part in test.split(rows)])
        for rows in (by_voxel(folds), by_roi(folds, test.rois))
    )
    voxels = block_permutation_test(
        filtered,
        responses,
        tr=tr,
        n_draws=policy.n_permutations,
        seed=protocol.seed,
        block_trs=policy.permutation_block_trs,
        segments=segments,
    )
    found = discover(voxels, q=policy.fdr, n_expected=max(1, round(policy.expected_share * responses.shape[1])))
    draws = draw_block_permutations(
        len(responses), policy.n_permutations, seed=protocol.seed, block_trs=policy.permutation_block_trs
    )
    null = np.empty((draws.n_draws, len(test.scored)))
    for i, roi in enumerate(test.scored):
        here = test.rois == roi
        null[:, i] = permuted_products(pooled[:, here], responses[:, here], draws)[1]
    c, q, s = stats.totals()
    roi_p, z, observed = {}, np.zeros(draws.n_draws), 0.0
    for i in entering:
        scale = 1 / np.sqrt(q[i] * s[i]) if q[i] > 0 else 0.0
        roi_p[test.scored[i]] = exceedance_p(float(c[i] * scale), null[:, i] * scale)
        z += scale * null[:, i]
        observed += float(scale * c[i])
    return Significance(
        voxels.p.astype(np.float32),
        found.adjusted.astype(np.float32),
        found.p_kind,
        null.astype(np.float32),
        roi_p,
        exceedance_p(observed, z) if roi_p else None,
    )
