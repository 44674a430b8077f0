# SPDX-License-Identifier: Apache-2.0
"""Perturbed sentences: the same listener, another text. After Kauf et al. 2024, with its defects mended.

A perturbation says for each place of a text which word stands there. Words keep their places in time, so that word rate
and rhythm are those that the listener heard. Parts of speech are Penn tags.
"""

import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from voxelboard.benchmark.errors import unknown_name
from voxelboard.benchmark.stimuli.sentences import reassign_sentences

# class -> Penn tags, as Kauf et al. 2024 group them; content is all four, function the rest.
CLASSES: Mapping[str, re.Pattern[str]] = {
    "nouns": re.compile(r"NN.*|PRP.*"),
    "verbs": re.compile(r"VB.*"),
    "adjectives": re.compile(r"JJ.*"),
    "adverbs": re.compile(r"RB.*"),
    "content": re.compile(r"NN.*|PRP.*|VB.*|JJ.*|RB.*"),
}
# class -> Penn tags and the word that is written for them: the corpora's classes, where a pronoun is no noun.
_TAGGED: Mapping[str, tuple[tuple[re.Pattern[str], str], ...]] = {
    "noun": ((re.compile(r"NN.*"), "NNOUN"),),
    "verb": ((re.compile(r"VB.*|MD"), "VVERB"),),
    "content": (
        (re.compile(r"NN.*"), "NNOUN"),
        (re.compile(r"VB.*|MD"), "VVERB"),
        (re.compile(r"JJ.*"), "AADJ"),
        (re.compile(r"RB.*"), "AADV"),
    ),
    "function": (
        (re.compile(r"PRP.*|WP.*|EX"), "PPRON"),
        (re.compile(r"DT|PDT|WDT"), "DDET"),
        (re.compile(r"IN|TO"), "AADP"),
        (re.compile(r"CC"), "CCONJ"),
        (re.compile(r"RP|POS|WRB"), "PPART"),
    ),
}
RANDOM_WORD = "RRANDOM"
FILLER = "the"

Rng = np.random.Generator


@dataclass(frozen=True)
class TaggedWords:
    """The words of a text in their places.

    Attributes
    ----------
    words : (n_words,).
    tags : (n_words,) Penn tags.
    sentences : indices of the words of each sentence, in order; all words are in one.
    """

    words: tuple[str, ...]
    tags: tuple[str, ...]
    sentences: tuple[tuple[int, ...], ...]


class Slot(NamedTuple):
    """What stands in a place.

    source : whose word it is, None for a word that is not of the text.
    word : None where nothing stands.
    """

    source: int | None
    word: str | None


Perturbation = Callable[[TaggedWords, Rng], list[Slot]]


def _permuted(text: TaggedWords, order: Sequence[int]) -> list[Slot]:
    return [Slot(i, text.words[i]) for i in order]


# --- order


def inversions(order: Sequence[int]) -> int:
    """Kendall's tau distance from the identity: pairs that stand in the wrong order."""
    return sum(order[i] > order[j] for i in range(len(order)) for j in range(i + 1, len(order)))


