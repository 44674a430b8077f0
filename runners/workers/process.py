# SPDX-License-Identifier: Apache-2.0
"""The pool's end of the fork server: starting processes, hearing from them, ending them."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from voxelboard.benchmark.records import ErrorClass
from voxelboard.runners.plan import Cell
from voxelboard.runners.workers.child import Confinement
from voxelboard.runners.workers.fences import without_secrets
from voxelboard.runners.workers.server import PACKET_BYTES
from voxelboard.runners.workers.stages import Stage

_MOST_LINE_BYTES = 1 << 20
_START_SECONDS = 120.0
_TAIL_BYTES = 600

Failure = tuple[ErrorClass, str, str | None]  # kind, message, traceback


@dataclass
class Running:
    """A process with its stage."""

    stage: Stage
    slot: int
    folder: Path
    pid: int
    events: int
    waiting: list[Cell]
    failure: Failure | None = None
    at_end: bool = False
    since: float = field(default_factory=time.monotonic)
    _buffer: bytes = b""

    @property
    def seconds(self) -> float:
        """Since it began."""
        return time.monotonic() - self.since

    def read_events(self) -> Iterator[dict[str, Any]]:
        """The lines that have come. A line that is too long or no JSON ends the process: it is not ours any more."""
        while not self.at_end:
            try:
                chunk = os.read(self.events, 65536)
            except BlockingIOError:
                return
            if not chunk:
                self.at_end = True
            *lines, self._buffer = (self._buffer + chunk).split(b"\n")
            for line in lines:
                try:
                    event = json.loads(line)
                except ValueError:
                    event = None
                if not isinstance(event, dict):
                    self.kill(("bug", "the process said what it should not", None))
                    return
                yield event
            if len(self._buffer) > _MOST_LINE_BYTES:
                self.kill(("bug", "the process said more than it should", None))
                return

    def resident_bytes(self) -> int:
        """Of host memory; 0 when it is gone."""
        try:
            pages = int(Path(f"/proc/{self.pid}/statm").read_text(encoding="ascii").split()[1])
        except (OSError, ValueError, IndexError):
            return 0
        return pages * os.sysconf("SC_PAGE_SIZE")

    def kill(self, failure: Failure) -> None:
        """End it at once, for a reason."""
        self.failure = self.failure or failure
        self.signal(signal.SIGKILL)

    def signal(self, number: signal.Signals) -> None:
        """To the process and whatever it started."""
        for send in (os.killpg, os.kill):
            with suppress(ProcessLookupError, PermissionError):
                send(self.pid, number)

    def log_tail(self) -> str:
        """The last line that it printed."""
        try:
            text = (self.folder / "log.txt").read_bytes()[-_TAIL_BYTES:].decode("utf-8", "replace").strip()
        except OSError:
            return ""
        return text.splitlines()[-1] if text else ""

    def close(self) -> None:
        """Close the pipe."""
        os.close(self.events)


class ForkServer:
    """A context manager around the process of ``server.py``."""

    def __init__(self, preload: tuple[str, ...]) -> None:
        self._preload = preload
        self._process: subprocess.Popen[bytes] | None = None
        self._packets: list[dict[str, Any]] = []

    def __enter__(self) -> Self:
        self.control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            command = [sys.executable, "-m", "voxelboard.runners.workers.server", str(theirs.fileno()), *self._preload]
            # waiting threads must not spin, as in __main__; secrets stay here
            environment = {"OMP_WAIT_POLICY": "passive", "KMP_BLOCKTIME": "0", **without_secrets(dict(os.environ))}
            self._process = subprocess.Popen(
                command, pass_fds=(theirs.fileno(),), env=environment, stdin=subprocess.DEVNULL, start_new_session=True
            )
        self.control.settimeout(_START_SECONDS)
        if "ready" not in self._receive():
            raise RuntimeError("the fork server ended before it began; its error stands above")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.control.close()
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def start(self, stage: Stage, slot: int, folder: Path, confinement: Confinement, science: str) -> Running:
        """Fork a process for a stage."""
        read, write = os.pipe()
        request = {
            "key": str(folder),
            "folder": str(folder.resolve()),
            "confinement": asdict(confinement),
            "science": science,
        }
        try:
            socket.send_fds(self.control, [json.dumps(request).encode()], [write])
        finally:
            os.close(write)
        os.set_blocking(read, False)
        self.control.settimeout(_START_SECONDS)
        while True:
            packet = self._receive()
            if packet.get("key") == request["key"]:
                return Running(stage, slot, folder, int(packet["pid"]), read, list(stage.cells))
            self._packets.append(packet)

    def news(self) -> Iterator[tuple[int, int, int]]:
        """(process id, exit status, peak bytes) of the processes that ended."""
        self.control.settimeout(0.0)
        with suppress(BlockingIOError):
            while True:
                self._packets.append(self._receive())
        packets, self._packets = self._packets, []
        for packet in packets:
            yield int(packet["pid"]), int(packet["status"]), int(packet["peak_bytes"])

    def _receive(self) -> dict[str, Any]:
        packet = self.control.recv(PACKET_BYTES)
        if not packet:
            raise RuntimeError("the fork server is gone: its processes were ended, what is stored stays")
        message: dict[str, Any] = json.loads(packet)
        return message
