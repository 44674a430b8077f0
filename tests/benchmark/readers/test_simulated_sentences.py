# SPDX-License-Identifier: Apache-2.0
"""Simulated sentences: the same bytes for the same seed, and the truth that was planted."""

import numpy as np
import pytest

from voxelboard.benchmark.errors import UserError
from voxelboard.benchmark.features.resample import tr_mean
from voxelboard.benchmark.readers.base import check_responses
from voxelboard.benchmark.readers.cards import load_card
from voxelboard.benchmark.readers.registry import open_dataset
from voxelboard.benchmark.readers.simulated_sentences import open_simulated_sentences


@pytest.fixture(scope="module")
def tiny():
    return open_simulated_sentences("tiny")


def test_rows_are_sentences_of_passages(tiny):
    for story in tiny.stories.values():
        assert (story.row_unit, len(story.text_starts)) == ("sentence", 6)
        starts = np.flatnonzero(story.annotations["sentence_position"][:, 0] == 0)
        assert len(starts) == story.n_trs
        assert set(story.text_starts) <= set(starts.tolist())
        np.testing.assert_array_equal(story.word_trs[starts], np.arange(story.n_trs))
        for start, word in zip(starts, np.array(story.words)[starts], strict=True):
            assert story.text[story.spans[start][0] : story.spans[start][1]] == word
        np.testing.assert_allclose(tr_mean(np.ones((story.n_words, 1)), story), 1)


def test_the_signal_has_the_planted_power(tiny):
    responses = tiny.responses("sim01")
    check_responses(responses, tiny.stories, min_trs=1)
    signal = np.concatenate(list(tiny.signal("sim01").values()))
    runs = np.concatenate(list(responses.runs.values()), axis=1)
    told = tiny.rois != "NULL"
    np.testing.assert_allclose(signal[:, told].var(axis=0), 1 / 3, rtol=1e-6)  # snr .5: a third of unit variance
    assert (signal[:, ~told] == 0).all()
    noise = runs - signal
    np.testing.assert_allclose(noise.var(axis=(0, 1)).mean(), 2 / 3, rtol=0.05)
    # a third of the noise is that of the passage
    first = tiny.stories["fold01"]
    starts = np.flatnonzero(first.annotations["sentence_position"][:, 0] == 0)
    same = np.searchsorted(first.text_starts, starts[1:], side="right") == np.searchsorted(
        first.text_starts, starts[:-1], side="right"
    )
    own = responses.runs["fold01"] - tiny.signal("sim01")["fold01"]
    shared = (own[:, 1:][:, same] * own[:, :-1][:, same]).mean() / own.var()
    assert abs(shared - 0.3) < 0.06


def test_the_same_seed_gives_the_same_bytes(tiny):
    again, other = open_simulated_sentences("tiny"), open_simulated_sentences("tiny", 1)
    assert again.responses("sim02").sha256() == tiny.responses("sim02").sha256()
    assert other.responses("sim02").sha256() != tiny.responses("sim02").sha256()
    assert other.name == "simulated-sentences:tiny:1"


def test_the_card_says_what_the_generator_makes():
    card, data = load_card("simulated-sentences"), open_dataset("simulated-sentences")
    assert (card.subjects, card.scored_rois, card.version) == (data.subjects, data.scored_rois, data.version)
    assert (card.split.n_folds, card.ceiling_kind) == (len(data.stories), data.ceiling_kind)
    for name, message in (("huge", "unknown preset"), ("tiny:x", "'x' is not a seed")):
        with pytest.raises(UserError, match=message):
            open_dataset(f"simulated-sentences:{name}")
