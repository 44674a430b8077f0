# SPDX-License-Identifier: Apache-2.0
"""From a submission to embeddings of captioned images, whatever kind of row it is."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from voxelboard.benchmark.caption_tables import Analysis, AnalysisStamp
from voxelboard.benchmark.errors import UserError
from voxelboard.benchmark.features.caption_confounds import caption_lengths
from voxelboard.benchmark.features.caption_embeddings import ImageEmbeddings, embed_images
from voxelboard.benchmark.models.base import ModelIdentity, WordModel
from voxelboard.benchmark.models.load import load_exact
from voxelboard.benchmark.models.planted_captions import PlantedCaptionModel
from voxelboard.benchmark.models.simulated import planted_model
from voxelboard.benchmark.models.texts import read_texts
from voxelboard.benchmark.models.transformer import TransformerModel
from voxelboard.benchmark.protocol import hash_json
from voxelboard.benchmark.readers.captions_data import CaptionsData
from voxelboard.benchmark.readers.simulated_captions import SimulatedCaptions
from voxelboard.benchmark.revision import resolved_revision
from voxelboard.benchmark.sources import build_model, twin_seeds
from voxelboard.benchmark.submission import Submission, model_spec
from voxelboard.benchmark.tasks.base import RunContext

RECEIPT_CAPTIONS = 64  # of the first images, read again one at a time in float32


@dataclass(frozen=True)
class CaptionSources:
    """The embeddings of a row and what was resolved on the way.

    Attributes
    ----------
    model : reads the texts of controls and of contrasts; None for rows that read nothing.
    twins : seed -> () -> embeddings of the untrained twin; empty for baselines.
    receipt : fields of the record's checks that tell how exact the embeddings are.
    """

    identity: ModelIdentity
    embeddings: ImageEmbeddings
    model: WordModel | None
    twins: Mapping[int, Callable[[], ImageEmbeddings]]
    receipt: Mapping[str, Any]


def analysis_stamp(
    analysis: Analysis,
    submission: Submission,
    data: CaptionsData,
    context: RunContext,
    layer: int,
    settings: Mapping[str, object],
) -> AnalysisStamp:
    """What an analysis beside the board says of itself; ``settings`` in words, as they are shown."""
    return AnalysisStamp(
        analysis,
        submission.label,
        submission.visibility,
        layer,
        data.name,
        data.version,
        data.kind,
        context.protocol.name,
        context.protocol.hash_of("captions"),
        tuple(data.subjects),
        len(data.test_ids),
        {name: str(value) for name, value in settings.items()},
    )


def open_caption_sources(submission: Submission, data: CaptionsData, context: RunContext) -> CaptionSources:
    """Load the model of a submission and embed all captions, or build the harness' own row.

    Raises
    ------
    UserError, MissingPrerequisite
        as :func:`voxelboard.benchmark.models.load.load_model`.
    """
    if submission.is_baseline and submission.model.id in _TABLES:
        return _table_row(submission.model.id or "", data)
    model = caption_model(submission, data, context)

    def embed(model: WordModel, stage: str) -> ImageEmbeddings:
        context.progress(stage, 0, data.images.n_images)
        return embed_images(
            model, data.images.captions, context.store, lambda done, total: context.progress(stage, done, total)
        )

    def twin(seed: int) -> ImageEmbeddings:
        random = submission.model_copy(update={"weights": "random", "seed": seed})
        return embed(caption_model(random, data, context), f"untrained twin {seed}")

    return CaptionSources(
        replace(model.identity, revision=resolved_revision(submission)),
        embed(model, "captions"),
        model,
        {seed: partial(twin, seed) for seed in twin_seeds(submission, context.protocol)},
        _receipt(submission, model, data, context),
    )


def caption_model(submission: Submission, data: CaptionsData, context: RunContext) -> WordModel:
    """The model of a submission, ready to read captions."""
    if submission.model.source == "simulated":
        if not isinstance(data, SimulatedCaptions):
            raise UserError(
                f"{submission.label} reads the captions of simulated images only, not those of {data.name}",
                "choose simulated-captions, or another model",
            )
        seed = submission.seed if submission.weights == "random" else None
        return PlantedCaptionModel(planted_model(submission.model.id or "", submission.weights, seed))
    return build_model(submission, data, context.settings, context.device)


def _floor_table(data: CaptionsData) -> NDArray[np.floating]:
    columns = [caption_lengths(data.images)[:, None], data.images.categories.astype(np.float64)]
    if data.images.low_level is not None:
        columns.append(data.images.low_level)
    return np.concatenate(columns, axis=1)


def _oracle_table(data: CaptionsData) -> NDArray[np.floating]:
    if not isinstance(data, SimulatedCaptions):
        raise UserError(f"{data.name} has no planted truth: there is no oracle", "leave the oracle row out")
    return np.concatenate(list(data.latents.values()), axis=1)


# Rows that are a table of numbers, one row an image.
_TABLES: dict[str, Callable[[CaptionsData], NDArray[np.floating]]] = {
    "confounds": _floor_table,
    "oracle": _oracle_table,
}


def _table_row(name: str, data: CaptionsData) -> CaptionSources:
    revision = hash_json({"source": "baseline", "id": name})
    identity = ModelIdentity("baseline", name, revision, revision, "", "float32", 0, None)
    embeddings = ImageEmbeddings([_TABLES[name](data).astype(np.float32)[None]])
    return CaptionSources(identity, embeddings, None, {}, {})


def _receipt(submission: Submission, model: WordModel, data: CaptionsData, context: RunContext) -> Mapping[str, Any]:
    """Read the captions of the first images again, one at a time in float32: the largest deviation in SDs of a layer."""
    if not isinstance(model, TransformerModel):
        return {}
    exact = load_exact(
        model_spec(submission),
        device=context.device,
        offline=context.settings.offline,
        allow_remote_code=context.settings.allow_remote_code,
    )
    texts = [caption for captions in data.images.captions for caption in captions][:RECEIPT_CAPTIONS]
    asked, again = read_texts(model, texts), read_texts(exact, texts)
    shortened = model.context_shortened
    spread = again.std(axis=(1, 2), keepdims=True)
    worst = float((np.abs(asked - again) / np.where(spread > 0, spread, 1.0)).max())
    n_words = sum(len(text.split()) for text in texts)
    return {"receipt_max_deviation": worst, "receipt_words": n_words, "context_shortened": shortened}
