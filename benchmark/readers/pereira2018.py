# SPDX-License-Identifier: Apache-2.0
"""Pereira et al. 2018: sentences of short passages, read by ten people, in two experiments.

Comes in two forms. Brain-Score's assembly holds the language network's voxels of everybody in one file; the authors' release
holds every voxel of a person in MATLAB files, one folder a person.
"""

import re
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from voxelboard.benchmark.errors import DataError, MissingPrerequisite, UserError
from voxelboard.benchmark.readers.assemblies import Assembly, read_assembly
from voxelboard.benchmark.readers.cards import Card
from voxelboard.benchmark.readers.lazy_runs import LEFT_OUT, read_labels
from voxelboard.benchmark.readers.matlab import read_matlab
from voxelboard.benchmark.readers.sentence_sets import SHUFFLED, SentenceRow, SentenceSet

FloatArray = NDArray[np.float32]

EXPERIMENTS = {"384": "384sentences", "243": "243sentences"}
ASSEMBLY = "assy_Pereira2018_language.nc"
ROI = "language"  # of the assembly's voxels
N_FOLDS = 8
_FETCH = "voxelboard data fetch pereira2018"


def open_pereira2018(card: Card, folder: Path, variant: str) -> SentenceSet:
    """One experiment: ``384`` (the default) or ``243``, with ``:shuffled-leak`` for the leak demonstration.

    The assembly is taken where it is, the authors' files otherwise. Topics are left out together (48 in both experiments):
    passages of one topic repeat its words. NaN marks people who did not take part in an experiment.

    Raises
    ------
    UserError
        for an unknown variant.
    MissingPrerequisite, DataError
        for files that are missing, damaged, or hold other sentences in different people.
    """
    experiment, _, option = variant.partition(":")
    if experiment == SHUFFLED:
        experiment, option = "", SHUFFLED
    experiment = experiment or next(iter(EXPERIMENTS))
    if experiment not in EXPERIMENTS or option not in ("", SHUFFLED):
        raise UserError(
            f"{card.name} has no variant {variant!r}",
            f"write {card.name}, {card.name}:243, or {card.name}:384:{SHUFFLED} for the leak demonstration",
        )
    name = f"{card.name}:{variant}" if variant else card.name
    opened = _Assembled(folder, experiment) if (folder / ASSEMBLY).exists() else _Released(folder, experiment)
    return SentenceSet(
        card,
        name,
        opened.rows,
        opened.subjects,
        opened.read,
        n_folds=N_FOLDS,
        scored_rois=opened.scored_rois,
        shuffled=option == SHUFFLED,
    )


class _Assembled:
    """Brain-Score's form: one table for all, read once."""

    scored_rois: tuple[str, ...] = (ROI,)

    def __init__(self, folder: Path, experiment: str) -> None:
        assembly = read_assembly(folder / ASSEMBLY, _FETCH)
        kept = np.flatnonzero(assembly.coordinate("presentation", "experiment") == EXPERIMENTS[experiment])
        if not len(kept):
            raise DataError(f"{ASSEMBLY} has no experiment {EXPERIMENTS[experiment]}", "get the file again")
        ids = assembly.coordinate("presentation", "stimulus_id")
        self._order = np.array(sorted(kept, key=lambda i: _natural(str(ids[i]))), dtype=np.intp)
        self.rows = _assembly_rows(assembly, self._order)
        self._values = assembly.values
        self._owners = assembly.coordinate("neuroid", "subject").astype(str)
        took_part = np.isfinite(assembly.values[self._order]).any(axis=0)
        self.subjects = tuple(sorted(set(self._owners[took_part].tolist())))

    def read(self, subject: str) -> tuple[FloatArray, NDArray[np.str_]]:
        amplitudes = self._values[np.ix_(self._order, np.flatnonzero(self._owners == subject))]
        return _with_labels(subject, amplitudes, np.full(amplitudes.shape[1], ROI))


def _assembly_rows(assembly: Assembly, order: NDArray[np.intp]) -> list[SentenceRow]:
    texts = assembly.coordinate("presentation", "stimulus", "sentence")[order]
    passages = assembly.coordinate("presentation", "passage_index", "passage_label")[order]
    topics = assembly.coordinate("presentation", "story", "passage_category")[order]
    # a passage is one of its topic: the same number may come again in another
    return [
        SentenceRow(str(text), f"{topic}/{passage}", str(topic))
        for text, passage, topic in zip(texts, passages, topics, strict=True)
    ]


