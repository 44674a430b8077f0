# SPDX-License-Identifier: Apache-2.0
"""Timed words that do not fit their scan are refused, with the word in the message."""

import numpy as np
import pytest

from voxelboard.benchmark.errors import DataError
from voxelboard.benchmark.stimuli.stories import make_story

GOOD = {"words": ["one", "two"], "onsets": [0.5, 2.5], "offsets": [1.0, 3.0], "n_trs": 3, "tr": 2.0}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"onsets": [0.5, np.nan]}, r"word 1 'two' has no time"),
        ({"offsets": [1.0, np.inf]}, r"word 1 'two' has no time"),
        ({"onsets": [2.6, 2.5], "offsets": [3.0, 3.0]}, r"word 1 'two' starts before the word before it"),
        ({"offsets": [0.4, 3.0]}, r"word 0 'one' ends before it starts"),
        ({"onsets": [-0.1, 2.5]}, r"word 0 'one' starts before the first response row"),
        ({"n_trs": 1}, r"word 1 'two' starts beyond the scan of 1 x 2.0 s"),
        ({"onsets": [0.5]}, r"2 words but 1 onsets"),
        ({"words": [], "onsets": [], "offsets": []}, r"has no words"),
        ({"words": ["one", " "]}, r"word 1 is empty"),
        ({"tr": 0.0}, r"both must be positive"),
        ({"text": "one two", "spans": [(0, 3)]}, r"2 words but 1 text spans"),
        ({"text": "one two", "spans": [(0, 3), (4, 9)]}, r"span 4:9 of word 1 'two' lies outside the text"),
        ({"acoustics": np.zeros((2, 6))}, r"acoustics have shape \(2, 6\), expected \(3, n_bands\)"),
        ({"annotations": {"depth": np.zeros((3, 1))}}, r"annotation 'depth' has shape \(3, 1\)"),
    ],
)
def test_a_story_that_does_not_fit_is_refused(changes, message):
    with pytest.raises(DataError, match=message):
        make_story("a", **{**GOOD, **changes})


def test_a_good_story_places_each_word_in_its_tr():
    story = make_story("a", **GOOD)
    assert story.word_trs.tolist() == [0, 1]
    assert [story.text[a:b] for a, b in story.spans] == ["one", "two"]
