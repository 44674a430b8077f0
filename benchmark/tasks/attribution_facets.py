# SPDX-License-Identifier: Apache-2.0
"""Scores of attribution methods as facets of a record: by method, by layer, and layers against regions.

Axes: ``method`` (one a method, ``unique``, ``normalised``, ``unique_fve``, ``versus_activations`` and its raw form),
``<method> layer`` (``unique`` of each layer), ``hierarchy`` (one a method with layers).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from voxelboard.benchmark.protocol import Protocol, ScorePolicy
from voxelboard.benchmark.readers.base import RoiOrder
from voxelboard.benchmark.records import Estimate, Facet
from voxelboard.benchmark.statistics.bootstrap import block_weights
from voxelboard.benchmark.statistics.hierarchy import (
    DrawInterval,
    InnerProducts,
    depth_of_regions,
    layer_correlation,
    order_correlation,
    preferred_layers,
)
from voxelboard.benchmark.statistics.scores import BlockStatistics, FloatArray, coarsen
from voxelboard.benchmark.tasks.cells import unique_fve_influence
from voxelboard.benchmark.tasks.scoring import (
    UNITS,
    HeldOutResponses,
    by_roi,
    missing,
    only_units,
    roi_influence,
    roi_statistics,
    summarise,
)

Influence = Mapping[int, FloatArray]  # ROI number -> (n_blocks,) influence values
Folds = Sequence[NDArray[np.float32]]  # one (n_test_rows, n_voxels) array a fold
ByRoi = tuple[Estimate | None, dict[str, Estimate]]  # overall, and each ROI; either may be left out


@dataclass(frozen=True, eq=False)
class MethodScores:
    """Influence values of one method for one subject, and ``table`` (n_blocks, n_rois, 3), its unique c, q and s."""

    unique: Influence
    raw: Influence
    fve: Influence
    table: NDArray[np.float64]


def score_method(predictions: Mapping[str, Folds], test: HeldOutResponses, policy: ScorePolicy) -> MethodScores:
    """Score the rows raw, unique, joint and floor of one subject."""
    unique, raw = (roi_statistics(by_roi(predictions[row], test.rois), test, policy) for row in ("unique", "raw"))
    joint, floor = (roi_statistics(np.concatenate(predictions[row]), test, policy) for row in ("joint", "floor"))
    return MethodScores(
        roi_influence(unique, policy),
        roi_influence(raw, policy),
        unique_fve_influence(joint, floor, policy),
        np.stack([unique.c, unique.q, unique.s], axis=-1),
    )


def method_facets(
    method: str, own: MethodScores, activations: MethodScores, test: HeldOutResponses, policy: ScorePolicy
) -> list[Facet]:
    """What a method explains, and what it explains more than the activations of the same words, block by block."""
    blocks = f"{policy.inference_block_trs}-TR block influence, t"
    unit = UNITS[test.kind]

    def named(influence: Influence, what: str, unit: str = unit) -> ByRoi:
        return summarise(influence, test.scored, f"{what}, {blocks}", unit, policy.confidence)

    found = {
        "unique": named(own.unique, "H_u"),
        "normalised": named(own.raw, "H"),
        "unique_fve": named(own.fve, "explained fraction beyond the confounds", "FVE"),
    }
    if method != "activations":
        found["versus_activations"] = named(_minus(own.unique, activations.unique), "paired difference of H_u")
        found["versus_activations_raw"] = named(_minus(own.raw, activations.raw), "paired difference of H")
    return _facets("method", method, found, test)


def _minus(own: Influence, other: Influence) -> Influence:
    return {roi: own[roi] - other[roi] for roi in sorted(own.keys() & other.keys())}


def refused_facet(method: str, reason: str, policy: ScorePolicy) -> Facet:
    """No number, and why."""
    estimator = f"H_u, {policy.inference_block_trs}-TR block influence, t"
    return Facet(axis="method", value=method, scores={"unique": missing(estimator, "H", reason)})


def layer_facets(
    method: str, first_layer: int, layers: Sequence[BlockStatistics], test: HeldOutResponses, policy: ScorePolicy
) -> list[Facet]:
    """The score beyond confounds of every layer: shown, never used to choose."""
    estimator = f"H_u of one layer, {policy.inference_block_trs}-TR block influence, t"
    facets = []
    for layer, stats in enumerate(layers, start=first_layer):
        influence = roi_influence(stats, policy)
        found = {"unique": summarise(influence, test.scored, estimator, UNITS[test.kind], policy.confidence)}
        facets += _facets(f"{method} layer", str(layer), found, test)
    return facets


@dataclass(frozen=True, eq=False)
class HierarchyInputs:
    """What the hierarchy of one method and subject rests on.

    Attributes
    ----------
    layers : block statistics of every layer on the test data.
    preferred : the same where each voxel is predicted from its preferred layer.
    inner : inner cross-validation of every layer, voxel by voxel.
    magnitudes : None, or (n_layers,) attribution magnitude of each layer.
    """

    layers: Sequence[BlockStatistics]
    preferred: BlockStatistics
    inner: InnerProducts
    magnitudes: FloatArray | None


def hierarchy_facets(
    method: str, inputs: HierarchyInputs, test: HeldOutResponses, roi_order: RoiOrder, protocol: Protocol
) -> tuple[list[Facet], NDArray[np.int16]]:
    """Preferred depth of each region, its order, what the preference is worth on test data, and its magnitudes.

    Returns the facets of axis ``hierarchy`` and the map, (n_voxels,) preferred layer from 0, -1 without a preference.
    """
    policy, n_draws = protocol.score, protocol.attribution.n_draws
    depths = depth_of_regions(inputs.inner, test.rois, test.scored, n_draws, protocol.seed)
    bootstrap = f"bootstrap over {depths.n_inner} inner folds and voxels, percentile"
    what = f"mean preferred depth of voxels, inner cross-validation, {bootstrap}"
    by_roi_ = {
        roi: _drawn(depths.interval(roi, policy.confidence), what, "depth", "no layer predicts its voxels in training")
        for roi in test.scored
    }
    order = order_correlation(depths, roi_order, policy.confidence) if roi_order else None
    reason = "fewer than three regions have a preferred depth, or all the same"
    if not roi_order:
        reason = "the card of the data set gives no order of regions (roi_order)"
    ordered = _drawn(order, f"Spearman of preferred depth with the order of regions, {bootstrap}", "rho", reason)
    found: dict[str, ByRoi] = {
        "order": (ordered, {}),
        "preferred_depth": (None, by_roi_),
        "preference_gain": _preference_gain(inputs, test, policy),
    }
    if inputs.magnitudes is not None:
        found["magnitude"] = _magnitude_correlations(inputs.magnitudes, inputs.layers, test, protocol)
    return _facets("hierarchy", method, found, test), preferred_layers(inputs.inner).layer


def _preference_gain(inputs: HierarchyInputs, test: HeldOutResponses, policy: ScorePolicy) -> ByRoi:
    """H_u of each voxel's preferred layer minus the mean H_u over layers, paired over blocks: 0 without a preference."""
    preferred = roi_influence(inputs.preferred, policy)
    layers = [roi_influence(stats, policy) for stats in inputs.layers]
    gain = {roi: own - np.mean([layer[roi] for layer in layers], axis=0) for roi, own in preferred.items()}
    estimator = f"H_u of preferred layers - mean over layers, {policy.inference_block_trs}-TR block influence, t"
    return summarise(gain, test.scored, estimator, UNITS[test.kind], policy.confidence)


