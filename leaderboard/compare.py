# SPDX-License-Identifier: Apache-2.0
"""Paired differences between two submissions, per column and ROI."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy import stats as distributions

from voxelboard.benchmark.errors import UserError, unknown_name
from voxelboard.benchmark.records import load_records
from voxelboard.benchmark.statistics.intervals import (
    Interval,
    default_scope,
    describe_scope,
    sign_agreement,
    two_way_interval,
)
from voxelboard.benchmark.statistics.ranking import holm
from voxelboard.benchmark.statistics.scores import FloatArray
from voxelboard.leaderboard.aggregate import candidates_by_column, natural_key
from voxelboard.leaderboard.board import Column
from voxelboard.leaderboard.gating import Located
from voxelboard.leaderboard.rows import Candidate, headline_table


@dataclass(frozen=True)
class Difference:
    """``a`` minus ``b``, paired by subject and block.

    Attributes
    ----------
    roi : None for the headline (mean over ROIs).
    interval : 95 %, of this difference alone.
    p, p_holm : two-sided; Holm over the columns for headlines, over the ROIs of its column for a ROI.
    """

    roi: str | None
    interval: Interval
    p: float
    p_holm: float

    @property
    def probability_better(self) -> float:
        """P(a is better than b), from the t distribution of the difference; .5 for equal ones."""
        return 1 - self.p / 2 if self.interval.estimate > 0 else self.p / 2


@dataclass(frozen=True)
class ColumnComparison:
    """Two entries in one column, on the subjects that both have."""

    column: Column
    subjects: tuple[str, ...]
    scope: str
    agreeing_subjects: int
    overall: Difference
    rois: tuple[Difference, ...]


@dataclass(frozen=True)
class Comparison:
    """Two entries in every column that holds both."""

    a: str
    b: str
    columns: tuple[ColumnComparison, ...]


def compare(results: Path | str, a: str, b: str) -> Comparison:
    """Compare two submissions by what was measured on the same subjects and blocks.

    Parameters
    ----------
    results : folder of records.
    a, b : ``org/name``, or ``org/name@revision`` (its first characters suffice) where there are several revisions.

    Raises
    ------
    UserError
        for a name that no record has or that fits several revisions, and when no column holds both.
    """
    found = pairs_by_column(load_records(results), a, b)
    overall = [_difference(None, headline_table(x, s) - headline_table(y, s)) for _, x, y, s in found]
    overall = _adjust(overall)
    return Comparison(
        a,
        b,
        tuple(_column(*entry, difference) for entry, difference in zip(found, overall, strict=True)),
    )


def pairs_by_column(
    records: Sequence[Located], a: str, b: str
) -> list[tuple[Column, Candidate, Candidate, tuple[str, ...]]]:
    """Every column that holds both, with the subjects that both have; raises UserError as :func:`compare`."""
    found = []
    columns = candidates_by_column(records)
    for name in (a, b):
        _check_known(name, [c for candidates in columns.values() for c in candidates])
    for column, candidates in sorted(columns.items()):
        first, second = (_pick(name, candidates) for name in (a, b))
        if first is not None and second is not None:
            shared = _shared_subjects(first, second)
            if shared:
                found.append((column, first, second, shared))
    if not found:
        raise UserError(f"no column holds scores of both {a} and {b}", "run both on the same task and data set")
    return found


def _column(
    column: Column, first: Candidate, second: Candidate, subjects: tuple[str, ...], overall: Difference
) -> ColumnComparison:
    rois = dict.fromkeys(roi for subject in subjects for roi in first.cells[subject].rois)
    differences = []
    for roi in rois:
        having = [subject for subject in subjects if roi in first.cells[subject].rois]
        x, y = (np.stack([_roi(c, subject, roi) for subject in having]) for c in (first, second))
        differences.append(_difference(roi, x - y))
    table = headline_table(first, subjects) - headline_table(second, subjects)
    return ColumnComparison(
        column=column,
        subjects=subjects,
        scope=describe_scope(default_scope(len(subjects)), len(subjects)),
        agreeing_subjects=sign_agreement(table),
        overall=overall,
        rois=tuple(_adjust(differences)),
    )


def _roi(candidate: Candidate, subject: str, roi: str) -> FloatArray:
    cell = candidate.cells[subject]
    values: FloatArray = cell.influence["unique"][:, cell.rois.index(roi)]
    return values


def _difference(roi: str | None, table: FloatArray) -> Difference:
    interval = two_way_interval(table)
    if interval.se > 0:
        p = float(2 * distributions.t.sf(abs(interval.estimate) / interval.se, interval.df))
    else:
        p = 1.0 if abs(interval.estimate) <= 1e-12 else 0.0
    return Difference(roi, interval, p, p)


def _adjust(differences: Sequence[Difference]) -> list[Difference]:
    adjusted = holm(np.array([difference.p for difference in differences]))
    return [Difference(d.roi, d.interval, d.p, float(p)) for d, p in zip(differences, adjusted, strict=True)]


def _shared_subjects(first: Candidate, second: Candidate) -> tuple[str, ...]:
    def whole(candidate: Candidate) -> set[str]:
        return {subject for subject, cell in candidate.cells.items() if not cell.record.partial}

    return tuple(sorted(whole(first) & whole(second), key=natural_key))


def _matches(name: str, candidate: Candidate) -> bool:
    submission, _, revision = name.partition("@")
    return candidate.entry.submission == submission and candidate.entry.revision.startswith(revision)


def _check_known(name: str, candidates: Sequence[Candidate]) -> None:
    entries = {candidate.entry for candidate in candidates if _matches(name, candidate)}
    if not entries:
        names = {candidate.entry.submission for candidate in candidates}
        raise unknown_name("submission", name, names, "voxelboard list shows what there is")
    if len(entries) > 1:
        allowed = ", ".join(f"{e.submission}@{e.revision[:12]}" for e in sorted(entries))
        raise UserError(f"{name} has several revisions: {allowed}", "name one of them")


def _pick(name: str, candidates: Sequence[Candidate]) -> Candidate | None:
    return next((candidate for candidate in candidates if _matches(name, candidate)), None)
