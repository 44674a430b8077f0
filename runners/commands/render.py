# SPDX-License-Identifier: Apache-2.0
"""``voxelboard render``: records in, a folder of static pages out."""

import webbrowser
from pathlib import Path
from typing import Annotated

import typer

from voxelboard.runners.console import put, say
from voxelboard.runners.options import DEFAULT_OUTPUT, Output


def render(
    output: Output = DEFAULT_OUTPUT,
    board: Annotated[
        Path, typer.Option("--board", envvar="VOXELBOARD_BOARD", help="Folder of the board.", file_okay=False)
    ] = Path("board"),
    open_board: Annotated[
        bool, typer.Option("--open", envvar="VOXELBOARD_OPEN", help="Open the board in a browser afterwards.")
    ] = False,
) -> None:
    """Draw the board from stored records. Prints the path of its first page."""
    index = draw(output, board)
    put(str(index))
    if open_board:
        show(index)


def draw(results: Path, board: Path) -> Path:
    """Draw the board and return its first page."""
    from voxelboard.leaderboard.render import render as render_board

    return render_board(results, board)


def show(index: Path) -> None:
    """Open a page in a browser; without one, say where it is."""
    try:
        opened = webbrowser.open(index.as_uri())
    except webbrowser.Error:
        opened = False
    if not opened:
        say(f"no browser here: open {index} in one")
