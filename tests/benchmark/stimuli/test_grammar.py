# SPDX-License-Identifier: Apache-2.0
"""Sentences of the simulated stories: readable, and with the numbers of their own trees."""

import re
from collections import Counter
from itertools import pairwise

import numpy as np
import pytest

from voxelboard.benchmark.stimuli.grammar import MAX_DEPTH, RULES, build_lexicon, generate_sentence, spell
from voxelboard.benchmark.stimuli.lexicon import TOPICS

LEXICON = build_lexicon()


@pytest.fixture(scope="module")
def sentences():
    rng = np.random.default_rng(1)
    return [generate_sentence(LEXICON, k % len(TOPICS), rng) for k in range(4000)]


def test_every_rule_is_a_probability_distribution_over_known_symbols():
    for alternatives in RULES.values():
        assert sum(p for p, _ in alternatives) == pytest.approx(1)
        for _, parts in alternatives:
            assert all(part == "," or part in RULES or part in LEXICON.classes for part in parts)
    for word_class in LEXICON.classes.values():
        assert word_class.probabilities.sum(axis=1) == pytest.approx(np.ones(len(TOPICS)))


def test_the_lexicon_has_some_800_words_that_are_all_used_by_a_class():
    assert 750 <= len(LEXICON) <= 900
    assert len(set(LEXICON.words)) == len(LEXICON)
    used = set(np.concatenate([word_class.entries for word_class in LEXICON.classes.values()]).tolist())
    assert used == set(range(len(LEXICON)))
    assert all(re.fullmatch("[A-Za-z]+", word) for word in LEXICON.words)


def test_sentences_are_of_readable_length(sentences):
    lengths = np.array([len(sentence) for sentence in sentences])
    assert 8 < lengths.mean() < 14
    assert lengths.min() >= 3
    assert np.mean(lengths > 30) < 0.01


def test_sentences_start_with_a_capital_and_articles_fit(sentences):
    for sentence in sentences[:500]:
        words = spell(LEXICON, sentence)
        assert words[0][0].isupper()
        for article, word in pairwise(words):
            if article.lower() in ("a", "an"):
                assert (article.lower() == "an") == (word[0] in "aeiou")
        assert sentence[-1].punctuation == "."


def test_every_sentence_closes_as_many_phrases_as_it_opens(sentences):
    """Open phrases above a word = phrases opened up to it - phrases closed before it; all are closed at the end."""
    for sentence in sentences:
        closed = np.cumsum([word.closings for word in sentence])
        depth = np.array([word.depth for word in sentence])
        opened = depth + np.concatenate([[0], closed[:-1]])
        assert (np.diff(opened) >= 0).all()  # phrases that have been opened stay opened
        assert closed[-1] == opened[-1]
        assert depth.max() <= MAX_DEPTH + 6
        assert [word.position for word in sentence] == list(range(len(sentence)))


def derivation(word):
    """What tells one way to arrive at a word from another."""
    return word.word_class, word.entry, word.depth, round(word.surprisal, 9)


def test_the_probabilities_behind_surprisal_sum_to_one():
    """exp(-surprisal) over the distinct derivations of a word, given those before it, is a distribution.

    Sampling finds most of it: once for the first word, once for the second after the commonest first.
    """
    rng = np.random.default_rng(2)
    sentences = [generate_sentence(LEXICON, 3, rng) for _ in range(30_000)]
    first = Counter(derivation(sentence[0]) for sentence in sentences)
    assert 0.97 < sum(np.exp(-key[-1]) for key in first) < 1 + 1e-6
    commonest, count = first.most_common(1)[0]
    probability = np.exp(-commonest[-1])
    assert count / len(sentences) == pytest.approx(probability, abs=4 * np.sqrt(probability / len(sentences)))
    second = {derivation(sentence[1]) for sentence in sentences if derivation(sentence[0]) == commonest}
    assert 0.8 < sum(np.exp(-key[-1]) for key in second) < 1 + 1e-6


def test_word_frequencies_follow_zipf(sentences):
    counts = np.bincount([word.entry for sentence in sentences for word in sentence], minlength=len(LEXICON))
    ranked = np.sort(counts)[::-1][:400]
    slope = np.polyfit(np.log(np.arange(1, 401)), np.log(ranked), 1)[0]
    assert -1.4 < slope < -0.7


def test_a_sentence_prefers_the_words_of_its_topic():
    rng = np.random.default_rng(3)
    sea = TOPICS.index("sea")
    entries = [word.entry for _ in range(1000) for word in generate_sentence(LEXICON, sea, rng)]
    counts = np.bincount(LEXICON.topics[entries] + 1, minlength=len(TOPICS) + 1)[1:]
    others = np.delete(counts, sea)
    assert counts[sea] > 4 * others.max()
