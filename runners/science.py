# SPDX-License-Identifier: Apache-2.0
"""Joins the runner to the science. Importing this module imports torch."""

from collections.abc import Iterable
from dataclasses import asdict

from voxelboard.benchmark.evaluate import Settings, measure
from voxelboard.benchmark.records import Arrays, Record
from voxelboard.runners.local import CellRunner, RunSettings, StageProgress
from voxelboard.runners.plan import Job


def load_science(data: str) -> CellRunner:
    """The cell runner that measures; ``data`` is the data set as the user named it, with its preset."""

    def run(job: Job, settings: RunSettings, progress: StageProgress) -> Iterable[tuple[Record, Arrays | None]]:
        return measure(job.submission, job.task, data, job.subjects, _settings(settings), progress)

    return run


def _settings(settings: RunSettings) -> Settings:
    fields = asdict(settings)
    return Settings(**{**fields, "protocol": settings.protocol})
