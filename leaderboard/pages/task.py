# SPDX-License-Identifier: Apache-2.0
"""The page of one table: what is measured, on what, what ± means, and all rows."""

from collections.abc import Mapping
from typing import Any

from voxelboard.benchmark.statistics.intervals import Interval
from voxelboard.leaderboard.board import Entry, Table
from voxelboard.leaderboard.cards import card_facts
from voxelboard.leaderboard.charts.heatmap import HeatCell, heat_map
from voxelboard.leaderboard.pages.conditions import conditions_view
from voxelboard.leaderboard.pages.facts import display_name
from voxelboard.leaderboard.pages.table import protocol_lines, table_facts, table_summary, table_view
from voxelboard.leaderboard.text import plain

_MAX_REGIONS = 24
_MAX_MODELS = 30
WHAT = {
    "narrative": "People listen to stories in a scanner. The model reads the same words; its states, layer by layer, predict "
    "the response of each voxel on stories that the fit never saw.",
    "drama": "People watch episodes of a series. Annotations from speech to story, embedded by the model, predict the "
    "response on held-out episodes.",
    "captions": "People look at photographs. The model reads captions of them; its states predict the response to "
    "photographs that the fit never saw.",
    "ablation": "Fitted to stories as they were heard, the model then reads them with words replaced, shuffled or removed: "
    "what of the prediction is left tells what it rested on.",
}


def task_context(table: Table, pages: Mapping[Entry, str], script: str | None) -> dict[str, Any]:
    """Values for ``task.html.j2``."""
    view = table_view(table, pages, "board-1")
    card = card_facts(table.column.dataset)
    return {
        "t": {"single": True, **view, "script": script or ""},
        "heading": plain(table.column.label),
        "what": WHAT.get(table.column.task, "Model states predict brain responses that the fit never saw."),
        "summary": table_summary(table),
        "facts": table_facts(table),
        "card": card,
        "dataset": plain(table.column.dataset),
        "regions": _regions(table),
        "lost": conditions_view(table),
        "corrected": table.column.ceiling_kind != "none",
        "precision": _precision(table),
        "protocols": protocol_lines([table]),
    }


def _precision(table: Table) -> str:
    """What ± means here, in words."""
    people = (
        "new people and new stimuli of this kind"
        if table.scope.startswith("subjects")
        else f"new stimuli of this kind for these {len(table.subjects)} people"
    )
    blocks = f"{table.n_blocks} blocks of {table.block_trs} TRs" if table.block_trs else f"{table.n_blocks} blocks"
    return (
        f"± and brackets are 95 % intervals for {people}, from {blocks} of test data. They do not cover another choice of "
        "training data."
    )


def _regions(table: Table) -> Any:
    """Models by regions, or nothing where a table has one region or too many."""
    rows = [row for row in (*table.ranked, *table.rulers) if row.rois][:_MAX_MODELS]
    names = list(dict.fromkeys(roi.roi for row in rows for roi in row.rois))
    if not rows or not 2 <= len(names) <= _MAX_REGIONS:
        return ""
    lines = []
    for row in rows:
        by_name = {roi.roi: roi.unique for roi in row.rois}
        cells = []
        for name in names:
            score = by_name.get(name)
            cells.append(HeatCell.of(score) if isinstance(score, Interval) else None)
        lines.append((display_name(row.model, row.entry), cells))
    return heat_map("Score of each model in each region", [plain(name, 30) for name in names], lines)
