# SPDX-License-Identifier: Apache-2.0
"""What the browser gets to rank again: influence values, from which every interval, test and rank follows.

Float32 in base64. Ranks that the browser computes from them equal those of :mod:`voxelboard.benchmark.statistics`
(tested in a real browser); a p value differs by 1e-6 of itself at most.
"""

import base64
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from voxelboard.leaderboard.board import Entry, Row, Table
from voxelboard.leaderboard.overall import Overview, influence_of, is_whole
from voxelboard.leaderboard.pages.facts import display_name
from voxelboard.leaderboard.surface import shipped_map
from voxelboard.leaderboard.text import plain

# Values of all regions, subjects and models of a table that a browser can be asked to load: 4 bytes each.
MAX_ROI_VALUES = 4_000_000


def overview_data(overview: Overview, pages: Mapping[Entry, str]) -> dict[str, Any]:
    """The influence values of an overview: per column (n_subjects, n_blocks) of each row that is whole in it."""
    columns = []
    for index, column in enumerate(overview.columns):
        table = column.table
        columns.append(
            {
                "label": plain(table.column.label),
                "task": plain(table.column.task),
                "unit": plain(table.unit, 30),
                "weight": column.weight,
                "outside": plain(column.outside),
                "subjects": [plain(subject, 40) for subject in table.subjects],
                "blocks": table.n_blocks,
                "z": [_packed(row.rows[index]) for row in overview.rows],
            }
        )
    models = [
        {
            "name": display_name(row.model, row.entry),
            "page": pages[row.entry],
            "row": row.model.row,
            "key": _key(row.entry),
        }
        for row in overview.rows
    ]
    return {"columns": columns, "models": models}


def table_data(table: Table, pages: Mapping[Entry, str]) -> dict[str, Any] | None:
    """The influence values of a table by subject and region, or None where they are too many to ship."""
    rows = [row for row in table.rows if is_whole(row)]
    regions = list(dict.fromkeys(roi for row in rows for subject in row.subjects for roi in subject.rois))
    n_values = len(rows) * len(table.subjects) * table.n_blocks * len(regions)
    if not rows or n_values > MAX_ROI_VALUES:
        return None
    return {
        "label": plain(table.column.label),
        "unit": plain(table.unit, 30),
        "subjects": [plain(subject, 40) for subject in table.subjects],
        "regions": [plain(region, 60) for region in regions],
        "blocks": table.n_blocks,
        "models": [
            {
                "name": display_name(row.model, row.entry),
                "page": pages[row.entry],
                "row": row.model.row,
                "key": _key(row.entry),
                # per subject: which regions enter, and (n_regions, n_blocks) values
                "z": [
                    {"r": [regions.index(roi) for roi in subject.rois], "v": pack(subject.influence.T)}
                    for subject in row.subjects
                ],
            }
            for row in rows
        ],
    }


def model_maps(rows: Sequence[tuple[Table, Row]]) -> list[dict[str, Any]]:
    """The maps of an entry by column, in the order of its page."""
    return [
        {"column": plain(table.column.label), "maps": {name: shipped_map(one) for name, one in row.maps.items()}}
        for table, row in rows
        if row.maps
    ]


def pack(values: Any) -> str:
    """Float32, little-endian, base64."""
    return base64.b64encode(np.ascontiguousarray(values, dtype="<f4").tobytes()).decode()


def _packed(row: Row | None) -> str | None:
    return pack(influence_of(row)) if row is not None and is_whole(row) else None


def _key(entry: Entry) -> str:
    """Text that breaks ties between equal estimates, as in the ranking."""
    return plain(f"{entry.submission} {entry.revision} {entry.weights} {entry.seed}", 300)
