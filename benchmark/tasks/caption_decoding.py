# SPDX-License-Identifier: Apache-2.0
"""From brains to words: the embedding that the responses to an image predict, and the captions of a library nearest to it.

Each subject's decoder is fitted to the training images. A library is any list of captions, of millions if need be; by default it
is what was written of the training images. Three numbers that are called a rank are told apart, as in
:mod:`voxelboard.benchmark.similarity.retrieval`: the true caption among those of the test images, the true caption added to the library,
and, of the published figures, an image among the images by its own error.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from voxelboard.benchmark.caption_tables import DecodedImage, SubjectScore
from voxelboard.benchmark.errors import DataError, UserError
from voxelboard.benchmark.models.base import WordModel
from voxelboard.benchmark.models.texts import read_texts
from voxelboard.benchmark.protocol import hash_json
from voxelboard.benchmark.readers.captions_data import CaptionsData
from voxelboard.benchmark.records import Estimate
from voxelboard.benchmark.similarity.retrieval import (
    CaptionLibrary,
    caption_ceiling,
    nearest,
    prediction_quality_ranks,
    ranks_in_library,
    similarity_table,
    write_library,
)
from voxelboard.benchmark.stimuli.captions import CaptionedImages
from voxelboard.benchmark.submission import Submission
from voxelboard.benchmark.tasks.base import RunContext
from voxelboard.benchmark.tasks.caption_encoding import PreparedSubject, decode, prepare_subject
from voxelboard.benchmark.tasks.caption_geometry import mean_estimate
from voxelboard.benchmark.tasks.caption_maps import encoding_layer
from voxelboard.benchmark.tasks.caption_scores import retrieval_estimates
from voxelboard.benchmark.tasks.caption_sources import open_caption_sources

FloatArray = NDArray[np.float64]
N_EXAMPLES = 10  # images shown, from the best decoded to the worst
N_NEAREST = 3  # captions shown of each
_METRIC: Final = "correlation"


@dataclass(frozen=True)
class Decoding:
    """What was decoded. layer : of the embeddings; n_library : captions searched; scores : all subjects; images : examples."""

    layer: int
    n_library: int
    scores: tuple[SubjectScore, ...]
    images: tuple[DecodedImage, ...]


def decode_captions(
    submission: Submission,
    data: CaptionsData,
    context: RunContext,
    folder: Path,
    *,
    layer: int | None = None,
    library: Sequence[str] | None = None,
) -> Decoding:
    """Decode the test images of every subject, and look their predicted embeddings up in a library of captions.

    Parameters
    ----------
    folder : takes the embedded library (float16), which is kept: the same captions, model and layer are embedded once.
    library : captions; None takes those of all training images.

    Raises
    ------
    UserError
        for a row that reads no text.
    DataError
        for a caption of the library that is empty or of two lines.
    """
    sources = open_caption_sources(submission, data, context)
    if sources.model is None:
        raise UserError(f"{submission.label} reads no captions", "choose a model that reads text")
    chosen = encoding_layer(sources.embeddings, data, context) if layer is None else layer
    texts = training_captions(data) if library is None else list(library)
    searched = open_library(sources.model, chosen, texts, folder, context)
    table = sources.embeddings.layer(chosen)
    rows = data.images.rows(data.test_ids)
    ceiling = _ceiling(sources.model, chosen, data.images, rows)
    scores: list[SubjectScore] = []
    images: list[DecodedImage] = []
    for done, subject in enumerate(data.subjects):
        context.progress("decoding", done, len(data.subjects))
        ready = prepare_subject(data.responses(subject), data.images, context.protocol, context.device, None)
        voxels = np.isin(ready.rois, data.scored_rois)
        scaled, truth, _ = decode(table, ready, voxels, context.protocol, context.device)
        predicted, true = unscaled(scaled, table[ready.train_rows]), table[rows]
        ranks = ranks_in_library(predicted, true, searched.embeddings, metric=_METRIC, device=context.device)
        found = {
            **retrieval_estimates(scaled, truth, context.protocol),
            "library": mean_estimate(
                1 - 2 * ranks / len(searched), f"1 - 2 rank / {len(searched)}, candidate rank in the library, t", "rank"
            ),
            "own_r": mean_estimate(_own(predicted, true), "r of a predicted embedding with the true one, t", "r"),
        }
        if ceiling is not None:
            found["caption_ceiling"] = ceiling
        scores += [_score(name, subject, estimate) for name, estimate in found.items()]
        if not images:
            images = _examples(subject, predicted, true, ranks, searched, data.images, rows, ready)
    return Decoding(chosen, len(searched), tuple(scores), tuple(images))


def training_captions(data: CaptionsData) -> list[str]:
    """What was written of all training images, each caption once; none of a test image."""
    rows = data.images.rows(np.unique(np.concatenate([data.train_ids(subject) for subject in data.subjects])))
    tested = {caption for row in data.images.rows(data.test_ids) for caption in data.images.captions[row]}
    said = dict.fromkeys(" ".join(caption.split()) for row in rows for caption in data.images.captions[row])
    return [caption for caption in said if caption not in tested]


def read_captions(path: Path) -> list[str]:
    """One caption a line, UTF-8; empty lines are left out."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path} holds no captions ({error})", "give a text file, one caption a line, UTF-8") from error
    captions = [" ".join(line.split()) for line in lines if line.strip()]
    if not captions:
        raise DataError(f"{path} is empty", "give a text file, one caption a line")
    return captions


