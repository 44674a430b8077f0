# SPDX-License-Identifier: Apache-2.0
"""What a row can be filtered and grouped by, for people (in its cells) and for the script (as JSON)."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from voxelboard.benchmark.record_stamps import ModelStamp
from voxelboard.benchmark.records import Record
from voxelboard.leaderboard.board import Column, Entry, Row
from voxelboard.leaderboard.text import number, plain, safe_url, signed

_SIZES = (
    (1e7, "under 10M"),
    (1e8, "10M to 100M"),
    (1e9, "100M to 1B"),
    (1e10, "1B to 10B"),
    (float("inf"), "over 10B"),
)


def display_name(model: ModelStamp, entry: Entry) -> str:
    """The name that a row is shown with."""
    return plain(model.display_name, 80) or plain(entry.submission, 80)


def short_names(columns: Sequence[Column]) -> list[str]:
    """The names of columns among each other: the task, and the data set where a task is there twice."""
    tasks = [column.task for column in columns]
    return [plain(c.task if tasks.count(c.task) == 1 else f"{c.task}, {c.dataset}", 60) for c in columns]


def size_bucket(n_parameters: int) -> str:
    """``100M to 1B``; nothing for rows without parameters."""
    return next(name for limit, name in _SIZES if n_parameters < limit) if n_parameters else ""


def measured_on(cells: Iterable[tuple[Path, Record]]) -> str:
    """The day of the latest cell, YYYY-MM-DD, or nothing."""
    days = [record.environment.started_at[:10] for _, record in cells if record.environment is not None]
    return plain(max(days, default=""), 10)


def tries_text(row: Row) -> str:
    """What the tries of a row's team mean for it; nothing for a team of one entry."""
    tries = row.tries
    if tries is None or tries.n == 1:
        return ""
    team = plain(tries.team, 80)
    if tries.lead is None or tries.margin is None or tries.next_best is None:
        return f"One of {tries.n} entries of {team} in this table, and not its best."
    verdict = "counts as better" if tries.counts else "does not count as better"
    return (
        f"Best of {tries.n} entries of {team} in this table. The best of {tries.n} equal ones gains {tries.by_chance:.1f} standard "
        f"errors by chance, so its lead over {plain(tries.next_best.submission, 80)}, {signed(tries.lead.estimate)} "
        f"[{signed(tries.lead.low)}, {signed(tries.lead.high)}], would have to exceed {number(tries.margin)}: it {verdict}."
    )


def context_words(cells: Iterable[tuple[Path, Record]]) -> str:
    """Words before a word that the model saw: what an open entry committed to, else what the protocol gives; or nothing."""
    for _, record in cells:
        model, stamped = record.model, record.protocol.constants.get("context")
        if model.row != "submission":
            return ""
        if model.loader == "static":
            return "none"
        if "context_words" in model.committed:
            return plain(model.committed["context_words"], 12)
        if isinstance(stamped, dict) and isinstance(stamped.get("stride_words"), int):
            return f"{stamped['stride_words']}–{2 * stamped['stride_words'] - 1}"
    return ""


def row_facts(
    model: ModelStamp, entry: Entry, *, exposure: str, verification: str, state: str, day: str, context: str
) -> dict[str, Any]:
    """The fields that filters know; an empty one is left out."""
    metadata = model.metadata
    citation = str(metadata.get("citation") or "")
    facts: dict[str, Any] = {
        "name": display_name(model, entry),
        "submission": plain(entry.submission),
        "revision": plain(entry.revision[:12]),
        "weights": model.weights if model.row == "submission" else "",
        "params": model.n_parameters or None,
        "size": size_bucket(model.n_parameters),
        "family": plain(metadata.get("family") or "", 60),
        "loader": plain(model.loader, 20),
        "open": plain(metadata.get("openness") or "", 20),
        "licence": plain(metadata.get("licence") or "", 40),
        "context": context,
        "exposure": exposure,
        "verified": verification,
        "state": state,
        "date": day,
        "row": model.row if model.row != "submission" else "",
        "cite": safe_url(citation) or "",
    }
    return {key: value for key, value in facts.items() if value not in ("", None)}
