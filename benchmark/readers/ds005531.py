# SPDX-License-Identifier: Apache-2.0
"""OpenNeuro ds005531: six people who watched nine films and series (Nakagi et al. 2024; Yamaguchi et al.).

The public release has three of the five levels of the paper: speech (in Japanese and in English), object and story, all
others in Japanese. Summary and time/place are not in it, so five-level results cannot be computed from it.

Layout, as published: ``derivatives/preprocessed_data/sub-S01/sub-S01_task-heroes_run-01.mat`` (MATLAB 7.3, ``dataDT``
(n_trs, 96 * 96 * 72), one row a second) with ``vset_100.mat`` beside it (``tvoxels``, 1-based numbers of the cortical
voxels), ``derivatives/annotation/heroes_run-01_story_each1sec.txt`` with one line a second, and the features that the
authors computed in ``derivatives/feature``. The index ``dataInfo.mat`` of the companion repository is compared with the
card where it lies in the data set's folder.
"""

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from voxelboard.benchmark.errors import DataError, MissingPrerequisite, UserError
from voxelboard.benchmark.protocol import TaskName
from voxelboard.benchmark.readers.arrays import hdf5_shapes, read_hdf5_columns, require_file
from voxelboard.benchmark.readers.base import CeilingKind, DatasetKind, Responses, StaticVectors, require_subject
from voxelboard.benchmark.readers.cards import Card, FilmSplit
from voxelboard.benchmark.readers.drama_base import check_levels, last_runs_split, title_folds
from voxelboard.benchmark.readers.lazy_runs import LEFT_OUT, LazyRuns, read_labels
from voxelboard.benchmark.readers.matlab import read_matlab
from voxelboard.benchmark.stimuli.annotation_tables import read_each_second
from voxelboard.benchmark.stimuli.annotations import LEVELS, Annotation, Run, make_run

Float32Array = NDArray[np.float32]

ROI = "cortex"
LEVEL_FILES: Mapping[str, str] = {"speech": "speechTranscription", "object": "objectiveAnnot50chara", "story": "story"}
ENGLISH_FILE = "speechTranscription_EN"
VARIANTS = ("", "en", "rois")
_PREPROCESSED = Path("derivatives") / "preprocessed_data"
_ANNOTATION = Path("derivatives") / "annotation"
_FEATURE = Path("derivatives") / "feature"
_FETCH = "get it from https://openneuro.org/datasets/ds005531"
_N_ANNOTATORS = {level.name: level.n_annotators for level in LEVELS}