def open_library(
    model: WordModel, layer: int, texts: Sequence[str], folder: Path, context: RunContext
) -> CaptionLibrary:
    """The embedded captions, made once for a model, a layer and a list of captions."""
    digest = hashlib.sha256("\n".join(texts).encode()).hexdigest()
    identity = hash_json([asdict(model.identity), layer, digest])
    place = folder / f"library-{identity[:16]}"
    if (place / "library.json").is_file():
        return CaptionLibrary(place)

    def embed(part: Sequence[str]) -> NDArray[np.float32]:
        states: NDArray[np.float32] = read_texts(model, part)[layer]
        return states

    return write_library(
        place, texts, embed, identity, progress=lambda done, total: context.progress("library", done, total)
    )


def unscaled(scaled: FloatArray, train: NDArray[np.floating]) -> FloatArray:
    """Predictions in units of the training rows' mean and SD, back in the space of the embeddings.

    Features in which training rows do not vary come back as the constant that they are.
    """
    values = np.asarray(train, dtype=np.float64)
    mean, sd = values.mean(axis=0), values.std(axis=0)
    kept = sd > 1e-8 * sd.max(initial=0.0)
    whole = np.tile(mean, (len(scaled), 1))
    whole[:, kept] += scaled * sd[kept]
    return whole


def _own(predicted: FloatArray, true: NDArray[np.floating]) -> FloatArray:
    return np.diag(similarity_table(predicted, true, _METRIC)).copy()


def _ceiling(model: WordModel, layer: int, images: CaptionedImages, rows: NDArray[np.integer]) -> Estimate | None:
    """How alike the captions of one image are; None where images have one caption."""
    several = [images.captions[row] for row in rows if len(images.captions[row]) > 1]
    if not several:
        return None
    flat = read_texts(model, [caption for captions in several for caption in captions])[layer]
    parts = np.split(flat, np.cumsum([len(captions) for captions in several])[:-1])
    return mean_estimate(caption_ceiling(parts), "r of a caption with the mean of the image's others, t", "r")


def _score(name: str, subject: str, estimate: Estimate) -> SubjectScore:
    return SubjectScore(name, subject, estimate.estimate, estimate.low, estimate.high)


def _examples(
    subject: str,
    predicted: FloatArray,
    true: NDArray[np.floating],
    ranks: FloatArray,
    library: CaptionLibrary,
    images: CaptionedImages,
    rows: NDArray[np.integer],
    ready: PreparedSubject,
) -> list[DecodedImage]:
    """Images from the best decoded to the worst, evenly spaced by the rank of the published figures."""
    quality = prediction_quality_ranks(predicted, true, _METRIC)
    order = np.argsort(quality)
    shown = order[np.unique(np.linspace(0, len(order) - 1, min(N_EXAMPLES, len(order))).round().astype(int))]
    found = nearest(predicted[shown], library.embeddings, min(N_NEAREST, len(library)), metric=_METRIC)
    return [
        DecodedImage(
            subject,
            int(ready.responses.test_ids[image]),
            int(quality[image]),
            float(ranks[image]),
            " ".join(images.captions[rows[image]][0].split()),
            tuple(library.texts(indices)),
            tuple(similarity.tolist()),
        )
        for image, indices, similarity in zip(shown, found.indices, found.similarity, strict=True)
    ]
