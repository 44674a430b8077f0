# SPDX-License-Identifier: Apache-2.0
"""Words to TRs against hand counts and closed forms."""

import numpy as np
import pytest

from voxelboard.benchmark.features.resample import RESAMPLERS, lanczos, tr_mean, tr_sum
from voxelboard.benchmark.stimuli.stories import Story, make_story


def story_of(onsets: list[float], n_trs: int, tr: float = 2.0) -> Story:
    words = [f"w{i}" for i in range(len(onsets))]
    return make_story("s", words, onsets, [t + 0.1 for t in onsets], n_trs=n_trs, tr=tr)


def test_mean_and_sum_of_a_hand_counted_story() -> None:
    story = story_of([0.0, 1.9, 2.0, 7.5], n_trs=5)
    features = np.array([[1.0], [3.0], [10.0], [7.0]])
    np.testing.assert_array_equal(tr_sum(features, story)[:, 0], [4, 10, 0, 7, 0])
    np.testing.assert_array_equal(tr_mean(features, story)[:, 0], [2, 10, 0, 7, 0])


def test_sparse_weights_are_those_of_the_dense_way() -> None:
    rng = np.random.default_rng(1)
    story = story_of([0.0, *sorted(rng.uniform(0, 240, 700).tolist())], n_trs=121)
    features = rng.standard_normal((701, 5)).astype(np.float32)
    summed = np.zeros((121, 5))
    np.add.at(summed, story.word_trs, features)
    assert tr_sum(features, story).tobytes() == summed.tobytes()  # the same additions in the same order
    x = (np.arange(121)[:, None] + 0.5) - (story.onsets + story.offsets)[None] / 2 / 2.0
    weights = np.where(np.abs(x) <= 3, np.sinc(x) * np.sinc(x / 3), 0.0)
    np.testing.assert_allclose(lanczos(features, story), weights @ features, rtol=0, atol=1e-13)


@pytest.mark.parametrize(("name", "first_changed"), [("tr_mean", 60), ("lanczos3", 57)])
def test_how_far_a_word_reaches_back(name: str, first_changed: int) -> None:
    # statistics.md E7: within-TR pooling is causal, Lanczos with window 3 leaks 3 TRs of future.
    rng = np.random.default_rng(0)
    story = story_of(sorted(rng.uniform(0, 200, 400).tolist()), n_trs=100)
    features = rng.standard_normal((400, 3))
    edited = features.copy()
    edited[story.word_trs >= 60] += 1
    changed = np.flatnonzero((RESAMPLERS[name](features, story) != RESAMPLERS[name](edited, story)).any(axis=1))
    assert changed[0] == first_changed


def test_constant_words_are_constant_where_there_is_speech() -> None:
    story = story_of([0.5, 0.7, 4.1], n_trs=4)
    np.testing.assert_array_equal(tr_mean(np.full((3, 2), 5.0), story)[:, 0], [5, 0, 5, 0])


def test_lanczos_reproduces_a_band_limited_signal() -> None:
    # Dense, evenly spaced words: the sum over words of the kernel approximates density times the signal.
    per_tr = 20
    onsets = ((np.arange(100 * per_tr) + 0.5) / per_tr * 2.0).tolist()
    words = [str(i) for i in range(len(onsets))]
    story = make_story("s", words, onsets, onsets, n_trs=100, tr=2.0)
    phase = 2 * np.pi * 0.05 * np.asarray(onsets) / 2.0
    sampled = lanczos(np.sin(phase)[:, None], story)[:, 0] / per_tr
    expected = np.sin(2 * np.pi * 0.05 * (np.arange(100) + 0.5))
    np.testing.assert_allclose(sampled[5:-5], expected[5:-5], atol=0.02)
