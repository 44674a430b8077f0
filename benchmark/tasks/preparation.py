# SPDX-License-Identifier: Apache-2.0
"""Responses, made ready: trimmed, high-passed and z-scored by segment, subjects with the same rows side by side.

One order for responses and designs: trim, then the DCT high-pass, then z-score (statistics.md 2.1). Each repeat is
z-scored by itself and the average of repeats is never z-scored again.
"""

import hashlib
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from scipy.signal import lfilter

from voxelboard.benchmark.encoding.filters import high_pass
from voxelboard.benchmark.errors import DataError, unknown_name
from voxelboard.benchmark.features.store import default_store_folder
from voxelboard.benchmark.protocol import DesignPolicy, Protocol
from voxelboard.benchmark.readers.base import Presented, Responses, Segment, Timed, check_names, check_run
from voxelboard.benchmark.scratch import working_array

FloatArray = NDArray[np.float32]

FoldRule = Callable[[Sequence[Segment]], NDArray[np.intp]]  # segments -> (n_segments,) inner fold of each

_VOXELS_AT_ONCE = (
    256  # float64 copies of so many voxels stay in the processor's cache: 3 times the speed of all at once
)

NOISE_BRAIN = "noise brain"  # the pseudo-subject of every cohort, and the label of its voxels


@dataclass(frozen=True, eq=False)
class PreparedFold:
    """One outer fold of a cohort.

    Attributes
    ----------
    train, test : segments, in row order.
    inner_folds : (n_train_rows,) number of the inner fold of each training row; whole segments.
    responses : (n_train_rows, n_voxels) float32, z-scored by segment; the subjects' voxels side by side. On disk when they
        are large (:mod:`voxelboard.benchmark.scratch`).
    test_responses : subject -> one (n_repeats, n_rows, n_voxels) float32 array a test segment, each repeat z-scored.
    """

    train: tuple[Segment, ...]
    test: tuple[Segment, ...]
    inner_folds: NDArray[np.intp]
    responses: FloatArray
    test_responses: Mapping[str, tuple[FloatArray, ...]]


@dataclass(frozen=True, eq=False)
class Cohort:
    """Subjects who heard the same stories: they share every design, so they share its factorisations.

    Attributes
    ----------
    subjects : in the data set's order, without the noise brain.
    columns : subject or ``NOISE_BRAIN`` -> slice of the voxel axis of ``PreparedFold.responses``.
    rois : subject or ``NOISE_BRAIN`` -> (n_voxels,) label of each voxel.
    vertices : subject -> (n_voxels,) places on a shared surface, for subjects whose responses lie on one.
    """

    subjects: tuple[str, ...]
    columns: Mapping[str, slice]
    rois: Mapping[str, NDArray[np.str_]]
    folds: tuple[PreparedFold, ...]
    vertices: Mapping[str, NDArray[np.int32]] = field(default_factory=dict)

    @property
    def n_voxels(self) -> int:
        return sum(len(labels) for labels in self.rois.values())


def rows_of(segment: Segment, policy: DesignPolicy) -> slice:
    """The rows of a story that a segment keeps after trimming."""
    return slice(segment.start + policy.trim_trs, segment.stop - policy.trim_trs)


def prepare_segment(run: FloatArray, segment: Segment, policy: DesignPolicy, tr: float) -> FloatArray:
    """(n_repeats, n_rows, n_voxels) float32: each repeat trimmed, high-passed and z-scored by itself.

    ``run`` is (n_repeats, n_trs, n_voxels).
    """
    trimmed = run[:, rows_of(segment, policy)]
    prepared = np.empty(trimmed.shape, dtype=np.float32)
    for repeat, target in zip(trimmed, prepared, strict=True):
        for first in range(0, trimmed.shape[2], _VOXELS_AT_ONCE):
            voxels = slice(first, first + _VOXELS_AT_ONCE)
            filtered = high_pass(repeat[:, voxels], tr, policy.high_pass_s)  # float64
            spread = filtered.std(axis=0)
            if (spread <= 0).any():
                raise DataError(
                    f"story {segment.story!r}, TRs {segment.start}-{segment.stop}: voxel "
                    f"{first + int(np.argmax(spread <= 0))} is constant after the {policy.high_pass_s:g}-s high-pass",
                    "leave it out of the mask of this subject",
                )
            target[:, voxels] = filtered / spread
    return prepared


def minimum_trs(policy: DesignPolicy) -> int:
    """Fewest TRs that a segment must have: trims at both ends and one row more than the delays."""
    return 2 * policy.trim_trs + max(policy.delays_trs) + 1


def inner_fold_numbers(segments: Sequence[Segment], n_folds: int) -> NDArray[np.intp]:
    """(n_segments,) inner fold of each training segment, dealt in turn by story name and start.

    The order in which a data set lists its stories changes nothing. With fewer segments than folds each is its own.
    """
    numbers = np.empty(len(segments), dtype=np.intp)
    by_name = sorted(range(len(segments)), key=lambda i: (segments[i].story, segments[i].start))
    numbers[by_name] = np.arange(len(segments)) % min(n_folds, len(segments))
    return numbers


