# SPDX-License-Identifier: Apache-2.0
"""Variance partition in units of the explainable variance, unclipped and with block-based intervals.

Two measures that the literature often confuses. *Unique*: joint model minus the model refitted without a space (Dupre
la Tour et al. 2022 call for refits); what only that space explains. *Split*: how the joint prediction's own explained
variance divides among the bands; it gives shared variance to whichever band the ridge preferred and is not unique.
Neither is clipped: clipping makes every null contribution positive (statistics.md F1). A unique fraction near or below
0 does not say that a space holds nothing: with few training stories a weak real space costs more than it explains.
"""

from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import Any

import numpy as np
from numpy.typing import NDArray

from voxelboard.benchmark.errors import InvalidNumbers
from voxelboard.benchmark.statistics.influence import macro_explained_influence
from voxelboard.benchmark.statistics.intervals import Interval, Scope, single_subject_interval, two_way_interval
from voxelboard.benchmark.statistics.scores import (
    BlockStatistics,
    BoolArray,
    FloatArray,
    Scores,
    SignalKind,
    segment_statistics,
    unit_explained_fractions,
)


def unique_fractions(full: BlockStatistics, reduced: BlockStatistics) -> Scores:
    """Explained fraction of the joint model minus that of the model without a space, for each voxel or ROI."""
    _require_same_responses(full, reduced)
    joint, floor = unit_explained_fractions(full), unit_explained_fractions(reduced)
    return Scores(joint.values - floor.values, joint.defined)


def unique_influence(full: BlockStatistics, reduced: BlockStatistics, scored: BoolArray) -> FloatArray:
    """(n_blocks,) influence values of the mean unique fraction over the scored ROIs; their mean is the estimate."""
    _require_same_responses(full, reduced)
    return macro_explained_influence(full, scored) - macro_explained_influence(reduced, scored)


def unique_interval(
    full: Sequence[BlockStatistics],
    reduced: Sequence[BlockStatistics],
    scored: Sequence[BoolArray],
    *,
    scope: Scope | None = None,
    confidence: float = 0.95,
) -> Interval:
    """Mean unique fraction with its paired interval: over blocks for one subject, over subjects and blocks for more.

    Parameters
    ----------
    full, reduced : one per subject, ROIs as units, blocks of the inference length.
    scored : for each subject (n_rois,).
    """
    z = np.stack([unique_influence(f, r, m) for f, r, m in zip(full, reduced, scored, strict=True)])
    if len(z) == 1:
        return single_subject_interval(z[0], confidence=confidence)
    return two_way_interval(z, scope=scope, confidence=confidence)


def _require_same_responses(full: BlockStatistics, reduced: BlockStatistics) -> None:
    if full.s.shape != reduced.s.shape or not np.allclose(full.s, reduced.s, rtol=1e-6, atol=1e-9):
        raise InvalidNumbers("joint and reduced model were scored against different responses")


def split_statistics(
    band_predictions: Mapping[str, NDArray[Any]],
    responses: NDArray[Any],
    *,
    kind: SignalKind,
    block_trs: int = 5,
    others: NDArray[Any] | None = None,
) -> dict[str, BlockStatistics]:
    """Block statistics of the bands of one joint model, whose explained fractions add up to that of the whole.

    For band b with prediction ``p_b`` and the joint prediction ``p``: ``c = p_b y`` and ``q = p_b p``, so that
    ``(2c - q) / s`` is the split R^2 of himalaya. ``q`` is no variance here and may be negative: the noise-corrected
    score and its influence values do not apply to split statistics, explained fractions do.

    Parameters
    ----------
    band_predictions : band -> (n_trs, n_voxels); the joint prediction is their sum.
    responses, kind, block_trs, others : as for
        :func:`~voxelboard.benchmark.statistics.scores.segment_statistics`.
    """
    joint = np.sum([np.asarray(p, dtype=np.float64) for p in band_predictions.values()], axis=0)
    whole = segment_statistics(joint, responses, kind=kind, block_trs=block_trs, others=others)
    parts = {}
    for name, prediction in band_predictions.items():
        own = segment_statistics(prediction, responses, kind=kind, block_trs=block_trs, others=others)
        # p_b p = (p_b^2 + p^2 - (p - p_b)^2) / 2, so that blocks and centring are those of segment_statistics
        rest = segment_statistics(joint - prediction, responses, kind=kind, block_trs=block_trs, others=others)
        q = (own.q + whole.q - rest.q) / 2
        parts[name] = BlockStatistics(own.c, q, whole.s, whole.block_segment, block_trs)
    return parts


