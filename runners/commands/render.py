# SPDX-License-Identifier: Apache-2.0
"""``voxelboard render``: records in, a folder of static pages out."""

import webbrowser
from pathlib import Path

from voxelboard.runners.console import put, say
from voxelboard.runners.options import DEFAULT_BOARD, DEFAULT_OUTPUT, Board, OpenBoard, Output


def render(
    output: Output = DEFAULT_OUTPUT,
    board: Board = DEFAULT_BOARD,
    open_board: OpenBoard = False,
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
