# SPDX-License-Identifier: Apache-2.0
"""Controls of captions on sentences whose words anyone can list by hand."""

from collections import Counter

import numpy as np
import pytest

from voxelboard.benchmark.errors import UserError
from voxelboard.benchmark.stimuli.caption_controls import (
    TEXT_CONTROLS,
    TaggedCaptions,
    category_strings,
    control_texts,
    exchange_words,
    join_tokens,
    scrambled,
    single_words,
    words_of_class,
)
from voxelboard.benchmark.stimuli.captions import captioned_images
from voxelboard.benchmark.stimuli.tagging import tag_text

CAPTIONS = (
    ("A red dog slowly chases two small birds in the park.", "Two birds are chased by a dog."),
    ("Wow!", "Oh, well."),
)
FILLER = ("The large man holds a cake on the street.", "A woman is quietly watching three kites above a car.")


@pytest.fixture(scope="module")
def tagged():
    said = [CAPTIONS[0], CAPTIONS[1], *[FILLER] * 98]
    categories = np.zeros((100, 3), dtype=bool)
    categories[0] = [True, False, True]
    return TaggedCaptions(captioned_images(range(100), said, categories, ("dog", "fish", "bird")))


@pytest.mark.parametrize(
    ("word_class", "expected"),
    [
        ("nouns", ["dog", "birds", "park", "birds", "dog"]),
        ("verbs", ["chases", "are", "chased"]),
        ("adjectives", ["red", "small"]),
        ("adverbs", ["slowly"]),
        ("prepositions", ["in", "by"]),
    ],
)
def test_words_of_a_class_are_the_words_of_that_class(tagged, word_class, expected):
    assert list(words_of_class(tagged, word_class)[0]) == expected


def test_an_image_with_nothing_of_a_class_says_something_and_one_without_a_verb_is(tagged):
    assert words_of_class(tagged, "adjectives")[1] == ("something",)
    assert words_of_class(tagged, "verbs")[1] == ("is",)


def test_category_strings_name_what_is_shown_or_something(tagged):
    strings = category_strings(tagged.images)
    assert strings[0] == ("dog bird",)
    assert strings[1] == ("something",)


def test_single_words_are_all_words_without_punctuation(tagged):
    words = single_words(tagged)[0]
    assert Counter(words) == Counter(" ".join(CAPTIONS[0]).lower().replace(".", "").split())


def test_scrambling_keeps_every_word_of_every_caption_and_the_seed_decides(tagged):
    texts = scrambled(tagged, seed=0)
    for image, captions in zip(texts, tagged.images.captions, strict=True):
        for text, caption in zip(image, captions, strict=True):
            assert Counter(w.text for w in tag_text(text)) == Counter(w.text for w in tag_text(caption))
    assert texts == scrambled(tagged, seed=0)
    assert texts != scrambled(tagged, seed=1)
    assert sum(a == b for a, b in zip(texts, tagged.images.captions, strict=True)) == 0


def test_no_blank_before_closing_marks():
    assert join_tokens(["Oh", ",", "it", "'s", "a", "dog", "!"]) == "Oh, it's a dog!"
    assert join_tokens([]) == ""


def test_exchanged_words_are_of_the_same_class_others_stay_and_an_image_is_consistent(tagged):
    texts = exchange_words(tagged, ("nouns",), 0, {})
    nouns = set(tagged.pool("nouns"))
    for image, captions in zip(texts[:1], tagged.tagged[:1], strict=True):
        exchanged = {}
        for text, caption in zip(image, captions, strict=True):
            words = [w.text for w in tag_text(text)]
            assert len(words) == len(caption)
            for new, old in zip(words, caption, strict=True):
                if old.text.lower() in nouns:
                    assert new in nouns
                    assert new != old.text.lower()
                    assert exchanged.setdefault(old.text.lower(), new) == new
                else:
                    assert new == old.text


def test_a_replacement_is_no_synonym(tagged):
    """Only the one word that is far enough may come."""
    pool = tagged.pool("nouns")
    vectors = {word: np.array([1.0, 0.05 * i], dtype=np.float32) for i, word in enumerate(pool)}
    vectors[pool[-1]] = np.array([-1.0, 0.0], dtype=np.float32)
    texts = exchange_words(tagged, ("nouns",), 0, vectors, min_distance=1.0)
    for text, caption in zip(texts[2], tagged.tagged[2], strict=True):
        for new, old in zip(tag_text(text), caption, strict=True):
            if old.text in pool and old.text != pool[-1]:
                assert new.text == pool[-1]
    with pytest.raises(UserError, match="between 0 and 2"):
        exchange_words(tagged, ("nouns",), 0, {}, min_distance=3)


def test_every_control_gives_each_image_at_least_one_text(tagged):
    for name in TEXT_CONTROLS:
        texts = control_texts(name, tagged, 0, {})
        assert len(texts) == 100
        assert all(image and all(text.strip() for text in image) for image in texts)
    with pytest.raises(UserError, match="unknown control"):
        control_texts("noun", tagged, 0, {})
