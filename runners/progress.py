# SPDX-License-Identifier: Apache-2.0
"""What a person sees while cells run: one live line on a terminal, plain lines in a log. Always on stderr."""

import time
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from voxelboard.benchmark.records import Record
from voxelboard.runners.plan import Cell, Job
from voxelboard.runners.telling import Telling, headline


class ConsoleReporter(Telling):
    """Reports a run to stderr; use it as a context manager.

    Parameters
    ----------
    quiet : say only what failed.
    verbose : show the traceback of bugs as they happen.
    console : for tests.
    """

    def __init__(self, *, quiet: bool = False, verbose: bool = False, console: Console | None = None) -> None:
        super().__init__(quiet=quiet, verbose=verbose, console=console)
        self._live: Progress | None = None
        self._line: TaskID | None = None
        self._stage = ""
        self._since = time.monotonic()

    def __enter__(self) -> Self:
        if self._console.is_terminal and not self._quiet:
            columns = (TextColumn("{task.description}"), BarColumn(20), MofNCompleteColumn(), TimeRemainingColumn())
            self._live = Progress(*columns, console=self._console, transient=True)
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Take the live line away; may be called twice."""
        if self._live is not None:
            self._live.stop()
            self._live = None

    def started(self, job: Job, number: int, n_jobs: int) -> None:
        """A job begins."""
        self._since = time.monotonic()
        self._stage = ""
        text = f"[{number}/{n_jobs}] {job.submission.label} · {job.task} · {job.dataset}"
        if self._live is None:
            self._say(f"{text} · {len(job.cells)} subjects")
            return
        if self._line is not None:
            self._live.remove_task(self._line)
        self._line = self._live.add_task(escape(text), total=None)

    def stage(self, job: Job, stage: str, done: int, total: int) -> None:
        """A stage began or went on; in a log its beginning is a line, and only with ``verbose``."""
        if self._live is not None and self._line is not None:
            description = escape(f"{job.submission.label} · {stage}")
            if stage != self._stage:  # the estimate of the time left is that of this stage
                self._live.reset(self._line)
            self._live.update(self._line, description=description, completed=done, total=total or None)
        elif self._verbose and _family(stage) != _family(self._stage):
            self._say(f"    {_family(stage)}")
        self._stage = stage

    def stored(self, cell: Cell, record: Record) -> None:
        """A record was written."""
        seconds = time.monotonic() - self._since
        self._say(f"  stored {cell.submission.label} · {cell.subject}{headline(record)} ({seconds:.1f} s)")


def _family(stage: str) -> str:
    """``features, story 3/16`` -> ``features``."""
    return stage.partition(",")[0]
