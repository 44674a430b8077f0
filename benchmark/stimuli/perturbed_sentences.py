# SPDX-License-Identifier: Apache-2.0
"""Sets of sentences under the whole catalogue of Kauf et al. 2024: words in other places, words gone, sentences in other places.

As in the source, sentences are in lower case without punctuation, and a full stop ends each. In place of pairs counted
in a large corpus, low-PMI draws use the pairs of the set itself, unless counts are given.
"""

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from voxelboard.benchmark.errors import DataError, UserError, unknown_name
from voxelboard.benchmark.stimuli.perturbations import PERTURBATIONS, PairCounts, TaggedWords, low_pmi_random
from voxelboard.benchmark.stimuli.sentences import reassign_sentences
from voxelboard.benchmark.stimuli.tagging import tag_words

_PUNCTUATION = re.compile(r"[^\w\s'\-$%]+")
INTACT = "intact"
LOW_PMI_RANDOM = "low-pmi-random"
# One word in the place of all, and a text of as many words: nuisance controls, with a noun and a word that nobody knows too.
_CONSTANTS = {"constant-noun": "house", "constant-unknown": "jdfh"}
_ONE_WORD = {"one-word": "the", "one-word-noun": "house", "one-word-unknown": "jdfh"}


@dataclass(frozen=True)
class Sentence:
    """One sentence as presented, with the passage and the topic that it belongs to (empty: not known)."""

    text: str
    passage: str = ""
    topic: str = ""


def _anywhere(sentences: Sequence[Sentence], rng: np.random.Generator) -> list[int]:
    return reassign_sentences(len(sentences), rng)


def _within_passage(sentences: Sequence[Sentence], rng: np.random.Generator) -> list[int]:
    return reassign_sentences(len(sentences), rng, within=_labels(sentences, "passage"))


def _across_passages(sentences: Sequence[Sentence], rng: np.random.Generator) -> list[int]:
    return reassign_sentences(len(sentences), rng, across=_labels(sentences, "passage"))


def _within_topic(sentences: Sequence[Sentence], rng: np.random.Generator) -> list[int]:
    return reassign_sentences(len(sentences), rng, within=_labels(sentences, "topic"))


def _across_topics(sentences: Sequence[Sentence], rng: np.random.Generator) -> list[int]:
    return reassign_sentences(len(sentences), rng, across=_labels(sentences, "topic"))


_REASSIGNMENTS: Mapping[str, Callable[[Sequence[Sentence], np.random.Generator], list[int]]] = {
    "shuffle-sentences": _anywhere,
    "shuffle-sentences-within-passage": _within_passage,
    "shuffle-sentences-across-passages": _across_passages,
    "shuffle-sentences-within-topic": _within_topic,
    "shuffle-sentences-across-topics": _across_topics,
}


def sentence_perturbations() -> tuple[str, ...]:
    """All names, ``intact`` first."""
    return tuple(dict.fromkeys((INTACT, *PERTURBATIONS, LOW_PMI_RANDOM, *_CONSTANTS, *_ONE_WORD, *_REASSIGNMENTS)))


def perturb_sentences(
    sentences: Sequence[Sentence], name: str, seed: int = 42, counts: PairCounts | None = None
) -> list[str]:
    """What is presented in the place of each sentence; empty where no word of it is left.

    Parameters
    ----------
    seed : with the name it determines every draw.
    counts : of ``low-pmi-random``: pairs of a corpus; those of the sentences themselves by default.

    Raises
    ------
    UserError
        for an unknown name, labels that a reassignment needs and the sentences lack, and labels under which no sentence
        can change its place.
    DataError
        for a sentence without a word.
    """
    if name not in sentence_perturbations():
        raise unknown_name("perturbation", name, sentence_perturbations())
    plain = [_words(sentence, number) for number, sentence in enumerate(sentences)]
    rng = np.random.default_rng([seed, *name.encode()])
    if name == INTACT:
        return [_as_text(words) for words in plain]
    if name in _ONE_WORD:
        return [_as_text([_ONE_WORD[name]]) for _ in plain]
    if name in _CONSTANTS:
        return [_as_text([_CONSTANTS[name]] * len(words)) for words in plain]
    if name in _REASSIGNMENTS:
        return [_as_text(plain[source]) for source in _REASSIGNMENTS[name](sentences, rng)]
    perturb = PERTURBATIONS.get(name) or low_pmi_random(counts or PairCounts(plain))
    text = _tagged(plain)
    slots = perturb(text, rng)
    return [_as_text([word for i in places if (word := slots[i].word) is not None]) for places in text.sentences]


def read_sentences(path: Path) -> list[Sentence]:
    """Sentences of a text file (one a line, a blank line ends a passage) or of ``.jsonl`` with ``text``, ``passage``, ``topic``.

    Raises
    ------
    UserError
        for a file that is not there.
    DataError
        for a line that is no such object, and a file without a sentence.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        raise UserError(f"{path} is not there", "give a text file with one sentence a line, or .jsonl") from None
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path} cannot be read as UTF-8 text ({error})") from error
    if path.suffix == ".jsonl":
        found = [_from_json(line, path, number) for number, line in enumerate(lines, 1) if line.strip()]
    else:
        found, passage = [], 0
        for line in lines:
            passage += not line.strip()
            if line.strip():
                found.append(Sentence(line.strip(), passage=str(passage)))
    if not found:
        raise DataError(f"{path} holds no sentence", "one sentence a line; a blank line ends a passage")
    return found


def _from_json(line: str, path: Path, number: int) -> Sentence:
    try:
        entry = json.loads(line)
        return Sentence(str(entry["text"]), str(entry.get("passage", "")), str(entry.get("topic", "")))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise DataError(
            f"{path}, line {number}: no object with a text ({type(error).__name__})",
            'write {"text": "...", "passage": "...", "topic": "..."} on each line',
        ) from error


def _words(sentence: Sentence, number: int) -> list[str]:
    words = _PUNCTUATION.sub("", sentence.text.lower()).split()
    if not words:
        raise DataError(f"sentence {number + 1} {sentence.text[:40]!r} has no word", "leave it out")
    return words


def _as_text(words: Sequence[str]) -> str:
    return " ".join(words) + "." if words else ""


def _tagged(plain: Sequence[Sequence[str]]) -> TaggedWords:
    stops = np.cumsum([len(words) for words in plain]).tolist()
    places = tuple(tuple(range(stop - len(words), stop)) for stop, words in zip(stops, plain, strict=True))
    tags = tuple(tag for words in plain for tag in tag_words(words))
    return TaggedWords(tuple(word for words in plain for word in words), tags, places)


def _labels(sentences: Sequence[Sentence], kind: str) -> list[str]:
    labels = [str(getattr(sentence, kind)) for sentence in sentences]
    if not all(labels):
        raise UserError(
            f"sentence {labels.index('') + 1} has no {kind}, which this reassignment needs",
            f'give .jsonl with a "{kind}" for every sentence',
        )
    return labels
