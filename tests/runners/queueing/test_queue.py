# SPDX-License-Identifier: Apache-2.0
"""The queue: two workers never take the same request, a dead worker's lease expires, the wall clock does not matter."""

import json
import subprocess
import sys
import time
from pathlib import Path

import pytest

from voxelboard.benchmark.errors import UserError
from voxelboard.benchmark.submission import Submission, load_submission
from voxelboard.runners.cli import run_cli
from voxelboard.runners.queueing import store
from voxelboard.runners.queueing.store import Queue


def entry(name: str, size: int | None = None, visibility: str = "public") -> Submission:
    plain = load_submission("planted-q0.9")
    metadata = plain.metadata.model_copy(update={"n_parameters": size})
    return plain.model_copy(update={"name": name, "metadata": metadata, "visibility": visibility})


@pytest.fixture
def queue(tmp_path: Path) -> Queue:
    return Queue(tmp_path / "q.sqlite3")


def add(queue: Queue, name: str, size: int | None = None, source: str = "user", revision: str = "r1") -> bool:
    return queue.add(entry(name, size), revision, "narrative", "toy", "v1", source)


def test_the_smallest_is_taken_first_and_nothing_is_queued_twice(queue: Queue) -> None:
    assert [add(queue, "org/large", 100), add(queue, "org/small", 1), add(queue, "org/small", 1)] == [True, True, False]
    first, second = queue.take(), queue.take()
    assert first is not None
    assert second is not None
    assert (first.submission, second.submission, queue.take()) == ("org/small", "org/large", None)
    assert first.load() == entry("org/small", 1)
    assert add(queue, "org/small", 1, revision="r2"), "another commit is another request"


TAKE = """
import sys
from pathlib import Path
from voxelboard.runners.queueing.store import Queue
queue = Queue(Path(sys.argv[1]))
while (request := queue.take()) is not None:
    print(request.id, flush=True)
    queue.finish(request, "done")
"""


def test_workers_never_take_the_same_request(queue: Queue) -> None:
    for number in range(200):
        add(queue, f"org/m{number}", number)
    workers = [
        subprocess.Popen([sys.executable, "-c", TAKE, str(queue.path)], stdout=subprocess.PIPE, text=True)
        for _ in range(4)
    ]
    taken = [int(line) for worker in workers for line in worker.communicate(timeout=100)[0].split()]
    assert sorted(taken) == list(range(1, 201))
    assert len(queue.requests("done")) == 200


def test_the_lease_of_a_dead_worker_expires_and_it_can_finish_nothing_then(
    queue: Queue, monkeypatch: pytest.MonkeyPatch
) -> None:
    add(queue, "org/a")
    clock = [1000.0]
    monkeypatch.setattr(store, "boot_clock", lambda: ("boot", clock[0]))
    dead = queue.take(seconds=60)
    assert dead is not None
    clock[0] += 59
    assert queue.take() is None
    assert queue.renew(dead, seconds=60), "while it lives it renews"
    clock[0] += 59
    assert queue.take() is None
    clock[0] += 2
    alive = queue.take(seconds=60)
    assert alive is not None
    assert (alive.id, alive.attempts) == (dead.id, 2)
    assert not queue.renew(dead)
    assert not queue.finish(dead, "failed", "late")
    assert queue.finish(alive, "done")


def test_a_machine_that_was_started_again_has_no_leases(queue: Queue, monkeypatch: pytest.MonkeyPatch) -> None:
    add(queue, "org/a")
    monkeypatch.setattr(store, "boot_clock", lambda: ("first boot", 10_000.0))
    assert queue.take() is not None
    monkeypatch.setattr(store, "boot_clock", lambda: ("second boot", 5.0))
    assert queue.take() is not None


@pytest.mark.parametrize("step", [-1e9, 1e9])
def test_a_step_of_the_wall_clock_does_not_matter(queue: Queue, monkeypatch: pytest.MonkeyPatch, step: float) -> None:
    add(queue, "org/a")
    assert queue.take() is not None
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now + step)
    assert queue.take() is None


def test_kill_9_leaves_the_state_before_or_after(queue: Queue) -> None:
    for number in range(300):
        add(queue, f"org/m{number}", number)
    for wait in (0.0, 0.05, 0.1, 0.2):
        worker = subprocess.Popen([sys.executable, "-c", TAKE, str(queue.path)], stdout=subprocess.PIPE, text=True)
        assert worker.stdout is not None
        worker.stdout.readline()
        time.sleep(wait)
        worker.kill()
        worker.communicate()
        states = [request.state for request in Queue(queue.path).requests()]
        assert len(states) == 300
        assert states.count("running") <= 4
        assert set(states) <= {"queued", "running", "done"}


def test_commands(here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("VOXELBOARD_CACHE", str(here / "cache"))
    assert run_cli(["queue", "add", "planted-q0.9", "planted-q0.3", "--data", "simulated-narrative:tiny"]) == 0
    assert run_cli(["queue", "add", "planted-q0.9", "--data", "simulated-narrative:tiny"]) == 0
    assert "there already: voxelboard/planted-q0.9" in capsys.readouterr().out
    assert run_cli(["queue", "cancel", "voxelboard/planted-q0.3"]) == 0
    assert run_cli(["queue", "ls", "--json"]) == 0
    out = capsys.readouterr().out
    listing = json.loads(out[out.index("{") :])
    assert [(one["submission"], one["state"]) for one in listing["requests"]] == [
        ("voxelboard/planted-q0.9", "queued"),
        ("voxelboard/planted-q0.3", "cancelled"),
    ]
    snapshot = json.loads((here / "results" / "queue.json").read_text(encoding="utf-8"))
    assert snapshot["counts"] == {"queued": 1, "running": 0, "done": 0, "failed": 0, "cancelled": 1}
    assert snapshot == listing
    assert run_cli(["queue", "retry", "cancelled"]) == 0
    assert run_cli(["queue", "ls", "--state", "queued"]) == 0
    assert capsys.readouterr().out.count("queued") >= 3
    assert run_cli(["queue", "retry", "org/nobody"]) == 2
    assert "unknown request 'org/nobody'" in capsys.readouterr().err
    assert run_cli(["queue", "ls", "--state", "quued"]) == 2
    assert "'queued'" in capsys.readouterr().err


def test_a_snapshot_holds_nothing_private_and_is_no_record(queue: Queue, tmp_path: Path) -> None:
    from voxelboard.benchmark.records import load_records

    queue.add(entry("org/open"), "r", "narrative", "toy", "v1", "user")
    queue.add(entry("org/hidden", visibility="private"), "r", "narrative", "toy", "v1", "user")
    queue.skip("org/gated", "abc", "it is gated")
    queue.write_snapshot(tmp_path / "queue.json")
    text = (tmp_path / "queue.json").read_text(encoding="utf-8")
    assert "org/open" in text
    assert "org/gated" in text
    assert "org/hidden" not in text
    assert load_records(tmp_path) == []


def test_a_file_that_is_no_queue(tmp_path: Path) -> None:
    (tmp_path / "q").write_bytes(b"not a database" * 100)
    with pytest.raises(UserError) as caught:
        Queue(tmp_path / "q")
    assert caught.value.exit_code == 3
