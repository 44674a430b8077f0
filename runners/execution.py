# SPDX-License-Identifier: Apache-2.0
"""Runs a plan on this machine, each stage in a process of its own, with the weights fetched before."""

import os
import sys
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Literal, Self

from voxelboard.benchmark.errors import MissingPrerequisite, UserError
from voxelboard.benchmark.features.store import default_store_folder
from voxelboard.benchmark.readers.registry import own_folder, registered_datasets, voxelboard_home
from voxelboard.benchmark.settings import Settings
from voxelboard.benchmark.submission import Submission
from voxelboard.runners.capacity import Capacity
from voxelboard.runners.local import Outcome
from voxelboard.runners.plan import Plan
from voxelboard.runners.staging import Workers
from voxelboard.runners.workers.child import SCIENCE
from voxelboard.runners.workers.pool import PoolPolicy, PoolReporter, run_stages
from voxelboard.runners.workers.stages import Stage

_MOST_CPU_WORKERS = 8
_FETCHES_AT_ONCE = 2


def can_fork() -> bool:
    """Whether processes can be forked from one that has imported PyTorch: on Linux."""
    return sys.platform == "linux"


def choose_workers(asked: int | Literal["auto"], device: str, n_cells: int, here: Capacity) -> Workers:
    """How many processes at once, on what: one for each GPU, or on the CPU as many as there are cores and work.

    Raises
    ------
    MissingPrerequisite
        for a GPU that is not there.
    """
    kind, _, index = device.partition(":")
    gpus = sorted(here.gpu_bytes) if kind in ("auto", "cuda") else []
    if kind == "cuda" and not gpus:
        raise MissingPrerequisite(f"device {device} was asked for, but there is no GPU", "use --device cpu")
    if index:
        if int(index) not in gpus:
            raise MissingPrerequisite(f"there is no GPU {index}, only {', '.join(map(str, gpus))}")
        gpus = [int(index)]
    most = len(gpus) or min(here.n_cores, _MOST_CPU_WORKERS)
    n_workers = max(1, min(most if asked == "auto" else asked, n_cells))
    slots: tuple[int | None, ...] = tuple(gpus[i % len(gpus)] if gpus else None for i in range(n_workers))
    given = os.environ.get("OMP_NUM_THREADS", "")
    threads = int(given) if given.isdecimal() and int(given) > 0 else max(1, here.n_cores // n_workers)
    return Workers(slots, threads, here.free_bytes)


def execute_stages(
    stages: Sequence[Stage],
    results: Path,
    workers: Workers,
    reporter: PoolReporter,
    *,
    timeout_seconds: float | None = None,
    fenced: bool = True,
    science: str = SCIENCE,
) -> Outcome:
    """Run stages on this machine; see :func:`~voxelboard.runners.workers.pool.run_stages`."""
    cache = default_store_folder().parent
    policy = PoolPolicy(
        gpus=workers.gpus,
        threads=workers.threads,
        memory_bytes=workers.memory_bytes,
        work=(results / ".work").resolve(),
        cache=cache.resolve(),
        timeout_seconds=timeout_seconds,
        fenced=fenced,
        science=science,
        read=tuple(_readable(stages)),
        preload=(
            "voxelboard.runners.science",
            *sorted({f"voxelboard.benchmark.tasks.{stage.job.task}" for stage in stages}),
        ),
    )
    with Fetcher(stages, enabled=fenced) as fetcher:
        return run_stages(stages, policy, reporter, fetcher)


def _readable(stages: Sequence[Stage]) -> list[Path]:
    """Where the data, the user's settings and the weights lie."""
    from huggingface_hub.constants import HF_HOME, HF_HUB_CACHE

    own = [own_folder(name) for name in {stage.job.data for stage in stages}]
    folders = [*registered_datasets().values(), voxelboard_home(), Path(HF_HUB_CACHE), Path(HF_HOME) / "datasets"]
    return [folder.resolve() for folder in (*folders, *(one for one in own if one)) if folder.exists()]


class Fetcher:
    """Brings weights into the cache before a model is shut in, beside what runs. A context manager.

    Parameters
    ----------
    enabled : False when processes are not shut in: they fetch by themselves.
    """

    def __init__(self, stages: Sequence[Stage], *, enabled: bool) -> None:
        self._threads = ThreadPoolExecutor(_FETCHES_AT_ONCE, thread_name_prefix="fetch")
        self._pending: dict[str, Future[None]] = {}
        for stage in stages:
            submission = stage.job.submission
            if enabled and needs_fetching(submission, stage.settings) and submission.label not in self._pending:
                self._pending[submission.label] = self._threads.submit(fetch_weights, submission)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self._threads.shutdown(wait=False, cancel_futures=True)

    def ready(self, submission: Submission) -> bool:
        """Whether its weights are there, or will never be."""
        pending = self._pending.get(submission.label)
        return pending is None or pending.done()

    def failure(self, submission: Submission) -> BaseException | None:
        """Why they will never be."""
        pending = self._pending.get(submission.label)
        return pending.exception() if pending is not None and pending.done() else None

    def fetched(self, submission: Submission) -> bool:
        """Whether they were brought here: the model is then loaded from the cache."""
        return submission.label in self._pending


def needs_fetching(submission: Submission, settings: Settings) -> bool:
    """Whether a model's files may have to come over the network."""
    return submission.model.source == "hf" and not settings.offline


def fetch_weights(submission: Submission) -> None:
    """Bring weights, configuration and tokenizer into the hub's cache; pickled weights are refused before.

    Raises
    ------
    UserError, MissingPrerequisite
        as the loading of the model.
    """
    from voxelboard.benchmark.models.checkpoint import open_checkpoint
    from voxelboard.benchmark.submission import model_spec

    spec = model_spec(submission)
    if spec.loader == "static":
        raise UserError(f"{submission.label}: static vectors are read from a local file")
    open_checkpoint(spec, offline=False, cache_dir=None, with_weights=submission.weights == "pretrained")


def describe_workers(plan: Plan, workers: Workers) -> str:
    """What the run starts with, for people."""
    if workers.on_gpu:
        names = sorted({gpu for gpu in workers.gpus if gpu is not None})
        return f"on GPU {', '.join(map(str, names))}, {len(workers.gpus)} at a time"
    heavy = any(job.submission.model.source in ("hf", "local") for job in plan.jobs)
    slow = ": large models take hours there" if heavy else ""
    at_once = "one process" if len(workers.gpus) == 1 else f"{len(workers.gpus)} processes at a time"
    return f"no GPU, so on the CPU{slow}; {at_once} with {workers.threads} threads each"
