# SPDX-License-Identifier: Apache-2.0
"""What other programs read of a board: an Atom feed (RFC 4287), badges and a sitemap."""

import uuid
from collections.abc import Iterable, Mapping
from datetime import datetime
from urllib.parse import quote
from xml.etree import ElementTree as ET

from voxelboard.benchmark.statistics.intervals import Interval
from voxelboard.leaderboard.board import Board, Entry, Row, Table
from voxelboard.leaderboard.charts.badge import badge
from voxelboard.leaderboard.pages.facts import display_name
from voxelboard.leaderboard.text import bounds, number, plain

_ATOM = "http://www.w3.org/2005/Atom"
_SITEMAP = "http://www.sitemaps.org/schemas/sitemap/0.9"
_NAMESPACE = uuid.UUID("5a0d4b35-0c1c-5a1e-9a52-6f1d0f6f7e11")
_MAX_ENTRIES = 60
_NEVER = "1970-01-01T00:00:00Z"


def atom_feed(board: Board, pages: Mapping[Entry, str], site_url: str | None) -> str:
    """The latest scored rows, newest first; without ``site_url`` links are relative to the feed."""
    rows = [(_updated(row), table, row) for table in board.tables for row in (*table.ranked, *table.unranked)]
    dated = sorted(
        ((stamp, table, row) for stamp, table, row in rows if stamp and isinstance(row.headline, Interval)),
        key=lambda item: (item[0], item[2].entry, item[1].column),
        reverse=True,
    )
    ET.register_namespace("", _ATOM)
    feed = ET.Element(f"{{{_ATOM}}}feed")
    kind = "simulated data" if board.kind == "simulated" else "recorded brains"
    _text(feed, "title", f"voxelboard, {kind}")
    _text(feed, "id", uuid.uuid5(_NAMESPACE, f"{board.kind} {site_url or ''}").urn)
    _text(feed, "updated", dated[0][0] if dated else _NEVER)
    _text(ET.SubElement(feed, f"{{{_ATOM}}}author"), "name", "voxelboard")
    ET.SubElement(feed, f"{{{_ATOM}}}link", rel="alternate", href=_address("index.html", site_url))
    if site_url:
        ET.SubElement(feed, f"{{{_ATOM}}}link", rel="self", href=_address("feed.xml", site_url))
    for stamp, table, row in dated[:_MAX_ENTRIES]:
        _entry(feed, stamp, table, row, _address(pages[row.entry], site_url))
    ET.indent(feed, " ")
    return '<?xml version="1.0" encoding="utf-8"?>\n' + ET.tostring(feed, encoding="unicode") + "\n"


def _entry(feed: ET.Element, stamp: str, table: Table, row: Row, href: str) -> None:
    item = ET.SubElement(feed, f"{{{_ATOM}}}entry")
    name, where = display_name(row.model, row.entry), plain(table.column.label)
    digests = " ".join(row.digests)
    _text(item, "title", f"{name} on {where}")
    _text(item, "id", uuid.uuid5(_NAMESPACE, f"{row.entry!r} {table.column!r} {digests}").urn)
    _text(item, "updated", stamp)
    ET.SubElement(item, f"{{{_ATOM}}}link", rel="alternate", href=href)
    _text(item, "summary", f"{name}: {score_line(table, row)}.")


def score_line(table: Table, row: Row) -> str:
    """``0.231 [0.210, 0.252], rank 2–4 of 8``."""
    score = row.headline
    if not isinstance(score, Interval):
        return row.state.name
    rank = f"rank {row.rank.spread} of {len(table.ranked)}" if row.rank else "not ranked"
    return f"{number(score.estimate)} {bounds(score.low, score.high)}, {rank}"


def entry_badge(rows: Iterable[tuple[Table, Row]]) -> str:
    """The badge of an entry: its first scored column, or its state."""
    listed = list(rows)
    for table, row in listed:
        score = row.headline
        if isinstance(score, Interval):
            rank = f" · rank {row.rank.spread} of {len(table.ranked)}" if row.rank else " · not ranked"
            half = number((score.high - score.low) / 2)
            kind = " (simulated)" if table.column.kind == "simulated" else ""
            return badge(f"voxelboard {plain(table.column.task, 20)}{kind}", f"{number(score.estimate)} ±{half}{rank}")
    return badge("voxelboard", listed[0][1].state.name)


def sitemap(pages: Iterable[str], site_url: str) -> str:
    """All pages with their absolute addresses."""
    ET.register_namespace("", _SITEMAP)
    root = ET.Element(f"{{{_SITEMAP}}}urlset")
    for page in sorted(pages):
        ET.SubElement(ET.SubElement(root, f"{{{_SITEMAP}}}url"), f"{{{_SITEMAP}}}loc").text = _address(page, site_url)
    ET.indent(root, " ")
    return '<?xml version="1.0" encoding="utf-8"?>\n' + ET.tostring(root, encoding="unicode") + "\n"


def _address(page: str, site_url: str | None) -> str:
    return f"{site_url.rstrip('/')}/{quote(page)}" if site_url else quote(page)


def _updated(row: Row) -> str:
    """The latest start of a cell as RFC 3339, or nothing where no record says a readable one."""
    stamps = []
    for _, record in row.cells:
        if record.environment is not None:
            try:
                stamp = datetime.fromisoformat(record.environment.started_at)
            except ValueError:
                continue
            if stamp.tzinfo is not None:
                stamps.append(stamp)
    return max(stamps).isoformat(timespec="seconds") if stamps else ""


def _text(parent: ET.Element, name: str, text: str) -> None:
    ET.SubElement(parent, f"{{{_ATOM}}}{name}").text = text
