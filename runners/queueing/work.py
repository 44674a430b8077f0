# SPDX-License-Identifier: Apache-2.0
"""Works through the queue: takes requests, the smallest first, runs their cells in the pool, and says how each ended."""

import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

from voxelboard.benchmark.errors import UserError
from voxelboard.benchmark.protocol import load_protocol
from voxelboard.benchmark.settings import Settings
from voxelboard.benchmark.submission import Submission
from voxelboard.runners.capacity import Capacity, capacity
from voxelboard.runners.execution import choose_workers, execute_stages
from voxelboard.runners.facts import task_facts
from voxelboard.runners.failures import message_of
from voxelboard.runners.launching import Launch, span
from voxelboard.runners.plan import Plan, make_plan
from voxelboard.runners.queueing.store import LEASE_SECONDS, Queue, Request
from voxelboard.runners.staging import Estimator, stages_of, too_large
from voxelboard.runners.workers.child import SCIENCE
from voxelboard.runners.workers.screen import PoolScreen


@dataclass
class Budget:
    """How long may be worked.

    Attributes
    ----------
    seconds : wall time from now, None for no bound. ``gpu_seconds``: the same for all GPUs together.
    """

    seconds: float | None = None
    gpu_seconds: float | None = None
    began: float = field(default_factory=time.monotonic)
    used_gpu_seconds: float = 0.0

    def left(self, n_gpus: int) -> float:
        """Wall seconds that are left with so many GPUs at work."""
        bounds = [float("inf")]
        if self.seconds is not None:
            bounds.append(self.seconds - (time.monotonic() - self.began))
        if self.gpu_seconds is not None and n_gpus:
            bounds.append((self.gpu_seconds - self.used_gpu_seconds) / n_gpus)
        return min(bounds)


@dataclass
class Worked:
    """What became of requests."""

    done: list[Request] = field(default_factory=list)
    failed: list[tuple[Request, str]] = field(default_factory=list)
    left: list[tuple[Request, str]] = field(default_factory=list)
    stopped: str = ""


def work(
    queue: Queue, results: Path, settings: Settings, how: Launch, budget: Budget, *, science: str = SCIENCE
) -> Worked:
    """Take requests until none is left or the budget is spent; several workers may do so at a time.

    A request whose expected time is longer than what is left of the budget waits for another night. When the time is over
    while a model runs, it is stopped, its stored cells are kept, and it is queued again.

    Raises
    ------
    StorageError
        when a record cannot be written; the request is queued again.
    KeyboardInterrupt
        after Ctrl-C; the request is queued again.
    """
    worked, here, passed = Worked(), capacity(), set[int]()
    while True:
        workers = choose_workers(how.workers, settings.device, 10**6, here)
        n_gpus = len(workers.gpus) if workers.on_gpu else 0
        if budget.left(n_gpus) <= 0:
            worked.stopped = "the budget is spent"
            return worked
        request = _next(queue, passed)
        if request is None:
            return worked
        passed.add(request.id)
        began = time.monotonic()
        try:
            with heartbeat(queue, request):
                _one(queue, request, results, settings, how, budget, here, science, worked)
        except BaseException:
            queue.finish(request, "queued", "stopped; what is stored is kept")
            raise
        finally:
            budget.used_gpu_seconds += n_gpus * (time.monotonic() - began)
            queue.write_snapshot(results / "queue.json")


def _next(queue: Queue, passed: set[int]) -> Request | None:
    """The next request that was not tried in this round; others go back as they were."""
    put_back = []
    try:
        while True:
            request = queue.take()
            if request is None or request.id not in passed:
                return request
            put_back.append(request)
    finally:
        for request in put_back:
            queue.finish(request, "queued", request.reason)


def _one(
    queue: Queue,
    request: Request,
    results: Path,
    settings: Settings,
    how: Launch,
    budget: Budget,
    here: Capacity,
    science: str,
    worked: Worked,
) -> None:
    settings = replace(settings, protocol=load_protocol(request.protocol))
    try:
        plan = plan_request(request, results, settings)
    except UserError as error:
        _fail(queue, request, message_of(error), worked)
        return
    workers = choose_workers(how.workers, settings.device, max(1, len(plan.to_run)), here)
    stages = stages_of(plan, settings, workers, Estimator(plan, settings, workers))
    if impossible := too_large(stages, here, 1 << 62):
        _fail(queue, request, impossible[0], worked)
        return
    seconds = sum(stage.needs.seconds or 0.0 for stage in stages) / len(workers.gpus)
    left = budget.left(len(workers.gpus) if workers.on_gpu else 0)
    if seconds > left:
        reason = f"needs about {span(seconds)}, {span(max(0.0, left))} were left"
        queue.finish(request, "queued", reason)
        worked.left.append((request, reason))
        return
    timeout = min(left, how.timeout * 60 if how.timeout else float("inf"))
    with PoolScreen(plan, stages, quiet=how.quiet, verbose=how.verbose) as screen:
        outcome = execute_stages(
            stages,
            results,
            workers,
            screen,
            timeout_seconds=None if timeout == float("inf") else timeout,
            fenced=how.isolation,
            science=science,
        )
    own = [(kind, text) for cell, kind, text in outcome.failed if cell.submission.label == request.submission]
    if own and own[0][0] == "timeout" and timeout == left:
        reason = "the night was over; what is stored is kept"
        queue.finish(request, "queued", reason)
        worked.left.append((request, reason))
    elif own:
        _fail(queue, request, f"{own[0][0]}: {own[0][1]}", worked)
    elif queue.finish(request, "done"):
        worked.done.append(request)


def _fail(queue: Queue, request: Request, reason: str, worked: Worked) -> None:
    if queue.finish(request, "failed", reason[:500]):
        worked.failed.append((request, reason[:500]))


def plan_request(request: Request, results: Path, settings: Settings) -> Plan:
    """The cells of a request with those of the harness' own rows; raises UserError for what cannot be run."""
    facts = task_facts(request.task, request.data)
    submissions: Sequence[Submission] = [request.load(), *facts.rows]
    return make_plan(
        submissions,
        facts.name,
        facts.version,
        facts.dataset,
        settings.protocol,
        results,
        dtype=settings.dtype,
        data=facts.data,
    )


@contextmanager
def heartbeat(queue: Queue, request: Request) -> Iterator[None]:
    """Hold a lease while the block runs, from a thread with a connection of its own."""
    over = threading.Event()

    def beat() -> None:
        own = Queue(queue.path)
        while not over.wait(LEASE_SECONDS / 4):
            own.renew(request)
        own.close()

    thread = threading.Thread(target=beat, name="lease", daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
