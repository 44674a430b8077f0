# SPDX-License-Identifier: Apache-2.0
"""Joins the runner to the science. Importing this module imports torch."""

from collections.abc import Iterable

from voxelboard.benchmark.evaluate import measure
from voxelboard.benchmark.records import Arrays, Record
from voxelboard.benchmark.settings import Settings
from voxelboard.runners.local import CellRunner, StageProgress
from voxelboard.runners.plan import Job


def load_science() -> CellRunner:
    """The cell runner that measures."""

    def run(job: Job, settings: Settings, progress: StageProgress) -> Iterable[tuple[Record, Arrays | None]]:
        return measure(job.submission, job.task, job.data, job.subjects, settings, progress)

    return run
