# SPDX-License-Identifier: Apache-2.0
"""The first page of a board."""

from collections.abc import Mapping, Sequence
from typing import Any

from voxelboard.leaderboard.board import Board, Entry, Table
from voxelboard.leaderboard.overall import Overview
from voxelboard.leaderboard.pages.overview import overview_view
from voxelboard.leaderboard.pages.table import protocol_lines, table_facts, table_summary, table_view
from voxelboard.leaderboard.text import plain


def index_context(
    board: Board, overviews: Sequence[Overview], pages: Mapping[Entry, str], tables: Mapping[int, str]
) -> dict[str, Any]:
    """Values for ``index.html.j2``: a table by itself in full, several tables side by side."""
    shown = []
    for index, overview in enumerate(overviews, start=1):
        name = f"board-{index}"
        if len(overview.columns) == 1:
            table = overview.columns[0].table
            shown.append({"single": True, **table_view(table, pages, name), "script": table_script(tables[id(table)])})
        else:
            view = overview_view(overview, pages, tables, name)
            shown.append({"single": False, **view, "script": f"data/overview-{index}.js"})
    return {
        "lead": _lead(board),
        "boards": shown,
        "tasks": [_card(table, tables[id(table)]) for table in board.tables],
        "n_lost": len(board.lost),
        "corrected": any(table.column.ceiling_kind != "none" for table in board.tables),
        "protocols": protocol_lines(board.tables),
    }


def table_script(page: str) -> str:
    """Address of the influence values of a table, from the address of its page."""
    return page.replace("tasks/", "data/tables/").removesuffix(".html") + ".js"


def _card(table: Table, href: str) -> dict[str, Any]:
    facts = table_facts(table)
    return {
        "href": href,
        "heading": plain(table.column.label),
        "summary": table_summary(table),
        "facts": [fact for fact in facts if fact[0] in ("Subjects", "Smallest resolvable difference", "Ceiling")],
    }


def _lead(board: Board) -> str:
    n_models = len({row.entry for table in board.tables for row in table.ranked})
    where = "a simulated brain whose truth is known" if board.kind == "simulated" else "recorded human brains"
    beyond = f"predict {where} beyond what word rate, length and position explain"
    if n_models == 0:
        return f"No model is ranked yet. Models are ranked by how well their internal states {beyond}."
    if n_models == 1:
        return f"One model, scored by how well its internal states {beyond}. Every score has its uncertainty."
    return (
        f"{n_models} models, ranked by how well their internal states {beyond}. Every score has its uncertainty; ranks "
        "that the data cannot tell apart are shown as such."
    )
