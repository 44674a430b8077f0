# SPDX-License-Identifier: Apache-2.0
"""``voxelboard status``: which cells are stored, failed, stale or missing."""

from collections import Counter
from typing import TYPE_CHECKING

from voxelboard.runners.console import put, put_json, put_table
from voxelboard.runners.options import (
    DEFAULT_OUTPUT,
    Data,
    Features,
    Json,
    Models,
    Output,
    ProtocolName,
    Subjects,
    Tasks,
    Verbose,
    split_names,
)

if TYPE_CHECKING:
    from voxelboard.runners.plan import Cell
    from voxelboard.runners.slurm.listing import ClusterJob


def status(
    model: Models = None,
    tasks: Tasks = None,
    data: Data = None,
    subjects: Subjects = None,
    features: Features = None,
    output: Output = DEFAULT_OUTPUT,
    protocol: ProtocolName = "v1",
    as_json: Json = False,
    verbose: Verbose = False,
) -> None:
    """What of a run is stored, what failed and why, what is missing. Takes the same flags as `run`."""
    from voxelboard.benchmark.protocol import load_protocol
    from voxelboard.runners.planning import plan_run
    from voxelboard.runners.slurm.listing import cluster_jobs

    names, chosen = split_names(tasks), split_names(subjects)
    plan = plan_run(
        model, names, data, chosen, output, load_protocol(protocol), features=tuple(split_names(features) or ())
    )
    jobs = cluster_jobs(output)
    if as_json:
        cells = [
            {
                "submission": cell.submission.label,
                "row": cell.row,
                "task": cell.task,
                "dataset": cell.dataset,
                "subject": cell.subject,
                "state": cell.state,
                "note": cell.note,
                "job": _job_json(jobs.get(_place(cell))),
                "record": str(cell.path),
            }
            for cell in plan.cells
        ]
        put_json({"cells": cells, "counts": Counter(cell.state for cell in plan.cells)})
        return
    shown = plan.cells if verbose else tuple(cell for cell in plan.cells if cell.state in ("failed", "stale"))
    by_model: dict[tuple[str, str], Counter[str]] = {}
    for cell in plan.cells:
        by_model.setdefault((cell.submission.label, cell.task), Counter())[cell.state] += 1
    rows = [
        (label, task, *(str(counts[state]) for state in ("stored", "failed", "stale", "missing")))
        for (label, task), counts in by_model.items()
    ]
    put_table(("model", "task", "stored", "failed", "stale", "missing"), rows, right=(2, 3, 4, 5))
    for cell in shown:
        put(f"{cell.state}: {cell.label}{': ' if cell.note else ''}{cell.note}")
    for cell in plan.to_run:
        job = jobs.get(_place(cell))
        if job is not None:
            put(f"job {job.id} {job.state}: {cell.label}: {job.log}")
    put(plan.summary())


def _place(cell: "Cell") -> tuple[str, str, str, str]:
    return (cell.submission.label, cell.task, cell.data, cell.subject)


def _job_json(job: "ClusterJob | None") -> dict[str, str] | None:
    return None if job is None else {"id": job.id, "state": job.state, "log": str(job.log)}
