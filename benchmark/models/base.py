# SPDX-License-Identifier: Apache-2.0
"""What every model is to the rest of the harness: something with layers that has a state for each word."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from voxelboard.benchmark.protocol import ContextPolicy
from voxelboard.benchmark.stimuli.stories import Story


@dataclass(frozen=True)
class ModelIdentity:
    """What was resolved: everything that determines a model's states, for cache keys and records."""

    loader: str  # causal | masked | seq2seq | sentence | static | recurrent | simulated | baseline
    model_id: str
    revision: str  # 40-hex commit, or the SHA-256 of a local checkpoint
    weights_sha256: str
    tokenizer_sha256: str
    dtype: str
    n_parameters: int
    max_tokens: int | None  # longest input, None when unbounded
    weights: str = "pretrained"  # or random
    seed: int = 0  # of random weights


# Called after each batch with (words done, words in all).
Progress = Callable[[int, int], None]


class WordModel(Protocol):
    """A model, loaded. ``layer 0`` is the embedding layer, ``layer k`` the output of block k."""

    identity: ModelIdentity
    n_layers: int  # layers 0 .. n_layers - 1
    n_features: int  # width of a state, the same for all layers

    def states(self, story: Story, context: ContextPolicy, progress: Progress | None = None) -> NDArray[np.float32]:
        """(n_layers, n_words, n_features) float32 on the host: the mean over the word's tokens.

        Word ``i`` has seen exactly the words ``context.chunk_start(i) .. i``.
        """
        ...
