# SPDX-License-Identifier: Apache-2.0
"""From the flags of ``run`` and ``status`` to a plan."""

from pathlib import Path

from voxelboard.benchmark.protocol import Protocol
from voxelboard.benchmark.readers.registry import task_of
from voxelboard.runners.facts import task_facts
from voxelboard.runners.options import DEFAULT_TASK
from voxelboard.runners.plan import Cell, Plan, make_plan
from voxelboard.runners.selection import select_submissions


def plan_run(
    models: list[str] | None,
    tasks: list[str] | None,
    data: str | None,
    subjects: list[str] | None,
    results: Path,
    protocol: Protocol,
    *,
    dtype: str | None = None,
    partial: bool = False,
    fresh: bool = False,
    features: tuple[str, ...] = (),
) -> Plan:
    """Plan the asked models, with the mandatory rows, on each task; raises UserError for whatever cannot be run.

    Without ``data`` each task has its own; without ``tasks`` the data set says which task is meant.
    """
    cells: list[Cell] = []
    for task in [task_facts(name, data) for name in tasks or [task_of(data) if data else DEFAULT_TASK]]:
        facts = task.dataset
        asked = select_submissions(models, facts, task.name, task.rows)
        # a score is read against the mandatory rows; these need no others
        rows = [] if all(entry.is_baseline for entry in asked) else task.rows
        submissions = [*asked, *(row for row in rows if row not in asked)]
        planned = make_plan(
            submissions,
            task.name,
            task.version,
            facts,
            protocol,
            results,
            subjects=subjects,
            dtype=dtype,
            partial=partial,
            data=task.data,
            features=features,
        )
        cells.extend(planned.cells)
    return Plan(tuple(cells), fresh)
