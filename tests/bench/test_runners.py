# SPDX-License-Identifier: Apache-2.0
"""What the runner itself costs: a process each stage, and planning many cells. Cells are equal to those made without it."""

import os
from pathlib import Path
from typing import Any

import pytest

from voxelboard.benchmark.protocol import V1
from voxelboard.benchmark.readers.base import DatasetFacts
from voxelboard.benchmark.records import load_records, write_record
from voxelboard.benchmark.settings import Settings
from voxelboard.benchmark.submission import load_submission
from voxelboard.runners.local import execute
from voxelboard.runners.plan import Plan, make_plan
from voxelboard.runners.workers.pool import PoolPolicy, run_stages
from voxelboard.runners.workers.stages import Stage

SUPPORT = Path(__file__).parents[1] / "support"
FACTS = DatasetFacts("toy", "1.0.0", "simulated", tuple(f"s{number}" for number in range(20)), True)


class Quiet:
    """Hears nothing."""

    def __getattr__(self, name: str) -> Any:
        return lambda *_: None


def plan_of(results: Path, n_models: int) -> Plan:
    plain = load_submission("planted-q0.9")
    entries = [plain.model_copy(update={"name": f"org/model-{number}"}) for number in range(n_models)]
    return make_plan(entries, "narrative", 1, FACTS, V1, results)


@pytest.mark.benchmark(group="runner: 20 cells that compute nothing")
@pytest.mark.parametrize("where", ["processes", "this process"])
def test_overhead_of_a_cell(benchmark: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: str) -> None:
    monkeypatch.setenv("PYTHONPATH", f"{SUPPORT}:{Path(__file__).parents[2] / '.types'}")
    monkeypatch.syspath_prepend(str(SUPPORT))
    from fake_science import FakeScience

    rounds = iter(range(100))

    def run() -> Path:
        folder = tmp_path / f"{where}{next(rounds)}"
        plan, settings = plan_of(folder / "results", 1), Settings(V1)
        if where == "this process":
            execute(plan, FakeScience(), settings, Quiet())
        else:
            stages = [Stage("scores", (cell,), settings) for cell in plan.cells]
            policy = PoolPolicy(
                (None,), 1, 2 << 30, folder / "w", folder / "c", science="pool_science:load", preload=("pool_science",)
            )
            run_stages(stages, policy, Quiet())
        return folder / "results"

    results = benchmark.pedantic(run, rounds=3, warmup_rounds=1)
    alone = tmp_path / "alone"
    execute(plan_of(alone, 1), FakeScience(), Settings(V1), Quiet())
    ours, same = ([record.digest for _, record in load_records(place)] for place in (results, alone))
    assert ours == same


@pytest.mark.benchmark(group="plan of 10,000 stored cells")
@pytest.mark.parametrize("index", ["known", "read"])
def test_plan_of_ten_thousand_cells(
    benchmark: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, index: str
) -> None:
    monkeypatch.syspath_prepend(str(SUPPORT))
    from fake_science import scored_cell

    plan = plan_of(tmp_path, 500)
    record, arrays = scored_cell(plan.jobs[0], "s1")
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", lambda descriptor: None)
        for cell in plan.cells:
            model = record.model.model_copy(update={"submission": cell.submission.label})
            write_record(cell.path, record.model_copy(update={"subject": cell.subject, "model": model}), arrays)

    def forget() -> None:
        if index == "read":
            (tmp_path / ".index").unlink(missing_ok=True)

    planned = benchmark.pedantic(plan_of, args=(tmp_path, 500), setup=forget, rounds=3, warmup_rounds=1)
    assert planned.summary() == "10000/10000 cells stored, 0 to run"
