# SPDX-License-Identifier: Apache-2.0
"""Which tokens belong to which word, exactly, by the character offsets of a fast tokenizer.

A token belongs to every word with which it shares a character. Not counted: special tokens that the tokenizer puts
around a text, and tokens that are nothing but a blank, wherever their offsets lie. The latter occur in
two forms: GPT-2's trimmed ``Ġ`` has an empty offset at the first letter of the next word, and a prepended ``▁`` (Llama,
T5) borrows the offset of the first letter of the text.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from voxelboard.benchmark.errors import DataError, UserError

IntArray = NDArray[np.int64]
BoolArray = NDArray[np.bool_]
Span = tuple[int, int]

_BLANK_MARKS = "▁Ġ"


@dataclass(frozen=True, eq=False)
class Tokens:
    """One tokenised text.

    Attributes
    ----------
    ids : (n_tokens,)
    offsets : (n_tokens, 2) characters ``start, stop`` in the text.
    special : (n_tokens,) True for tokens that the tokenizer put around the text.
    blank : (n_tokens,) True for pieces that are blanks only (``▁``, ``Ġ``).
    """

    ids: IntArray
    offsets: IntArray
    special: BoolArray
    blank: BoolArray

    def __len__(self) -> int:
        return len(self.ids)


class Tokenizer(Protocol):
    """What extraction needs of a tokenizer."""

    name: str

    def encode(self, texts: Sequence[str]) -> list[Tokens]:
        """Tokenise each text by itself, special tokens included, never truncated or padded."""
        ...


class FastTokenizer:
    """A Transformers tokenizer that knows the character offsets of its tokens.

    ``lower_case`` is for sentence models whose own package lowers the text before it reaches the tokenizer.

    Raises
    ------
    UserError
        for a slow tokenizer: it has no offsets, so words cannot be found exactly.
    """

    def __init__(self, tokenizer: Any, name: str, lower_case: bool = False) -> None:
        if not getattr(tokenizer, "is_fast", False):
            raise UserError(
                f"the tokenizer of {name} ({type(tokenizer).__name__}) has no character offsets, "
                "so its tokens cannot be assigned to words",
                "give model.tokenizer a repository with a tokenizer.json (a fast tokenizer of the same vocabulary)",
            )
        self.name = name
        self._tokenizer = tokenizer
        self._lower_case = lower_case
        vocabulary: dict[str, int] = tokenizer.get_vocab()
        self._blank_ids = np.array([i for piece, i in vocabulary.items() if is_blank_piece(piece)], dtype=np.int64)

    @property
    def pad_id(self) -> int | None:
        """The id of the padding token, None when there is none."""
        pad: int | None = self._tokenizer.pad_token_id
        return pad

    @property
    def max_tokens(self) -> int | None:
        """The longest input that the tokenizer's files state, None when they state none."""
        longest = int(self._tokenizer.model_max_length)
        return longest if longest < 10**9 else None

    def encode(self, texts: Sequence[str]) -> list[Tokens]:
        """Tokenise each text by itself. Truncation and padding stored in tokenizer.json are switched off."""
        if not texts:
            return []
        batch = self._tokenizer(
            [_lower(text) for text in texts] if self._lower_case else list(texts),
            padding=False,
            truncation=False,
            add_special_tokens=True,
            return_offsets_mapping=True,
            return_special_tokens_mask=True,
            verbose=False,
        )
        return [
            Tokens(
                ids=np.asarray(ids, dtype=np.int64),
                offsets=np.asarray(offsets, dtype=np.int64).reshape(-1, 2),
                special=np.asarray(special, dtype=bool),
                blank=np.isin(np.asarray(ids, dtype=np.int64), self._blank_ids),
            )
            for ids, offsets, special in zip(
                batch["input_ids"], batch["offset_mapping"], batch["special_tokens_mask"], strict=True
            )
        ]


def _lower(text: str) -> str:
    """Lower case without changing the number of characters (İ would become two)."""
    return "".join(low if len(low := letter.lower()) == 1 else letter for letter in text)


