# SPDX-License-Identifier: Apache-2.0
"""Praat TextGrids in the long, short and chronological text format, in any encoding that Praat writes."""

import codecs
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from voxelboard.benchmark.errors import DataError, MissingPrerequisite

# What aligners put in the place of words: short pauses and silence.
PAUSE_MARKS = frozenset({"", "sp", "sil"})

# Praat reads a text file as its quoted strings, flags and free-standing numbers; all else is commentary.
# A free-standing exclamation mark starts a remark that goes to the end of the line.
_TOKEN = re.compile(r'"(?:[^"]|"")*"|(?<!\S)![^\n]*|<\w+>|(?<!\S)[-+]?\d+(?:\.\d*)?(?:[eE][-+]?\d+)?(?!\S)')

_CHRONOLOGICAL = "Praat chronological TextGrid text file"


@dataclass(frozen=True)
class Interval:
    """A labelled stretch of time, in seconds."""

    start: float
    stop: float
    label: str


@dataclass(frozen=True)
class Tier:
    """One tier; a point of a point tier is an interval of no length."""

    name: str
    intervals: tuple[Interval, ...]


def read_textgrid(path: Path) -> tuple[Tier, ...]:
    """Read the tiers of a TextGrid file.

    Raises
    ------
    MissingPrerequisite
        when there is no such file.
    DataError
        for a file that is not a TextGrid, or that ends early.
    """
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        raise MissingPrerequisite(f"there is no TextGrid {path}") from None
    try:
        return parse_textgrid(_decode(data))
    except (ValueError, OverflowError) as error:
        raise DataError(f"{path.name} is not a whole TextGrid: {error}", "get the file again") from error


def parse_textgrid(text: str) -> tuple[Tier, ...]:
    """Parse the text of a TextGrid; raises ValueError where it is not one."""
    tokens = (match.group() for match in _TOKEN.finditer(text) if not match.group().startswith("!"))
    kind = _string(tokens)
    if kind == _CHRONOLOGICAL:
        return _chronological(tokens)
    if kind != "ooTextFile" or _string(tokens) != "TextGrid":
        raise ValueError("it does not start with ooTextFile and TextGrid")
    _number(tokens), _number(tokens)  # xmin, xmax of the file
    if _next(tokens) != "<exists>":
        return ()
    return tuple(_tier(tokens) for _ in range(int(_number(tokens))))


def word_intervals(tier: Tier) -> tuple[Interval, ...]:
    """The intervals that hold words: labels stripped of blanks, pauses left out."""
    words = (Interval(i.start, i.stop, i.label.strip()) for i in tier.intervals)
    return tuple(word for word in words if word.label.lower() not in PAUSE_MARKS)


def _tier(tokens: Iterator[str]) -> Tier:
    kind, name = _string(tokens), _string(tokens)
    _number(tokens), _number(tokens)  # xmin, xmax of the tier
    size = int(_number(tokens))
    intervals = []
    for _ in range(size):
        start = _number(tokens)
        stop = _number(tokens) if kind == "IntervalTier" else start
        intervals.append(Interval(start, stop, _string(tokens)))
    return Tier(name, tuple(intervals))


def _chronological(tokens: Iterator[str]) -> tuple[Tier, ...]:
    """All tiers in one sequence, by time: each mark says to which tier it belongs. No count tells an early end."""
    _number(tokens), _number(tokens)  # xmin, xmax of the file
    kinds, names = [], []
    for _ in range(int(_number(tokens))):
        kinds.append(_string(tokens))
        names.append(_string(tokens))
        _number(tokens), _number(tokens)  # xmin, xmax of the tier
    marks: list[list[Interval]] = [[] for _ in kinds]
    for token in tokens:
        tier = int(_as_number(token)) - 1
        if not 0 <= tier < len(kinds):
            raise ValueError(f"a mark of tier {token}, there are {len(kinds)}")
        start = _number(tokens)
        stop = _number(tokens) if kinds[tier] == "IntervalTier" else start
        marks[tier].append(Interval(start, stop, _string(tokens)))
    return tuple(Tier(name, tuple(own)) for name, own in zip(names, marks, strict=True))


def _next(tokens: Iterator[str]) -> str:
    for token in tokens:
        return token
    raise ValueError("it ends early")


def _string(tokens: Iterator[str]) -> str:
    token = _next(tokens)
    if not token.startswith('"'):
        raise ValueError(f"a quoted text should stand where {token!r} stands")
    return token[1:-1].replace('""', '"')


def _number(tokens: Iterator[str]) -> float:
    return _as_number(_next(tokens))


def _as_number(token: str) -> float:
    if token[0] in '"<':
        raise ValueError(f"a number should stand where {token!r} stands")
    return float(token)


def _decode(data: bytes) -> str:
    if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return data.decode("utf-16")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError:
        return data.decode("latin-1")  # what Praat wrote before it knew Unicode
