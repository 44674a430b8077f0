# SPDX-License-Identifier: Apache-2.0
"""What a drama data set is: runs of films with their texts, responses, and a split that keeps titles apart."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from voxelboard.benchmark.errors import DataError
from voxelboard.benchmark.readers.base import CeilingKind, Dataset, Responses, Segment, Split
from voxelboard.benchmark.stimuli.annotations import Run


class DramaData(Dataset, Protocol):
    """A drama data set, opened. Responses are read per subject, and only when asked for."""

    runs: Mapping[str, Run]
    levels: tuple[str, ...]  # that every run has texts of, in the task's order
    split: Split  # one fold: the last runs of each title are test
    inner_folds: Mapping[str, int]  # run -> inner fold; all runs of a title in one
    scored_rois: tuple[str, ...]
    ceiling_kind: CeilingKind

    def responses(self, subject: str) -> Responses:
        """The responses of one subject; raises UserError for an unknown subject."""
        ...


@dataclass(frozen=True)
class PresentedRuns:
    """A drama as the preparation of responses sees it: its runs are what was presented.

    Training segments come in turn from each title, so that the first few of them (``--limit``) are of several titles.
    """

    data: DramaData

    @property
    def name(self) -> str:
        return self.data.name

    @property
    def stories(self) -> Mapping[str, Run]:
        return self.data.runs

    @property
    def subjects(self) -> tuple[str, ...]:
        return self.data.subjects

    @property
    def split(self) -> Split:
        ((train, test),) = self.data.split.folds
        seen: dict[str, int] = {}
        turns = []
        for segment in train:
            title = self.data.runs[segment.story].title
            turns.append(seen.setdefault(title, 0))
            seen[title] += 1
        order = sorted(range(len(train)), key=lambda i: turns[i])
        return Split(folds=((tuple(train[i] for i in order), test),))

    def responses(self, subject: str) -> Responses:
        """The responses of one subject."""
        return self.data.responses(subject)


def scored_segment(run: Run) -> Segment:
    """The rows of a run that are scored: all but those that repeat the run before."""
    return Segment(run.name, run.skip_trs, run.n_trs)


def last_runs_split(runs: Mapping[str, Run], test: Sequence[str]) -> Split:
    """One fold: the runs of ``test`` are predicted from all others."""
    unknown = [name for name in test if name not in runs]
    if unknown:
        raise DataError(f"test runs that the data set does not have: {', '.join(unknown)}")
    segments = {name: scored_segment(run) for name, run in runs.items()}
    train = tuple(segment for name, segment in segments.items() if name not in set(test))
    return Split(folds=((train, tuple(segments[name] for name in test)),))


def title_folds(runs: Mapping[str, Run], folds: Mapping[str, int]) -> dict[str, int]:
    """Run -> inner fold, from title -> fold.

    Raises
    ------
    DataError
        for a title without a fold.
    """
    missing = sorted({run.title for run in runs.values()} - set(folds))
    if missing:
        raise DataError(f"titles without an inner fold: {', '.join(missing)}", "give each title of the card a fold")
    return {name: folds[run.title] for name, run in runs.items()}


def check_title_folds(
    runs: Mapping[str, Run], train: Sequence[Segment], test: Sequence[Segment], inner: Mapping[str, int]
) -> NDArray[np.intp]:
    """(n_train_segments,) inner fold of each training segment, if no title leaks.

    Raises
    ------
    DataError
        for a run that is in training and test, a test segment that reaches into a training segment of its run, and a
        title whose runs lie in two inner folds: its scenes would be on both sides of the choice of alpha and layer.
    """
    both = sorted({segment.story for segment in train} & {segment.story for segment in test})
    if both:
        raise DataError(
            f"test runs in a training fold: {', '.join(both)}", "the last runs of a title are test, the others training"
        )
    folds_of: dict[str, set[int]] = {}
    for segment in train:
        folds_of.setdefault(runs[segment.story].title, set()).add(inner[segment.story])
    torn = sorted(title for title, folds in folds_of.items() if len(folds) > 1)
    if torn:
        raise DataError(
            f"titles in more than one inner fold: {', '.join(torn)}",
            "a test title in a training fold leaks its people and places: give all its runs one fold",
        )
    numbers = np.unique([inner[segment.story] for segment in train], return_inverse=True)[1].astype(np.intp)
    if numbers.max(initial=0) < 1:
        raise DataError("all training titles are in one inner fold", "two folds are needed to choose alpha and layer")
    return numbers


def check_levels(runs: Mapping[str, Run], levels: Sequence[str]) -> tuple[str, ...]:
    """The levels themselves, if every run has them; raises DataError with the first run that lacks one."""
    for name, run in runs.items():
        missing = [level for level in levels if level not in run.annotations]
        if missing:
            raise DataError(f"run {name!r} has no annotation of level {', '.join(missing)}")
    return tuple(levels)
