# SPDX-License-Identifier: Apache-2.0
"""voxelboard: how well does a language model predict the human brain?

The public API has the names of the command's verbs. Everything is imported when it is first used, so that
``import voxelboard`` and ``voxelboard --help`` stay fast and never import torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from voxelboard.benchmark.evaluate import evaluate
    from voxelboard.benchmark.records import load_records
    from voxelboard.benchmark.submission import load_submission
    from voxelboard.benchmark.tasks import load_task
    from voxelboard.leaderboard.compare import compare
    from voxelboard.leaderboard.render import render

_HOMES = {
    "compare": "voxelboard.leaderboard.compare",
    "evaluate": "voxelboard.benchmark.evaluate",
    "load_records": "voxelboard.benchmark.records",
    "load_submission": "voxelboard.benchmark.submission",
    "load_task": "voxelboard.benchmark.tasks",
    "render": "voxelboard.leaderboard.render",
}

__all__ = [
    "__version__",
    "compare",
    "evaluate",
    "load_records",
    "load_submission",
    "load_task",
    "render",
]


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'voxelboard' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
