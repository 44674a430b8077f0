# SPDX-License-Identifier: Apache-2.0
"""What the runner itself costs: a process each stage, and planning many cells. Cells are equal to those made without it."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from voxelboard.benchmark.protocol import V1
from voxelboard.benchmark.readers.base import DatasetFacts
from voxelboard.benchmark.records import Arrays, Record, load_records, write_record
from voxelboard.benchmark.settings import Settings
from voxelboard.benchmark.submission import load_submission, submission_files
from voxelboard.runners.facts import task_facts
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
    store(plan, *scored_cell(plan.jobs[0], "s1"), monkeypatch)

    def forget() -> None:
        if index == "read":
            (tmp_path / ".index").unlink(missing_ok=True)

    planned = benchmark.pedantic(plan_of, args=(tmp_path, 500), setup=forget, rounds=3, warmup_rounds=1)
    assert planned.summary() == "10000/10000 cells stored, 0 to run"


def store(plan: Plan, record: Record, arrays: Arrays, monkeypatch: pytest.MonkeyPatch) -> None:
    """The record in the place of every cell, as if of each."""
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", lambda descriptor: None)
        for cell in plan.cells:
            model = record.model.model_copy(
                update={"submission": cell.submission.label, "revision": cell.revision, "dtype": "float32"}
            )
            write_record(cell.path, record.model_copy(update={"subject": cell.subject, "model": model}), arrays)


@pytest.mark.benchmark(group="voxelboard status of 10,000 stored cells, a process")
@pytest.mark.parametrize("index", ["known", "read"])
def test_status_of_ten_thousand_cells(
    benchmark: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, index: str
) -> None:
    monkeypatch.syspath_prepend(str(SUPPORT))
    monkeypatch.setenv("VOXELBOARD_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("VOXELBOARD_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[2] / ".types"))
    from fake_science import scored_cell

    facts = task_facts("narrative", "simulated-narrative")
    n_models = 10_000 // len(facts.dataset.subjects)
    plain = load_submission("planted-q0.9")
    names = [f"org/model-{number}" for number in range(n_models)]
    shipped = submission_files()[0].with_name("voxelboard__planted-q0.9.yaml").read_text(encoding="utf-8")
    for name in names:
        text = f"name: {name}\n" + "\n".join(line for line in shipped.splitlines() if not line.startswith("name:"))
        (tmp_path / f"{name.replace('/', '__')}.yaml").write_text(text, encoding="utf-8")
    entries = [*(plain.model_copy(update={"name": name}) for name in names), *facts.rows]
    plan = make_plan(entries, "narrative", 1, facts.dataset, V1, tmp_path / "results")
    record, arrays = scored_cell(plan.jobs[0], facts.dataset.subjects[0])
    assert record.dataset is not None
    stamp = record.dataset.model_copy(update={"version": facts.dataset.version})
    store(plan, record.model_copy(update={"dataset": stamp}), arrays, monkeypatch)
    flags = [flag for name in names for flag in ("-m", f"{name.replace('/', '__')}.yaml")]
    command = [sys.executable, "-m", "voxelboard", "status", "--data", "simulated-narrative", *flags]

    def forget() -> None:
        if index == "read":
            (tmp_path / "results" / ".index").unlink(missing_ok=True)

    def status() -> str:
        return subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True).stdout

    told = benchmark.pedantic(status, setup=forget, rounds=3, warmup_rounds=1)
    assert told.splitlines()[-1] == f"{len(plan.cells)}/{len(plan.cells)} cells stored, 0 to run"
