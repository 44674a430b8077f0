# SPDX-License-Identifier: Apache-2.0
"""From predictions of responses to images to the scores of a cell, each with its interval."""

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from voxelboard.benchmark.errors import InvalidNumbers
from voxelboard.benchmark.protocol import Protocol
from voxelboard.benchmark.readers.captions_data import ImageResponses
from voxelboard.benchmark.records import Checks, Estimate, LayerProfile
from voxelboard.benchmark.similarity.retrieval import similarity_table
from voxelboard.benchmark.statistics.ceilings import ncsnr, ncsnr_noise_ceiling
from voxelboard.benchmark.statistics.geometry import normalised_ranks, top_k
from voxelboard.benchmark.statistics.scores import BlockStatistics
from voxelboard.benchmark.tasks.caption_encoding import NOISE_BRAIN, CaptionEncoding, PreparedSubject
from voxelboard.benchmark.tasks.caption_geometry import RoiEstimates, mean_estimate, with_overall
from voxelboard.benchmark.tasks.fit_checks import edge_alarms, ratio_alarms, worst_ratio
from voxelboard.benchmark.tasks.scoring import (
    UNITS,
    HeldOutResponses,
    ceiling_estimates,
    correlation_influence,
    roi_influence,
    roi_statistics,
    summarise,
)

FloatArray = NDArray[np.float64]
Float32Array = NDArray[np.float32]
Arrays = dict[str, NDArray[np.generic]]

_R_ROWS = (("raw_r", "raw"), ("floor_r", "floor"), ("joint_r", "joint"), ("unique_r", "unique"))


def held_out(subject: PreparedSubject, scored_rois: Sequence[str]) -> HeldOutResponses:
    """The test images as one segment, without the voxels of noise."""
    n = subject.n_voxels
    places = subject.responses.vertices
    return HeldOutResponses((subject.test[:, :, :n],), None, subject.rois[:n], tuple(scored_rois), "repeats", places)


def noise_brain_r(encoding: CaptionEncoding, subject: PreparedSubject, protocol: Protocol) -> float:
    """Mean r of a model's predictions on voxels of noise.

    Raises
    ------
    InvalidNumbers
        when it exceeds the protocol's limit: something of the test images reached the training.
    """
    noise = subject.rois == NOISE_BRAIN
    test = HeldOutResponses((subject.test[:, :, noise],), None, subject.rois[noise], (NOISE_BRAIN,), "none")
    _, r = correlation_influence(encoding.predictions["raw"][:, noise], test, protocol.score)
    mean = float(r.mean(dtype=np.float64))
    if abs(mean) > protocol.score.noise_brain_limit:
        raise InvalidNumbers(
            f"canary: the model predicts a brain of noise with r = {mean:.4f} "
            f"(limit {protocol.score.noise_brain_limit}): test images leak into the training"
        )
    return mean


def caption_checks(
    encoding: CaptionEncoding, subject: PreparedSubject, protocol: Protocol, *, is_baseline: bool
) -> Checks:
    """Canaries and receipts of one subject."""
    worst = worst_ratio(encoding.sd_ratios)
    alarms = []
    # the harness' own rows have next to nothing beyond the floor, and so few columns that the smallest alpha is right
    if not is_baseline:
        alarms += edge_alarms(encoding.reliable_edges)
        alarms += ratio_alarms(worst, protocol.score.residual_sd_range, "floor-free", "test images")
    return Checks(
        noise_brain=noise_brain_r(encoding, subject, protocol),
        residual_sd_ratio=worst,
        alpha_edge_share=float(np.mean(encoding.edge_shares)),
        alarms=tuple(alarms),
    )


def encoding_statistics(
    predictions: Mapping[str, Float32Array], test: HeldOutResponses, protocol: Protocol
) -> dict[str, BlockStatistics]:
    """Row -> block statistics of each scored ROI; predictions may carry the voxels of noise along."""
    n = len(test.rois)
    return {row: roi_statistics(values[:, :n], test, protocol.score) for row, values in predictions.items()}


