# SPDX-License-Identifier: Apache-2.0
"""Which cells a run asks for, and which of them are stored already.

A cell is (submission, task, data set, subject): the unit of planning, execution, resume and failure. Its record is
its checkpoint: a cell is stored when a successful record of the same protocol, model revision and data set version
lies where the run would write it.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from voxelboard.benchmark.errors import DataError, UserError, unknown_name
from voxelboard.benchmark.features.methods import choose_methods
from voxelboard.benchmark.protocol import Protocol, TaskName, hash_json
from voxelboard.benchmark.readers.base import DatasetFacts
from voxelboard.benchmark.records import cells_folder, revision_folder, slug
from voxelboard.benchmark.revision import resolved_revision
from voxelboard.benchmark.submission import Submission, check_distinct
from voxelboard.runners.index import RecordIndex, RecordSummary, summarise

CellState = Literal["stored", "failed", "stale", "missing"]


@dataclass(frozen=True)
class Cell:
    """One cell and where its record belongs.

    Attributes
    ----------
    revision : resolved, as the record carries it.
    state : ``stored``: done. ``failed``: its record holds an error. ``stale``: its record is of another protocol,
        revision or data set version, or damaged. ``missing``: there is none.
    note : for all but ``stored`` and ``missing``, why.
    data : the data set as the user named it, with its preset or variant.
    """

    submission: Submission
    revision: str
    task: TaskName
    task_version: int
    dataset: str
    subject: str
    path: Path
    state: CellState
    note: str = ""
    data: str = ""

    @property
    def row(self) -> Literal["submission", "baseline"]:
        return "baseline" if self.submission.is_baseline else "submission"

    @property
    def label(self) -> str:
        return f"{self.submission.label} · {self.task} · {self.dataset} · {self.subject}"


@dataclass(frozen=True)
class Job:
    """The cells of one submission that are to run: its features are extracted once for all of their subjects."""

    submission: Submission
    revision: str
    task: TaskName
    dataset: str
    cells: tuple[Cell, ...]

    @property
    def subjects(self) -> tuple[str, ...]:
        return tuple(cell.subject for cell in self.cells)

    @property
    def data(self) -> str:
        """The data set as the user named it, with its preset or variant."""
        return self.cells[0].data


@dataclass(frozen=True)
class Plan:
    """All cells that a run asks for, in the order of execution."""

    cells: tuple[Cell, ...]
    fresh: bool = False

    @property
    def stored(self) -> tuple[Cell, ...]:
        return () if self.fresh else tuple(cell for cell in self.cells if cell.state == "stored")

    @property
    def to_run(self) -> tuple[Cell, ...]:
        return self.cells if self.fresh else tuple(cell for cell in self.cells if cell.state != "stored")

    @property
    def jobs(self) -> tuple[Job, ...]:
        """Cells to run, grouped by submission, task and data set."""
        groups: dict[tuple[str, str, str], list[Cell]] = {}
        for cell in self.to_run:
            groups.setdefault((cell.submission.label, cell.task, cell.dataset), []).append(cell)
        return tuple(
            Job(cells[0].submission, cells[0].revision, cells[0].task, cells[0].dataset, tuple(cells))
            for cells in groups.values()
        )

    def summary(self) -> str:
        """The line that a run starts with."""
        failed = sum(cell.state == "failed" for cell in self.to_run)
        again = f", {failed} of them failed before" if failed else ""
        return f"{len(self.stored)}/{len(self.cells)} cells stored, {len(self.to_run)} to run{again}"


def make_plan(
    submissions: Sequence[Submission],
    task: TaskName,
    task_version: int,
    dataset: DatasetFacts,
    protocol: Protocol,
    results: Path,
    *,
    subjects: Iterable[str] | None = None,
    dtype: str | None = None,
    partial: bool = False,
    fresh: bool = False,
    data: str = "",
    features: Sequence[str] = (),
) -> Plan:
    """Plan ``submissions`` on one task and data set.

    Parameters
    ----------
    submissions : in the order of execution, baselines among them.
    subjects : default all subjects of the data set.
    dtype : when given, a record in another precision is stale.
    partial : whether the run scores on a part of the data; records of the other kind are stale.
    fresh : run stored cells again.
    data : the data set as the user named it; default its name.
    features : attribution methods asked for; a record without them is stale. The harness' own rows have none.

    Raises
    ------
    UserError
        for an unknown subject, two submissions of one name, a planted model on real data or a task that the open track
        does not have.
    """
    check_distinct(submissions)
    names = {subject: f"{slug(subject)}.json" for subject in _choose_subjects(dataset, subjects)}
    index, protocol_hash = RecordIndex(results), protocol.hash_of(task)
    cells = []
    for submission in submissions:
        _check_fits(submission, dataset, task)
        explained = explained_methods(submission, task, features, protocol)
        revision = resolved_revision(submission)
        place = revision_folder(revision, submission.weights, submission.seed)
        folder = cells_folder(results, protocol.name, submission.label, place, task, dataset.name)
        expected = Expected(protocol_hash, revision, dataset.version, task_version, dtype, partial, *explained)
        for subject, name in names.items():
            path = folder / name
            state, note = cell_state(path, expected, index)
            named = data or dataset.name
            cells.append(
                Cell(submission, revision, task, task_version, dataset.name, subject, path, state, note, named)
            )
    index.save()
    return Plan(tuple(cells), fresh)


@dataclass(frozen=True)
class Expected:
    """What a record must say to stand for a cell; ``dtype`` None accepts any."""

    protocol_hash: str
    revision: str
    dataset_version: str
    task_version: int
    dtype: str | None = None
    partial: bool = False
    methods: tuple[str, ...] = ()
    attribution_hash: str = ""


def cell_state(path: Path, expected: Expected, index: RecordIndex | None = None) -> tuple[CellState, str]:
    """The state of the cell whose record belongs at ``path``, and why; ``index``: what is known of it already."""
    try:
        found = index.summary(path) if index else summarise(path) if path.is_file() else None
    except DataError as error:
        return "stale", error.message
    if found is None:
        return "missing", ""
    if found.invalidated:
        return "stale", f"invalidated: {found.invalidated}"
    difference = _difference(found, expected)
    if difference:
        return "stale", difference
    if found.status == "error":
        return "failed", found.error
    if found.status != "success":
        return "stale", f"status {found.status}"
    return ("stale", found.statistics) if found.statistics else ("stored", "")


def _difference(found: RecordSummary, expected: Expected) -> str | None:
    scored = found.status == "success"
    for what, got, wanted in (
        ("protocol", found.protocol_hash, expected.protocol_hash),
        ("model revision", found.revision, expected.revision),
        ("data set version", found.dataset_version, expected.dataset_version),
        ("task version", found.task_version, expected.task_version),
        ("precision", found.dtype if scored else None, expected.dtype),
    ):
        if got is not None and wanted is not None and got != wanted:
            return f"of another {what} ({str(got)[:12]}, not {str(wanted)[:12]})"
    if scored and found.partial != expected.partial:
        return "scored on a part of the data" if found.partial else "scored on all of the data"
    return _missing_methods(found, expected) if scored and expected.methods else None


def _missing_methods(found: RecordSummary, expected: Expected) -> str | None:
    if not found.methods:
        return "scored without attributions"
    if found.attribution_hash != expected.attribution_hash:
        return "attributions of another protocol"
    left = [name for name in expected.methods if name not in found.methods]
    return f"scored without {', '.join(left)}" if left else None


def explained_methods(
    submission: Submission, task: str, features: Sequence[str], protocol: Protocol
) -> tuple[tuple[str, ...], str]:
    """The attribution methods that the record of a submission must have, and the hash of how they are made.

    Raises
    ------
    UserError
        for a model that has no next-word prediction to explain, and for another task than narrative.
    """
    if not features or submission.is_baseline:
        return (), ""
    loader = submission.model.loader
    if task != "narrative":
        raise UserError(f"--features is for the task narrative, not for {task}", "leave it out, or use -t narrative")
    if submission.model.source == "simulated" or loader != "causal":
        kind = (
            "a model with planted truth" if submission.model.source == "simulated" else f"read with loader {loader!r}"
        )
        raise UserError(
            f"{submission.label} is {kind}: attributions explain what a causal language model says of the next word",
            "leave --features out, or name a causal model with -m",
        )
    return choose_methods(features), hash_json(protocol.constants()["attribution"])


def _choose_subjects(dataset: DatasetFacts, subjects: Iterable[str] | None) -> tuple[str, ...]:
    if subjects is None:
        return dataset.subjects
    asked = list(dict.fromkeys(subjects))
    for subject in asked:
        if subject not in dataset.subjects:
            raise unknown_name(f"subject of {dataset.name}", subject, dataset.subjects)
    return tuple(subject for subject in dataset.subjects if subject in asked)


def _check_fits(submission: Submission, dataset: DatasetFacts, task: str) -> None:
    if submission.model.source == "simulated" and dataset.kind != "simulated":
        raise UserError(
            f"{submission.label} is a model with planted truth, which exists for simulated data only, "
            f"not for {dataset.name}",
            "name another model with -m, or leave --data out",
        )
    if submission.track == "open" and task != "narrative":
        raise UserError(
            f"{submission.label} is on the open track, which is scored on the task narrative only", "set `track: fixed`"
        )
    if task not in submission.tasks and not submission.is_baseline:
        raise UserError(
            f"{submission.label} is not entered for task {task!r}, only for {', '.join(submission.tasks)}",
            "add the task to `tasks:` of its submission",
        )
