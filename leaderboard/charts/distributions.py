# SPDX-License-Identifier: Apache-2.0
"""How a score is spread over subjects and voxels."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from voxelboard.leaderboard.charts.axes import Axis, Marker, tick_text, ticks
from voxelboard.leaderboard.charts.svg import element, figure, group, label, line, polygon, polyline
from voxelboard.leaderboard.text import bounds, number, plain

_WIDTH = 360.0


@dataclass(frozen=True)
class Dot:
    """The score of one subject with its interval."""

    name: str
    estimate: float
    low: float
    high: float


def subject_dots(dots: Sequence[Dot], mean: Dot, unit: str, markers: Sequence[Marker] = ()) -> Markup:
    """One row per subject and the mean below; whiskers are 95 % intervals."""
    rows = [*dots, mean]
    left, row, top = 92.0, 20.0, 10.0
    bottom = top + row * len(rows)
    held = [value for dot in rows for value in (dot.low, dot.high)] + [0.0, *(marker.value for marker in markers)]
    air = 0.05 * (max(held) - min(held)) or 0.05
    x = Axis(min(held) - air, max(held) + air, left, _WIDTH - 8)
    body = [line(x(0), top - 4, x(0), bottom + 2, "r zero")]
    body += [line(x(marker.value), top - 4, x(marker.value), bottom + 2, f"r {marker.kind}") for marker in markers]
    for index, dot in enumerate(rows):
        y = top + row * (index + 0.5)
        last = index == len(rows) - 1
        body.append(label(left - 8, y + 4, plain(dot.name, 14), "t e b" if last else "t e"))
        body.append(line(x(dot.low), y, x(dot.high), y, "whisker strong" if last else "whisker"))
        body.append(element("circle", cx=x(dot.estimate), cy=y, r=4.2 if last else 3.2, class_="pt" if last else "dot"))
    body += _bottom_axis(x, bottom + 4, unit)
    described = "; ".join(f"{plain(dot.name, 40)} {number(dot.estimate)} {bounds(dot.low, dot.high)}" for dot in rows)
    return figure(_WIDTH, bottom + 36, f"Score of each subject, {unit}", described, group(body), "plot")


def voxel_histogram(edges: Sequence[float], counts: Mapping[str, Sequence[int]], ceiling: float | None) -> Markup:
    """Voxel correlations as outlines: the first of ``counts`` filled in grey, the last in the accent colour.

    Parameters
    ----------
    edges : bin edges, one more than counts, in units of r.
    counts : voxels per bin, by name of the prediction (``raw``, ``unique``).
    ceiling : mean voxel ceiling, in units of r, if there is one.
    """
    first, last = _occupied(counts, len(edges) - 1)
    top, bottom, left = 12.0, 140.0, 40.0
    most = max((max(values) for values in counts.values()), default=0) or 1
    x = Axis(min(edges[first], 0.0), max(edges[last + 1], ceiling or 0.0), left, _WIDTH - 8)
    y = Axis(0, most, bottom, top)
    body = [line(x(0), top, x(0), bottom, "r zero")]
    body += [label(left - 6, y(value) + 3.5, f"{value:g}", "t e q") for value in ticks(0, most, n=3)]
    for index, name in enumerate(counts):
        steps = _steps(edges, counts[name], x, y, first, last)
        kind = "hist accent" if index == len(counts) - 1 else "hist"
        body.append(polygon([(steps[0][0], bottom), *steps, (steps[-1][0], bottom)], kind))
        body.append(polyline(steps, f"{kind} edge"))
    if ceiling is not None:
        body.append(line(x(ceiling), top, x(ceiling), bottom, "r ceiling"))
        body.append(label(min(x(ceiling), _WIDTH - 52), top - 2, "mean ceiling", "t m"))
    body += _bottom_axis(x, bottom, "voxel r")
    return figure(_WIDTH, bottom + 32, "Voxels by correlation", _medians(edges, counts), group(body), "plot")


def _bottom_axis(x: Axis, y: float, unit: str) -> list[Markup]:
    body = [line(x.start, y, x.stop, y, "ax")]
    for value in ticks(x.low, x.high, n=5):
        body.append(line(x(value), y, x(value), y + 4, "ax"))
        body.append(label(x(value), y + 15, tick_text(value), "t m q"))
    body.append(label((x.start + x.stop) / 2, y + 28, unit, "t m q"))
    return body


def _occupied(counts: Mapping[str, Sequence[int]], n_bins: int) -> tuple[int, int]:
    used = [index for values in counts.values() for index, n in enumerate(values) if n]
    return (min(used), max(used)) if used else (0, n_bins - 1)


def _steps(
    edges: Sequence[float], values: Sequence[int], x: Axis, y: Axis, first: int, last: int
) -> list[tuple[float, float]]:
    corners = []
    for index in range(first, last + 1):
        corners += [(x(edges[index]), y(values[index])), (x(edges[index + 1]), y(values[index]))]
    return corners


def _medians(edges: Sequence[float], counts: Mapping[str, Sequence[int]]) -> str:
    parts = []
    for name, values in counts.items():
        total, running = sum(values), 0
        for index, n in enumerate(values):
            running += n
            if total and running * 2 >= total:
                parts.append(f"{name}: {total} voxels, median near {number((edges[index] + edges[index + 1]) / 2, 2)}")
                break
    return "; ".join(parts)
