# SPDX-License-Identifier: Apache-2.0
"""Records in, boards out: who is compared with whom, on what, and with which uncertainty.

Nothing here runs a model: every number comes from the records and the block statistics beside them, and every interval,
test and rank from :mod:`voxelboard.benchmark.statistics`.
"""

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from voxelboard.benchmark.errors import DataError
from voxelboard.benchmark.records import Record, load_records, slug
from voxelboard.benchmark.statistics.intervals import (
    Interval,
    default_scope,
    describe_scope,
    sign_agreement,
    two_way_interval,
)
from voxelboard.benchmark.statistics.ranking import Ranking, rank_influence
from voxelboard.leaderboard.board import Board, Column, Entry, LostCell, Rank, Row, Ruler, Table
from voxelboard.leaderboard.cells import StoredCell, baseline_voxels, read_cell
from voxelboard.leaderboard.gating import (
    ColumnGate,
    Located,
    check_comparable,
    column_gate,
    is_scored,
    reference_records,
)
from voxelboard.leaderboard.parallel import for_each, n_workers, pack, unpack
from voxelboard.leaderboard.rows import (
    Candidate,
    build_row,
    failure_reason,
    headline_table,
    not_run_row,
    ruler_kind,
    twin_table,
)
from voxelboard.leaderboard.tries import tries_by_entry

# From here on a second process is worth its start: reading a record takes 3 ms.
_MANY_RECORDS = 1000
TASKS = ("narrative", "drama", "captions", "ablation")


def aggregate(results: Path | str) -> tuple[Board, ...]:
    """The boards of a folder of records: real first, then simulated; only kinds that have records.

    Raises
    ------
    UserError
        when there is no such folder.
    DataError
        when a record or its statistics are damaged, a cell is there twice, or records of one column were scored on
        different responses.
    """
    return aggregate_records(load_records(results))


def aggregate_records(records: Sequence[Located]) -> tuple[Board, ...]:
    """As :func:`aggregate`, for records with the paths they were read from."""
    columns, lost = sort_into_columns(records)
    tables = _build_tables(columns, [record for _, record in records])
    boards = []
    for kind in ("real", "simulated"):
        mine = [
            _with_not_run(table, tables.values())
            for column, table in sorted(tables.items(), key=board_order)
            if column.kind == kind
        ]
        if mine:
            boards.append(Board(kind, tuple(mine), tuple(lost)))
    if not boards and lost:
        boards.append(Board("real", (), tuple(lost)))
    return tuple(boards)


def _build_tables(
    columns: Mapping[Column, Mapping[Entry, Sequence[Located]]], records: Sequence[Record]
) -> dict[Column, Table]:
    """All tables; those of a large board on all cores, a column at a time."""
    listed = list(columns.items())
    if len(records) < _MANY_RECORDS or len(listed) < 2:
        return {column: _build_table(column, entries) for column, entries in listed}
    packed = for_each(lambda index: pack(_build_table(*listed[index]), records), len(listed), n_workers())
    return {column: unpack(part, records) for (column, _), part in zip(listed, packed, strict=True)}


def board_order(item: tuple[Column, Table]) -> tuple[int, Column]:
    """Tables in the order of the protocol's tasks."""
    column = item[0]
    place = TASKS.index(column.task) if column.task in TASKS else len(TASKS)
    return (place, column)


def natural_key(text: str) -> tuple[tuple[int, int, str], ...]:
    """Sorts ``sub-2`` before ``sub-10``."""
    parts = re.split(r"(\d+)", text)
    return tuple((1, int(part), "") if part.isdecimal() else (0, 0, part) for part in parts)


def candidates_by_column(records: Sequence[Located]) -> dict[Column, list[Candidate]]:
    """Every entry of every column with its scored cells."""
    columns, _ = sort_into_columns(records)
    return {column: _read_column(column, entries).candidates for column, entries in columns.items()}


def _column(record: Record) -> Column | None:
    if record.dataset is None:
        return None
    return Column(
        task=record.task,
        task_version=record.task_version,
        dataset=record.dataset.name,
        dataset_version=record.dataset.version,
        ceiling_kind=record.dataset.ceiling_kind,
        protocol=record.protocol.name,
        protocol_hash=record.protocol.hash,
        track=record.model.track,
        kind=record.dataset.kind,
    )


def sort_into_columns(
    records: Sequence[Located],
) -> tuple[dict[Column, dict[Entry, list[Located]]], list[LostCell]]:
    """Records by column and entry, and the failed cells that belong to no column."""
    columns: dict[Column, dict[Entry, list[Located]]] = defaultdict(lambda: defaultdict(list))
    homeless = []
    for path, record in records:
        column = _column(record)
        if column is None:
            homeless.append((path, record))
        else:
            columns[column][Entry.of(record.model)].append((path, record))
    lost = []
    for path, record in homeless:
        # a cell that failed before its data set was read: its folder still says which one it was asked for
        homes = [column for column in columns if _fits(column, record, path.parent.name)]
        for column in homes:
            columns[column][Entry.of(record.model)].append((path, record))
        if not homes:
            reason = failure_reason(record)
            lost.append(LostCell(record.model.submission, record.task, path.parent.name, record.subject, reason))
    _share_baselines(columns)
    return columns, lost


