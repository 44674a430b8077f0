# SPDX-License-Identifier: Apache-2.0
"""One night: find models, queue them, score them within a budget, draw the board, and say what changed.

Every step can be stopped and done again: what is queued is not queued twice, what is stored is kept, and a lock lets one night
at a time into a results folder.
"""

import fcntl
import json
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from voxelboard.benchmark.atomic import replace_file
from voxelboard.benchmark.errors import UserError
from voxelboard.benchmark.settings import Settings
from voxelboard.runners.facts import task_facts
from voxelboard.runners.launching import Launch
from voxelboard.runners.queueing.filters import HubFilter
from voxelboard.runners.queueing.hub import Patience, discover
from voxelboard.runners.queueing.standings import Change, differences, standings
from voxelboard.runners.queueing.store import Queue, Request
from voxelboard.runners.queueing.work import Budget, Worked, work
from voxelboard.runners.workers.child import SCIENCE

_MOST_NAMES = 8  # of models that are skipped for one reason


@dataclass
class Night:
    """What a night brought.

    Attributes
    ----------
    found : models looked at. ``queued``: of them new in the queue, as ``model · task``. ``skipped``: model -> why.
    """

    found: int = 0
    queued: list[str] = field(default_factory=list)
    skipped: dict[str, str] = field(default_factory=dict)
    worked: Worked = field(default_factory=Worked)
    changes: list[Change] = field(default_factory=list)
    waiting: int = 0

    @property
    def exit_code(self) -> int:
        """0, or 1 when a model failed."""
        return 1 if self.worked.failed else 0

    def as_json(self) -> dict[str, Any]:
        """``summary.json``."""
        return {
            "schema_version": 1,
            "found": self.found,
            "queued": self.queued,
            "skipped": self.skipped,
            "done": [f"{one.submission} · {one.task}" for one in self.worked.done],
            "failed": {f"{one.submission} · {one.task}": reason for one, reason in self.worked.failed},
            "left": {f"{one.submission} · {one.task}": reason for one, reason in self.worked.left},
            "stopped": self.worked.stopped,
            "waiting": self.waiting,
            "changes": [change.as_json() for change in self.changes],
            "exit_code": self.exit_code,
        }

    def as_markdown(self) -> str:
        """``summary.md``. Names come from strangers: they stand in code."""
        done, failed = self.worked.done, self.worked.failed
        lines = [
            "# Night",
            "",
            (
                f"{self.found} models looked at, {len(self.queued)} queued, {len(self.skipped)} skipped; {len(done)} scored, "
                f"{len(failed)} failed, {self.waiting} wait{f' ({self.worked.stopped})' if self.worked.stopped else ''}."
            ),
        ]
        for title, kinds in (("New", ("new",)), ("Moved, and why", ("moved", "changed", "gone"))):
            rows = [change for change in self.changes if change.kind in kinds]
            if rows:
                lines += ["", f"## {title}", "", "| row | column | rank | score | why |", "|---|---|---|---|---|"]
                lines += [_row(change) for change in rows]
        for title, pairs in (
            ("Failed, and why", [(f"{one.submission} · {one.task}", reason) for one, reason in failed]),
            (
                "Left for another night",
                [(f"{one.submission} · {one.task}", reason) for one, reason in self.worked.left],
            ),
        ):
            if pairs:
                lines += ["", f"## {title}", "", *(f"- {_code(name)}: {_code(reason)}" for name, reason in pairs)]
        if self.skipped:
            lines += ["", "## Skipped, and why", "", *self._skipped_lines()]
        return "\n".join(lines) + "\n"

    def _skipped_lines(self) -> Iterator[str]:
        """A line each reason, the most frequent first, with the first models that it met."""
        models: dict[str, list[str]] = {}
        for name, reason in self.skipped.items():
            models.setdefault(reason, []).append(name)
        for reason, names in sorted(models.items(), key=lambda item: (-len(item[1]), item[0])):
            shown = ", ".join(_code(name) for name in names[:_MOST_NAMES])
            more = f" and {len(names) - _MOST_NAMES} more, all in `.summary.json`" if len(names) > _MOST_NAMES else ""
            yield f"- {len(names)}: {_code(reason)}: {shown}{more}"


