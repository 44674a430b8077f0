# SPDX-License-Identifier: Apache-2.0
"""Parts of speech against tags that anyone can check by hand, and against the grammar's own."""

import builtins

import numpy as np
import pytest

from voxelboard.benchmark.errors import MissingPrerequisite
from voxelboard.benchmark.stimuli import tagging
from voxelboard.benchmark.stimuli.grammar import PARTS_OF_SPEECH, build_lexicon, generate_sentence, spell
from voxelboard.benchmark.stimuli.lexicon import TOPICS
from voxelboard.benchmark.stimuli.tagging import (
    ADJECTIVES,
    ADVERBS,
    NOUNS,
    PRONOUNS,
    VERBS,
    WORD_CLASSES,
    tag_text,
    tag_words,
    tagger_version,
)


def tags(text):
    return " ".join(f"{word.text}/{word.tag}" for word in tag_text(text))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Mary was a beautiful woman.", "Mary/NNP was/VBD a/DT beautiful/JJ woman/NN ./."),
        ("a red dog chases two small birds", "a/DT red/JJ dog/NN chases/VBZ two/CD small/JJ birds/NNS"),
        ("a woman slowly cuts a pizza", "a/DT woman/NN slowly/RB cuts/VBZ a/DT pizza/NN"),
        (
            "the striped cat is chased by three kids",
            "the/DT striped/JJ cat/NN is/VBZ chased/VBN by/IN three/CD kids/NNS",
        ),
        ("tennis players on a court", "tennis/NN players/NNS on/IN a/DT court/NN"),  # no verb: no object after it
    ],
)
def test_tags_of_sentences_that_can_be_checked_by_hand(text, expected):
    assert tags(text) == expected


def test_tokens_lie_where_they_say_and_cover_all_but_blanks():
    text = "A man's well-kept dog (it's 3.5 kg) runs -- over its bowl!"
    words = tag_text(text)
    assert [text[word.start : word.stop] for word in words] == [word.text for word in words]
    assert "".join(word.text for word in words) == "".join(text.split())
    assert [word.text for word in words][:5] == ["A", "man", "'s", "well-kept", "dog"]


def test_nothing_to_tag_gives_nothing():
    assert tag_text("  ") == ()
    assert tag_words([]) == ()


def test_classes_of_words_are_disjoint():
    every = [tag for tags in WORD_CLASSES.values() for tag in tags]
    assert len(every) == len(set(every))


def test_most_words_of_the_project_s_grammar_get_their_true_class():
    """The grammar knows the class of every word it says; docs/captions.md has the figure."""
    lexicon = build_lexicon()
    rng = np.random.default_rng(0)
    truth = {"noun": NOUNS, "verb": VERBS, "adjective": ADJECTIVES, "adverb": ADVERBS, "pronoun": PRONOUNS}
    assert set(truth) <= set(PARTS_OF_SPEECH)
    hits = total = 0
    for k in range(200):
        sentence = generate_sentence(lexicon, k % len(TOPICS), rng)
        for tag, word in zip(tag_words(spell(lexicon, sentence)), sentence, strict=True):
            name = PARTS_OF_SPEECH[lexicon.classes[word.word_class].part_of_speech]
            if name in truth:
                total += 1
                hits += tag in truth[name]
    assert hits / total > 0.9


def test_a_missing_package_is_named_with_the_line_that_installs_it(monkeypatch):
    real = builtins.__import__

    def without(name, *args, **kwargs):
        if name.startswith("textblob"):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
        return real(name, *args, **kwargs)

    tagging._parser.cache_clear()
    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(MissingPrerequisite, match="textblob") as caught:
        tag_words(["a"])
    assert caught.value.hint == "pip install textblob"
    tagging._parser.cache_clear()


def test_the_tagger_says_which_it_is():
    assert tagger_version().startswith("textblob ")
