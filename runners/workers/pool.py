# SPDX-License-Identifier: Apache-2.0
"""A pool of processes on this machine, one for each stage: who starts when, and what becomes of it.

A stage starts when a slot is free, the stages that it needs are over, and its memory is expected to fit beside those that
run. One that ran out of memory is tried once more, each of its cells by itself, at half the batch and alone. A crash, a
time-out or a bad record fails its own cells. Ctrl-C ends what runs and keeps what is stored; a second one does not wait.
"""

import os
import selectors
import shutil
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from types import FrameType
from typing import Any, Protocol

from voxelboard.benchmark.errors import DataError, StorageError
from voxelboard.benchmark.records import ErrorClass, Record, slug
from voxelboard.benchmark.submission import Submission
from voxelboard.runners.failures import classify, message_of
from voxelboard.runners.local import Outcome, fail_cells
from voxelboard.runners.plan import Cell
from voxelboard.runners.workers.child import SCIENCE, Confinement
from voxelboard.runners.workers.process import ForkServer, Running
from voxelboard.runners.workers.records import adopt_record
from voxelboard.runners.workers.stages import Needs, Stage, outbox, stage_file

_TICK_SECONDS = 0.25
_GRACE_SECONDS = 10.0


class PoolReporter(Protocol):
    """Who is told what happens; ``stage.key`` names a stage."""

    def began(self, stage: Stage, fences: str) -> None: ...

    def progressed(self, stage: Stage, step: str, done: int, total: int, host_bytes: int) -> None: ...

    def stored(self, cell: Cell, record: Record) -> None: ...

    def failed(self, cell: Cell, kind: ErrorClass, message: str, trace: str | None) -> None: ...

    def retried(self, stage: Stage, kind: ErrorClass, message: str) -> None: ...

    def ended(self, stage: Stage, needed: Needs) -> None: ...

    def stopping(self) -> None: ...


class Weights(Protocol):
    """Who brings the weights of models here before they are shut in."""

    def ready(self, submission: Submission) -> bool: ...

    def failure(self, submission: Submission) -> BaseException | None: ...

    def fetched(self, submission: Submission) -> bool: ...


@dataclass(frozen=True)
class PoolPolicy:
    """How many at once, and within what bounds.

    Attributes
    ----------
    gpus : the GPU of each slot; None is a slot on the CPU.
    threads : of each process.
    memory_bytes : host memory for all processes together; one alone may take all of it.
    timeout_seconds : of a stage, None for none.
    fenced : shut each process in (``fences.py``).
    read : folders that they may read; ``cache``: with the feature store, which they may write.
    work : folder for the processes' own files, on the disk of the results.
    science : ``module:function`` that gives the cell runner.
    preload : modules that the fork server imports.
    """

    gpus: tuple[int | None, ...]
    threads: int
    memory_bytes: int
    work: Path
    cache: Path
    timeout_seconds: float | None = None
    fenced: bool = True
    read: tuple[Path, ...] = ()
    science: str = SCIENCE
    preload: tuple[str, ...] = ("voxelboard.runners.science",)


