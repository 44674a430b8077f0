# SPDX-License-Identifier: Apache-2.0
"""The arithmetic behind a stored score, recomputed from the sufficient statistics beside its records.

Nothing is taken from the record's own scores: they are compared with what their statistics give by the subject's own
gate. The scores that are explained follow the gate of the column, as on the board.
"""

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from voxelboard.benchmark.errors import UserError, unknown_name
from voxelboard.benchmark.records import load_records
from voxelboard.benchmark.statistics.intervals import Interval, single_subject_interval, two_way_interval
from voxelboard.leaderboard.aggregate import sort_into_columns
from voxelboard.leaderboard.board import Column, Entry, RoiSums
from voxelboard.leaderboard.cells import Cell, StoredCell, read_cell
from voxelboard.leaderboard.gating import (
    Located,
    check_comparable,
    column_gate,
    is_scored,
    reference_records,
)


@dataclass(frozen=True)
class SubjectExplanation:
    """One subject: its regions, the mean of those that enter, and the interval over test blocks.

    ``stored`` is the headline of the record, by the subject's own gate; it differs from ``mean`` where regions enter
    with pooled signal power, and is None where none enters by itself. ``mean`` and ``interval`` are None where no
    region enters.
    """

    subject: str
    record: str
    rois: tuple[RoiSums, ...]
    mean: float | None
    interval: Interval | None
    stored: float | None
    n_blocks: int


@dataclass(frozen=True)
class Explanation:
    """One model at one revision on one data set."""

    model: str
    revision: str
    task: str
    dataset: str
    protocol: str
    protocol_hash: str
    unit: str
    block_trs: int
    gate: float
    n_gate_subjects: int
    """Subjects of the column that the gate was computed from."""
    n_entries: int
    n_scored: int
    n_pooled: int
    """Entries of this model (subject and region): all, those that enter, those among them with pooled signal power."""
    subjects: tuple[SubjectExplanation, ...]
    mean: float
    interval: Interval

    def as_json(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)


def explain_scores(results: Path, model: str, task: str, dataset: str | None = None) -> list[Explanation]:
    """Explain the headline of a model, one explanation per data set and revision.

    Raises
    ------
    UserError
        when there is no such record with scores.
    DataError
        when statistics are damaged, or a stored score is not what they give.
    """
    records = load_records(results)
    full = _full_name(model, {record.model.submission for _, record in records})
    asked = [
        (path, record)
        for path, record in records
        if record.task == task and record.dataset is not None and dataset in (None, record.dataset.name)
    ]
    columns, _ = sort_into_columns(asked)
    found = []
    for column, entries in sorted(columns.items()):
        references = reference_records([item for located in entries.values() for item in located])
        for entry, located in sorted(entries.items()):
            for partial in (False, True):
                mine = [item for item in located if is_scored(item[1]) and item[1].partial == partial]
                if entry.submission == full and mine:
                    found.append(_explain(column, entry, mine, references))
    explanations = [explanation for explanation in found if explanation is not None]
    if not explanations:
        where = f" on {dataset}" if dataset else ""
        raise UserError(f"{full} has no scores for {task}{where} in {results}", "`voxelboard status` says why")
    return explanations


def _full_name(model: str, names: set[str]) -> str:
    short = [name for name in names if name.rpartition("/")[2] == model]
    if model in names:
        return model
    if len(short) == 1:
        return short[0]
    raise unknown_name("model with records", model, names)


def _explain(
    column: Column, entry: Entry, located: Sequence[Located], references: Sequence[Located]
) -> Explanation | None:
    """None when no region of any subject enters."""
    cells = [read_cell(path, record) for path, record in located]
    reference = [read_cell(path, record) for path, record in references]
    check_comparable(column, [cell for cell in (*reference, *cells) if not cell.record.partial])
    gate = column_gate(reference)
    scored = [(cell, gate.score(cell)) for cell in cells]
    subjects = tuple(_explain_subject(stored, cell) for stored, cell in scored)
    tables = [cell.macro("unique") for _, cell in scored if cell is not None]
    if not tables:
        return None
    rois, policy = [roi for subject in subjects for roi in subject.rois], cells[0].policy
    return Explanation(
        model=entry.submission,
        revision=entry.revision,
        task=column.task,
        dataset=f"{column.dataset} {column.dataset_version}",
        protocol=column.protocol,
        protocol_hash=column.protocol_hash,
        unit=cells[0].record.scores["unique"].unit,
        block_trs=policy.inference_block_trs,
        gate=policy.gate_standard_errors,
        n_gate_subjects=len(gate.cells),
        n_entries=len(rois),
        n_scored=sum(roi.score is not None for roi in rois),
        n_pooled=sum(roi.pooled for roi in rois),
        subjects=subjects,
        mean=float(np.mean([subject.mean for subject in subjects if subject.mean is not None])),
        interval=two_way_interval(np.stack(tables), confidence=policy.confidence),
    )


