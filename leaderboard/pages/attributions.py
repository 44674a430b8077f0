# SPDX-License-Identifier: Apache-2.0
"""Attribution methods of a model on its page: methods by region, layers by region, and depth against the order of regions."""

from collections.abc import Sequence
from typing import Any

from markupsafe import Markup

from voxelboard.benchmark.record_stamps import AttributionStamp
from voxelboard.benchmark.statistics.intervals import Interval
from voxelboard.leaderboard.board import FacetScore, Missing, Row
from voxelboard.leaderboard.charts.heatmap import HeatCell, heat_map
from voxelboard.leaderboard.charts.hierarchy import Depth, hierarchy_plot
from voxelboard.leaderboard.text import bounds, number, plain

OVERALL = "all regions"
_MAX_REGIONS = 24  # a wider table is not read; the rest is in the data files


def attribution_section(row: Row) -> dict[str, Any] | None:
    """What the page says of a row's attribution methods; None where it was run without."""
    stamps = [record.attribution for _, record in row.cells if record.attribution is not None]
    if not stamps:
        return None
    regions = list(dict.fromkeys(f.roi for f in row.facets if f.axis == "method" and f.roi is not None))
    shown = regions[:_MAX_REGIONS]
    return {
        "unique": _map(row.facets, "method", "unique", "Score beyond confounds, by method and region", shown),
        "versus": _map(
            row.facets, "method", "versus_activations", "More than activations of the same words (paired)", shown
        ),
        "layers": _layer_maps(row.facets, shown),
        "plots": _plots(row, regions),
        "notes": _notes(row.facets, stamps),
        "left": max(0, len(regions) - _MAX_REGIONS),
    }


def _map(
    facets: Sequence[FacetScore], axis: str, name: str, caption: str, regions: Sequence[str], *, reverse: bool = False
) -> Markup:
    """A heat map, values of an axis by regions; empty where no facet has the number."""
    scores = {(f.value, f.roi): f.scores[name] for f in facets if f.axis == axis and name in f.scores}
    values = list(dict.fromkeys(value for value, _ in scores))
    places = [None, *regions]
    rows = [(plain(_label(value), 40), [_cell(scores.get((value, place))) for place in places]) for value in values]
    if not any(cell is not None for _, cells in rows for cell in cells):
        return Markup("")
    if reverse:
        rows.reverse()
    return heat_map(caption, [OVERALL, *(plain(region, 20) for region in regions)], rows)


def _label(value: str) -> str:
    return value.replace("_x_", " × ").replace("_", " ")


def _cell(score: Interval | Missing | None) -> HeatCell | None:
    return HeatCell.of(score) if isinstance(score, Interval) else None


def _layer_maps(facets: Sequence[FacetScore], regions: Sequence[str]) -> list[Markup]:
    axes = dict.fromkeys(f.axis for f in facets if f.axis.endswith(" layer"))
    maps = [
        _map(
            facets,
            axis,
            "unique",
            f"{_label(axis.removesuffix(' layer')).capitalize()}: each layer",
            regions,
            reverse=True,
        )
        for axis in axes
    ]
    return [drawn for drawn in maps if drawn]


def _plots(row: Row, regions: Sequence[str]) -> list[Markup]:
    plots = []
    for overall in (f for f in row.facets if f.axis == "hierarchy" and f.roi is None):
        scores = {
            f.roi: f.scores.get("preferred_depth")
            for f in row.facets
            if f.axis == "hierarchy" and f.value == overall.value
        }
        depths = [_depth(region, scores.get(region)) for region in regions]
        if sum(depth.estimate is not None for depth in depths) < 2:
            continue
        plots.append(hierarchy_plot(_label(overall.value), depths, _order(overall.scores.get("order"))))
    return plots


def _depth(region: str, score: Interval | Missing | None) -> Depth:
    if not isinstance(score, Interval):
        return Depth(plain(region, 40), None)
    return Depth(plain(region, 40), score.estimate, max(score.low, 0.0), min(score.high, 1.0))


def _order(score: Interval | Missing | None) -> str:
    if not isinstance(score, Interval):
        return "no order of regions to compare with"
    return f"Spearman with the order {number(score.estimate, 2)} {bounds(score.low, score.high)}"


def _notes(facets: Sequence[FacetScore], stamps: Sequence[AttributionStamp]) -> list[str]:
    """Worth of a preference, agreement with attribution magnitude, completeness, and what could not be computed."""
    notes = []
    for facet in (f for f in facets if f.axis == "hierarchy" and f.roi is None):
        for name, text in (
            ("preference_gain", "preferred layers predict more than the mean layer by"),
            ("magnitude", "over layers, attribution magnitude and score correlate at"),
        ):
            score = facet.scores.get(name)
            if isinstance(score, Interval):
                notes.append(f"{_label(facet.value)}: {text} {number(score.estimate)} {bounds(score.low, score.high)}")
    worst = [stamp.completeness_worst for stamp in stamps if stamp.completeness_worst is not None]
    if worst:
        notes.append(f"path attributions add up to the change of the score within {max(worst):.1e} of it")
    for method, reason in stamps[0].refused.items():
        notes.append(f"{_label(method)}: {plain(reason, 200)}")
    return notes
