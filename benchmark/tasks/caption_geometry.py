# SPDX-License-Identifier: Apache-2.0
"""RSA of the task captions: on sets of 100 images as published, and corrected for noise on the test images."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from voxelboard.benchmark.errors import DataError
from voxelboard.benchmark.features.caption_confounds import floor_rdms
from voxelboard.benchmark.features.caption_embeddings import ImageEmbeddings
from voxelboard.benchmark.protocol import CaptionsPolicy, Protocol
from voxelboard.benchmark.readers.captions_data import CaptionsData, ImageResponses
from voxelboard.benchmark.records import Estimate
from voxelboard.benchmark.similarity.rdms import (
    ImageSets,
    correlation_distances,
    draw_image_sets,
    rdm_correlations,
    residual_rdms,
)
from voxelboard.benchmark.similarity.rsa import (
    RoiRdms,
    crossvalidated_roi_rdms,
    mean_of_others,
    rdm_statistics,
    roi_rdms,
    set_correlations,
)
from voxelboard.benchmark.statistics.gates import signal_gate
from voxelboard.benchmark.statistics.influence import unit_influence
from voxelboard.benchmark.statistics.intervals import jackknife_interval, single_subject_interval
from voxelboard.benchmark.statistics.scores import BlockStatistics
from voxelboard.benchmark.stimuli.captions import CaptionedImages, IntArray
from voxelboard.benchmark.tasks.scoring import missing, summarise, to_estimate

FloatArray = NDArray[np.float64]
# ROI -> the estimate; None is the mean over the scored ROIs.
RoiEstimates = dict[str | None, Estimate]


@dataclass(frozen=True, eq=False)
class SubjectGeometry:
    """The RDMs of one subject, the same for every model.

    Attributes
    ----------
    sets : disjoint sets of 100 images, training and test images apart; trained : (n_sets,) True for those of training.
    set_rows : (n_sets, set_size) rows of the embeddings.
    brain : ``1 - r`` RDMs of each ROI on the sets.
    """

    sets: ImageSets
    trained: NDArray[np.bool_]
    set_rows: IntArray
    brain: RoiRdms


def subject_geometry(
    responses: ImageResponses, images: CaptionedImages, scored_rois: Sequence[str], protocol: Protocol
) -> SubjectGeometry:
    """Draw the sets of a subject (always the same ones) and make its RDMs.

    Raises
    ------
    DataError
        for fewer training images than one set.
    """
    size = protocol.captions.set_size
    train = draw_image_sets(responses.train_ids, responses.subject, seed=protocol.seed, set_size=size)
    ids, trained = train.ids, np.ones(len(train.ids), dtype=bool)
    if len(responses.test_ids) >= size:
        test = draw_image_sets(responses.test_ids, responses.subject, seed=protocol.seed, set_size=size)
        ids = np.concatenate([ids, test.ids])
        trained = np.concatenate([trained, np.zeros(len(test.ids), dtype=bool)])
    sets = ImageSets(responses.subject, ids, protocol.seed)
    patterns = np.concatenate([responses.train, responses.test_mean])
    rows = sets.rows(np.concatenate([responses.train_ids, responses.test_ids]))
    brain = roi_rdms(patterns, responses.rois, scored_rois, rows)
    return SubjectGeometry(sets, trained, images.rows(ids.ravel()).reshape(ids.shape), brain)


@dataclass(frozen=True, eq=False)
class SharedGeometry:
    """The RDMs of all subjects on blocks of the shared test images.

    rdms : subject -> cross-validated RDMs; noisy : subject -> ``1 - r`` RDMs of the mean responses, as published; block_rows : (n_blocks, block_size) rows of the embeddings; floor :
    (n_floor, n_blocks, n_pairs).
    """

    rdms: Mapping[str, RoiRdms]
    noisy: Mapping[str, RoiRdms]
    block_rows: IntArray
    floor: FloatArray


def shared_geometry(data: CaptionsData, policy: CaptionsPolicy) -> SharedGeometry:
    """Read the test responses of every subject once: a subject's ceiling is what it shares with the others."""
    size = policy.rdm_block_images
    n_blocks = len(data.test_ids) // size
    blocks = np.arange(n_blocks * size).reshape(n_blocks, size)  # test ids are a random sample: contiguous is random
    rdms, noisy = {}, {}
    for subject in data.subjects:
        responses = data.responses(subject)
        if not np.array_equal(responses.test_ids, data.test_ids):
            raise DataError(f"{data.name}: {subject} has other test images than the data set says")
        rdms[subject] = crossvalidated_roi_rdms(responses.test, responses.rois, data.scored_rois, blocks)
        noisy[subject] = roi_rdms(responses.test_mean, responses.rois, data.scored_rois, blocks)
    rows = data.images.rows(data.test_ids)[blocks]
    return SharedGeometry(rdms, noisy, rows, floor_rdms(data.images, rows))


