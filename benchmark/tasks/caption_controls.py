# SPDX-License-Identifier: Apache-2.0
"""Controls and further analyses of the task captions: each is a part of a cell, with its difference to whole captions."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from voxelboard.benchmark.features.caption_embeddings import ImageEmbeddings, embed_images, embed_texts
from voxelboard.benchmark.features.store import FeatureStore
from voxelboard.benchmark.models.base import WordModel
from voxelboard.benchmark.models.baselines import Static
from voxelboard.benchmark.protocol import Protocol
from voxelboard.benchmark.readers.captions_data import CaptionsData, Float32Array
from voxelboard.benchmark.records import Estimate, Facet
from voxelboard.benchmark.similarity.contrasts import PROBES
from voxelboard.benchmark.similarity.rdms import rdm_correlations
from voxelboard.benchmark.similarity.rsa import set_correlations
from voxelboard.benchmark.statistics.scores import BlockStatistics
from voxelboard.benchmark.stimuli.caption_controls import TEXT_CONTROLS, control_texts, tag_captions
from voxelboard.benchmark.tasks.base import RunContext
from voxelboard.benchmark.tasks.caption_encoding import (
    CaptionEncoding,
    PreparedSubject,
    fit_layer,
    fit_layer_fractional,
)
from voxelboard.benchmark.tasks.caption_geometry import (
    RoiEstimates,
    SubjectGeometry,
    embedding_rdms,
    set_estimates,
    with_overall,
)
from voxelboard.benchmark.tasks.caption_scores import encoding_statistics, influence_difference
from voxelboard.benchmark.tasks.scoring import (
    HeldOutResponses,
    correlation_influence,
    roi_influence,
    summarise,
)

WHOLE = "whole caption"  # what the controls are set against, at the same layer


@dataclass(frozen=True, eq=False)
class Controls:
    """Embeddings of every control for all images: by layer for those that the model reads, else one table."""

    by_layer: Mapping[str, ImageEmbeddings]
    tables: Mapping[str, NDArray[np.floating]]

    @property
    def names(self) -> tuple[str, ...]:
        return (*self.by_layer, *self.tables)

    def table(self, name: str, layer: int) -> NDArray[np.floating]:
        """(n_images, n_features) of a control at a layer of the model."""
        return self.by_layer[name].layer(layer) if name in self.by_layer else self.tables[name]


def embed_controls(model: WordModel, data: CaptionsData, context: RunContext) -> Controls:
    """Let the model read all texts of all controls; word vectors and categories are tables of their own."""
    policy = context.protocol.captions
    captions = tag_captions(data.images)
    wanted = [name for name in policy.controls if name in TEXT_CONTROLS]
    words = sorted({w.text.lower() for image in captions.tagged for caption in image for w in caption})
    vectors = dict(zip(words, embed_texts(model, words, context.store)[-1], strict=True))
    by_layer = {}
    for done, name in enumerate(wanted):
        context.progress(f"control {name}", done, len(wanted))
        texts = control_texts(name, captions, context.protocol.seed, vectors)
        by_layer[name] = embed_images(model, texts, context.store)
    tables: dict[str, NDArray[np.floating]] = {}
    if "multi-hot" in policy.controls and data.images.categories.any():
        tables["multi-hot"] = data.images.categories.astype(np.float32)
    if "static vectors" in policy.controls and data.static_vectors is not None:
        tables["static vectors"] = embed_images(Static(data.static_vectors), data.images.captions, context.store).layer(
            0
        )
    return Controls(by_layer, tables)


def control_facets(
    controls: Controls,
    captions: NDArray[np.floating],
    layer: int,
    subject: PreparedSubject,
    test: HeldOutResponses,
    geometry: SubjectGeometry,
    context: RunContext,
) -> list[Facet]:
    """One facet a control and ROI: H, RSA r, and what whole captions have beyond, each paired.

    Parameters
    ----------
    captions : (n_images, n_features) embeddings of whole captions at ``layer``.
    """
    rows = {WHOLE: captions, **{name: controls.table(name, layer) for name in controls.names}}
    stats, by_set, rdms = {}, {}, {}
    for name, table in rows.items():
        predicted = fit_layer(
            table[subject.train_rows], table[subject.test_rows], subject, context.protocol, context.device
        )
        stats[name] = encoding_statistics({"raw": predicted}, test, context.protocol)["raw"]
        rdms[name] = embedding_rdms(table, geometry.set_rows)
        by_set[name] = set_correlations(rdms[name], geometry.brain)
    facets = []
    for name in rows:
        found = {"normalised": h_estimates(stats[name], test, context.protocol)}
        found["rsa_r"] = set_estimates(by_set[name], test.scored, "mean RSA r over disjoint sets of images, t")
        if name != WHOLE:
            found["caption_beyond"] = influence_difference(stats[WHOLE], stats[name], test, context.protocol)
            paired = "paired difference of RSA r over disjoint sets of images, t"
            found["caption_beyond_rsa"] = set_estimates(by_set[WHOLE] - by_set[name], test.scored, paired)
            alike = rdm_correlations(rdms[WHOLE], rdms[name])
            found["rdm_r"] = set_estimates(
                np.tile(alike, (len(test.scored), 1)), test.scored, "r of the model's RDMs of captions and control, t"
            )
        facets += facets_of("control", name, found)
    return facets


def h_estimates(stats: BlockStatistics, test: HeldOutResponses, protocol: Protocol) -> RoiEstimates:
    """H of a table of block statistics, by ROI and over ROIs (None)."""
    estimator = f"H, blocks of {protocol.score.inference_block_trs} test images, t"
    overall, by_roi = summarise(
        roi_influence(stats, protocol.score), test.scored, estimator, "H", protocol.score.confidence
    )
    return with_overall(overall, by_roi)


def fractional_facets(
    captions: NDArray[np.floating], subject: PreparedSubject, test: HeldOutResponses, context: RunContext
) -> list[Facet]:
    """The published encoder beside the protocol's: fractional ridge, one fraction a voxel and one for all voxels."""
    facets = []
    train, tested = captions[subject.train_rows], captions[subject.test_rows]
    scopes: tuple[tuple[str, Literal["target", "global"]], ...] = (
        ("fraction per voxel", "target"),
        ("one fraction", "global"),
    )
    for name, scope in scopes:
        predicted = fit_layer_fractional(train, tested, subject, scope, context.protocol, context.device)
        stats = encoding_statistics({"raw": predicted}, test, context.protocol)["raw"]
        means, _ = correlation_influence(predicted[:, : len(test.rois)], test, context.protocol.score)
        overall, by_roi = summarise(means, test.scored, "mean voxelwise r, t", "r", context.protocol.score.confidence)
        found = {"normalised": h_estimates(stats, test, context.protocol), "raw_r": with_overall(overall, by_roi)}
        facets += facets_of("analysis", f"fractional ridge, {name}", found)
    return facets


