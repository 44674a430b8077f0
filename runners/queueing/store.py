# SPDX-License-Identifier: Apache-2.0
"""The queue: one SQLite file in WAL mode.

Why SQLite and not one file a request: a lease is one transaction, so two workers cannot take the same request whatever
the timing; a kill at any byte leaves the state before or after; listing thousands takes milliseconds; and it is in the
standard library. What it costs: all workers of a queue run on one machine, since WAL needs shared memory (a cluster's nodes
get jobs from Slurm, not from the queue). Leases are therefore timed by that machine's clock since boot, which nobody sets:
a step of the wall clock neither ends a lease nor keeps a dead one.
"""

import json
import sqlite3
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, Literal, get_args

from voxelboard.benchmark.atomic import replace_file
from voxelboard.benchmark.errors import UserError, unknown_name
from voxelboard.benchmark.submission import Submission

State = Literal["queued", "running", "done", "failed", "cancelled"]
STATES: Final[tuple[State, ...]] = get_args(State)
LEASE_SECONDS: Final = 120.0
SNAPSHOT_VERSION: Final = 1

_SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS requests (
    id INTEGER PRIMARY KEY,
    submission TEXT NOT NULL, revision TEXT NOT NULL, task TEXT NOT NULL, data TEXT NOT NULL, protocol TEXT NOT NULL,
    entry TEXT NOT NULL,
    state TEXT NOT NULL, reason TEXT NOT NULL, source TEXT NOT NULL,
    size INTEGER NOT NULL, attempts INTEGER NOT NULL DEFAULT 0,
    added_at TEXT NOT NULL, changed_at TEXT NOT NULL,
    boot TEXT NOT NULL DEFAULT '', lease_until REAL NOT NULL DEFAULT 0, lease INTEGER NOT NULL DEFAULT 0,
    UNIQUE (submission, revision, task, data, protocol)
);
CREATE INDEX IF NOT EXISTS by_state ON requests (state, size, id);
CREATE TABLE IF NOT EXISTS skips (
    model TEXT PRIMARY KEY, revision TEXT NOT NULL, reason TEXT NOT NULL, seen_at TEXT NOT NULL
);
"""


@dataclass(frozen=True)
class Request:
    """One submission on one task and data set.

    Attributes
    ----------
    entry : the submission as JSON.
    reason : why it failed or was cancelled; otherwise empty.
    source : ``user`` or ``nightly``.
    size : what the order goes by, the number of parameters; 0 when it is not known.
    attempts : how often a worker took it.
    lease : number of the present lease; a worker that lost its lease has another one.
    """

    id: int
    submission: str
    revision: str
    task: str
    data: str
    protocol: str
    entry: str
    state: State
    reason: str
    source: str
    size: int
    attempts: int
    added_at: str
    changed_at: str
    lease: int = 0

    def public(self) -> dict[str, object]:
        """As ``queue.json`` and ``queue ls --json`` show it."""
        return {name: value for name, value in asdict(self).items() if name not in ("entry", "lease")}

    def load(self) -> Submission:
        """The submission."""
        return Submission.model_validate_json(self.entry)


@dataclass(frozen=True)
class Skip:
    """A model that was found and not queued."""

    model: str
    revision: str
    reason: str
    seen_at: str


_COLUMNS: Final = ", ".join(Request.__dataclass_fields__)


class Queue:
    """Requests and their states. Every method is one transaction; any number of processes of this machine may call them."""

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            # a connection for each thread: the heartbeat has its own
            self._connection = sqlite3.connect(path, timeout=30.0, isolation_level=None)
            mode = self._connection.execute("PRAGMA journal_mode=WAL").fetchone()[0]
            self._connection.execute("PRAGMA synchronous=FULL")
            self._connection.executescript(_SCHEMA)
        except (sqlite3.Error, OSError) as error:
            raise UserError(
                f"cannot open the queue {path}: {error}", "name another file with --queue", exit_code=3
            ) from error
        if mode != "wal":
            raise UserError(
                f"the queue {path} cannot use a write-ahead log here (a network file system?)",
                "put it on a local disk with --queue",
            )

    def close(self) -> None:
        """Let go of the file."""
        self._connection.close()

    def add(self, submission: Submission, revision: str, task: str, data: str, protocol: str, source: str) -> bool:
        """Add a request; one that was cancelled comes back when a ``user`` asks. False when it is there already."""
        place = (submission.label, revision, task, data, protocol)
        entry, now = submission.model_dump_json(exclude_none=True), _now()
        with self._transaction() as execute:
            known = execute(
                "SELECT id, state FROM requests WHERE (submission, revision, task, data, protocol) = (?, ?, ?, ?, ?)",
                place,
            ).fetchone()
            if known is None:
                execute(
                    "INSERT INTO requests (submission, revision, task, data, protocol, entry, state, reason, source, size,"
                    " added_at, changed_at) VALUES (?, ?, ?, ?, ?, ?, 'queued', '', ?, ?, ?, ?)",
                    (*place, entry, source, submission.metadata.n_parameters or 0, now, now),
                )
                return True
            if known[1] != "cancelled" or source != "user":
                return False
            execute(
                "UPDATE requests SET state = 'queued', reason = '', entry = ?, changed_at = ? WHERE id = ?",
                (entry, now, known[0]),
            )
            return True

    def skip(self, model: str, revision: str, reason: str) -> bool:
        """Note why a model was not queued; True when that is news."""
        with self._transaction() as execute:
            known = execute("SELECT revision, reason FROM skips WHERE model = ?", (model,)).fetchone()
            if known == (revision, reason):
                return False
            execute("REPLACE INTO skips VALUES (?, ?, ?, ?)", (model, revision, reason, _now()))
            return True

    def skips(self) -> list[Skip]:
        """Models that were found and not queued, by name."""
        rows = self._connection.execute("SELECT model, revision, reason, seen_at FROM skips ORDER BY model")
        return [Skip(*row) for row in rows]

    def requests(self, state: str | None = None) -> list[Request]:
        """All requests, or those of one state, in the order in which they would be taken."""
        if state is not None and state not in STATES:
            raise unknown_name("state", state, STATES)
        where, values = ("WHERE state = ?", (state,)) if state else ("", ())
        rows = self._connection.execute(f"SELECT {_COLUMNS} FROM requests {where} ORDER BY size, id", values)  # noqa: S608
        return [Request(*row) for row in rows]

    def take(self, seconds: float = LEASE_SECONDS) -> Request | None:
        """Lease the smallest request that waits, or whose worker let its lease end; None when there is none."""
        boot, clock = boot_clock()
        with self._transaction() as execute:
            row = execute(
                "SELECT id FROM requests WHERE state = 'queued' OR (state = 'running' AND (boot <> ? OR lease_until < ?))"
                " ORDER BY size, id LIMIT 1",
                (boot, clock),
            ).fetchone()
            if row is None:
                return None
            execute(
                "UPDATE requests SET state = 'running', reason = '', attempts = attempts + 1, lease = lease + 1, boot = ?,"
                " lease_until = ?, changed_at = ? WHERE id = ?",
                (boot, clock + seconds, _now(), row[0]),
            )
            found = execute(f"SELECT {_COLUMNS} FROM requests WHERE id = ?", row).fetchone()  # noqa: S608
            return Request(*found)

    def renew(self, request: Request, seconds: float = LEASE_SECONDS) -> bool:
        """Hold a lease for longer; False when it is another's by now or the request was cancelled."""
        boot, clock = boot_clock()
        with self._transaction() as execute:
            return bool(
                execute(
                    "UPDATE requests SET lease_until = ? WHERE id = ? AND lease = ? AND boot = ? AND state = 'running'",
                    (clock + seconds, request.id, request.lease, boot),
                ).rowcount
            )

    def finish(self, request: Request, state: State, reason: str = "") -> bool:
        """Say how it ended (or ``queued``: another time); False, and nothing changes, when the lease was lost."""
        with self._transaction() as execute:
            return bool(
                execute(
                    "UPDATE requests SET state = ?, reason = ?, changed_at = ? WHERE id = ? AND lease = ?"
                    " AND state = 'running'",
                    (state, reason, _now(), request.id, request.lease),
                ).rowcount
            )

    def retry(self, names: Sequence[str]) -> list[Request]:
        """Queue again what failed or was cancelled; ``names`` are ids, submissions or states (``failed``)."""
        return self._change(names, ("failed", "cancelled"), "queued", "")

    def cancel(self, names: Sequence[str]) -> list[Request]:
        """Cancel what waits or runs. A running one keeps the cells that are stored, and its worker stops at the next lease."""
        return self._change(names, ("queued", "running", "failed"), "cancelled", "cancelled by hand")

    def _change(self, names: Sequence[str], of: Sequence[State], to: State, reason: str) -> list[Request]:
        everything = self.requests()
        chosen: dict[int, Request] = {}
        for name in names:
            found = [one for one in everything if name in (str(one.id), one.submission, one.state)]
            if not found:
                allowed = {one.submission for one in everything} | {one.state for one in everything}
                raise unknown_name("request", name, allowed, "`voxelboard queue ls` shows ids, names and states")
            chosen |= {one.id: one for one in found if one.state in of}
        with self._transaction() as execute:
            for number in chosen:
                execute(
                    "UPDATE requests SET state = ?, reason = ?, changed_at = ?, lease = lease + 1 WHERE id = ?",
                    (to, reason, _now(), number),
                )
        return list(chosen.values())

    def snapshot(self) -> dict[str, object]:
        """The queue as plain JSON, in the form of docs/queue.md; nothing of private or embargoed submissions."""
        shown = [one for one in self.requests() if one.load().visibility == "public"]
        counts = {state: sum(one.state == state for one in shown) for state in STATES}
        rows = [one.public() for one in shown]
        skipped = [asdict(one) for one in self.skips()]
        return {"schema_version": SNAPSHOT_VERSION, "counts": counts, "requests": rows, "skipped": skipped}

    def write_snapshot(self, path: Path) -> None:
        """Write ``queue.json``, which the board draws its queue from; only when something changed."""
        text = json.dumps(self.snapshot(), indent=1, sort_keys=True, ensure_ascii=False) + "\n"
        if not path.is_file() or path.read_text(encoding="utf-8") != text:
            replace_file(path, lambda file: file.write(text.encode()))

    @contextmanager
    def _transaction(self) -> Iterator[Callable[..., sqlite3.Cursor]]:
        self._connection.execute("BEGIN IMMEDIATE")
        try:
            yield self._connection.execute
        except BaseException:
            self._connection.execute("ROLLBACK")
            raise
        self._connection.execute("COMMIT")


def boot_clock() -> tuple[str, float]:
    """Which boot this is, and the seconds since; unlike the wall clock it is never set."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        return boot, time.clock_gettime(time.CLOCK_BOOTTIME)
    except (OSError, AttributeError):  # not Linux
        return "", time.monotonic()


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
