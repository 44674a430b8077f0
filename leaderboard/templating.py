# SPDX-License-Identifier: Apache-2.0
"""Templates, the content security policy and the writing of pages."""

import base64
import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup

from voxelboard.leaderboard.board import Missing
from voxelboard.leaderboard.text import bounds, count, marked_up, number, plain, signed

_HERE = Path(__file__).resolve().parent
# Runs first in every page and loads the one script: a page opened from file:// cannot allow it by address. Of a long table
# the first rows are laid out for the first paint, without layers of their own, and the others after it (class "first");
# without script all are.
_LOADER = (
    '(function(){var r=document.documentElement,s=document.createElement("script");r.classList.add("js","first");'
    's.src=r.getAttribute("data-root")+r.getAttribute("data-script");document.head.appendChild(s);'
    'document.addEventListener("DOMContentLoaded",function(){requestAnimationFrame(function(){setTimeout(function(){'
    'r.classList.remove("first")})})})})()'
)


@dataclass(frozen=True)
class SiteWriter:
    """Writes the pages of one board and remembers their addresses.

    Attributes
    ----------
    folder : where the board lies.
    shared : values that every template of the board sees.
    pages : addresses of the pages written so far, from ``folder``.
    """

    folder: Path
    shared: Mapping[str, Any]
    pages: list[str] = field(default_factory=list)

    def page(self, address: str, template: str, **values: Any) -> None:
        """Render a template to ``address`` (``models/x.html``)."""
        root = "../" * address.count("/")
        self.text(address, render_template(template, **{**self.shared, "root": root, "here": address, **values}))
        self.pages.append(address)

    def text(self, address: str, text: str) -> None:
        """Write a text file."""
        write_text(self.folder / address, text)

    def binary(self, address: str, data: bytes) -> None:
        """Write bytes."""
        write_bytes(self.folder / address, data)

    def data(self, address: str, name: str, value: str) -> None:
        """Write JSON as a classic script: the only way to read a file beside a page opened from ``file://``."""
        self.text(address, f"(window.voxelboard=window.voxelboard||{{}})[{script_json(name)}]={value};\n")


def write_text(path: Path, text: str) -> None:
    """UTF-8 without a mark, folders made."""
    write_bytes(path, text.encode("utf-8"))


def write_bytes(path: Path, data: bytes) -> None:
    """Bytes, folders made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)


def script_json(value: Any) -> str:
    """Compact JSON that is safe inside ``<script>``: no ``<``, no line separators, no NaN."""
    text = json.dumps(value, separators=(",", ":"), sort_keys=True, allow_nan=False, ensure_ascii=True)
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def render_template(template: str, **values: Any) -> str:
    """A page with its style and policy."""
    css = asset("board.css")
    inline = {"css": Markup(css), "loader": Markup(_LOADER)}  # noqa: S704  our own text, allowed by hash
    return environment().get_template(template).render(**inline, csp=policy(css), script=script_name(), **values)


@cache
def policy(css: str) -> str:
    """Content-Security-Policy that allows the page's own style and loader by their hashes, and nothing else.

    Hashes, not ``'self'``: a page opened from ``file://`` has no origin that ``'self'`` could mean. ``'strict-dynamic'``
    lets the loader, and nothing in the markup, add the board's script; ``data:`` pictures are drawn by the page itself.
    """
    return (
        f"default-src 'none'; style-src '{source_hash(css)}'; script-src '{source_hash(_LOADER)}' 'strict-dynamic'; "
        "img-src data: blob:; base-uri 'none'; form-action 'none'"
    )


def source_hash(text: str) -> str:
    """A hash source of a policy."""
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}"


@cache
def script_name() -> str:
    """Address of the script from the root of a board; it changes with its content, so that no cache serves an old one."""
    return f"static/board-{hashlib.sha256(script().encode()).hexdigest()[:10]}.js"


@cache
def script() -> str:
    """The one script: the parts in ``static/``, in order of their names, in a scope of their own."""
    parts = sorted((_HERE / "static").glob("*.js"))
    text = "\n".join(part.read_text(encoding="utf-8").strip() for part in parts)
    return f'(function () {{\n"use strict";\n{text}\n}})();\n'


@cache
def asset(name: str) -> str:
    """A file of ``static/``."""
    return (_HERE / "static" / name).read_text(encoding="utf-8")


@cache
def environment() -> jinja2.Environment:
    """Autoescaping, strict about names."""
    found = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_HERE / "templates"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    filters: Mapping[str, Callable[..., Any]] = {
        "plain": plain,
        "number": number,
        "signed": signed,
        "count": count,
        "marked_up": marked_up,
        "bounds": lambda score: bounds(score.low, score.high),
        "script_json": lambda value: Markup(script_json(value)),  # noqa: S704  "<", ">" and "&" are escaped
    }
    found.filters.update(filters)
    found.tests["missing"] = lambda score: isinstance(score, Missing)
    return found
