# SPDX-License-Identifier: Apache-2.0
"""Where the sentences of a transcript are, and in what other places they may stand."""

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from voxelboard.benchmark.errors import UserError

Rng = np.random.Generator


def reassign_sentences(
    n: int, rng: Rng, *, within: Sequence[object] | None = None, across: Sequence[object] | None = None
) -> list[int]:
    """For each of ``n`` places the sentence that stands there, never its own.

    Parameters
    ----------
    within : label of each sentence (its passage, its topic); a sentence goes to a place of its own label only.
    across : label of each sentence; a sentence goes to a place of another label only.

    Raises
    ------
    UserError
        when there is no such assignment, e.g. for a passage of one sentence.
    """
    groups: dict[object, list[int]] = {}
    for i in range(n):
        groups.setdefault(None if within is None else within[i], []).append(i)
    order = [0] * n
    for places in groups.values():
        labels = [object() if across is None else across[i] for i in places]
        found = _derange(places, labels, rng)
        if found is None:
            raise UserError(
                f"{len(places)} sentences cannot all change their places under these labels",
                "leave passages of one sentence out",
            )
        for place, source in zip(places, found, strict=True):
            order[place] = source
    return order


def _derange(places: Sequence[int], labels: Sequence[object], rng: Rng) -> list[int] | None:
    """A random assignment without a fixed point and, where labels repeat, without an equal label; by random swaps."""
    n = len(places)
    numbers = {label: k for k, label in enumerate(dict.fromkeys(labels))}
    label = np.array([numbers[x] for x in labels])
    if 2 * int(np.bincount(label).max(initial=0)) > n:
        return None
    order = rng.permutation(n)
    for _ in range(100):
        bad = np.flatnonzero(label[order] == label)
        if not len(bad):
            return [places[k] for k in order]
        for i in bad.tolist():
            fits = np.flatnonzero((label[order] != label[i]) & (label[order[i]] != label))
            if label[order[i]] == label[i] and len(fits):
                j = int(rng.choice(fits))
                order[i], order[j] = order[j], order[i]
    return None


def windows_of(n_words: int, size: int) -> tuple[tuple[int, ...], ...]:
    """Runs of ``size`` words, for transcripts without sentences; a short rest joins the last run."""
    starts = [k * size for k in range(max(1, n_words // size))]
    return tuple(tuple(range(a, b)) for a, b in pairwise([*starts, n_words]))


def sentences_at(position: NDArray[np.floating]) -> tuple[tuple[int, ...], ...]:
    """Sentences from the position of each word in its own, (n_words,): a new one where it is 0."""
    starts = [0, *(np.flatnonzero(position[1:] == 0) + 1).tolist()]
    return tuple(tuple(range(a, b)) for a, b in pairwise([*starts, len(position)]))