def nightly(
    wanted: HubFilter,
    results: Path,
    board: Path,
    settings: Settings,
    how: Launch,
    budget: Budget,
    *,
    patience: Patience | None = None,
    science: str = SCIENCE,
) -> Night:
    """Discover, queue, work, draw, compare; writes ``summary.md`` and ``.summary.json`` into ``results/.nightly``.

    Raises
    ------
    UserError
        when another night works on this folder, and for a hub that cannot be listed.
    """
    with only_one(results / ".nightly"):
        night, queue = Night(), Queue(results / ".queue.sqlite3")
        before = standings(results)
        find(wanted, queue, settings, night, patience)
        queue.write_snapshot(results / "queue.json")
        night.worked = work(queue, results, settings, how, budget, science=science)
        night.waiting = len(queue.requests("queued"))
        after = standings(results)
        night.changes = without_left(differences(before, after), night.worked.left)
        if after:
            from voxelboard.runners.commands.render import draw

            draw(results, board, include_private=False)
        write_summary(night, results / ".nightly")
        return night


def without_left(changes: list[Change], left: list[tuple[Request, str]]) -> list[Change]:
    """The changes, but for rows that are new only because they were stopped with the night: these are told as left."""
    rows = {f"{request.submission} @ {request.revision[:12]}" for request, _ in left}
    return [change for change in changes if change.kind != "new" or change.row not in rows]


def find(wanted: HubFilter, queue: Queue, settings: Settings, night: Night, patience: Patience | None) -> None:
    """Ask the hub and queue what may be taken; note why the rest is not."""
    for found in discover(wanted, patience=patience):
        night.found += 1
        if found.submission is None:
            night.skipped[found.model] = found.reason
            if not found.for_now:
                queue.skip(found.model, found.revision, found.reason)
            continue
        for task in wanted.tasks:
            facts = task_facts(task, wanted.data)
            if queue.add(found.submission, found.revision, task, facts.data, settings.protocol.name, "nightly"):
                night.queued.append(f"{found.model} · {task}")


def write_summary(night: Night, folder: Path) -> None:
    """The night as markdown and as JSON."""
    text = json.dumps(night.as_json(), indent=1, sort_keys=True, ensure_ascii=False)
    # with a dot: below the results, other JSON files are records
    replace_file(folder / "summary.md", lambda file: file.write(night.as_markdown().encode()))
    replace_file(folder / ".summary.json", lambda file: file.write(text.encode()))


@contextmanager
def only_one(folder: Path) -> Iterator[None]:
    """Hold the lock of a folder; the kernel lets go of it when the process ends, however it ends."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("a") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise UserError(
                f"another night works on {folder.parent}", "wait for it, or name another --output"
            ) from error
        yield


def push(folders: list[Path], message: str) -> None:
    """Commit what changed in ``folders`` with git and push it; nothing happens when nothing changed.

    Raises
    ------
    UserError
        with what git says.
    """
    root = folders[0].resolve()
    root = root if root.is_dir() else root.parent

    def git(*arguments: str) -> str:
        done = subprocess.run(
            ["git", "-C", str(root), *arguments], capture_output=True, text=True, timeout=600, check=False
        )
        if done.returncode != 0:
            raise UserError(
                f"git {arguments[0]} failed: {done.stderr.strip()[-300:]}", "what was scored is stored; push by hand"
            )
        return done.stdout

    places = [str(folder.resolve()) for folder in folders if folder.exists()]
    git("add", "--", *places)
    if git("diff", "--cached", "--name-only", "--", *places).strip():
        git("commit", "--quiet", "-m", message, "--", *places)
        git("push", "--quiet")


def _row(change: Change) -> str:
    now, was = change.after, change.before
    rank = " → ".join(_rank(one) for one in (was, now) if one is not None)
    score = " → ".join("–" if one.score is None else f"{one.score:.3f}" for one in (was, now) if one is not None)
    return f"| {_code(change.row)} | {_code(change.column)} | {rank} | {score} | {_code(change.why)} |"


def _rank(standing: Any) -> str:
    if standing.low is None:
        return "–"
    return f"{standing.low}" if standing.low == standing.high else f"{standing.low}–{standing.high}"


def _code(text: str) -> str:
    plain = "".join(character if character.isprintable() else "?" for character in text)
    return f"`{plain.replace('`', chr(39)).replace('|', '/')}`"
