# SPDX-License-Identifier: Apache-2.0
"""From a plan to stages: what runs in one process, what it needs, and in which order. The smallest comes first.

The subjects of a model share a process, because they share its features and, where they heard the same stories, the
factorisation of its design (docs/benchmarks.md). They are split when there are more workers than models, or when their
responses do not fit into memory together; then a stage of its own makes the features first, once for all of them. A second
task on the same stimuli waits for the features of the first, and finds them in the store.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from math import ceil
from typing import Any

from voxelboard.benchmark.encoding.memory import BASE_BYTES
from voxelboard.benchmark.errors import DataError
from voxelboard.benchmark.records import read_record
from voxelboard.benchmark.settings import Settings
from voxelboard.benchmark.tasks.work import ModelSize, Work
from voxelboard.runners.capacity import Capacity
from voxelboard.runners.estimates import calibrate, calibration, feature_needs, needs_of, size_of
from voxelboard.runners.plan import Cell, Job, Plan
from voxelboard.runners.workers.stages import Needs, Stage

_MOST_CALIBRATION_RECORDS = 40


@dataclass(frozen=True)
class Workers:
    """How stages are run: the GPU of each worker (None: the CPU), threads of each, and host memory for all together."""

    gpus: tuple[int | None, ...]
    threads: int
    memory_bytes: int

    @property
    def on_gpu(self) -> bool:
        return self.gpus[0] is not None


class Estimator:
    """Estimates for the cells of one plan; remembers what it looked up."""

    def __init__(self, plan: Plan, settings: Settings, workers: Workers) -> None:
        self._settings, self._workers = settings, workers
        self._sizes: dict[str, ModelSize | None] = {}
        self._open: Callable[[str, str], tuple[Any, Any]] = cache(_open)
        self._factors = self._calibrate(plan)

    def needs(self, cells: Sequence[Cell], *, stored: bool = False) -> Needs:
        """Of the scores of some cells of one model, with its features; ``stored``: without them."""
        first = cells[0]
        return calibrate(self._expected(cells, stored=stored), self._factors.get((first.task, first.data)))

    def feature_needs(self, cells: Sequence[Cell]) -> Needs:
        """Of the features of a model alone."""
        first, workers = cells[0], self._workers
        counted = self._work(cells[:1])
        if counted is None:
            return Needs()
        expected = feature_needs(*counted, workers.threads, BASE_BYTES, gpu=workers.on_gpu)
        return calibrate(expected, self._factors.get((first.task, first.data)))

    @property
    def calibrated(self) -> bool:
        """Whether stored cells corrected the times."""
        return bool(self._factors)

    def _expected(self, cells: Sequence[Cell], *, stored: bool = False) -> Needs:
        counted = self._work(cells)
        if counted is None:
            return Needs()
        return needs_of(*counted, len(cells), self._workers.threads, gpu=self._workers.on_gpu, stored=stored)

    def _work(self, cells: Sequence[Cell]) -> tuple[Work, ModelSize] | None:
        """None for a model of unknown size."""
        first, settings = cells[0], self._settings
        label = first.submission.label
        if label not in self._sizes:
            self._sizes[label] = size_of(
                first.submission,
                settings.protocol,
                offline=settings.offline,
                allow_remote_code=settings.allow_remote_code,
            )
        size = self._sizes[label]
        if size is None:
            return None
        task, data = self._open(first.task, first.data)
        subjects = [cell.subject for cell in cells]
        return task.work(data, subjects, size, settings.protocol, on_gpu=self._workers.on_gpu), size

    def _calibrate(self, plan: Plan) -> Mapping[tuple[str, str], float]:
        jobs: dict[tuple[str, str], dict[str, list[Cell]]] = {}
        for cell in plan.stored[:_MOST_CALIBRATION_RECORDS]:
            jobs.setdefault((cell.task, cell.data), {}).setdefault(cell.submission.label, []).append(cell)
        factors = {}
        for place, models in jobs.items():
            pairs = []
            for cells in models.values():
                try:
                    records = [read_record(cell.path) for cell in cells]
                except DataError:
                    continue
                seconds = [sum(one.environment.seconds.values()) if one.environment else 0.0 for one in records]
                pairs.append((self._expected(cells), records[seconds.index(max(seconds))]))
            factor = calibration(pairs)
            if factor is not None:
                factors[place] = factor
        return factors


def _open(task: str, data: str) -> tuple[Any, Any]:
    from voxelboard.benchmark.readers.registry import open_dataset
    from voxelboard.benchmark.tasks import load_task

    return load_task(task), open_dataset(data, task)


def stages_of(plan: Plan, settings: Settings, workers: Workers, estimator: Estimator | None = None) -> list[Stage]:
    """The stages of a plan, the smallest first. ``estimator``: None leaves all needs open."""
    settings = replace(settings, device="cuda" if workers.on_gpu else "cpu")
    stages: list[tuple[float, list[Stage]]] = []
    reads: dict[tuple[str, str], str] = {}  # (model, data) -> key of the stage that reads the stimuli first
    n_jobs = len(plan.jobs)
    for number, job in enumerate(plan.jobs):
        groups = _groups(job, ceil(len(workers.gpus) / max(1, n_jobs)), workers, estimator)
        made = _stages_of_job(job, groups, settings, estimator)
        place = (job.submission.label, job.data)
        if not job.submission.is_baseline:
            if place in reads:
                made[0] = replace(made[0], after=(*made[0].after, reads[place]))
            reads.setdefault(place, made[0].key)
        seconds = sum(stage.needs.seconds or 0.0 for stage in made)
        # what is not known goes by its number of parameters, behind what is known
        unknown = any(stage.needs.seconds is None for stage in made) and estimator is not None
        weight = 1e12 + (job.submission.metadata.n_parameters or 0) if unknown else seconds
        stages.append((weight + number * 1e-9, made))
    return [stage for _, made in sorted(stages, key=lambda item: item[0]) for stage in made]


def _stages_of_job(
    job: Job, groups: list[tuple[Cell, ...]], settings: Settings, estimator: Estimator | None
) -> list[Stage]:
    def needs(cells: Sequence[Cell], *, stored: bool = False) -> Needs:
        return estimator.needs(cells, stored=stored) if estimator else Needs()

    # the harness' own rows have next to no features
    if len(groups) == 1 or job.submission.is_baseline:
        return [Stage("scores", group, settings, needs=needs(group)) for group in groups]
    expected = estimator.feature_needs(job.cells) if estimator else Needs()
    first = Stage("features", job.cells, settings, needs=expected)
    stored = replace(settings, fresh=False)  # made afresh once is enough
    return [first, *(Stage("scores", group, stored, (first.key,), needs(group, stored=True)) for group in groups)]


def _groups(job: Job, n_wanted: int, workers: Workers, estimator: Estimator | None) -> list[tuple[Cell, ...]]:
    """The cells of a job in as many groups as workers wait for it, and more where they do not fit into memory."""
    n_groups = min(len(job.cells), max(1, n_wanted))
    while n_groups < len(job.cells) and estimator is not None:
        needed = max(estimator.needs(group).host_bytes or 0 for group in _deal(job.cells, n_groups))
        if needed <= workers.memory_bytes:
            break
        n_groups += 1
    return _deal(job.cells, n_groups)


def _deal(cells: tuple[Cell, ...], n_groups: int) -> list[tuple[Cell, ...]]:
    size = ceil(len(cells) / n_groups)
    return [cells[start : start + size] for start in range(0, len(cells), size)]


def too_large(stages: Sequence[Stage], here: Capacity, free_disk: int) -> list[str]:
    """What cannot fit on this machine, a line each: the stage, what it needs, what there is."""
    lines = []
    largest_gpu = max(here.gpu_bytes.values(), default=0)
    for stage in stages:
        for what, need, there in (
            ("host memory", stage.needs.host_bytes, here.host_bytes),
            ("GPU memory", stage.needs.device_bytes, largest_gpu),
        ):
            if need and need > there:
                lines.append(f"{stage.label} needs about {gib(need)} of {what}, {gib(there)} are there")
    disk = sum(stage.needs.disk_bytes or 0 for stage in stages)
    if disk > free_disk:
        lines.append(f"the run needs about {gib(disk)} of disk, {gib(free_disk)} are free")
    return lines


def gib(n_bytes: float) -> str:
    """``21.0 GiB``, ``35 MiB``."""
    return f"{n_bytes / 2**30:.1f} GiB" if n_bytes >= 2**30 / 10 else f"{n_bytes / 2**20:.0f} MiB"
