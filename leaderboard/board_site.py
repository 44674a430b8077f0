# SPDX-License-Identifier: Apache-2.0
"""All pages and files of one board."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, cached_property, partial
from pathlib import Path
from typing import TypeVar
from urllib.parse import quote

from voxelboard.benchmark.caption_tables import AnalysisTables
from voxelboard.benchmark.records import Record, revision_folder, slug
from voxelboard.benchmark.study_tables import StudyTables
from voxelboard.leaderboard.board import Board, Entry, Row, Table
from voxelboard.leaderboard.board_schema import board_schema
from voxelboard.leaderboard.export import board_csv, board_json, board_parquet
from voxelboard.leaderboard.feed import atom_feed, entry_badge, sitemap
from voxelboard.leaderboard.overall import Overview, overviews
from voxelboard.leaderboard.pages.captions import analyses_of_board, captions_context
from voxelboard.leaderboard.pages.compare import compare_context
from voxelboard.leaderboard.pages.facts import display_name
from voxelboard.leaderboard.pages.index import index_context, table_script
from voxelboard.leaderboard.pages.model import RecordLink, model_context, relative_address
from voxelboard.leaderboard.pages.protocol import protocol_context
from voxelboard.leaderboard.pages.queue import queue_context
from voxelboard.leaderboard.pages.release import diff_context, releases_context
from voxelboard.leaderboard.pages.studies import find_studies, studies_context
from voxelboard.leaderboard.pages.submit import submit_context
from voxelboard.leaderboard.pages.task import task_context
from voxelboard.leaderboard.parallel import for_each, n_workers
from voxelboard.leaderboard.queue_state import QueueSnapshot
from voxelboard.leaderboard.releases import Release
from voxelboard.leaderboard.shipped import model_maps, overview_data, table_data
from voxelboard.leaderboard.surface import flat_map
from voxelboard.leaderboard.templating import SiteWriter, script, script_json, script_name
from voxelboard.leaderboard.text import plain, short_hash
from voxelboard.leaderboard.visibility import published

SURFACE = "data/fsaverage5.js"
MAP_INDEX = "data/maps.js"
_MANY_PAGES = 60
K = TypeVar("K")
# A file name may have 255 bytes; leave room for the revision and the ending.
_MAX_NAME = 80


@dataclass(frozen=True)
class BoardSite:
    """One board on its way to a folder.

    Attributes
    ----------
    source : folder of the records.
    place : where the board lies in its site, ``""`` or ``real/``.
    """

    board: Board
    source: Path
    writer: SiteWriter
    site_url: str | None
    place: str

    @cached_property
    def pages(self) -> dict[Entry, str]:
        """Address of each entry's page."""
        return page_names(self.board)

    @cached_property
    def tables(self) -> dict[int, str]:
        """Address of each table's page, by ``id`` of the table."""
        names = table_names(self.board)
        return {id(table): name for table, name in zip(self.board.tables, names, strict=True)}

    @cached_property
    def overviews(self) -> tuple[Overview, ...]:
        """The tables of each track side by side."""
        return overviews(self.board)

    @cached_property
    def studies(self) -> tuple[StudyTables, ...]:
        """What studies lie beside the records of the real board."""
        return find_studies(self.source) if self.board.kind == "real" else ()

    @cached_property
    def analyses(self) -> tuple[AnalysisTables, ...]:
        """What analyses of the task captions lie beside the records, of the board's kind of data."""
        return analyses_of_board(self.source, self.board)

    def write(self, queue: QueueSnapshot | None, releases: Sequence[Release], releases_at: str) -> None:
        """Write everything; ``releases_at`` leads from the board to the folder of releases."""
        self._surface()
        # not in a forked process: Arrow has threads of its own
        self.writer.binary("data/board.parquet", board_parquet(self.board))
        listed = list(rows_by_entry(self.board).items())
        _ = self.pages, self.tables, self.studies, self.analyses  # known before processes are forked
        jobs: list[Callable[[], None]] = [
            lambda: self._data(releases),
            self._overview,
            self._exports,
            *(partial(self._table, table) for table in self.board.tables),
            lambda: self._plain_pages(queue, releases, releases_at),
            *(partial(self._model, entry, rows) for entry, rows in listed),
        ]
        workers = n_workers() if len(listed) >= _MANY_PAGES else 1
        written = for_each(lambda index: self._attempted(jobs[index]), len(jobs), workers)
        if self.url:
            self.writer.text("sitemap.xml", sitemap(sorted({page for pages in written for page in pages}), self.url))

    def _attempted(self, job: Callable[[], None]) -> list[str]:
        """The pages that a job wrote: a forked process has to say so."""
        before = len(self.writer.pages)
        job()
        return self.writer.pages[before:]

    @property
    def url(self) -> str | None:
        """Address of this board on the web."""
        return f"{self.site_url.rstrip('/')}/{self.place}" if self.site_url else None

    def _plain_pages(self, queue: QueueSnapshot | None, releases: Sequence[Release], releases_at: str) -> None:
        contexts = {
            "compare": compare_context(self.board, self.pages, self.tables),
            "protocol": protocol_context(self.board),
            "submit": submit_context(),
            "queue": queue_context(self.board, self.pages, queue),
            "releases": releases_context(releases, releases_at, self.board.kind),
        }
        if self.studies:
            contexts["studies"] = studies_context(self.studies)
        if self.analyses:
            contexts["captions"] = captions_context(self.analyses)
        for name, values in contexts.items():
            self.writer.page(f"{name}.html", f"{name}.html.j2", page_class="page", **values)

    def _data(self, releases: Sequence[Release]) -> None:
        """The board as JSON, and what changed since the last release, which is told from it."""
        text = board_json(self.board, self.pages)
        self.writer.text("data/board.json", text)
        self.writer.text("data/board.schema.json", board_schema())
        self.writer.page(
            "diff.html", "diff.html.j2", page_class="page", **diff_context(releases, text, self.board.kind)
        )

    def _exports(self) -> None:
        self.writer.text(script_name(), script())
        self.writer.text("data/board.csv", board_csv(self.board))
        self.writer.text("feed.xml", atom_feed(self.board, self.pages, self.url))

    def _overview(self) -> None:
        for index, overview in enumerate(self.overviews, start=1):
            if len(overview.columns) > 1:
                name = f"data/overview-{index}.js"
                self.writer.data(name, name, script_json(overview_data(overview, self.pages)))
        context = index_context(self.board, self.overviews, self.pages, self.tables)
        beside = {"has_studies": bool(self.studies), "has_captions": bool(self.analyses)}
        self.writer.page("index.html", "index.html.j2", **context, **beside)

    def _table(self, table: Table) -> None:
        name = self.tables[id(table)]
        data, address = table_data(table, self.pages), table_script(name)
        if data is not None:
            self.writer.data(address, address, script_json(data))
        context = task_context(table, self.pages, None if data is None else address)
        self.writer.page(name, "task.html.j2", **context)

    def _surface(self) -> None:
        """The flat map that all maps share, and which models have one."""
        found = [
            {
                "name": display_name(row.model, row.entry),
                "column": plain(table.column.label),
                "maps": maps_name(self.pages[row.entry]),
            }
            for table in self.board.tables
            for row in table.rows
            if row.maps
        ]
        flat = flat_map() if found else None
        if flat is not None:
            self.writer.data(SURFACE, SURFACE, script_json(flat.shipped()))
            self.writer.data(MAP_INDEX, MAP_INDEX, script_json(found))

    def _model(self, entry: Entry, rows: Sequence[tuple[Table, Row]]) -> None:
        address = self.pages[entry]
        page = self.writer.folder / address
        context = model_context(rows, _record_copier(self.writer.folder, page, self.source))
        badge, maps = badge_name(address), maps_name(address)
        self.writer.text(badge, entry_badge(rows))
        if any(row.maps for _, row in rows) and flat_map() is not None:
            self.writer.data(maps, maps, script_json(model_maps(rows)))
        self.writer.page(address, "model.html.j2", page_class="page", badge=badge, maps=maps, **context)


