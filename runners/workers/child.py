# SPDX-License-Identifier: Apache-2.0
"""The inside of a stage's process: fences first, then the work, told line by line through a pipe.

Nothing of what it says is believed: the pool checks each record before it takes it (``records.py`` of this package).
"""

import importlib
import os
import signal
import sys
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

from voxelboard.benchmark.errors import StorageError
from voxelboard.benchmark.records import write_record
from voxelboard.runners.failures import classify, message_of
from voxelboard.runners.workers.fences import close_fences, die_with_parent, is_secret, limit_resources
from voxelboard.runners.workers.stages import Stage, send_line, stage_file

SCIENCE = "voxelboard.runners.science:load_science"
_SECONDS_BETWEEN_LINES = 0.2


class Stopped(BaseException):
    """The pool asked for an end (SIGTERM): temporary files are removed on the way out."""


@dataclass(frozen=True)
class Confinement:
    """What a process may do.

    Attributes
    ----------
    fenced : no network, and only the files below.
    read, write : folders beside those of Python and the system.
    cache : folder of the feature store (``VOXELBOARD_CACHE``).
    memory_bytes : bound on its private memory, None for none (with a GPU: CUDA maps more than it uses).
    gpu : index of the one GPU that it sees, None for the CPU alone.
    threads : of a matrix product.
    """

    fenced: bool = True
    read: tuple[str, ...] = ()
    write: tuple[str, ...] = ()
    cache: str = ""
    memory_bytes: int | None = None
    gpu: int | None = None
    threads: int = 1


def run_child(folder: Path, confinement: Confinement, science: str, events: int) -> int:
    """Do the stage of ``folder`` and return the exit status of the process. ``events`` is a file descriptor."""
    say = _speaker(events)
    try:
        _settle(folder)
        fences = _confine(folder, confinement)
        say({"event": "begun", "fences": fences, "pid": os.getpid()})
        text = stage_file(folder).read_text(encoding="utf-8")
        sys.argv = Stage.command_of(text)
        stage = Stage.from_json(text, folder)
        _work(stage, science, say)
    except Stopped:
        return 128 + signal.SIGTERM
    except BaseException as error:  # noqa: BLE001 - whatever it is, the pool is told what
        kind = classify(error)
        trace = "".join(traceback.format_exception(error)) if kind == "bug" else None
        full = isinstance(error, StorageError)
        say({"event": "failed", "kind": kind, "message": message_of(error), "trace": trace, "storage": full})
        return 1
    say({"event": "done"})
    return 0


def _work(stage: Stage, science: str, say: Callable[[dict[str, Any]], None]) -> None:
    last: tuple[str, float] = ("", 0.0)

    def progress(name: str, done: int = 0, total: int = 0) -> None:
        nonlocal last
        now = time.monotonic()
        if name != last[0] or now - last[1] > _SECONDS_BETWEEN_LINES or done == total:
            last = (name, now)
            say({"event": "progress", "stage": name, "done": done, "total": total})

    if stage.kind == "features":
        from voxelboard.benchmark.evaluate import prepare

        job = stage.job
        prepare(job.submission, job.task, job.data, stage.settings, progress)
        return
    module, _, name = science.partition(":")
    runner = getattr(importlib.import_module(module), name)()
    paths = {cell.subject: cell.path for cell in stage.cells}
    for record, arrays in runner(stage.job, stage.settings, progress):
        write_record(paths[record.subject], record, arrays)
        say({"event": "scored", "subject": record.subject})


def _settle(folder: Path) -> None:
    """A session of its own (Ctrl-C in the terminal is the pool's business), its output in a file, no secrets."""
    os.setsid()
    die_with_parent(signal.SIGKILL)

    def stop(_number: int, _frame: FrameType | None) -> None:
        raise Stopped

    signal.signal(signal.SIGTERM, stop)
    log = os.open(folder / "log.txt", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    nothing = os.open(os.devnull, os.O_RDONLY)
    for source, target in ((nothing, 0), (log, 1), (log, 2)):
        os.dup2(source, target)
    os.close(log)
    os.close(nothing)
    for name in [name for name in os.environ if is_secret(name)]:
        del os.environ[name]
    temporary = folder / "tmp"
    temporary.mkdir(exist_ok=True)
    os.environ["TMPDIR"] = os.environ["CUDA_CACHE_PATH"] = str(temporary)


def _confine(folder: Path, confinement: Confinement) -> str:
    import tempfile

    tempfile.tempdir = str(folder / "tmp")
    os.environ["CUDA_VISIBLE_DEVICES"] = "" if confinement.gpu is None else str(confinement.gpu)
    if confinement.cache:
        Path(confinement.cache).mkdir(parents=True, exist_ok=True)
        os.environ["VOXELBOARD_CACHE"] = confinement.cache
    limit_resources(memory_bytes=confinement.memory_bytes)
    fences = "not asked for"
    if confinement.fenced:
        read = [Path(place) for place in confinement.read]
        fences = str(close_fences(read=read, write=[folder, *(Path(place) for place in confinement.write)]))
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(confinement.threads)
    return fences


def _speaker(events: int) -> Callable[[dict[str, Any]], None]:
    def say(event: dict[str, Any]) -> None:
        rest = memoryview(send_line(event))
        while rest:
            rest = rest[os.write(events, rest) :]

    return say
