# SPDX-License-Identifier: Apache-2.0
"""Depth in a model against the order of regions in a brain."""

from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from voxelboard.leaderboard.charts.axes import Axis, tick_text
from voxelboard.leaderboard.charts.svg import element, figure, group, label, line, polyline
from voxelboard.leaderboard.text import bounds, number, plain

_WIDTH, _HEIGHT, _LEFT, _TOP, _BOTTOM = 360.0, 190.0, 38.0, 26.0, 142.0
_LONG_NAME = 6  # characters; longer names of regions are set at an angle


@dataclass(frozen=True)
class Depth:
    """Preferred depth of one region, 0 the first layer and 1 the last, with its interval; None without a preference."""

    region: str
    estimate: float | None
    low: float | None = None
    high: float | None = None


def hierarchy_plot(name: str, depths: Sequence[Depth], order: str, last_layer: int | None = None) -> Markup:
    """Preferred depth of each region, in the order of ``depths``: a mapping from early to late rises to the right.

    Parameters
    ----------
    name : of the method.
    order : what the rank correlation with the order of the regions is, in words; shown below the name.
    last_layer : number of the last layer, for the axis; None shows shares of the depth.
    """
    x = Axis(0, max(len(depths) - 1, 1), _LEFT + 22, _WIDTH - 22)
    y = Axis(0.0, 1.0, _BOTTOM, _TOP)
    body = [label(_LEFT, 10, name, "t b"), label(_LEFT, 22, order, "t q")]
    for share in (0.0, 0.25, 0.5, 0.75, 1.0):
        text = tick_text(share if last_layer is None else share * last_layer)
        body += [line(_LEFT, y(share), _WIDTH - 8, y(share), "grid"), label(_LEFT - 5, y(share) + 3.5, text, "t e q")]
    known = [(index, depth, depth.estimate) for index, depth in enumerate(depths) if depth.estimate is not None]
    body.append(polyline([(x(index), y(value)) for index, _, value in known], "test"))
    for index, depth in enumerate(depths):
        body.append(_region(x(index), plain(depth.region, 12), any(len(d.region) > _LONG_NAME for d in depths)))
        if depth.estimate is None:
            continue
        if depth.low is not None and depth.high is not None:
            body.append(line(x(index), y(depth.low), x(index), y(depth.high), "whisker strong"))
        body.append(element("circle", cx=x(index), cy=y(depth.estimate), r=4.2, class_="pt"))
    title = f"{name}: preferred layer of each region, {order}"
    return figure(_WIDTH, _HEIGHT, title, _describe(depths), group(body), "plot")


def _region(x: float, name: str, tilted: bool) -> Markup:
    if not tilted:
        return label(x, _BOTTOM + 16, name, "t m q")
    return element(
        "text", name, x=x, y=_BOTTOM + 14, class_="t e q", transform=f"rotate(-30 {x:.1f} {_BOTTOM + 14:.1f})"
    )


def _describe(depths: Sequence[Depth]) -> str:
    parts = []
    for depth in depths:
        if depth.estimate is None:
            parts.append(f"{plain(depth.region, 40)} no preference")
            continue
        interval = "" if depth.low is None or depth.high is None else f" {bounds(depth.low, depth.high)}"
        parts.append(f"{plain(depth.region, 40)} {number(depth.estimate, 2)}{interval}")
    return "; ".join(parts)