class _Released:
    """The authors' form: a folder a person, with every voxel; ``rois/PERSON.txt`` chooses and labels them."""

    def __init__(self, folder: Path, experiment: str) -> None:
        self._folder = folder
        self._file = f"examples_{EXPERIMENTS[experiment]}.mat"
        self.subjects = tuple(sorted(path.parent.name for path in folder.glob(f"*/{self._file}")))
        if not self.subjects:
            raise MissingPrerequisite(
                f"neither {ASSEMBLY} nor any PERSON/{self._file} is in {folder}",
                f"{_FETCH}, or unpack the authors' files",
            )
        self.rows = self._read_rows(self.subjects[0])
        labels = [self._labels(subject) for subject in self.subjects]
        shared = set.intersection(*(set(own.tolist()) if own is not None else {"brain"} for own in labels)) - {LEFT_OUT}
        if not shared:
            raise DataError("the files in rois/ have no label in common, so nothing can be scored in all subjects")
        self.scored_rois = tuple(sorted(shared))

    def read(self, subject: str) -> tuple[FloatArray, NDArray[np.str_]]:
        if self._read_rows(subject) != self.rows:
            raise DataError(f"{subject}/{self._file}: other sentences than in {self.subjects[0]}", "get the file again")
        examples = self._matlab(subject, "examples")["examples"]
        if examples.ndim != 2 or examples.dtype.kind != "f":
            raise DataError(f"{subject}/{self._file}: examples of shape {examples.shape}, expected (sentences, voxels)")
        labels = self._labels(subject)
        return _with_labels(subject, examples, np.full(examples.shape[1], "brain") if labels is None else labels)

    def _read_rows(self, subject: str) -> list[SentenceRow]:
        names = ("keySentences", "labelsPassageForEachSentence", "labelsPassageCategory", "keyPassageCategory")
        found = self._matlab(subject, *names)
        texts = [str(text) for text in np.atleast_1d(found["keySentences"])]
        passages = np.atleast_1d(found["labelsPassageForEachSentence"]).astype(int)  # 1-based
        topics = np.atleast_1d(found["labelsPassageCategory"]).astype(int)  # of each passage, 1-based
        keys = [str(key) for key in _flat(found["keyPassageCategory"])]
        if len(passages) != len(texts) or not 1 <= passages.min() <= passages.max() <= len(topics):
            raise DataError(
                f"{subject}/{self._file}: {len(texts)} sentences, but passages {passages.min()}-{passages.max()}"
            )
        if not 1 <= topics.min() <= topics.max() <= len(keys):
            raise DataError(f"{subject}/{self._file}: topics {topics.min()}-{topics.max()} of {len(keys)}")
        return [SentenceRow(text, str(p), keys[topics[p - 1] - 1]) for text, p in zip(texts, passages, strict=True)]

    def _matlab(self, subject: str, *names: str) -> dict[str, Any]:
        return read_matlab(self._folder / subject / self._file, *names)

    def _labels(self, subject: str) -> NDArray[np.str_] | None:
        path = self._folder / "rois" / f"{subject}.txt"
        return read_labels(path) if path.exists() else None


def _with_labels(
    subject: str, amplitudes: NDArray[np.floating], labels: NDArray[np.str_]
) -> tuple[FloatArray, NDArray[np.str_]]:
    """(1, n_sentences, n_voxels) and labels, voxels without any value left out."""
    if len(labels) != amplitudes.shape[1]:
        raise DataError(f"rois/{subject}.txt: {len(labels)} labels for {amplitudes.shape[1]} voxels")
    measured = np.isfinite(amplitudes).any(axis=0)
    return np.asarray(amplitudes[:, measured], dtype=np.float32)[None], labels[measured]


def _natural(text: str) -> list[tuple[int, int | str]]:
    """Sorts ``384sentences.9`` before ``384sentences.10``."""
    return [(0, int(part)) if part.isdecimal() else (1, part) for part in re.split(r"(\d+)", text) if part]


def _flat(value: Any) -> list[Any]:
    """The entries of a cell array that may be nested once."""
    flat: list[Any] = []
    for entry in np.atleast_1d(np.asarray(value, dtype=object)):
        flat += list(entry) if isinstance(entry, np.ndarray) else [entry]
    return flat
