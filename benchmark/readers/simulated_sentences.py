# SPDX-License-Identifier: Apache-2.0
"""Simulated readers of simulated passages: one amplitude a sentence, with known tuning, signal and noise."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from voxelboard.benchmark.errors import unknown_name
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
from voxelboard.benchmark.readers.simulated_brain import ROI_SHARES, SPACES
from voxelboard.benchmark.stimuli.simulated import SpokenStory, build_world, tell_story
from voxelboard.benchmark.stimuli.stories import Story, make_story

FloatArray = NDArray[np.float64]

NAME = "simulated-sentences"
VERSION = "1.0.0"
_PASSAGE, _GROUP, _SUBJECT, _NOISE = 12, 13, 14, 15
_PASSAGE_SECONDS = 40  # told in so many seconds, a passage has about six sentences
_PASSAGE_SHARE = 0.3  # of the noise variance is shared by the sentences of a passage: what a shuffled split leaks


@dataclass(frozen=True)
class SentenceSpec:
    """Everything that determines a simulated set of sentences."""

    seed: int = 0
    n_subjects: int = 5
    n_folds: int = 8
    n_passages: int = 8  # in a fold
    n_voxels: int = 16  # per ROI
    n_repeats: int = 3
    snr: float = 0.25


PRESETS: Mapping[str, SentenceSpec] = {
    "tiny": SentenceSpec(n_subjects=2, n_folds=4, n_passages=6, n_voxels=8, snr=0.5),
    "demo": SentenceSpec(),
}


class SimulatedSentences:
    """Simulated readers; satisfies ``NarrativeData``. Same spec, same bytes.

    A fold holds passages that nobody else reads; a voxel's amplitude to a sentence mixes the sentence's means of the planted
    latents with the shares of its region, plus noise of which a part is shared by the sentences of a passage.
    """

    kind: DatasetKind = "simulated"
    task: TaskName = "narrative"
    version = VERSION
    ceiling_kind: CeilingKind = "repeats"
    static_vectors: StaticVectors | None = None

    def __init__(self, spec: SentenceSpec, name: str = NAME) -> None:
        self.name, self.spec = name, spec
        self.subjects = tuple(f"sim{k + 1:02d}" for k in range(spec.n_subjects))
        self.scored_rois = tuple(roi for roi in ROI_SHARES if roi != "NULL")
        self.rois: NDArray[np.str_] = np.repeat(np.array(list(ROI_SHARES)), spec.n_voxels)
        told = self._tell()
        spaces = {
            space: np.concatenate([p.latents[space] for own in told.values() for p in own]) for space in SPACES[1:]
        }
        self._centre = {space: table.mean(axis=0) for space, table in spaces.items()}
        self._scale = {space: table.std(axis=0) + 1e-9 for space, table in spaces.items()}
        self.stories: Mapping[str, Story] = MappingProxyType(
            {fold: self._as_story(fold, passages) for fold, passages in told.items()}
        )
        self._passage_of = {
            fold: np.repeat(np.arange(len(own)), [int((p.position == 0).sum()) for p in own])
            for fold, own in told.items()
        }
        segments = [Segment(fold, 0, story.n_trs) for fold, story in self.stories.items()]
        self.split = Split(
            folds=tuple((tuple(other for other in segments if other != test), (test,)) for test in segments)
        )
        self._drives = self._sentence_drives()

    def responses(self, subject: str) -> Responses:
        """Fold -> (n_repeats, n_sentences, n_voxels) float32 of unit variance in expectation."""
        signal = self.signal(subject)
        number, spec = self.subjects.index(subject), self.spec
        runs = {}
        for k, (fold, own) in enumerate(signal.items()):
            rng = np.random.default_rng([spec.seed, _NOISE, number, k])
            shape = (spec.n_repeats, *own.shape)
            passage = rng.standard_normal((spec.n_repeats, self._passage_of[fold].max() + 1, own.shape[1]))
            noise = np.sqrt(_PASSAGE_SHARE) * passage[:, self._passage_of[fold]]
            noise += np.sqrt(1 - _PASSAGE_SHARE) * rng.standard_normal(shape)
            runs[fold] = (own + noise / np.sqrt(1 + spec.snr)).astype(np.float32)
        return Responses(subject, MappingProxyType(runs), self.rois)

    def signal(self, subject: str) -> dict[str, FloatArray]:
        """Fold -> (n_sentences, n_voxels), the part of the amplitudes that is not noise."""
        require_subject(self.name, subject, self.subjects)
        spec, n_voxels = self.spec, len(self.rois)
        shares = np.array([ROI_SHARES[roi] for roi in self.rois])
        shared = np.random.default_rng([spec.seed, _GROUP])
        own = np.random.default_rng([spec.seed, _SUBJECT, self.subjects.index(subject)])
        total = np.zeros((sum(story.n_trs for story in self.stories.values()), n_voxels))
        for k, space in enumerate(SPACES):
            drive = np.concatenate([drives[space] for drives in self._drives.values()])
            shape = (drive.shape[1], n_voxels)
            part = drive @ (np.sqrt(0.6) * shared.standard_normal(shape) + np.sqrt(0.4) * own.standard_normal(shape))
            total += np.sqrt(shares[:, k]) * part / part.std(axis=0)
        scale = total.std(axis=0)
        total *= np.sqrt(spec.snr / (1 + spec.snr)) / np.where(scale > 0, scale, 1.0)
        cuts = np.cumsum([story.n_trs for story in self.stories.values()])[:-1]
        return dict(zip(self.stories, np.split(total, cuts), strict=True))

    def _tell(self) -> dict[str, list[SpokenStory]]:
        world, spec = build_world(self.spec.seed), self.spec
        return {
            f"fold{f + 1:02d}": [
                tell_story(
                    world, f"{f}-{p}", _PASSAGE_SECONDS, 1.0, 0.5, np.random.default_rng([spec.seed, _PASSAGE, f, p])
                )
                for p in range(spec.n_passages)
            ]
            for f in range(spec.n_folds)
        }

    def _as_story(self, fold: str, passages: list[SpokenStory]) -> Story:
        """The passages of a fold, one below the other; a sentence is a row of one second."""
        text = " ".join(passage.text for passage in passages)
        positions = np.concatenate([passage.position for passage in passages])
        sentence = np.cumsum(positions == 0) - 1
        n_words = np.bincount(sentence)
        onsets = sentence + positions / n_words[sentence]
        spans, starts, at, first = [], [], 0, 0
        for passage in passages:
            spans += [(a + at, b + at) for a, b in passage.spans]
            starts.append(first)
            at += len(passage.text) + 1
            first += len(passage.words)
        latents = {
            space: (np.concatenate([passage.latents[space] for passage in passages]) - self._centre[space])
            / self._scale[space]
            for space in SPACES[1:]
        }
        return make_story(
            fold,
            [word for passage in passages for word in passage.words],
            onsets,
            onsets + 1 / n_words[sentence],
            n_trs=len(n_words),
            tr=1.0,
            text=text,
            spans=spans,
            annotations={**latents, "sentence_position": positions[:, None]},
            row_unit="sentence",
            text_starts=starts,
        )

    def _sentence_drives(self) -> dict[str, dict[str, FloatArray]]:
        """Fold -> space -> (n_sentences, n_columns): length for low, means over the words for the others."""
        drives = {}
        for fold, story in self.stories.items():
            counts = np.bincount(story.word_trs, minlength=story.n_trs)[:, None]
            letters = np.bincount(story.word_trs, [len(word) for word in story.words], story.n_trs)[:, None]
            drives[fold] = {"low": np.concatenate([counts, letters], axis=1).astype(np.float64)}
            for space in SPACES[1:]:
                sums = np.zeros((story.n_trs, story.annotations[space].shape[1]))
                np.add.at(sums, story.word_trs, story.annotations[space])
                drives[fold][space] = sums / counts
        centre = np.concatenate([own["low"] for own in drives.values()]).mean(axis=0)
        for own in drives.values():
            own["low"] -= centre
        return drives


def open_simulated_sentences(preset: str = "demo", seed: int = 0) -> SimulatedSentences:
    """The simulated sentences of a preset; raises UserError for an unknown one."""
    if preset not in PRESETS:
        raise unknown_name("preset of the simulated sentences", preset, PRESETS)
    name = NAME if preset == "demo" and seed == 0 else f"{NAME}:{preset}" + (f":{seed}" if seed else "")
    return SimulatedSentences(replace(PRESETS[preset], seed=seed), name)