class Pool:
    """Runs stages; use :func:`run_stages`."""

    def __init__(
        self, policy: PoolPolicy, server: ForkServer, reporter: PoolReporter, outcome: Outcome, weights: Weights | None
    ) -> None:
        self._policy, self._server, self._reporter, self._outcome = policy, server, reporter, outcome
        self._weights = weights
        self._waiting: list[Stage] = []
        self._running: list[Running] = []
        self._over: set[str] = set()
        self._interrupts = 0
        self._number = 0

    def run(self, stages: Sequence[Stage]) -> None:
        """Run all stages; raises KeyboardInterrupt when asked to stop."""
        self._waiting = list(stages)
        with _interrupts_counted(self._interrupted), selectors.DefaultSelector() as selector:
            selector.register(self._server.control, selectors.EVENT_READ)
            while (self._waiting or self._running) and not self._interrupts:
                self._drop_unfetched()
                self._start_what_fits(selector)
                self._listen(selector, _TICK_SECONDS)
                self._watch()
            if self._interrupts:
                self._stop(selector)
                raise KeyboardInterrupt

    def _interrupted(self) -> None:
        self._interrupts += 1

    def _drop_unfetched(self) -> None:
        """Stages whose weights could not be had."""
        for stage in list(self._waiting) if self._weights else []:
            error = self._weights.failure(stage.job.submission) if self._weights else None
            if error is not None:
                self._waiting.remove(stage)
                self._over.add(stage.key)
                if stage.kind == "scores":
                    kind, message = classify(error), message_of(error)
                    fail_cells(stage.cells, kind, message, None, stage.settings, self._reporter, self._outcome)

    def _start_what_fits(self, selector: selectors.BaseSelector) -> None:
        busy = [running.slot for running in self._running]
        for slot in range(len(self._policy.gpus)):
            if slot not in busy:
                stage = self._next()
                if stage is None:
                    return
                self._waiting.remove(stage)
                self._start(stage, slot, selector)

    def _next(self) -> Stage | None:
        """The first stage whose turn it is; one that is tried again runs alone."""
        if any(running.stage.attempt > 1 for running in self._running):
            return None
        taken = sum(running.stage.needs.host_bytes or 0 for running in self._running)
        for stage in self._waiting:
            ready = self._over.issuperset(stage.after)
            ready = ready and (self._weights is None or self._weights.ready(stage.job.submission))
            fits = taken + (stage.needs.host_bytes or 0) <= self._policy.memory_bytes and stage.attempt == 1
            if ready and (fits or not self._running):
                return stage
        return None

    def _start(self, stage: Stage, slot: int, selector: selectors.BaseSelector) -> None:
        self._number += 1
        folder = self._policy.work / f"{os.getpid()}-{self._number}"
        folder.mkdir(parents=True)
        if self._weights is not None and self._weights.fetched(stage.job.submission):
            stage = replace(stage, settings=replace(stage.settings, offline=True))
        stage_file(folder).write_text(stage.to_json(), encoding="utf-8")
        running = self._server.start(stage, slot, folder, self._confinement(stage, slot), self._policy.science)
        self._running.append(running)
        selector.register(running.events, selectors.EVENT_READ, running)

    def _confinement(self, stage: Stage, slot: int) -> Confinement:
        policy, gpu = self._policy, self._policy.gpus[slot]
        job = stage.job
        model, cache = job.submission.model, policy.cache
        if model.trust_remote_code:
            # what a stranger's code wrote into the shared store would be another model's features
            cache = cache / "private" / f"{slug(job.submission.label)}-{slug(job.revision[:12])}"
        read = (*map(str, policy.read), *([model.path] if model.path else []), str(cache))
        memory = policy.memory_bytes if gpu is None else None
        return Confinement(policy.fenced, read, (str(cache),), str(cache), memory, gpu, policy.threads)

    def _listen(self, selector: selectors.BaseSelector, seconds: float) -> None:
        for key, _ in selector.select(seconds):
            if key.fileobj is self._server.control:
                continue
            for event in key.data.read_events():
                self._take(key.data, event)
            if key.data.at_end:
                selector.unregister(key.fileobj)
        for pid, status, peak in self._server.news():
            for running in [one for one in self._running if one.pid == pid]:
                if not running.at_end:
                    selector.unregister(running.events)
                self._bury(running, status, peak)

    def _take(self, running: Running, event: dict[str, Any]) -> None:
        stage = running.stage
        match event.get("event"):
            case "begun":
                self._reporter.began(stage, str(event.get("fences")))
            case "progress":
                step, done, total = str(event.get("stage")), event.get("done"), event.get("total")
                numbers = (done, total) if isinstance(done, int) and isinstance(total, int) else (0, 0)
                self._reporter.progressed(stage, step, *numbers, running.resident_bytes())
            case "scored":
                self._adopt(running, str(event.get("subject")))
            case "failed" if event.get("storage") is True:
                raise StorageError(str(event.get("message"))[:2000])
            case "failed":
                running.failure = (_known(event.get("kind")), str(event.get("message"))[:2000], event.get("trace"))

    def _adopt(self, running: Running, subject: str) -> None:
        for cell in [cell for cell in running.waiting if cell.subject == subject]:
            protocol = running.stage.settings.protocol
            try:
                record = adopt_record(outbox(running.folder, subject), cell, protocol.hash_of(cell.task))
            except DataError as error:
                running.failure = running.failure or ("bug", str(error), None)
                return
            running.waiting.remove(cell)
            self._outcome.stored.append((cell, record))
            self._reporter.stored(cell, record)

    def _watch(self) -> None:
        """Kill what takes too long or too much."""
        for running in self._running:
            limit = self._policy.timeout_seconds
            if limit is not None and running.seconds > limit:
                message = f"stopped after {running.seconds / 60:.1f} minutes: --timeout, or what a time budget had left"
                running.kill(("timeout", message, None))
            resident = running.resident_bytes()
            if resident > self._policy.memory_bytes:
                message = f"the process took {resident / 2**30:.1f} GiB of host memory, more than there is for it"
                running.kill(("oom", message, None))

    def _bury(self, running: Running, status: int, peak: int) -> None:
        for event in running.read_events():  # what it said last
            self._take(running, event)
        running.close()
        self._running.remove(running)
        stage = running.stage
        if status == 0 and not running.failure and (stage.kind == "features" or not running.waiting):
            self._finish(running, peak)
            return
        kind, message, trace = running.failure or _why(status, running)
        again = tuple(running.waiting)
        if stage.kind == "scores" and stage.attempt == 1 and again and _worth_again(kind, stage):
            self._reporter.retried(stage, kind, message)
            self._waiting.extend(stage.split(again, halve=kind == "oom"))
        elif stage.kind == "scores":
            fail_cells(again, kind, message, trace, stage.settings, self._reporter, self._outcome)
        # features that could not be made are tried by the first of its cells, and that failure is the one told
        self._finish(running, peak)

    def _finish(self, running: Running, peak: int) -> None:
        self._over.add(running.stage.key)
        self._reporter.ended(running.stage, Needs(seconds=running.seconds, host_bytes=peak))
        shutil.rmtree(running.folder, ignore_errors=True)

    def _stop(self, selector: selectors.BaseSelector) -> None:
        self._reporter.stopping()
        for running in self._running:
            running.signal(signal.SIGTERM)
        deadline = time.monotonic() + _GRACE_SECONDS
        while self._running and self._interrupts < 2 and time.monotonic() < deadline:
            self._stopping_listen(selector)
        for running in self._running:
            running.signal(signal.SIGKILL)
            shutil.rmtree(running.folder, ignore_errors=True)

    def _stopping_listen(self, selector: selectors.BaseSelector) -> None:
        for key, _ in selector.select(_TICK_SECONDS):
            if key.fileobj is not self._server.control:
                for event in key.data.read_events():
                    if event.get("event") == "scored":
                        self._take(key.data, event)
                if key.data.at_end:
                    selector.unregister(key.fileobj)
        for pid, _, _ in self._server.news():
            for running in [one for one in self._running if one.pid == pid]:
                self._running.remove(running)
                shutil.rmtree(running.folder, ignore_errors=True)


