# SPDX-License-Identifier: Apache-2.0
"""The larger figures of a model's page: brain map, layers by regions, voxels in two dimensions, parts, training."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from markupsafe import Markup

from voxelboard.benchmark.statistics.intervals import Interval
from voxelboard.leaderboard.board import FacetScore, Row, Table
from voxelboard.leaderboard.charts.density import density_plot, trajectory
from voxelboard.leaderboard.charts.heatmap import HeatCell, heat_map
from voxelboard.leaderboard.pages.table import unit_label
from voxelboard.leaderboard.surface import flat_map, picture
from voxelboard.leaderboard.text import number, plain

_MAX_LAYERS = 65
_MAX_REGIONS = 40
_MAX_VALUES = 40
_AXES = {
    "level": ("Levels", "What of the annotation, from speech to story, predicts which region."),
    "method": ("Attribution methods", "How well explanations of the model’s next word predict each region."),
    "analysis": ("Analyses", "The same data seen by encoding, by similarity of representations and by retrieval."),
    "control": ("Controls", "What is left when captions are controlled."),
    "condition": (
        "Conditions",
        "The same sentences with parts of the language taken away; all regions together are paired over test blocks and subjects.",
    ),
}


_SCORES = {
    "unique": "Beyond confounds",
    "raw_r": "r",
    "rsa": "RSA, corrected for noise",
    "rsa_unique": "RSA beyond the control floor, corrected for noise",
    "rsa_floor": "RSA of the control floor, corrected for noise",
    "rsa_r": "RSA r",
    "rsa_ceiling": "RSA r of the other subjects",
    "rsa_corrected": "RSA r over that of the other subjects",
    "rdm_r": "r of the model’s geometry of captions and of this",
    "caption_beyond": "Whole captions beyond this",
    "caption_beyond_rsa": "Whole captions beyond this, RSA r",
    "caption_r": "r of one caption with the image’s others",
    "retrieval": "Retrieval: 2 (rank of the true caption − .5)",
    "top1": "True caption first",
    "top5": "True caption among the first five",
}


def figures(table: Table, row: Row) -> dict[str, Any]:
    """Values for the template; nothing where the records do not hold what a figure needs."""
    baseline = plain(table.baseline.rpartition("/")[2].replace("-", " "), 40)
    ceiling, other = row.against_ceiling, row.against_baseline
    has_ceiling = ceiling is not None and table.column.ceiling_kind != "none"
    return {
        "brain": _brain(row),
        "layer_map": _layer_map(row),
        "facet_maps": _facet_maps(row),
        "ceiling_plot": density_plot(ceiling, "ceiling", "r", bound="r = ceiling") if ceiling and has_ceiling else "",
        "baseline_plot": _baseline_plot(row, other, baseline, table.baseline),
        "trajectory": _trajectory(table, row),
    }


def _baseline_plot(row: Row, density: Any, name: str, submission: str) -> Markup:
    if density is None or not name or row.entry.submission == submission:
        return Markup("")
    return density_plot(density, f"r of {name}", "r of this model", bound="equal")


def _brain(row: Row) -> dict[str, Any] | None:
    """The static picture of the map; the script draws it anew from the data file."""
    if not row.maps:
        return None
    flat = flat_map()
    if flat is None:
        return {"picture": "", "alt": ""}
    main = row.maps.get("unique") or next(iter(row.maps.values()))
    return {"picture": picture(flat, main), "alt": _describe(row)}


def _describe(row: Row) -> str:
    main = row.maps.get("unique")
    if main is None:
        return "Map on the flattened cortex of fsaverage5."
    values = main.values[np.isfinite(main.values)]
    if not len(values):
        return "Map on the flattened cortex of fsaverage5: no vertex was measured."
    half = len(main.values) // 2
    sides = []
    for side, part in (("left", main.values[:half]), ("right", main.values[half:])):
        known = part[np.isfinite(part)]
        if len(known):
            sides.append(f"{side} hemisphere mean {number(float(known.mean()))}, highest {number(float(known.max()))}")
    return (
        f"Correlation beyond confounds on the flattened cortex of fsaverage5, mean over subjects: {len(values)} vertices; "
        f"{'; '.join(sides)}. Values by region are in the table of regions."
    )


def _layer_map(row: Row) -> Markup:
    """Regions by layers, the chosen layer of each region outlined."""
    profiles = row.profiles[:_MAX_REGIONS]
    n_layers = max((len(profile.test.estimate) for profile in profiles), default=0)
    if not profiles or not 2 <= n_layers <= _MAX_LAYERS:
        return Markup("")
    lines = []
    for layer in range(n_layers):
        cells: list[HeatCell | None] = []
        for profile in profiles:
            value = profile.test.estimate[layer] if layer < len(profile.test.estimate) else None
            cells.append(
                None if value is None else HeatCell(value, _at(profile.test.low, layer), _at(profile.test.high, layer))
            )
        lines.append((str(layer), cells))
    marked = [_most_frequent(profile.chosen) for profile in profiles]
    return heat_map(
        "Test score of each layer (rows) in each region", [plain(p.roi, 30) for p in profiles], lines, marked
    )


def _at(values: Sequence[float | None], index: int) -> float | None:
    return values[index] if index < len(values) else None


def _most_frequent(chosen: Sequence[int]) -> int | None:
    return min(set(chosen), key=lambda layer: (-chosen.count(layer), layer)) if chosen else None


def _facet_maps(row: Row) -> list[dict[str, Any]]:
    """One heat map per axis and kind of score."""
    found = []
    attributed = any(record.attribution is not None for _, record in row.cells)  # those have a section of their own
    for axis in dict.fromkeys(facet.axis for facet in row.facets):
        if attributed and (axis in ("method", "hierarchy") or axis.endswith(" layer")):
            continue
        mine = [facet for facet in row.facets if facet.axis == axis]
        title, about = _AXES.get(axis, (plain(axis, 40).capitalize(), ""))
        names = list(dict.fromkeys(name for facet in mine for name in facet.scores))
        maps = [drawn for name in names if (drawn := _facet_map(mine, name))]
        found.append({"title": title, "about": about, "maps": maps})
    return found


def _facet_map(facets: Sequence[FacetScore], name: str) -> Markup:
    """Parts by regions, only those that have this kind of score; empty where none has a number."""
    facets = [facet for facet in facets if name in facet.scores]
    if not any(isinstance(facet.scores[name], Interval) for facet in facets):
        return Markup("")
    values = list(dict.fromkeys(facet.value for facet in facets))[:_MAX_VALUES]
    rois = list(dict.fromkeys(facet.roi for facet in facets))[:_MAX_REGIONS]
    rois.sort(key=lambda roi: roi is not None)  # all regions together first
    held: Mapping[tuple[str, str | None], FacetScore] = {(facet.value, facet.roi): facet for facet in facets}
    lines = []
    for value in values:
        cells = []
        for roi in rois:
            facet = held.get((value, roi))
            score = facet.scores.get(name) if facet is not None else None
            cells.append(HeatCell.of(score) if isinstance(score, Interval) else None)
        lines.append((plain(value, 40), cells))
    columns = ["all regions" if roi is None else plain(roi, 30) for roi in rois]
    return heat_map(_SCORES.get(name, plain(name.replace("_", " "), 40).capitalize()), columns, lines)


def _trajectory(table: Table, row: Row) -> Markup:
    """The checkpoints of the row's submission, or of its family where that has steps."""
    family = row.model.metadata.get("family")
    if row.model.metadata.get("training_step") is None:
        return Markup("")
    points = []
    for other in (*table.ranked, *table.unranked):
        step = other.model.metadata.get("training_step")
        kin = other.entry.submission == row.entry.submission or (
            family and other.model.metadata.get("family") == family
        )
        if kin and isinstance(step, int) and isinstance(other.headline, Interval):
            score = other.headline
            points.append((step, score.estimate, score.low, score.high, other.entry == row.entry))
    return trajectory(points, unit_label(table.unit)) if len(points) > 1 else Markup("")
