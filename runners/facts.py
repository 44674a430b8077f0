# SPDX-License-Identifier: Apache-2.0
"""What a plan must know of a task and a data set, remembered between runs.

Opening a data set and importing a task takes seconds; ``status`` of 10,000 cells should not. An answer holds as long as
nothing changed that it was made from: our code, the cards, where data sets lie, and the files of a data set of your own.
"""

import json
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from voxelboard import _resources, benchmark
from voxelboard.benchmark.atomic import replace_file
from voxelboard.benchmark.features.store import default_store_folder
from voxelboard.benchmark.protocol import TaskName, hash_json
from voxelboard.benchmark.readers.base import DatasetFacts, facts_of
from voxelboard.benchmark.readers.registry import open_dataset, own_folder, registered_datasets
from voxelboard.benchmark.submission import Submission
from voxelboard.benchmark.tasks import load_task

_MOST_ANSWERS = 64


@dataclass(frozen=True)
class TaskFacts:
    """A task on a data set.

    Attributes
    ----------
    data : the data set as the user named it, or the task's own.
    rows : the harness' own rows, without which a score cannot be read.
    """

    name: TaskName
    version: int
    data: str
    dataset: DatasetFacts
    rows: tuple[Submission, ...]


def task_facts(task: str, data: str | None) -> TaskFacts:
    """Of ``task`` on ``data``, default its own; raises UserError for what does not exist or does not fit."""
    key = hash_json({"task": task, "data": data or "", "from": list(_made_from(data))})
    known = _read()
    if key in known:
        with suppress(KeyError, TypeError, ValueError):
            return _from_json(known[key])
    found = _look_up(task, data)
    answers = {**dict(list(known.items())[1 - _MOST_ANSWERS :]), key: _to_json(found)}
    with suppress(OSError):  # then it is looked up again the next time
        replace_file(_file(), lambda file: file.write(json.dumps(answers).encode()))
    return found


def _look_up(name: str, data: str | None) -> TaskFacts:
    task = load_task(name)
    named = data or task.default_data
    dataset = facts_of(open_dataset(named, task.name))
    return TaskFacts(task.name, task.version, named, dataset, tuple(task.mandatory_rows(dataset)))


def _to_json(found: TaskFacts) -> dict[str, Any]:
    rows = [row.model_dump(mode="json", exclude_none=True) for row in found.rows]
    return {**asdict(found), "rows": rows}


def _from_json(value: dict[str, Any]) -> TaskFacts:
    dataset = value["dataset"]
    rows = tuple(Submission.model_validate(row) for row in value["rows"])
    facts = DatasetFacts(**{**dataset, "subjects": tuple(dataset["subjects"])})
    return TaskFacts(value["name"], value["version"], value["data"], facts, rows)


def _made_from(data: str | None) -> Iterator[list[Any]]:
    """Name, size and time of change of everything that an answer depends on."""
    for room in benchmark.__path__:
        yield from _stamps(Path(room), "*.py")
    yield from _stamps(_resources.cards_folder(), "*.yaml")
    for name, folder in registered_datasets().items():
        yield [name, str(folder), folder.stat().st_mtime_ns if folder.exists() else 0]
    own = own_folder(data) if data else None
    if own is not None:
        yield from _stamps(own, "*")


def _stamps(folder: Path, pattern: str) -> Iterator[list[Any]]:
    for path in sorted(folder.rglob(pattern)):
        status = path.stat()
        yield [str(path), status.st_size, status.st_mtime_ns]


def _file() -> Path:
    return default_store_folder().parent / "facts.json"


def _read() -> dict[str, Any]:
    try:
        content = json.loads(_file().read_bytes())
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}
