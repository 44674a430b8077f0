# SPDX-License-Identifier: Apache-2.0
"""Encoding of one subject's responses to images by one model: every layer, raw and beyond the control floor."""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray

from voxelboard.benchmark.encoding.designs import Problem, primal_problem
from voxelboard.benchmark.encoding.fractional import fit_fractional
from voxelboard.benchmark.encoding.residual import confound_basis, project_out, residualise
from voxelboard.benchmark.encoding.ridge import RidgeFit, fit_ridge
from voxelboard.benchmark.encoding.selection import Scope
from voxelboard.benchmark.features.caption_confounds import image_confounds
from voxelboard.benchmark.features.caption_embeddings import ImageEmbeddings
from voxelboard.benchmark.protocol import Protocol
from voxelboard.benchmark.readers.captions_data import ImageResponses
from voxelboard.benchmark.stimuli.captions import CaptionedImages, IntArray
from voxelboard.benchmark.tasks.fit_checks import EdgeCount, edge_count

FloatArray = NDArray[np.float64]
Float32Array = NDArray[np.float32]

NOISE_BRAIN = "noise brain"  # label of the voxels of noise that every fit carries along
ROWS = ("raw", "unique")


@dataclass(frozen=True, eq=False)
class PreparedSubject:
    """One subject, ready to be encoded. The last voxels are noise.

    Attributes
    ----------
    train_rows, test_rows : rows of the images and of all embeddings.
    targets : (n_train, n_voxels + n_noise) mean responses, centred; rois : (n_voxels + n_noise,) labels.
    folds : (n_train,) inner fold of each training image, contiguous blocks.
    test : (n_repeats, n_test, n_voxels + n_noise).
    confounds_train, confounds_test : the control floor; floor : (n_test, n_voxels + n_noise) its predictions.
    basis : (n_test, k) orthonormal: what is projected out of unique predictions.
    """

    responses: ImageResponses
    train_rows: IntArray
    test_rows: IntArray
    targets: Float32Array
    rois: NDArray[np.str_]
    folds: NDArray[np.intp]
    test: Float32Array
    confounds_train: FloatArray
    confounds_test: FloatArray
    floor: Float32Array
    basis: FloatArray

    @property
    def n_voxels(self) -> int:
        return self.responses.n_voxels


def prepare_subject(
    responses: ImageResponses, images: CaptionedImages, protocol: Protocol, device: torch.device, limit: int | None
) -> PreparedSubject:
    """Centre, add voxels of noise, deal the folds and fit the control floor. ``limit`` takes the first training images."""
    policy = protocol.captions
    train_ids = responses.train_ids[:limit]
    n_noise = protocol.score.noise_brain_voxels
    name = int.from_bytes(hashlib.sha256(responses.subject.encode()).digest()[:8], "little")
    rng = np.random.default_rng([protocol.seed, 61, name])
    train = np.concatenate(
        [responses.train[: len(train_ids)], rng.standard_normal((len(train_ids), n_noise), dtype=np.float32)], axis=1
    )
    shape = (responses.n_repeats, len(responses.test_ids), n_noise)
    test = np.concatenate([responses.test, rng.standard_normal(shape, dtype=np.float32)], axis=2)
    train_rows, test_rows = images.rows(train_ids), images.rows(responses.test_ids)
    confounds = image_confounds(images, train_rows, test_rows, policy)
    folds = np.arange(len(train_ids)) * protocol.encoding.n_inner_folds // len(train_ids)
    targets = train - train.mean(axis=0, dtype=np.float64).astype(np.float32)
    floor = _fit(primal_problem(confounds[0], confounds[1], device), targets, folds, protocol)
    return PreparedSubject(
        responses,
        train_rows,
        test_rows,
        targets,
        np.concatenate([responses.rois, np.repeat(NOISE_BRAIN, n_noise)]),
        folds.astype(np.intp),
        test,
        *confounds,
        floor.test_predictions,
        # every image a segment of its own: images have no order, so confounds have no derivatives
        confound_basis(confounds[1], [1] * len(test_rows), policy.max_projection_share),
    )


@dataclass(eq=False)
class CaptionEncoding:
    """Predictions of one model for one subject.

    Attributes
    ----------
    predictions : row -> (n_test, n_voxels + n_noise) of the layers chosen by ROI; rows raw, unique, joint.
    chosen : row -> ROI -> layer; inner : row -> ROI -> (n_layers,) pooled inner correlation.
    overall : the layer with the greatest raw inner correlation, mean over the scored ROIs.
    sd_ratios, edge_shares, reliable_edges : one a layer.
    """

    predictions: dict[str, Float32Array]
    chosen: dict[str, dict[str, int]] = field(default_factory=lambda: {row: {} for row in ROWS})
    inner: dict[str, dict[str, list[float]]] = field(default_factory=lambda: {row: {} for row in ROWS})
    overall: int = 0
    sd_ratios: list[float] = field(default_factory=list)
    edge_shares: list[float] = field(default_factory=list)
    reliable_edges: list[EdgeCount] = field(default_factory=list)


# Called for every layer with (layer, unique predictions of the test images).
LayerSink = Callable[[int, Float32Array], None]


