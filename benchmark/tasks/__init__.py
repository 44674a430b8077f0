# SPDX-License-Identifier: Apache-2.0
"""The tasks. Each says what is presented, which features, which analysis, which score."""

from typing import TYPE_CHECKING

from voxelboard.benchmark.errors import unknown_name

if TYPE_CHECKING:
    from voxelboard.benchmark.tasks.base import Task

TASKS = ("narrative", "drama", "captions", "ablation")


def load_task(name: str) -> "Task":
    """The task called ``name``; raises UserError for an unknown one."""
    if name == "narrative":
        from voxelboard.benchmark.tasks.narrative import Narrative

        return Narrative()
    if name == "drama":
        from voxelboard.benchmark.tasks.drama import Drama

        return Drama()
    if name == "captions":
        from voxelboard.benchmark.tasks.captions import Captions

        return Captions()
    if name == "ablation":
        from voxelboard.benchmark.tasks.ablation import Ablation

        return Ablation()
    raise unknown_name("task", name, TASKS)
