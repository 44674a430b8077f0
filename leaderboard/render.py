# SPDX-License-Identifier: Apache-2.0
"""``render``: a folder of records becomes a folder of static pages that work from ``file://``."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from voxelboard.benchmark.collecting import collector_paused
from voxelboard.benchmark.errors import UserError
from voxelboard.benchmark.records import load_records
from voxelboard.leaderboard.aggregate import aggregate_records
from voxelboard.leaderboard.board import Board
from voxelboard.leaderboard.board_site import BoardSite
from voxelboard.leaderboard.gating import Located
from voxelboard.leaderboard.pages.facts import measured_on
from voxelboard.leaderboard.queue_state import QueueSnapshot, read_queue
from voxelboard.leaderboard.releases import FOLDER, Release, carry_over, check_name, read_releases, write_manifest
from voxelboard.leaderboard.site import check_output, replace_site
from voxelboard.leaderboard.templating import SiteWriter, script, script_name
from voxelboard.leaderboard.visibility import public_records

TITLES = {
    "real": ("Recorded brains", "Models scored on fMRI of people who listened, watched and read."),
    "simulated": ("Simulated brain", "Models scored on simulated data with a known truth. Not a scientific result."),
}


@dataclass(frozen=True)
class Site:
    """What a whole site is drawn from.

    Attributes
    ----------
    source : folder of the records.
    private : whether boards hold what is not public.
    site_url : address that the site will have, or None: feeds are then relative and there is no sitemap.
    """

    boards: Sequence[Board]
    source: Path
    queue: QueueSnapshot | None
    private: bool
    site_url: str | None


def render(
    results: Path | str,
    output: Path | str,
    *,
    today: date | None = None,
    include_private: bool = False,
    site_url: str | None = None,
    release: str | None = None,
) -> Path:
    """Write the site of the records below ``results`` and return its ``index.html``.

    One board per kind of data: real and simulated records never share a page. With one kind the board is the root of the
    site; with both, the root offers ``real/`` and ``simulated/``. The same records give the same bytes. The site is built
    beside ``output`` and swapped in whole, so a reader never sees half of it and no page of an earlier render stays.
    Frozen releases of the site that is replaced are carried over byte for byte.

    Parameters
    ----------
    results : folder of records, as written by ``voxelboard run``.
    output : folder of the site; made if it does not exist. A folder that holds anything but an earlier render is refused.
    today : the day of publication: embargoes that end by then are over. None: none is.
    include_private : also show private and embargoed records; every page then says not to publish it.
    site_url : ``https://…`` address of the published site, for absolute links in the feed and a sitemap.
    release : also freeze the site under ``releases/NAME/``; later renders never change it.

    Raises
    ------
    UserError
        when there are no records, ``output`` may not be replaced, the release exists, or the address is none.
    DataError
        when a record or its statistics are damaged.
    """
    with collector_paused():  # the records are gone when it ends, and need not be looked at
        return render_records(
            load_records(results),
            Path(results),
            Path(output),
            today=today,
            include_private=include_private,
            site_url=site_url,
            release=release,
        )


def render_records(
    records: Sequence[Located],
    results: Path,
    output: Path,
    *,
    today: date | None = None,
    include_private: bool = False,
    site_url: str | None = None,
    release: str | None = None,
) -> Path:
    """As :func:`render`, for records that were loaded from ``results``."""
    source, target = results.resolve(), output.resolve()
    check_output(target, source)
    if release is not None:
        check_name(release, target)
        if include_private:
            raise UserError("a release is public, and private records were asked for", "leave --private out")
    with collector_paused():
        return _render(records, source, target, today, include_private, _checked_url(site_url), release)


def _render(
    records: Sequence[Located],
    source: Path,
    target: Path,
    today: date | None,
    include_private: bool,
    site_url: str | None,
    release: str | None,
) -> Path:
    public = public_records(records, today)
    shown = records if include_private else public
    boards = aggregate_records(shown) or (Board("real", (), ()),)
    site = Site(boards, source, read_queue(source), len(shown) > len(public), site_url)
    releases = read_releases(target)

    def build(folder: Path) -> None:
        if release is not None:
            day = measured_on((path, record) for path, record in public)
            frozen = folder / FOLDER / release
            _write_site(site, frozen, releases, release)
            boards_at = {str(b.kind): f"{_place(boards, b)}data/board.json" for b in boards}
            write_manifest(frozen, release, day, boards_at)
        carry_over(target, folder)
        _write_site(site, folder, read_releases(folder), None)

    replace_site(target, build)
    return target / "index.html"


def _write_site(site: Site, folder: Path, releases: Sequence[Release], frozen: str | None) -> None:
    """Every page of one site; ``frozen`` is the name of the release that it is a copy for."""
    both = len(site.boards) > 1
    for board in site.boards:
        place = _place(site.boards, board)
        shared = _shared(board, site, place, frozen, both)
        earlier = [release for release in releases if release.name != frozen]
        BoardSite(board, site.source, SiteWriter(folder / place, shared), site.site_url, place).write(
            site.queue, earlier, "../" if frozen else f"{'../' if both else ''}{FOLDER}/"
        )
    if both:
        shared = {**_shared(site.boards[0], site, "", frozen, both), "kind": "", "page_class": "page", "bare": True}
        writer = SiteWriter(folder, shared)
        writer.page("index.html", "choose.html.j2", boards=_choices(site.boards))
        writer.text(script_name(), script())
    (folder / ".nojekyll").write_bytes(b"")


def _place(boards: Sequence[Board], board: Board) -> str:
    """Where a board lies in its site: at the root, or in a folder of its kind."""
    return f"{board.kind}/" if len(boards) > 1 else ""


def _shared(board: Board, site: Site, place: str, frozen: str | None, both: bool) -> Mapping[str, Any]:
    other_kind = "simulated" if board.kind == "real" else "real"
    up = "../" if place else ""
    return {
        "kind": board.kind,
        "page_class": "",
        "private": site.private,
        "bare": False,
        "other": {"href": f"../{other_kind}/index.html", "label": TITLES[other_kind][0]} if both else None,
        "release": {"name": frozen, "href": f"{up}../../index.html"} if frozen else None,
    }


def _choices(boards: Sequence[Board]) -> list[dict[str, str]]:
    return [
        {"href": f"{board.kind}/index.html", "title": TITLES[board.kind][0], "text": TITLES[board.kind][1]}
        for board in boards
    ]


def _checked_url(url: str | None) -> str | None:
    if url is None:
        return None
    parts = urlsplit(url)
    if parts.scheme not in ("https", "http") or not parts.netloc or parts.query or parts.fragment:
        raise UserError(f"got the site address {url!r}", "give it as https://host/path")
    return url
