# SPDX-License-Identifier: Apache-2.0
"""The local runner: one failing model takes nobody with it, and what is stored stays."""

import errno
import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
from fake_science import FakeScience

from voxelboard.benchmark.errors import InvalidNumbers, MissingPrerequisite, UserError
from voxelboard.benchmark.protocol import V1
from voxelboard.benchmark.readers.base import DatasetFacts
from voxelboard.benchmark.records import Record, read_record, statistics_path
from voxelboard.benchmark.settings import Settings
from voxelboard.benchmark.submission import load_submission
from voxelboard.runners.failures import classify
from voxelboard.runners.local import Outcome, execute
from voxelboard.runners.plan import Cell, Job, Plan, make_plan


class Log:
    """A reporter that remembers."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def started(self, job: Job, number: int, n_jobs: int) -> None:
        self.lines.append(f"{number}/{n_jobs} {job.submission.label}")

    def stage(self, job: Job, stage: str, done: int, total: int) -> None:
        self.lines.append(f"{stage} {done}/{total}")

    def stored(self, cell: Cell, record: Record) -> None:
        self.lines.append(f"stored {cell.subject}")

    def failed(self, cell: Cell, kind: str, message: str, trace: str | None) -> None:
        self.lines.append(f"failed {cell.subject} {kind}{' with trace' if trace else ''}")


def plan_of(results: Path, facts: DatasetFacts, *, fresh: bool = False) -> Plan:
    entries = [load_submission("planted-q0.9"), load_submission("planted-q0.3")]
    return make_plan(entries, "narrative", 1, facts, V1, results, fresh=fresh)


def fail_for(subject: str, error: BaseException) -> FakeScience:
    def fail(job: Job, asked: str) -> None:
        if job.submission.label.endswith("q0.9") and asked == subject:
            raise error

    return FakeScience(fail)


def test_every_cell_is_stored_and_reported(tmp_path: Path, facts: DatasetFacts, settings: Settings) -> None:
    log, science = Log(), FakeScience()
    plan = plan_of(tmp_path, facts)
    outcome = execute(plan, science, settings, log)
    assert outcome.exit_code() == 0
    assert len(outcome.stored) == 6
    assert log.lines[:5] == [
        "1/2 voxelboard/planted-q0.9",
        "features, story 1/2 1/2",
        "stored s1",
        "stored s2",
        "stored s3",
    ]
    assert all(read_record(cell.path) == record for cell, record in outcome.stored)

    again = FakeScience()
    assert execute(plan_of(tmp_path, facts), again, settings, Log()).stored == []
    assert again.asked == [], "nothing is asked for twice"


def test_a_failing_cell_leaves_a_record_and_the_others_go_on(
    tmp_path: Path, facts: DatasetFacts, settings: Settings
) -> None:
    log = Log()
    outcome = execute(plan_of(tmp_path, facts), fail_for("s2", ValueError("odd")), settings, log)

    assert [(cell.subject, kind, message) for cell, kind, message in outcome.failed] == [
        ("s2", "bug", "ValueError: odd"),
        ("s3", "bug", "ValueError: odd"),
    ]
    assert len(outcome.stored) == 4
    assert outcome.exit_code() == 1
    assert [line for line in log.lines if line.startswith("failed")] == ["failed s2 bug with trace", "failed s3 bug"]
    record = read_record(outcome.failed[0][0].path)
    assert record.status == "error"
    assert record.error is not None
    assert (record.error.kind, record.error.message) == ("bug", "ValueError: odd")
    assert record.protocol.hash == V1.hash_of("narrative")

    repaired = FakeScience()
    assert execute(plan_of(tmp_path, facts), repaired, settings, Log()).exit_code() == 0
    assert repaired.asked == [("voxelboard/planted-q0.9", ("s2", "s3"))]


def test_a_failing_second_run_does_not_replace_scores(tmp_path: Path, facts: DatasetFacts, settings: Settings) -> None:
    execute(plan_of(tmp_path, facts), FakeScience(), settings, Log())
    fresh = plan_of(tmp_path, facts, fresh=True)
    before = {cell.path: cell.path.read_bytes() for cell in fresh.cells}
    outcome = execute(fresh, fail_for("s1", MemoryError()), settings, Log())
    assert [kind for _, kind, _ in outcome.failed] == ["oom"] * 3
    assert {path: path.read_bytes() for path in before} == before


def test_ctrl_c_passes_and_what_is_stored_stays(tmp_path: Path, facts: DatasetFacts, settings: Settings) -> None:
    with pytest.raises(KeyboardInterrupt):
        execute(plan_of(tmp_path, facts), fail_for("s3", KeyboardInterrupt()), settings, Log())
    assert plan_of(tmp_path, facts).summary() == "2/6 cells stored, 4 to run"


def test_kill_9_then_resume_gives_the_bytes_of_an_uninterrupted_run(
    tmp_path: Path, facts: DatasetFacts, settings: Settings
) -> None:
    script = textwrap.dedent(
        f"""
        import os, signal
        from pathlib import Path
        from fake_science import FakeScience
        from voxelboard.benchmark.protocol import V1
        from voxelboard.benchmark.submission import load_submission
        from voxelboard.benchmark.settings import Settings
        from voxelboard.runners.local import execute
        from voxelboard.benchmark.readers.base import DatasetFacts
        from voxelboard.runners.plan import make_plan
        from voxelboard.runners.progress import ConsoleReporter

        def die(job, subject):
            if (job.submission.label, subject) == ("voxelboard/planted-q0.3", "s2"):
                os.kill(os.getpid(), signal.SIGKILL)

        facts = DatasetFacts("toy", "1.0.0", "simulated", ("s1", "s2", "s3"), True)
        entries = [load_submission("planted-q0.9"), load_submission("planted-q0.3")]
        plan = make_plan(entries, "narrative", 1, facts, V1, Path({str(tmp_path / "killed")!r}))
        execute(plan, FakeScience(die), Settings(V1), ConsoleReporter(quiet=True))
        """
    )
    path = os.pathsep.join([str(Path(__file__).parents[1] / "support"), os.environ.get("PYTHONPATH", "")])
    environment = {**os.environ, "PYTHONPATH": path}
    done = subprocess.run(
        [sys.executable, "-c", script], check=False, capture_output=True, text=True, timeout=60, env=environment
    )
    assert done.returncode == -signal.SIGKILL, done.stderr

    resumed = plan_of(tmp_path / "killed", facts)
    assert resumed.summary() == "4/6 cells stored, 2 to run"
    assert execute(resumed, FakeScience(), settings, Log()).exit_code() == 0
    whole = plan_of(tmp_path / "whole", facts)
    execute(whole, FakeScience(), settings, Log())
    for one, other in zip(resumed.cells, whole.cells, strict=True):
        assert one.path.read_bytes() == other.path.read_bytes()
        assert statistics_path(one.path).read_bytes() == statistics_path(other.path).read_bytes()


def test_a_full_disk_stops_the_run_with_code_3(
    tmp_path: Path, facts: DatasetFacts, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    execute(
        make_plan([load_submission("planted-q0.9")], "narrative", 1, facts, V1, tmp_path),
        FakeScience(),
        settings,
        Log(),
    )
    science = FakeScience()

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(UserError, match="No space left on device") as caught:
        execute(plan_of(tmp_path, facts), science, settings, Log())
    monkeypatch.undo()
    assert caught.value.exit_code == 3
    assert "resumes" in caught.value.hint
    assert plan_of(tmp_path, facts).summary() == "3/6 cells stored, 3 to run"


def test_a_science_that_forgets_a_subject_is_a_bug(tmp_path: Path, facts: DatasetFacts, settings: Settings) -> None:
    def forgetful(job: Job, settings: Settings, progress: object) -> list[tuple[Record, None]]:
        return []

    outcome = execute(plan_of(tmp_path, facts), forgetful, settings, Log())
    assert {kind for _, kind, _ in outcome.failed} == {"bug"}
    assert "ended without s1, s2, s3" in outcome.failed[0][2]


class OutOfMemoryError(RuntimeError):
    """Has the name of torch's."""


