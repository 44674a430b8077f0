# SPDX-License-Identifier: Apache-2.0
"""The pool: what becomes of cells whose process crashes, hangs, eats memory, lies, or is interrupted."""

import os
import signal
import subprocess
import sys
import textwrap
import time
from dataclasses import replace
from pathlib import Path

import pytest

from voxelboard.benchmark.errors import UserError
from voxelboard.benchmark.records import load_records, read_record, statistics_path
from voxelboard.benchmark.settings import Settings
from voxelboard.runners.local import execute
from voxelboard.runners.workers.stages import Needs, Stage


def test_it_stores_what_the_same_process_would(pool, tmp_path: Path) -> None:
    from fake_science import FakeScience

    outcome = pool.run(pool.stages("planted-q0.9", "planted-q0.3"))
    assert outcome.exit_code() == 0
    assert len(outcome.stored) == 6
    assert sorted(pool.log.kept) == ["s1", "s1", "s2", "s2", "s3", "s3"]
    assert pool.plan("planted-q0.9", "planted-q0.3").summary() == "6/6 cells stored, 0 to run"
    alone = pool.__class__(tmp_path / "alone", pool.facts, pytest.MonkeyPatch())

    class Quiet:
        def started(self, *_: object) -> None: ...
        def stage(self, *_: object) -> None: ...
        def stored(self, *_: object) -> None: ...
        def failed(self, *_: object) -> None: ...

    execute(alone.plan("planted-q0.9", "planted-q0.3"), FakeScience(), pool.settings, Quiet())
    for (path, record), (other, same) in zip(
        load_records(tmp_path / "results"), load_records(tmp_path / "alone" / "results"), strict=True
    ):
        assert record.digest == same.digest
        assert statistics_path(path).read_bytes() == statistics_path(other).read_bytes()
    assert not (tmp_path / "results" / ".work").exists(), "nothing is left behind"


def test_a_crash_takes_one_subject_and_says_which_signal(pool) -> None:
    pool.behave(s2=f"signal:{signal.SIGSEGV.value}")
    outcome = pool.run()
    assert sorted(pool.log.kept) == ["s1", "s3"]
    assert [(subject, kind) for subject, kind, _ in pool.log.failures] == [("s2", "crash")]
    assert "SIGSEGV" in pool.log.failures[0][2]
    assert outcome.exit_code() == 1
    (failed,) = [cell for cell in pool.plan().cells if cell.state == "failed"]
    assert read_record(failed.path).error.kind == "crash"


@pytest.mark.parametrize(
    ("how", "kind", "message"),
    [
        ("exit:7", "bug", "status 7 without s2"),
        ("raise:broken", "bug", "RuntimeError: broken"),
        ("signal:9", "oom", "runs out of memory"),
        ("oom-above:0", "oom", "MemoryError"),
        ("forge", "bug", "model 'org/other', expected 'voxelboard/planted-q0.9'"),
    ],
)
def test_every_end_has_a_class(pool, how: str, kind: str, message: str) -> None:
    pool.behave(s2=how)
    pool.run()
    assert "s1" in pool.log.kept
    failures = {subject: (found, text) for subject, found, text in pool.log.failures}
    assert failures["s2"][0] == kind
    assert message in failures["s2"][1]


def test_out_of_memory_is_tried_once_more_at_half_the_batch_alone(pool) -> None:
    pool.settings = Settings(pool.settings.protocol, batch_size=16)
    pool.behave(s2="oom-above:8")
    outcome = pool.run()
    assert outcome.exit_code() == 0
    assert sorted(pool.log.kept) == ["s1", "s2", "s3"]
    assert len(pool.log.retries) == 1
    pool.settings = Settings(pool.settings.protocol, batch_size=64)
    pool.behave(s2="oom-above:8")
    (stage,) = pool.stages() or [None] if pool.plan().jobs else [None]
    assert stage is None, "all is stored"


def test_it_is_not_tried_a_third_time(pool) -> None:
    pool.settings = Settings(pool.settings.protocol, batch_size=64)
    pool.behave(s2="oom-above:8")
    pool.run()
    assert [(subject, kind) for subject, kind, _ in pool.log.failures] == [("s2", "oom")]
    assert sorted(pool.log.kept) == ["s1", "s3"]


def test_a_process_cannot_take_more_memory_than_there_is(pool) -> None:
    pool.behave(s1="allocate:800")
    pool.run(memory_bytes=400 << 20)
    assert [(subject, kind) for subject, kind, _ in pool.log.failures] == [("s1", "oom")]
    assert sorted(pool.log.kept) == ["s2", "s3"]
    assert max(pool.log.peaks.values()) < 900 << 20


def test_a_stage_that_takes_too_long_is_stopped(pool) -> None:
    pool.behave(s2="sleep:60")
    began = time.monotonic()
    pool.run(timeout_seconds=1.0)
    assert time.monotonic() - began < 20
    assert pool.log.kept == ["s1"]
    assert {(subject, kind) for subject, kind, _ in pool.log.failures} == {("s2", "timeout"), ("s3", "timeout")}


