# SPDX-License-Identifier: Apache-2.0
"""The tables of several tasks side by side, as plain values for the template."""

from collections.abc import Mapping, Sequence
from typing import Any

from markupsafe import Markup

from voxelboard.benchmark.statistics.intervals import Interval
from voxelboard.leaderboard.board import Entry, Missing, Row
from voxelboard.leaderboard.charts import axis_header, interval_bar, rank_rail, shared_axis
from voxelboard.leaderboard.charts.axes import Axis, Marker
from voxelboard.leaderboard.charts.intervals import BAR_WIDTH
from voxelboard.leaderboard.overall import Overview, OverviewColumn, OverviewRow
from voxelboard.leaderboard.pages.facts import context_words, display_name, measured_on, row_facts
from voxelboard.leaderboard.pages.table import exposure_text, sparkline, subtitle, unit_label
from voxelboard.leaderboard.pooling import overview_profile
from voxelboard.leaderboard.text import number, plain, signed

N_HEAT = 9
_ZERO = Marker("zero", "floor", 0.0)
_VERIFICATION = ("", "self-reported", "schema-verified", "spot-checked", "re-run")
_EXPOSURE = ("none", "unknown", "likely", "yes")
_SYMBOLS = {"failed": "✕", "invalidated": "⊘", "not run": "–", "partial": "◔", "unranked": "○"}


def overview_view(
    overview: Overview, pages: Mapping[Entry, str], tables: Mapping[int, str], name: str
) -> dict[str, Any]:
    """One overview; ``tables`` gives the address of the page of each table by ``id``."""
    scores = [row.score for row in overview.rows if isinstance(row.score, Interval)]
    axis = shared_axis([value for score in scores for value in (score.low, score.high)], BAR_WIDTH)
    tops = [_top(overview, index) for index in range(len(overview.columns))]
    views = [_row(row, overview, axis, tops, pages, place) for place, row in enumerate(overview.rows)]
    n_ranked, n_unranked = len(overview.ranked), len(overview.unranked)
    return {
        "id": name,
        "overview": overview,
        "heading": _heading(overview),
        "columns": [_column(column, tables[id(column.table)]) for column in overview.columns],
        "n_columns": len(overview.columns),
        "axis": axis_header(axis, [_ZERO], "mean over tasks"),
        "ranked": views[:n_ranked],
        "unranked": views[n_ranked : n_ranked + n_unranked],
        "rulers": views[n_ranked + n_unranked :],
        "data": [view["data"] for view in views],
        "caption": f"Ranked: {n_ranked}. Not ranked: {n_unranked}. Rulers: {len(overview.rulers)}. ± is half of the 95 % "
        "interval. A dash is a missing number, never a 0.",
        "weights": _weights(overview),
    }


def _heading(overview: Overview) -> str:
    track = "" if overview.track == "fixed" else f", {plain(overview.track)} track"
    return f"All tasks, protocol {plain(overview.protocol, 40)}{track}"


def _weights(overview: Overview) -> str:
    counted = [column for column in overview.columns if column.weight > 0]
    if not counted:
        return "No column is in the mean."
    parts = [f"{plain(column.table.column.task, 40)} {number(column.weight, 2)}" for column in counted]
    left = [column for column in overview.columns if column.weight == 0]
    text = f"The overall score is the mean over tasks in absolute units ({', '.join(parts)}); nothing is imputed."
    if left:
        outside = dict.fromkeys(f"{_shortest(c, overview.columns)} ({plain(c.outside)})" for c in left)
        text += f" Beside the mean: {', '.join(outside)}."
    return text


def _shortest(column: OverviewColumn, columns: Sequence[OverviewColumn]) -> str:
    """The task, with the data set where another one of the task is treated otherwise."""
    of_task = [other.outside for other in columns if other.table.column.task == column.table.column.task]
    name = plain(column.table.column.task, 40)
    return name if len(set(of_task)) == 1 else f"{name} on {plain(column.table.column.dataset, 60)}"


def _column(column: OverviewColumn, href: str) -> dict[str, Any]:
    table = column.table
    return {
        "task": plain(table.column.task, 40),
        "note": plain(f"{table.column.dataset}, {unit_label(table.unit)}", 60),
        "href": href,
        "weight": column.weight,
        "outside": plain(column.outside),
        "label": plain(table.column.label),
    }


def _top(overview: Overview, index: int) -> float:
    """The score that is drawn in the darkest shade: the highest of the column."""
    scores = [row.rows[index] for row in overview.rows]
    held = [row.headline.estimate for row in scores if row is not None and isinstance(row.headline, Interval)]
    return max(held, default=0.0)


