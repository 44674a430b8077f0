# SPDX-License-Identifier: Apache-2.0
"""One row of a table: its state, scores, badges and everything that its page shows."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from voxelboard.benchmark.record_stamps import ModelStamp
from voxelboard.benchmark.record_text import stored_digest
from voxelboard.benchmark.records import Estimate, Record
from voxelboard.benchmark.statistics.intervals import (
    single_subject_interval,
    two_way_interval,
    two_way_intervals,
)
from voxelboard.benchmark.statistics.permutation import exceedance_p
from voxelboard.benchmark.statistics.ranking import Badge, baseline_badges
from voxelboard.benchmark.statistics.scores import FloatArray
from voxelboard.leaderboard.board import (
    Column,
    Entry,
    Missing,
    Rank,
    RoiScore,
    Row,
    RulerKind,
    Score,
    State,
    SubjectScore,
)
from voxelboard.leaderboard.cells import Cell
from voxelboard.leaderboard.condition_scores import pair_conditions
from voxelboard.leaderboard.pooling import (
    overview_profile,
    pool_ceilings,
    pool_facets,
    pool_histogram,
    pool_many,
    pool_profiles,
)
from voxelboard.leaderboard.voxels import add_densities, mean_maps

TWIN = "own untrained twin"
_RULERS: dict[str, RulerKind] = {
    "oracle": "ceiling",
    "cross-subject": "ceiling",
    "static": "static",
    "confounds": "floor",
    "word-rate-length-position": "floor",
}
# Metric of a row -> rows of the statistics: what a headline depends on, never what ranks (docs/protocol.md).
COLUMNS = {
    "fve": "fve",  # explained fraction that the model adds to the confounds
    "static": "static_unique",  # H_u with static word vectors taken out as well
    "capacity": "capacity_unique",  # H_u of as many principal components as every other model
    "shifted": "shifted_unique",  # H_u of the same features at the wrong time
    "train25": "train25_unique",
    "train50": "train50_unique",
    "train100": "train100_unique",
}
OTHER_CEILINGS = {"ceiling_leave_one_out": "leave-one-out", "ceiling_extrapolated": "extrapolated"}  # score: what it is
_VERIFICATION = ("self-reported", "schema-verified", "spot-checked", "re-run")


@dataclass(frozen=True, eq=False)
class Candidate:
    """An entry with all its records of a column, and the cells among them that have a score."""

    entry: Entry
    model: ModelStamp
    records: Mapping[str, tuple[Path, Record]]
    cells: Mapping[str, Cell]

    @property
    def key(self) -> str:
        """Unique text of the entry; breaks ties between equal estimates."""
        return f"{self.entry.submission} {self.entry.revision} {self.entry.weights} {self.entry.seed}"

    def is_complete(self, subjects: Sequence[str]) -> bool:
        """Whether all subjects have a whole score and nothing was withdrawn."""
        whole = all(subject in self.cells and not self.cells[subject].record.partial for subject in subjects)
        return bool(subjects) and whole and not self.invalidated

    @property
    def invalidated(self) -> str:
        """Why the records were withdrawn, or nothing."""
        return "; ".join(dict.fromkeys(r.invalidated for _, r in self.records.values() if r.invalidated))


def ruler_kind(submission: str) -> RulerKind:
    """What a baseline marks on the axis."""
    return _RULERS.get(submission.rpartition("/")[2], "other")


def failure_reason(record: Record) -> str:
    """Why a cell has no score."""
    if record.invalidated:
        return f"invalidated: {record.invalidated}"
    if record.error is not None:
        return f"{record.error.kind}: {record.error.message}"
    if record.status == "success":
        headline = record.scores.get("unique")
        return (headline.reason if headline else None) or "the record holds no headline score"
    return {"started": "not finished", "cancelled": "cancelled"}.get(record.status, record.status)


def headline_table(candidate: Candidate, subjects: Sequence[str], row: str = "unique") -> FloatArray:
    """(n_subjects, n_blocks) influence values."""
    return np.stack([candidate.cells[subject].macro(row) for subject in subjects])


def twin_table(candidate: Candidate, subjects: Sequence[str]) -> FloatArray | None:
    """(n_subjects, n_blocks) influence values of the mean over the untrained twins, or None."""
    twins = [candidate.cells[subject].twin for subject in subjects]
    held = [twin for twin in twins if twin is not None]
    return np.stack(held) if held and len(held) == len(twins) else None


def build_row(
    column: Column, candidate: Candidate, subjects: Sequence[str], rank: Rank | None, baselines: Sequence[Candidate]
) -> Row:
    """Everything about one entry in one column; ``baselines`` are complete."""
    state = _state(candidate, subjects, rank)
    # A row that is not whole shows what it has: the whole cells, else those scored with --limit.
    have = [s for s in subjects if s in candidate.cells and not candidate.cells[s].record.partial]
    have = have or [s for s in candidate.cells if _same_blocks(candidate)]
    cells = [candidate.cells[subject] for subject in have]
    if state.name == "invalidated":
        have, cells = [], []
    correlations = ("raw_r", "floor_r", "joint_r")
    estimates: dict[str, list[Estimate | None]] = {
        name: [cell.record.scores.get(name) for cell in cells] for name in (*correlations, "ceiling", *OTHER_CEILINGS)
    }
    others = (pool_ceilings(estimates[name], kind) for name, kind in OTHER_CEILINGS.items())
    profiles = pool_profiles([cell.record.layers for cell in cells], [roi for cell in cells for roi in cell.rois])
    return Row(
        entry=candidate.entry,
        model=candidate.model,
        state=state,
        rank=rank,
        headline=_score(candidate, have, "unique", _why_nothing(state)),
        metrics={
            "twin": _twin_score(candidate, have),
            **_metrics(candidate, have),
            **dict(zip(correlations, pool_many([estimates[name] for name in correlations]), strict=True)),
        },
        ceiling=pool_ceilings(estimates["ceiling"], column.ceiling_kind),
        other_ceilings=tuple(ceiling for ceiling in others if not isinstance(ceiling, Missing)),
        badges=_badges(candidate, subjects, baselines) if rank is not None else (),
        subjects=tuple(_subject(cell) for cell in cells),
        rois=_roi_scores(cells),
        profiles=profiles,
        overview=overview_profile(profiles),
        facets=pair_conditions(pool_facets([cell.record.facets for cell in cells]), cells),
        histogram=pool_histogram(cells),
        against_ceiling=add_densities([cell.against_ceiling for cell in cells]),
        against_baseline=add_densities([cell.against_baseline for cell in cells]),
        maps=mean_maps([cell.maps for cell in cells]),
        exposure=exposure(candidate.model.metadata, column.task),
        verification=_verification([cell.record for cell in cells]),
        failures=_failures(candidate, subjects),
        cells=tuple(candidate.records[subject] for subject in sorted(candidate.records)),
        digests=tuple(stored_digest(candidate.records[subject][0]) for subject in sorted(candidate.records)),
        p=_joint_p(cells),
    )


def _joint_p(cells: Sequence[Cell]) -> float | None:
    """One-sided p of the headline against permuted blocks, the same permutation for all subjects (statistics.md A3)."""
    nulls = [cell.null for cell in cells]
    held = [null for null in nulls if null is not None]
    if not held or len(held) < len(nulls) or len({len(null) for null in held}) != 1:
        return None
    observed = float(np.mean([cell.macro("unique").mean() for cell in cells]))
    return exceedance_p(observed, np.mean(held, axis=0))


def not_run_row(row: Row) -> Row:
    """The row of an entry in a column where none of its cells were run."""
    nothing = Missing("not run")
    return Row(
        entry=row.entry,
        model=row.model,
        state=State("not run"),
        rank=None,
        headline=nothing,
        metrics=dict.fromkeys(row.metrics, nothing),
        ceiling=nothing,
        badges=(),
        subjects=(),
        rois=(),
        profiles=(),
        overview=None,
        facets=(),
        histogram=None,
        against_ceiling=None,
        against_baseline=None,
        maps={},
        exposure=row.exposure,
        verification="",
        failures=(),
        cells=(),
    )


def exposure(metadata: Mapping[str, Any], task: str) -> str:
    """Whether the model may have been trained on the stimulus, as its submitter says: none, likely, yes or unknown."""
    stated = metadata.get("stimulus_exposure", "unknown")
    if isinstance(stated, Mapping):
        stated = stated.get(task, "unknown")
    return str(stated) if stated in ("none", "likely", "yes") else "unknown"


def _state(candidate: Candidate, subjects: Sequence[str], rank: Rank | None) -> State:
    if candidate.invalidated:
        return State("invalidated", candidate.invalidated)
    if candidate.is_complete(subjects):
        if candidate.model.row == "baseline":
            return State("ruler")
        return State("ranked") if rank is not None else State("unranked", "this protocol is not ranked")
    n_whole = sum(1 for cell in candidate.cells.values() if not cell.record.partial)
    if n_whole:
        return State("partial", f"partial {n_whole}/{len(subjects)} subjects, unranked")
    if candidate.cells:
        return State("partial", "partial, scored with --limit, unranked")
    reasons = dict.fromkeys(failure_reason(record) for _, record in candidate.records.values())
    return State("failed", "; ".join(reasons))


def _why_nothing(state: State) -> str:
    return state.detail if state.name in ("failed", "invalidated") else "no subject has a score"


def _same_blocks(candidate: Candidate) -> bool:
    segments = [cell.block_segment for cell in candidate.cells.values()]
    return all(np.array_equal(segment, segments[0]) for segment in segments)


def _score(candidate: Candidate, subjects: Sequence[str], row: str, reason: str = "not in the records") -> Score:
    if not subjects or any(row not in candidate.cells[subject].influence for subject in subjects):
        return Missing(reason)
    return two_way_interval(headline_table(candidate, subjects, row))


def _metrics(candidate: Candidate, subjects: Sequence[str]) -> dict[str, Score]:
    """The scores beside the headline that have influence values, at once."""
    rows = {"normalised": "raw", "floor": "floor", **COLUMNS}
    cells = [candidate.cells[subject] for subject in subjects]
    held = [name for name, row in rows.items() if cells and all(row in cell.influence for cell in cells)]
    found: dict[str, Score] = dict.fromkeys(rows, Missing("not in the records"))
    if held:
        # (n_metrics, n_subjects, n_blocks)
        tables = np.stack([headline_table(candidate, subjects, rows[name]) for name in held])
        found.update(zip(held, two_way_intervals(tables), strict=True))
    # A row that is made of the confounds has a joint prediction that is theirs in every block, because nothing calibrated
    # is left of it beyond them. A 0 with an empty interval would look like a measurement.
    if "fve" in held and not any(cell.influence["fve"].any() for cell in cells):
        found["fve"] = Missing("part of the confounds: nothing is left of it to add to them")
    return found


def _twin_score(candidate: Candidate, subjects: Sequence[str]) -> Score:
    if candidate.model.weights != "pretrained":
        return Missing("has no trained weights, so no untrained twin")
    table = twin_table(candidate, subjects) if subjects else None
    return Missing("no untrained twin in the records") if table is None else two_way_interval(table)


def _badges(candidate: Candidate, subjects: Sequence[str], baselines: Sequence[Candidate]) -> tuple[Badge, ...]:
    """Paired tests against the own twin first, then every baseline below the ceiling."""
    against: dict[str, FloatArray] = {}
    twin = twin_table(candidate, subjects)
    if twin is not None:
        against[TWIN] = twin
    for baseline in baselines:
        if ruler_kind(baseline.entry.submission) != "ceiling":
            against.setdefault(baseline.entry.submission, headline_table(baseline, subjects))
    return baseline_badges(headline_table(candidate, subjects), against)


def _subject(cell: Cell) -> SubjectScore:
    # not the record's own headline: that follows the subject's own gate, the board the column's
    headline = single_subject_interval(cell.macro("unique"), confidence=cell.policy.confidence)
    return SubjectScore(
        cell.record.subject, headline, cell.path, cell.record, cell.sums, cell.rois, cell.influence["unique"]
    )


def _roi_scores(cells: Sequence[Cell]) -> tuple[RoiScore, ...]:
    """Each ROI over the subjects that it enters for; ROIs of the same subjects at once."""
    rois = list(dict.fromkeys(roi for cell in cells for roi in cell.rois))
    having = {roi: tuple(i for i, cell in enumerate(cells) if roi in cell.rois) for roi in rois}
    scores: dict[tuple[str, str], Score] = {}
    for members in dict.fromkeys(having.values()):
        names = [roi for roi in rois if having[roi] == members]
        for row in ("unique", "raw", "floor"):
            found = _scores_of(names, row, [cells[i] for i in members])
            scores.update({(roi, row): score for roi, score in zip(names, found, strict=True)})
    listed = []
    for roi in rois:
        of_roi = [cells[i] for i in having[roi]]
        n_pooled = sum(1 for cell in of_roi for sums in cell.sums if sums.roi == roi and sums.pooled)
        listed.append(RoiScore(roi, len(of_roi), n_pooled, *(scores[roi, row] for row in ("unique", "raw", "floor"))))
    return tuple(listed)


def _scores_of(rois: Sequence[str], row: str, cells: Sequence[Cell]) -> Sequence[Score]:
    """A score per ROI, over cells that all have them."""
    if any(row not in cell.influence for cell in cells):
        return [Missing("not in the records")] * len(rois)
    # (n_subjects, n_blocks, n_rois)
    values = np.stack([cell.influence[row][:, [cell.rois.index(roi) for roi in rois]] for cell in cells])
    return two_way_intervals(np.ascontiguousarray(np.moveaxis(values, -1, 0)))


def _verification(records: Sequence[Record]) -> str:
    """The weakest tier among the cells: a row is as verified as its least verified cell."""
    return min((record.verification for record in records), key=_VERIFICATION.index, default="")


def _failures(candidate: Candidate, subjects: Sequence[str]) -> tuple[tuple[str, str], ...]:
    found = []
    for subject in sorted({*subjects, *candidate.records}):
        if subject not in candidate.records:
            found.append((subject, "not run"))
        elif subject not in candidate.cells:
            found.append((subject, failure_reason(candidate.records[subject][1])))
        elif candidate.cells[subject].record.partial:
            found.append((subject, "scored with --limit"))
    return tuple(found)
