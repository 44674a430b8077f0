# SPDX-License-Identifier: Apache-2.0
"""Model states at the TRs of a story, through the store."""

from collections.abc import Callable, Mapping
from dataclasses import asdict
from typing import Protocol as Interface
from typing import runtime_checkable

import numpy as np
from numpy.typing import NDArray

from voxelboard.benchmark.errors import InvalidNumbers, UserError
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


@runtime_checkable
class StopsEarly(Interface):
    """A model that can be read to a layer and no further, as :class:`TransformerModel` can."""

    def up_to(self, last_layer: int) -> WordModel:
        """The model of layers 0 .. last_layer: equal states."""
        ...


def extract_features(
    model: WordModel,
    stories: Mapping[str, Story],
    protocol: Protocol,
    store: FeatureStore,
    progress: ExtractionProgress | None = None,
    *,
    last_layer: int | None = None,
) -> dict[str, Array]:
    """Undelayed features of each story: name -> (n_layers, n_trs, n_features) float32, read-only, on the host.

    Parameters
    ----------
    last_layer : None for all layers; else layers 0 .. last_layer, the same bytes. They come out of the store where it
        has all layers; if not, a model that can stop there (:class:`StopsEarly`) does not run its later blocks.

    Raises
    ------
    InvalidNumbers
        when a state is not finite.
    UserError
        for a layer that the model does not have.
    """
    n_kept = model.n_layers
    if last_layer is not None and last_layer != model.n_layers - 1:
        if not 0 <= last_layer < model.n_layers:
            raise UserError(f"layer {last_layer} is not in the model; allowed: 0 to {model.n_layers - 1}")
        n_kept = last_layer + 1
    features = {}
    for done, (name, story) in enumerate(stories.items()):
        key = feature_key(model.identity, story, protocol)
        read = model
        if n_kept < model.n_layers and isinstance(model, StopsEarly) and not store.has(key):
            key["last_layer"] = n_kept - 1
            read = model.up_to(n_kept - 1)

        def compute(story: Story = story, done: int = done, read: WordModel = read) -> Array:
            """Features of one story."""

            def report(words: int, all_words: int) -> None:
                """Words of the story that were read."""
                if progress is not None:
                    progress(done, len(stories), words, all_words)

            states = read.states(story, protocol.context, report)
            return resample_states(states, story, protocol)

        features[name] = store.get(key, compute)[:n_kept]
    return features


def resample_states(states: Array, story: Story, protocol: Protocol) -> Array:
    """(n_layers, n_words, n_features) states of words -> (n_layers, n_trs, n_features) at TRs."""
    if not _all_finite(states):
        layer, word, _ = (int(axis[0]) for axis in np.nonzero(~np.isfinite(states)))
        raise InvalidNumbers(
            f"story {story.name!r}: the state of word {word} {story.words[word]!r} in layer {layer} is not finite"
        )
    resample = RESAMPLERS[protocol.design.resampling]
    at_trs = np.empty((len(states), story.n_trs, states.shape[2]), dtype=np.float32)
    for layer, target in zip(states, at_trs, strict=True):
        target[:] = resample(layer, story)
    return at_trs


def _all_finite(states: Array) -> bool:
    """Whether no number is NaN or infinite: their sums say it a dozen times as fast, unless they overflow."""
    with np.errstate(over="ignore", invalid="ignore"):
        if all(np.isfinite(layer.sum()) for layer in states):
            return True
    return bool(np.isfinite(states).all())


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