@dataclass(frozen=True, eq=False)
class Rsa:
    """RSA of one model with one subject.

    Attributes
    ----------
    by_set : (n_rois, n_sets) raw r, each set at the layer that the other training sets choose.
    layers : (n_rois,) the layer that all training sets choose.
    raw, unique, floor : block statistics of the noise-corrected scores on the test images; None for a subject alone.
    published : (2, n_rois, n_blocks) r of the model's and of the other subjects' mean RDM with the subject's noisy one.
    """

    by_set: FloatArray
    layers: NDArray[np.intp]
    raw: BlockStatistics | None
    unique: BlockStatistics | None
    floor: BlockStatistics | None
    published: FloatArray | None


def model_rsa(embeddings: ImageEmbeddings, own: SubjectGeometry, shared: SharedGeometry) -> Rsa:
    """Compare a model's geometry in every layer with a subject's; layers are chosen on training images."""
    found, tested = [], []
    for layer in range(embeddings.n_layers):
        table = embeddings.layer(layer)
        found.append(set_correlations(embedding_rdms(table, own.set_rows), own.brain))
        tested.append(embedding_rdms(table, shared.block_rows))
    r = np.stack(found)  # (n_layers, n_rois, n_sets)
    layers = r[:, :, own.trained].mean(axis=2).argmax(axis=0)
    by_set = np.stack([_at_layer_of_others(r, own.trained, i) for i in range(r.shape[2])], axis=1)
    on_blocks = np.stack(tested)
    statistics = _block_statistics(on_blocks, layers, own.sets.subject, shared)
    return Rsa(by_set, layers, *statistics, _published(on_blocks[layers], own.sets.subject, shared))


def _at_layer_of_others(r: FloatArray, trained: NDArray[np.bool_], number: int) -> FloatArray:
    """(n_rois,) r of one set, at the layer that the training sets without it choose."""
    others = trained.copy()
    others[number] = False
    chosen = r[:, :, others].mean(axis=2).argmax(axis=0) if others.any() else np.full(r.shape[1], r.shape[0] - 1)
    return np.asarray(r[chosen, np.arange(r.shape[1]), number])


def _block_statistics(
    layers: FloatArray, chosen: NDArray[np.intp], subject: str, shared: SharedGeometry
) -> tuple[BlockStatistics | None, BlockStatistics | None, BlockStatistics | None]:
    """Raw, unique and floor, at the chosen layer of each ROI; ``layers`` (n_layers, n_blocks, n_pairs)."""
    if len(shared.rdms) < 2:
        return None, None, None
    own, others = shared.rdms[subject], mean_of_others(shared.rdms, subject)
    raw = layers[chosen]  # (n_rois, n_blocks, n_pairs)
    unique = np.stack([residual_rdms(rdm, shared.floor) for rdm in raw])
    scale = shared.floor.std(axis=(1, 2), keepdims=True)
    together = (shared.floor / np.where(scale > 0, scale, 1.0)).sum(axis=0)
    return tuple(rdm_statistics(rdm, own, others) for rdm in (raw, unique, together))  # type: ignore[return-value]


def _published(model: FloatArray, subject: str, shared: SharedGeometry) -> FloatArray | None:
    """Of the model (n_rois, n_blocks, n_pairs) and of the other subjects: Doerig et al. 2025 divide the first by the second."""
    if len(shared.noisy) < 2:
        return None
    own, others = shared.noisy[subject].rdms, mean_of_others(shared.noisy, subject)
    return np.stack([rdm_correlations(model, own), rdm_correlations(others, own)])


def embedding_rdms(table: NDArray[np.floating], sets: IntArray) -> FloatArray:
    """(n_sets, n_pairs) ``1 - r`` of embeddings; squared distances where one of them is constant over its features."""
    values = np.asarray(table, dtype=np.float64)
    used = values[np.unique(sets)]
    if values.shape[1] < 2 or (np.ptp(used, axis=1) <= 1e-10 * np.abs(used).max(axis=1)).any():
        # a constant embedding has no correlation: squared distances are defined for all
        return np.stack([_squared(values[rows]) for rows in sets])
    return np.stack([correlation_distances(values[rows]) for rows in sets])


def _squared(values: FloatArray) -> FloatArray:
    rows, columns = np.triu_indices(len(values), k=1)
    power = (values**2).sum(axis=1)
    square: FloatArray = (power[:, None] + power[None, :] - 2 * values @ values.T)[rows, columns]
    return square


