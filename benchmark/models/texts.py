# SPDX-License-Identifier: Apache-2.0
"""States of texts that stand by themselves: annotations of a film, captions of an image. Any model can read them."""

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from voxelboard.benchmark.errors import DataError
from voxelboard.benchmark.models.base import Progress, WordModel
from voxelboard.benchmark.protocol import ContextPolicy
from voxelboard.benchmark.stimuli.stories import join_words, make_story

# Texts are far shorter: every word of one sees all words before it.
_WHOLE = ContextPolicy(stride_words=1_000_000)
# Words of texts that are read in one go by models without context.
_CHUNK_WORDS = 20_000


@runtime_checkable
class TextModel(Protocol):
    """A model that reads whole texts by itself."""

    def read_texts(self, texts: Sequence[str], progress: Progress | None = None) -> NDArray[np.float32]:
        """(n_layers, n_texts, n_features) float32 on the host."""
        ...


def read_texts(model: WordModel, texts: Sequence[str], progress: Progress | None = None) -> NDArray[np.float32]:
    """The state of each text in every layer: the mean over its tokens, each text read by itself.

    A model that cannot read texts (a table of word vectors, a baseline) has no context: its texts are one story and
    a text is the mean over its words.

    Parameters
    ----------
    texts : (n_texts,) not empty; equal texts are read once.

    Returns
    -------
    (n_layers, n_texts, n_features) float32 on the host.

    Raises
    ------
    DataError
        for a text without a word.
    """
    if not texts:
        return np.zeros((model.n_layers, 0, model.n_features), dtype=np.float32)
    different = list(dict.fromkeys(texts))
    for text in different:
        if not text.strip():
            raise DataError("a text is empty", "leave it out: seconds without a text have the zero vector")
    if isinstance(model, TextModel):
        states = model.read_texts(different, progress)
    else:
        states = _mean_of_words(model, different, progress)
    row = {text: number for number, text in enumerate(different)}
    return states[:, [row[text] for text in texts]]


def _mean_of_words(model: WordModel, texts: Sequence[str], progress: Progress | None) -> NDArray[np.float32]:
    words = [text.split() for text in texts]
    states = np.empty((model.n_layers, len(texts), model.n_features), dtype=np.float32)
    first = 0
    while first < len(texts):
        last, n_words = first, 0
        while last < len(texts) and (last == first or n_words + len(words[last]) <= _CHUNK_WORDS):
            n_words += len(words[last])
            last += 1
        flat = [word for text in words[first:last] for word in text]
        text, spans = join_words(flat)
        times = np.arange(len(flat), dtype=np.float64)
        story = make_story("texts", flat, times, times + 1, n_trs=len(flat), tr=1.0, text=text, spans=spans)
        found = model.states(story, _WHOLE).astype(np.float64)
        starts = np.cumsum([0, *(len(text) for text in words[first : last - 1])])
        counts = np.array([len(text) for text in words[first:last]])
        states[:, first:last] = np.add.reduceat(found, starts, axis=1) / counts[:, None]
        first = last
        if progress is not None:
            progress(last, len(texts))
    return states
