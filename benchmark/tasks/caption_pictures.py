# SPDX-License-Identifier: Apache-2.0
"""Small SVG pictures of a training run and of profiles over timesteps, readable without any script."""

from collections.abc import Mapping, Sequence
from html import escape

from voxelboard.benchmark.caption_tables import Alignment

_WIDTH, _HEIGHT, _LEFT, _BOTTOM, _TOP = 320, 200, 46, 34, 26
_COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#e69f00")  # Okabe & Ito: told apart by all


def line_panel(title: str, lines: Mapping[str, Sequence[float]], x_label: str, y_label: str, x: int = 0) -> str:
    """One panel as an SVG group: every line over 1, 2, 3 ..., with axes and a legend."""
    values = [v for line in lines.values() for v in line]
    low, high = (min(values), max(values)) if values else (0.0, 1.0)
    low, high = min(low, 0.0), high if high > low else low + 1
    longest = max((len(line) for line in lines.values()), default=1)
    plot_w, plot_h = _WIDTH - _LEFT - 12, _HEIGHT - _BOTTOM - _TOP

    def place(i: int, value: float) -> str:
        along = i / max(1, longest - 1)
        return f"{_LEFT + along * plot_w:.1f},{_TOP + (1 - (value - low) / (high - low)) * plot_h:.1f}"

    parts = [
        f'<g transform="translate({x},0)"><text x="{_LEFT}" y="14" font-weight="bold">{escape(title)}</text>',
        f'<path d="M{_LEFT},{_TOP}V{_TOP + plot_h}H{_LEFT + plot_w}" fill="none" stroke="#555"/>',
        f'<text x="{_LEFT - 4}" y="{_TOP + 4}" text-anchor="end">{high:.2f}</text>',
        f'<text x="{_LEFT - 4}" y="{_TOP + plot_h}" text-anchor="end">{low:.2f}</text>',
        f'<text x="{_LEFT + plot_w}" y="{_HEIGHT - 18}" text-anchor="end">{escape(x_label)} 1–{longest}</text>',
        f'<text x="{_LEFT}" y="{_HEIGHT - 18}">{escape(y_label)}</text>',
    ]
    for number, (name, line) in enumerate(lines.items()):
        colour = _COLOURS[number % len(_COLOURS)]
        points = " ".join(place(i, value) for i, value in enumerate(line))
        parts.append(f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="1.6"/>')
        if len(line) == 1:
            at_x, at_y = place(0, line[0]).split(",")
            parts.append(f'<circle cx="{at_x}" cy="{at_y}" r="3" fill="{colour}"/>')
        parts.append(
            f'<text x="{_LEFT + 6 + 130 * (number % 2)}" y="{_HEIGHT - 6 + 12 * (number // 2)}" fill="{colour}">{escape(name)}</text>'
        )
    return "".join(parts) + "</g>"


def _page(panels: Sequence[str], rows_of_legend: int, title: str) -> str:
    height = _HEIGHT + 12 * rows_of_legend
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH * len(panels)} {height}" role="img" '
        f'font-family="sans-serif" font-size="10"><title>{escape(title)}</title>'
        f'<rect width="100%" height="100%" fill="white"/>{"".join(panels)}</svg>\n'
    )


def learning_curves_svg(losses: Mapping[str, tuple[Sequence[float], Sequence[float]]]) -> str:
    """Training and held-out loss of each network, one panel each."""
    panels = [
        line_panel(name, {"training": train, "held out": held_out}, "epoch", "loss", x=_WIDTH * number)
        for number, (name, (train, held_out)) in enumerate(losses.items())
    ]
    return _page(panels, 0, "Learning curves")


def profiles_svg(alignments: Sequence[Alignment]) -> str:
    """RSA of the readout over timesteps, mean over seeds: one panel a region, one line a network."""
    panels = []
    rois = list(dict.fromkeys(a.roi for a in alignments))
    networks = list(dict.fromkeys(a.network for a in alignments))
    for number, roi in enumerate(rois):
        lines = {
            name: _over_time([a for a in alignments if (a.network, a.roi, a.layer) == (name, roi, "readout")])
            for name in networks
        }
        panels.append(line_panel(roi, {k: v for k, v in lines.items() if v}, "timestep", "RSA r", x=_WIDTH * number))
    return _page(panels, (len(networks) - 1) // 2, "Alignment over timesteps")


def _over_time(alignments: Sequence[Alignment]) -> list[float]:
    times = sorted({a.timestep for a in alignments})
    at = [[a.r for a in alignments if a.timestep == time] for time in times]
    return [sum(values) / len(values) for values in at]
