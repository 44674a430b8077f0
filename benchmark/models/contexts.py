# SPDX-License-Identifier: Apache-2.0
"""Which words explain which prediction: a few preceding words and the word that follows them, in tokens."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from voxelboard.benchmark.errors import DataError
from voxelboard.benchmark.models.alignment import IntArray, Tokenizer, Tokens, WordTokens, align
from voxelboard.benchmark.stimuli.stories import Story

FloatArray = NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class ScoredContext:
    """One word of a story after the words before it; the unit of explanation.

    Attributes
    ----------
    word : number of the explained word in its story.
    ids : (n_tokens,) tokens of the text: preceding words, then the word itself.
    shares : (n_context_words, n_tokens) which part of each token belongs to which preceding word; the last row is the
        word just before. Rows of words that do not exist are 0, columns of special tokens, of blanks and of the explained word too.
    own : (n_tokens,) weights of the mean over the tokens of the word itself.
    scored : (n_scored,) positions of the tokens whose score is explained, all of them after position 0.
    targets : (n_scored,) the token scored there.
    """

    word: int
    ids: IntArray
    shares: FloatArray
    own: FloatArray
    scored: IntArray
    targets: IntArray

    def __len__(self) -> int:
        return len(self.ids)

    def without(self, row: int) -> "ScoredContext | None":
        """The context with the tokens of one preceding word deleted; what follows moves up.

        None where nothing would be left that predicts the word: no start token, no other word.
        """
        kept = self.shares[row] == 0
        scored = (np.cumsum(kept) - 1)[self.scored]
        if scored[0] == 0:
            return None
        return ScoredContext(self.word, self.ids[kept], self.shares[:, kept], self.own[kept], scored, self.targets)


def plan_contexts(
    story: Story, n_context_words: int, tokenizer: Tokenizer, max_tokens: int | None
) -> list[ScoredContext]:
    """One context for each word of a story, in order: up to ``n_context_words`` words before it and the word.

    Raises
    ------
    DataError
        for a context with more tokens than the model accepts, and a word that gets no token.
    """
    firsts = [max(0, word - n_context_words) for word in range(story.n_words)]
    texts = [story.text[story.spans[a][0] : story.spans[word][1]] for word, a in enumerate(firsts)]
    contexts = []
    for word, (first, text, tokens) in enumerate(zip(firsts, texts, tokenizer.encode(texts), strict=True)):
        if max_tokens is not None and len(tokens) > max_tokens:
            raise DataError(
                f"story {story.name!r}: word {word} {story.words[word]!r} and the {word - first} words before it have "
                f"{len(tokens)} tokens, more than the {max_tokens} that {tokenizer.name} accepts",
                "its attributions would explain fewer words than the protocol asks: choose a model with a longer input",
            )
        base = story.spans[first][0]
        spans = [(a - base, b - base) for a, b in story.spans[first : word + 1]]
        try:
            alignment = align(tokens, text, spans, tokenizer.name)
        except DataError as error:
            raise DataError(f"story {story.name!r}: {error.message}", error.hint) from error
        contexts.append(_context(word, tokens, alignment, n_context_words))
    return contexts


def _context(word: int, tokens: Tokens, alignment: WordTokens, n_context_words: int) -> ScoredContext:
    own_tokens = alignment.of(len(alignment) - 1)
    preceding = [alignment.of(row) for row in range(len(alignment) - 1)]
    first = _first_of_word(tokens, own_tokens, preceding)
    shares = np.zeros((n_context_words, len(tokens)), dtype=np.float32)
    for row, indices in enumerate(preceding, start=n_context_words - len(preceding)):
        shares[row, indices[indices < first]] = 1.0
    shares /= np.maximum(shares.sum(axis=0), 1.0)  # a token of two words counts half for each
    own = np.zeros(len(tokens), dtype=np.float32)
    own[own_tokens] = 1.0 / len(own_tokens)
    scored = np.arange(max(first, 1), own_tokens[-1] + 1)  # nothing predicts the token at position 0
    return ScoredContext(word, tokens.ids, shares, own, scored, tokens.ids[scored])


def _first_of_word(tokens: Tokens, own: IntArray, preceding: Sequence[IntArray]) -> int:
    """The first token of the word, with a blank that the tokenizer puts before it: the model has to predict that too."""
    taken = {int(index) for indices in preceding for index in indices}
    first = int(own[0])
    while first > 0 and tokens.blank[first - 1] and not tokens.special[first - 1] and first - 1 not in taken:
        first -= 1
    return first


@dataclass(frozen=True, eq=False)
class ContextBatch:
    """Contexts padded on the right, on a device.

    Attributes
    ----------
    ids : (n_contexts, n_tokens)
    shares : (n_contexts, n_context_words, n_tokens)
    own : (n_contexts, n_tokens)
    rows, positions, targets : (n_scored,) context, position and token of every scored token of the batch.
    """

    ids: Tensor
    shares: Tensor
    own: Tensor
    rows: Tensor
    positions: Tensor
    targets: Tensor

    def __len__(self) -> int:
        return len(self.ids)

    def repeat(self, n: int) -> "ContextBatch":
        """Each context ``n`` times in a row."""
        shift = torch.arange(n, device=self.rows.device)
        return ContextBatch(
            self.ids.repeat_interleave(n, 0),
            self.shares.repeat_interleave(n, 0),
            self.own.repeat_interleave(n, 0),
            (self.rows[:, None] * n + shift).flatten(),
            self.positions.repeat_interleave(n),
            self.targets.repeat_interleave(n),
        )


def collate(contexts: Sequence[ScoredContext], pad_id: int, device: torch.device) -> ContextBatch:
    """Contexts side by side. Padding comes last, where a causal model cannot see it from any scored position."""
    longest = max(len(context) for context in contexts)
    n_words = len(contexts[0].shares)
    ids = np.full((len(contexts), longest), pad_id, dtype=np.int64)
    shares = np.zeros((len(contexts), n_words, longest), dtype=np.float32)
    own = np.zeros((len(contexts), longest), dtype=np.float32)
    for row, context in enumerate(contexts):
        ids[row, : len(context)] = context.ids
        shares[row, :, : len(context)] = context.shares
        own[row, : len(context)] = context.own
    rows = np.repeat(np.arange(len(contexts)), [len(context.scored) for context in contexts])
    positions = np.concatenate([context.scored for context in contexts])
    targets = np.concatenate([context.targets for context in contexts])
    arrays = (ids, shares, own, rows, positions, targets)
    return ContextBatch(*(torch.from_numpy(array).to(device) for array in arrays))
