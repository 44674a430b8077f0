# SPDX-License-Identifier: Apache-2.0
"""What a night changed on the board: who is new, who moved and why, who failed and why."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from voxelboard.benchmark.records import load_records
from voxelboard.benchmark.statistics.intervals import Interval
from voxelboard.leaderboard.aggregate import aggregate_records

_SAME = 1e-9


@dataclass(frozen=True)
class Standing:
    """A row of one column: ranks that the data allow, and the score; None while it is not ranked."""

    state: str
    detail: str
    low: int | None
    high: int | None
    score: float | None


Standings = Mapping[tuple[str, str], Standing]  # (column, submission @ revision)


def standings(results: Path) -> dict[tuple[str, str], Standing]:
    """Of all rows of the board of a results folder, the harness' own left out."""
    found = {}
    records = load_records(results) if results.is_dir() else []
    for board in aggregate_records(records):
        for table in board.tables:
            for row in table.rows:
                if row.model.row == "baseline":
                    continue
                name = f"{row.entry.submission} @ {row.entry.revision[:12]}"
                score = row.headline.estimate if isinstance(row.headline, Interval) else None
                low, high = (row.rank.low, row.rank.high) if row.rank else (None, None)
                found[table.column.label, name] = Standing(row.state.name, row.state.detail, low, high, score)
    return found


@dataclass(frozen=True)
class Change:
    """One line of the difference; ``kind`` is ``new``, ``moved``, ``changed`` or ``gone``."""

    kind: str
    column: str
    row: str
    before: Standing | None
    after: Standing | None
    why: str

    def as_json(self) -> dict[str, object]:
        """Plain values."""
        return asdict(self)


def differences(before: Standings, after: Standings) -> list[Change]:
    """What is new, moved, changed its score or is gone, with the reason, in the order of the ranks."""
    changes = []
    new_in = {column: [name for c, name in after if c == column and (c, name) not in before] for column, _ in after}
    for place, now in after.items():
        was = before.get(place)
        if was is None:
            changes.append(Change("new", *place, None, now, now.detail or now.state))
        elif _moved_score(was, now):
            changes.append(Change("changed", *place, was, now, "its score was measured again"))
        elif (was.low, was.high) != (now.low, now.high):
            arrivals = new_in.get(place[0], [])
            why = f"new beside it: {', '.join(arrivals[:5])}" if arrivals else "scores of other rows changed"
            changes.append(Change("moved", *place, was, now, why))
    changes += [
        Change("gone", *place, was, None, "it has no records any more")
        for place, was in before.items()
        if place not in after
    ]
    return sorted(changes, key=lambda change: (change.column, (change.after and change.after.low) or 10**6, change.row))


def _moved_score(was: Standing, now: Standing) -> bool:
    if was.score is None or now.score is None:
        return was.score is not now.score
    return abs(was.score - now.score) > _SAME