def kendall_order(n: int, distance: int, rng: Rng) -> list[int]:
    """An order of ``n`` things at exactly ``distance`` from the identity, or at the greatest possible, by adjacent swaps."""
    order = list(range(n))
    wanted = min(distance, n * (n - 1) // 2)
    done = 0
    while done < wanted:
        i = int(rng.integers(n - 1))
        order[i], order[i + 1] = order[i + 1], order[i]
        done += 1 if order[i] > order[i + 1] else -1
    return order


def shuffle_words(distance: int) -> Perturbation:
    """Each sentence at exactly this Kendall distance from itself."""

    def perturb(text: TaggedWords, rng: Rng) -> list[Slot]:
        order = [sentence[i] for sentence in text.sentences for i in kendall_order(len(sentence), distance, rng)]
        return _permuted(text, order)

    return perturb


def backward(text: TaggedWords, _rng: Rng) -> list[Slot]:
    """Each sentence from its end to its start."""
    return _permuted(text, [i for sentence in text.sentences for i in reversed(sentence)])


def low_pmi(text: TaggedWords, _rng: Rng) -> list[Slot]:
    """Each sentence as content[0::2] + function[0::2] + function[1::2] + content[1::2]: neighbours say little of each other."""
    order: list[int] = []
    for sentence in text.sentences:
        content = [i for i in sentence if CLASSES["content"].fullmatch(text.tags[i])]
        function = [i for i in sentence if not CLASSES["content"].fullmatch(text.tags[i])]
        order += content[0::2] + function[0::2] + function[1::2] + content[1::2]
    return _permuted(text, order)


class PairCounts:
    """Positive pointwise mutual information of words at a distance of 1 or 2, from texts."""

    def __init__(self, texts: Iterable[Sequence[str]], lag: int = 2) -> None:
        self._single: Counter[str] = Counter()
        self._pairs: Counter[tuple[str, str]] = Counter()
        for words in texts:
            lower = [word.lower() for word in words]
            self._single.update(lower)
            for distance in range(1, lag + 1):
                self._pairs.update(zip(lower, lower[distance:], strict=False))
        self._n_single = sum(self._single.values())
        self._n_pairs = sum(self._pairs.values())

    def ppmi(self, one: str, other: str) -> float:
        """``max(0, log p(one, other) / (p(one) p(other)))``, 0 for a pair that never stood together. Nats."""
        pair = self._pairs[one.lower(), other.lower()]
        if not pair:
            return 0.0
        expected = self._single[one.lower()] * self._single[other.lower()] / self._n_single**2
        return max(0.0, float(np.log(pair / self._n_pairs / expected)))

    def mean(self, words: Sequence[str], lag: int = 2) -> float:
        """Mean over the pairs of a sentence at distances up to ``lag``."""
        values = [
            self.ppmi(words[i], words[i + distance])
            for distance in range(1, lag + 1)
            for i in range(len(words) - distance)
        ]
        return float(np.mean(values)) if values else 0.0


def low_pmi_random(counts: PairCounts, n_draws: int = 10) -> Perturbation:
    """Of ``n_draws`` random orders of each sentence the one whose neighbours say least of each other."""

    def perturb(text: TaggedWords, rng: Rng) -> list[Slot]:
        order: list[int] = []
        for sentence in text.sentences:
            draws = [rng.permutation(sentence).tolist() for _ in range(n_draws)]
            order += min(draws, key=lambda draw: counts.mean([text.words[i] for i in draw]))
        return _permuted(text, order)

    return perturb


# --- words taken away or replaced


def keep(*classes: str) -> Perturbation:
    """Only words of these classes stay; ``function`` is what is not content."""

    def perturb(text: TaggedWords, _rng: Rng) -> list[Slot]:
        return [
            Slot(i, word) if in_class(tag, classes) else Slot(i, None)
            for i, (word, tag) in enumerate(zip(text.words, text.tags, strict=True))
        ]

    return perturb


def in_class(tag: str, classes: Sequence[str]) -> bool:
    """Whether a Penn tag is of one of the classes; raises UserError for an unknown class."""
    for name in classes:
        if name != "function" and name not in CLASSES:
            raise unknown_name("class of words", name, (*CLASSES, "function"))
    content = CLASSES["content"].fullmatch(tag) is not None
    return any(not content if name == "function" else CLASSES[name].fullmatch(tag) is not None for name in classes)


def delete_share(share: float, *classes: str) -> Perturbation:
    """A random share of the words of these classes is gone in every sentence, the order is kept.

    (In the source's published files of this condition nothing was deleted.)
    """

    def perturb(text: TaggedWords, rng: Rng) -> list[Slot]:
        slots = [Slot(i, word) for i, word in enumerate(text.words)]
        for sentence in text.sentences:
            members = [i for i in sentence if in_class(text.tags[i], classes)]
            for i in rng.choice(members, round(share * len(members)), replace=False).tolist() if members else ():
                slots[i] = Slot(i, None)
        return slots

    return perturb


def replace_by_tag(group: str) -> Perturbation:
    """Words of a class are written as its tag, as in the ablated corpora."""

    def perturb(text: TaggedWords, _rng: Rng) -> list[Slot]:
        tags = [tag_word(tag, group) for tag in text.tags]
        return [
            Slot(i, word) if tag is None else Slot(None, tag)
            for i, (word, tag) in enumerate(zip(text.words, tags, strict=True))
        ]

    return perturb


def tag_word(tag: str, group: str) -> str | None:
    """What is written for a Penn tag when the words of ``group`` are replaced; None for other words."""
    return next((written for pattern, written in _TAGGED[group] if pattern.fullmatch(tag)), None)


def replace_at_random(group: str) -> Perturbation:
    """The control of :func:`replace_by_tag`: as many words of every sentence, whichever they are."""

    def perturb(text: TaggedWords, rng: Rng) -> list[Slot]:
        slots = [Slot(i, word) for i, word in enumerate(text.words)]
        for sentence in text.sentences:
            n = sum(tag_word(text.tags[i], group) is not None for i in sentence)
            for i in rng.choice(sentence, n, replace=False).tolist() if n else ():
                slots[i] = Slot(None, RANDOM_WORD)
        return slots

    return perturb


def swap(group: str) -> Perturbation:
    """Words of a class stand in each other's places, none in its own: what they say is gone, that they were there is not.

    What a model makes of such a text has the variance that it had, which replacement by a tag takes away: where a brain
    does not follow a class, nothing is lost by this and something is *gained* by the tag (statistics.md G2).
    """

    def perturb(text: TaggedWords, rng: Rng) -> list[Slot]:
        groups: dict[str, list[int]] = {}
        for i, tag in enumerate(text.tags):
            written = tag_word(tag, group)
            if written is not None:
                groups.setdefault(written, []).append(i)
        order = list(range(len(text.words)))
        for places in groups.values():
            sources = reassign_sentences(len(places), rng) if len(places) > 1 else [0]
            for place, k in zip(places, sources, strict=True):
                order[place] = places[k]
        return _permuted(text, order)

    return perturb


def random_nouns(text: TaggedWords, rng: Rng) -> list[Slot]:
    """Only nouns, as many in each sentence as it had, dealt from those of the whole text."""
    nouns = [i for i, tag in enumerate(text.tags) if CLASSES["nouns"].fullmatch(tag)]
    slots = [Slot(i, None) for i in range(len(text.words))]
    for place, source in zip(nouns, rng.permutation(nouns).tolist() if nouns else [], strict=True):
        slots[place] = Slot(source, text.words[source])
    return slots


def word_list(*, by_class: bool) -> Perturbation:
    """All words of the text, shuffled; every word once. ``by_class``: a word takes the place of one of its own tag."""

    def perturb(text: TaggedWords, rng: Rng) -> list[Slot]:
        groups: dict[str, list[int]] = {}
        for i, tag in enumerate(text.tags):
            groups.setdefault(tag if by_class else "", []).append(i)
        order = list(range(len(text.words)))
        for places in groups.values():
            for place, source in zip(places, rng.permutation(places).tolist(), strict=True):
                order[place] = source
        return _permuted(text, order)

    return perturb


def constant(word: str = FILLER) -> Perturbation:
    """The same word in every place: what is left is the number of words."""

    def perturb(text: TaggedWords, _rng: Rng) -> list[Slot]:
        return [Slot(None, word) for _ in text.words]

    return perturb


# --- sentences in other places


def shuffle_sentences(text: TaggedWords, rng: Rng) -> list[Slot]:
    """The sentences of the text in another order, none in its own place."""
    order = reassign_sentences(len(text.sentences), rng)
    return _permuted(text, [i for k in order for i in text.sentences[k]])


PERTURBATIONS: Mapping[str, Perturbation] = {
    "noun": replace_by_tag("noun"),
    "verb": replace_by_tag("verb"),
    "content": replace_by_tag("content"),
    "function": replace_by_tag("function"),
    "swap-noun": swap("noun"),
    "swap-verb": swap("verb"),
    "swap-content": swap("content"),
    "swap-function": swap("function"),
    "random-noun": replace_at_random("noun"),
    "random-verb": replace_at_random("verb"),
    "random-content": replace_at_random("content"),
    "random-function": replace_at_random("function"),
    "keep-nouns": keep("nouns"),
    "keep-verbs": keep("verbs"),
    "keep-nouns-verbs": keep("nouns", "verbs"),
    "keep-nouns-verbs-adjectives": keep("nouns", "verbs", "adjectives"),
    "keep-content": keep("content"),
    "keep-function": keep("function"),
    "delete-half-nouns": delete_share(0.5, "nouns"),
    "random-nouns": random_nouns,
    "shuffle-1": shuffle_words(1),
    "shuffle-3": shuffle_words(3),
    "shuffle-5": shuffle_words(5),
    "shuffle-7": shuffle_words(7),
    "low-pmi": low_pmi,
    "backward": backward,
    "word-list": word_list(by_class=False),
    "word-list-by-class": word_list(by_class=True),
    "shuffle-sentences": shuffle_sentences,
    "constant": constant(),
}


def load_perturbation(name: str) -> Perturbation:
    """The perturbation of a name; raises UserError for an unknown one."""
    if name not in PERTURBATIONS:
        raise unknown_name("perturbation", name, PERTURBATIONS)
    return PERTURBATIONS[name]
