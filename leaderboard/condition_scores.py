# SPDX-License-Identifier: Apache-2.0
"""Conditions of the task ablation over subjects and blocks, by the column's gate, as the headline is."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from voxelboard.benchmark.statistics.intervals import two_way_interval
from voxelboard.benchmark.statistics.scores import FloatArray
from voxelboard.leaderboard.board import FacetScore, Score
from voxelboard.leaderboard.cells import CONDITION_ROW, Cell

AXIS, _CONTROL = "condition", "random-"


def pair_conditions(facets: Sequence[FacetScore], cells: Sequence[Cell]) -> tuple[FacetScore, ...]:
    """The facets, those of conditions over all regions with intervals that are paired over subjects and blocks.

    Where a cell lacks the sums of a condition, its facet stays as the records' own estimates give it.
    """
    return tuple(_paired(facet, cells) if facet.axis == AXIS and facet.roi is None else facet for facet in facets)


def _paired(facet: FacetScore, cells: Sequence[Cell]) -> FacetScore:
    own, control = (_macro(cells, f"{CONDITION_ROW}{name}") for name in (facet.value, _CONTROL + facet.value))
    intact = _macro(cells, "unique")
    if own is None or intact is None:
        return facet
    tables = {"unique": own, "delta": intact - own}
    if control is not None:
        tables["beyond_control"] = control - own
    found: dict[str, Score] = {name: two_way_interval(table) for name, table in tables.items() if name in facet.scores}
    return replace(facet, scores={**facet.scores, **found})


def _macro(cells: Sequence[Cell], row: str) -> FloatArray | None:
    """(n_subjects, n_blocks) influence values of a row, mean over regions; None unless all cells have it."""
    if not cells or any(row not in cell.influence for cell in cells):
        return None
    values = [cell.macro(row) for cell in cells]
    return np.stack(values) if len({len(value) for value in values}) == 1 else None