def _fits(column: Column, record: Record, folder: str) -> bool:
    asked = (record.task, record.task_version, record.protocol.hash, record.model.track, folder)
    has = (column.task, column.task_version, column.protocol_hash, column.track, slug(column.dataset))
    return asked == has


def _share_baselines(columns: dict[Column, dict[Entry, list[Located]]]) -> None:
    """Baselines run in the fixed track are rulers of the open track's table, too."""
    for column in [column for column in columns if column.track != "fixed"]:
        fixed = next((other for other in columns if _same_but_track(other, column) and other.track == "fixed"), None)
        if fixed is None:
            continue
        for entry, located in columns[fixed].items():
            if located[0][1].model.row == "baseline":
                columns[column].setdefault(entry, located)


def _same_but_track(one: Column, other: Column) -> bool:
    names = ("task", "task_version", "dataset", "dataset_version", "ceiling_kind", "protocol_hash", "kind")
    return all(getattr(one, name) == getattr(other, name) for name in names)


@dataclass(frozen=True, eq=False)
class _ReadColumn:
    """All entries of a column, judged by one gate; ``whole`` are the cells that a table may rest on."""

    candidates: list[Candidate]
    gate: ColumnGate
    whole: list[StoredCell]
    baseline: str


def _read_column(column: Column, entries: Mapping[Entry, Sequence[Located]]) -> _ReadColumn:
    by_entry = {entry: _by_subject(located) for entry, located in sorted(entries.items(), key=lambda item: item[0])}
    wanted = [item for records in by_entry.values() for item in records.values() if is_scored(item[1])]
    baseline = _best_baseline([record for _, record in wanted])
    voxels = {r.subject: baseline_voxels(p, r) for p, r in wanted if r.model.submission == baseline and not r.partial}
    read = {path: read_cell(path, record, voxels.get(record.subject)) for path, record in wanted}
    whole = [cell for cell in read.values() if not cell.record.partial]
    check_comparable(column, whole)
    gate = column_gate([read[path] for path, _ in reference_records(wanted)])
    candidates = []
    for entry, records in by_entry.items():
        judged = {subject: gate.score(read[path]) for subject, (path, _) in records.items() if path in read}
        cells = {subject: cell for subject, cell in judged.items() if cell is not None}
        candidates.append(Candidate(entry, next(iter(records.values()))[1].model, records, cells))
    return _ReadColumn(candidates, gate, whole, baseline)


def _best_baseline(records: Sequence[Record]) -> str:
    """The submission of the baseline with the highest mean headline, rows that mark a ceiling apart; nothing without one."""
    scores: dict[str, list[float]] = defaultdict(list)
    for record in records:
        estimate = record.scores["unique"].estimate
        name = record.model.submission
        if record.model.row == "baseline" and ruler_kind(name) != "ceiling" and estimate is not None:
            scores[name].append(estimate)
    return max(sorted(scores), key=lambda name: float(np.mean(scores[name])), default="")


def _by_subject(located: Sequence[Located]) -> dict[str, Located]:
    """One record per subject; a whole one replaces a trial with ``--limit``, which is stored apart."""
    found: dict[str, Located] = {}
    for path, record in located:
        other = found.get(record.subject)
        if other is None or (other[1].partial and not record.partial):
            found[record.subject] = (path, record)
        elif other[1].partial == record.partial:
            raise DataError(f"{path} and {other[0]} are the same cell", "keep one of the two records")
    return found


def _build_table(column: Column, entries: Mapping[Entry, Sequence[Located]]) -> Table:
    read = _read_column(column, entries)
    candidates, whole = read.candidates, read.whole
    scored_subjects = {s for c in candidates for s, cell in c.cells.items() if not cell.record.partial}
    subjects = tuple(sorted(scored_subjects, key=natural_key))
    scored = all(_may_be_ranked(cell.record) for cell in whole)
    complete = [candidate for candidate in candidates if candidate.is_complete(subjects)]
    baselines = [candidate for candidate in complete if candidate.model.row == "baseline"]
    entrants = [c for c in complete if c.model.row == "submission"] if scored else []
    ranking = _rank(entrants, subjects) if entrants else None
    ranks = _ranks(ranking, entrants)
    rows = {c.entry: build_row(column, c, subjects, ranks.get(c.entry), baselines) for c in candidates}
    for entry, tries in tries_by_entry(entrants, subjects).items():
        rows[entry] = replace(rows[entry], tries=tries)
    order = [candidate.entry for candidate in _in_board_order(ranking, entrants)]
    submissions = [c.entry for c in candidates if c.model.row == "submission" and c.entry not in order]
    rulers = sorted((rows[c.entry] for c in candidates if c.model.row == "baseline"), key=_ruler_order)
    twins = _mean_twin(entrants, subjects)
    first = whole[0] if whole else None
    scope, note = _scope(entrants, order, subjects)
    return Table(
        column=column,
        ranked=tuple(rows[entry] for entry in order),
        unranked=tuple(rows[entry] for entry in submissions),
        rulers=tuple(rulers),
        marks=_marks(rulers, twins),
        twins=twins,
        unit=_unit(whole),
        scope=scope,
        scope_note=note,
        subjects=subjects,
        gate=read.gate.count,
        n_blocks=first.headline.n_blocks if first else 0,
        block_trs=first.policy.inference_block_trs if first else 0,
        n_segments=len(np.unique(first.headline.block_segment)) if first else 0,
        smallest_resolvable=ranking.smallest_resolvable if ranking else None,
        smallest_resolvable_ranked=ranking.smallest_resolvable_ranked if ranking else None,
        baseline=read.baseline,
        scored=scored,
    )


