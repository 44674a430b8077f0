# SPDX-License-Identifier: Apache-2.0
"""``voxelboard list submissions|tasks|data|protocols``."""

import typer

from voxelboard.runners.console import put_json, put_table
from voxelboard.runners.options import Json

list_app = typer.Typer(help="List submissions, tasks, data sets and protocols.", no_args_is_help=True)


@list_app.command()
def submissions(as_json: Json = False) -> None:
    """The submissions that come with voxelboard."""
    from voxelboard.benchmark.submission import list_submissions

    entries = list_submissions()
    if as_json:
        put_json([entry.model_dump(mode="json", exclude_none=True) for entry in entries])
        return
    rows = [
        (
            entry.label,
            entry.model.loader,
            (entry.model.revision or entry.model.id or "")[:12],
            f"{entry.metadata.n_parameters:,}" if entry.metadata.n_parameters else "",
            entry.metadata.licence,
            ", ".join(entry.tasks),
        )
        for entry in entries
    ]
    put_table(("name", "loader", "revision", "parameters", "licence", "tasks"), rows, right=(3,))


@list_app.command()
def tasks(as_json: Json = False) -> None:
    """The tasks, and the data sets that each can be run on."""
    from voxelboard.benchmark.readers.cards import list_cards, load_card
    from voxelboard.benchmark.readers.registry import tasks_on
    from voxelboard.benchmark.tasks import TASKS

    data = {task: [name for name in list_cards() if task in tasks_on(load_card(name).task)] for task in TASKS}
    if as_json:
        put_json([{"task": task, "datasets": names} for task, names in data.items()])
        return
    put_table(("task", "data sets"), [(task, ", ".join(names)) for task, names in data.items()])


@list_app.command()
def data(as_json: Json = False) -> None:
    """The data sets, and which of them are on this machine."""
    from voxelboard.runners.commands.data import put_datasets

    put_datasets(as_json)


@list_app.command()
def protocols(as_json: Json = False) -> None:
    """The frozen protocols with their hashes."""
    from voxelboard.benchmark.protocol import PROTOCOLS, TASK_SECTIONS

    if as_json:
        put_json(
            [
                {
                    "name": p.name,
                    "hashes": {task: p.hash_of(task) for task in TASK_SECTIONS},
                    "ranked": p.scored,
                    **p.constants(),
                }
                for p in PROTOCOLS.values()
            ]
        )
        return
    rows = [
        (p.name, task, p.hash_of(task), "ranked" if p.scored else "for comparison")
        for p in PROTOCOLS.values()
        for task in TASK_SECTIONS
    ]
    put_table(("name", "task", "hash", "use"), rows)
