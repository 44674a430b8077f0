# SPDX-License-Identifier: Apache-2.0
"""A science for processes of their own: scores as ``fake_science``, or does what ``POOL_SCIENCE`` asks of a subject.

``POOL_SCIENCE`` is JSON, subject -> behaviour; ``POOL_LOG`` a folder where each start leaves a file.
"""

import json
import os
import signal
import socket
import time
from collections.abc import Iterable
from pathlib import Path

from fake_science import FakeScience

from voxelboard.benchmark.records import Arrays, Record
from voxelboard.benchmark.settings import Settings
from voxelboard.runners.local import CellRunner, StageProgress
from voxelboard.runners.plan import Job


def load() -> CellRunner:
    return behave


def behave(job: Job, settings: Settings, progress: StageProgress) -> Iterable[tuple[Record, Arrays | None]]:
    asked = json.loads(os.environ.get("POOL_SCIENCE", "{}"))
    for subject in job.subjects:
        progress(f"subject {subject}", 1, 2)
        how = asked.get(subject, asked.get(job.submission.label, ""))
        if how.startswith("once:"):
            mark = Path(os.environ["VOXELBOARD_CACHE"]) / f"once-{subject}"
            how = "" if mark.exists() else how.removeprefix("once:")
            mark.touch()
        _misbehave(how, settings)
        (result,) = FakeScience()(
            Job(job.submission, job.revision, job.task, job.dataset, _cells(job, subject)), settings, progress
        )
        record, arrays = result
        if asked.get(subject) == "forge":
            record = record.model_copy(update={"model": record.model.model_copy(update={"submission": "org/other"})})
        yield record, arrays


def _cells(job: Job, subject: str):  # type: ignore[no-untyped-def]
    return tuple(cell for cell in job.cells if cell.subject == subject)


def _misbehave(how: str, settings: Settings) -> None:
    name, _, value = how.partition(":")
    if name == "signal":
        os.kill(os.getpid(), int(value))
    elif name == "sleep":
        time.sleep(float(value))
    elif name == "deaf":
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        time.sleep(float(value))
    elif name == "exit":
        os._exit(int(value))
    elif name == "raise":
        raise RuntimeError(value)
    elif name == "oom-above" and (settings.batch_size == "auto" or settings.batch_size > int(value)):
        raise MemoryError
    elif name == "allocate":
        kept = []
        for _ in range(int(value)):
            kept.append(bytearray(1 << 20))
            kept[-1][::4096] = b"x" * 256
        time.sleep(0.5)
    elif name == "write":
        Path(value).write_text("outside", encoding="utf-8")
    elif name == "read":
        raise RuntimeError(f"read {Path(value).read_text(encoding='utf-8')}")
    elif name == "connect":
        socket.create_connection(("127.0.0.1", int(value)), timeout=2)
    elif name == "environment":
        raise RuntimeError(json.dumps(sorted(os.environ)))
    elif name == "environ-of-parent":
        raise RuntimeError(f"read {len(Path(f'/proc/{os.getppid()}/environ').read_bytes())}")
    elif name == "signal-parent":
        os.kill(os.getppid(), signal.SIGTERM)
