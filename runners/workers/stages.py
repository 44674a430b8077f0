# SPDX-License-Identifier: Apache-2.0
"""A stage: what one process does. Either the features of one model on one stimulus, or the scores of some cells of it.

Stages are plain JSON, so that a process on this machine and a job on a cluster get the same file. A stage is known by
its key, a string that says what it is.
"""

import json
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from voxelboard.benchmark.protocol import TaskName, load_protocol
from voxelboard.benchmark.records import slug
from voxelboard.benchmark.redaction import without_secrets
from voxelboard.benchmark.settings import Settings
from voxelboard.benchmark.submission import Submission
from voxelboard.runners.plan import Cell, Job

Kind = Literal["features", "scores"]

# What `auto` becomes after memory ran out: `auto` fills what it believes to be free, so its half is not known.
_AUTO_HALVED = 4


@dataclass(frozen=True)
class Needs:
    """What a stage is expected to take; None where it cannot be told.

    Attributes
    ----------
    seconds : wall time on one worker.
    host_bytes, device_bytes, disk_bytes : peak host memory, peak GPU memory (0 on a CPU), what it leaves on disk.
    """

    seconds: float | None = None
    host_bytes: int | None = None
    device_bytes: int | None = None
    disk_bytes: int | None = None


@dataclass(frozen=True)
class Stage:
    """One process' worth of work.

    Attributes
    ----------
    kind : ``features``: fill the store with what all cells of the model on this stimulus need. ``scores``: the cells.
    cells : that hang on the stage; with the kind ``features`` they only say for whom it is done.
    after : keys of the stages that must end before.
    attempt : 1, or 2 for the one retry.
    """

    kind: Kind
    cells: tuple[Cell, ...]
    settings: Settings
    after: tuple[str, ...] = ()
    needs: Needs = field(default_factory=Needs)
    attempt: int = 1

    @property
    def job(self) -> Job:
        first = self.cells[0]
        return Job(first.submission, first.revision, first.task, first.dataset, self.cells)

    @property
    def key(self) -> str:
        """``scores/org__name/rev12/task/dataset/subjects[/retry]``."""
        first = self.cells[0]
        what = "+".join(cell.subject for cell in self.cells) if self.kind == "scores" else "all"
        retry = "" if self.attempt == 1 else "/retry"
        place = (slug(first.submission.label), slug(first.revision[:12]), first.task, slug(first.data or first.dataset))
        return f"{self.kind}/{'/'.join(place)}/{what}{retry}"

    @property
    def label(self) -> str:
        """For people."""
        first = self.cells[0]
        who = f"{len(self.cells)} subjects" if len(self.cells) > 1 else first.subject
        return f"{first.submission.label} · {first.task} · {'features' if self.kind == 'features' else who}"

    def split(self, waiting: tuple[Cell, ...], *, halve: bool) -> Iterator["Stage"]:
        """The retry: each cell that is still waiting by itself, at half the batch when memory ran out."""
        settings = self.settings
        if halve:
            size = settings.batch_size
            settings = replace(settings, batch_size=_AUTO_HALVED if size == "auto" else max(1, size // 2))
        for cell in waiting:
            yield replace(self, cells=(cell,), settings=settings, attempt=self.attempt + 1)

    def to_json(self) -> str:
        """Everything but where the records belong: the process writes into a folder of its own."""
        first = self.cells[0]
        settings = {name: value for name, value in asdict(self.settings).items() if name != "protocol"}
        content = {
            "kind": self.kind,
            "submission": first.submission.model_dump(mode="json"),
            "revision": first.revision,
            "task": first.task,
            "task_version": first.task_version,
            "dataset": first.dataset,
            "data": first.data,
            "subjects": [cell.subject for cell in self.cells],
            "protocol": self.settings.protocol.name,
            "settings": settings,
            "command": [without_secrets(word) for word in sys.argv],
        }
        return json.dumps(content, sort_keys=True)

    @staticmethod
    def command_of(text: str) -> list[str]:
        """The command that the stage of a file is part of, as a record carries it."""
        return [str(word) for word in json.loads(text)["command"]]

    @staticmethod
    def from_json(text: str, folder: Path) -> "Stage":
        """The stage of a file, with its records in ``folder``."""
        content = json.loads(text)
        submission = Submission.model_validate(content["submission"])
        task: TaskName = content["task"]
        cells = tuple(
            Cell(
                submission,
                content["revision"],
                task,
                content["task_version"],
                content["dataset"],
                subject,
                outbox(folder, subject),
                "missing",
                data=content["data"],
            )
            for subject in content["subjects"]
        )
        plain = {**content["settings"], "features": tuple(content["settings"]["features"])}
        settings = Settings(protocol=load_protocol(content["protocol"]), **plain)
        return Stage(content["kind"], cells, settings)


def outbox(folder: Path, subject: str) -> Path:
    """Where a process leaves the record of a subject; not ``.json``, so that nobody takes it for a result."""
    return folder / f"{slug(subject)}.record"


def stage_file(folder: Path) -> Path:
    """Where a process finds its stage."""
    return folder / "stage"


def send_line(event: dict[str, Any]) -> bytes:
    """An event as one line of JSON."""
    return json.dumps(event, allow_nan=False).encode() + b"\n"
