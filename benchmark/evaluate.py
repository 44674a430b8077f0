# SPDX-License-Identifier: Apache-2.0
"""The main path: a submission and a data set in, records out. Read it top to bottom as the methods section."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Literal

import torch

from voxelboard.benchmark.environment import Stopwatch, describe_environment
from voxelboard.benchmark.features.store import FeatureStore, default_store_folder
from voxelboard.benchmark.protocol import load_protocol
from voxelboard.benchmark.readers.registry import open_dataset
from voxelboard.benchmark.record_stamps import ProtocolStamp
from voxelboard.benchmark.records import Arrays, Record, record_path, statistics_sha256, write_record
from voxelboard.benchmark.settings import Settings
from voxelboard.benchmark.submission import Submission, load_submission
from voxelboard.benchmark.tasks import load_task
from voxelboard.benchmark.tasks.base import Prepares, RunContext, StageProgress


def evaluate(
    submission: Submission | str | Path,
    task: str = "narrative",
    data: str | None = None,
    subjects: Sequence[str] | None = None,
    *,
    protocol: str = "v1",
    output: Path | str | None = None,
    device: str = "auto",
    dtype: str | None = None,
    batch_size: int | Literal["auto"] = "auto",
    offline: bool = False,
    fresh: bool = False,
    limit: int | None = None,
    features: Sequence[str] = (),
    progress: StageProgress = lambda stage, done, total: None,
) -> list[Record]:
    """Score one submission on one data set; the Python form of ``voxelboard run``.

    Parameters
    ----------
    submission : a submission, its name, a YAML file or a checkpoint folder.
    data : a data set; default that of the task.
    subjects : default all of the data set.
    output : folder of the records; None writes nothing.
    device : ``auto`` (a GPU when there is one), ``cpu``, ``cuda`` or ``cuda:N``.
    fresh : compute stored features again.
    features : of the task narrative: attribution methods beside the states, or ``["attributions"]`` for all.

    Raises
    ------
    UserError
        for what a user can fix: the message says how.
    InvalidNumbers
        when a canary finds something: the numbers would mean nothing.
    """
    entry = submission if isinstance(submission, Submission) else load_submission(submission)
    settings = Settings(
        load_protocol(protocol), device, dtype, batch_size, offline, fresh, limit, features=tuple(features)
    )
    records, data = [], data or load_task(task).default_data
    for record, arrays in measure(entry, task, data, subjects, settings, progress):
        if output is not None:
            record = write_record(
                record_path(Path(output), record, record.dataset.name if record.dataset else data), record, arrays
            )
        records.append(record)
    return records


def measure(
    submission: Submission,
    task_name: str,
    data_name: str,
    subjects: Sequence[str] | None,
    settings: Settings,
    progress: StageProgress = lambda stage, done, total: None,
) -> Iterator[tuple[Record, Arrays]]:
    """Score one submission and yield the record of each subject with its statistics; writes no record."""
    protocol, stopwatch = settings.protocol, Stopwatch()
    task = load_task(task_name)
    store = FeatureStore(default_store_folder(), fresh=settings.fresh)
    context = RunContext(settings, store, choose_device(settings.device), stopwatch, progress)
    with stopwatch.stage("data"):
        progress("data", 0, 0)
        data = open_dataset(data_name, task.name)
        wanted = tuple(data.subjects if subjects is None else subjects)
    for dataset, model, result in task.measure(submission, data, wanted, context):
        record = Record(
            status="success",
            task=task.name,
            task_version=task.version,
            subject=result.subject,
            protocol=ProtocolStamp.of(protocol, task.name),
            dataset=dataset,
            model=model,
            scores=result.scores,
            by_roi=result.by_roi,
            layers=result.layers,
            facets=result.facets,
            attribution=result.attribution,
            checks=result.checks,
            statistics_sha256=statistics_sha256(result.arrays),
            partial=settings.partial,
            environment=describe_environment(stopwatch, context.device, settings.batch_size),
        )
        yield record, result.arrays


def prepare(
    submission: Submission,
    task_name: str,
    data_name: str,
    settings: Settings,
    progress: StageProgress = lambda stage, done, total: None,
) -> bool:
    """Fill the feature store with what :func:`measure` will read from it, whoever the subjects are.

    Returns False, and does nothing, for a task that has no such stage.
    """
    task = load_task(task_name)
    if not isinstance(task, Prepares):
        return False
    store = FeatureStore(default_store_folder(), fresh=settings.fresh)
    context = RunContext(settings, store, choose_device(settings.device), Stopwatch(), progress)
    progress("data", 0, 0)
    task.prepare(submission, open_dataset(data_name, task.name), context)
    return True


def choose_device(name: str) -> torch.device:
    """``auto`` is the first GPU, or the CPU where there is none."""
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    return torch.device(name)
