# SPDX-License-Identifier: Apache-2.0
"""``voxelboard queue add|ls|retry|cancel|work``: models that wait to be scored."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from voxelboard.runners.console import put, put_json, put_table
from voxelboard.runners.options import (
    DEFAULT_OUTPUT,
    DEFAULT_TASK,
    BatchSize,
    Data,
    Device,
    Dtype,
    Isolation,
    Json,
    NWorkers,
    Offline,
    Output,
    ProtocolName,
    Quiet,
    Tasks,
    Timeout,
    TrustRemoteCode,
    Verbose,
    split_names,
)

if TYPE_CHECKING:
    from voxelboard.runners.queueing.store import Queue

queue_app = typer.Typer(help="Models that wait to be scored.", no_args_is_help=True)

Names = Annotated[
    list[str], typer.Argument(help="Ids, names or states of requests, as `ls` shows them.", metavar="REQUEST...")
]
Hours = Annotated[
    float | None,
    typer.Option("--hours", envvar="VOXELBOARD_HOURS", min=0.0, help="Stop after so many hours. [default: none]"),
]
GpuHours = Annotated[
    float | None,
    typer.Option("--gpu-hours", envvar="VOXELBOARD_GPU_HOURS", min=0.0, help="The same, of all GPUs together."),
]


def open_queue(output: Path) -> "Queue":
    """The queue of a results folder."""
    from voxelboard.runners.queueing.store import Queue

    return Queue(output / ".queue.sqlite3")


@queue_app.command()
def add(
    models: Annotated[list[str], typer.Argument(help="Submissions by name or file.", metavar="MODEL...")],
    tasks: Tasks = None,
    data: Data = None,
    output: Output = DEFAULT_OUTPUT,
    protocol: ProtocolName = "v1",
) -> None:
    """Queue submissions. What is queued already stays as it is; what was cancelled comes back."""
    from voxelboard.benchmark.protocol import load_protocol
    from voxelboard.benchmark.readers.registry import task_of
    from voxelboard.benchmark.revision import resolved_revision
    from voxelboard.runners.facts import task_facts
    from voxelboard.runners.selection import select_submissions

    name, queue = load_protocol(protocol).name, open_queue(output)
    for task in split_names(tasks) or [task_of(data) if data else DEFAULT_TASK]:
        facts = task_facts(task, data)
        for submission in select_submissions(models, facts.dataset, task, facts.rows):
            new = queue.add(submission, resolved_revision(submission), task, facts.data, name, "user")
            put(f"{'queued' if new else 'there already'}: {submission.label} · {task} · {facts.data}")
    queue.write_snapshot(output / "queue.json")


@queue_app.command("ls")
def list_requests(
    state: Annotated[
        str | None, typer.Option("--state", envvar="VOXELBOARD_STATE", help="Only requests of this state.")
    ] = None,
    output: Output = DEFAULT_OUTPUT,
    as_json: Json = False,
) -> None:
    """Requests in the order in which they are taken: queued, running, done, failed (why), cancelled."""
    queue = open_queue(output)
    found = queue.requests(state)
    if as_json:
        put_json({**queue.snapshot(), "requests": [one.public() for one in found]})
        return
    rows = [
        (str(one.id), one.submission, one.revision[:12], one.task, one.data, one.state, one.reason) for one in found
    ]
    put_table(("id", "model", "revision", "task", "data", "state", "why"), rows, right=(0,))


@queue_app.command()
def retry(names: Names, output: Output = DEFAULT_OUTPUT) -> None:
    """Queue again what failed or was cancelled. `retry failed` means all that failed."""
    queue = open_queue(output)
    for request in queue.retry(names):
        put(f"queued: {request.submission} · {request.task} · {request.data}")
    queue.write_snapshot(output / "queue.json")


@queue_app.command()
def cancel(names: Names, output: Output = DEFAULT_OUTPUT) -> None:
    """Cancel what waits. One that runs keeps the cells that are stored, and is not marked done."""
    queue = open_queue(output)
    for request in queue.cancel(names):
        put(f"cancelled: {request.submission} · {request.task} · {request.data}")
    queue.write_snapshot(output / "queue.json")


@queue_app.command()
def work(
    hours: Hours = None,
    gpu_hours: GpuHours = None,
    output: Output = DEFAULT_OUTPUT,
    device: Device = "auto",
    dtype: Dtype = None,
    batch_size: BatchSize = "auto",
    offline: Offline = False,
    trust_remote_code: TrustRemoteCode = False,
    workers: NWorkers = "auto",
    timeout: Timeout = None,
    isolation: Isolation = True,
    verbose: Verbose = False,
    quiet: Quiet = False,
) -> None:
    """Score what waits, the smallest first, until nothing is left or the time is over."""
    from voxelboard.runners.launching import Launch, checked_settings
    from voxelboard.runners.queueing.work import Budget
    from voxelboard.runners.queueing.work import work as work_through

    settings = checked_settings("v1", device, dtype, batch_size, offline, False, None, trust_remote_code)
    how = Launch.checked("local", workers, timeout, isolation, None, quiet=quiet, verbose=verbose)
    budget = Budget(hours * 3600 if hours is not None else None, gpu_hours * 3600 if gpu_hours is not None else None)
    queue = open_queue(output)
    worked = work_through(queue, output, settings, how, budget)
    for request, reason in worked.failed:
        put(f"failed: {request.submission} · {request.task} · {request.data}: {reason}")
    put(
        f"{len(worked.done)} done, {len(worked.failed)} failed, {len(queue.requests('queued'))} wait{worked.stopped and f'; {worked.stopped}'}"
    )
    raise typer.Exit(1 if worked.failed else 0)
