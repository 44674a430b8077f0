# SPDX-License-Identifier: Apache-2.0
"""The list of releases, and what changed since the last one."""

import json
from collections.abc import Sequence
from typing import Any

from voxelboard.leaderboard.releases import Release, changes
from voxelboard.leaderboard.text import plain


def releases_context(releases: Sequence[Release], at: str, kind: str) -> dict[str, Any]:
    """Values for ``releases.html.j2``, newest first; ``at`` leads to the folder of releases."""
    shown = []
    for release in reversed(releases):
        board = release.boards.get(kind)
        n_rows = sum(1 for table in board["tables"] for row in table["rows"] if row["rank"]) if board else 0
        place = f"{kind}/" if len(release.boards) > 1 and board else ""
        shown.append(
            {
                "name": plain(release.name, 40),
                "day": plain(release.day, 10),
                "href": f"{at}{release.name}/{place}index.html",
                "n_tables": len(board["tables"]) if board else 0,
                "n_ranked": n_rows,
            }
        )
    return {"releases": shown}


def diff_context(releases: Sequence[Release], current: str, kind: str) -> dict[str, Any]:
    """Values for ``diff.html.j2``: the board against the newest release that has one of its kind."""
    earlier = [release for release in releases if kind in release.boards]
    if not earlier:
        return {"since": None, "changes": [], "unchanged": 0}
    last = earlier[-1]
    after = json.loads(current)
    found = changes(last.boards[kind], after)
    n_rows = sum(len(table["rows"]) for table in after["tables"])
    moved = sum(1 for change in found if change.page and change.what != "left")
    return {
        "since": {"name": plain(last.name, 40), "day": plain(last.day, 10)},
        "changes": found,
        "unchanged": n_rows - moved,
    }