def page_names(board: Board) -> dict[Entry, str]:
    """The address of each entry's page from the index: ``models/org__name--revision.html``, unique in any file system."""
    stems = {}
    for table in board.tables:
        for row in table.rows:
            entry = row.entry
            stems[entry] = f"{slug(entry.submission)}--{revision_folder(entry.revision, entry.weights, entry.seed)}"
    return {entry: f"models/{stem}.html" for entry, stem in _unique(stems).items()}


def table_names(board: Board) -> list[str]:
    """The address of each table's page: ``tasks/narrative--lebel2023-pcs.html``, unique in any file system."""
    stems = {}
    for index, table in enumerate(board.tables):
        column = table.column
        track = "" if column.track == "fixed" else f"-{column.track}"
        stems[index] = f"{slug(column.task)}--{slug(column.dataset)}{slug(track) if track else ''}"
    unique = _unique(stems, [repr(table.column) for table in board.tables])
    return [f"tasks/{stem}.html" for stem in unique.values()]


def badge_name(page: str) -> str:
    """Address of the badge of an entry from the address of its page."""
    return page.replace("models/", "badges/", 1).removesuffix(".html") + ".svg"


def maps_name(page: str) -> str:
    """Address of the maps of an entry from the address of its page."""
    return page.replace("models/", "data/maps/", 1).removesuffix(".html") + ".js"


def rows_by_entry(board: Board) -> dict[Entry, list[tuple[Table, Row]]]:
    """All columns of each entry, those with records first."""
    found: dict[Entry, list[tuple[Table, Row]]] = {}
    for table in board.tables:
        for row in table.rows:
            found.setdefault(row.entry, []).append((table, row))
    return {entry: sorted(rows, key=lambda item: not item[1].cells) for entry, rows in found.items()}


def _unique(stems: Mapping[K, str], texts: Sequence[str] | None = None) -> dict[K, str]:
    """Names that differ on case-insensitive file systems, and after names were cut short or characters replaced."""
    folded = Counter(stem.casefold() for stem in stems.values())
    names = {}
    for index, (key, stem) in enumerate(stems.items()):
        if folded[stem.casefold()] > 1 or len(stem) > _MAX_NAME:
            stem = f"{stem[:_MAX_NAME]}-{short_hash(texts[index] if texts else repr(key))}"
        names[key] = stem
    return names


def _record_copier(folder: Path, page: Path, source: Path) -> RecordLink:
    """Copies a record into the site when it is linked for the first time and gives its address from ``page``."""
    linked: dict[Path, str] = {}

    @cache
    def place(parent: Path) -> tuple[Path, str]:
        """The folder of the copies of a folder's records, made, and its address."""
        found = folder / "data" / "records" / parent.resolve().relative_to(source)
        found.mkdir(parents=True, exist_ok=True)
        return found, relative_address(found, page)

    def link(path: Path, record: Record) -> str:
        if path not in linked:
            copies, address = place(path.parent)
            # on one line, unlike the canonical JSON of the results: a third of the time and half of the bytes of a site
            (copies / path.name).write_bytes(f"{published(record).model_dump_json()}\n".encode())
            linked[path] = f"{address}/{quote(path.name)}"
        return linked[path]

    return link