def transfer_facet(
    encoding: CaptionEncoding, own: HeldOutResponses, others: Mapping[str, Float32Array], protocol: Protocol
) -> list[Facet]:
    """The encoder of one subject on the brains of the others, on the same test images; voxels are in correspondence.

    Parameters
    ----------
    others : other subject -> (n_test, n_voxels) mean responses.
    """
    if not others:
        return []
    predicted = encoding.predictions["raw"][:, : len(own.rois)]
    per_subject = []
    for responses in others.values():
        test = HeldOutResponses((responses[None],), None, own.rois, own.scored, "none")
        means, _ = correlation_influence(predicted, test, protocol.score)
        per_subject.append(means)
    mean = {roi: np.mean([means[roi] for means in per_subject], axis=0) for roi in per_subject[0]}
    estimator = f"mean voxelwise r on {len(others)} other subjects, t"
    overall, by_roi = summarise(mean, own.scored, estimator, "r", protocol.score.confidence)
    return facets_of("analysis", "transfer to other subjects", {"raw_r": with_overall(overall, by_roi)})


def contrast_maps(
    model: WordModel,
    captions: NDArray[np.floating],
    layer: int,
    subject: PreparedSubject,
    context: RunContext,
) -> dict[str, Float32Array]:
    """``contrast__people-places`` and so on: (n_voxels,) predicted difference between two groups of sentences.

    The sentences go through the encoder as further test rows, so the contrast is that of its own weights.
    """
    names = list(PROBES)
    probes = embed_probes(model, context.store)[layer]
    means = np.stack([probes[i * 5 : (i + 1) * 5].mean(axis=0) for i in range(len(names))])
    predicted = fit_layer(captions[subject.train_rows], means, subject, context.protocol, context.device)
    of = dict(zip(names, predicted[:, : subject.n_voxels], strict=True))
    return {f"contrast__{a}-{b}": of[a] - of[b] for a, b in combinations(names, 2)}


def embed_probes(model: WordModel, store: FeatureStore) -> Float32Array:
    """(n_layers, n_sentences, n_features) of the sentences of all groups, one group after the other."""
    return embed_texts(model, [text for texts in PROBES.values() for text in texts], store)


def facets_of(axis: str, value: str, found: Mapping[str, RoiEstimates]) -> list[Facet]:
    """Name -> ROI -> estimate, as one facet a ROI and one over all ROIs."""
    rois: Sequence[str | None] = list(next(iter(found.values())))
    return [Facet(axis=axis, value=value, roi=roi, scores={n: e[roi] for n, e in found.items()}) for roi in rois]


def plain_facet(axis: str, value: str, scores: Mapping[str, Estimate]) -> Facet:
    """A part of a cell that has no ROIs."""
    return Facet(axis=axis, value=value, scores=dict(scores))