def cohorts(
    data: Presented,
    subjects: Sequence[str],
    protocol: Protocol,
    n_train_segments: int | None = None,
    stories: Collection[str] | None = None,
    inner_folds: FoldRule | None = None,
) -> list[Cohort]:
    """Group subjects by the stories that they heard, prepare their responses, and add the noise brain to each group.

    ``n_train_segments`` keeps the first training segments of each fold only (a look, never a ranked score);
    ``stories`` restricts training to stories that have features; ``inner_folds`` deals the training segments to inner
    folds where whole stories in turn (:func:`inner_fold_numbers`) will not do.

    Raises
    ------
    UserError
        for a subject that the data set does not have, and responses that cannot be scored.
    """
    for subject in subjects:
        if subject not in data.subjects:
            raise unknown_name(f"subject of {data.name}", subject, data.subjects)
    groups: dict[tuple[str, ...], list[Responses]] = {}
    for subject in (known for known in data.subjects if known in set(subjects)):
        responses = data.responses(subject)
        check_names(responses, data.stories)  # the runs are checked when they are read, which is once
        heard = tuple(name for name in data.stories if name in responses.runs and (stories is None or name in stories))
        groups.setdefault(heard, []).append(responses)
    rule = inner_folds or (lambda segments: inner_fold_numbers(segments, protocol.encoding.n_inner_folds))
    return [_cohort(data, heard, members, protocol, n_train_segments, rule) for heard, members in groups.items()]


def _cohort(
    data: Presented,
    heard: tuple[str, ...],
    members: list[Responses],
    protocol: Protocol,
    n_train_segments: int | None,
    inner_folds: FoldRule,
) -> Cohort:
    subjects = tuple(member.subject for member in members)
    noise = noise_brain({name: data.stories[name] for name in heard}, protocol.seed, protocol.score.noise_brain_voxels)
    members = [*members, noise]
    columns, start = {}, 0
    for member in members:
        columns[member.subject] = slice(start, start + member.n_voxels)
        start += member.n_voxels
    splits = []
    for train, test in data.split.folds:
        kept = tuple(segment for segment in train if segment.story in heard)[:n_train_segments]
        missing = [segment.story for segment in test if segment.story not in heard]
        if missing or len(kept) < 2:
            raise DataError(
                f"{data.name}: subject {subjects[0]} lacks the test stories {missing} "
                f"or has fewer than two training segments ({len(kept)})",
                "leave this subject out with --subjects, or raise --limit",
            )
        splits.append((kept, test))
    folds = _prepare(members, data.stories, splits, protocol, inner_folds)
    places = {member.subject: member.vertices for member in members if member.vertices is not None}
    return Cohort(subjects, columns, {member.subject: member.rois for member in members}, folds, places)


def _prepare(
    members: Sequence[Responses],
    stories: Mapping[str, Timed],
    splits: Sequence[tuple[tuple[Segment, ...], tuple[Segment, ...]]],
    protocol: Protocol,
    inner_folds: FoldRule,
) -> tuple[PreparedFold, ...]:
    """All folds in one pass: each run is read once, one at a time, and each of its segments is prepared once."""
    policy = protocol.design
    places = [_rows(train, policy) for train, _ in splits]
    n_voxels = sum(member.n_voxels for member in members)
    training = [working_array((sum(map(_n_rows, rows.values())), n_voxels), default_store_folder()) for rows in places]
    tests: list[dict[str, dict[Segment, FloatArray]]] = [{member.subject: {} for member in members} for _ in splits]
    segments = dict.fromkeys(segment for train, test in splits for segment in (*train, *test))
    first = 0
    for member in members:
        voxels = slice(first, first + member.n_voxels)
        first = voxels.stop
        for story in dict.fromkeys(segment.story for segment in segments):
            run = member.runs[story]
            check_run(member, story, run, stories[story].n_trs, minimum_trs(policy))
            for segment in (own for own in segments if own.story == story):
                prepared = prepare_segment(run, segment, policy, stories[story].tr)
                for fold, (_, test) in enumerate(splits):
                    if segment in places[fold]:
                        training[fold][places[fold][segment], voxels] = prepared.mean(axis=0)
                    if segment in test:
                        tests[fold][member.subject][segment] = prepared
    return tuple(
        PreparedFold(
            train,
            test,
            np.repeat(inner_folds(train), [_n_rows(rows[segment]) for segment in train]),
            matrix,
            {subject: tuple(own[segment] for segment in test) for subject, own in held_out.items()},
        )
        for (train, test), rows, matrix, held_out in zip(splits, places, training, tests, strict=True)
    )


def _rows(train: Sequence[Segment], policy: DesignPolicy) -> dict[Segment, slice]:
    """The rows of each training segment in the matrix of its fold."""
    lengths = [_n_rows(rows_of(segment, policy)) for segment in train]
    stops = np.cumsum(lengths).tolist()
    return {segment: slice(stop - n, stop) for segment, stop, n in zip(train, stops, lengths, strict=True)}


def _n_rows(rows: slice) -> int:
    return int(rows.stop - rows.start)


def noise_brain(stories: Mapping[str, Timed], seed: int, n_voxels: int) -> Responses:
    """A brain that nothing drives: AR(1) noise of .5 and slow drift, heard by nobody (canary E2).

    Each story's noise depends on the seed and the story's name alone.
    """
    runs = {}
    for name, story in stories.items():
        number = int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "little")
        rng = np.random.default_rng([seed, number])
        burn_in = 50
        noise = lfilter([1.0], [1.0, -0.5], rng.standard_normal((story.n_trs + burn_in, n_voxels)), axis=0)[burn_in:]
        slow = np.cos(np.pi * np.outer(np.arange(story.n_trs) + 0.5, np.arange(1, 4)) / story.n_trs)
        runs[name] = (noise + slow @ rng.standard_normal((3, n_voxels)))[None].astype(np.float32)
    return Responses(NOISE_BRAIN, runs, np.full(n_voxels, NOISE_BRAIN))
