# SPDX-License-Identifier: Apache-2.0
"""The queue and everything that has no score, each with its reason."""

from collections import Counter
from collections.abc import Mapping
from typing import Any

from voxelboard.leaderboard.board import Board, Entry
from voxelboard.leaderboard.pages.facts import display_name
from voxelboard.leaderboard.pages.table import name_subjects
from voxelboard.leaderboard.queue_state import QueueSnapshot
from voxelboard.leaderboard.text import plain

_ORDER = ("running", "queued", "failed", "cancelled", "done")
_MAX_DONE = 50
_MAX_ROWS = 2000
KINDS = {
    "oom": "The model needs more memory than the machine has. Ask for a larger device, or submit a smaller dtype.",
    "gated": "The repository asks for an agreement that nobody here has accepted.",
    "not_found": "No such repository or revision. `voxelboard check FILE --fix` looks the revision up.",
    "remote_code_required": "The repository needs its own Python code, which runs only if the submission pins its hash.",
    "nan_features": "The model gave states that are not numbers, often float16 overflow: submit float32 or bfloat16.",
    "canary": "A check found that the numbers would mean nothing; the run was stopped.",
    "timeout": "The cell ran longer than it may.",
    "user": "Something in the submission can be fixed: the message says what.",
    "bug": "A fault of the harness. Please report it with the message.",
}


def queue_context(board: Board, pages: Mapping[Entry, str], queue: QueueSnapshot | None) -> dict[str, Any]:
    """Values for ``queue.html.j2``."""
    cells = _together(_cells(board, pages))
    kinds = sorted({cell["kind"] for cell in cells if cell["kind"] in KINDS})
    return {
        "queued": _requests(queue),
        "counts": _counts(queue),
        "skipped": [
            {"model": plain(one.model), "reason": plain(one.reason, 200), "seen": plain(one.seen_at[:10], 10)}
            for one in (queue.skipped if queue else ())[:_MAX_ROWS]
        ],
        "has_queue": queue is not None,
        "cells": cells[:_MAX_ROWS],
        "n_left": max(0, len(cells) - _MAX_ROWS),
        "kinds": [(kind, KINDS[kind]) for kind in kinds],
    }


def _counts(queue: QueueSnapshot | None) -> list[tuple[str, str, str]]:
    if queue is None:
        return []
    counted = Counter(str(one.state) for one in queue.requests)
    return [(state, str(counted[state]), "") for state in _ORDER]


def _requests(queue: QueueSnapshot | None) -> list[dict[str, Any]]:
    if queue is None:
        return []
    ordered = sorted(queue.requests, key=lambda one: (_ORDER.index(one.state), one.added_at, one.submission))
    done = [one for one in ordered if one.state == "done"]
    shown = [one for one in ordered if one.state != "done"] + done[-_MAX_DONE:]
    return [
        {
            "submission": plain(one.submission),
            "revision": plain(one.revision[:12]),
            "task": plain(one.task, 40),
            "data": plain(one.data, 60),
            "state": one.state,
            "reason": plain(one.reason, 300),
            "attempts": one.attempts,
            "added": plain(one.added_at[:16].replace("T", " "), 16),
            "changed": plain(one.changed_at[:16].replace("T", " "), 16),
        }
        for one in shown[:_MAX_ROWS]
    ]


def _together(cells: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """One line for the subjects of a model that lack a score for the same reason."""
    subjects: dict[tuple[str, ...], list[str]] = {}
    for cell in cells:
        key = tuple(cell[name] for name in ("name", "href", "where", "kind", "reason"))
        subjects.setdefault(key, []).append(cell["subject"])
    return [
        {**dict(zip(("name", "href", "where", "kind", "reason"), key, strict=True)), "subject": name_subjects(names)}
        for key, names in subjects.items()
    ]


def _cells(board: Board, pages: Mapping[Entry, str]) -> list[dict[str, Any]]:
    """Every cell without a score that somebody asked for."""
    found = []
    for table in board.tables:
        for row in table.rows:
            for subject, reason in row.failures:
                kind, _, message = reason.partition(": ")
                known = kind if kind in (*KINDS, "invalidated") else ""
                found.append(
                    {
                        "name": display_name(row.model, row.entry),
                        "href": pages[row.entry],
                        "where": plain(table.column.label),
                        "subject": plain(subject, 40),
                        "kind": known or ("not run" if reason == "not run" else "other"),
                        "reason": plain(message if known else reason, 300),
                    }
                )
    for cell in board.lost:
        kind, _, message = cell.reason.partition(": ")
        found.append(
            {
                "name": plain(cell.submission),
                "href": "",
                "where": f"{plain(cell.task, 40)} · {plain(cell.dataset, 60)}",
                "subject": plain(cell.subject, 40),
                "kind": kind if kind in KINDS else "other",
                "reason": plain(message if kind in KINDS else cell.reason, 300),
            }
        )
    return found
