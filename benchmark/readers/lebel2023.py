# SPDX-License-Identifier: Apache-2.0
"""LeBel et al. 2023 (OpenNeuro ds003020): eight listeners, 27 spoken stories, every voxel of the cortex."""

import json
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from voxelboard.benchmark.errors import DataError, MissingPrerequisite, UserError
from voxelboard.benchmark.protocol import TaskName
from voxelboard.benchmark.readers.arrays import hdf5_shapes, read_hdf5, require_file
from voxelboard.benchmark.readers.base import (
    CeilingKind,
    DatasetKind,
    Responses,
    Segment,
    Split,
    StaticVectors,
    require_subject,
)
from voxelboard.benchmark.readers.cards import Card, StorySplit
from voxelboard.benchmark.readers.lazy_runs import LEFT_OUT, LazyRuns, keep_by_subject, read_labels
from voxelboard.benchmark.stimuli.stories import Story
from voxelboard.benchmark.stimuli.textgrid import Tier, read_textgrid
from voxelboard.benchmark.stimuli.word_tables import WordTable, story_on_clock

Float32Array = NDArray[np.float32]

ROI = "cortex"
VARIANTS = ("", "rois")
# The clock of the authors' code: 10 s of scanning before the sound, features of N - 5 volumes of which rows 10 to -5 are
# kept, N being the number in respdict.json. So the responses have N - 20 rows (which the sizes of all 207 training files confirm)
# and row 0 is measured from second 10 of the sound on.
_TRIMMED_VOLUMES = 20
_FIRST_VOLUME = 10
_SILENCE_S = 10.0
# Marks that the aligner puts in the place of words: sentence edges, breath, laughter, lip smack, noise, silence.
NOT_WORDS = frozenset({"", "sentence_start", "sentence_end", "br", "lg", "ls", "ns", "sp"})
_RESPONSES = "derivative/preprocessed_data"
_FETCH = "voxelboard data verify lebel2023 lists what is missing"


class Lebel2023:
    """The preprocessed responses of LeBel et al. 2023; satisfies ``NarrativeData``. Subjects are those who are here.

    Responses are read story by story when asked for: one subject has 3 GB of them. The test story was heard five or ten
    times and comes as its single presentations.

    Words of the first 10 s of a story are dropped with the volumes that the release drops. No scored row depends on
    their onsets (the protocol trims five rows more and looks back four; only Lanczos, which is not scored, would reach
    them), but the words after them, up to two strides of the context, are read without them.

    Parameters
    ----------
    card : of the data set.
    folder : the root of ds003020.
    variant : ``""`` calls every voxel "cortex"; ``"rois"`` takes the subjects that have a file ``rois/UTS0X.txt`` with
        the label of each voxel, ``-`` for voxels that are left out. All labels that all of them have are scored.

    Raises
    ------
    MissingPrerequisite, DataError
        for a story without TextGrid or number of volumes, and files that are damaged.
    """

    kind: DatasetKind
    task: TaskName = "narrative"
    ceiling_kind: CeilingKind
    static_vectors: StaticVectors | None

    def __init__(self, card: Card, folder: Path, variant: str = "") -> None:
        if not isinstance(card.split, StorySplit):
            raise DataError(f"card {card.name}: this reader needs a split by stories")
        if variant not in VARIANTS:
            raise UserError(f"{card.name} has no variant {variant!r}", f"write {card.name} or {card.name}:rois")
        self.name = f"{card.name}:{variant}" if variant else card.name
        self.version = card.version
        self.kind = card.kind
        self.ceiling_kind = card.ceiling_kind
        self.static_vectors = None
        self._card, self._folder = card, folder
        self._labels = _read_all_labels(card, folder) if variant else None
        self.subjects = tuple(s for s in self._labels or card.subjects if self._is_here(s))
        if not self.subjects:
            raise MissingPrerequisite(
                f"there are no responses in {folder / _RESPONSES}", "get the files of one subject or more of the card"
            )
        self.scored_rois = _shared_labels(self._labels) if self._labels else card.scored_rois
        names = (*card.split.train, *card.split.test)
        self.stories: Mapping[str, Story] = MappingProxyType(_read_stories(folder, names, card.tr_s))
        train, test = (
            tuple(Segment(story, 0, self.stories[story].n_trs) for story in side)
            for side in (card.split.train, card.split.test)
        )
        self.split = Split(folds=((train, test),))

    def stories_of(self, subject: str) -> tuple[str, ...]:
        """The stories that a subject heard, in the order of the split."""
        self._check_subject(subject)
        return tuple(story for story in self.stories if story not in self._card.not_heard.get(subject, ()))

    @keep_by_subject
    def responses(self, subject: str) -> Responses:
        """All stories of one subject, story -> (n_repeats, n_trs, n_voxels) float32, each read when it is looked up.

        Raises
        ------
        UserError
            for an unknown subject.
        MissingPrerequisite, DataError
            for a file that is missing, damaged, or of another shape than respdict.json and the card say; values that
            cannot be scored are found when a story is read.
        """
        stories = self.stories_of(subject)
        shapes = {story: self._shape(subject, story) for story in stories}
        n_voxels = self._card.n_voxels.get(subject, shapes[stories[0]][-1])
        for story, shape in shapes.items():
            expected = (self.stories[story].n_trs, n_voxels)
            if shape[-2:] != expected:
                raise DataError(
                    f"subject {subject}, story {story!r}: {shape[-2]} rows of {shape[-1]} voxels, expected "
                    f"{expected[0]} (respdict.json less {_TRIMMED_VOLUMES}) of {expected[1]}",
                    "get the file again, or check the release",
                )
        labels = self._labels[subject] if self._labels else np.full(n_voxels, ROI)
        if len(labels) != n_voxels:
            raise DataError(f"rois/{subject}.txt: {len(labels)} labels for {n_voxels} voxels")
        kept = labels != LEFT_OUT
        return Responses(subject, LazyRuns(stories, lambda story: self._read(subject, story, kept)), labels[kept])

    def _read(self, subject: str, story: str, kept: NDArray[np.bool_]) -> Float32Array:
        path = self._file(subject, story)
        key = "individual_repeats" if self._is_test(story) else "data"
        run = read_hdf5(path, key)
        run = run if run.ndim == 3 else run[None]
        run = run if kept.all() else run[..., kept]
        bad = ~np.isfinite(run).all(axis=(0, 1))
        if bad.any():
            voxel = int(np.flatnonzero(kept)[int(np.argmax(bad))])
            raise DataError(
                f"subject {subject}, story {story!r}: {int(bad.sum())} voxels with NaN or infinite values, the first is "
                f"{voxel} of the file",
                f"leave them out with a '-' in rois/{subject}.txt and open {self._card.name}:rois",
            )
        return run

    def _shape(self, subject: str, story: str) -> tuple[int, ...]:
        path = self._file(subject, story)
        shapes = hdf5_shapes(require_file(path, _FETCH))
        key, n_axes = ("individual_repeats", 3) if self._is_test(story) else ("data", 2)
        if len(shapes.get(key, ())) != n_axes:
            raise DataError(
                f"subject {subject}, {path.name}: no array {key!r} of {n_axes} axes, it holds {shapes}",
                "get the file again",
            )
        return shapes[key]

    def _file(self, subject: str, story: str) -> Path:
        return self._folder / _RESPONSES / subject / f"{story}.hf5"

    def _is_here(self, subject: str) -> bool:
        return any(path.is_file() for path in (self._folder / _RESPONSES / subject).glob("*.hf5"))

    def _is_test(self, story: str) -> bool:
        return any(segment.story == story for segment in self.split.test_segments)

    def _check_subject(self, subject: str) -> None:
        if subject in self._card.subjects and not self._is_here(subject):
            raise MissingPrerequisite(
                f"{self.name}: no responses of {subject} are in {self._folder / _RESPONSES}", _FETCH
            )
        require_subject(self.name, subject, self.subjects)


