# SPDX-License-Identifier: Apache-2.0
"""The catalogue of perturbations: exact distances, kept multisets, words in the places where they belong."""

from collections import Counter
from itertools import pairwise

import numpy as np
import pytest
from scipy.stats import kendalltau

from voxelboard.benchmark.errors import DataError, UserError
from voxelboard.benchmark.stimuli.perturbations import (
    PERTURBATIONS,
    PairCounts,
    Slot,
    TaggedWords,
    in_class,
    inversions,
    kendall_order,
    load_perturbation,
    low_pmi_random,
)
from voxelboard.benchmark.stimuli.perturbed_stories import perturb_story, tagged_words
from voxelboard.benchmark.stimuli.sentences import reassign_sentences, sentences_at, windows_of
from voxelboard.benchmark.stimuli.stories import Story, make_story

WORDS = [
    "the",
    "old",
    "dog",
    "saw",
    "a",
    "small",
    "cat",
    "and",
    "it",
    "ran",
    "home",
    "quickly",
    "then",
    "a",
    "woman",
    "called",
    "her",
    "lazy",
    "dog",
    "back",
]
TAGS = [
    "DT",
    "JJ",
    "NN",
    "VBD",
    "DT",
    "JJ",
    "NN",
    "CC",
    "PRP",
    "VBD",
    "NN",
    "RB",
    "RB",
    "DT",
    "NN",
    "VBD",
    "PRP$",
    "JJ",
    "NN",
    "RB",
]
TEXT = TaggedWords(tuple(WORDS), tuple(TAGS), (tuple(range(12)), tuple(range(12, 20))))
ORDERS = ("shuffle-1", "shuffle-7", "backward", "low-pmi", "word-list", "word-list-by-class", "shuffle-sentences")


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def said(name: str, seed: int = 0) -> list[str | None]:
    return [slot.word for slot in load_perturbation(name)(TEXT, rng(seed))]


@pytest.mark.parametrize("distance", [1, 3, 5, 7])
@pytest.mark.parametrize("n", [5, 10, 23])
def test_orders_have_the_exact_kendall_distance(distance: int, n: int) -> None:
    for seed in range(20):
        order = kendall_order(n, distance, rng(seed))
        assert sorted(order) == list(range(n))
        assert inversions(order) == distance
        tau = kendalltau(range(n), order).statistic
        assert tau == pytest.approx(1 - 4 * distance / (n * (n - 1)))  # scipy as the oracle


def test_a_sentence_that_is_too_short_is_turned_as_far_as_it_goes() -> None:
    assert inversions(kendall_order(3, 7, rng())) == 3
    assert kendall_order(1, 5, rng()) == [0]
    assert kendall_order(0, 5, rng()) == []


@pytest.mark.parametrize("name", ORDERS)
def test_orders_keep_the_words_and_their_sources(name: str) -> None:
    slots = load_perturbation(name)(TEXT, rng(1))
    assert Counter(slot.word for slot in slots) == Counter(WORDS)
    assert all(slot.source is not None and WORDS[slot.source] == slot.word for slot in slots)
    assert [slot.word for slot in slots] != WORDS
    if name not in ("word-list", "word-list-by-class", "shuffle-sentences"):
        for sentence in TEXT.sentences:  # within sentences
            assert Counter(slots[i].word for i in sentence) == Counter(WORDS[i] for i in sentence)


def test_sentences_by_hand() -> None:
    assert said("backward")[:3] == ["quickly", "home", "ran"]
    first = "old cat home the a and"  # content[0::2] is old saw cat it home ... by tag
    assert said("keep-nouns") == [w if t.startswith(("NN", "PRP")) else None for w, t in zip(WORDS, TAGS, strict=True)]
    assert said("keep-verbs")[3] == "saw"
    assert said("noun")[:7] == ["the", "old", "NNOUN", "saw", "a", "small", "NNOUN"]
    assert said("verb")[2:5] == ["dog", "VVERB", "a"]
    assert said("function")[:4] == ["DDET", "old", "dog", "saw"]
    assert said("content")[:4] == ["the", "AADJ", "NNOUN", "VVERB"]
    assert said("constant") == ["the"] * 20
    content = ["old", "dog", "saw", "small", "cat", "it", "ran", "home", "quickly"]
    function = ["the", "a", "and"]
    expected = content[0::2] + function[0::2] + function[1::2] + content[1::2]
    assert said("low-pmi")[:12] == expected, first


@pytest.mark.parametrize("group", ["noun", "verb", "content", "function"])
def test_controls_replace_as_many_words_in_every_sentence(group: str) -> None:
    replaced, control = (load_perturbation(name)(TEXT, rng(2)) for name in (group, f"random-{group}"))
    for sentence in TEXT.sentences:
        n = sum(replaced[i].source is None for i in sentence)
        assert sum(control[i].source is None for i in sentence) == n > 0
    assert [slot.source for slot in control] != [slot.source for slot in replaced]


def test_half_of_the_nouns_is_deleted_and_the_order_kept() -> None:
    slots = load_perturbation("delete-half-nouns")(TEXT, rng())
    nouns = [i for i, tag in enumerate(TAGS) if in_class(tag, ["nouns"])]
    assert sum(slots[i].word is None for i in nouns) == 2 + 2  # of 4 in each sentence (a pronoun is a noun here)
    kept = [slot.source for slot in slots if slot.word is not None]
    assert kept == sorted(kept)
    assert all(slots[i].word == WORDS[i] for i in range(20) if i not in nouns)


