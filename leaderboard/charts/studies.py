# SPDX-License-Identifier: Apache-2.0
"""Pictures of a study that stand alone: learning curves, and differences with their intervals. Colours come along."""

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from voxelboard.leaderboard.charts.axes import Axis, shared_axis, tick_text, ticks
from voxelboard.leaderboard.charts.svg import coordinate, element, group, label, line, polyline
from voxelboard.leaderboard.text import bounds, number

# Okabe and Ito (2008): told apart by readers of every colour vision; the first is the neutral reference.
_COLOURS = ("#1a1a1a", "#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")
_DARK = ("#f0f0f0", "#56b4e9", "#ff9c5a", "#3fd0a4", "#e7a3cb", "#ffc24d", "#9ad4f5")
_BASE = (
    "text{font:11px system-ui,sans-serif;fill:#1a1a1a}.q{fill:#5c5c5c}.m{text-anchor:middle}.e{text-anchor:end}"
    ".b{font-weight:600}.grid{stroke:#dcdcdc}.zero{stroke:#7a7a7a}polyline{fill:none;stroke-width:1.6}"
    ".broken{stroke-dasharray:5 3}.ref{stroke-width:3}.w{stroke-width:2}"
)
_BASE_DARK = "text{fill:#f0f0f0}.q{fill:#b5b5b5}.grid{stroke:#3a3a3a}.zero{stroke:#8a8a8a}"


def _style() -> Markup:
    def classes(colours: Sequence[str]) -> str:
        return "".join(f".c{k}{{stroke:{c}}}.f{k}{{fill:{c}}}" for k, c in enumerate(colours))

    # constants of this module, nothing of a user's
    rules = f"{_BASE}{classes(_COLOURS)}@media(prefers-color-scheme:dark){{{_BASE_DARK}{classes(_DARK)}}}"
    return Markup(f"<style>{rules}</style>")  # noqa: S704


def _standalone(width: float, height: float, title: str, description: str, body: Markup) -> Markup:
    alternative = element("title", title) + element("desc", description)
    size = f"0 0 {coordinate(width)} {coordinate(height)}"
    return element(
        "svg",
        alternative + _style() + body,
        xmlns="http://www.w3.org/2000/svg",
        viewBox=size,
        width=width,
        height=height,
        role="img",
    )


@dataclass(frozen=True)
class Curve:
    """Losses of one kind of model.

    runs : for each seed the pairs (step, validation loss in nats a token).
    reference : loss of the n-gram baseline.
    colour : number of its colour. broken : its lines are dashed.
    """

    runs: tuple[tuple[tuple[int, float], ...], ...]
    reference: float
    colour: int
    broken: bool = False


def learning_curves(curves: Mapping[str, Curve], title: str) -> str:
    """Validation loss over training steps, a line a seed; a mark at the right for the n-gram model of the same corpus."""
    width, height, left, right, top, bottom = 640.0, 300.0, 44.0, 404.0, 34.0, 262.0
    points = [point for curve in curves.values() for run in curve.runs for point in run]
    losses = [loss for _, loss in points] + [curve.reference for curve in curves.values()]
    air = 0.05 * (max(losses) - min(losses)) or 0.1
    x = Axis(0, max(step for step, _ in points) or 1, left, right)
    y = Axis(min(losses) - air, max(losses) + air, bottom, top)
    body = [label(left, 16, title, "b")]
    for value in ticks(y.low, y.high, n=5):
        body += [line(left, y(value), right, y(value), "grid"), label(left - 6, y(value) + 4, tick_text(value), "e q")]
    body += [label(x(step), bottom + 16, f"{step:g}", "m q") for step in ticks(0, x.high, n=4)]
    body.append(label((left + right) / 2, height - 6, "training step; loss in nats a token", "m q"))
    names = spread_labels([y(curve.runs[0][-1][1]) for curve in curves.values()], 13.0, top, bottom)
    for (name, curve), at in zip(curves.items(), names, strict=True):
        colour = curve.colour % len(_COLOURS)
        dashes = " broken" if curve.broken else ""
        body += [polyline([(x(step), y(loss)) for step, loss in run], f"c{colour}{dashes}") for run in curve.runs]
        body.append(line(right - 14, y(curve.reference), right, y(curve.reference), f"ref c{colour}{dashes}"))
        final = sum(run[-1][1] for run in curve.runs) / len(curve.runs)
        body.append(label(right + 10, at + 4, f"{name} {final:.2f} (n-gram {curve.reference:.2f})", f"f{colour}"))
    described = "; ".join(
        f"{name}: {c.runs[0][0][1]:.2f} at the start, {c.runs[0][-1][1]:.2f} at the end" for name, c in curves.items()
    )
    return str(_standalone(width, height, title, described, group(body))) + "\n"


def spread_labels(places: Sequence[float], gap: float, low: float, high: float) -> list[float]:
    """Places of labels at least ``gap`` apart and as near to the given ones as a pass downwards and one upwards make them."""
    order = sorted(range(len(places)), key=lambda i: places[i])
    found = list(places)
    for one, other in itertools.pairwise(order):
        found[other] = max(found[other], found[one] + gap)
    over = max([found[i] for i in order[-1:]] + [high]) - high
    for i in reversed(order):
        found[i] = max(low, found[i] - over) if over > 0 else found[i]
    return found


@dataclass(frozen=True)
class DeltaRow:
    """One difference; rows of one ``name`` stand together.

    colour : number of its series, the same number for the same series.
    """

    name: str
    series: str
    colour: int
    estimate: float
    low: float
    high: float


def delta_chart(rows: Sequence[DeltaRow], title: str, unit: str) -> str:
    """Differences with 95 % intervals, one line a series, 0 marked: right of it something was lost."""
    left, width, row_height, top = 150.0, 640.0, 15.0, 74.0
    axis = shared_axis([v for row in rows for v in (row.low, row.high, row.estimate)], width - left - 8, 0)
    x = Axis(axis.low, axis.high, left, width - 8)
    body = [label(8, 16, title, "b")]
    series = dict.fromkeys((row.series, row.colour) for row in rows)
    for k, (name, colour) in enumerate(series):
        at, down = left + (k % 2) * 220.0, 32 + 17.0 * (k // 2)  # two columns
        body += [
            element("circle", cx=at + 4, cy=down, r=4, class_=f"f{colour % 7}"),
            label(at + 14, down + 4, name, "q"),
        ]
    y, previous, bottom = top, "", top + sum(row_height for _ in rows) + 6 * len({row.name for row in rows})
    for value in ticks(x.low, x.high, n=6):
        body.append(line(x(value), top - 8, x(value), bottom, "zero" if value == 0 else "grid"))
        body.append(label(x(value), bottom + 15, tick_text(value), "m q"))
    for row in rows:
        if row.name != previous:
            y += 6 if previous else 0
            body.append(label(left - 10, y + 9, row.name, "e"))
            previous = row.name
        middle, colour = y + 5, row.colour % 7
        body.append(line(x(row.low), middle, x(row.high), middle, f"w c{colour}"))
        body.append(element("circle", cx=x(row.estimate), cy=middle, r=3.6, class_=f"f{colour}"))
        y += row_height
    body.append(label((left + width) / 2, bottom + 32, unit, "m q"))
    described = "; ".join(f"{r.name}, {r.series}: {number(r.estimate)} {bounds(r.low, r.high)}" for r in rows)
    return str(_standalone(width, bottom + 42, title, described, group(body))) + "\n"
