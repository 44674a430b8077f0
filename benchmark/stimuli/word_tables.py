# SPDX-License-Identifier: Apache-2.0
"""Words and their times, from the tables that aligners and laboratories write."""

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from voxelboard.benchmark.errors import DataError, MissingPrerequisite
from voxelboard.benchmark.stimuli.stories import Story, make_story

FloatArray = NDArray[np.float64]

COLUMNS = ("word", "onset", "offset")
# How else laboratories call them. BIDS events have a duration instead of an end, and rows that are no words.
_ALIASES = {"word": ("text", "token", "value"), "onset": ("start", "start_time"), "offset": ("end", "stop", "end_time")}
_DURATION, _KIND = "duration", "trial_type"
_NO_TIME = frozenset({"", "n/a", "nan", "na"})  # as BIDS, pandas and R write a missing number


@dataclass(frozen=True, eq=False)
class WordTable:
    """Words in the order of the transcript.

    Attributes
    ----------
    words : (n_words,).
    onsets, offsets : (n_words,) seconds on the clock of the table, in order.
    n_interpolated : words that the aligner did not find; they stand evenly between their neighbours.
    """

    words: tuple[str, ...]
    onsets: FloatArray
    offsets: FloatArray
    n_interpolated: int = 0


def read_word_table(path: Path) -> WordTable:
    """Read a .csv or .tsv file with the columns word, onset and offset (seconds); other columns are not looked at.

    Also known are text, token or value for the word, start for the onset, end or stop for the offset, and in BIDS events a
    duration; where a column trial_type says ``word`` of some rows, these are the words.

    A word whose onset and offset are both empty (or n/a) was not found in the audio, see :func:`fill_times`.

    Raises
    ------
    MissingPrerequisite
        when there is no such file.
    DataError
        with the line, for a column that is missing, a cell that is no number, and a word that ends before it starts.
    """
    rows = _rows(path, None)
    header = [cell.strip().lower() for cell in rows[0]] if rows else []
    found = {name: next((n for n in (name, *_ALIASES[name]) if n in header), None) for name in COLUMNS}
    lasts = found["offset"] is None and _DURATION in header
    missing = [name for name in COLUMNS if found[name] is None and not (lasts and name == "offset")]
    if missing:
        raise DataError(
            f"{path.name}: no column {', '.join(missing)}; the first line says {', '.join(header) or 'nothing'}",
            "the first line names the columns: word,onset,offset",
        )
    for k, row in enumerate(rows[1:], 2):
        if len(row) > len(header):
            raise DataError(
                f"{path.name}, line {k}: {len(row)} cells in {len(header)} columns",
                "quote words that hold the delimiter, and write 4.5, not 4,5",
            )
    places = [header.index(name or _DURATION) for name in found.values()]
    cells = [(k, [row[p] if p < len(row) else "" for p in places]) for k, row in _word_rows(rows, header)]
    return _table(path, [(k, _with_offset(path, k, row)) for k, row in cells] if lasts else cells)


def _word_rows(rows: Sequence[list[str]], header: Sequence[str]) -> list[tuple[int, list[str]]]:
    """Line number and cells of the rows that are words."""
    numbered = list(enumerate(rows[1:], 2))
    if _KIND not in header:
        return numbered
    place = header.index(_KIND)
    words = [(k, row) for k, row in numbered if place < len(row) and row[place].strip().lower() == "word"]
    return words or numbered


def _with_offset(path: Path, line: int, cells: list[str]) -> list[str]:
    """Word, onset and duration -> word, onset, offset."""
    word, onset, duration = cells
    times = [_seconds(path, line, name, cell) for name, cell in (("onset", onset), (_DURATION, duration))]
    return [word, onset, repr(sum(times)) if np.isfinite(times).all() else ""]


def read_gentle(path: Path) -> WordTable:
    """Read Gentle's align.csv: no header; word as written, word as aligned or <unk>, onset, offset in seconds.

    A word that was not found in the audio has no aligned word and no times, see :func:`fill_times`.
    Raises as :func:`read_word_table`.
    """
    rows = []
    for k, row in enumerate(_rows(path, ","), 1):
        if not row:
            continue
        if len(row) not in (2, 4):  # some exports end the line of a missing word early
            raise DataError(f"{path.name}, line {k}: {len(row)} cells, expected word, aligned word, onset, offset")
        rows.append((k, [row[0], *(row[2:] or ["", ""])]))
    return _table(path, rows)


