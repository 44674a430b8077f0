# SPDX-License-Identifier: Apache-2.0
"""The whole board as JSON, CSV and parquet."""

import csv
import io
import json
from collections.abc import Mapping
from typing import Any

from voxelboard.benchmark.statistics.intervals import Interval
from voxelboard.leaderboard.board import Board, Entry, Missing, Row, Score, Table, Tries
from voxelboard.leaderboard.rows import COLUMNS
from voxelboard.leaderboard.text import csv_cell, plain

SCHEMA_VERSION = 1
_METRICS = ("normalised", "raw_r", "floor", "floor_r", "joint_r", "twin", *COLUMNS)
_COLUMN = (
    "task",
    "task_version",
    "dataset",
    "dataset_version",
    "kind",
    "ceiling_kind",
    "protocol",
    "protocol_hash",
    "track",
)
_MODEL = ("row", "submission", "display_name", "revision", "weights", "seed", "loader", "n_parameters")
_SCORE = ("rank_low", "rank_high", "score", "score_low", "score_high", "score_se", "unit")
_TEXTS, _INTEGERS, _NUMBERS = "text", "integer", "number"
_INTEGER_COLUMNS = ("task_version", "seed", "n_parameters", "n_subjects", "rank_low", "rank_high")
_TEXT_COLUMNS = (
    *(name for name in _COLUMN if name != "task_version"),
    *("state", "detail", "row", "submission", "display_name", "revision", "weights", "loader"),
    *("exposure", "verification", "unit"),
)
_HEADER = (*_COLUMN, "state", "detail", *_MODEL, "exposure", "verification", "n_subjects", *_SCORE)


def board_json(board: Board, pages: Mapping[Entry, str]) -> str:
    """Canonical JSON: sorted keys, no NaN, 9 decimals."""
    value = {
        "schema_version": SCHEMA_VERSION,
        "kind": board.kind,
        "tables": [_table(table, pages) for table in board.tables],
        "lost": [vars(cell) for cell in board.lost],
    }
    # on one line: Python's encoder is 10 times as fast without indentation, and nobody reads megabytes
    return json.dumps(value, separators=(",", ":"), sort_keys=True, allow_nan=False, ensure_ascii=True) + "\n"


def board_csv(board: Board) -> str:
    """One line per row and column; text cells are safe to open in a spreadsheet."""
    stream = io.StringIO(newline="")
    writer = csv.writer(stream, lineterminator="\r\n")
    writer.writerow([*_HEADER, *(f"{name}{end}" for name in _METRICS for end in ("", "_low", "_high")), "ceiling_r"])
    for table in board.tables:
        for row in table.rows:
            writer.writerow([csv_cell(value) for value in _line(table, row)])
    return stream.getvalue()


def board_parquet(board: Board) -> bytes:
    """The lines of :func:`board_csv` with types of their own: missing numbers are null, not empty text."""
    # pyarrow comes with the Hugging Face library datasets; imported here because it takes .1 s and nothing else needs it
    import pyarrow as pa
    from pyarrow import parquet

    names = [*_HEADER, *(f"{name}{end}" for name in _METRICS for end in ("", "_low", "_high")), "ceiling_r"]
    lines = [_line(table, row) for table in board.tables for row in table.rows]
    columns = {}
    for index, name in enumerate(names):
        values = [line[index] for line in lines]
        kind = _INTEGERS if name in _INTEGER_COLUMNS else (_TEXTS if name in _TEXT_COLUMNS else _NUMBERS)
        columns[name] = _arrow(values, kind)
    sink = pa.BufferOutputStream()
    parquet.write_table(pa.table(columns), sink, compression="zstd")
    written: bytes = sink.getvalue().to_pybytes()
    return written


def _arrow(values: list[Any], kind: str) -> Any:
    import pyarrow as pa

    if kind == _TEXTS:
        return pa.array([plain(value, 500) for value in values], pa.string())
    known = [None if value == "" else value for value in values]
    return pa.array(known, pa.int64() if kind == _INTEGERS else pa.float64())


