# SPDX-License-Identifier: Apache-2.0
"""What a person sees of a download: one live line on a terminal, plain lines in a log. Always on stderr."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

from voxelboard.benchmark.readers.card_files import VerifyProgress
from voxelboard.runners.fetching.download import Report
from voxelboard.runners.fetching.fetch import FetchPlan
from voxelboard.runners.fetching.remote import RemoteFile

_LINE_EVERY_S = 10.0


@contextmanager
def show_progress(plan: FetchPlan, *, quiet: bool = False, console: Console | None = None) -> Iterator[Report]:
    """A report that draws; called from several threads."""
    console = console or Console(stderr=True, highlight=False, soft_wrap=True)
    lock = threading.Lock()
    done_bytes, done_files, said = 0, 0, time.monotonic()
    live = console.is_terminal and not quiet
    columns = (TextColumn("{task.description}"), BarColumn(20), DownloadColumn(), TransferSpeedColumn())
    bar = Progress(*columns, TimeRemainingColumn(), console=console, transient=True)
    known = plan.n_unknown == 0
    line = bar.add_task(plan.card.name, total=plan.n_bytes if known else None)

    def report(file: RemoteFile, n_bytes: int, complete: bool) -> None:
        nonlocal done_bytes, done_files, said
        with lock:
            done_bytes += n_bytes
            done_files += complete
            if live:
                bar.update(line, completed=max(done_bytes, 0), description=f"{done_files}/{len(plan.missing)} files")
            elif not quiet and time.monotonic() - said >= _LINE_EVERY_S:
                said = time.monotonic()
                console.print(f"  {done_files}/{len(plan.missing)} files, {done_bytes / 1e6:.0f} MB, now {file.path}")

    if live:
        bar.start()
    try:
        yield report
    finally:
        if live:
            bar.stop()


@contextmanager
def show_verification(name: str, console: Console | None = None) -> Iterator[VerifyProgress]:
    """A progress of checksums: a live line on a terminal, a line now and then in a log."""
    console = console or Console(stderr=True, highlight=False, soft_wrap=True)
    said = time.monotonic()
    bar = Progress(TextColumn("{task.description}"), BarColumn(20), DownloadColumn(), console=console, transient=True)
    line = bar.add_task(f"checking {name}", total=None)

    def progress(path: str, done: int, total: int) -> None:
        nonlocal said
        if console.is_terminal:
            bar.update(line, completed=done, total=total)
        elif time.monotonic() - said >= _LINE_EVERY_S:
            said = time.monotonic()
            console.print(f"  checked {done / 1e6:.0f} of {total / 1e6:.0f} MB, now {path}")

    if console.is_terminal:
        bar.start()
    try:
        yield progress
    finally:
        if console.is_terminal:
            bar.stop()