def fill_times(onsets: FloatArray, offsets: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Times for words that have none (NaN): evenly between the end of the word before and the start of the word after.

    They were heard, so a model must read them, and their neighbours bound when. Words before the first and after the
    last that has a time keep NaN.
    """
    on, off = onsets.copy(), offsets.copy()
    known = np.flatnonzero(np.isfinite(onsets))
    for before, after in pairwise(known.tolist()):
        n_missing = after - before - 1
        if n_missing:
            start = min(offsets[before], onsets[after])  # neighbours may overlap
            edges = np.linspace(start, onsets[after], n_missing + 1)
            on[before + 1 : after], off[before + 1 : after] = edges[:-1], edges[1:]
    return on, off


def story_on_clock(
    name: str, table: WordTable, *, first_row_s: float, n_trs: int, tr: float, max_lost_share: float = 1.0
) -> Story:
    """The words that start during the responses, on their clock.

    Words that start before the first row or after the last are dropped: no row can hold a response to their onset that
    the protocol scores, as it trims more TRs at the start of a story than its delays reach back. What is lost is the
    context that they give to the words after them.

    Parameters
    ----------
    first_row_s : seconds on the clock of the table at the start of the first response row.
    max_lost_share : share of the words that may lie outside; more means that clock or TR are wrong.

    Raises
    ------
    DataError
        when no word, or too few, start during the responses; as :func:`make_story`.
    """
    onsets, offsets = table.onsets - first_row_s, table.offsets - first_row_s
    inside = np.flatnonzero((onsets >= 0) & (onsets < n_trs * tr))  # NaN is not inside
    n_lost = len(onsets) - len(inside)
    if not len(inside) or n_lost > max_lost_share * len(onsets):
        raise DataError(
            f"story {name!r}: {n_lost} of {len(onsets)} words lie outside the {n_trs} rows of {tr:g} s that start at "
            f"{first_row_s:g} s of the word table",
            "check the TR, the number of rows, and when the first row was measured",
        )
    words = [table.words[i] for i in inside]
    return make_story(name, words, onsets[inside], offsets[inside], n_trs=n_trs, tr=tr)


def _rows(path: Path, delimiter: str | None) -> list[list[str]]:
    try:
        text = path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise MissingPrerequisite(f"there is no word table {path}") from None
    except UnicodeDecodeError as error:
        raise DataError(f"{path.name} is not UTF-8 text: {error}", "save it as UTF-8") from error
    if delimiter is None:
        first = text.partition("\n")[0]
        # spreadsheets of some countries write semicolons into a .csv
        delimiter = "\t" if path.suffix == ".tsv" else max(",;\t", key=first.count)
    try:
        return list(csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True))
    except csv.Error as error:
        raise DataError(f"{path.name} is not a table: {error}", "quotes must be closed") from error


def _table(path: Path, rows: Sequence[tuple[int, list[str]]]) -> WordTable:
    words, onsets, offsets = [], [], []
    for line, (word, onset, offset) in rows:
        if not (word.strip() or onset.strip() or offset.strip()):
            continue  # an empty line
        if not word.strip():
            raise DataError(f"{path.name}, line {line}: there is no word", "drop pauses from the table")
        start, stop = (_seconds(path, line, name, cell) for name, cell in (("onset", onset), ("offset", offset)))
        if np.isnan(start) != np.isnan(stop) or stop < start:
            raise DataError(f"{path.name}, line {line}: {word.strip()!r} has the onset {onset!r} and offset {offset!r}")
        words.append(word.strip())
        onsets.append(start)
        offsets.append(stop)
    on, off = np.array(onsets), np.array(offsets)
    filled = fill_times(on, off)
    return WordTable(tuple(words), *filled, int(np.isnan(on).sum() - np.isnan(filled[0]).sum()))


def _seconds(path: Path, line: int, column: str, cell: str) -> float:
    if cell.strip().lower() in _NO_TIME:
        return float("nan")
    try:
        value = float(cell)
    except ValueError:
        value = float("inf")
    if not np.isfinite(value):
        raise DataError(f"{path.name}, line {line}: {column} {cell!r} is not a number of seconds", "write 12.34")
    return value
