# SPDX-License-Identifier: Apache-2.0
"""Scores with their intervals on a shared axis, and ranks with their spread."""

from collections.abc import Sequence

from markupsafe import Markup

from voxelboard.leaderboard.charts.axes import Axis, Marker, tick_text, ticks
from voxelboard.leaderboard.charts.svg import element, figure, group, label, line
from voxelboard.leaderboard.text import bounds, number

BAR_WIDTH = 220.0
BAR_HEIGHT = 26.0
# Rulers run on beyond the bar, and a cell of the table cuts them off: they read as one line through rows of any height.
_OVERSHOOT = 60.0
_CHARACTER = 5.6  # mean advance of the 10-px label font, to keep labels apart
_ROW = 12.0


def interval_bar(
    axis: Axis,
    estimate: float,
    low: float,
    high: float,
    markers: Sequence[Marker] = (),
    twin: float | None = None,
    name: str = "score",
) -> Markup:
    """One score as dot and 95 % interval; hairlines are the rulers, the hollow diamond is the untrained twin."""
    middle = BAR_HEIGHT / 2
    left, right = axis(low), axis(high)
    body = [_hairline(axis, marker) for marker in markers]
    body.append(element("rect", x=left, y=middle - 4, width=max(right - left, 1.0), height=8, rx=4, class_="ci"))
    if twin is not None:
        x = axis(twin)
        body.append(element("path", d=_diamond(x, middle), class_="tw"))
    body.append(element("circle", cx=axis(estimate), cy=middle, r=3.6, class_="pt"))
    title = f"{name}: {number(estimate)} {bounds(low, high)}"
    described = f"untrained twin {number(twin)}" if twin is not None else ""
    return figure(BAR_WIDTH, BAR_HEIGHT, title, described, group(body), "bar")


def roi_bar(axis: Axis, estimate: float, low: float, high: float, name: str) -> Markup:
    """A bar from 0 to the estimate with its 95 % interval as a whisker."""
    middle = BAR_HEIGHT / 2
    zero, end = axis(0.0), axis(estimate)
    body = [
        line(zero, 2, zero, BAR_HEIGHT - 2, "r zero"),
        element("rect", x=min(zero, end), y=middle - 6, width=abs(end - zero), height=12, rx=2, class_="fill"),
        line(axis(low), middle, axis(high), middle, "whisker"),
        line(axis(low), middle - 4, axis(low), middle + 4, "whisker"),
        line(axis(high), middle - 4, axis(high), middle + 4, "whisker"),
    ]
    title = f"{name}: {number(estimate)} {bounds(low, high)}"
    return figure(BAR_WIDTH, BAR_HEIGHT, title, "", group(body), "bar")


def axis_header(axis: Axis, markers: Sequence[Marker], unit: str) -> Markup:
    """The shared axis above a column of bars: ticks below, names of the rulers above."""
    named, n_rows = _stack(axis, markers, BAR_WIDTH)
    base = 6 + n_rows * _ROW
    body = []
    for marker, x, row in named:
        y = 9 + row * _ROW
        body.append(line(axis(marker.value), y + 3, axis(marker.value), base + 4, f"r {marker.kind}"))
        body.append(label(x, y, marker.label, "t m"))
    body += _scale(axis, base + 4)
    described = ", ".join(f"{marker.label} {number(marker.value)}" for marker in markers)
    title = f"axis of the score in {unit}, {tick_text(round(axis.low, 2))} to {tick_text(round(axis.high, 2))}"
    scale = f"{axis.low:.6g} {axis.high:.6g} {axis.start:g} {axis.stop:g}"  # for bars that the script draws
    return figure(BAR_WIDTH, base + 22, title, described, group(body), "bar head", data_axis=scale)


def headline_chart(
    axis: Axis, estimate: float, low: float, high: float, markers: Sequence[Marker], twin: float | None, unit: str
) -> Markup:
    """One score among the rulers, with its own axis: the first figure of a model's page."""
    width = axis.stop + axis.start
    named, n_rows = _stack(axis, markers, width)
    top = 4 + n_rows * _ROW
    middle, base = top + 20, top + 40
    body = []
    for marker, x, row in named:
        body.append(line(axis(marker.value), 12 + row * _ROW, axis(marker.value), base, f"r {marker.kind}"))
        body.append(label(x, 9 + row * _ROW, marker.label, "t m"))
    left = axis(low)
    body.append(element("rect", x=left, y=middle - 6, width=max(axis(high) - left, 1.0), height=12, rx=6, class_="ci"))
    if twin is not None:
        body.append(element("path", d=_diamond(axis(twin), middle), class_="tw"))
    body.append(element("circle", cx=axis(estimate), cy=middle, r=5, class_="pt"))
    body += _scale(axis, base)
    described = ", ".join(f"{marker.label} {number(marker.value)}" for marker in markers)
    described += f", own untrained twin {number(twin)}" if twin is not None else ""
    title = f"Score {number(estimate)} {bounds(low, high)} in {unit} among the rulers"
    return figure(width, base + 22, title, described, group(body), "plot")


def rank_rail(low: int, high: int, n_models: int) -> Markup:
    """Which of the ranks 1 .. ``n_models`` the data allow."""
    width, height = 72.0, 10.0
    axis = Axis(1, max(n_models, 2), 5, width - 5)
    body = group(
        [
            line(axis(1), 5, axis(n_models), 5, "rail"),
            element("rect", x=axis(low) - 4, y=1, width=axis(high) - axis(low) + 8, height=8, rx=4, class_="span"),
        ]
    )
    spread = f"rank {low} of {n_models}" if low == high else f"ranks {low} to {high} of {n_models}"
    return figure(width, height, spread, "", body, "rank")


def _hairline(axis: Axis, marker: Marker) -> Markup:
    x = axis(marker.value)
    return line(x, -_OVERSHOOT, x, BAR_HEIGHT + _OVERSHOOT, f"r {marker.kind}")


def _diamond(x: float, y: float) -> str:
    return f"M{x:.1f} {y - 4.5:.1f}l4.5 4.5-4.5 4.5-4.5-4.5z"


def _scale(axis: Axis, y: float) -> list[Markup]:
    body = [line(axis.start, y, axis.stop, y, "ax")]
    for value in ticks(axis.low, axis.high):
        body.append(line(axis(value), y, axis(value), y + 4, "ax"))
        body.append(label(axis(value), y + 14, tick_text(value), "t m q"))
    return body


def _stack(axis: Axis, markers: Sequence[Marker], width: float) -> tuple[list[tuple[Marker, float, int]], int]:
    """Put each label on the lowest row where it does not touch another; (marker, x of the label, row)."""
    ends: list[float] = []
    placed = []
    for marker in sorted(markers, key=lambda marker: (marker.value, marker.label)):
        half = len(marker.label) * _CHARACTER / 2
        x = min(max(axis(marker.value), half), width - half)
        row = next((index for index, end in enumerate(ends) if x - half > end + 4), len(ends))
        if row == len(ends):
            ends.append(0.0)
        ends[row] = x + half
        placed.append((marker, x, row))
    return placed, len(ends)
