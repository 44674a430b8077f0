# SPDX-License-Identifier: Apache-2.0
"""A phrase-structure grammar whose sentences can be read, with the parse tree's numbers for every word."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from voxelboard.benchmark.stimuli.lexicon import BY_TOPIC, CLOSED_CLASSES, GENERAL, TOPICS

FloatArray = NDArray[np.float64]

# Right-hand sides and their probabilities. Upper-case names are rules or word classes; "," is printed, not heard.
# The first right-hand side of each rule is the shortest: it is taken below MAX_DEPTH.
RULES: Mapping[str, tuple[tuple[float, tuple[str, ...]], ...]] = {
    "SENTENCE": (
        (0.58, ("CLAUSE",)),
        (0.12, ("OPENER", "CLAUSE")),
        (0.14, ("SUBORDINATOR", "CLAUSE", ",", "CLAUSE")),
        (0.16, ("CLAUSE", ",", "CONJ", "CLAUSE")),
    ),
    "CLAUSE": ((1.0, ("SUBJECT", "PREDICATE")),),
    "SUBJECT": ((0.28, ("SPRON",)), (0.24, ("NAME",)), (0.48, ("NP",))),
    "NP": ((0.52, ("DET", "NOUN")), (0.26, ("DET", "ADJECTIVES", "NOUN")), (0.22, ("DET", "MODIFIED"))),
    "ADJECTIVES": ((0.85, ("ADJECTIVE",)), (0.15, ("ADJECTIVE", "ADJECTIVE"))),
    "MODIFIED": ((0.5, ("NOUN", "PP")), (0.5, ("NOUN", "RELATIVE"))),
    "RELATIVE": ((0.6, ("THAT", "PREDICATE")), (0.4, ("THAT", "SUBJECT", "TRANSITIVE"))),
    "PREDICATE": (
        (0.12, ("INTRANSITIVE", "ADVERB")),
        (0.16, ("INTRANSITIVE", "PP")),
        (0.36, ("TRANSITIVE", "OBJECT")),
        (0.18, ("TRANSITIVE", "OBJECT", "PP")),
        (0.06, ("ADVERB", "TRANSITIVE", "OBJECT")),
        (0.12, ("CLAUSAL", "THAT", "CLAUSE")),
    ),
    "OBJECT": ((0.2, ("OPRON",)), (0.8, ("NP",))),
    "PP": ((1.0, ("PREP", "NP")),),
}
MAX_DEPTH = 9  # open phrases; deeper only by the shortest right-hand sides

PARTS_OF_SPEECH = ("noun", "verb", "adjective", "adverb", "pronoun", "function")
_PART_OF_CLASS = {
    "NOUN": "noun",
    "NAME": "noun",
    "TRANSITIVE": "verb",
    "INTRANSITIVE": "verb",
    "CLAUSAL": "verb",
    "ADJECTIVE": "adjective",
    "ADVERB": "adverb",
    "OPENER": "adverb",
    "SPRON": "pronoun",
    "OPRON": "pronoun",
}
_ZIPF_OFFSET = 2.0  # weight of the word of rank k in its class: 1 / (k + offset), Mandelbrot's form of Zipf's law
_TOPIC_GAIN = 6.0  # odds of a word in a sentence about its own topic, against one about another
_CLOSE = ")"


@dataclass(frozen=True)
class WordClass:
    """The words of one class and their probabilities by topic."""

    part_of_speech: int  # index into PARTS_OF_SPEECH
    entries: NDArray[np.intp]  # (n_members,) indices into the lexicon
    probabilities: FloatArray  # (n_topics, n_members), rows sum to 1
    cumulative: FloatArray = field(repr=False)  # (n_topics, n_members)


@dataclass(frozen=True)
class Lexicon:
    """All words of the simulated stories."""

    words: tuple[str, ...]
    topics: NDArray[np.intp]  # (n_words,) index into TOPICS, -1 for words of no topic
    classes: Mapping[str, WordClass]

    def __len__(self) -> int:
        return len(self.words)


def build_lexicon() -> Lexicon:
    """The lexicon with its class, topic and Zipf probabilities. The same on every call."""
    members: dict[str, list[tuple[str, int]]] = {
        name: [(word, -1) for word in words.split()] for name, words in CLOSED_CLASSES.items()
    }
    for name, words in GENERAL.items():
        by_topic = [[(word, k) for word in BY_TOPIC[topic][name].split()] for k, topic in enumerate(TOPICS)]
        # topics take turns, so that no topic has the frequent words
        members[name] = [(word, -1) for word in words.split()] + [
            word for turn in zip(*by_topic, strict=True) for word in turn
        ]
    index: dict[str, int] = {}
    topics: list[int] = []
    for rows in members.values():
        for word, topic in rows:
            if word not in index:
                index[word] = len(index)
                topics.append(topic)
    classes = {name: _word_class(name, rows, index) for name, rows in members.items()}
    return Lexicon(tuple(index), np.array(topics, dtype=np.intp), classes)


def _word_class(name: str, rows: list[tuple[str, int]], index: Mapping[str, int]) -> WordClass:
    weights = 1.0 / (np.arange(len(rows)) + _ZIPF_OFFSET)
    topics = np.array([topic for _, topic in rows])
    by_topic = np.where(topics == np.arange(len(TOPICS))[:, None], _TOPIC_GAIN, 1.0) * weights
    probabilities = by_topic / by_topic.sum(axis=1, keepdims=True)
    return WordClass(
        part_of_speech=PARTS_OF_SPEECH.index(_PART_OF_CLASS.get(name, "function")),
        entries=np.array([index[word] for word, _ in rows], dtype=np.intp),
        probabilities=probabilities,
        cumulative=probabilities.cumsum(axis=1),
    )


@dataclass
class ParsedWord:
    """A word of a sentence and its place in the tree."""

    entry: int  # index into the lexicon
    word_class: str
    position: int  # words before it in the sentence
    depth: int  # open phrases above it
    surprisal: float  # nats: -log probability of the rules applied since the word before, and of the word
    closings: int = 0  # phrases that end with it
    punctuation: str = ""  # printed after it


def generate_sentence(lexicon: Lexicon, topic: int, rng: np.random.Generator) -> list[ParsedWord]:
    """Expand ``SENTENCE`` top-down, left to right.

    The surprisal is that of the derivation: the grammar's probability of this tree, not summed over other trees
    with the same words.
    """
    words: list[ParsedWord] = []
    stack: list[tuple[str, int]] = [("SENTENCE", 0)]
    log_probability = 0.0
    while stack:
        symbol, depth = stack.pop()
        if symbol == _CLOSE:
            words[-1].closings += 1
        elif symbol == ",":
            words[-1].punctuation = ","
        elif symbol in RULES:
            probability, parts = _choose_parts(symbol, depth, rng)
            log_probability += float(np.log(probability))
            stack.append((_CLOSE, depth))
            stack.extend((part, depth + 1) for part in reversed(parts))
        else:
            word_class = lexicon.classes[symbol]
            k = int(np.searchsorted(word_class.cumulative[topic], rng.random(), side="right"))
            k = min(k, len(word_class.entries) - 1)  # the last cumulative sum may be 1 - 1e-16
            log_probability += float(np.log(word_class.probabilities[topic, k]))
            entry = int(word_class.entries[k])
            words.append(ParsedWord(entry, symbol, len(words), depth, -log_probability))
            log_probability = 0.0
    words[-1].punctuation = "."
    return words


def _choose_parts(symbol: str, depth: int, rng: np.random.Generator) -> tuple[float, tuple[str, ...]]:
    alternatives = RULES[symbol]
    if depth >= MAX_DEPTH:
        return 1.0, alternatives[0][1]
    draw = rng.random()
    for probability, parts in alternatives:
        draw -= probability
        if draw < 0:
            return probability, parts
    return alternatives[-1]


def spell(lexicon: Lexicon, sentence: list[ParsedWord]) -> list[str]:
    """The words as printed and read: a capital at the start, "an" before a vowel."""
    words = [lexicon.words[word.entry] for word in sentence]
    for i, word in enumerate(words[:-1]):
        if word == "a" and words[i + 1][0] in "aeiou":
            words[i] = "an"
    words[0] = words[0][0].upper() + words[0][1:]
    return words
