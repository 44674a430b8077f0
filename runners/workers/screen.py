# SPDX-License-Identifier: Apache-2.0
"""What a person sees of a pool: all of it on one screen of a terminal, plain lines in a log. Always on stderr."""

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self

from rich.console import Console, Group
from rich.live import Live
from rich.markup import escape
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from voxelboard.benchmark.records import ErrorClass, Record
from voxelboard.runners.plan import Cell, Plan
from voxelboard.runners.telling import Telling, headline
from voxelboard.runners.workers.stages import Needs, Stage

_MOST_ROWS = 16


@dataclass
class _Row:
    stage: Stage
    step: str = "starting"
    done: int = 0
    total: int = 0
    host_bytes: int = 0
    since: float = field(default_factory=time.monotonic)


class PoolScreen(Telling):
    """Reports a pool to stderr; use it as a context manager.

    Parameters
    ----------
    plan, stages : all that was asked, and what is to run: the progress of the whole.
    quiet : say only what failed.
    verbose : show steps in a log, and the traceback of bugs.
    console : for tests.
    """

    def __init__(
        self,
        plan: Plan,
        stages: Sequence[Stage],
        *,
        quiet: bool = False,
        verbose: bool = False,
        console: Console | None = None,
    ) -> None:
        super().__init__(quiet=quiet, verbose=verbose, console=console)
        self._total, self._before = len(plan.cells), len(plan.stored)
        self._stored = self._failed = 0
        self._expected = {stage.key: stage.needs.seconds for stage in stages}
        self._spent: dict[str, float] = {}
        self._rows: dict[str, _Row] = {}
        self._live: Live | None = None
        self._since = time.monotonic()
        self._fences = ""

    def __enter__(self) -> Self:
        if self._console.is_terminal and not self._quiet:
            self._live = Live(console=self._console, transient=True, refresh_per_second=4, get_renderable=self.draw)
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Take the live part away; may be called twice."""
        if self._live is not None:
            self._live.stop()
            self._live = None

    def draw(self) -> Group:
        """The whole and each process that runs."""
        done = self._before + self._stored + self._failed
        head = Text(f"{self._before + self._stored} of {self._total} cells stored")
        head.append(f", {self._failed} failed" if self._failed else "", style="red")
        head.append(f" · {clock(time.monotonic() - self._since)}{self._left()}")
        table = Table.grid(padding=(0, 2))
        for row in list(self._rows.values())[:_MOST_ROWS]:
            counted = f"{row.done}/{row.total}" if row.total else ""
            size = f"{row.host_bytes / 2**30:.1f} GiB" if row.host_bytes else ""
            table.add_row(escape(row.stage.label), escape(row.step), counted, clock(time.monotonic() - row.since), size)
        more = len(self._rows) - _MOST_ROWS
        tail = [Text(f"and {more} more")] if more > 0 else []
        bar = Table.grid()  # the bar by itself ends no line
        bar.add_row(ProgressBar(total=max(1, self._total), completed=done, width=40))
        return Group(head, bar, table, *tail)

    def began(self, stage: Stage, fences: str) -> None:
        """A process is ready; what fences hold is said once."""
        self._rows[stage.key] = _Row(stage)
        if fences != self._fences:
            self._fences = fences
            self._say(f"each model in a process of its own: {fences}")
        if self._live is None:
            self._say(f"started {stage.label}")

    def progressed(self, stage: Stage, step: str, done: int, total: int, host_bytes: int) -> None:
        """A step went on; in a log the beginning of one is a line, and only with ``verbose``."""
        row = self._rows.setdefault(stage.key, _Row(stage))
        if self._live is None and self._verbose and step.partition(",")[0] != row.step.partition(",")[0]:
            self._say(f"    {stage.label}: {step.partition(',')[0]}")
        row.step, row.done, row.total, row.host_bytes = step, done, total, host_bytes

    def stored(self, cell: Cell, record: Record) -> None:
        """A record lies in its place."""
        self._stored += 1
        self._say(f"  stored {cell.submission.label} · {cell.task} · {cell.subject}{headline(record)}")

    def failed(self, cell: Cell, kind: ErrorClass, message: str, trace: str | None) -> None:
        """A cell failed; said even when quiet."""
        self._failed += 1
        super().failed(cell, kind, message, trace)

    def retried(self, stage: Stage, kind: ErrorClass, message: str) -> None:
        """A stage is tried again."""
        how = "at half the batch, alone" if kind == "oom" else "each subject by itself"
        self._say(f"  {stage.label} ({kind}): {message}; once more, {how}")

    def ended(self, stage: Stage, needed: Needs) -> None:
        """A process is over."""
        self._rows.pop(stage.key, None)
        self._spent[stage.key] = needed.seconds or 0.0
        if self._live is None and self._verbose:
            self._say(
                f"    {stage.label}: {needed.seconds or 0:.1f} s, {(needed.host_bytes or 0) / 2**30:.1f} GiB at most"
            )

    def stopping(self) -> None:
        """Ctrl-C was typed."""
        self._say("stopping: what is stored stays; Ctrl-C again does not wait")

    def _left(self) -> str:
        """What is left by the estimates, corrected by how long the ended stages took."""
        known = [(self._expected.get(key), spent) for key, spent in self._spent.items()]
        expected = sum(wanted for wanted, _ in known if wanted)
        spent = sum(took for wanted, took in known if wanted)
        rest = sum(wanted for key, wanted in self._expected.items() if wanted and key not in self._spent)
        workers = max(1, len(self._rows))
        return f", about {clock(rest * spent / expected / workers)} left" if expected and rest else ""


def clock(seconds: float) -> str:
    """``75`` -> ``1:15``."""
    whole = int(seconds)
    hours, rest = divmod(whole, 3600)
    return f"{hours}:{rest // 60:02d}:{rest % 60:02d}" if hours else f"{rest // 60}:{rest % 60:02d}"
