# SPDX-License-Identifier: Apache-2.0
"""What a job of the cluster does: one stage, by its key, in a process of its own as on any machine.

A run's folder holds the stages as JSON (``stages/``), a table of keys (``run``), and the logs (``logs/``).
"""

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from voxelboard.benchmark.errors import DataError
from voxelboard.benchmark.records import cell_path, revision_folder
from voxelboard.runners.plan import Cell, Plan
from voxelboard.runners.workers.child import SCIENCE
from voxelboard.runners.workers.stages import Stage

FOLDER = ".slurm"


@dataclass(frozen=True)
class SlurmRun:
    """One submission of a plan.

    Attributes
    ----------
    stages : key of a stage -> its file in ``stages/``.
    jobs : key of a stage -> id of its job, ``ARRAY_TASK``; empty before it was submitted.
    science : ``module:function`` that gives the cell runner.
    """

    folder: Path
    stages: dict[str, str]
    jobs: dict[str, str]
    science: str = SCIENCE

    @property
    def logs(self) -> Path:
        """Where submitit writes ``<job id>_0_log.out`` and ``.err``."""
        return self.folder / "logs"

    def log_of(self, key: str) -> Path:
        """The output of a stage's job."""
        return self.logs / f"{self.jobs[key]}_0_log.out"

    def content(self, key: str) -> dict[str, Any]:
        """A stage as plain JSON: quick, for listing many."""
        content: dict[str, Any] = json.loads((self.folder / "stages" / self.stages[key]).read_bytes())
        return content

    def stage(self, key: str) -> Stage:
        """A stage, with its cells where they belong in the results."""
        results = self.folder.parent.parent
        stage = Stage.from_json((self.folder / "stages" / self.stages[key]).read_text(encoding="utf-8"), self.folder)
        return replace(stage, cells=tuple(_in_place(cell, results, stage) for cell in stage.cells))


def read_run(folder: Path) -> SlurmRun:
    """The run in a folder; raises DataError for one that is damaged."""
    try:
        content: dict[str, Any] = json.loads((folder / "run").read_bytes())
        return SlurmRun(folder, dict(content["stages"]), dict(content["jobs"]), str(content["science"]))
    except (OSError, ValueError, KeyError) as error:
        raise DataError(f"{folder} holds no run of a cluster: {error}", "delete the folder and submit again") from error


def runs_of(results: Path) -> list[SlurmRun]:
    """The runs that were submitted for a results folder, the oldest first."""
    folders = sorted((results / FOLDER).glob("run-*"))
    return [read_run(folder) for folder in folders if (folder / "run").is_file()]


class StageJob:
    """What submitit pickles: a callable without state that gets two strings."""

    def __call__(self, folder: str, key: str) -> str:
        """Run the stage called ``key``; returns what became of it."""
        from voxelboard.runners.capacity import capacity
        from voxelboard.runners.execution import choose_workers, execute_stages
        from voxelboard.runners.workers.screen import PoolScreen

        run = read_run(Path(folder))
        stage = run.stage(key)
        # what another job, or this one before it was stopped, has stored is kept
        waiting = tuple(cell for cell in stage.cells if stage.kind == "features" or cell.state != "stored")
        if not waiting:
            return "stored before"
        workers = choose_workers(1, stage.settings.device, 1, capacity())
        device = "cuda" if workers.on_gpu else "cpu"
        stage = replace(stage, cells=waiting, settings=replace(stage.settings, device=device))
        results = run.folder.parent.parent
        with PoolScreen(Plan(waiting), [stage], verbose=True) as screen:
            outcome = execute_stages([stage], results, workers, screen, science=run.science)
        return f"{len(outcome.stored)} stored, {len(outcome.failed)} failed"

    def checkpoint(self, folder: str, key: str) -> Any:
        """Called when the job is stopped (time limit, pre-emption): the same again; what is stored is kept."""
        from voxelboard.runners.slurm.submission import load_submitit

        return load_submitit().helpers.DelayedSubmission(self, folder, key)


def _in_place(cell: Cell, results: Path, stage: Stage) -> Cell:
    from voxelboard.benchmark.readers.registry import open_dataset
    from voxelboard.runners.plan import Expected, cell_state, explained_methods

    submission, protocol = cell.submission, stage.settings.protocol
    folder = revision_folder(cell.revision, submission.weights, submission.seed)
    path = cell_path(results, protocol.name, submission.label, folder, cell.task, cell.dataset, cell.subject)
    version = str(open_dataset(cell.data, cell.task).version)
    expected = Expected(
        protocol.hash_of(cell.task),
        cell.revision,
        version,
        cell.task_version,
        stage.settings.dtype,
        stage.settings.limit is not None,
        *explained_methods(submission, cell.task, stage.settings.features, protocol),
    )
    state, note = cell_state(path, expected)
    return replace(cell, path=path, state=state, note=note)
