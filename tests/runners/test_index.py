# SPDX-License-Identifier: Apache-2.0
"""What is remembered of records and data sets: it is forgotten as soon as anything changed that it was made from."""

import json
import os
import time
from pathlib import Path

import numpy as np
import pytest
from fake_science import FakeScience

from voxelboard.benchmark.protocol import V1
from voxelboard.benchmark.readers.base import DatasetFacts
from voxelboard.benchmark.records import statistics_path
from voxelboard.benchmark.settings import Settings
from voxelboard.benchmark.submission import load_submission
from voxelboard.runners import index as index_module
from voxelboard.runners.facts import task_facts
from voxelboard.runners.index import RecordIndex, summarise
from voxelboard.runners.local import execute
from voxelboard.runners.plan import Plan, make_plan


class Quiet:
    def started(self, *_: object) -> None: ...
    def stage(self, *_: object) -> None: ...
    def stored(self, *_: object) -> None: ...
    def failed(self, *_: object) -> None: ...


@pytest.fixture
def plan(tmp_path: Path, facts: DatasetFacts, monkeypatch: pytest.MonkeyPatch):  # type: ignore[no-untyped-def]
    monkeypatch.setattr(index_module, "_WORTH_KEEPING", 1)

    def again() -> Plan:
        return make_plan([load_submission("planted-q0.9")], "narrative", 1, facts, V1, tmp_path)

    execute(again(), FakeScience(), Settings(V1), Quiet())
    return again


def test_known_records_are_not_read_again(plan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert plan().summary() == "3/3 cells stored, 0 to run"
    assert (tmp_path / ".index").is_file()
    monkeypatch.setattr(index_module, "read_record", lambda path: pytest.fail(f"{path} was read"))
    assert plan().summary() == "3/3 cells stored, 0 to run"


@pytest.mark.parametrize("change", ["record", "statistics", "same size and time", "gone", "statistics gone"])
def test_whatever_changes_is_read_again(plan, change: str) -> None:
    path = plan().cells[1].path
    numbers = statistics_path(path)
    before = numbers.stat()
    if change == "record":
        path.write_text(path.read_text(encoding="utf-8").replace('"success"', '"error"'), encoding="utf-8")
    elif change == "statistics":
        numbers.write_bytes(numbers.read_bytes()[:-1])
    elif change == "same size and time":
        other = numbers.with_name("other")
        other.write_bytes(b"x" * before.st_size)
        os.utime(other, ns=(before.st_atime_ns, before.st_mtime_ns))
        os.replace(other, numbers)
    elif change == "gone":
        path.unlink()
    else:
        numbers.unlink()
    assert plan().summary() == "2/3 cells stored, 1 to run"


@pytest.mark.parametrize(
    "damage", [b"", b"{", b'{"version": 99, "records": {}}', b'{"version": 1, "records": {"a": 3}}']
)
def test_a_damaged_index_is_only_forgotten(plan, tmp_path: Path, damage: bytes) -> None:
    plan()
    (tmp_path / ".index").write_bytes(damage)
    assert plan().summary() == "3/3 cells stored, 0 to run"


def test_an_index_says_what_the_record_says(plan, tmp_path: Path) -> None:
    path = plan().cells[0].path
    assert RecordIndex(tmp_path).summary(path) == summarise(path)
    assert RecordIndex(tmp_path).summary(path.with_name("none.json")) is None


def test_small_results_get_no_index(tmp_path: Path, facts: DatasetFacts) -> None:
    make_plan([load_submission("planted-q0.9")], "narrative", 1, facts, V1, tmp_path)
    assert not (tmp_path / ".index").exists()


def test_facts_are_remembered_without_torch_or_the_data(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VOXELBOARD_CACHE", str(here / "cache"))
    first = task_facts("narrative", "simulated-narrative:tiny")
    assert first.dataset.subjects == ("sim01", "sim02", "sim03")
    assert first.rows[0].label == "voxelboard/constant"
    monkeypatch.setattr("voxelboard.runners.facts.load_task", lambda name: pytest.fail("it was looked up again"))
    assert task_facts("narrative", "simulated-narrative:tiny") == first


def test_facts_of_your_own_data_follow_its_files(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VOXELBOARD_CACHE", str(here / "cache"))
    calls = []
    real = task_facts("narrative", "simulated-narrative:tiny")

    def look_up(name: str, data: str | None):  # type: ignore[no-untyped-def]
        calls.append(data)
        return real

    monkeypatch.setattr("voxelboard.runners.facts._look_up", look_up)
    own = here / "own"
    own.mkdir()
    (own / "dataset.yaml").write_text("name: x\n", encoding="utf-8")
    for _ in range(2):
        task_facts("narrative", str(own))
    assert len(calls) == 1
    np.save(own / "s1.npy", np.zeros(3))
    task_facts("narrative", str(own))
    assert len(calls) == 2
    (here / "cache" / "facts.json").write_text(json.dumps({"x": 1}), encoding="utf-8")
    task_facts("narrative", str(own))
    assert len(calls) == 3


def test_ten_thousand_cells_are_planned_in_bounded_work(
    tmp_path: Path, facts: DatasetFacts, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Times are measured in docs/benchmarks.md; here only that no record is opened twice and no file for nothing."""
    reads = []
    real = index_module.summarise
    monkeypatch.setattr(index_module, "summarise", lambda path: (reads.append(path), real(path))[1])
    monkeypatch.setattr(index_module, "_WORTH_KEEPING", 1)
    entries = [load_submission("planted-q0.9").model_copy(update={"name": f"org/m{i}"}) for i in range(200)]
    began = time.process_time()
    plan = make_plan(entries, "narrative", 1, facts, V1, tmp_path)
    assert len(plan.cells) == 600
    assert reads == []
    assert time.process_time() - began < 60
