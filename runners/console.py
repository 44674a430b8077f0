# SPDX-License-Identifier: Apache-2.0
"""Results go to stdout, everything else to stderr."""

import json
import sys
from collections.abc import Iterable, Sequence
from typing import Any

from voxelboard.benchmark.errors import UserError


def say(text: str) -> None:
    """One line for the person at the terminal (stderr)."""
    sys.stderr.write(f"{text}\n")
    sys.stderr.flush()


def say_error(error: UserError) -> None:
    """A message that a user can act on, without traceback (stderr)."""
    say(f"error: {error}")


def put(text: str) -> None:
    """A line of the result (stdout)."""
    sys.stdout.write(f"{text}\n")


def put_json(value: Any) -> None:
    """The result as JSON (stdout), without NaN."""
    put(json.dumps(value, indent=2, sort_keys=True, allow_nan=False, ensure_ascii=False))


def put_table(headings: Sequence[str], rows: Iterable[Sequence[str]], *, right: Iterable[int] = ()) -> None:
    """The result as a table of aligned columns (stdout). Plain text, so that a pipe reads what a terminal shows.

    Parameters
    ----------
    headings : one per column.
    rows : cells as text; control characters are shown as ``?``, because submitted names are untrusted.
    right : indices of the columns that are aligned right (numbers).
    """
    flush_right = set(right)
    table = [[_printable(cell) for cell in row] for row in (headings, *rows)]
    widths = [max(len(row[i]) for row in table) for i in range(len(headings))]
    for number, row in enumerate(table):
        cells = [
            cell.rjust(width) if i in flush_right else cell.ljust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        put("  ".join(cells).rstrip())
        if number == 0:
            put("  ".join("-" * width for width in widths))


def _printable(text: str) -> str:
    return "".join(character if character.isprintable() else "?" for character in text)
