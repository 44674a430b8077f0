# SPDX-License-Identifier: Apache-2.0
"""The n-gram baseline: what a model must beat to be called a language model.

Interpolated Kneser-Ney smoothing with one discount, order 3 if nothing else is asked (Kneser & Ney 1995; Chen & Goodman 1999,
equations 10-14).
"""

from collections import Counter
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

DISCOUNT = 0.75
ORDER = 3

IntArray = NDArray[np.integer]


@dataclass(frozen=True, eq=False)
class NGramModel:
    """Counts of a corpus; :meth:`log_probabilities` reads them.

    order : of the longest n-grams; 1 for the frequencies of tokens.
    counts : for the order 1, 2, ... the number of times (highest order) or of left contexts (lower orders) of an n-gram.
    totals, kinds : for each context the sum of its counts and the number of different continuations.
    """

    order: int
    n_vocabulary: int
    counts: tuple[Counter[tuple[int, ...]], ...] = field(repr=False)
    totals: tuple[Counter[tuple[int, ...]], ...] = field(repr=False)
    kinds: tuple[Counter[tuple[int, ...]], ...] = field(repr=False)

    def probability(self, context: tuple[int, ...], token: int) -> float:
        """Probability of ``token`` after ``context``, of which the last ``order - 1`` tokens count."""
        context = context[max(0, len(context) - self.order + 1) :]
        value: float = 1.0 / self.n_vocabulary
        for order in range(1, len(context) + 2):
            part = context[len(context) - order + 1 :]
            total = self.totals[order - 1][part]
            if total == 0:
                break
            seen = max(self.counts[order - 1][(*part, token)] - DISCOUNT, 0.0)
            value = (seen + DISCOUNT * self.kinds[order - 1][part] * value) / total
        return value

    def mean_loss(self, windows: IntArray) -> float:
        """Mean negative log probability, nats a token, of (n_windows, context) ids; the first of each window is given."""
        known: dict[tuple[int, ...], float] = {}
        total = 0.0
        for row in windows.tolist():
            for i in range(1, len(row)):
                gram = tuple(row[max(0, i - self.order + 1) : i + 1])
                if gram not in known:
                    known[gram] = -float(np.log(self.probability(gram[:-1], gram[-1])))
                total += known[gram]
        return total / float(windows.shape[0] * (windows.shape[1] - 1))


def fit_ngrams(ids: IntArray, n_vocabulary: int, order: int = ORDER) -> NGramModel:
    """Count the n-grams of a corpus of token ids (n_tokens,), up to ``order`` tokens long."""
    tokens = ids.tolist()
    highest = Counter(zip(*(tokens[i:] for i in range(order)), strict=False))
    counts: list[Counter[tuple[int, ...]]] = [highest]
    for _ in range(order - 1):
        # a lower order counts the different tokens to the left, not the occurrences
        counts.insert(0, Counter(gram[1:] for gram in counts[0]))
    totals: list[Counter[tuple[int, ...]]] = [Counter() for _ in range(order)]
    kinds: list[Counter[tuple[int, ...]]] = [Counter() for _ in range(order)]
    for shorter, grams in enumerate(counts):
        for gram, n in grams.items():
            totals[shorter][gram[:-1]] += n
            kinds[shorter][gram[:-1]] += 1
    return NGramModel(order, n_vocabulary, tuple(counts), tuple(totals), tuple(kinds))
