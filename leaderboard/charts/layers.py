# SPDX-License-Identifier: Apache-2.0
"""Scores over layers: a sparkline for the table, a panel per ROI for the model's page."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from math import sqrt

from markupsafe import Markup

from voxelboard.leaderboard.charts.axes import Axis, tick_text, ticks
from voxelboard.leaderboard.charts.svg import element, figure, group, label, line, polygon, polyline
from voxelboard.leaderboard.text import bounds, number

# More dashed lines than this are a grid.
_MAX_LINES = 3


@dataclass(frozen=True)
class LayerLine:
    """One curve over layers 0 .. n_layers - 1; None where a layer has no number."""

    estimate: tuple[float | None, ...]
    low: tuple[float | None, ...] = ()
    high: tuple[float | None, ...] = ()


def layer_sparkline(curve: LayerLine, chosen: int | None) -> Markup:
    """The curve without axes; the dot is the layer chosen most often, on training data."""
    width, height = 88.0, 26.0
    known = [value for value in curve.estimate if value is not None]
    if not known:
        return Markup("")
    x = Axis(0, max(len(curve.estimate) - 1, 1), 4, width - 4)
    y = _vertical(known, 4, height - 4)
    body = [polyline(run, "spark") for run in _runs(curve.estimate, x, y)]
    title = f"layers 0 to {len(curve.estimate) - 1}"
    value = curve.estimate[chosen] if chosen is not None and chosen < len(curve.estimate) else None
    if chosen is not None and value is not None:
        body.insert(0, line(x(chosen), 2, x(chosen), height - 2, "r pick"))
        body.append(element("circle", cx=x(chosen), cy=y(value), r=3, class_="pt"))
        title += f", most often chosen: {chosen}"
    described = f"score from {number(min(known))} to {number(max(known))}"
    return figure(width, height, title, described, group(body), "spark")


def layer_profile(
    name: str, inner: LayerLine, test: LayerLine, chosen: Sequence[int], limits: tuple[float, float]
) -> Markup:
    """One ROI: inner cross-validation (dashed) chooses, the test score with its ribbon is only shown.

    ``limits`` are the ends of the vertical axis, the same for all ROIs of a page.
    """
    width, height, left, bottom = 240.0, 150.0, 32.0, 122.0
    n_layers = len(test.estimate)
    x = Axis(0, max(n_layers - 1, 1), left, width - 8)
    y = Axis(limits[0], limits[1], bottom, 24)
    body = [label(left, 13, name, "t b")]
    for value in ticks(*limits, n=4):
        body.append(line(left, y(value), width - 8, y(value), "grid zero" if value == 0 else "grid"))
        body.append(label(left - 5, y(value) + 3.5, tick_text(value), "t e q"))
    whole = [layer for layer in ticks(0, max(n_layers - 1, 1), n=4) if layer == int(layer)]
    body += [label(x(layer), bottom + 14, str(int(layer)), "t m q") for layer in whole]
    body.append(label((left + width - 8) / 2, height - 2, "layer", "t m q"))
    body += [line(x(layer), 24, x(layer), bottom, "r pick") for layer in _marked(chosen)]
    body += [polygon(area, "ribbon") for area in _ribbons(test, x, y)]
    body += [polyline(run, "inner") for run in _runs(inner.estimate, x, y)]
    body += [polyline(run, "test") for run in _runs(test.estimate, x, y)]
    body += _dots(test, chosen, x, y)
    title = f"{name}: score over layers 0 to {n_layers - 1}"
    return figure(width, height, title, _describe(test, chosen), group(body), "panel")


def profile_limits(curves: Sequence[LayerLine]) -> tuple[float, float]:
    """Ends of a vertical axis that holds 0 and every curve with its ribbon."""
    held = [0.0]
    for curve in curves:
        held += [value for part in (curve.estimate, curve.low, curve.high) for value in part if value is not None]
    low, high = min(held), max(held)
    air = 0.06 * (high - low) or 0.05
    return low - air, high + air


def _marked(chosen: Sequence[int]) -> list[int]:
    """The layers with a line of their own: with many subjects and folds only the most frequent, else all."""
    counted = Counter(chosen)
    if len(counted) <= _MAX_LINES:
        return sorted(counted)
    return [min(counted, key=lambda layer: (-counted[layer], layer))]


def _dots(test: LayerLine, chosen: Sequence[int], x: Axis, y: Axis) -> list[Markup]:
    """A dot at each chosen layer; where there are several, its area is the share of the choices."""
    dots = []
    for layer, n in sorted(Counter(chosen).items()):
        value = test.estimate[layer] if layer < len(test.estimate) else None
        if value is not None:
            radius = 1.4 + 3.6 * sqrt(n / len(chosen)) if n < len(chosen) else 3.4
            dots.append(element("circle", cx=x(layer), cy=y(value), r=round(radius, 2), class_="pt"))
    return dots


def _describe(test: LayerLine, chosen: Sequence[int]) -> str:
    known = [(value, layer) for layer, value in enumerate(test.estimate) if value is not None]
    if not known:
        return "no test scores by layer"
    best, layer = max(known)
    layers = ", ".join(str(layer) for layer in sorted(set(chosen))) or "none"
    where = f"highest test score {number(best)} at layer {layer}"
    if test.low and test.low[layer] is not None and test.high[layer] is not None:
        where += f" {bounds(test.low[layer] or 0.0, test.high[layer] or 0.0)}"
    return f"chosen on training data: layer {layers}; {where}"


def _vertical(values: Sequence[float], top: float, bottom: float) -> Axis:
    low, high = min(values), max(values)
    air = 0.0 if high > low else 0.05
    return Axis(low - air, high + air, bottom, top)


def _runs(values: Sequence[float | None], x: Axis, y: Axis) -> list[list[tuple[float, float]]]:
    """Pieces of a curve between its gaps."""
    runs: list[list[tuple[float, float]]] = [[]]
    for layer, value in enumerate(values):
        if value is None:
            runs.append([])
        else:
            runs[-1].append((x(layer), y(value)))
    return [run for run in runs if run]


def _ribbons(curve: LayerLine, x: Axis, y: Axis) -> list[list[tuple[float, float]]]:
    if not curve.low or not curve.high:
        return []
    lower, upper = _runs(curve.low, x, y), _runs(curve.high, x, y)
    return [low + high[::-1] for low, high in zip(lower, upper, strict=True)]