def transcript(tier: Tier) -> WordTable:
    """The words of a TextGrid's word tier, lower case as in the authors' code, marks of the aligner left out.

    Some grids have marks that overlap: a word that starts before the word before it starts with it instead, so that the
    order of the transcript stays.
    """
    words = [mark for mark in tier.intervals if mark.label.lower().strip().strip("{}").strip() not in NOT_WORDS]
    onsets = np.maximum.accumulate([word.start for word in words]) if words else np.empty(0)
    offsets = np.maximum(onsets, [word.stop for word in words])
    return WordTable(tuple(word.label.strip().lower() for word in words), onsets, offsets)


def _read_stories(folder: Path, names: tuple[str, ...], tr: float) -> dict[str, Story]:
    volumes = _read_volumes(folder / "derivative" / "respdict.json")
    stories = {}
    for name in names:
        if name not in volumes:
            raise DataError(f"respdict.json does not know the story {name!r}", "get the file again")
        path = require_file(folder / "derivative" / "TextGrids" / f"{name}.TextGrid", _FETCH)
        stories[name] = story_on_clock(
            name,
            transcript(_word_tier(path)),
            first_row_s=_FIRST_VOLUME * tr - _SILENCE_S,
            n_trs=volumes[name] - _TRIMMED_VOLUMES,
            tr=tr,
            max_lost_share=0.5,
        )
    return stories


def _word_tier(path: Path) -> Tier:
    """The tier called "word", or the second one: the first holds phones."""
    tiers = read_textgrid(path)
    named = [tier for tier in tiers if tier.name.strip().lower() in {"word", "words"}]
    if named:
        return named[0]
    if len(tiers) < 2:
        raise DataError(f"{path.name} has {len(tiers)} tiers, expected phones and words", "get the file again")
    return tiers[1]


def _read_volumes(path: Path) -> dict[str, int]:
    """Story -> number of volumes of its scan."""
    require_file(path, _FETCH)
    try:
        value = json.loads(path.read_text(encoding="utf-8-sig"))
    except ValueError as error:
        raise DataError(f"{path.name} is truncated or damaged: {error}", "get the file again") from error
    if not isinstance(value, dict) or not all(isinstance(n, int) and n > _TRIMMED_VOLUMES for n in value.values()):
        raise DataError(f"{path.name} does not say how many volumes each story has", "get the file again")
    return value


def _read_all_labels(card: Card, folder: Path) -> dict[str, NDArray[np.str_]]:
    paths = {subject: folder / "rois" / f"{subject}.txt" for subject in card.subjects}
    labels = {
        subject: read_labels(path, card.n_voxels.get(subject)) for subject, path in paths.items() if path.exists()
    }
    if not labels:
        raise DataError(
            f"{card.name}:rois needs files of labels, there is none in {folder / 'rois'}",
            f"write one label a line and voxel to rois/{card.subjects[0]}.txt, or open {card.name}",
        )
    return labels


def _shared_labels(labels: Mapping[str, NDArray[np.str_]]) -> tuple[str, ...]:
    shared = set.intersection(*(set(own.tolist()) for own in labels.values())) - {LEFT_OUT}
    if not shared:
        raise DataError("the files in rois/ have no label in common, so nothing can be scored in all subjects")
    return tuple(sorted(shared))
