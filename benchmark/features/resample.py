# SPDX-License-Identifier: Apache-2.0
"""From words to TRs."""

import numpy as np
from numpy.typing import NDArray

from voxelboard.benchmark.stimuli.stories import Story

FloatArray = NDArray[np.float64]


def tr_sum(word_features: NDArray[np.floating], story: Story) -> FloatArray:
    """(n_trs, n_features): sum over the words that start in each TR, zero where none does.

    ``word_features`` is (n_words, n_features).
    """
    summed = np.zeros((story.n_trs, word_features.shape[1]))
    np.add.at(summed, story.word_trs, word_features)
    return summed


def tr_mean(word_features: NDArray[np.floating], story: Story) -> FloatArray:
    """(n_trs, n_features): mean over the words that start in each TR, zero where none does.

    Causal: a word changes its own TR and none before it. ``word_features`` is (n_words, n_features).
    """
    counts = np.bincount(story.word_trs, minlength=story.n_trs)
    return tr_sum(word_features, story) / np.maximum(counts, 1)[:, None]


def lanczos(word_features: NDArray[np.floating], story: Story, window: int = 3) -> FloatArray:
    """(n_trs, n_features): Lanczos-filtered at mid-TR times, cut-off at the TR rate.

    Not causal: a word reaches ``window`` TRs back. ``word_features`` is (n_words, n_features).
    Source: Huth et al. 2016; sinc(x) sinc(x / window) with x in TRs, word times are mid-word.
    """
    return lanczos_matrix(story, window) @ word_features


def lanczos_matrix(story: Story, window: int = 3) -> FloatArray:
    """(n_trs, n_words) weights, shared by all layers and features."""
    mid_trs = (np.arange(story.n_trs) + 0.5) * story.tr
    mid_words = (story.onsets + story.offsets) / 2
    distance = (mid_trs[:, None] - mid_words[None, :]) / story.tr
    weights = np.sinc(distance) * np.sinc(distance / window)
    return np.where(np.abs(distance) <= window, weights, 0.0)


RESAMPLERS = {"tr_mean": tr_mean, "lanczos3": lanczos}