def test_word_lists_use_every_word_once_and_by_class_keep_the_tags() -> None:
    slots = load_perturbation("word-list-by-class")(TEXT, rng(3))
    assert [TAGS[slot.source or 0] for slot in slots] == TAGS
    nouns = load_perturbation("random-nouns")(TEXT, rng(3))
    places = [i for i, slot in enumerate(nouns) if slot.word is not None]
    assert places == [i for i, tag in enumerate(TAGS) if in_class(tag, ["nouns"])]
    assert Counter(nouns[i].word for i in places) == Counter(WORDS[i] for i in places)


@pytest.mark.parametrize("group", ["noun", "verb", "content", "function"])
def test_swapped_words_stand_in_places_of_their_class_and_not_in_their_own(group: str) -> None:
    slots = load_perturbation(f"swap-{group}")(TEXT, rng(4))
    tagged = load_perturbation(group)(TEXT, rng())
    assert Counter(slot.word for slot in slots) == Counter(WORDS)
    for place, slot in enumerate(slots):
        replaced = tagged[place].word if tagged[place].source is None else None
        if replaced is None:
            assert slot.source == place
        else:
            assert tagged[slot.source or 0].word == replaced
            alone = sum(other.word == replaced and other.source is None for other in tagged) == 1
            assert slot.source != place or alone


def test_no_sentence_stays_in_its_place() -> None:
    passages = [k // 4 for k in range(40)]
    topics = [k // 8 for k in range(40)]
    for seed in range(10):
        for options in ({}, {"within": passages}, {"within": topics}, {"across": topics}):
            order = reassign_sentences(40, rng(seed), **options)
            assert sorted(order) == list(range(40))
            assert all(place != source for place, source in enumerate(order))
            if "within" in options:
                labels = options["within"]
                assert all(labels[place] == labels[source] for place, source in enumerate(order))
            if "across" in options:
                assert all(topics[place] != topics[source] for place, source in enumerate(order))


def test_assignments_that_cannot_be() -> None:
    with pytest.raises(UserError, match="cannot all change"):
        reassign_sentences(3, rng(), within=[0, 0, 1])
    with pytest.raises(UserError, match="cannot all change"):
        reassign_sentences(5, rng(), across=[0, 0, 0, 1, 1])


def test_low_pmi_orders_say_less_of_their_neighbours() -> None:
    counts = PairCounts([WORDS] * 5)
    assert counts.ppmi("lazy", "dog") == pytest.approx(
        np.log(counts._pairs["lazy", "dog"] / counts._n_pairs / (5 / 100 * 10 / 100))
    )
    assert counts.ppmi("dog", "lazy") == 0.0
    order = low_pmi_random(counts)(TEXT, rng(1))
    for sentence in TEXT.sentences:
        assert counts.mean([order[i].word or "" for i in sentence]) < counts.mean([WORDS[i] for i in sentence])


def test_windows_and_sentences() -> None:
    assert [len(window) for window in windows_of(25, 10)] == [10, 15]
    assert windows_of(4, 10) == ((0, 1, 2, 3),)
    assert sentences_at(np.array([0.0, 1, 2, 0, 1])) == ((0, 1, 2), (3, 4))


def story(n: int = 20, **options: object) -> Story:
    return make_story("tale", WORDS[:n], np.arange(n) * 0.5, np.arange(n) * 0.5 + 0.4, n_trs=20, tr=1.0, **options)


@pytest.mark.parametrize("name", PERTURBATIONS)
def test_places_keep_their_times_and_the_text_is_what_the_spans_say(name: str) -> None:
    original = story(annotations={"lex": np.arange(1.0, 21.0)[:, None]})
    perturbed = perturb_story(original, name, 10, 0)
    assert set(perturbed.onsets) <= set(original.onsets)
    assert all(perturbed.text[a:b] == word for word, (a, b) in zip(perturbed.words, perturbed.spans, strict=True))
    assert all(b <= a for (_, b), (a, _) in pairwise(perturbed.spans))
    for word, row in zip(perturbed.words, perturbed.annotations["lex"][:, 0], strict=True):
        if row:
            assert WORDS[int(row) - 1] == word
        else:
            assert word == "the" or word.isupper()
    again = perturb_story(original, name, 10, 0)
    assert again.sha256 == perturbed.sha256
    assert perturbed.sha256 != original.sha256


def test_rows_and_passages_stay_what_they_are() -> None:
    """A set of sentences stays one: read passage by passage, a row a sentence."""
    passages = story(row_unit="sentence", text_starts=(0, 2, 12))
    assert perturb_story(passages, "backward", 10, 0).text_starts == (0, 2, 12)
    kept = perturb_story(passages, "keep-nouns", 10, 0)
    assert kept.row_unit == "sentence"
    firsts = [kept.onsets[k] for k in kept.text_starts]
    assert firsts == [min(t for t in kept.onsets if t >= passages.onsets[k]) for k in (2, 12)], "no noun in the first"
    assert [kept.text_start(k) for k in range(kept.n_words)] == [
        0 if t < passages.onsets[12] else kept.text_starts[1] for t in kept.onsets
    ]


def test_sentences_of_a_story_are_its_own_where_they_are_known() -> None:
    position = np.array([*range(12), *range(8)], dtype=float)[:, None]
    assert tagged_words(story(annotations={"sentence_position": position}), 5).sentences == TEXT.sentences
    assert len(tagged_words(story(), 5).sentences) == 4


def test_a_story_without_a_word_left_and_unknown_names() -> None:
    with pytest.raises(DataError, match="no word is left by the perturbation 'keep-verbs'"):
        perturb_story(story(2), "keep-verbs", 10, 0)
    with pytest.raises(UserError, match="Did you mean 'shuffle-7'"):
        load_perturbation("shuffle-8")
    with pytest.raises(UserError, match="unknown class of words"):
        in_class("NN", ["nuons"])
    assert Slot(None, "x").source is None