class Ds005531:
    """Viewers of nine titles; satisfies ``DramaData``.

    Parameters
    ----------
    variant : ``""``: the level speech is the Japanese transcript, ``"en"``: its English translation; the other one is
        ``speech@en`` or ``speech@jp``. ``"rois"``: as ``""``, for subjects that have a file ``rois/S01.txt`` with the
        label of each voxel of the mask, ``-`` for those that are left out.

    Raises
    ------
    MissingPrerequisite, DataError
        for files that are missing, damaged, or of other lengths than the card says.
    """

    kind: DatasetKind
    task: TaskName = "drama"
    ceiling_kind: CeilingKind

    def __init__(self, card: Card, folder: Path, variant: str = "") -> None:
        if not isinstance(card.split, FilmSplit):
            raise DataError(f"card {card.name}: this reader needs a split by films")
        if variant not in VARIANTS:
            raise UserError(
                f"{card.name} has no variant {variant!r}", f"write {card.name}, {card.name}:en or {card.name}:rois"
            )
        self.name = f"{card.name}:{variant}" if variant else card.name
        self.version = card.version
        self.kind = card.kind
        self.ceiling_kind = card.ceiling_kind
        self.static_vectors: StaticVectors | None = None
        self._card, self._folder = card, folder
        self._labels = self._read_labels() if variant == "rois" else None
        self.subjects = tuple(s for s in self._labels or card.subjects if self._is_here(s))
        if not self.subjects:
            raise MissingPrerequisite(f"there are no responses in {folder / _PREPROCESSED}", _FETCH)
        self.scored_rois = _shared(self._labels) if self._labels else card.scored_rois
        self.runs: Mapping[str, Run] = MappingProxyType(self._read_runs(card.split, english=variant == "en"))
        self.levels = check_levels(self.runs, tuple(LEVEL_FILES))
        titles = card.split.titles
        test = [run for title in titles.values() for episode in title.episodes for run in episode.test]
        self.split = last_runs_split(self.runs, test)
        self.inner_folds: Mapping[str, int] = title_folds(self.runs, {name: t.fold for name, t in titles.items()})
        self._check_index()

    def responses(self, subject: str) -> Responses:
        """All runs of one subject, run -> (1, n_trs, n_voxels) float32, each read when it is looked up.

        Rows behind the end of the film are left out; voxels are those of the mask, in its order. Some 30,000 rows of
        60,000 voxels: 2 MB a run and 1,000 voxels are in memory at a time.

        Raises
        ------
        UserError
            for an unknown subject.
        MissingPrerequisite, DataError
            for a file that is missing, damaged, or shorter than the film.
        """
        if subject in self._card.subjects and not self._is_here(subject):
            raise MissingPrerequisite(f"{self.name}: no responses of {subject}", _FETCH)
        require_subject(self.name, subject, self.subjects)
        voxels = self._mask(subject)
        labels = self._labels[subject] if self._labels else np.full(len(voxels), ROI)
        if len(labels) != len(voxels):
            raise DataError(f"rois/{subject}.txt: {len(labels)} labels for {len(voxels)} voxels of the mask")
        kept = labels != LEFT_OUT
        for name in self.runs:
            self._check_shape(subject, name, int(voxels.max()))
        read = LazyRuns(list(self.runs), lambda name: self._read(subject, name, voxels[kept]))
        return Responses(subject, read, labels[kept])

    def released_features(self, run: str, level: str, features: str) -> Float32Array:
        """(n_trs, n_features) features that the authors released, such as ``GPT2medium_jp_layer12_mean``.

        Raises
        ------
        MissingPrerequisite, DataError
            for a file that is not there, or has another number of seconds than the run.
        """
        stem = ENGLISH_FILE if level == "speech@en" else LEVEL_FILES[level.partition("@")[0]]
        path = self._folder / _FEATURE / f"{run}_{stem}_{features}.mat"
        table = np.atleast_2d(np.asarray(read_matlab(path, "stim", hint=_FETCH)["stim"], dtype=np.float32))
        if len(table) != self.runs[run].n_trs:
            raise DataError(f"{path.name}: {len(table)} seconds of features for a run of {self.runs[run].n_trs} s")
        return table

    def _read_runs(self, split: FilmSplit, *, english: bool) -> dict[str, Run]:
        runs = {}
        for title, entry in split.titles.items():
            for episode in entry.episodes:
                for position, (name, n_seconds) in enumerate(episode.runs.items()):
                    skip = split.overlap_s if position else 0
                    annotations = self._read_annotations(name, n_seconds, english=english)
                    runs[name] = make_run(
                        name, title, n_trs=n_seconds, tr=self._card.tr_s, skip_trs=skip, annotations=annotations
                    )
        return runs

    def _read_annotations(self, run: str, n_seconds: int, *, english: bool) -> dict[str, Annotation]:
        read = {
            level: read_each_second(
                self._annotation(run, stem), n_seconds, _N_ANNOTATORS[level], speech=level == "speech"
            )
            for level, stem in LEVEL_FILES.items()
        }
        translated = read_each_second(self._annotation(run, ENGLISH_FILE), n_seconds, 1, speech=True)
        if english:
            return {**read, "speech": translated, "speech@jp": read["speech"]}
        return {**read, "speech@en": translated}

    def _annotation(self, run: str, stem: str) -> Path:
        return require_file(self._folder / _ANNOTATION / f"{run}_{stem}_each1sec.txt", _FETCH)

    def _mask(self, subject: str) -> NDArray[np.intp]:
        """(n_voxels,) 0-based numbers of the cortical voxels, in the order of the file."""
        path = self._folder / _PREPROCESSED / f"sub-{subject}" / "vset_100.mat"
        numbers = (
            np.atleast_1d(np.asarray(read_matlab(path, "tvoxels", hint=_FETCH)["tvoxels"])).ravel().astype(np.intp)
        )
        if len(numbers) == 0 or numbers.min() < 1 or len(np.unique(numbers)) != len(numbers):
            raise DataError(
                f"{path.name} of {subject}: tvoxels are {len(numbers)} numbers from {numbers.min(initial=0)}; expected "
                "different numbers from 1",
                _FETCH,
            )
        return numbers - 1

    def _check_shape(self, subject: str, run: str, last_voxel: int) -> None:
        path = self._file(subject, run)
        shape = hdf5_shapes(require_file(path, _FETCH)).get("dataDT", ())
        n_seconds = self.runs[run].n_trs
        n_voxels = int(np.prod(shape[1:])) if len(shape) > 1 else 0
        if n_voxels <= last_voxel or shape[0] < n_seconds:
            raise DataError(
                f"{path.name}: dataDT has shape {shape}, expected (n_trs >= {n_seconds}, n_voxels > {last_voxel})",
                "the file is truncated, of another run, or has its axes the other way round: get it again",
            )

    def _read(self, subject: str, run: str, voxels: NDArray[np.intp]) -> Float32Array:
        path = self._file(subject, run)
        return read_hdf5_columns(path, "dataDT", voxels, slice(0, self.runs[run].n_trs))[None]

    def _file(self, subject: str, run: str) -> Path:
        return self._folder / _PREPROCESSED / f"sub-{subject}" / f"sub-{subject}_task-{run}.mat"

    def _is_here(self, subject: str) -> bool:
        return any((self._folder / _PREPROCESSED / f"sub-{subject}").glob("sub-*.mat"))

    def _read_labels(self) -> dict[str, NDArray[np.str_]]:
        paths = {subject: self._folder / "rois" / f"{subject}.txt" for subject in self._card.subjects}
        labels = {subject: read_labels(path) for subject, path in paths.items() if path.exists()}
        if not labels:
            raise DataError(
                f"{self._card.name}:rois needs files of labels, there is none in {self._folder / 'rois'}",
                f"write one label a line and voxel of the mask to rois/{self._card.subjects[0]}.txt",
            )
        return labels

    def _check_index(self) -> None:
        """Compare the seconds of each run with the authors' index, where it is here."""
        path = self._folder / "dataInfo.mat"
        if not path.is_file():
            return
        subjects = np.atleast_1d(read_matlab(path, "subject")["subject"])
        for film in np.atleast_1d(subjects[0].mov):
            for run in np.atleast_1d(film.run):
                name = str(run.file).rpartition("_task-")[2].removesuffix(".mat")
                if name in self.runs and int(run.duration) != self.runs[name].n_trs:
                    raise DataError(
                        f"dataInfo.mat says that {name} has {int(run.duration)} s, the card says {self.runs[name].n_trs}",
                        "the index is of another release: take it out of the folder, or get the release of the card",
                    )


def _shared(labels: Mapping[str, NDArray[np.str_]]) -> tuple[str, ...]:
    shared = set.intersection(*(set(own.tolist()) for own in labels.values())) - {LEFT_OUT}
    if not shared:
        raise DataError("the files of labels have no label in common")
    return tuple(sorted(shared))