def encoding_estimates(
    predictions: Mapping[str, Float32Array],
    stats: Mapping[str, BlockStatistics],
    test: HeldOutResponses,
    twin_seeds: Sequence[int],
    protocol: Protocol,
) -> tuple[dict[str, RoiEstimates], dict[str, Float32Array]]:
    """Name -> ROI (None: over ROIs) -> estimate, and row -> r of each voxel."""
    policy, n = protocol.score, len(test.rois)
    blocks = f"blocks of {policy.inference_block_trs} test images, t"
    found: dict[str, RoiEstimates] = {}

    def add(name: str, influence: Mapping[int, FloatArray], estimator: str, unit: str) -> None:
        overall, by_roi = summarise(influence, test.scored, estimator, unit, policy.confidence)
        found[name] = with_overall(overall, by_roi)

    influence = {row: roi_influence(table, policy) for row, table in stats.items()}
    unit = UNITS[test.kind]
    add("unique", influence["unique"], f"H_u beyond the control floor, {blocks}", unit)
    add("normalised", influence["raw"], f"H, {blocks}", unit)
    add("floor", influence["floor"], f"H of the control floor, {blocks}", unit)
    for name, row in (("twin_unique", "unique"), ("twin_normalised", "raw")):
        if twin_seeds:
            mean = {
                roi: np.mean([influence[f"twin{seed}_{row}"][roi] for seed in twin_seeds], axis=0)
                for roi in influence[row]
            }
            add(name, mean, f"mean of {len(twin_seeds)} untrained twins, {blocks}", unit)
    voxels = {}
    for name, row in _R_ROWS:
        means, voxels[row] = correlation_influence(predictions[row][:, :n], test, policy)
        add(name, means, f"mean voxelwise r, {blocks}", "r")
    overall, by_roi = ceiling_estimates(test, policy)
    found["ceiling"] = with_overall(overall, by_roi)
    return found, voxels


def influence_difference(
    first: BlockStatistics, second: BlockStatistics, test: HeldOutResponses, protocol: Protocol
) -> RoiEstimates:
    """H of the first minus H of the second row, block by block, by ROI and over ROIs."""
    a, b = (roi_influence(table, protocol.score) for table in (first, second))
    estimator = f"paired difference of H, blocks of {protocol.score.inference_block_trs} test images, t"
    overall, by_roi = summarise(
        {roi: a[roi] - b[roi] for roi in a}, test.scored, estimator, "H", protocol.score.confidence
    )
    return with_overall(overall, by_roi)


def retrieval_estimates(decoded: FloatArray, truth: FloatArray, protocol: Protocol) -> dict[str, Estimate]:
    """How well the true caption is found among those of all test images.

    ``retrieval`` is ``2 (normalised rank - .5)``: 0 by chance, 1 when the true caption is always first. ``top1`` and so on
    depend on the number of candidates, which the estimator says. Images are independent: intervals are over images.
    """
    table = similarity_table(decoded, truth, "correlation") if decoded.any() else np.zeros((len(truth), len(truth)))
    among = f"candidate rank among {len(truth)} test images, correlation, ties count half"
    found = {"retrieval": mean_estimate(2 * (normalised_ranks(table) - 0.5), f"2 (normalised {among} - .5), t", "rank")}
    for k in protocol.captions.retrieval_k:
        estimator = f"share of test images whose caption is among the first {k} of {len(truth)}, t"
        found[f"top{k}"] = mean_estimate(top_k(table, k), estimator, "share")
    return found


def layer_profiles(
    encoding: CaptionEncoding,
    layers: Sequence[BlockStatistics],
    test: HeldOutResponses,
    protocol: Protocol,
) -> dict[str, LayerProfile]:
    """The profile of each scored ROI: inner score and, never used to choose, the test score of every layer."""
    estimator = f"H_u of one layer, blocks of {protocol.score.inference_block_trs} test images, t"
    tested = [
        summarise(
            roi_influence(table, protocol.score), test.scored, estimator, UNITS[test.kind], protocol.score.confidence
        )[1]
        for table in layers
    ]
    return {
        roi: LayerProfile(
            chosen=(encoding.chosen["unique"][roi],),
            inner=tuple(encoding.inner["unique"][roi]),
            test=tuple(layer[roi] for layer in tested),
        )
        for roi in test.scored
    }


def voxel_ceilings(responses: ImageResponses) -> Float32Array:
    """(n_voxels,) noise ceiling of each voxel in r for the mean of all repeats, from the ratio of Allen et al. 2022.

    The published ratio where there is one, else that of the test images. It has no interval and is for pictures: scores rest on
    pooled signal power.
    """
    ratio = responses.ncsnr if responses.ncsnr is not None else ncsnr(responses.test.transpose(1, 0, 2))[0]
    ceiling = np.sqrt(ncsnr_noise_ceiling(np.asarray(ratio, dtype=np.float64), responses.n_repeats))
    return ceiling.astype(np.float32)


def record_arrays(
    stats: Mapping[str, BlockStatistics],
    test: HeldOutResponses,
    voxels: Mapping[str, Float32Array],
    ceilings: Float32Array,
) -> Arrays:
    """What a record ships so that anyone can score again: block tables by row, r and ceiling by voxel."""
    first = stats["unique"]
    arrays: Arrays = {
        "rois": np.array(test.scored),
        "block_segment": first.block_segment,
        "block_trs": np.array(first.block_trs),
        "voxel_roi": test.rois,
        "voxel_ceiling": ceilings,
    }
    for row, table in stats.items():
        arrays[f"stats__{row}"] = np.stack([table.c, table.q, table.s], axis=-1)  # (n_blocks, n_rois, 3)
    for row, r in voxels.items():
        arrays[f"voxel_r__{row}"] = r
    return arrays
