# SPDX-License-Identifier: Apache-2.0
"""A few lines over the same places (layers, epochs), each named at its end."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from markupsafe import Markup

from voxelboard.leaderboard.charts.axes import Axis, tick_text, ticks
from voxelboard.leaderboard.charts.studies import spread_labels
from voxelboard.leaderboard.charts.svg import figure, group, label, line, polyline
from voxelboard.leaderboard.text import number

_WIDTH, _HEIGHT, _LEFT, _RIGHT, _TOP, _BOTTOM = 262.0, 150.0, 32.0, 170.0, 22.0, 116.0
_MAX_TICKS = 9


@dataclass(frozen=True)
class Curve:
    """One line.

    style : ``test`` (solid, the accent), ``inner`` (dashed), ``r`` (thin grey). name : empty for a further run of the line before.
    """

    name: str
    values: tuple[float, ...]
    style: Literal["test", "inner", "r"]


def curve_panel(title: str, curves: Sequence[Curve], places: Sequence[str], axis: str) -> Markup:
    """Lines over ``places``, whose names stand below; the vertical axis holds 0 where values reach down to it."""
    values = [value for curve in curves for value in curve.values]
    low, high = min(values), max(values)
    low = min(low, 0.0) if low < 0.5 * high else low
    air = 0.06 * (high - low) or 0.05
    x = Axis(0, max(len(places) - 1, 1), _LEFT + 6, _RIGHT)
    y = Axis(low - air, high + air, _BOTTOM, _TOP)
    body = [label(_LEFT, 12, title, "t b")]
    for value in ticks(y.low, y.high, n=4):
        kind = "grid zero" if value == 0 else "grid"
        body += [
            line(_LEFT, y(value), _RIGHT, y(value), kind),
            label(_LEFT - 5, y(value) + 3.5, tick_text(value), "t e q"),
        ]
    step = -(-len(places) // _MAX_TICKS)
    body += [label(x(k), _BOTTOM + 14, places[k], "t m q") for k in range(0, len(places), step)]
    body.append(label((_LEFT + _RIGHT) / 2, _HEIGHT - 4, axis, "t m q"))
    body += [polyline([(x(k), y(value)) for k, value in enumerate(curve.values)], curve.style) for curve in curves]
    named = [curve for curve in curves if curve.name]
    ends = spread_labels([y(curve.values[-1]) for curve in named], 12.0, _TOP, _BOTTOM)
    body += [label(_RIGHT + 6, end + 3.5, curve.name, "t") for curve, end in zip(named, ends, strict=True)]
    described = "; ".join(
        f"{curve.name or 'again'} from {number(curve.values[0])} to {number(curve.values[-1])}" for curve in curves
    )
    return figure(_WIDTH, _HEIGHT, f"{title}, over {axis}s", described, group(body), "panel")
