# SPDX-License-Identifier: Apache-2.0
"""A pool over a science that behaves as told."""

import json
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from voxelboard.benchmark.protocol import V1
from voxelboard.benchmark.readers.base import DatasetFacts
from voxelboard.benchmark.records import ErrorClass, Record
from voxelboard.benchmark.settings import Settings
from voxelboard.benchmark.submission import load_submission
from voxelboard.runners.local import Outcome
from voxelboard.runners.plan import Cell, Plan, make_plan
from voxelboard.runners.workers.pool import PoolPolicy, run_stages
from voxelboard.runners.workers.stages import Needs, Stage


class PoolLog:
    """Remembers what the pool told."""

    def __init__(self) -> None:
        self.fences: list[str] = []
        self.steps: list[str] = []
        self.kept: list[str] = []
        self.failures: list[tuple[str, ErrorClass, str]] = []
        self.retries: list[str] = []
        self.peaks: dict[str, int] = {}
        self.stops = 0
        self.on_begin: Callable[[Stage], None] = lambda stage: None

    def began(self, stage: Stage, fences: str) -> None:
        self.fences.append(fences)
        self.on_begin(stage)

    def progressed(self, stage: Stage, step: str, done: int, total: int, host_bytes: int) -> None:
        self.steps.append(step)

    def stored(self, cell: Cell, record: Record) -> None:
        self.kept.append(cell.subject)

    def failed(self, cell: Cell, kind: ErrorClass, message: str, trace: str | None) -> None:
        self.failures.append((cell.subject, kind, message))

    def retried(self, stage: Stage, kind: ErrorClass, message: str) -> None:
        self.retries.append(stage.key)

    def ended(self, stage: Stage, needed: Needs) -> None:
        self.peaks[stage.key] = needed.host_bytes or 0

    def stopping(self) -> None:
        self.stops += 1


class PoolRun:
    """Plans toy cells in a folder and runs them."""

    def __init__(self, folder: Path, facts: DatasetFacts, monkeypatch: pytest.MonkeyPatch) -> None:
        self.folder, self.facts, self._patch = folder, facts, monkeypatch
        self.log = PoolLog()
        self.settings = Settings(V1)
        self.policy = PoolPolicy(
            gpus=(None, None),
            threads=1,
            memory_bytes=2 << 30,
            work=folder / "results" / ".work",
            cache=folder / "cache",
            science="pool_science:load",
            preload=("pool_science",),
        )

    def plan(self, *models: str) -> Plan:
        entries = [load_submission(name) for name in models or ("planted-q0.9",)]
        return make_plan(entries, "narrative", 1, self.facts, V1, self.folder / "results")

    def stages(self, *models: str) -> list[Stage]:
        return [Stage("scores", job.cells, self.settings) for job in self.plan(*models).jobs]

    def behave(self, **how: str) -> None:
        self._patch.setenv("POOL_SCIENCE", json.dumps(how))

    def run(self, stages: list[Stage] | None = None, **changes: object) -> Outcome:
        policy = replace(self.policy, **changes)  # type: ignore[arg-type]
        return run_stages(self.stages() if stages is None else stages, policy, self.log)


@pytest.fixture
def pool(tmp_path: Path, facts: DatasetFacts, monkeypatch: pytest.MonkeyPatch) -> PoolRun:
    if sys.platform != "linux":
        pytest.skip("the pool forks processes on Linux only")
    support = Path(__file__).parents[2] / "support"
    monkeypatch.setenv("PYTHONPATH", f"{support}:{Path(__file__).parents[3] / '.types'}")
    return PoolRun(tmp_path, facts, monkeypatch)