def _line(table: Table, row: Row) -> list[Any]:
    column, model, rank = table.column, row.model, row.rank
    cells: list[Any] = [column.task, column.task_version, column.dataset, column.dataset_version, column.kind]
    cells += [
        column.ceiling_kind,
        column.protocol,
        column.protocol_hash,
        column.track,
        row.state.name,
        row.state.detail,
    ]
    cells += [model.row, row.entry.submission, model.display_name, row.entry.revision, row.entry.weights]
    cells += [row.entry.seed, model.loader, model.n_parameters, row.exposure, row.verification, len(row.subjects)]
    cells += [rank.low, rank.high] if rank else ["", ""]
    headline = row.headline
    known = isinstance(headline, Interval)
    cells += [
        *_three(headline),
        _round(headline.se) if isinstance(headline, Interval) else "",
        table.unit if known else "",
    ]
    for name in _METRICS:
        cells += _three(row.metrics[name])
    return [*cells, "" if isinstance(row.ceiling, Missing) else _round(row.ceiling.mean)]


def _three(score: Score) -> list[Any]:
    if isinstance(score, Missing):
        return ["", "", ""]
    return [_round(score.estimate), _round(score.low), _round(score.high)]


def _round(value: float) -> float:
    return round(value, 9) + 0.0


def _table(table: Table, pages: Mapping[Entry, str]) -> dict[str, Any]:
    return {
        "column": vars(table.column),
        "unit": table.unit,
        "scope": table.scope,
        "scope_note": table.scope_note,
        "subjects": list(table.subjects),
        "gate": vars(table.gate),
        "n_blocks": table.n_blocks,
        "block_trs": table.block_trs,
        "n_segments": table.n_segments,
        "ranked_protocol": table.scored,
        "smallest_resolvable": _optional(table.smallest_resolvable),
        "smallest_resolvable_ranked": _optional(table.smallest_resolvable_ranked),
        "rulers": [{"kind": mark.kind, "label": mark.label, "score": _score(mark.score)} for mark in table.marks],
        "rows": [_row(row, pages) for row in table.rows],
    }


def _row(row: Row, pages: Mapping[Entry, str]) -> dict[str, Any]:
    ceiling = row.ceiling
    return {
        "submission": row.entry.submission,
        "revision": row.entry.revision,
        "weights": row.entry.weights,
        "seed": row.entry.seed,
        "row": row.model.row,
        "display_name": row.model.display_name,
        "loader": row.model.loader,
        "n_parameters": row.model.n_parameters,
        "page": pages[row.entry],
        "state": {"name": row.state.name, "detail": row.state.detail},
        "rank": None if row.rank is None else [row.rank.low, row.rank.high],
        "score": _score(row.headline),
        "metrics": {name: _score(row.metrics[name]) for name in _METRICS},
        "ceiling": {"reason": ceiling.reason}
        if isinstance(ceiling, Missing)
        else {
            "kind": ceiling.kind,
            "n_subjects": ceiling.n_subjects,
            "mean": _round(ceiling.mean),
            "low": _round(ceiling.low),
            "high": _round(ceiling.high),
        },
        "beats": [
            {"baseline": b.baseline, "beaten": b.beaten, "p": _round(b.p), "difference": _score(b.difference)}
            for b in row.badges
        ],
        "tries": None if row.tries is None else _tries(row.tries),
        "subjects": {subject.subject: _score(subject.headline) for subject in row.subjects},
        "rois": {roi.roi: {"unique": _score(roi.unique), "raw": _score(roi.raw)} for roi in row.rois},
        "chosen_layers": {profile.roi: list(profile.chosen) for profile in row.profiles},
        "exposure": row.exposure,
        "verification": row.verification,
        "failures": [list(failure) for failure in row.failures],
        "digests": {record.subject: digest for (_, record), digest in zip(row.cells, row.digests, strict=True)},
    }


def _tries(tries: Tries) -> dict[str, Any]:
    return {
        "team": tries.team,
        "n": tries.n,
        "by_chance": _round(tries.by_chance),
        "next_best": tries.next_best.submission if tries.next_best else None,
        "lead": None if tries.lead is None else _score(tries.lead),
        "margin": _optional(tries.margin),
        "counts": tries.counts,
    }


def _score(score: Score) -> dict[str, Any]:
    if isinstance(score, Missing):
        return {"reason": score.reason}
    return {
        "estimate": _round(score.estimate),
        "standard_error": _round(score.se),
        "low": _round(score.low),
        "high": _round(score.high),
        "df": _round(score.df),
        "n": score.n,
        "estimator": score.estimator,
    }


def _optional(value: float | None) -> float | None:
    return None if value is None else _round(value)
