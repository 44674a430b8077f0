# SPDX-License-Identifier: Apache-2.0
"""``voxelboard serve``: the board on this machine, drawn again when records change."""

import webbrowser
from typing import Annotated

import typer

from voxelboard.runners.commands.render import Private, draw
from voxelboard.runners.console import put, say
from voxelboard.runners.options import DEFAULT_BOARD, DEFAULT_OUTPUT, Board, OpenBoard, Output

Port = Annotated[
    int, typer.Option("--port", envvar="VOXELBOARD_PORT", min=0, max=65535, help="Port; 0 takes any free one.")
]


def serve(
    output: Output = DEFAULT_OUTPUT,
    board: Board = DEFAULT_BOARD,
    port: Port = 8000,
    open_board: OpenBoard = False,
    private: Private = False,
) -> None:
    """Serve the board on this machine only, drawn again when records change. Prints its address; Ctrl-C stops it."""
    from voxelboard.runners.commands.render import redraw
    from voxelboard.runners.serving import serving, watch

    draw(output, board, include_private=private)
    with serving(board, port) as address:
        put(address)
        if open_board and not webbrowser.open(address):
            say(f"no browser here: open {address} in one")
        say("drawn again when records change; Ctrl-C stops")
        try:
            watch(output, lambda: redraw(output, board, include_private=private))
        except KeyboardInterrupt:
            say("stopped")
