# SPDX-License-Identifier: Apache-2.0
"""Extraction through the store with a model whose states are known."""

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from voxelboard.benchmark.errors import InvalidNumbers, UserError
from voxelboard.benchmark.features.extract import extract_features, resample_states
from voxelboard.benchmark.features.store import FeatureStore
from voxelboard.benchmark.models.base import ModelIdentity, Progress
from voxelboard.benchmark.protocol import LANCZOS, V1, ContextPolicy
from voxelboard.benchmark.stimuli.stories import Story, make_story


class VisibleWords:
    """Its state is the number of words that it sees."""

    identity = ModelIdentity("causal", "test/visible", "0" * 40, "w", "t", "float32", 0, None)
    n_layers = 2
    n_features = 1

    def __init__(self, poison: bool = False) -> None:
        self.calls, self.poison = 0, poison

    def states(self, story: Story, context: ContextPolicy, progress: Progress | None = None) -> NDArray[np.float32]:
        self.calls += 1
        seen = [i - context.chunk_start(i) + 1 for i in range(story.n_words)]
        states = np.tile(np.asarray(seen, dtype=np.float32)[None, :, None], (2, 1, 1))
        if self.poison:
            states[1, 3] = np.nan
        return states


def one_word_a_tr(n: int) -> Story:
    onsets = np.arange(n) * 2.0
    return make_story("s", [f"w{i}" for i in range(n)], onsets, onsets + 1, n_trs=n, tr=2.0)


def test_context_grows_to_twice_the_stride_and_starts_again(tmp_path: Path) -> None:
    features = extract_features(VisibleWords(), {"s": one_word_a_tr(300)}, V1, FeatureStore(tmp_path))["s"]
    seen = features[0, :, 0]
    stride = V1.context.stride_words
    np.testing.assert_array_equal(seen[: 2 * stride], np.arange(1, 2 * stride + 1))
    assert seen[2 * stride] == stride + 1
    assert seen[2 * stride :].min() == stride + 1
    assert seen.max() == 2 * stride


def test_a_second_run_reads_the_store_and_another_protocol_does_not(tmp_path: Path) -> None:
    model, stories = VisibleWords(), {"s": one_word_a_tr(20)}
    for _ in range(2):
        extract_features(model, stories, V1, FeatureStore(tmp_path))
    assert model.calls == 1
    extract_features(model, stories, LANCZOS, FeatureStore(tmp_path))
    assert model.calls == 2


def test_states_that_are_not_finite_stop_the_run(tmp_path: Path) -> None:
    with pytest.raises(InvalidNumbers, match="word 3 'w3' in layer 1"):
        extract_features(VisibleWords(poison=True), {"s": one_word_a_tr(5)}, V1, FeatureStore(tmp_path))


def test_infinite_states_of_both_signs_are_found_and_large_ones_are_none() -> None:
    story = one_word_a_tr(5)
    states = np.ones((2, 5, 3), dtype=np.float32)
    states[0, 1, 1], states[0, 4, 2] = np.inf, -np.inf
    with pytest.raises(InvalidNumbers, match="word 1 'w1' in layer 0"):
        resample_states(states, story, V1)
    large = np.full((2, 5, 3), 3e38, dtype=np.float32)  # their sum is beyond float32
    np.testing.assert_array_equal(resample_states(large, story, V1), large)


class Stopping(VisibleWords):
    """It can be read to a layer, and counts how far it was."""

    read: tuple[int, ...] = ()

    def up_to(self, last_layer: int) -> "Stopping":
        Stopping.read = (*Stopping.read, last_layer)
        part = Stopping()
        part.n_layers = last_layer + 1
        return part

    def states(self, story: Story, context: ContextPolicy, progress: Progress | None = None) -> NDArray[np.float32]:
        return super().states(story, context, progress)[: self.n_layers]


@pytest.mark.parametrize("model", [VisibleWords, Stopping])
def test_the_first_layers_alone_are_the_same_bytes(
    tmp_path: Path, model: type[VisibleWords], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Stopping, "read", ())
    stories = {"s": one_word_a_tr(20)}
    first = extract_features(model(), stories, V1, FeatureStore(tmp_path / "part"), last_layer=0)["s"]
    store = FeatureStore(tmp_path / "whole")
    whole = extract_features(model(), stories, V1, store)["s"]
    assert first.shape == (1, 20, 1)
    assert first.tobytes() == whole[:1].tobytes()
    assert Stopping.read == ((0,) if model is Stopping else ())
    again = extract_features(model(), stories, V1, store, last_layer=0)["s"]  # out of the stored whole
    assert store.hits == 1
    assert again.tobytes() == first.tobytes()
    assert extract_features(model(), stories, V1, store, last_layer=1)["s"].tobytes() == whole.tobytes()


@pytest.mark.parametrize("last_layer", [-1, 2])
def test_layers_that_the_model_lacks_are_refused(tmp_path: Path, last_layer: int) -> None:
    with pytest.raises(UserError, match="allowed: 0 to 1"):
        extract_features(VisibleWords(), {}, V1, FeatureStore(tmp_path), last_layer=last_layer)
