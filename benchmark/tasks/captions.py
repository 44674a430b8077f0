# SPDX-License-Identifier: Apache-2.0
"""Task captions: predict what brains do with pictures from a model's embeddings of what people wrote about them.

Presented: images that subjects saw, and the captions of each. Features: each caption read by itself, the mean over the captions
of an image, every layer. Analyses: ridge on images that were left out, raw and beyond a control floor (the picture, its
categories, the length of its captions); RSA on disjoint sets of images; retrieval of the caption from the brain; the same with
controls that take a caption apart. Score: H_u by region, as in all tasks, with its ceiling from repeats. Source: Doerig et
al. 2025, corrected as docs/captions.md says.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from voxelboard.benchmark.features.caption_embeddings import ImageEmbeddings, embed_texts
from voxelboard.benchmark.models.base import WordModel
from voxelboard.benchmark.protocol import Protocol, TaskName
from voxelboard.benchmark.readers.base import DatasetFacts
from voxelboard.benchmark.readers.captions_data import (
    CaptionsData,
    Float32Array,
    ImageResponses,
    check_image_responses,
)
from voxelboard.benchmark.record_stamps import DatasetStamp
from voxelboard.benchmark.records import Facet
from voxelboard.benchmark.similarity.retrieval import caption_ceiling
from voxelboard.benchmark.stamps import model_stamp
from voxelboard.benchmark.statistics.scores import BlockStatistics
from voxelboard.benchmark.submission import Submission, baseline_submissions
from voxelboard.benchmark.tasks.base import Arrays, CellResult, MeasuredCell, RunContext, merged_checks
from voxelboard.benchmark.tasks.caption_controls import (
    Controls,
    contrast_maps,
    control_facets,
    embed_controls,
    embed_probes,
    facets_of,
    fractional_facets,
    plain_facet,
    transfer_facet,
)
from voxelboard.benchmark.tasks.caption_encoding import (
    CaptionEncoding,
    PreparedSubject,
    decode,
    encode_captions,
    prepare_subject,
)
from voxelboard.benchmark.tasks.caption_geometry import (
    Rsa,
    SharedGeometry,
    SubjectGeometry,
    mean_estimate,
    model_rsa,
    rsa_estimates,
    shared_geometry,
    subject_geometry,
)
from voxelboard.benchmark.tasks.caption_scores import (
    caption_checks,
    encoding_estimates,
    encoding_statistics,
    held_out,
    layer_profiles,
    record_arrays,
    retrieval_estimates,
    voxel_ceilings,
)
from voxelboard.benchmark.tasks.caption_sources import CaptionSources, open_caption_sources
from voxelboard.benchmark.tasks.caption_work import caption_work
from voxelboard.benchmark.tasks.scoring import HeldOutResponses, paired_blocks, surface_arrays
from voxelboard.benchmark.tasks.work import ModelSize, Work

# Of the harness' own rows those that exist for pictures: they have neither sound nor time.
_ROWS = frozenset(
    f"voxelboard/{name}"
    for name in ("constant", "context-noise", "random-word-vectors", "static", "confounds", "oracle")
)
_DISPLAY_NAMES = {"voxelboard/confounds": "Control floor (picture, categories, caption length)"}
_CEILING_IMAGES = 500  # whose captions are compared with one another


@dataclass(frozen=True, eq=False)
class _Scored:
    """What one model and one subject make."""

    encoding: CaptionEncoding
    twins: Mapping[int, CaptionEncoding]
    rsa: Rsa
    layers: Sequence[BlockStatistics]


class Captions:
    """The task: name, version, and what it does with a model and a data set."""

    name: TaskName = "captions"
    version = 1
    default_data = "simulated-captions"

    def mandatory_rows(self, data: DatasetFacts) -> list[Submission]:
        """Constant vector, noise, random and static word vectors, the control floor, and the oracle where truth is planted.

        There is no cross-subject row: subjects see different training images. Transfer between subjects is a facet.
        """
        rows = baseline_submissions(simulated=data.kind == "simulated", static_vectors=data.has_static_vectors)
        kept = [row for row in rows if row.label in _ROWS]
        return [
            row.model_copy(
                update={"metadata": row.metadata.model_copy(update={"display_name": _DISPLAY_NAMES[row.label]})}
            )
            if row.label in _DISPLAY_NAMES
            else row
            for row in kept
        ]

    def work(
        self, data: CaptionsData, subjects: Sequence[str], size: ModelSize, protocol: Protocol, *, on_gpu: bool
    ) -> Work:
        """See :func:`caption_work`."""
        return caption_work(data, subjects, size, protocol, on_gpu=on_gpu)

    def prepare(self, submission: Submission, data: CaptionsData, context: RunContext) -> None:
        """Embed all captions with the model, its twins and the controls, and the sentences of the contrasts, into the store."""
        sources = open_caption_sources(submission, data, context)
        for twin in sources.twins.values():
            twin()
        if sources.model is None or submission.is_baseline:
            return
        embed_controls(sources.model, data, context)
        embed_probes(sources.model, context.store)
        if several := _several_captions(data):
            embed_texts(sources.model, [caption for captions in several for caption in captions], context.store)

    def measure(
        self, submission: Submission, data: CaptionsData, subjects: Sequence[str], context: RunContext
    ) -> Iterator[MeasuredCell]:
        """Embed all captions with the model, its twins and the controls, then score every subject.

        Raises
        ------
        UserError
            for data that cannot be scored, and what loading a model raises.
        InvalidNumbers
            when a canary finds something, or embeddings are not finite.
        """
        with context.stopwatch.stage("features"):
            sources = open_caption_sources(submission, data, context)
            twins = {seed: twin() for seed, twin in sources.twins.items()}
        with context.stopwatch.stage("controls"):
            asked = sources.model is not None and not submission.is_baseline
            controls = embed_controls(sources.model, data, context) if asked and sources.model is not None else None
        with context.stopwatch.stage("geometry"):
            context.progress("geometry", 0, 0)
            shared = shared_geometry(data, context.protocol.captions)
        stamp = model_stamp(submission, sources.identity, sources.embeddings.n_layers, sources.embeddings.n_features)
        for done, subject in enumerate(subjects):
            context.progress("subjects", done, len(subjects))
            with context.stopwatch.stage("encoding and scores"):
                responses = data.responses(subject)
                check_image_responses(responses, data.images)
                cell = _measure_subject(submission, data, responses, sources, twins, controls, shared, context)
            dataset = _dataset_stamp(data, responses, cell)
            yield MeasuredCell(dataset, stamp, cell)


def _measure_subject(
    submission: Submission,
    data: CaptionsData,
    responses: ImageResponses,
    sources: CaptionSources,
    twins: Mapping[int, ImageEmbeddings],
    controls: Controls | None,
    shared: SharedGeometry,
    context: RunContext,
) -> CellResult:
    protocol, device, rois = context.protocol, context.device, data.scored_rois
    subject = prepare_subject(responses, data.images, protocol, device, context.settings.limit)
    test = held_out(subject, rois)
    geometry = subject_geometry(responses, data.images, rois, protocol)
    layers: list[BlockStatistics] = []

    def keep(layer: int, predictions: Float32Array) -> None:
        context.progress(f"layers of {responses.subject}", layer + 1, sources.embeddings.n_layers)
        layers.append(encoding_statistics({"unique": predictions}, test, protocol)["unique"])

    encoding = encode_captions(sources.embeddings, subject, rois, protocol, device, keep)
    encoded = {seed: encode_captions(twin, subject, rois, protocol, device) for seed, twin in twins.items()}
    scored = _Scored(encoding, encoded, model_rsa(sources.embeddings, geometry, shared), layers)
    result = _score(responses.subject, scored, subject, test, sources, submission, protocol)
    facets, maps = _parts(data, scored, subject, test, geometry, sources, controls, context)
    arrays: Arrays = {**result.arrays, **maps, "set_ids": geometry.sets.ids}
    return replace(result, facets=(*result.facets, *facets), arrays=arrays)


def _score(
    name: str,
    scored: _Scored,
    subject: PreparedSubject,
    test: HeldOutResponses,
    sources: CaptionSources,
    submission: Submission,
    protocol: Protocol,
) -> CellResult:
    predictions = {**scored.encoding.predictions, "floor": subject.floor}
    for seed, twin in scored.twins.items():
        predictions[f"twin{seed}_raw"] = twin.predictions["raw"]
        predictions[f"twin{seed}_unique"] = twin.predictions["unique"]
    stats = encoding_statistics(predictions, test, protocol)
    found, voxels = encoding_estimates(predictions, stats, test, list(scored.twins), protocol)
    rsa = rsa_estimates(scored.rsa, test.scored, protocol)
    everything = {**found, **rsa}
    arrays = record_arrays(stats, test, voxels, voxel_ceilings(subject.responses))
    for row, table in (("raw", scored.rsa.raw), ("unique", scored.rsa.unique), ("floor", scored.rsa.floor)):
        if table is not None:
            arrays[f"rdm__{row}"] = np.stack([table.c, table.q, table.s], axis=-1)  # (n_blocks, n_rois, 3)
    arrays["rsa_by_set"] = scored.rsa.by_set
    arrays |= surface_arrays(test, {roi: (layer,) for roi, layer in scored.encoding.chosen["unique"].items()})
    own = predictions["unique"][:, : len(test.rois)]
    arrays["voxel_blocks__unique"] = paired_blocks([own], test, protocol.score)
    checks = caption_checks(scored.encoding, subject, protocol, is_baseline=submission.is_baseline)
    return CellResult(
        subject=name,
        scores={score: by_roi[None] for score, by_roi in everything.items()},
        by_roi={roi: {score: by_roi[roi] for score, by_roi in everything.items()} for roi in test.scored},
        layers=layer_profiles(scored.encoding, scored.layers, test, protocol),
        checks=merged_checks(checks, sources.receipt),
        arrays=arrays,
        n_train=len(subject.train_rows),
        n_test=len(subject.test_rows),
        n_voxels=subject.n_voxels,
        n_repeats=len(subject.test),
        facets=tuple(facets_of("analysis", "rsa", rsa)),
    )


def _parts(
    data: CaptionsData,
    scored: _Scored,
    subject: PreparedSubject,
    test: HeldOutResponses,
    geometry: SubjectGeometry,
    sources: CaptionSources,
    controls: Controls | None,
    context: RunContext,
) -> tuple[list[Facet], dict[str, Float32Array]]:
    """Retrieval for every row; controls, fractional ridge, transfer and contrasts for submissions."""
    layer = scored.encoding.overall
    captions = sources.embeddings.layer(layer)
    voxels = np.isin(subject.rois, data.scored_rois)
    decoded, truth, _ = decode(captions, subject, voxels, context.protocol, context.device)
    retrieval = retrieval_estimates(decoded, truth, context.protocol)
    facets = [plain_facet("analysis", "retrieval", retrieval)]
    if controls is None or sources.model is None:
        return facets, {}
    facets += control_facets(controls, captions, layer, subject, test, geometry, context)
    facets += fractional_facets(captions, subject, test, context)
    facets += _caption_ceiling_facets(data, sources.model, layer, context)
    if data.in_correspondence:
        others = {s: data.responses(s).test_mean for s in data.subjects if s != subject.responses.subject}
        facets += transfer_facet(scored.encoding, test, others, context.protocol)
    return facets, contrast_maps(sources.model, captions, layer, subject, context)


def _caption_ceiling_facets(data: CaptionsData, model: WordModel, layer: int, context: RunContext) -> list[Facet]:
    """How alike the captions of one image are to this model: the ceiling of decoding, over all captions of an image."""
    several = _several_captions(data)
    if not several:
        return []
    flat = embed_texts(model, [caption for captions in several for caption in captions], context.store)[layer]
    parts = np.split(flat, np.cumsum([len(captions) for captions in several])[:-1])
    found = mean_estimate(caption_ceiling(parts), "r of a caption with the mean of the image's others, t", "r")
    return [plain_facet("analysis", "caption ceiling", {"caption_r": found})]


def _several_captions(data: CaptionsData) -> list[tuple[str, ...]]:
    """The captions of the first test images that have more than one."""
    images = [data.images.captions[row] for row in data.images.rows(data.test_ids)[:_CEILING_IMAGES]]
    return [captions for captions in images if len(captions) > 1]


def _dataset_stamp(data: CaptionsData, responses: ImageResponses, cell: CellResult) -> DatasetStamp:
    return DatasetStamp(
        name=data.name,
        version=data.version,
        kind=data.kind,
        ceiling_kind=data.ceiling_kind,
        stimuli_sha256=data.images.sha256(),
        responses_sha256=data.responses_sha256(responses.subject),
        scored_rois=tuple(data.scored_rois),
        n_train=cell.n_train,
        n_test=cell.n_test,
        row_unit="image",
        n_voxels=cell.n_voxels,
        n_repeats=cell.n_repeats,
    )
