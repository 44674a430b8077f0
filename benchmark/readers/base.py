# SPDX-License-Identifier: Apache-2.0
"""What every reader yields: stories, responses, and how they are split and normalised."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, Literal, Protocol, cast

import numpy as np
from numpy.typing import NDArray

from voxelboard.benchmark.errors import DataError, UserError, unknown_name
from voxelboard.benchmark.protocol import TaskName
from voxelboard.benchmark.stimuli.stories import Story

FloatArray = NDArray[np.float32]

# How the explainable part of the responses is known; never mixed in one column (statistics.md B7).
# repeats: several presentations of the test story; inter_subject: other listeners of the same story;
# none: total variance, the score is then a plain pooled correlation.
CeilingKind = Literal["repeats", "inter_subject", "none"]
# Regions from early to late; a tuple holds regions of the same place, such as one region of both hemispheres.
RoiOrder = tuple[str | tuple[str, ...], ...]
DatasetKind = Literal["real", "simulated"]


@dataclass(frozen=True, eq=False)
class Responses:
    """The responses of one subject, as stored: nothing trimmed, filtered or z-scored.

    Attributes
    ----------
    subject : as the card spells it.
    runs : story name -> (n_repeats, n_trs, n_voxels) float32; n_repeats is 1 for stories heard once and for
        averages whose single presentations are not published.
    rois : (n_voxels,) the label of each voxel (component, parcel).
    vertices : (n_voxels,) int32 where on fsaverage5 a voxel lies, as :func:`~voxelboard.benchmark.readers.surfaces.vertices`
        counts, -1 for one that has no place there; None for responses that lie on no shared surface. For maps only: it
        is no part of the hash.
    """

    subject: str
    runs: Mapping[str, FloatArray]
    rois: NDArray[np.str_]
    vertices: NDArray[np.int32] | None = None

    @property
    def n_voxels(self) -> int:
        return len(self.rois)

    def sha256(self) -> str:
        """Hash of every number and label, in story order. Runs that remember the hash of what was read are not read again."""
        remembered = getattr(self.runs, "run_sha256", None)
        digest = hashlib.sha256(self.subject.encode())
        for name in sorted(self.runs):
            digest.update(f"{name}={remembered(name) if remembered else run_sha256(self.runs[name])}\n".encode())
        digest.update("\n".join(self.rois.tolist()).encode())
        return digest.hexdigest()


def run_sha256(run: FloatArray) -> str:
    """Hash of the shape and the numbers of one run."""
    values = np.ascontiguousarray(run, dtype="<f4")
    digest = hashlib.sha256(f"{values.shape}".encode())
    digest.update(values.data)
    return digest.hexdigest()


@dataclass(frozen=True)
class Segment:
    """A stretch of one story that is filtered, z-scored and left out as a whole: TRs ``start`` to ``stop - 1``."""

    story: str
    start: int
    stop: int


@dataclass(frozen=True)
class Split:
    """Outer folds over segments. Each fold's test segments are predicted from its training segments.

    ``folds`` is a tuple of ``(train, test)``, each a tuple of segments. One fold (train stories, test stories) is the
    rule; a single-story data set is cut into segments that are left out in turn.
    """

    folds: tuple[tuple[tuple[Segment, ...], tuple[Segment, ...]], ...]

    @property
    def test_segments(self) -> tuple[Segment, ...]:
        return tuple(segment for _, test in self.folds for segment in test)


def leave_one_segment_out(story: str, n_trs: int, n_segments: int) -> Split:
    """Cut one story into segments of nearly equal length; each is the test segment of one fold."""
    edges = np.linspace(0, n_trs, n_segments + 1).round().astype(int).tolist()
    segments = [Segment(story, start, stop) for start, stop in pairwise(edges)]
    return Split(folds=tuple((tuple(other for other in segments if other != test), (test,)) for test in segments))


class Timed(Protocol):
    """What is presented in one piece: a story, or a run of a film."""

    @property
    def n_trs(self) -> int: ...
    @property
    def tr(self) -> float: ...


class Presented(Protocol):
    """What of a data set the preparation of responses needs to know."""

    @property
    def name(self) -> str: ...
    @property
    def stories(self) -> Mapping[str, Timed]: ...
    @property
    def subjects(self) -> tuple[str, ...]: ...
    @property
    def split(self) -> "Split": ...

    def responses(self, subject: str) -> "Responses":
        """The responses of one subject."""
        ...


class Dataset(Protocol):
    """A data set of any task, opened."""

    name: str
    version: str
    kind: DatasetKind
    task: TaskName
    subjects: tuple[str, ...]
    # word -> (n_features,) of the static baseline, or None when no table is at hand
    static_vectors: "StaticVectors | None"


@dataclass(frozen=True)
class DatasetFacts:
    """What a plan needs to know of a data set."""

    name: str
    version: str
    kind: DatasetKind
    subjects: tuple[str, ...]
    has_static_vectors: bool
    task: TaskName = "narrative"


def facts_of(data: Dataset) -> DatasetFacts:
    """What a plan needs to know of an opened data set."""
    has_static_vectors = data.static_vectors is not None
    return DatasetFacts(data.name, data.version, data.kind, tuple(data.subjects), has_static_vectors, data.task)


class NarrativeData(Dataset, Protocol):
    """A narrative data set, opened. Responses are read per subject, and only when asked for."""

    stories: Mapping[str, Story]
    split: Split
    scored_rois: tuple[str, ...]  # the headline is the mean over these, in this order
    ceiling_kind: CeilingKind

    def responses(self, subject: str) -> Responses:
        """The responses of one subject; raises UserError for an unknown subject."""
        ...


class OneFold:
    """A data set with one of its outer folds; all else is that of the data set.

    Raises
    ------
    UserError
        for a fold that it does not have.
    """

    def __init__(self, data: NarrativeData, fold: int) -> None:
        folds = data.split.folds
        if not 0 <= fold < len(folds):
            raise UserError(f"{data.name} has no fold {fold}", f"allowed: 0 to {len(folds) - 1}")
        self._data = data
        self.split = Split(folds=(folds[fold],))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._data, name)


def one_fold(data: NarrativeData, fold: int | None) -> NarrativeData:
    """The data set with one fold, or as it is."""
    return data if fold is None else cast("NarrativeData", OneFold(data, fold))


@dataclass(frozen=True, eq=False)
class StaticVectors:
    """A table of word vectors. ``vectors[index[word]]`` is the vector of ``word`` (lower case)."""

    name: str
    index: Mapping[str, int]
    vectors: FloatArray = field(repr=False)  # (n_entries, n_features)


def require_subject(data_name: str, subject: str, subjects: tuple[str, ...]) -> None:
    """Raise UserError for a subject that the data set does not have."""
    if subject not in subjects:
        raise unknown_name(f"subject of {data_name}", subject, subjects)


def check_responses(responses: Responses, stories: Mapping[str, Timed], min_trs: int) -> None:
    """Refuse responses that cannot be scored. Reads all runs, one after the other.

    Raises
    ------
    DataError
        as :func:`check_names` and :func:`check_run`.
    """
    check_names(responses, stories)
    for name, run in responses.runs.items():
        check_run(responses, name, run, stories[name].n_trs, min_trs)


def check_names(responses: Responses, stories: Mapping[str, Timed]) -> None:
    """Raise DataError for a run without a story. Reads nothing."""
    for name in responses.runs:
        if name not in stories:
            raise DataError(
                f"subject {responses.subject}, story {name!r}: responses without a story",
                "check that both come from the same release",
            )


def check_run(responses: Responses, name: str, run: FloatArray, n_trs: int, min_trs: int) -> None:
    """Refuse a run that cannot be scored.

    Raises
    ------
    DataError
        for a run of another length than the story, with NaN or infinite values, with constant voxels, of another number
        of voxels, or with fewer rows than ``min_trs`` (delays and trims).
    """
    where = f"subject {responses.subject}, story {name!r}"
    if run.ndim != 3 or run.shape[2] != responses.n_voxels:
        raise DataError(f"{where}: shape {run.shape}, expected (n_repeats, n_trs, n_voxels={responses.n_voxels})")
    if run.shape[1] != n_trs:
        raise DataError(f"{where}: {run.shape[1]} rows of responses but {n_trs} TRs of stimulus")
    if run.shape[1] < min_trs:
        raise DataError(f"{where}: {run.shape[1]} TRs, fewer than the {min_trs} that delays and trims take")
    bad = ~np.isfinite(run).all(axis=(0, 1))
    if bad.any():
        raise DataError(
            f"{where}: {int(bad.sum())} voxels with NaN or infinite values, the first is {int(np.argmax(bad))}",
            "leave these voxels out of the mask of this subject",
        )
    flat = (run.max(axis=1) == run.min(axis=1)).any(axis=0)
    if flat.any():
        raise DataError(
            f"{where}: {int(flat.sum())} constant voxels, the first is {int(np.argmax(flat))}",
            "leave these voxels out of the mask of this subject",
        )
