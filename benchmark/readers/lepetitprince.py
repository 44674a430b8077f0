# SPDX-License-Identifier: Apache-2.0
"""Le Petit Prince (OpenNeuro ds003643): an audiobook of 90 minutes in nine runs, heard in English, French or Chinese."""

import csv
import io
import re
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from voxelboard.benchmark.errors import DataError, MissingPrerequisite, UserError
from voxelboard.benchmark.protocol import TaskName
from voxelboard.benchmark.readers.arrays import read_responses, require_file, response_shape
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
from voxelboard.benchmark.readers.lazy_runs import LEFT_OUT, LazyRuns, keep_by_subject
from voxelboard.benchmark.readers.parcellations import (
    atlas_files,
    brain_mask,
    parcel_labels,
    scored_labels,
    volume_labels,
)
from voxelboard.benchmark.readers.volumes import read_grid
from voxelboard.benchmark.stimuli.stories import Story
from voxelboard.benchmark.stimuli.word_tables import WordTable, fill_times, story_on_clock

FloatArray = NDArray[np.float32]

LANGUAGES = ("EN", "FR", "CN")
N_RUNS = 9
# Volumes of each run of the preprocessed release; the last (EN 4, FR 2) were measured after the sound had ended.
N_VOLUMES = {
    "EN": (282, 298, 340, 303, 265, 343, 325, 292, 368),
    "FR": (309, 326, 354, 315, 293, 378, 332, 294, 336),
    "CN": (283, 322, 322, 307, 293, 392, 364, 293, 401),
}
# Rows of the English word table that hold a word a second time: typing errors of the release, by the index column.
_WRONG_ROWS = {"EN": frozenset({3919, 6775, 6781})}
_COLUMNS = ("word", "onset", "offset", "section")
ROI = "brain"
_FETCH = "voxelboard data fetch lepetitprince"


class LePetitPrince:
    """One language; satisfies ``NarrativeData``. Subjects are those who are here.

    Runs are left out in turn, all nine. Subjects number their runs as they come (the first run of EN057 is run-15): sorted, the
    nine are the nine sections of the book. Responses are read run by run when they are looked up.

    Parameters
    ----------
    variant : ``EN`` (the default), ``FR`` or ``CN``; ``:rois`` scores the labels of ``rois/parcels.nii.gz`` (with
        ``rois/parcels.txt``, number and name a line) instead of one region called brain, ``:schaefer-100`` and other
        names those of an atlas that nilearn has on this machine.

    The voxels are those of ``rois/mask.nii.gz``, or of the MNI brain mask that nilearn ships.

    Raises
    ------
    UserError
        for an unknown variant.
    MissingPrerequisite, DataError
        for files that are missing, damaged, or do not fit each other.
    """

    kind: DatasetKind
    task: TaskName = "narrative"
    ceiling_kind: CeilingKind
    static_vectors: StaticVectors | None = None

    def __init__(
        self, card: Card, folder: Path, variant: str = "", volumes: Mapping[str, tuple[int, ...]] = N_VOLUMES
    ) -> None:
        language, _, option = (variant or LANGUAGES[0]).partition(":")
        if language == "rois":
            language, option = LANGUAGES[0], "rois"
        if language not in LANGUAGES:
            raise UserError(
                f"{card.name} has no variant {variant!r}",
                f"write {card.name}:{' or '.join(LANGUAGES)}, with :rois or the name of an atlas for regions",
            )
        self.name = f"{card.name}:{variant}" if variant else card.name
        self.version, self.kind, self.ceiling_kind = card.version, card.kind, card.ceiling_kind
        self._folder, self._language = folder, language
        self._volumes = dict(zip(run_names(), volumes[language], strict=True))
        self._scans = {s: scans for s in card.subjects if s.startswith(f"sub-{language}") and (scans := self._find(s))}
        if not self._scans:
            raise MissingPrerequisite(f"there are no scans of {language} in {folder / 'derivatives'}", _FETCH)
        self.subjects = tuple(self._scans)
        self._mask = brain_mask(folder / "rois", read_grid(next(iter(self._scans.values()))[0]))
        self._labels = self._regions(option)
        self.scored_rois = scored_labels(self._labels) if option else card.scored_rois
        self.stories: Mapping[str, Story] = MappingProxyType(self._read_stories(card.tr_s))
        segments = [Segment(name, 0, story.n_trs) for name, story in self.stories.items()]
        self.split = Split(folds=tuple((tuple(s for s in segments if s != test), (test,)) for test in segments))

    def _regions(self, option: str) -> NDArray[np.str_]:
        """(n_voxels,) the label of each voxel of the mask."""
        if not option:
            return np.full(int(np.count_nonzero(self._mask.values)), ROI)
        if option == "rois":
            return volume_labels(self._folder / "rois", self._mask)
        return parcel_labels(*atlas_files(option), self._mask)

    @keep_by_subject
    def responses(self, subject: str) -> Responses:
        """Run -> (1, n_trs, n_voxels) float32, each read when it is looked up.

        Raises
        ------
        UserError
            for an unknown subject.
        DataError
            for a scan on another grid or of another length than the release's.
        """
        require_subject(self.name, subject, self.subjects)
        scans = dict(zip(run_names(), self._scans[subject], strict=True))
        for run, path in scans.items():
            shape = response_shape(path)
            if shape != (*self._mask.values.shape, self._volumes[run]):
                raise DataError(
                    f"{path.name}: shape {shape}, expected {(*self._mask.values.shape, self._volumes[run])}",
                    "get the file again, or check the release",
                )
        kept = self._labels != LEFT_OUT
        mask = np.asarray(self._mask.values != 0)
        return Responses(
            subject, LazyRuns(run_names(), lambda run: self._read(scans[run], mask, kept)), self._labels[kept]
        )

    def _read(self, path: Path, mask: NDArray[np.bool_], kept: NDArray[np.bool_]) -> FloatArray:
        run = read_responses(path, mask=mask)[:, kept]
        flat = np.ptp(run, axis=0) == 0
        if flat.any() or not np.isfinite(run).all():
            raise DataError(
                f"{path.name}: {int(flat.sum())} voxels of the mask are constant or not a number",
                "the mask is wider than the scans: give a narrower one as rois/mask.nii.gz",
            )
        return run[None]

    def _find(self, subject: str) -> tuple[Path, ...]:
        """The nine runs of a subject, in the order of their numbers."""
        folder = self._folder / "derivatives" / subject / "func"
        ending = "_space-MNIColin27_desc-preproc_bold.nii.gz"
        found = {}
        for path in folder.glob(f"{subject}_task-lpp{self._language}_run-*{ending}"):
            match = re.search(r"_run-(\d+)_", path.name)
            if match is not None:
                found[int(match[1])] = path
        if found and len(found) != N_RUNS:
            raise DataError(f"{subject} has {len(found)} runs in {folder}, expected {N_RUNS}", _FETCH)
        return tuple(found[number] for number in sorted(found))

    def _read_stories(self, tr: float) -> dict[str, Story]:
        path = self._folder / "annotation" / self._language / f"lpp{self._language}_word_information.csv"
        tables = read_sections(require_file(path, _FETCH), _WRONG_ROWS.get(self._language, frozenset()))
        if sorted(tables) != list(range(1, N_RUNS + 1)):
            raise DataError(
                f"{path.name} has the sections {sorted(tables)}, expected 1 to {N_RUNS}", "get the file again"
            )
        return {
            run: story_on_clock(run, tables[k], first_row_s=0.0, n_trs=self._volumes[run], tr=tr, max_lost_share=0.05)
            for k, run in enumerate(run_names(), 1)
        }


