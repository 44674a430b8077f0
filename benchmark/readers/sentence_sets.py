# SPDX-License-Identifier: Apache-2.0
"""Sentence sets: one response amplitude a sentence, sentences in passages, passages left out in groups.

A group of passages that is left out together is a *story* whose rows are sentences. Inside it every passage is a text of
its own, so that a sentence is read with the sentences before it in its passage and with no others.
"""

import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from voxelboard.benchmark.errors import DataError
from voxelboard.benchmark.protocol import TaskName
from voxelboard.benchmark.readers.base import (
    CeilingKind,
    DatasetKind,
    Responses,
    Segment,
    Split,
    StaticVectors,
    require_subject,
)
from voxelboard.benchmark.readers.cards import Card
from voxelboard.benchmark.readers.lazy_runs import LEFT_OUT
from voxelboard.benchmark.stimuli.stories import Story, join_words, make_story

FloatArray = NDArray[np.float32]

SHUFFLED = "shuffled-leak"
_SENTENCE_POSITION = "sentence_position"  # the annotation that the confound band reads


@dataclass(frozen=True)
class SentenceRow:
    """One sentence as presented. ``passage`` is what it is read in, ``group`` what is left out together."""

    text: str
    passage: str
    group: str


class SentenceSet:
    """A set of sentences and the amplitudes that they evoked; satisfies ``NarrativeData``.

    Parameters
    ----------
    name : with its variant.
    rows : in the order of the amplitudes.
    n_folds : groups are dealt to so many folds; each fold is left out once.
    read : subject -> ((n_repeats, n_sentences, n_voxels) float32, (n_voxels,) labels).
    shuffled : the leak demonstration: sentences, not groups, are dealt to folds at random and lose their passage.
        Neighbours of a test sentence are then in training, and what they share counts as prediction.

    Raises
    ------
    DataError
        for an empty sentence, a passage in two groups, and fewer than three groups.
    """

    task: TaskName = "narrative"
    static_vectors: StaticVectors | None = None

    def __init__(
        self,
        card: Card,
        name: str,
        rows: Sequence[SentenceRow],
        subjects: Sequence[str],
        read: Callable[[str], tuple[FloatArray, NDArray[np.str_]]],
        *,
        n_folds: int,
        scored_rois: tuple[str, ...] | None = None,
        ceiling_kind: CeilingKind | None = None,
        shuffled: bool = False,
    ) -> None:
        self.name = name
        self.version = card.version
        self.leak = shuffled
        self.kind: DatasetKind = card.kind
        self.ceiling_kind: CeilingKind = ceiling_kind or card.ceiling_kind
        self.subjects = tuple(subjects)
        self.scored_rois = scored_rois or card.scored_rois
        self._read = read
        self._n_rows = len(rows)
        self._rows_of = fold_rows(rows, n_folds, shuffled=shuffled)
        self.stories: Mapping[str, Story] = MappingProxyType(
            {fold: _as_story(fold, [rows[i] for i in kept], shuffled) for fold, kept in self._rows_of.items()}
        )
        segments = [Segment(fold, 0, len(kept)) for fold, kept in self._rows_of.items()]
        self.split = Split(
            folds=tuple((tuple(other for other in segments if other != test), (test,)) for test in segments)
        )

    def responses(self, subject: str) -> Responses:
        """Amplitudes of one subject: fold -> (n_repeats, n_sentences, n_voxels) float32. The file is read once.

        Raises
        ------
        UserError
            for an unknown subject.
        DataError
            for another number of rows than sentences.
        """
        require_subject(self.name, subject, self.subjects)
        amplitudes, labels = self._read(subject)
        if amplitudes.ndim != 3 or amplitudes.shape[1:] != (self._n_rows, len(labels)):
            raise DataError(
                f"{self.name}, subject {subject}: amplitudes of shape {amplitudes.shape}, expected (n_repeats, "
                f"{self._n_rows} sentences, {len(labels)} voxels)",
                "check that stimuli and responses come from the same release",
            )
        kept = labels != LEFT_OUT
        runs = {fold: amplitudes[:, rows][..., kept] for fold, rows in self._rows_of.items()}
        return Responses(subject, MappingProxyType(runs), labels[kept])


def fold_rows(rows: Sequence[SentenceRow], n_folds: int, *, shuffled: bool = False) -> dict[str, NDArray[np.intp]]:
    """Fold name -> numbers of its rows, passage by passage in the order of presentation.

    Groups are dealt in turn, the largest first, to the fold with the fewest sentences: folds of nearly equal size, the same
    whatever order the file has. Passages stay together.
    """
    groups: dict[str, list[int]] = {}
    home: dict[str, str] = {}
    for i, row in enumerate(rows):
        if not row.text.split():
            raise DataError(f"sentence {i} is empty", "get the stimuli again")
        if home.setdefault(row.passage, row.group) != row.group:
            raise DataError(f"passage {row.passage!r} lies in the groups {home[row.passage]!r} and {row.group!r}")
        groups.setdefault(row.group, []).append(i)
    if shuffled:
        order = np.random.default_rng(zlib.crc32(b"shuffled-leak")).permutation(len(rows))
        return {f"fold{k + 1:02d}": np.sort(order[k::n_folds]) for k in range(n_folds)}
    if len(groups) < max(n_folds, 3):
        raise DataError(
            f"{len(groups)} groups of passages for {n_folds} folds",
            "leave-out needs three groups or more, and one a fold",
        )
    dealt: list[list[int]] = [[] for _ in range(n_folds)]
    for group in sorted(groups, key=lambda name: (-len(groups[name]), name)):
        min(dealt, key=len).extend(groups[group])
    first: dict[str, int] = {}
    for i, row in enumerate(rows):
        first.setdefault(row.passage, i)
    return {
        f"fold{k + 1:02d}": np.array(sorted(own, key=lambda i: (first[rows[i].passage], i)), dtype=np.intp)
        for k, own in enumerate(dealt)
    }


def _as_story(name: str, rows: Sequence[SentenceRow], alone: bool) -> Story:
    """Sentences as rows of one second; the words of a sentence share its second evenly."""
    words: list[str] = []
    onsets: list[float] = []
    offsets: list[float] = []
    positions: list[int] = []
    starts: list[int] = []
    for k, row in enumerate(rows):
        read = row.text.split()
        if alone or k == 0 or rows[k - 1].passage != row.passage:
            starts.append(len(words))
        words += read
        onsets += [k + j / len(read) for j in range(len(read))]
        offsets += [k + (j + 1) / len(read) for j in range(len(read))]
        positions += range(len(read))
    text, spans = join_words(words)
    return make_story(
        name,
        words,
        onsets,
        offsets,
        n_trs=len(rows),
        tr=1.0,
        text=text,
        spans=spans,
        annotations={_SENTENCE_POSITION: np.array(positions, dtype=np.float64)[:, None]},
        row_unit="sentence",
        text_starts=starts,
    )