def rsa_estimates(rsa: Rsa, rois: Sequence[str], protocol: Protocol) -> dict[str, RoiEstimates]:
    """``rsa_r`` over sets; ``rsa``, ``rsa_unique``, ``rsa_floor`` in units of H; the published ceiling and corrected r.

    Each by ROI and over ROIs.
    """
    estimates = {"rsa_r": set_estimates(rsa.by_set, rois, "mean RSA r over disjoint sets of images, t")}
    estimates |= _published_estimates(rsa.published, rois, protocol)
    size = protocol.captions.rdm_block_images
    for name, table in (("rsa", rsa.raw), ("rsa_unique", rsa.unique), ("rsa_floor", rsa.floor)):
        estimator = f"H of RDM entries, inter-subject, blocks of {size} test images, t"
        if table is None or len(table.c) < 2:
            few = f"fewer than {2 * size} test images: two blocks are needed for an interval"
            reason = "this data set has one subject" if table is None else few
            estimates[name] = dict.fromkeys((None, *rois), missing(estimator, "H", reason))
            continue
        passed = np.flatnonzero(signal_gate(table, protocol.score.gate_standard_errors))
        influence = {int(roi): unit_influence(_only(table, int(roi)))[:, 0] for roi in passed}
        overall, by_roi = summarise(influence, rois, estimator, "H", protocol.score.confidence)
        estimates[name] = with_overall(overall, by_roi)
    return estimates


def _published_estimates(
    published: FloatArray | None, rois: Sequence[str], protocol: Protocol
) -> dict[str, RoiEstimates]:
    """``rsa_ceiling``: r of a subject's RDM with the mean of the others'; ``rsa_corrected``: the model's r over it."""
    blocks = f"blocks of {protocol.captions.rdm_block_images} test images"
    names = {
        "rsa_ceiling": f"r of the noisy RDM with the mean of the other subjects', {blocks}, t",
        "rsa_corrected": f"r of the model over that of the other subjects, {blocks}, jackknife",
    }
    if published is None:
        alone = "this data set has one subject"
        return {n: dict.fromkeys((None, *rois), missing(text, "r", alone)) for n, text in names.items()}
    ceiling = set_estimates(published[1], rois, names["rsa_ceiling"])
    totals = published.sum(axis=2)
    left_out = totals[..., None] - published  # (2, n_rois, n_blocks)
    corrected: RoiEstimates = {}
    passed = [(ceiling[roi].low or 0.0) > 0 for roi in rois]
    for number, roi in enumerate(rois):
        corrected[roi] = _ratio(totals[:, [number]], left_out[:, [number]], [passed[number]], names["rsa_corrected"])
    return {
        "rsa_ceiling": ceiling,
        "rsa_corrected": {None: _ratio(totals, left_out, passed, names["rsa_corrected"]), **corrected},
    }


def _ratio(totals: FloatArray, left_out: FloatArray, passed: Sequence[bool], estimator: str) -> Estimate:
    """Mean over regions (2, n_rois) of the first over the second, with a jackknife; regions without a ceiling are left out."""
    kept = np.flatnonzero(passed)
    if not len(kept) or (left_out[1, kept] <= 0).any():
        return missing(estimator, "r", "the ceiling is not reliably above 0")
    estimate = float((totals[0, kept] / totals[1, kept]).mean())
    draws = (left_out[0, kept] / left_out[1, kept]).mean(axis=0)
    return to_estimate(jackknife_interval(estimate, draws, estimator), estimator, "r")


def with_overall(overall: Estimate, by_roi: Mapping[str, Estimate]) -> RoiEstimates:
    """Both in one: None is the mean over ROIs."""
    together: RoiEstimates = {None: overall}
    together.update(by_roi)
    return together


def _only(table: BlockStatistics, roi: int) -> BlockStatistics:
    columns = [roi]
    return BlockStatistics(
        table.c[:, columns], table.q[:, columns], table.s[:, columns], table.block_segment, table.block_trs
    )


def set_estimates(by_set: FloatArray, rois: Sequence[str], estimator: str) -> RoiEstimates:
    """Means over sets (n_rois, n_sets) with their intervals, by ROI and over ROIs (None)."""
    estimates: RoiEstimates = {None: mean_estimate(by_set.mean(axis=0), estimator, "r")}
    estimates.update({roi: mean_estimate(row, estimator, "r") for roi, row in zip(rois, by_set, strict=True)})
    return estimates


def mean_estimate(values: FloatArray, estimator: str, unit: str) -> Estimate:
    """The mean of independent values with its t interval; missing for fewer than two."""
    if len(values) < 2:
        return missing(estimator, unit, f"{len(values)} set of images has no interval: more images are needed")
    return to_estimate(single_subject_interval(np.asarray(values, dtype=np.float64)), estimator, unit)