def run_stages(
    stages: Sequence[Stage], policy: PoolPolicy, reporter: PoolReporter, weights: Weights | None = None
) -> Outcome:
    """Run stages in processes of their own; what is stored when it ends or is interrupted stays stored.

    ``weights`` says when a model's weights are here; None: they are, or its process fetches them.

    Raises
    ------
    StorageError
        when a record or a feature cannot be written: the next could not either.
    KeyboardInterrupt
        after Ctrl-C or SIGTERM.
    """
    outcome = Outcome()
    policy.work.mkdir(parents=True, exist_ok=True)
    policy.cache.mkdir(parents=True, exist_ok=True)
    _sweep(policy.work)
    try:
        with ForkServer(policy.preload) as server:
            Pool(policy, server, reporter, outcome, weights).run(stages)
    finally:
        _sweep(policy.work)
        if policy.work.is_dir() and not any(policy.work.iterdir()):
            policy.work.rmdir()
    return outcome


def _sweep(work: Path) -> None:
    """Remove what pools left that are no more, and what this one left."""
    for folder in work.iterdir():
        pid = folder.name.partition("-")[0]
        if not pid.isdecimal() or int(pid) == os.getpid() or not Path(f"/proc/{pid}").exists():
            shutil.rmtree(folder, ignore_errors=True)


def _known(kind: object) -> ErrorClass:
    from typing import get_args

    return next((known for known in get_args(ErrorClass) if known == kind), "bug")


def _why(status: int, running: Running) -> tuple[ErrorClass, str, str | None]:
    """From the exit status of a process that said nothing."""
    tail = running.log_tail()
    if status == -signal.SIGKILL:
        return (
            "oom",
            "the process was killed from outside, as the kernel does when the machine runs out of memory",
            None,
        )
    if status < 0:
        name = signal.Signals(-status).name
        return "crash", f"the process crashed with {name}{': ' if tail else ''}{tail}", None
    if "MemoryError" in tail or "not enough memory" in tail:
        return "oom", tail, None
    missing = ", ".join(cell.subject for cell in running.waiting)
    return "bug", f"the process ended with status {status} without {missing}{': ' if tail else ''}{tail}", None


def _worth_again(kind: ErrorClass, stage: Stage) -> bool:
    """Memory: at half the batch. A crash: only to keep the other subjects of a group."""
    return kind == "oom" or (kind == "crash" and len(stage.cells) > 1)


@contextmanager
def _interrupts_counted(note: Callable[[], None]) -> Iterator[None]:
    def handle(_number: int, _frame: FrameType | None) -> None:
        note()

    before = {number: signal.signal(number, handle) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
