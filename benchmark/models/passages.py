# SPDX-License-Identifier: Apache-2.0
"""Which stretches of a story are read in one pass, and whose words' states are kept of each.

A causal model reads a chunk in one pass: the state of a word depends on the words before it only. Every other
model reads each prefix by itself. In both cases word ``i`` sees the words ``chunk_start(i) .. i`` of its text, for every
tokenizer; a set of passages is read passage by passage.

Two cases need passes of their own, and are counted. A token that ends after its word would show a part of what follows,
at worst the next word: such a word of a causal model is read as a prefix, where its last token ends with it. (Otherwise
a prefix has the chunk's tokens: no merge or segmentation crossed the word's end, so what follows did not matter.) And where
a passage has more tokens than the model accepts, the words concerned lose context on the left, whole words at a
time, no more than needed.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby

import numpy as np

from voxelboard.benchmark.errors import DataError
from voxelboard.benchmark.models.alignment import Tokenizer, Tokens, WordTokens, align
from voxelboard.benchmark.protocol import ContextPolicy
from voxelboard.benchmark.stimuli.stories import Story


@dataclass(frozen=True)
class Passage:
    """Words ``first .. last`` of a story, read as one text; the states of words ``keep_from .. last`` are kept."""

    first: int
    last: int
    keep_from: int

    @property
    def kept(self) -> range:
        return range(self.keep_from, self.last + 1)


@dataclass(frozen=True, eq=False)
class Reading:
    """A passage with its tokens. ``words`` are the kept words, row for row with ``alignment``."""

    words: tuple[int, ...]
    tokens: Tokens
    alignment: WordTokens


@dataclass(frozen=True)
class Plan:
    """All readings of a story; together they keep each word once."""

    readings: tuple[Reading, ...]
    n_shortened: int  # words that saw fewer words than the policy says
    n_reaching_on: int  # words with a token that ends after the word


Planner = Callable[[Story, ContextPolicy, Tokenizer, int | None], Plan]


def first_seen(story: Story, context: ContextPolicy, word: int) -> int:
    """The first word that ``word`` sees: chunks are counted from the start of its own text."""
    start = story.text_start(word)
    return start + context.chunk_start(word - start)


def chunks(story: Story, context: ContextPolicy) -> list[Passage]:
    """One passage for all words of a text that see the same first word."""
    groups = [list(words) for _, words in groupby(range(story.n_words), lambda word: first_seen(story, context, word))]
    return [Passage(first_seen(story, context, words[0]), words[-1], words[0]) for words in groups]


def prefixes(story: Story, words: Iterable[int], context: ContextPolicy) -> list[Passage]:
    """One passage for each word, ending with it."""
    return [Passage(first_seen(story, context, word), word, word) for word in words]


def plan_causal(story: Story, context: ContextPolicy, tokenizer: Tokenizer, max_tokens: int | None) -> Plan:
    """Chunks, and prefixes for words whose last token would show what follows."""
    fitter = _Fitter(story, tokenizer, max_tokens)
    fitted, n_shortened = fitter.fit(chunks(story, context))
    readings, reaching = [], []
    for passage, tokens in fitted:
        reading = fitter.read(passage, tokens)
        alone = [word for word, on in zip(reading.words, reading.alignment.reaches_on, strict=True) if on]
        reaching += alone
        readings.append(_without(reading, set(alone)))
    own, n_shortened_alone = fitter.fit(prefixes(story, reaching, context))
    readings += [fitter.read(passage, tokens) for passage, tokens in own]
    return Plan(tuple(r for r in readings if r.words), n_shortened + n_shortened_alone, len(reaching))


def plan_prefixes(story: Story, context: ContextPolicy, tokenizer: Tokenizer, max_tokens: int | None) -> Plan:
    """A prefix for every word."""
    fitter = _Fitter(story, tokenizer, max_tokens)
    fitted, n_shortened = fitter.fit(prefixes(story, range(story.n_words), context))
    return Plan(tuple(fitter.read(passage, tokens) for passage, tokens in fitted), n_shortened, 0)


def plan_texts(texts: Sequence[str], tokenizer: Tokenizer, max_tokens: int | None) -> Plan:
    """One reading for each text, whole; ``words`` holds the text's number, ``alignment`` its tokens but special ones.

    A text with more tokens than ``max_tokens`` loses the last ones, the special tokens around it stay.

    Raises
    ------
    DataError
        for a text without a token.
    """
    readings, n_shortened = [], 0
    for number, (text, whole) in enumerate(zip(texts, tokenizer.encode(texts), strict=True)):
        tokens = _cut_tokens(whole, max_tokens)
        n_shortened += len(tokens) < len(whole)
        own = np.flatnonzero(~tokens.special)
        if len(own) == 0:
            raise DataError(f"text {text[:60]!r} gets no token from the tokenizer of {tokenizer.name}")
        starts = np.array([0, len(own)], dtype=np.int64)
        readings.append(Reading((number,), tokens, WordTokens(starts, own, np.zeros(1, dtype=bool))))
    return Plan(tuple(readings), n_shortened, 0)


def _cut_tokens(tokens: Tokens, max_tokens: int | None) -> Tokens:
    """The tokens without the last ordinary ones, so that ``max_tokens`` are left."""
    excess = 0 if max_tokens is None else len(tokens) - max_tokens
    if excess <= 0:
        return tokens
    keep = np.ones(len(tokens), dtype=bool)
    keep[np.flatnonzero(~tokens.special)[-excess:]] = False
    return Tokens(tokens.ids[keep], tokens.offsets[keep], tokens.special[keep], tokens.blank[keep])


def _without(reading: Reading, dropped: set[int]) -> Reading:
    """The reading with fewer kept words (same tokens, same pass)."""
    if not dropped:
        return reading
    rows = [row for row, word in enumerate(reading.words) if word not in dropped]
    return Reading(tuple(reading.words[row] for row in rows), reading.tokens, reading.alignment.select(rows))


class _Fitter:
    """Tokenises the passages of one story and cuts those that are longer than the model accepts."""

    def __init__(self, story: Story, tokenizer: Tokenizer, max_tokens: int | None) -> None:
        self._story = story
        self._tokenizer = tokenizer
        self._max_tokens = max_tokens

    def fit(self, passages: Sequence[Passage]) -> tuple[list[tuple[Passage, Tokens]], int]:
        """The passages with their tokens, and the number of words that lost context."""
        fitted: list[tuple[Passage, Tokens]] = []
        n_shortened = 0
        tokenised = self._tokenizer.encode([self._text(p.first, p.last) for p in passages])
        for passage, tokens in zip(passages, tokenised, strict=True):
            if self._fits(tokens):
                fitted.append((passage, tokens))
                continue
            head, rest = self._cut(passage)
            fitted += head
            fitted += [self._shorten(passage.first, word) for word in rest]
            n_shortened += len(rest)
        return fitted, n_shortened

    def read(self, passage: Passage, tokens: Tokens) -> Reading:
        """Align all words of the passage, keep those that are read."""
        base = self._story.spans[passage.first][0]
        spans = [(a - base, b - base) for a, b in self._story.spans[passage.keep_from : passage.last + 1]]
        try:
            alignment = align(tokens, self._text(passage.first, passage.last), spans, self._tokenizer.name)
        except DataError as error:
            raise DataError(f"story {self._story.name!r}: {error.message}", error.hint) from error
        return Reading(tuple(passage.kept), tokens, alignment)

    def _text(self, first: int, last: int) -> str:
        return self._story.text[self._story.spans[first][0] : self._story.spans[last][1]]

    def _fits(self, tokens: Tokens) -> bool:
        return self._max_tokens is None or len(tokens) <= self._max_tokens

    def _encode(self, first: int, last: int) -> Tokens:
        return self._tokenizer.encode([self._text(first, last)])[0]

    def _cut(self, passage: Passage) -> tuple[list[tuple[Passage, Tokens]], range]:
        """The kept words whose whole context fits, as one passage, and the words that must lose context."""
        low, high = passage.keep_from - 1, passage.last  # the last word that fits lies in [low, high)
        while high - low > 1:
            middle = (low + high) // 2
            if self._fits(self._encode(passage.first, middle)):
                low = middle
            else:
                high = middle
        head = Passage(passage.first, low, passage.keep_from)
        fitted = [(head, self._encode(head.first, head.last))] if head.kept else []
        return fitted, range(low + 1, passage.last + 1)

    def _shorten(self, first: int, word: int) -> tuple[Passage, Tokens]:
        """The longest run of words that ends with ``word`` and fits."""
        low, high = first, word  # the first word that fits lies in (low, high], unless not even the word does
        while high - low > 1:
            middle = (low + high) // 2
            if self._fits(self._encode(middle, word)):
                high = middle
            else:
                low = middle
        tokens = self._encode(high, word)
        if not self._fits(tokens):
            raise DataError(
                f"story {self._story.name!r}: word {word} {self._story.words[word]!r} alone has {len(tokens)} tokens, "
                f"more than the {self._max_tokens} that {self._tokenizer.name} accepts",
                "choose a model with a longer input, or correct the transcript of this word",
            )
        return Passage(high, word, word), tokens
