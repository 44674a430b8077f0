# SPDX-License-Identifier: Apache-2.0
"""The fork server: a process that has imported the science and forks one child for each stage.

A new interpreter takes seconds to import PyTorch; a fork takes milliseconds, and a crash, a leak or a memory limit still
hits one stage only. It computes nothing itself (no threads, no GPU), so that its children can.

``python -m voxelboard.runners.workers.server FD MODULE...``: FD is a socket to the pool.
"""

import importlib.util
import json
import os
import selectors
import signal
import socket
import sys
from pathlib import Path
from typing import Any

from voxelboard.runners.workers.child import Confinement, run_child
from voxelboard.runners.workers.fences import die_with_parent

PACKET_BYTES = 64 * 1024


def main(arguments: list[str]) -> int:
    """Fork a child for each packet, tell how each ended, leave when the pool is gone."""
    control = socket.socket(fileno=int(arguments[0]))
    die_with_parent(signal.SIGKILL)
    # Ctrl-C, and what a cluster sends to all processes of a job, are the pool's business; it ends this one
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2):
        signal.signal(number, signal.SIG_IGN)
    for module in arguments[1:]:
        if importlib.util.find_spec(module):
            importlib.import_module(module)
    wake_read, wake_write = os.pipe()
    for end in (wake_read, wake_write):
        os.set_blocking(end, False)
    signal.signal(signal.SIGCHLD, lambda number, frame: None)
    signal.set_wakeup_fd(wake_write, warn_on_full_buffer=False)
    control.send(json.dumps({"ready": os.getpid()}).encode())
    with selectors.DefaultSelector() as selector:
        selector.register(control, selectors.EVENT_READ)
        selector.register(wake_read, selectors.EVENT_READ)
        while True:
            for key, _ in selector.select():
                if key.fileobj is control:
                    if not _start(control):
                        return 0
                else:
                    _drain(wake_read)
                    _bury(control)


def _start(control: socket.socket) -> bool:
    packet, descriptors, _, _ = socket.recv_fds(control, PACKET_BYTES, 1)
    if not packet:
        return False
    request = json.loads(packet)
    events = descriptors[0]
    child = os.fork()
    if child == 0:
        _become_child(control, request, events)
    os.close(events)
    control.send(json.dumps({"key": request["key"], "pid": child}).encode())
    return True


def _become_child(control: socket.socket, request: dict[str, Any], events: int) -> None:
    status = 1
    try:
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        control.close()
        given = request["confinement"]
        confinement = Confinement(**{**given, "read": tuple(given["read"]), "write": tuple(given["write"])})
        status = run_child(Path(request["folder"]), confinement, request["science"], events)
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
    finally:
        os._exit(status)


def _drain(descriptor: int) -> None:
    try:
        while os.read(descriptor, 512):
            pass
    except BlockingIOError:
        return


def _bury(control: socket.socket) -> None:
    while True:
        try:
            child, status, usage = os.wait4(-1, os.WNOHANG)
        except ChildProcessError:
            return
        if child == 0:
            return
        ended = {"pid": child, "status": os.waitstatus_to_exitcode(status), "peak_bytes": usage.ru_maxrss * 1024}
        control.send(json.dumps(ended).encode())


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
