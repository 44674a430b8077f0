# SPDX-License-Identifier: Apache-2.0
"""``render``: a folder of records becomes a folder of static pages that work from ``file://``."""

import base64
import hashlib
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from datetime import date
from functools import cache
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup

from voxelboard.benchmark.records import Record, load_records, revision_folder, slug
from voxelboard.leaderboard.aggregate import aggregate_records
from voxelboard.leaderboard.board import Board, Entry, Missing, Row, Table
from voxelboard.leaderboard.export import board_csv, board_json
from voxelboard.leaderboard.gating import Located
from voxelboard.leaderboard.index_page import index_context
from voxelboard.leaderboard.model_page import RecordLink, model_context, relative_address
from voxelboard.leaderboard.site import check_output, replace_site
from voxelboard.leaderboard.text import bounds, count, number, plain, short_hash, signed
from voxelboard.leaderboard.visibility import public_records, published

_HERE = Path(__file__).resolve().parent
_TITLES = {
    "real": ("Recorded brains", "Models scored on fMRI of people who listened to stories."),
    "simulated": ("Simulated brain", "Models scored on simulated data with a known truth. Not a scientific result."),
}
# A file name may have 255 bytes; leave room for the revision and the ending.
_MAX_NAME = 80


def render(
    results: Path | str, output: Path | str, *, today: date | None = None, include_private: bool = False
) -> Path:
    """Write the site of the records below ``results`` and return its ``index.html``.

    One board per kind of data: real and simulated records never share a page. With one kind the board is the root of the
    site; with both, the root offers ``real/`` and ``simulated/``. The same records give the same bytes. The site is built
    beside ``output`` and swapped in whole, so a reader never sees half of it and no page of an earlier render stays.

    Parameters
    ----------
    results : folder of records, as written by ``voxelboard run``.
    output : folder of the site; made if it does not exist. A folder that holds anything but an earlier render is refused.
    today : the day of publication: embargoes that end by then are over. None: none is.
    include_private : also show private and embargoed records; every page then says not to publish it.

    Raises
    ------
    UserError
        when there are no records, or ``output`` may not be replaced.
    DataError
        when a record or its statistics are damaged.
    """
    return render_records(
        load_records(results), Path(results), Path(output), today=today, include_private=include_private
    )


def render_records(
    records: Sequence[Located], results: Path, output: Path, *, today: date | None = None, include_private: bool = False
) -> Path:
    """As :func:`render`, for records that were loaded from ``results``."""
    source, target = results.resolve(), output.resolve()
    check_output(target, source)
    public = public_records(records, today)
    shown = records if include_private else public
    boards = aggregate_records(shown)
    both = len(boards) > 1
    shared = {"kind": "", "root": "", "page_class": "page", "private": len(shown) > len(public)}

    def build(site: Path) -> None:
        if both:
            _write(site / "index.html", _page("choose.html.j2", **shared, boards=_choices(boards)))
        for board in boards or (Board("real", (), ()),):
            _render_board(board, site / board.kind if both else site, source, both, shared)

    replace_site(target, build)
    return target / "index.html"


def _render_board(board: Board, folder: Path, source: Path, both: bool, shared: Mapping[str, Any]) -> None:
    pages = page_names(board)
    shared = {**shared, "kind": board.kind, "page_class": ""}
    other_kind = "simulated" if board.kind == "real" else "real"
    other = {"href": f"../{other_kind}/index.html", "label": _TITLES[other_kind][0]} if both else None
    _write(folder / "index.html", _page("index.html.j2", **shared, other=other, **index_context(board, pages)))
    for entry, rows in _rows_by_entry(board).items():
        page = folder / pages[entry]
        context = model_context(rows, _record_copier(folder, page, source))
        _write(page, _page("model.html.j2", **{**shared, "root": "../", "page_class": "page"}, **context))
    _write(folder / "data" / "board.json", board_json(board, pages))
    _write(folder / "data" / "board.csv", board_csv(board))


def page_names(board: Board) -> dict[Entry, str]:
    """The address of each entry's page from the index: ``models/org__name--revision.html``, unique in any file system."""
    stems = {}
    for table in board.tables:
        for row in table.rows:
            entry = row.entry
            stems[entry] = f"{slug(entry.submission)}--{revision_folder(entry.revision, entry.weights, entry.seed)}"
    # case-insensitive file systems, names cut short, names that differ only in replaced characters
    folded = Counter(stem.casefold() for stem in stems.values())
    names = {}
    for entry, stem in stems.items():
        if folded[stem.casefold()] > 1 or len(stem) > _MAX_NAME:
            stem = f"{stem[:_MAX_NAME]}-{short_hash(repr(entry))}"
        names[entry] = f"models/{stem}.html"
    return names


def _rows_by_entry(board: Board) -> dict[Entry, list[tuple[Table, Row]]]:
    """All columns of each entry, those with records first."""
    found: dict[Entry, list[tuple[Table, Row]]] = {}
    for table in board.tables:
        for row in table.rows:
            found.setdefault(row.entry, []).append((table, row))
    return {entry: sorted(rows, key=lambda item: not item[1].cells) for entry, rows in found.items()}


def _record_copier(folder: Path, page: Path, source: Path) -> RecordLink:
    """Copies a record into the site when it is linked for the first time and gives its address from ``page``."""

    def link(path: Path, record: Record) -> str:
        copy = folder / "data" / "records" / path.resolve().relative_to(source)
        if not copy.exists():
            # not the results' canonical JSON, whose sorted keys take Python's slow encoder: half of the time of a site
            _write(copy, published(record).model_dump_json(indent=2) + "\n")
        return relative_address(copy, page)

    return link


def _choices(boards: Sequence[Board]) -> list[dict[str, str]]:
    return [
        {"href": f"{board.kind}/index.html", "title": _TITLES[board.kind][0], "text": _TITLES[board.kind][1]}
        for board in boards
    ]


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text.encode("utf-8"))


def _page(template: str, **values: Any) -> str:
    css, js = _asset("board.css"), _asset("board.js")
    inline = {"css": Markup(css), "js": Markup(js)}  # noqa: S704  our own files, allowed by their hashes
    return _environment().get_template(template).render(**inline, csp=policy(css, js), **values)


def policy(css: str, js: str) -> str:
    """Content-Security-Policy that allows the page's own style and script by their hashes, and nothing else.

    Hashes, not ``'self'``: a page opened from ``file://`` has no origin that ``'self'`` could mean.
    """
    return (
        f"default-src 'none'; style-src '{_source_hash(css)}'; script-src '{_source_hash(js)}'; "
        "base-uri 'none'; form-action 'none'"
    )


def _source_hash(text: str) -> str:
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}"


@cache
def _asset(name: str) -> str:
    return (_HERE / "static" / name).read_text(encoding="utf-8")


@cache
def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(
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
        "bounds": lambda score: bounds(score.low, score.high),
    }
    environment.filters.update(filters)
    environment.tests["missing"] = lambda score: isinstance(score, Missing)
    return environment
