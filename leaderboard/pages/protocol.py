# SPDX-License-Identifier: Apache-2.0
"""The protocol page: every constant of the measurement with the reason that stands beside it in the source."""

import inspect
import io
import re
import tokenize
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from functools import cache
from typing import Any

from voxelboard.benchmark.protocol import PROTOCOLS, Protocol
from voxelboard.leaderboard.board import Board
from voxelboard.leaderboard.text import plain

# Sections of the notes that the source was written from, "statistics.md 2.3" or "F6": readers do not have them.
_NOTE = r"(?:statistics\.md (?:[A-Z]\d{0,2}\b|\d[\d.-]*\d)|[A-H]\d{1,2}\b)"
_REFERENCES = (
    (re.compile(rf" ?\({_NOTE}(?:, {_NOTE})*\)"), ""),
    (re.compile(rf", {_NOTE}\)"), ")"),
    (re.compile(rf"\({_NOTE}(?:, {_NOTE})*: "), "("),
    (re.compile(rf"^{_NOTE}[,:] "), ""),
)


def protocol_context(board: Board) -> dict[str, Any]:
    """Values for ``protocol.html.j2``: the protocols that the board's records were measured with."""
    used = sorted({(table.column.protocol, table.column.protocol_hash) for table in board.tables})
    stamped: dict[tuple[str, str], dict[str, Any]] = {}
    for table in board.tables:
        for row in table.rows:
            for _, record in row.cells:
                stamped.setdefault((record.protocol.name, record.protocol.hash), record.protocol.constants)
    shown = []
    for index, key in enumerate(used, start=1):
        name, digest = key
        tasks = sorted({t.column.task for t in board.tables if (t.column.protocol, t.column.protocol_hash) == key})
        constants = stamped.get(key, {})
        shown.append(
            {
                "id": f"protocol-{index}",
                "name": plain(name, 40),
                "hash": plain(digest, 64),
                "tasks": ", ".join(plain(task, 40) for task in tasks),
                "sections": _sections(constants),
                "scored": bool(constants.get("scored", True)),
            }
        )
    return {"shown": shown}


def _sections(constants: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The constants as stamped on the records, with what the source says of them."""
    reasons = protocol_reasons()
    whole = [("", {key: value for key, value in constants.items() if not isinstance(value, Mapping)})]
    parts = whole + [(key, value) for key, value in constants.items() if isinstance(value, Mapping)]
    sections = []
    for name, values in parts:
        about, lines = reasons.get(name, ("", {}))
        sections.append(
            {
                "name": plain(name or "protocol", 60),
                "about": about,
                "rows": [(plain(k, 60), plain(_value(v), 400), lines.get(k, "")) for k, v in values.items()],
            }
        )
    return sections


def _value(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, list | tuple):
        return ", ".join(_value(item) for item in value)
    if isinstance(value, Mapping):
        return "; ".join(f"{key}: {_value(item)}" for key, item in value.items())
    return str(value)


@cache
def protocol_reasons() -> dict[str, tuple[str, dict[str, str]]]:
    """Per section: what it is about, and per constant the comment that stands beside or above it."""
    found = {"": (_first_line(Protocol), _comments(Protocol))}
    default = next(iter(PROTOCOLS.values()))
    for field in fields(Protocol):
        value = getattr(default, field.name)
        if is_dataclass(value):
            found[field.name] = (_first_line(type(value)), _comments(type(value)))
    return found


def _first_line(kind: type) -> str:
    return _for_readers((inspect.getdoc(kind) or "").partition("\n\n")[0].replace("\n", " "), 400)


def _for_readers(text: str, limit: int) -> str:
    """A comment without its references to notes."""
    for pattern, instead in _REFERENCES:
        text = pattern.sub(instead, text)
    return plain(text, limit)


def _comments(kind: type) -> dict[str, str]:
    """Comments of a dataclass's fields: those on the lines above a field and at its end."""
    try:
        source = inspect.getsource(kind)
    except OSError:  # a frozen application ships no source: values without reasons are still true
        return {}
    comments: dict[int, str] = {}
    code: set[int] = set()
    for token in tokenize.generate_tokens(io.StringIO(inspect.cleandoc(source)).readline):
        if token.type == tokenize.COMMENT:
            comments[token.start[0]] = token.string.lstrip("# ").strip()
        elif token.type not in (tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT):
            code.add(token.start[0])
    lines = inspect.cleandoc(source).splitlines()
    reasons = {}
    for name in getattr(kind, "__annotations__", {}):
        place = next((n for n, line in enumerate(lines, start=1) if line.strip().startswith(f"{name}:")), 0)
        above: list[str] = []
        number = place - 1
        while number in comments and number not in code:
            above.insert(0, comments[number])
            number -= 1
        parts = [*above, comments.get(place, "")]
        reasons[name] = _for_readers(" ".join(part for part in parts if part), 600)
    return reasons