def commonality(explained: Mapping[frozenset[str], FloatArray]) -> dict[frozenset[str], FloatArray]:
    """All unique and shared parts of several spaces by inclusion and exclusion (Seibold & McPhee 1979).

    Linear, hence good for scores, maps and influence values alike: pass influence values (n_subjects, n_blocks) of every
    subset's model and each part gets its own interval.

    Parameters
    ----------
    explained : subset of spaces -> values of the model refitted on it, any one shape; all non-empty subsets.

    Returns
    -------
    Subset -> the part that exactly its spaces share (one space: its unique part). The parts add up to the joint model.
    """
    spaces = sorted(set().union(*explained))
    subsets = [frozenset(pick) for size in range(1, len(spaces) + 1) for pick in combinations(spaces, size)]
    missing = [sorted(subset) for subset in subsets if subset not in explained]
    if missing:
        raise ValueError(f"commonality needs a model of every subset of spaces; missing: {missing}")
    everything = frozenset(spaces)
    values = {frozenset[str](): np.zeros_like(explained[everything]), **explained}
    parts = {}
    for subset in subsets:
        inner = [frozenset(pick) for size in range(len(subset) + 1) for pick in combinations(sorted(subset), size)]
        terms = [(-1) ** (len(pick) + 1) * values[(everything - subset) | pick] for pick in inner]
        part: FloatArray = np.sum(terms, axis=0)
        parts[subset] = part
    return parts


def split_correlations(band_predictions: Mapping[str, NDArray[Any]], responses: NDArray[Any]) -> dict[str, FloatArray]:
    """How the joint correlation of each voxel divides among the bands of one model; the parts add up to it.

    ``sum p_b y / sqrt(sum p^2 sum y^2)`` with all series centred, himalaya's correlation split. Not unique: what bands share
    goes to whichever the ridge preferred.

    Parameters
    ----------
    band_predictions : band -> (n_trs, n_voxels); the joint prediction is their sum.
    responses : (n_trs, n_voxels).

    Returns
    -------
    band -> (n_voxels,), 0 where prediction or response is constant.
    """
    y = np.asarray(responses, dtype=np.float64)
    y = y - y.mean(axis=0)
    joint = np.sum([np.asarray(p, dtype=np.float64) for p in band_predictions.values()], axis=0)
    joint = joint - joint.mean(axis=0)
    power = (joint**2).sum(axis=0) * (y**2).sum(axis=0)
    norm = np.sqrt(np.where(power > 0, power, 1.0))
    return {
        name: np.where(power > 0, (np.asarray(p, dtype=np.float64) * y).sum(axis=0) / norm, 0.0)
        for name, p in band_predictions.items()
    }


def weight_components(weights: NDArray[Any], n_components: int) -> tuple[FloatArray, FloatArray]:
    """Principal components of the weights over voxels: along which features voxels differ in their tuning.

    Parameters
    ----------
    weights : (n_features, n_voxels), of the voxels that are predicted best.

    Returns
    -------
    (n_components, n_features) axes, each of unit length with its largest entry positive, and (n_components,) shares of the
    variance over voxels.
    """
    table = np.asarray(weights, dtype=np.float64).T
    table = table - table.mean(axis=0)
    _, singular, axes = np.linalg.svd(table, full_matrices=False)
    power = singular**2
    k = min(n_components, len(axes))
    largest = np.abs(axes[:k]).argmax(axis=1)
    signs = np.sign(axes[np.arange(k), largest])
    return axes[:k] * signs[:, None], power[:k] / (power.sum() if power.sum() > 0 else 1.0)
