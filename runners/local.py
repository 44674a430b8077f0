# SPDX-License-Identifier: Apache-2.0
"""Runs the cells of a plan on this machine, in order. Each record is written as soon as its cell is done.

A cell that fails leaves a record that says why, and the others go on. What is stored stays stored: Ctrl-C, a full disk
or a crash loses at most the job that was running, and the same command resumes.
"""

import traceback
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from voxelboard.benchmark.errors import DataError, StorageError
from voxelboard.benchmark.protocol import Protocol as Measurement
from voxelboard.benchmark.record_stamps import ModelStamp, ProtocolStamp
from voxelboard.benchmark.records import Arrays, CellError, ErrorClass, Record, read_record, write_record
from voxelboard.benchmark.settings import Settings
from voxelboard.benchmark.submission import Submission
from voxelboard.runners.failures import PREREQUISITES, classify, message_of
from voxelboard.runners.plan import Cell, Job, Plan


class StageProgress(Protocol):
    """Called by a cell runner whenever something moved."""

    def __call__(self, stage: str, done: int = 0, total: int = 0) -> None:
        """``stage`` in a word or two; ``done`` of ``total`` steps (words, layers), 0 when not countable."""


class CellRunner(Protocol):
    """The science, as the runner sees it: yields the record and the statistics of each cell of a job, in any order.

    It writes nothing to the results. An exception fails the cells of the job that were not yet yielded.
    """

    def __call__(
        self, job: Job, settings: Settings, progress: StageProgress
    ) -> Iterable[tuple[Record, Arrays | None]]: ...


class Reporter(Protocol):
    """Who is told what happens."""

    def started(self, job: Job, number: int, n_jobs: int) -> None: ...

    def stage(self, job: Job, stage: str, done: int, total: int) -> None: ...

    def stored(self, cell: Cell, record: Record) -> None: ...

    def failed(self, cell: Cell, kind: ErrorClass, message: str, trace: str | None) -> None: ...


@dataclass
class Outcome:
    """What became of a plan: cells by label, in order."""

    stored: list[tuple[Cell, Record]] = field(default_factory=list)
    failed: list[tuple[Cell, ErrorClass, str]] = field(default_factory=list)

    def exit_code(self, n_stored_before: int = 0) -> int:
        """0 all done; 3 nothing is done and only prerequisites were missing; 1 another failure, the others kept."""
        if not self.failed:
            return 0
        only_prerequisites = all(kind in PREREQUISITES for _, kind, _ in self.failed)
        return 3 if only_prerequisites and not self.stored and not n_stored_before else 1


def execute(plan: Plan, runner: CellRunner, settings: Settings, reporter: Reporter) -> Outcome:
    """Run what a plan has left to run, one job after the other.

    Raises
    ------
    StorageError
        when a record or a feature cannot be written (full disk): the next cell could not be written either.
    KeyboardInterrupt
        passed on; what was stored before stays.
    """
    outcome = Outcome()
    jobs = plan.jobs
    for number, job in enumerate(jobs, start=1):
        reporter.started(job, number, len(jobs))
        _run_job(job, runner, settings, reporter, outcome)
    return outcome


def _run_job(job: Job, runner: CellRunner, settings: Settings, reporter: Reporter, outcome: Outcome) -> None:
    waiting = {cell.subject: cell for cell in job.cells}

    def progress(stage: str, done: int = 0, total: int = 0) -> None:
        reporter.stage(job, stage, done, total)

    results = iter(runner(job, settings, progress))
    while True:
        try:
            record, arrays = next(results)
            cell = waiting[record.subject]
        except StopIteration:
            break
        except StorageError:
            raise
        except Exception as error:  # noqa: BLE001 - whatever a model does, the other models go on; the record says what
            _fail(tuple(waiting.values()), error, settings, reporter, outcome)
            return
        record = write_record(cell.path, record, arrays)
        del waiting[record.subject]
        outcome.stored.append((cell, record))
        reporter.stored(cell, record)
    if waiting:
        unscored = RuntimeError(f"the cell runner ended without {', '.join(waiting)}")
        _fail(tuple(waiting.values()), unscored, settings, reporter, outcome)


def _fail(cells: Sequence[Cell], error: Exception, settings: Settings, reporter: Reporter, outcome: Outcome) -> None:
    kind, message = classify(error), message_of(error)
    trace = "".join(traceback.format_exception(error)) if kind == "bug" else None
    fail_cells(cells, kind, message, trace, settings, reporter, outcome)


class FailureReporter(Protocol):
    """Who is told of a cell that failed."""

    def failed(self, cell: Cell, kind: ErrorClass, message: str, trace: str | None) -> None: ...


def fail_cells(
    cells: Sequence[Cell],
    kind: ErrorClass,
    message: str,
    trace: str | None,
    settings: Settings,
    reporter: FailureReporter,
    outcome: Outcome,
) -> None:
    """Write a record that says why into each cell, except where scores are; tell the reporter."""
    for cell in cells:
        if not _holds_scores(cell):
            write_record(cell.path, error_record(cell, kind, message, settings.protocol))
        outcome.failed.append((cell, kind, message))
        reporter.failed(cell, kind, message, trace)
        trace = None  # once is enough


def _holds_scores(cell: Cell) -> bool:
    # A failing second run never takes the place of scores.
    try:
        return cell.path.is_file() and read_record(cell.path).status == "success"
    except DataError:
        return False


def error_record(cell: Cell, kind: ErrorClass, message: str, protocol: Measurement) -> Record:
    """The record of a cell without scores. What was not resolved before the failure is empty."""
    return Record(
        status="error",
        task=cell.task,
        task_version=cell.task_version,
        subject=cell.subject,
        protocol=ProtocolStamp.of(protocol, cell.task),
        dataset=None,
        model=unresolved_model(cell.submission, cell.revision),
        error=CellError(kind=kind, message=message),
    )


def unresolved_model(submission: Submission, revision: str) -> ModelStamp:
    """The stamp of a model that was not loaded: what the submission says, nothing of what loading would tell."""
    return ModelStamp(
        submission=submission.label,
        display_name=submission.metadata.display_name,
        row="baseline" if submission.is_baseline else "submission",
        source=submission.model.source,
        loader=submission.model.loader,
        revision=revision,
        weights="none" if submission.is_baseline else submission.weights,
        seed=submission.seed,
        weights_sha256="",
        tokenizer_sha256="",
        dtype=submission.model.dtype,
        n_parameters=submission.metadata.n_parameters or 0,
        n_layers=0,
        n_features=0,
        track=submission.track,
        visibility=submission.visibility,
        metadata=submission.metadata.model_dump(mode="json", exclude_none=True),
    )
