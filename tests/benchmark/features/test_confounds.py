# SPDX-License-Identifier: Apache-2.0
"""The confound band: hand-counted columns, bounded bins, a known HRF."""

import numpy as np

from voxelboard.benchmark.features.confounds import (
    SENTENCE_POSITION,
    canonical_hrf,
    confound_bins,
    confound_features,
    convolved_confounds,
    letters,
)
from voxelboard.benchmark.protocol import V1
from voxelboard.benchmark.stimuli.stories import Story, make_story

POLICY = V1.confounds


def story_of(words: list[str], name: str = "s") -> Story:
    n = len(words)
    onsets = np.arange(n) * 0.5
    position = np.arange(n, dtype=float)[:, None] % 7
    return make_story(name, words, onsets, onsets + 0.4, n_trs=n, tr=2.0, annotations={SENTENCE_POSITION: position})


def test_word_rate_letter_rate_and_presence_are_hand_counts() -> None:
    story = story_of(["a", "bcd", "don't", "x", "yy", "zzz", "four", "fives"])
    features = confound_features(story, confound_bins([story], POLICY), POLICY)
    n_word_columns = 4 + 5 + 1 + 5
    np.testing.assert_array_equal(features[:3, 0], [4, 4, 0])  # words a TR
    np.testing.assert_array_equal(features[:3, 1], [1 + 3 + 4 + 1, 2 + 3 + 4 + 5, 0])  # letters a TR
    np.testing.assert_array_equal(features[:3, n_word_columns], [1, 1, 0])  # speech is present
    assert features.shape == (8, 2 * n_word_columns)


def test_bins_are_bounded_for_words_longer_than_any_in_training() -> None:
    training = story_of(["a", "bb", "ccc", "dddd", "eeeee", "ffffff", "ggggggg"])
    bins = confound_bins([training], POLICY)
    longest = story_of(["w" * 60] * 4, "test")
    one_hot = slice(4, 9)
    assert confound_features(longest, bins, POLICY)[0, one_hot].sum() == 4
    assert confound_features(training, bins, POLICY)[:, one_hot].sum() == 7


def test_letters_count_no_punctuation() -> None:
    assert letters(story_of(["don’t", "“Oh!”", "well-kept"])).tolist() == [4, 2, 8]


def test_stories_without_sentences_have_no_sentence_columns() -> None:
    plain = make_story("p", ["a", "bb", "ccc"], [0, 1, 2], [1, 2, 3], n_trs=3, tr=2.0)
    bins = confound_bins([plain], POLICY)
    assert bins.sentence_position is None
    assert confound_features(plain, bins, POLICY).shape == (3, 2 * 9)


def test_hrf_peaks_five_seconds_after_a_word_and_undershoots() -> None:
    # Double gamma with shapes 6 and 16: the first mode lies at 5 s.
    hrf = canonical_hrf(0.1)
    assert abs(np.argmax(hrf) * 0.1 - 5.0) < 0.2
    assert 12 < np.argmin(hrf) * 0.1 < 18
    np.testing.assert_allclose((hrf**2).sum(), 1)


def test_an_impulse_becomes_the_hrf() -> None:
    impulse = np.zeros((40, 1))
    impulse[3] = 1
    convolved = convolved_confounds({"s": impulse}, 2.0)["s"]
    hrf = canonical_hrf(2.0)
    np.testing.assert_allclose(convolved[3 : 3 + len(hrf), 0], hrf)
    np.testing.assert_array_equal(convolved[:3], 0)
