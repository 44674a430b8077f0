# SPDX-License-Identifier: Apache-2.0
"""Narratives (OpenNeuro ds002345): 345 people, 20 stories of one hearing each, the cortical surface fsaverage6.

Every story has its own listeners and is a data set of its own, as ``narratives:pieman``.
"""

import re
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from voxelboard.benchmark.errors import DataError, MissingPrerequisite, UserError, unknown_name
from voxelboard.benchmark.protocol import TaskName
from voxelboard.benchmark.readers.arrays import read_gifti, require_file
from voxelboard.benchmark.readers.base import (
    CeilingKind,
    DatasetKind,
    Responses,
    StaticVectors,
    leave_one_segment_out,
    require_subject,
)
from voxelboard.benchmark.readers.cards import Card, StoryWindow, WindowSplit
from voxelboard.benchmark.readers.lazy_runs import LEFT_OUT, LazyRuns, keep_by_subject, read_labels
from voxelboard.benchmark.readers.parcellations import find_annotations, language_hierarchy, surface_labels
from voxelboard.benchmark.readers.surfaces import vertices
from voxelboard.benchmark.stimuli.stories import Story
from voxelboard.benchmark.stimuli.word_tables import WordTable, read_gentle, story_on_clock

Float32Array = NDArray[np.float32]

HEMISPHERES = {"L": "left", "R": "right"}  # in the order of the voxels
N_VERTICES = 40_962  # of one hemisphere of fsaverage6
_DERIVATIVE = "derivatives/afni-nosmooth"
_FETCH = "datalad get it from the data set's source: voxelboard data card narratives"
# Event files round onsets to half seconds and volumes last 1.5 s; a start of the audio that is wrong by the 4.5 s or more
# by which the stories differ is seen.
_ONSET_TOLERANCE_S = 3.0
_PAUSE_S = 10.0  # no word is heard for at least this long before a story starts


