# SPDX-License-Identifier: Apache-2.0
"""Model states at the TRs of a story, through the store."""

from collections.abc import Callable, Mapping
from dataclasses import asdict

import numpy as np
from numpy.typing import NDArray

from voxelboard.benchmark.errors import InvalidNumbers
from voxelboard.benchmark.features.resample import RESAMPLERS
from voxelboard.benchmark.features.store import FeatureStore
from voxelboard.benchmark.models.base import ModelIdentity, WordModel
from voxelboard.benchmark.protocol import Protocol
from voxelboard.benchmark.stimuli.stories import Story

Array = NDArray[np.float32]

# Raise it when the code below, or that of a loader, changes the numbers: it is part of every key.
STAGE_VERSION = 1

# Called with (stories done, stories in all, words done in this story, words in this story).
ExtractionProgress = Callable[[int, int, int, int], None]


def extract_features(
    model: WordModel,
    stories: Mapping[str, Story],
    protocol: Protocol,
    store: FeatureStore,
    progress: ExtractionProgress | None = None,
) -> dict[str, Array]:
    """Undelayed features of each story: name -> (n_layers, n_trs, n_features) float32, read-only, on the host.

    Raises
    ------
    InvalidNumbers
        when a state is not finite.
    """
    features = {}
    for done, (name, story) in enumerate(stories.items()):

        def compute(story: Story = story, done: int = done) -> Array:
            def report(words: int, all_words: int) -> None:
                if progress is not None:
                    progress(done, len(stories), words, all_words)

            states = model.states(story, protocol.context, report)
            return resample_states(states, story, protocol)

        features[name] = store.get(feature_key(model.identity, story, protocol), compute)
    return features


def resample_states(states: Array, story: Story, protocol: Protocol) -> Array:
    """(n_layers, n_words, n_features) states of words -> (n_layers, n_trs, n_features) at TRs."""
    if not np.isfinite(states).all():
        layer, word, _ = (int(axis[0]) for axis in np.nonzero(~np.isfinite(states)))
        raise InvalidNumbers(
            f"story {story.name!r}: the state of word {word} {story.words[word]!r} in layer {layer} is not finite"
        )
    resample = RESAMPLERS[protocol.design.resampling]
    return np.stack([resample(layer, story) for layer in states]).astype(np.float32)


def feature_key(identity: ModelIdentity, story: Story, protocol: Protocol) -> dict[str, object]:
    """Everything that determines the features of one story."""
    return {
        "stage": "features",
        "stage_version": STAGE_VERSION,
        "model": asdict(identity),
        "story": story.sha256,
        "context": asdict(protocol.context),
        "token_pooling": protocol.design.token_pooling,
        "resampling": protocol.design.resampling,
    }
