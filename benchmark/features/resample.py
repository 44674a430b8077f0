# SPDX-License-Identifier: Apache-2.0
"""From words to TRs, by sparse weights: a word touches one TR, or the few around it, of a story's hundreds."""

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from voxelboard.benchmark.stimuli.stories import Story

FloatArray = NDArray[np.float64]


def tr_sum(word_features: NDArray[np.floating], story: Story) -> FloatArray:
    """(n_trs, n_features): sum over the words that start in each TR, zero where none does.

    ``word_features`` is (n_words, n_features). Sums are float64, in the order of the words.
    """
    membership = csr_array(
        (np.ones(story.n_words), (story.word_trs, np.arange(story.n_words))), shape=(story.n_trs, story.n_words)
    )
    return _weighted(membership, word_features)


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
    return _weighted(lanczos_weights(story, window), word_features)


def lanczos_weights(story: Story, window: int = 3) -> csr_array:
    """(n_trs, n_words) weights; a word has some in the ``2 * window`` TRs around it and in no other."""
    mid_words = (story.onsets + story.offsets) / 2
    first = np.ceil(mid_words / story.tr - 0.5 - window).astype(np.int64) - 1  # one more: rounding decides nothing
    trs = first[:, None] + np.arange(2 * window + 3)
    distance = ((trs + 0.5) * story.tr - mid_words[:, None]) / story.tr
    words, places = np.nonzero((np.abs(distance) <= window) & (trs >= 0) & (trs < story.n_trs))
    x = distance[words, places]
    weights = np.sinc(x) * np.sinc(x / window)
    return csr_array((weights, (trs[words, places], words)), shape=(story.n_trs, story.n_words))


def _weighted(weights: csr_array, word_features: NDArray[np.floating]) -> FloatArray:
    found: FloatArray = weights @ np.asarray(word_features, dtype=np.float64)
    return found


RESAMPLERS = {"tr_mean": tr_mean, "lanczos3": lanczos}
