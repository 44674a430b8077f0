# SPDX-License-Identifier: Apache-2.0
"""SVG elements as text. Colours come from classes of the stylesheet, so that dark mode and print work."""

import re
from collections.abc import Iterable
from functools import cache

from markupsafe import Markup, escape

_find_special = re.compile("[&<>\"']").search


def coordinate(value: float) -> str:
    """A pixel coordinate with one decimal at most; the same text on every machine."""
    text = f"{value:.1f}".removesuffix(".0")
    return "0" if text == "-0" else text


def element(name: str, content: str | Markup = "", **attributes: str | float | None) -> Markup:
    """``<name ...>content</name>``, everything escaped. ``class_`` is ``class``; ``_`` in names becomes ``-``."""
    opening = "".join([f"<{name}", *(_attribute(key, value) for key, value in attributes.items() if value is not None)])
    # names and keys come from this package; values and content are escaped above and here
    return Markup(f"{opening}/>" if content == "" else f"{opening}>{escaped(content)}</{name}>")  # noqa: S704


def escaped(text: str) -> str:
    """As :func:`markupsafe.escape`, whose call takes longer than looking for what most texts lack."""
    return text if isinstance(text, Markup) or _find_special(text) is None else escape(text)


def _attribute(key: str, value: str | float) -> str:
    return f' {_name(key)}="{escaped(value) if isinstance(value, str) else coordinate(value)}"'


@cache
def _name(key: str) -> str:
    return key.rstrip("_").replace("_", "-")


def group(parts: Iterable[str | Markup]) -> Markup:
    """Elements one after the other."""
    return Markup("".join([part if isinstance(part, Markup) else escape(part) for part in parts]))  # noqa: S704


def figure(
    width: float, height: float, title: str, description: str, body: Markup, class_: str, **attributes: str | None
) -> Markup:
    """An ``<svg>`` with its text alternative: ``<title>`` is its name, ``<desc>`` what a sighted reader would see."""
    alternative = element("title", title) + (element("desc", description) if description else Markup(""))
    view = f"0 0 {coordinate(width)} {coordinate(height)}"
    size = {"viewBox": view, "width": coordinate(width), "height": coordinate(height)}
    return element("svg", alternative + body, class_=class_, role="img", **size, **attributes)


def line(x1: float, y1: float, x2: float, y2: float, class_: str) -> Markup:
    """A straight line."""
    ends = f'x1="{coordinate(x1)}" y1="{coordinate(y1)}" x2="{coordinate(x2)}" y2="{coordinate(y2)}"'
    return Markup(f'<line {ends} class="{escaped(class_)}"/>')  # noqa: S704  numbers, and a class that is escaped


def label(x: float, y: float, text: str, class_: str = "t") -> Markup:
    """Text; its anchor comes from the class (``t``, ``t m`` middle, ``t e`` end)."""
    place = f'x="{coordinate(x)}" y="{coordinate(y)}" class="{escaped(class_)}"'
    return Markup(f"<text {place}>{escaped(text)}</text>" if text else f"<text {place}/>")  # noqa: S704  as in line


def polyline(points: Iterable[tuple[float, float]], class_: str) -> Markup:
    """An open line through points."""
    return element("polyline", points=_points(points), class_=class_)


def polygon(points: Iterable[tuple[float, float]], class_: str) -> Markup:
    """A closed area."""
    return element("polygon", points=_points(points), class_=class_)


def _points(points: Iterable[tuple[float, float]]) -> str:
    return " ".join(f"{coordinate(x)},{coordinate(y)}" for x, y in points)