def _magnitude_correlations(
    magnitudes: FloatArray, layers: Sequence[BlockStatistics], test: HeldOutResponses, protocol: Protocol
) -> ByRoi:
    """Correlation over layers of attribution magnitude with H_u, blocks drawn again."""
    policy = protocol.score
    entering = sorted(roi_influence(layers[0], policy))
    coarse = [coarsen(stats, policy.inference_block_trs) for stats in layers]
    weights = block_weights(coarse[0].n_blocks, protocol.attribution.n_draws, seed=protocol.seed)
    estimator = "Pearson over layers of mean absolute conductance with H_u of activations, block bootstrap, percentile"
    reason = "fewer than three layers, or their scores do not differ"

    def correlate(units: Sequence[int]) -> Estimate:
        if not units:
            return missing(estimator, "r", "the signal power is not above its gate for this subject")
        picked = [only_units(stats, units) for stats in coarse]
        interval = layer_correlation(magnitudes, picked, weights, policy.confidence)
        return _drawn(interval, estimator, "r", reason)

    by_roi_ = {roi: correlate([i] if i in entering else []) for i, roi in enumerate(test.scored)}
    return correlate(entering), by_roi_


def _drawn(interval: DrawInterval | None, estimator: str, unit: str, reason: str) -> Estimate:
    if interval is None:
        return missing(estimator, unit, reason)
    return Estimate(
        estimate=interval.estimate,
        standard_error=interval.se,
        low=interval.low,
        high=interval.high,
        estimator=estimator,
        n=interval.n,
        unit=unit,
    )


def _facets(axis: str, value: str, found: Mapping[str, ByRoi], test: HeldOutResponses) -> list[Facet]:
    """One facet over all scored ROIs, then one each."""
    overall = {name: pair[0] for name, pair in found.items() if pair[0] is not None}
    facets = [Facet(axis=axis, value=value, scores=overall)]
    for roi in test.scored:
        scores = {name: pair[1][roi] for name, pair in found.items() if roi in pair[1]}
        facets.append(Facet(axis=axis, value=value, roi=roi, scores=scores))
    return facets