def _may_be_ranked(record: Record) -> bool:
    """Neither a replication protocol nor a demonstration of leakage."""
    leak = record.dataset is not None and record.dataset.leak
    return bool(record.protocol.constants.get("scored", True)) and not leak


def _rank(entrants: Sequence[Candidate], subjects: Sequence[str]) -> Ranking:
    z = np.stack([headline_table(candidate, subjects) for candidate in entrants])
    policy = entrants[0].cells[subjects[0]].policy
    return rank_influence([candidate.key for candidate in entrants], z, confidence=policy.confidence)


def _in_board_order(ranking: Ranking | None, entrants: Sequence[Candidate]) -> list[Candidate]:
    by_key = {candidate.key: candidate for candidate in entrants}
    return [by_key[model.name] for model in ranking.models] if ranking else []


def _ranks(ranking: Ranking | None, entrants: Sequence[Candidate]) -> dict[Entry, Rank]:
    if ranking is None:
        return {}
    entries = {candidate.key: candidate.entry for candidate in entrants}
    return {
        entries[model.name]: Rank(
            model.rank_low,
            model.rank_high,
            tuple(entries[name] for name in model.tie_group if name != model.name),
        )
        for model in ranking.models
    }


def _scope(entrants: Sequence[Candidate], order: Sequence[Entry], subjects: Sequence[str]) -> tuple[str, str]:
    scope = describe_scope(default_scope(len(subjects)), len(subjects)).replace(
        "subjects+stimuli", "subjects + stimuli"
    )
    if scope == "subjects + stimuli" or not order:
        return scope, ""
    best = next(candidate for candidate in entrants if candidate.entry == order[0])
    agree = sign_agreement(headline_table(best, subjects))
    return scope, f"{agree} of {len(subjects)} agree in sign for the first row"


def _mean_twin(entrants: Sequence[Candidate], subjects: Sequence[str]) -> Interval | None:
    tables = [table for table in (twin_table(candidate, subjects) for candidate in entrants) if table is not None]
    return two_way_interval(np.mean(tables, axis=0)) if tables else None


def _marks(rulers: Sequence[Row], twins: Interval | None) -> tuple[Ruler, ...]:
    """The lines drawn through every row: at most one of each kind."""
    marks: list[Ruler] = []
    for row in rulers:
        kind = ruler_kind(row.entry.submission)
        if kind in ("static", "ceiling") and isinstance(row.headline, Interval) and kind not in [m.kind for m in marks]:
            marks.append(Ruler(kind, row.entry.submission.rpartition("/")[2], row.headline))
    if twins is not None:
        marks.append(Ruler("twin", "untrained", twins))
    return tuple(marks)


def _ruler_order(row: Row) -> tuple[int, float, str]:
    """Highest score first; rulers without a score last."""
    known = isinstance(row.headline, Interval)
    return (not known, -row.headline.estimate if isinstance(row.headline, Interval) else 0.0, row.entry.submission)


def _unit(cells: Sequence[StoredCell]) -> str:
    units = sorted({cell.record.scores["unique"].unit for cell in cells})
    if len(units) > 1:
        raise DataError(f"records of one column have scores in {', '.join(units)}", "run the older ones with --fresh")
    return units[0] if units else ""


def _with_not_run(table: Table, tables: Iterable[Table]) -> Table:
    """Add a row for each submission that other columns of the same board and protocol have and this one lacks."""
    here = {row.entry for row in table.rows}
    missing: dict[Entry, Row] = {}
    for other in tables:
        column = other.column
        alike = (column.kind, column.protocol, column.track)
        if alike == (table.column.kind, table.column.protocol, table.column.track):
            for row in other.ranked + other.unranked:
                if row.entry not in here and row.state.name != "not run":
                    missing.setdefault(row.entry, not_run_row(row))
    added = tuple(missing[entry] for entry in sorted(missing))
    return replace(table, unranked=table.unranked + added)
