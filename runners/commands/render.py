# SPDX-License-Identifier: Apache-2.0
"""``voxelboard render``: records in, a folder of static pages out."""

import webbrowser
from datetime import date
from pathlib import Path
from typing import Annotated

import typer

from voxelboard.benchmark.errors import UserError
from voxelboard.runners.console import put, say, say_error
from voxelboard.runners.options import DEFAULT_BOARD, DEFAULT_OUTPUT, Board, OpenBoard, Output

Private = Annotated[
    bool,
    typer.Option(
        "--private",
        envvar="VOXELBOARD_PRIVATE",
        help="Also show private and embargoed submissions: not to be published.",
    ),
]
Release = Annotated[
    str | None,
    typer.Option(
        "--release",
        envvar="VOXELBOARD_RELEASE",
        help="Also freeze the board under releases/NAME/; later renders never change it.",
        show_default=False,
    ),
]
SiteUrl = Annotated[
    str | None,
    typer.Option(
        "--url",
        envvar="VOXELBOARD_URL",
        help="Address of the published board, for absolute links in its feed and a sitemap.",
        show_default=False,
    ),
]
Watch = Annotated[
    bool, typer.Option("--watch", envvar="VOXELBOARD_WATCH", help="Draw again whenever records change, until Ctrl-C.")
]


def render(
    output: Output = DEFAULT_OUTPUT,
    board: Board = DEFAULT_BOARD,
    open_board: OpenBoard = False,
    private: Private = False,
    release: Release = None,
    url: SiteUrl = None,
    watch: Watch = False,
) -> None:
    """Draw the board from stored records. Prints the path of its first page."""
    index = draw(output, board, include_private=private, release=release, site_url=url)
    put(str(index))
    if open_board:
        show(index)
    if watch:
        _watch(output, board, include_private=private, site_url=url)


def _watch(results: Path, board: Path, *, include_private: bool, site_url: str | None) -> None:
    from voxelboard.runners.serving import watch

    say("drawn again when records change; Ctrl-C stops")
    try:
        watch(results, lambda: redraw(results, board, include_private=include_private, site_url=site_url))
    except KeyboardInterrupt:
        say("stopped")


def redraw(results: Path, board: Path, *, include_private: bool, site_url: str | None = None) -> None:
    """Draw the board again; what is wrong with the records is said, and the board that stands is kept."""
    try:
        draw(results, board, include_private=include_private, site_url=site_url)
    except UserError as error:
        say_error(error)
        return
    say(f"drawn again: {board / 'index.html'}")


def draw(
    results: Path,
    board: Path,
    *,
    include_private: bool,
    release: str | None = None,
    site_url: str | None = None,
) -> Path:
    """Draw the board and return its first page; says how many private records it leaves out."""
    from voxelboard.benchmark.collecting import collector_paused

    with collector_paused():
        return _draw(results, board, include_private=include_private, release=release, site_url=site_url)


def _draw(results: Path, board: Path, *, include_private: bool, release: str | None, site_url: str | None) -> Path:
    from voxelboard.benchmark.records import load_records
    from voxelboard.leaderboard.render import render_records
    from voxelboard.leaderboard.visibility import public_records

    records, today = load_records(results), date.today()
    n_private = len(records) - len(public_records(records, today))
    if n_private and not include_private:
        say(f"{n_private} private or embargoed records left out; --private shows them")
    return render_records(
        records, results, board, today=today, include_private=include_private, site_url=site_url, release=release
    )


def show(index: Path) -> None:
    """Open a page in a browser; without one, say where it is."""
    try:
        opened = webbrowser.open(index.as_uri())
    except webbrowser.Error:
        opened = False
    if not opened:
        say(f"no browser here: open {index} in one")