def run_names() -> tuple[str, ...]:
    """The names of the sections of the book."""
    return tuple(f"section{k}" for k in range(1, N_RUNS + 1))


def read_sections(path: Path, wrong: frozenset[int] = frozenset()) -> dict[int, WordTable]:
    """Section -> its words, seconds from its start; ``wrong`` are entries of the index column that are left out.

    A word that starts before the word before it starts with it; one without times stands between its neighbours.

    Raises
    ------
    DataError
        with the line, for a column that is missing or a cell that is no number.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(f"{path.name} is not UTF-8 text: {error}", "get the file again") from error
    rows = list(csv.reader(io.StringIO(text, newline="")))
    header = [cell.strip().lower() for cell in rows[0]] if rows else []
    missing = [name for name in _COLUMNS if name not in header]
    if missing:
        raise DataError(
            f"{path.name} has no column {', '.join(missing)}; it has {', '.join(header)}", "get the file again"
        )
    places = [header.index(name) for name in _COLUMNS]
    sections: dict[int, list[tuple[str, float, float]]] = {}
    for line, row in enumerate(rows[1:], 2):
        if not row or (row[0].strip().isdecimal() and int(row[0]) in wrong):
            continue
        try:
            word, onset, offset, section = (row[place].strip() for place in places)
            start, stop = (float(cell) if cell else float("nan") for cell in (onset, offset))
            number = int(float(section))
        except (IndexError, ValueError) as error:
            raise DataError(f"{path.name}, line {line}: {error}", "get the file again") from error
        if word:
            sections.setdefault(number, []).append((word, start, stop))
    return {number: _table(own) for number, own in sections.items()}


def _table(rows: list[tuple[str, float, float]]) -> WordTable:
    on, off = (np.array([row[k] for row in rows]) for k in (1, 2))
    known = np.isfinite(on) & np.isfinite(off)
    on[~known], off[~known] = np.nan, np.nan
    on[known] = np.maximum.accumulate(on[known])
    off[known] = np.maximum(on[known], off[known])
    return WordTable(tuple(word for word, _, _ in rows), *fill_times(on, off), int((~known).sum()))