class Narratives:
    """One story of the Narratives collection; satisfies ``NarrativeData``.

    The story is cut into contiguous segments that are left out in turn. The window of a story starts with its first
    volume: the release's own analysis drops six volumes more, here the protocol trims five at both ends of every
    segment, and no word is lost.

    Parameters
    ----------
    card : of the collection.
    folder : that holds ``derivatives/afni-nosmooth`` and ``stimuli/gentle``.
    variant : a story of the card, and ``:rois`` to take the labels of the vertices (left, then right) from
        ``rois/fsaverage6.txt``, ``-`` for vertices that are left out, or from FreeSurfer's annotations of both hemispheres,
        ``rois/lh.NAME.annot`` and ``rois/rh.NAME.annot`` (all of the labels are then scored).

    Raises
    ------
    UserError
        for an unknown story.
    MissingPrerequisite, DataError
        for aligned words that are missing, damaged, or do not start where the story does.
    """

    kind: DatasetKind
    task: TaskName = "narrative"
    ceiling_kind: CeilingKind
    static_vectors: StaticVectors | None

    def __init__(self, card: Card, folder: Path, variant: str, n_vertices: int = N_VERTICES) -> None:
        if not isinstance(card.split, WindowSplit):
            raise DataError(f"card {card.name}: this reader needs a split by windows")
        name, _, option = variant.partition(":")
        if name not in card.split.stories:
            error = unknown_name(f"story of {card.name}", name, card.split.stories)
            raise UserError(error.message, f"write a story after a colon: {card.name}:{next(iter(card.split.stories))}")
        if option not in ("", "rois"):
            raise UserError(f"{card.name}:{name} has no variant {option!r}", f"write {card.name}:{name}:rois")
        self._window = card.split.stories[name]
        self._folder, self._n_vertices = folder, n_vertices
        # a smaller surface, as in tests, has no place on the shared one
        self._vertices = vertices("fsaverage6", 2 * n_vertices) if n_vertices == N_VERTICES else None
        self.name = f"{card.name}:{variant}"
        self.version = card.version
        self.kind = card.kind
        self.ceiling_kind = card.ceiling_kind
        self.static_vectors = None
        self._excluded = frozenset(self._window.excluded_scans)
        self.subjects = tuple(s for s in self._window.subjects if self._has_kept_scan(s))
        hemispheres = np.repeat(list(HEMISPHERES.values()), n_vertices)
        self._labels = self._regions() if option else hemispheres
        self.scored_rois = tuple(sorted(set(self._labels.tolist()) - {LEFT_OUT})) if option else card.scored_rois
        self.roi_order = language_hierarchy(self.scored_rois)
        story = _read_story(name, self._window, folder, card.tr_s)
        self.stories: Mapping[str, Story] = MappingProxyType({name: story})
        self.split = leave_one_segment_out(name, story.n_trs, self._window.n_segments)

    @keep_by_subject
    def responses(self, subject: str) -> Responses:
        """The first scan of a subject that is not excluded: story -> (1, n_trs, n_vertices) float32, read when looked up.

        Raises
        ------
        UserError
            for an unknown subject, also one whose scans are all excluded.
        MissingPrerequisite, DataError
            for scans that are missing, damaged, too short, or of another surface.
        """
        if subject in self._window.subjects and subject not in self.subjects:
            raise UserError(f"{self.name}: the scans of {subject} are excluded by the release's quality control")
        require_subject(self.name, subject, self.subjects)
        scan = self._scan(subject)
        kept = self._labels != LEFT_OUT
        runs = LazyRuns(tuple(self.stories), lambda _: self._read(scan, kept))
        places = None if self._vertices is None else self._vertices[kept]
        return Responses(subject, runs, self._labels[kept], places)

    def _regions(self) -> NDArray[np.str_]:
        """(n_vertices,) labels from the annotations in rois/, or from a text file."""
        annotations = find_annotations(self._folder / "rois")
        if annotations is None:
            return read_labels(self._folder / "rois" / "fsaverage6.txt", 2 * self._n_vertices)
        labels = surface_labels(*annotations)
        if len(labels) != 2 * self._n_vertices:
            raise DataError(
                f"{annotations[0].name} and its right half have {len(labels)} vertices, fsaverage6 has {2 * self._n_vertices}",
                "take the annotations of fsaverage6",
            )
        return labels

    def _read(self, scan: str, kept: NDArray[np.bool_]) -> Float32Array:
        start, stop = self._window.onset_trs, self._window.onset_trs + self._window.n_trs
        halves = []
        for hemisphere in HEMISPHERES:
            path = require_file(self._surface(scan, hemisphere), _FETCH)
            series = read_gifti(path)
            if series.shape[1] != self._n_vertices:
                raise DataError(f"{path.name}: {series.shape[1]} vertices, fsaverage6 has {self._n_vertices}")
            if len(series) < stop:
                raise DataError(
                    f"{path.name}: {len(series)} volumes, the story lasts until volume {stop}", "get the file again"
                )
            halves.append(series[start:stop])
        run = np.concatenate(halves, axis=1)[:, kept]
        bad = ~np.isfinite(run).all(axis=0)
        if bad.any():
            raise DataError(
                f"{scan}: {int(bad.sum())} vertices with NaN or infinite values, the first is "
                f"{int(np.flatnonzero(kept)[int(np.argmax(bad))])} of left and right",
                f"leave them out with a '-' in rois/fsaverage6.txt and open {self.name.removesuffix(':rois')}:rois",
            )
        return run[None]

    def _scan(self, subject: str) -> str:
        """The first scan that is there and not excluded, as ``sub-001_task-pieman_run-1``."""
        folder = self._folder / _DERIVATIVE / subject / "func"
        ending = "_space-fsaverage6_hemi-L_desc-clean.func.gii"
        stem = f"{subject}_task-{self._window.task}"
        # git-annex links without content count as there, so that the error names them
        scans = [p.name.removesuffix(ending) for p in folder.glob(f"{stem}*{ending}")]
        runs = sorted((s for s in scans if re.fullmatch(rf"{stem}(_run-\d+)?", s)), key=_run_number)
        kept = [scan for scan in runs if scan not in self._excluded]
        if not kept:
            raise MissingPrerequisite(f"there is no scan {stem}{ending} in {folder}", _FETCH)
        return kept[0]

    def _surface(self, scan: str, hemisphere: str) -> Path:
        subject = scan.partition("_")[0]
        name = f"{scan}_space-fsaverage6_hemi-{hemisphere}_desc-clean.func.gii"
        return self._folder / _DERIVATIVE / subject / "func" / name

    def _has_kept_scan(self, subject: str) -> bool:
        """Whether the card leaves a subject a scan. The only scan has no run number; of two, both must be excluded."""
        stem = f"{subject}_task-{self._window.task}"
        return stem not in self._excluded and not {f"{stem}_run-1", f"{stem}_run-2"} <= self._excluded


def _run_number(scan: str) -> int:
    match = re.search(r"_run-(\d+)$", scan)
    return int(match[1]) if match else 0


def _read_story(name: str, window: StoryWindow, folder: Path, tr: float) -> Story:
    path = require_file(folder / "stimuli" / "gentle" / window.transcript / "align.csv", _FETCH)
    table = read_gentle(path)
    _check_onset(path, table, window)
    return story_on_clock(
        name, table, first_row_s=window.onset_trs * tr - window.audio_start_s, n_trs=window.n_trs, tr=tr
    )


def _check_onset(path: Path, table: WordTable, window: StoryWindow) -> None:
    """Whether the first word comes when the event files say that the story starts."""
    relative = table.onsets + window.audio_start_s - window.story_onset_s
    near = relative[relative > -_PAUSE_S]  # words of the story before in the same audio file come earlier
    if not len(near) or abs(near.min()) > _ONSET_TOLERANCE_S:
        first = f"{near.min():+.1f} s" if len(near) else "never"
        raise DataError(
            f"{path.parent.name}/{path.name}: the first word comes {first} after the start of the story at "
            f"{window.story_onset_s:g} s of the scan, if the audio starts at {window.audio_start_s:g} s",
            "the words are aligned to another audio file than the card says: check audio_start_s of the card",
        )
