# SPDX-License-Identifier: Apache-2.0
"""A board for its author: drawn again when records change, and served on this machine only."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

from voxelboard.benchmark.errors import UserError
from voxelboard.benchmark.records import STUDIES

HOST = "127.0.0.1"
Fingerprint = tuple[tuple[str, int, int], ...]


class _Handler(SimpleHTTPRequestHandler):
    """Static files without a log line each, never cached, never listed."""

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002  the name that the base class has
        """Say nothing: the terminal is for the author."""

    def end_headers(self) -> None:
        self.send_header("Cache-Control", "no-store")
        self.send_header("X-Content-Type-Options", "nosniff")
        super().end_headers()

    def list_directory(self, path: object) -> None:  # noqa: ARG002
        """A folder without an index is not shown."""
        self.send_error(404)


@contextmanager
def serving(folder: Path, port: int) -> Iterator[str]:
    """Serve a folder on the loopback interface and give its address; ``port`` 0 takes any free one.

    Raises
    ------
    UserError
        when the port is taken.
    """
    try:
        server = ThreadingHTTPServer((HOST, port), partial(_Handler, directory=str(folder)))
    except OSError as error:
        raise UserError(
            f"cannot listen on {HOST}:{port}: {error.strerror or error}", "choose another --port, or 0 for any"
        ) from error
    thread = Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://{HOST}:{server.server_address[1]}/"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def fingerprint(results: Path) -> Fingerprint:
    """Names, sizes and times of the records, the queue and the studies: what a board depends on."""
    beside = results.resolve().parent
    files = [*sorted(results.rglob("*.json")), beside / "queue.json", *sorted((beside / STUDIES).rglob("*.json"))]
    found = []
    for path in files:
        try:
            facts = path.stat()
        except OSError:  # gone between listing and looking, or no queue
            continue
        found.append((str(path), facts.st_size, facts.st_mtime_ns))
    return tuple(found)


def watch(results: Path, changed: Callable[[], None], *, every_s: float = 1.0, rounds: int | None = None) -> None:
    """Call ``changed`` whenever records changed; looks every ``every_s`` seconds, for ever or for so many ``rounds``.

    A run writes one record after the other, so it waits until nothing changed for a round.
    """
    drawn = seen = fingerprint(results)
    done = 0
    while rounds is None or done < rounds:
        time.sleep(every_s)
        done += 1
        now = fingerprint(results)
        if now == seen and now != drawn:
            drawn = now
            changed()
        seen = now
