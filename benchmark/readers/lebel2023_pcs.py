# SPDX-License-Identifier: Apache-2.0
"""LeBel et al. 2023: two listeners, about 100 spoken stories, 200 principal components of the cortical response."""

import json
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from voxelboard.benchmark.errors import DataError, MissingPrerequisite, unknown_name
from voxelboard.benchmark.protocol import TaskName
from voxelboard.benchmark.readers.base import (
    CeilingKind,
    DatasetKind,
    Responses,
    Segment,
    Split,
    StaticVectors,
    check_responses,
    require_subject,
)
from voxelboard.benchmark.readers.cards import Card, StorySplit
from voxelboard.benchmark.readers.npz import array_names, open_npz, read_array
from voxelboard.benchmark.stimuli.stories import Story, make_story

Float32Array = NDArray[np.float32]

_TEXTS = "texts_per_tr.json"
N_COMPONENTS = 200
# Components come in the order of their variance; the published figures are means over the first 10, 50 and 200.
_ROI_STARTS = {"PC1-10": 0, "PC11-50": 10, "PC51-200": 50}


class Lebel2023Components:
    """The packed components of LeBel et al. 2023; satisfies ``NarrativeData``.

    A subject who did not hear a story has no run of it: use the stories of the split that ``responses.runs`` holds
    (:meth:`stories_of` says which without reading them). Test stories are averages over presentations that are not
    published one by one, so ``n_repeats`` is 1 and there is no ceiling from repeats; both subjects heard them, so that
    ``responses`` of the one can predict the other.

    Word onsets are not published: the words of a TR are placed evenly inside it.

    Parameters
    ----------
    card : of the data set.
    folder : that holds the card's files.

    Raises
    ------
    MissingPrerequisite, DataError
        for texts that are missing, damaged or not those of the card's stories.
    """

    kind: DatasetKind
    task: TaskName = "narrative"
    ceiling_kind: CeilingKind
    static_vectors: StaticVectors | None

    def __init__(self, card: Card, folder: Path) -> None:
        if not isinstance(card.split, StorySplit):
            raise DataError(f"card {card.name}: this reader needs a split by stories")
        self.name = card.name
        self.version = card.version
        self.kind = card.kind
        self.ceiling_kind = card.ceiling_kind
        self.subjects = card.subjects
        self.scored_rois = card.scored_rois
        self.static_vectors = None
        self._folder = folder
        # story -> the name of its arrays: "train__" or "test__" and the story
        self._keys = {story: f"train__{story}" for story in card.split.train}
        self._keys.update({story: f"test__{story}" for story in card.split.test})
        self.stories: Mapping[str, Story] = MappingProxyType(_read_stories(folder / _TEXTS, self._keys, card.tr_s))
        train, test = (
            tuple(Segment(story, 0, self.stories[story].n_trs) for story in side)
            for side in (card.split.train, card.split.test)
        )
        self.split = Split(folds=((train, test),))
        self.rois: NDArray[np.str_] = np.empty(N_COMPONENTS, dtype="<U8")
        for roi, start in _ROI_STARTS.items():
            self.rois[start:] = roi

    def stories_of(self, subject: str) -> tuple[str, ...]:
        """The stories that a subject heard, in the order of the split. Reads no responses."""
        with open_npz(self._file(subject)) as archive:
            names = set(array_names(archive))
        return tuple(story for story, key in self._keys.items() if key in names)

    def run(self, subject: str, story: str) -> Float32Array:
        """(1, n_trs, 200) float32 responses to one story, reading only this story.

        Raises
        ------
        DataError
            for a story that the subject did not hear, and as :meth:`responses`.
        """
        if story not in self.stories:
            raise unknown_name(f"story of {self.name}", story, self.stories)
        with open_npz(self._file(subject)) as archive:
            return read_array(archive, self._keys[story])[None]

    def responses(self, subject: str) -> Responses:
        """All responses of a subject: story -> (1, n_trs, 200) float32.

        Raises
        ------
        UserError
            for an unknown subject.
        MissingPrerequisite, DataError
            for a file that is missing, truncated or does not fit the texts.
        """
        path = self._file(subject)
        with open_npz(path) as archive:
            names = set(array_names(archive))
            runs = {story: read_array(archive, key)[None] for story, key in self._keys.items() if key in names}
        missing = [segment.story for segment in self.split.test_segments if segment.story not in runs]
        if missing:
            raise DataError(f"{path.name} lacks the test stories {', '.join(missing)}", "get the file again")
        responses = Responses(subject, MappingProxyType(runs), self.rois)
        check_responses(responses, self.stories, min_trs=1)
        return responses

    def _file(self, subject: str) -> Path:
        require_subject(self.name, subject, self.subjects)
        return self._folder / f"{subject.lower()}_pcs{N_COMPONENTS}_float16.npz"


def spread_words(texts: list[str], tr: float) -> tuple[list[str], list[float], list[float]]:
    """Words, onsets and offsets (seconds): the k words of a TR last tr / k seconds each."""
    words: list[str] = []
    onsets: list[float] = []
    offsets: list[float] = []
    for t, text in enumerate(texts):
        heard = text.split()
        for j, word in enumerate(heard):
            words.append(word)
            onsets.append((t + j / len(heard)) * tr)
            offsets.append((t + (j + 1) / len(heard)) * tr)
    return words, onsets, offsets


def _read_stories(path: Path, keys: Mapping[str, str], tr: float) -> dict[str, Story]:
    try:
        texts = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise MissingPrerequisite(f"there is no file {path}") from None
    except ValueError as error:
        raise DataError(f"{path.name} is truncated or damaged: {error}", "get the file again") from error
    stories = {}
    for story, key in keys.items():
        rows = texts.get(key) if isinstance(texts, dict) else None
        if not isinstance(rows, list) or not all(isinstance(row, str) for row in rows):
            raise DataError(f"{path.name} has no list of texts for {key!r}", "get the file again")
        stories[story] = make_story(story, *spread_words(rows, tr), n_trs=len(rows), tr=tr)
    return stories
