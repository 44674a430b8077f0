# SPDX-License-Identifier: Apache-2.0
"""The tables of one track side by side: one row per model, one column per table, and a rank over the tasks.

The overall score is the unweighted mean over tasks in absolute units (statistics.md 2.3); data sets of one task share its
weight. A model without one of the tasks has no overall score: nothing is imputed.
"""

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from voxelboard.benchmark.record_stamps import ModelStamp
from voxelboard.benchmark.statistics.intervals import Interval
from voxelboard.benchmark.statistics.overall import OverallRanking, overall_score, rank_overall
from voxelboard.benchmark.statistics.scores import FloatArray
from voxelboard.leaderboard.board import Board, Entry, Missing, Rank, Row, Score, Table

# A profile of what a model is sensitive to, not a virtue: shown, never in the mean (statistics.md 2.3).
PROFILES = ("ablation",)


@dataclass(frozen=True)
class OverviewColumn:
    """One table of an overview; ``weight`` is its share of the overall score, 0 with the reason ``outside``."""

    table: Table
    weight: float
    outside: str


@dataclass(frozen=True)
class OverviewRow:
    """One entry over all columns of an overview; ``rows`` hold None where a table does not know the entry."""

    entry: Entry
    model: ModelStamp
    rows: tuple[Row | None, ...]
    rank: Rank | None
    score: Score
    state: str
    """Why there is no rank, as shown; nothing for ranked rows and rulers."""


@dataclass(frozen=True)
class Overview:
    """All tables of one protocol and track."""

    protocol: str
    track: str
    columns: tuple[OverviewColumn, ...]
    ranked: tuple[OverviewRow, ...]
    unranked: tuple[OverviewRow, ...]
    rulers: tuple[OverviewRow, ...]

    @property
    def rows(self) -> tuple[OverviewRow, ...]:
        """All rows."""
        return self.ranked + self.unranked + self.rulers


def overviews(board: Board) -> tuple[Overview, ...]:
    """One overview per protocol and track, in the order of the tables."""
    groups: dict[tuple[str, str], list[Table]] = defaultdict(list)
    for table in board.tables:
        groups[table.column.protocol, table.column.track].append(table)
    return tuple(_overview(protocol, track, tables) for (protocol, track), tables in groups.items())


def influence_of(row: Row) -> FloatArray:
    """(n_subjects, n_blocks) influence values of a row's headline."""
    return np.stack([subject.influence.mean(axis=1) for subject in row.subjects])


def is_whole(row: Row | None) -> bool:
    """Whether a row has a score on all subjects that nothing was left out of."""
    return row is not None and row.state.name in ("ranked", "ruler") and bool(row.subjects)


def _overview(protocol: str, track: str, tables: Sequence[Table]) -> Overview:
    columns = _weighted(tables)
    found: dict[Entry, list[Row | None]] = {}
    for index, table in enumerate(tables):
        for row in table.rows:
            found.setdefault(row.entry, [None] * len(tables))[index] = row
    counted = [index for index, column in enumerate(columns) if column.weight > 0]
    whole = {entry: rows for entry, rows in found.items() if counted and all(is_whole(rows[i]) for i in counted)}
    entrants = sorted(entry for entry, rows in whole.items() if _model(rows).row == "submission")
    ranking = _rank(entrants, whole, columns, counted)
    rows = {entry: _row(entry, found[entry], columns, counted, entry in whole) for entry in found}
    order = sorted(range(len(entrants)), key=lambda i: (-_estimate(rows[entrants[i]]), entrants[i]))
    ranked = []
    for i in order:
        if ranking is None:
            break
        ties = tuple(entrants[j] for j in order if j != i and ranking.low[j] == ranking.low[i])
        own = rows[entrants[i]]
        ranked.append(replace(own, rank=Rank(ranking.low[i], ranking.high[i], ties), state=""))
    listed = {one.entry for one in ranked}
    rest = [rows[entry] for entry in sorted(found) if entry not in listed]
    unranked = sorted((r for r in rest if r.model.row == "submission"), key=lambda r: (-_n_scores(r), r.entry))
    rulers = sorted((r for r in rest if r.model.row == "baseline"), key=lambda r: (-_estimate(r), r.entry))
    return Overview(protocol, track, columns, tuple(ranked), tuple(unranked), tuple(rulers))


def _weighted(tables: Sequence[Table]) -> tuple[OverviewColumn, ...]:
    """Equal weight for each task; scores in another unit than most have no place in a mean."""
    scored = [t for t in tables if t.ranked and t.column.task not in PROFILES]
    units = Counter(table.unit for table in scored)
    unit = "H" if units["H"] else (min(units) if len(units) == 1 else "")
    counted = [table for table in scored if table.unit == unit]
    per_task = Counter(table.column.task for table in counted)
    columns = []
    for table in tables:
        task = table.column.task
        if table in counted:
            columns.append(OverviewColumn(table, 1 / len(per_task) / per_task[task], ""))
        elif task in PROFILES:
            columns.append(OverviewColumn(table, 0.0, "a profile, not in the mean"))
        elif not table.ranked:
            columns.append(OverviewColumn(table, 0.0, "nothing is ranked here"))
        else:
            columns.append(OverviewColumn(table, 0.0, f"in {table.unit or 'another unit'}, not in the mean"))
    return tuple(columns)


def _rank(
    entrants: Sequence[Entry],
    whole: dict[Entry, list[Row | None]],
    columns: Sequence[OverviewColumn],
    counted: Sequence[int],
) -> OverallRanking | None:
    if not entrants:
        return None
    tables = []
    for index in counted:
        rows = [whole[entry][index] for entry in entrants]
        tables.append(np.stack([influence_of(row) for row in rows if row is not None]))
    return rank_overall(tables, [columns[index].weight for index in counted])


def _row(
    entry: Entry,
    rows: Sequence[Row | None],
    columns: Sequence[OverviewColumn],
    counted: Sequence[int],
    whole: bool,
) -> OverviewRow:
    score: Score = Missing(_why_unranked(rows, counted))
    if whole:
        held = [rows[index] for index in counted]
        shares = [columns[index].weight for index in counted]
        score = overall_score([influence_of(row) for row in held if row is not None], shares)
    state = score.reason if isinstance(score, Missing) else ""
    return OverviewRow(entry, _model(rows), tuple(rows), None, score, state)


def _why_unranked(rows: Sequence[Row | None], counted: Sequence[int]) -> str:
    if not counted:
        return "no task counts here"
    have = sum(1 for index in counted if is_whole(rows[index]))
    withdrawn = next((row for row in rows if row is not None and row.state.name == "invalidated"), None)
    if withdrawn is not None:
        return f"invalidated: {withdrawn.state.detail}"
    return f"partial {have}/{len(counted)} {'column' if len(counted) == 1 else 'columns'}, unranked"


def _model(rows: Sequence[Row | None]) -> ModelStamp:
    return next(row.model for row in rows if row is not None)


def _estimate(row: OverviewRow) -> float:
    return row.score.estimate if isinstance(row.score, Interval) else -np.inf


def _n_scores(row: OverviewRow) -> int:
    return sum(1 for one in row.rows if one is not None and isinstance(one.headline, Interval))
