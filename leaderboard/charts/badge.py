# SPDX-License-Identifier: Apache-2.0
"""A badge for a README: one line, colours of its own, because it is shown outside of the board."""

from voxelboard.leaderboard.charts.svg import element, group
from voxelboard.leaderboard.text import plain

_CHARACTER = 6.3  # mean advance of 11-px Verdana-like faces
_HEIGHT = 20.0


def badge(label: str, value: str) -> str:
    """An SVG file: ``label`` on ink, ``value`` on the accent colour."""
    label, value = plain(label, 40), plain(value, 60)
    left, right = (len(text) * _CHARACTER + 14 for text in (label, value))
    width = round(left + right)
    text = {"font_family": "Verdana, Geneva, DejaVu Sans, sans-serif", "font_size": "11", "fill": "#fff"}
    body = group(
        [
            element("title", f"{label}: {value}"),
            element("rect", width=width, height=_HEIGHT, rx=3, fill="#1a1f24"),
            element(
                "path",
                d=f"M{left:.1f} 0h{right - 3:.1f}a3 3 0 0 1 3 3v14a3 3 0 0 1-3 3h-{right - 3:.1f}z",
                fill="#0a6a70",
            ),
            element("text", label, x=left / 2, y=14, text_anchor="middle", textLength=round(left - 14), **text),
            element(
                "text", value, x=left + right / 2, y=14, text_anchor="middle", textLength=round(right - 14), **text
            ),
        ]
    )
    attributes = {"xmlns": "http://www.w3.org/2000/svg", "role": "img", "aria_label": f"{label}: {value}"}
    return str(element("svg", body, width=width, height=_HEIGHT, **attributes)) + "\n"
