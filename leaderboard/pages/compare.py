# SPDX-License-Identifier: Apache-2.0
"""The compare page: what stands on it without the script, and what the script needs to compare any models."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from markupsafe import Markup
from scipy import stats as distributions

from voxelboard.benchmark.statistics.overall import rank_overall
from voxelboard.leaderboard.board import Board, Entry, Table
from voxelboard.leaderboard.charts.svg import element
from voxelboard.leaderboard.overall import influence_of, is_whole
from voxelboard.leaderboard.pages.facts import display_name
from voxelboard.leaderboard.pages.index import table_script
from voxelboard.leaderboard.text import number, plain, signed

_MAX_MODELS = 10


def compare_context(board: Board, pages: Mapping[Entry, str], tables: Mapping[int, str]) -> dict[str, Any]:
    """Values for ``compare.html.j2``."""
    entries: dict[Entry, dict[str, Any]] = {}
    sources = []
    for index, table in enumerate(board.tables):
        sources.append({"label": plain(table.column.label), "script": table_script(tables[id(table)])})
        for row in table.rows:
            if is_whole(row):
                name = display_name(row.model, row.entry)
                fact = {
                    "name": name,
                    "sub": plain(row.entry.submission),
                    "page": pages[row.entry],
                    "row": row.model.row,
                    "in": [],
                }
                entries.setdefault(row.entry, fact)["in"].append(index)
    return {
        "data": {"models": list(entries.values()), "tables": sources},
        "matrices": [
            {"heading": plain(table.column.label), "matrix": matrix}
            for table in board.tables
            if (matrix := _matrix(table))
        ],
    }


def _percent(share: float) -> str:
    """No certainty: what would be rounded to 0 or 100 is a bound."""
    return "<1" if share < 0.005 else ">99" if share >= 0.995 else f"{100 * share:.0f}"


def _matrix(table: Table) -> Markup:
    """Paired differences among the first rows, row minus column."""
    rows = [row for row in table.ranked if is_whole(row)][:_MAX_MODELS]
    if len(rows) < 2:
        return Markup("")
    found = rank_overall([np.stack([influence_of(row) for row in rows])], [1.0])
    names = [display_name(row.model, row.entry) for row in rows]
    head = element("td", Markup("&nbsp;")) + Markup("").join(element("th", name, scope="col") for name in names)
    lines = []
    for i, name in enumerate(names):
        cells = [element("th", name, scope="row")]
        for j in range(len(names)):
            if i == j:
                cells.append(element("td", "·", class_="none"))
                continue
            sure = bool(found.significant[i, j])
            text = signed(float(found.difference[i, j]))
            better = (
                float(distributions.t.cdf(found.difference[i, j] / found.se[i, j], found.df)) if found.se[i, j] else 0.5
            )
            title = f"{text}, standard error {number(float(found.se[i, j]))}, p (Holm) {found.p_holm[i, j]:.2g}"
            value = element("b", text) if sure else Markup("") + text
            chance = element("small", f"{_percent(better)} %")
            cells.append(element("td", value + Markup(" ") + chance, class_="yes" if sure else "tie", title=title))
        lines.append(element("tr", Markup("").join(cells)))
    caption = (
        "Row minus column; bold where the paired test, corrected over these pairs, tells them apart. Small: how probable it is "
        "that the row is the better one, this pair by itself"
    )
    body = (
        element("caption", element("span", caption))
        + element("thead", element("tr", head))
        + element("tbody", Markup("").join(lines))
    )
    return element("table", body, class_="matrix")