@dataclass(frozen=True, eq=False)
class WordTokens:
    """Token indices of each word in compressed rows: those of row ``k`` are ``indices[starts[k]:starts[k + 1]]``.

    Attributes
    ----------
    starts : (n_words + 1,)
    indices : (n_pairs,) into the tokens of the text, increasing within a word.
    reaches_on : (n_words,) True where a token of the word ends after the word: with a blank, a comma, the next word.
    """

    starts: IntArray
    indices: IntArray
    reaches_on: BoolArray

    def __len__(self) -> int:
        return len(self.starts) - 1

    def of(self, row: int) -> IntArray:
        """(n_tokens_of_word,) the token indices of one word."""
        return self.indices[self.starts[row] : self.starts[row + 1]]

    def select(self, rows: Sequence[int]) -> "WordTokens":
        """The mapping of some of the words."""
        of_rows = [self.of(row) for row in rows]
        return WordTokens(
            starts=np.cumsum([0, *map(len, of_rows)]).astype(np.int64),
            indices=np.concatenate(of_rows) if of_rows else np.zeros(0, dtype=np.int64),
            reaches_on=self.reaches_on[list(rows)],
        )


def align(tokens: Tokens, text: str, spans: Sequence[Span], tokenizer: str) -> WordTokens:
    """Find the tokens of the words at ``spans`` of ``text``.

    Parameters
    ----------
    tokens : of ``text``.
    spans : (n_words,) characters ``start, stop``; words may touch but follow one another.
    tokenizer : its name, for messages.

    Raises
    ------
    DataError
        for a word that gets no token.
    """
    starts, stops = np.asarray(spans, dtype=np.int64).reshape(-1, 2).T
    begin, end = _effective_offsets(tokens)
    shares = (begin[None, :] < stops[:, None]) & (end[None, :] > starts[:, None])  # (n_words, n_tokens)
    counted = shares & ~_is_blank(tokens, text)[None, :]
    only_blank = ~counted.any(axis=1)
    counted[only_blank] = shares[only_blank]  # a word "▁" is itself; better its blank than nothing
    missing = ~counted.any(axis=1)
    if missing.any():
        row = int(np.argmax(missing))
        raise DataError(
            f"word {text[starts[row] : stops[row]]!r} gets no token from the tokenizer of {tokenizer}",
            "its characters are dropped by the tokenizer's normaliser: correct the transcript of this word",
        )
    return WordTokens(
        starts=np.concatenate([[0], np.cumsum(counted.sum(axis=1))]).astype(np.int64),
        indices=np.nonzero(counted)[1].astype(np.int64),
        reaches_on=np.asarray((counted & (end[None, :] > stops[:, None])).any(axis=1), dtype=bool),
    )


def _effective_offsets(tokens: Tokens) -> tuple[IntArray, IntArray]:
    """Starts and stops; special tokens are empty, continuation bytes with an empty offset take their lead's."""
    begin, end = tokens.offsets[:, 0].copy(), tokens.offsets[:, 1].copy()
    begin[tokens.special] = end[tokens.special] = 0
    for i in np.flatnonzero((begin == end) & ~tokens.special & ~tokens.blank):
        if i > 0 and not tokens.special[i - 1] and not tokens.blank[i - 1]:
            begin[i], end[i] = begin[i - 1], end[i - 1]
        else:
            end[i] = begin[i] + 1
    return begin, end


def is_blank_piece(piece: str) -> bool:
    """Whether a vocabulary entry stands for nothing but blanks."""
    return bool(piece) and not piece.strip(_BLANK_MARKS).strip()


def _is_blank(tokens: Tokens, text: str) -> BoolArray:
    """(n_tokens,) True for blanks, even if their offset is that of a letter; a mark in the text itself is no blank."""
    blank = tokens.blank.copy()
    for i in np.flatnonzero(blank):
        start, stop = tokens.offsets[i]
        blank[i] = not any(mark in text[start:stop] for mark in _BLANK_MARKS)
    return blank
