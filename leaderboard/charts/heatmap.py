# SPDX-License-Identifier: Apache-2.0
"""Numbers over two axes as shades of one hue, every number printed: a table, so that it can be read in any way."""

from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from voxelboard.benchmark.statistics.intervals import Interval
from voxelboard.leaderboard.charts.svg import element, group
from voxelboard.leaderboard.text import bounds, number

N_SHADES = 9


@dataclass(frozen=True)
class HeatCell:
    """A number with its interval."""

    estimate: float
    low: float | None
    high: float | None

    @classmethod
    def of(cls, interval: Interval) -> "HeatCell":
        """From an interval."""
        return cls(interval.estimate, interval.low, interval.high)


def heat_map(
    caption: str,
    columns: Sequence[str],
    rows: Sequence[tuple[str, Sequence[HeatCell | None]]],
    marked: Sequence[int | None] = (),
    digits: int = 3,
) -> Markup:
    """A table whose cells are shaded by their number; the darkest is the highest, 0 and less have no shade.

    ``marked`` gives per column the index of the row that is outlined (a chosen layer).
    """
    top = max((cell.estimate for _, cells in rows for cell in cells if cell is not None), default=0.0)
    corner = element("td", Markup("&nbsp;"))
    head = element("tr", corner + group(element("th", name, scope="col") for name in columns))
    body = group(
        element(
            "tr",
            element("th", name, scope="row")
            + group(
                _cell(cell, top, digits, place < len(marked) and marked[place] == index)
                for place, cell in enumerate(cells)
            ),
        )
        for index, (name, cells) in enumerate(rows)
    )
    inner = element("caption", element("span", caption)) + element("thead", head) + element("tbody", body)
    return element("table", inner, class_="heat")


def shade(value: float, top: float) -> int:
    """0 (none) to 9 (darkest)."""
    return round(N_SHADES * min(max(value / top, 0.0), 1.0)) if top > 0 else 0


def _cell(cell: HeatCell | None, top: float, digits: int, picked: bool) -> Markup:
    if cell is None:
        return element("td", "–", class_="none")
    classes = f"h{shade(cell.estimate, top)}{' pick' if picked else ''}"
    title, half = "", ""
    if cell.low is not None and cell.high is not None:
        title = f' title="{bounds(cell.low, cell.high)}"'
        half = f"<small>±{number((cell.high - cell.low) / 2, digits)}</small>"
    return Markup(f'<td class="{classes}"{title}>{number(cell.estimate, digits)}{half}</td>')  # noqa: S704  numbers only