def test_two_run_at_once_and_memory_is_shared_out(pool) -> None:
    running, most = set(), []

    def begin(stage: Stage) -> None:
        running.add(stage.key)
        most.append(len(running))

    pool.log.on_begin = begin
    ended = pool.log.ended
    pool.log.ended = lambda stage, needed: (running.discard(stage.key), ended(stage, needed))
    pool.behave(s1="sleep:0.6")
    models = ("planted-q0.9", "planted-q0.8", "planted-q0.7")
    pool.run(pool.stages(*models))
    assert max(most) == 2
    most.clear()
    large = [replace(stage, needs=Needs(host_bytes=3 << 29)) for stage in pool.stages("planted-q0.6", "planted-q0.5")]
    pool.run(large)
    assert max(most) == 1, "two of 1.5 GiB do not fit into 2 GiB"


def test_scores_wait_for_the_features_of_their_model(pool) -> None:
    (stage,) = pool.stages()
    first = [replace(stage, cells=(cell,)) for cell in stage.cells[:1]]
    rest = [replace(stage, cells=(cell,), after=(first[0].key,)) for cell in stage.cells[1:]]
    order: list[str] = []
    pool.log.on_begin = lambda begun: order.append(begun.key)
    pool.run([*rest, *first])
    assert order[0] == first[0].key
    assert len(order) == 3


def test_a_folder_that_cannot_be_written_stops_the_run_with_code_3(pool, tmp_path: Path) -> None:
    blocked = pool.plan().cells[1].path.with_suffix(".npz")
    blocked.mkdir(parents=True)  # nobody, not even root, replaces a folder by a file
    (blocked / "x").touch()
    with pytest.raises(UserError) as caught:
        pool.run()
    assert caught.value.exit_code == 3
    assert "resumes" in caught.value.hint


SCRIPT = """
import sys
from pathlib import Path
from voxelboard.benchmark.protocol import V1
from voxelboard.benchmark.readers.base import DatasetFacts
from voxelboard.benchmark.settings import Settings
from voxelboard.benchmark.submission import load_submission
from voxelboard.runners.plan import make_plan
from voxelboard.runners.workers.pool import PoolPolicy, run_stages
from voxelboard.runners.workers.screen import PoolScreen
from voxelboard.runners.workers.stages import Stage

folder = Path(sys.argv[1])
facts = DatasetFacts("toy", "1.0.0", "simulated", ("s1", "s2", "s3"), True)
plan = make_plan([load_submission("planted-q0.9")], "narrative", 1, facts, V1, folder / "results")
policy = PoolPolicy((None,), 1, 1 << 30, folder / "results" / ".work", folder / "cache",
                    science="pool_science:load", preload=("pool_science",))
stages = [Stage("scores", job.cells, Settings(V1)) for job in plan.jobs]
try:
    with PoolScreen(plan, stages) as screen:
        run_stages(stages, policy, screen)
except KeyboardInterrupt:
    sys.exit(130)
"""


def start(pool, tmp_path: Path) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(SCRIPT), str(tmp_path)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    deadline = time.monotonic() + 60
    while pool.plan().summary() != "1/3 cells stored, 2 to run":
        assert time.monotonic() < deadline, process.communicate(timeout=5)
        assert process.poll() is None, process.communicate(timeout=5)
        time.sleep(0.05)
    return process


def descendants_of(folder: Path) -> list[int]:
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            try:
                if str(folder) in os.readlink(entry / "fd" / "1"):
                    found.append(int(entry.name))
            except OSError:
                continue
    return found


def test_ctrl_c_keeps_what_is_stored_and_leaves_no_process(pool, tmp_path: Path) -> None:
    pool.behave(s2="sleep:60")
    process = start(pool, tmp_path)
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does: to all of the foreground
    began = time.monotonic()
    _, said = process.communicate(timeout=30)
    assert process.returncode == 130, said
    assert time.monotonic() - began < 8, "a process that can end does so at once"
    assert "stopping" in said
    assert descendants_of(tmp_path) == []
    assert not (tmp_path / "results" / ".work").exists()
    pool.behave()
    assert pool.run().exit_code() == 0
    assert pool.plan().summary() == "3/3 cells stored, 0 to run"


def test_a_second_ctrl_c_does_not_wait(pool, tmp_path: Path) -> None:
    pool.behave(s2="deaf:60")
    process = start(pool, tmp_path)
    os.kill(process.pid, signal.SIGINT)
    time.sleep(1.0)
    assert process.poll() is None, "it waits for a process that does not listen"
    began = time.monotonic()
    os.kill(process.pid, signal.SIGINT)
    _, said = process.communicate(timeout=30)
    assert process.returncode == 130, said
    assert time.monotonic() - began < 3
    assert descendants_of(tmp_path) == []


def test_a_pool_that_is_killed_leaves_no_process(pool, tmp_path: Path) -> None:
    pool.behave(s2="sleep:60")
    process = start(pool, tmp_path)
    assert descendants_of(tmp_path) != []
    process.kill()
    process.communicate(timeout=30)
    deadline = time.monotonic() + 5
    while descendants_of(tmp_path) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert descendants_of(tmp_path) == []
    pool.behave()
    assert pool.run().exit_code() == 0
    assert list((tmp_path / "results").glob(".work/*")) == [], "what the dead pool left is swept"
