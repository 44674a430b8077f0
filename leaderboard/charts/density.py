# SPDX-License-Identifier: Apache-2.0
"""Voxels over two numbers, and a score over training steps."""

from collections.abc import Sequence

import numpy as np
from markupsafe import Markup

from voxelboard.leaderboard.charts.axes import Axis, tick_text, ticks
from voxelboard.leaderboard.charts.svg import coordinate, element, figure, group, label, line, polyline
from voxelboard.leaderboard.text import bounds, number, plain
from voxelboard.leaderboard.voxels import GRID_LOW, GRID_STEP, Density

_SIZE = 320.0
_SHADES = 6


def density_plot(density: Density, x_name: str, y_name: str, *, bound: str = "") -> Markup:
    """Shaded counts (logarithmic), with the line on which both numbers are equal; ``bound`` names it."""
    used = np.argwhere(density.counts > 0)
    low = min(0.0, GRID_LOW + GRID_STEP * float(used.min()))
    high = GRID_LOW + GRID_STEP * float(used.max() + 1)
    left, top, bottom = 44.0, 10.0, _SIZE - 44
    x, y = Axis(low, high, left, _SIZE - 8), Axis(low, high, bottom, top)
    side = (x.stop - x.start) / (high - low) * GRID_STEP
    rise = (bottom - top) / (high - low) * GRID_STEP
    counted = np.log1p(density.counts[used[:, 0], used[:, 1]])
    shades = np.minimum(_SHADES - 1, (_SHADES * counted / counted.max() * 0.999).astype(np.int64))
    columns = {i: coordinate(x(GRID_LOW + GRID_STEP * i)) for i in set(used[:, 0].tolist())}
    rows = {j: coordinate(y(GRID_LOW + GRID_STEP * (j + 1))) for j in set(used[:, 1].tolist())}
    square = f"h{coordinate(side + 0.4)}v{coordinate(rise + 0.4)}h-{coordinate(side + 0.4)}z"
    paths: list[list[str]] = [[] for _ in range(_SHADES)]
    for (i, j), shade in zip(used.tolist(), shades.tolist(), strict=True):
        paths[shade].append(f"M{columns[i]} {rows[j]}{square}")
    body = [element("path", d="".join(part), class_=f"d{index + 1}") for index, part in enumerate(paths) if part]
    body += [line(x(0), top, x(0), bottom, "grid zero"), line(left, y(0), _SIZE - 8, y(0), "grid zero")]
    body.append(line(x(low), y(low), x(high), y(high), "r ceiling"))
    if bound:
        body.append(label(x(high) - 4, y(high) + 22, bound, "t e"))
    for value in ticks(low, high, n=4):
        body.append(label(x(value), bottom + 15, tick_text(value), "t m q"))
        body.append(label(left - 6, y(value) + 3.5, tick_text(value), "t e q"))
    body += [line(left, bottom, _SIZE - 8, bottom, "ax"), line(left, top, left, bottom, "ax")]
    body.append(label((left + _SIZE) / 2, bottom + 32, x_name, "t m q"))
    middle = (top + bottom) / 2
    body.append(
        element("text", y_name, x=11, y=middle, class_="t m q", transform=f"rotate(-90 11 {coordinate(middle)})")
    )
    share = 100 * density.above / density.total
    described = f"{density.total} voxels; {share:.0f} % have a higher {y_name} than {x_name}"
    return figure(_SIZE, bottom + 40, f"{y_name} against {x_name}, by voxel", described, group(body), "plot")


def trajectory(points: Sequence[tuple[int, float, float, float, bool]], unit: str) -> Markup:
    """Scores of a family's checkpoints over training steps (logarithmic): (step, estimate, low, high, this one)."""
    width, bottom, left, top = 420.0, 180.0, 46.0, 12.0
    ordered = sorted(points)
    place = [float(np.log10(step + 1)) for step, *_ in ordered]
    held = [0.0, *(value for _, _, low, high, _ in ordered for value in (low, high))]
    air = 0.06 * (max(held) - min(held)) or 0.05
    x = Axis(min(place) - 0.1, max(place) + 0.1, left, width - 10)
    y = Axis(min(held) - air, max(held) + air, bottom, top)
    body = [line(left, y(0), width - 10, y(0), "grid zero")]
    body += [label(left - 6, y(value) + 3.5, tick_text(value), "t e q") for value in ticks(y.low, y.high, n=4)]
    body.append(polyline([(x(p), y(e)) for p, (_, e, *_) in zip(place, ordered, strict=True)], "test"))
    for p, (step, estimate, low, high, own) in zip(place, ordered, strict=True):
        body.append(line(x(p), y(low), x(p), y(high), "whisker strong" if own else "whisker"))
        body.append(element("circle", cx=x(p), cy=y(estimate), r=5 if own else 3.2, class_="pt" if own else "dot"))
        body.append(label(x(p), bottom + 14, plain(_steps(step), 10), "t m q"))
    body += [
        line(left, bottom, width - 10, bottom, "ax"),
        label((left + width) / 2, bottom + 30, "training step", "t m q"),
    ]
    described = "; ".join(f"step {step}: {number(e)} {bounds(low, high)}" for step, e, low, high, _ in ordered)
    return figure(width, bottom + 36, f"Score over training, {unit}", described, group(body), "plot")


def _steps(step: int) -> str:
    return f"{step / 1000:g}k" if step >= 1000 else str(step)