def encode_captions(
    embeddings: ImageEmbeddings,
    subject: PreparedSubject,
    scored_rois: tuple[str, ...],
    protocol: Protocol,
    device: torch.device,
    each_layer: LayerSink | None = None,
) -> CaptionEncoding:
    """Fit all layers, raw and beyond the floor; the layer of a ROI is the best on left-out training images."""
    shape = (len(subject.test_rows), len(subject.rois))
    result = CaptionEncoding({row: np.zeros(shape, dtype=np.float32) for row in (*ROWS, "joint")})
    for layer in range(embeddings.n_layers):
        table = embeddings.layer(layer)
        problem = image_problem(table[subject.train_rows], table[subject.test_rows], device)
        raw = _fit(problem, subject.targets, subject.folds, protocol)
        residual = residualise(
            problem,
            subject.confounds_train,
            subject.confounds_test,
            subject.folds,
            protocol.captions.relative_lambdas,
        )
        unique = _fit(residual.problem, subject.targets, subject.folds, protocol)
        projected = project_out(unique.test_predictions, subject.basis)
        _offer(result, "raw", layer, raw, {"raw": raw.test_predictions}, subject.rois)
        candidates = {"unique": projected, "joint": subject.floor + unique.test_predictions}
        _offer(result, "unique", layer, unique, candidates, subject.rois)
        result.sd_ratios.append(residual.sd_ratio)
        result.edge_shares.append(float(raw.at_grid_edge[: subject.n_voxels].mean()))
        result.reliable_edges.append(edge_count(raw, slice(subject.n_voxels)))
        if each_layer is not None:
            each_layer(layer, projected)
    means = np.mean([result.inner["raw"][roi] for roi in scored_rois], axis=0)
    result.overall = int(means.argmax())
    return result


def _offer(
    result: CaptionEncoding,
    row: str,
    layer: int,
    fit: RidgeFit,
    candidates: dict[str, Float32Array],
    rois: NDArray[np.str_],
) -> None:
    """Keep the predictions of a layer where it is the best so far; ties keep the first."""
    c, q, y2 = (table.sum(axis=0) for table in (fit.inner.c, fit.inner.q, fit.inner.y2))
    for roi in dict.fromkeys(rois.tolist()):
        voxels = rois == roi
        power = float(q[voxels].sum() * y2[voxels].sum())
        score = float(c[voxels].sum() / np.sqrt(power)) if power > 0 else 0.0
        seen = result.inner[row].setdefault(roi, [])
        if not seen or score > max(seen):
            result.chosen[row][roi] = layer
            for name, values in candidates.items():
                result.predictions[name][:, voxels] = values[:, voxels]
        seen.append(score)


def image_problem(train: NDArray[np.floating], test: NDArray[np.floating], device: torch.device) -> Problem:
    """A regression on features of images, standardised by the training images, in the smaller form."""
    scaled_train, scaled_test = standardise(train, test)
    problem = primal_problem(scaled_train, scaled_test, device)
    return problem if 2 * scaled_train.shape[1] <= len(train) else problem.to_dual()


def standardise(train: NDArray[np.floating], *others: NDArray[np.floating]) -> tuple[FloatArray, ...]:
    """All tables in units of the training rows' mean and SD; columns that training rows do not vary in are dropped."""
    values = np.asarray(train, dtype=np.float64)
    mean, sd = values.mean(axis=0), values.std(axis=0)
    kept = sd > 1e-8 * sd.max(initial=0.0)
    return tuple((np.asarray(table, dtype=np.float64)[:, kept] - mean[kept]) / sd[kept] for table in (train, *others))


def fit_layer(
    train: NDArray[np.floating],
    test: NDArray[np.floating],
    subject: PreparedSubject,
    protocol: Protocol,
    device: torch.device,
) -> Float32Array:
    """(n_rows, n_voxels + n_noise) predictions of one table of features, for a control or for sentences."""
    return _fit(image_problem(train, test, device), subject.targets, subject.folds, protocol).test_predictions


def fit_layer_fractional(
    train: NDArray[np.floating],
    test: NDArray[np.floating],
    subject: PreparedSubject,
    scope: Scope,
    protocol: Protocol,
    device: torch.device,
) -> Float32Array:
    """As :func:`fit_layer`, by fractional ridge: one fraction a voxel ("target") or one for all ("global").

    The published analysis takes one fraction for all voxels.
    """
    problem = image_problem(train, test, device)
    fractions = protocol.captions.fractions
    return fit_fractional(problem, subject.targets, subject.folds, fractions, scope=scope).test_predictions


def decode(
    embedding: Float32Array,
    subject: PreparedSubject,
    voxels: NDArray[np.bool_],
    protocol: Protocol,
    device: torch.device,
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """From responses to embeddings: predicted and true (n_test, n_features), standardised, and the training table.

    Parameters
    ----------
    embedding : (n_images, n_features) of all images; voxels : (n_voxels + n_noise,) which to decode from.
    """
    train, test = standardise(embedding[subject.train_rows], embedding[subject.test_rows])
    problem = image_problem(subject.targets[:, voxels], subject.test[:, :, voxels].mean(axis=0), device)
    fit = _fit(problem, train.astype(np.float32), subject.folds, protocol)
    return fit.test_predictions.astype(np.float64), test, train


def _fit(problem: Problem, targets: Float32Array, folds: NDArray[np.integer], protocol: Protocol) -> RidgeFit:
    policy = protocol.encoding
    return fit_ridge(problem, targets, folds, policy.relative_alphas, selection=policy.alpha_selection)
