# SPDX-License-Identifier: Apache-2.0
"""How alike the geometries of a model and of a brain region are, raw and corrected for noise.

Raw: mean over disjoint sets of images of Pearson's r between the upper triangles. Noise-corrected: the score of
statistics.md 2.2 on RDM entries, each set a block. Distances are then taken across repeats (unbiased by noise, A7) and
the signal power of a region is what its RDM shares with the mean RDM of the other subjects, so the ceiling kind is
inter-subject and never in one column with scores whose ceiling is from repeats (B7).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import stats as distributions

from voxelboard.benchmark.errors import DataError
from voxelboard.benchmark.similarity.rdms import (
    IntArray,
    correlation_distances,
    rdm_correlations,
    unit_rdms,
)
from voxelboard.benchmark.statistics.geometry import crossvalidated_distances
from voxelboard.benchmark.statistics.scores import BlockStatistics, FloatArray, concatenate, segment_statistics


@dataclass(frozen=True, eq=False)
class RoiRdms:
    """The RDMs of the regions of one subject on its image sets.

    rois : names; rdms : (n_rois, n_sets, n_pairs).
    """

    rois: tuple[str, ...]
    rdms: FloatArray


def roi_rdms(patterns: NDArray[Any], rois: NDArray[np.str_], wanted: Sequence[str], sets: IntArray) -> RoiRdms:
    """``1 - r`` RDMs of regions from responses averaged over repeats.

    Parameters
    ----------
    patterns : (n_images, n_voxels); rois : (n_voxels,) labels; sets : (n_sets, set_size) rows of ``patterns``.
    """
    rdms = []
    for roi in wanted:
        voxels = np.flatnonzero(rois == roi)
        if len(voxels) < 2:
            raise DataError(f"region {roi!r} has {len(voxels)} voxels; an RDM of correlations needs two or more")
        rdms.append(np.stack([correlation_distances(patterns[np.ix_(rows, voxels)]) for rows in sets]))
    return RoiRdms(tuple(wanted), np.stack(rdms))


def crossvalidated_roi_rdms(
    repeats: NDArray[Any], rois: NDArray[np.str_], wanted: Sequence[str], sets: IntArray
) -> RoiRdms:
    """Unbiased squared distances across repeats, for the noise-corrected score.

    Parameters
    ----------
    repeats : (n_repeats, n_images, n_voxels), two or more repeats.
    """
    rdms = [
        np.stack([crossvalidated_distances(repeats[:, rows][:, :, np.flatnonzero(rois == roi)]) for rows in sets])
        for roi in wanted
    ]
    return RoiRdms(tuple(wanted), np.stack(rdms))


def set_correlations(model: FloatArray, brain: RoiRdms) -> FloatArray:
    """(n_rois, n_sets) Pearson's r of a model's RDMs (n_sets, n_pairs) with those of each region."""
    return rdm_correlations(np.broadcast_to(model, brain.rdms.shape), brain.rdms)


def best_of_layers(layers: FloatArray, brain: RoiRdms, selection: NDArray[np.bool_]) -> NDArray[np.intp]:
    """(n_rois,) the layer with the greatest mean correlation on the sets that ``selection`` (n_sets,) names.

    Sets that chose a layer must not score it: pass those of the training images.

    Parameters
    ----------
    layers : (n_layers, n_sets, n_pairs).
    """
    found = np.stack([set_correlations(layer, brain)[:, selection].mean(axis=1) for layer in layers])
    return np.asarray(found.argmax(axis=0))


def rdm_statistics(model: FloatArray, own: RoiRdms, others: FloatArray) -> BlockStatistics:
    """Block statistics of RDM entries: one block a set, one unit a region.

    Parameters
    ----------
    model : (n_sets, n_pairs) or (n_rois, n_sets, n_pairs) dissimilarities; they must be squared distances where the
        brain's are, up to a constant factor, for a score of 1 to be reachable.
    own : cross-validated RDMs of the subject.
    others : (n_rois, n_sets, n_pairs) mean of the other subjects' cross-validated RDMs of the same images.
    """
    predictions = np.broadcast_to(model, own.rdms.shape)
    n_pairs = own.rdms.shape[2]
    parts = [
        segment_statistics(
            unit_rdms(predictions[:, i]).T,
            own.rdms[None, :, i].transpose(0, 2, 1),
            kind="inter_subject",
            others=others[:, i].T,
            block_trs=n_pairs,
        )
        for i in range(own.rdms.shape[1])
    ]
    return concatenate(parts)


def mean_of_others(rdms: Mapping[str, RoiRdms], subject: str) -> FloatArray:
    """(n_rois, n_sets, n_pairs) mean RDM of all other subjects; raises DataError for a subject that is alone."""
    rest = [item.rdms for name, item in rdms.items() if name != subject]
    if not rest:
        raise DataError(
            f"{subject} is alone: a ceiling from other subjects needs one more", "score two subjects or more"
        )
    mean: FloatArray = np.mean(rest, axis=0)
    return mean


@dataclass(frozen=True, eq=False)
class GroupTest:
    """A mean over subjects against zero, map by map.

    mean, t, p : (n_maps,); p two-sided. n_subjects behind each.
    """

    mean: FloatArray
    t: FloatArray
    p: FloatArray
    n_subjects: int


def group_test(values: NDArray[Any]) -> GroupTest:
    """Two-sided one-sample t test over subjects of each column of (n_subjects, n_maps).

    The stimuli are those that were shown: unlike an interval over subjects and stimuli it says nothing of other images.
    A difference of two models, subject by subject, makes it the paired test (an unpaired one throws the pairing away).
    Columns without variance have p = 1 when their mean is 0 and the smallest p otherwise.
    """
    table = np.asarray(values, dtype=np.float64)
    if table.ndim != 2 or len(table) < 2:
        raise DataError(f"values {table.shape}: a group test needs (n_subjects, n_maps) of two or more subjects")
    n = len(table)
    mean, error = table.mean(axis=0), table.std(axis=0, ddof=1) / np.sqrt(n)
    alive = error > 1e-12 * np.abs(table).max(initial=1e-300)
    t = np.where(alive, mean / np.where(alive, error, 1.0), np.where(mean == 0, 0.0, np.sign(mean) * 1e12))
    p = np.maximum(2 * distributions.t.sf(np.abs(t), n - 1), np.finfo(np.float64).tiny)
    return GroupTest(mean, t, p, n)