class RepositoryNotFoundError(Exception):
    """Has the name of the hub's."""


class GatedRepoError(RepositoryNotFoundError):
    """Has the name of the hub's."""


def caused(error: Exception, cause: Exception) -> Exception:
    error.__cause__ = cause
    return error


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (MemoryError(), "oom"),
        (OutOfMemoryError("CUDA"), "oom"),
        (RuntimeError("[enforce fail] DefaultCPUAllocator: not enough... out of memory"), "oom"),
        (GatedRepoError("403"), "gated"),
        (caused(MissingPrerequisite("accept the terms"), GatedRepoError("403")), "gated"),
        (caused(MissingPrerequisite("no such model"), RepositoryNotFoundError("404")), "not_found"),
        (MissingPrerequisite("no file x"), "not_found"),
        (UserError("the submission asks to run code", "then add --trust-remote-code"), "remote_code_required"),
        (UserError("needs code", "set trust_remote_code and remote_code_sha256"), "remote_code_required"),
        (UserError("a span lies outside the text"), "user"),
        (InvalidNumbers("states hold NaN"), "nan_features"),
        (InvalidNumbers("canary: a feature that knows only when"), "canary"),
        (TimeoutError("read timed out"), "timeout"),
        (ZeroDivisionError("division by zero"), "bug"),
    ],
)
def test_failures_have_a_class(error: Exception, kind: str) -> None:
    assert classify(error) == kind


def test_the_classes_of_libraries_are_the_real_ones() -> None:
    import huggingface_hub.errors as hub
    import torch

    from voxelboard.runners.failures import _BY_CLASS_NAME

    known = {name for name in _BY_CLASS_NAME if hasattr(hub, name)} | {torch.OutOfMemoryError.__name__}
    assert known == set(_BY_CLASS_NAME)


@pytest.mark.parametrize(
    ("kinds", "n_stored", "n_before", "code"),
    [
        ([], 0, 0, 0),
        ([], 3, 0, 0),
        (["bug"], 3, 0, 1),
        (["gated"], 3, 0, 1),
        (["gated"], 0, 2, 1),
        (["gated", "not_found", "oom"], 0, 0, 3),
        (["gated", "bug"], 0, 0, 1),
    ],
)
def test_exit_codes(kinds: list[str], n_stored: int, n_before: int, code: int) -> None:
    outcome = Outcome([(None, None)] * n_stored, [(None, kind, "") for kind in kinds])  # type: ignore[list-item, misc]
    assert outcome.exit_code(n_before) == code
