# SPDX-License-Identifier: Apache-2.0
"""Embeddings of images by their captions: each caption read by itself, the mean over the captions of an image."""

from collections.abc import Callable, Sequence
from dataclasses import asdict

import numpy as np
from numpy.typing import NDArray

from voxelboard.benchmark.errors import InvalidNumbers
from voxelboard.benchmark.features.store import FeatureStore
from voxelboard.benchmark.models.base import WordModel
from voxelboard.benchmark.models.texts import read_texts
from voxelboard.benchmark.protocol import hash_json

Float32Array = NDArray[np.float32]

# Raise it when the code below, or that of a loader, changes the numbers: it is part of every key.
STAGE_VERSION = 1
_CHUNK_IMAGES = 2000  # read, pooled and stored together: bounds memory to a chunk of all layers

# Called with (images done, images in all).
EmbeddingProgress = Callable[[int, int], None]


class ImageEmbeddings:
    """(n_layers, n_images, n_features) in pieces that lie in the feature store; layers are read when asked for."""

    def __init__(self, pieces: Sequence[Float32Array]) -> None:
        self._pieces = tuple(pieces)
        self.n_layers, _, self.n_features = pieces[0].shape

    @property
    def n_images(self) -> int:
        """Images that have captions."""
        return sum(piece.shape[1] for piece in self._pieces)

    def layer(self, layer: int) -> Float32Array:
        """(n_images, n_features) of one layer."""
        return np.concatenate([piece[layer] for piece in self._pieces])


def embed_images(
    model: WordModel,
    texts: Sequence[Sequence[str]],
    store: FeatureStore,
    progress: EmbeddingProgress | None = None,
) -> ImageEmbeddings:
    """The mean embedding of the texts of each image, in every layer, through the store.

    Parameters
    ----------
    texts : (n_images,) tuples of one or more texts: captions, or those of a control.

    Raises
    ------
    InvalidNumbers
        for a state that is not finite.
    """
    pieces = []
    for start in range(0, len(texts), _CHUNK_IMAGES):
        chunk = texts[start : start + _CHUNK_IMAGES]

        def compute(chunk: Sequence[Sequence[str]] = chunk) -> Float32Array:
            """Embeddings of one part of the images."""
            return _embed_chunk(model, chunk)

        key = {
            "stage": "caption embeddings",
            "stage_version": STAGE_VERSION,
            "model": asdict(model.identity),
            "texts": hash_json([list(image) for image in chunk]),
        }
        pieces.append(store.get(key, compute))
        if progress is not None:
            progress(min(start + _CHUNK_IMAGES, len(texts)), len(texts))
    return ImageEmbeddings(pieces)


def embed_texts(model: WordModel, texts: Sequence[str], store: FeatureStore) -> Float32Array:
    """(n_layers, n_texts, n_features) of single texts, through the store."""
    found = embed_images(model, [(text,) for text in texts], store)
    return np.stack([found.layer(layer) for layer in range(found.n_layers)])


def _embed_chunk(model: WordModel, chunk: Sequence[Sequence[str]]) -> Float32Array:
    """(n_layers, n_images, n_features): equal texts are read once."""
    flat = [text for image in chunk for text in image]
    different = list(dict.fromkeys(flat))
    row = {text: number for number, text in enumerate(different)}
    states = read_texts(model, different)
    if not np.isfinite(states).all():
        raise InvalidNumbers(f"{model.identity.model_id}: the state of a caption is not finite")
    order = np.array([row[text] for text in flat])
    counts = np.array([len(image) for image in chunk])
    starts = np.cumsum(counts) - counts
    return np.stack(
        [
            (np.add.reduceat(layer[order].astype(np.float64), starts, axis=0) / counts[:, None]).astype(np.float32)
            for layer in states
        ]
    )