def _explain_subject(stored: StoredCell, cell: Cell | None) -> SubjectExplanation:
    record = stored.record
    headline = record.scores["unique"].estimate
    if cell is None:
        sums = zip(stored.names, *stored.headline.totals(), strict=True)
        rois = tuple(RoiSums(name, float(c), float(q), float(s), None, False) for name, c, q, s in sums)
        return SubjectExplanation(record.subject, str(stored.path), rois, None, None, headline, 0)
    influence = cell.macro("unique")
    return SubjectExplanation(
        subject=record.subject,
        record=str(stored.path),
        rois=cell.sums,
        mean=float(np.mean([roi.score for roi in cell.sums if roi.score is not None])),
        interval=single_subject_interval(influence, confidence=cell.policy.confidence),
        stored=headline,
        n_blocks=len(influence),
    )


def show_explanation(explanation: Explanation) -> Iterator[str]:
    """The arithmetic as lines of text."""
    e = explanation
    yield f"{e.model} @ {e.revision[:12]} · {e.task} · {e.dataset} · protocol {e.protocol} ({e.protocol_hash[:12]})"
    yield "H = c / sqrt(q s), sums over test TRs and voxels: c covariance, q variance of the prediction, s signal power"
    yield (
        f"a region enters where s exceeds {e.gate:g} standard errors of its blocks; where only the s of all "
        f"{e.n_gate_subjects} subjects together does, s is the subject's share of it"
    )
    left = e.n_entries - e.n_scored
    yield f"{e.n_scored} of {e.n_entries} regions of subjects enter, {e.n_pooled} with pooled s; {left} do not"
    for subject in e.subjects:
        yield f"subject {subject.subject}  ({subject.record})"
        yield from (f"  {_roi_line(roi)}" for roi in subject.rois)
        yield from (f"  {line}" for line in _subject_lines(subject, e.block_trs))
    scored = [subject for subject in e.subjects if subject.mean is not None]
    terms = " + ".join(f"{subject.mean:.6f}" for subject in scored)
    yield f"mean of {len(scored)} subjects: ({terms}) / {len(scored)} = {e.mean:.6f} {e.unit}"
    yield _interval(e.interval)


def _subject_lines(subject: SubjectExplanation, block_trs: int) -> Iterator[str]:
    if subject.mean is None or subject.interval is None:
        yield "no region enters, so this subject has no score"
        return
    scores = [roi.score for roi in subject.rois if roi.score is not None]
    terms = " + ".join(f"{score:.6f}" for score in scores)
    yield f"mean of {len(scores)} regions: ({terms}) / {len(scores)} = {subject.mean:.6f}"
    if any(roi.pooled for roi in subject.rois):
        alone = "nothing" if subject.stored is None else f"{subject.stored:.6f}"
        yield f"(the record, by this subject's own s alone: {alone})"
    yield f"{_interval(subject.interval)}, from {subject.n_blocks} blocks of {block_trs} TRs"


def _roi_line(roi: RoiSums) -> str:
    if roi.score is None:
        return f"{roi.roi:<8} does not enter: s = {roi.s:.6g} is not above the gate"
    sums = f"{roi.c:.6g} / sqrt({roi.q:.6g} x {roi.s:.6g})"
    return f"{roi.roi:<8} {sums} = {roi.c:.6g} / {np.sqrt(roi.q * roi.s):.6g} = {roi.score:.6f}{', s pooled' if roi.pooled else ''}"


def _interval(interval: Interval) -> str:
    half = (interval.high - interval.low) / 2
    return (
        f"95 % interval: {interval.estimate:.6f} ± {half:.6f} = [{interval.low:.6f}, {interval.high:.6f}] "
        f"(se {interval.se:.6f}, t with {interval.df:.1f} df; {interval.estimator})"
    )