def _row(
    row: OverviewRow,
    overview: Overview,
    axis: Axis,
    tops: list[float],
    pages: Mapping[Entry, str],
    place: int,
) -> dict[str, Any]:
    rows = [one for one in row.rows if one is not None]
    cells = [cell for one in rows for cell in one.cells]
    exposures = [one.exposure for one in rows] or ["unknown"]
    exposure = max(exposures, key=_EXPOSURE.index)
    verification = min((one.verification for one in rows if one.verification), key=_VERIFICATION.index, default="")
    state = "ruler" if row.model.row == "baseline" else ("ranked" if row.rank else "unranked")
    day, context = measured_on(cells), context_words(cells)
    score = row.score
    return {
        "place": place,
        "row": row,
        "name": display_name(row.model, row.entry),
        "subtitle": subtitle(row.entry),
        "href": pages[row.entry],
        "state": "" if row.rank or row.model.row == "baseline" else plain(row.state, 140),
        "rank_value": row.rank.low if row.rank else "",
        "rail": rank_rail(row.rank.low, row.rank.high, len(overview.ranked)) if row.rank else "",
        "bar": "" if isinstance(score, Missing) else interval_bar(axis, score.estimate, score.low, score.high, [_ZERO]),
        "cells": [_cell(one, top) for one, top in zip(row.rows, tops, strict=True)],
        "spark": _spark(row, overview),
        "exposure": exposure_text(exposure, row.model.row),
        "verification": verification,
        "day": day,
        "openness": plain(row.model.metadata.get("openness") or "", 20),
        "context": context,
        "data": row_facts(
            row.model, row.entry, exposure=exposure, verification=verification, state=state, day=day, context=context
        ),
    }


def _spark(row: OverviewRow, overview: Overview) -> Markup:
    """Score over layers, mean over the columns of the overall score; the dot is the layer that most of them chose.

    Nothing for rows of one layer. Columns outside of the mean may have another unit: they are drawn where no other is.
    """
    held = [
        (column.weight > 0, one.overview)
        for column, one in zip(overview.columns, row.rows, strict=True)
        if one is not None and one.overview is not None
    ]
    counted = [profile for counts, profile in held if counts] or [profile for _, profile in held]
    n_layers = max((len(profile.test.estimate) for profile in counted), default=0)
    mean = overview_profile([profile for profile in counted if len(profile.test.estimate) == n_layers])
    return Markup("") if mean is None else sparkline(mean)


def _cell(row: Row | None, top: float) -> dict[str, Any]:
    """Score, heat and what a reader finds on hovering; a state where there is no score."""
    if row is None or isinstance(row.headline, Missing):
        state = "not run" if row is None else row.state.name
        why = "not run" if row is None else plain(row.state.detail or row.state.name, 160)
        symbol = _SYMBOLS.get(state, "–")
        return {
            "known": False,
            "state": state.replace(" ", "-"),
            "symbol": symbol,
            "title": why,
            "v": "",
            "r": "",
            "w": "",
        }
    score = row.headline
    heat = round(N_HEAT * min(max(score.estimate / top, 0.0), 1.0)) if top > 0 else 0
    raw, raw_r = row.metrics["normalised"], row.metrics["raw_r"]
    return {
        "known": True,
        "heat": heat,
        "v": f"{score.estimate:.6f}",
        "w": "" if isinstance(raw, Missing) else f"{raw.estimate:.6f}",
        "r": "" if isinstance(raw_r, Missing) else f"{raw_r.estimate:.6f}",
        "text": number(score.estimate),
        "half": number((score.high - score.low) / 2),
        "partial": row.state.name == "partial",
        "exposed": row.exposure in ("likely", "yes"),
        "title": _title(row, score),
    }


def _title(row: Row, score: Interval) -> str:
    raw_r = row.metrics["raw_r"]
    parts = [f"{number(score.estimate)} [{number(score.low)}, {number(score.high)}]"]
    if isinstance(raw_r, Interval):
        parts.append(f"raw r {signed(raw_r.estimate)}")
    if not isinstance(row.ceiling, Missing):
        parts.append(f"ceiling r {number(row.ceiling.mean)}")
    parts.append(f"{len(row.subjects)} subjects")
    if row.state.name == "partial":
        parts.append(plain(row.state.detail, 80))
    if row.exposure in ("likely", "yes"):
        parts.append(f"exposed to the stimulus: {row.exposure}")
    return "; ".join(parts)
