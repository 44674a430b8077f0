# SPDX-License-Identifier: Apache-2.0
"""What every reporter of a run tells a person, on stderr: lines, failures, and the headline of what was stored."""

from rich.console import Console
from rich.markup import escape

from voxelboard.benchmark.records import ErrorClass, Record
from voxelboard.runners.plan import Cell


class Telling:
    """The part of a reporter that writes.

    Parameters
    ----------
    quiet : say only what failed.
    verbose : show the traceback of bugs as they happen.
    console : for tests.
    """

    def __init__(self, *, quiet: bool, verbose: bool, console: Console | None) -> None:
        self._console = console or Console(stderr=True, highlight=False, soft_wrap=True)
        self._quiet, self._verbose = quiet, verbose

    def failed(self, cell: Cell, kind: ErrorClass, message: str, trace: str | None) -> None:
        """A cell failed; said even when quiet."""
        self._console.print(escape(f"  failed {cell.label} ({kind}): {message}"))
        if trace and self._verbose:
            self._console.print(escape(trace))
        elif trace:
            self._console.print("  this is a bug; -v shows the traceback")

    def _say(self, text: str) -> None:
        if not self._quiet:
            self._console.print(escape(text))


def headline(record: Record) -> str:
    """``: unique 0.123``, empty without a score."""
    score = record.scores.get("unique")
    return "" if score is None or score.estimate is None else f": unique {score.estimate:.3f}"
