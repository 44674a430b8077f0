# SPDX-License-Identifier: Apache-2.0
"""``voxelboard nightly``: find new models on the hub, score them within a budget, draw the board, say what changed."""

from pathlib import Path
from typing import Annotated

import typer

from voxelboard.runners.commands.queue import GpuHours, Hours
from voxelboard.runners.console import put, put_json, say
from voxelboard.runners.options import (
    DEFAULT_BOARD,
    DEFAULT_OUTPUT,
    Board,
    Device,
    Dtype,
    Isolation,
    Json,
    NWorkers,
    Output,
    Quiet,
    Timeout,
    Verbose,
)


def nightly(
    filter_file: Annotated[
        Path, typer.Option("--filter", envvar="VOXELBOARD_FILTER", help="YAML file: which models (docs/queue.md).")
    ],
    hours: Hours = None,
    gpu_hours: GpuHours = None,
    output: Output = DEFAULT_OUTPUT,
    board: Board = DEFAULT_BOARD,
    device: Device = "auto",
    dtype: Dtype = None,
    workers: NWorkers = "auto",
    timeout: Timeout = None,
    isolation: Isolation = True,
    push: Annotated[
        bool, typer.Option("--push", envvar="VOXELBOARD_PUSH", help="Commit results and board with git, and push.")
    ] = False,
    as_json: Json = False,
    verbose: Verbose = False,
    quiet: Quiet = False,
) -> None:
    """Discover models on the Hugging Face Hub, queue, score, draw, compare. Safe to start twice; resumes.

    Gated models, and those that need code of their own, are skipped with a reason. The exit code is 1 when a model failed.
    """
    from voxelboard.runners.launching import Launch, checked_settings
    from voxelboard.runners.queueing import nightly as night_work
    from voxelboard.runners.queueing.filters import read_filter
    from voxelboard.runners.queueing.work import Budget

    wanted = read_filter(filter_file)
    settings = checked_settings("v1", device, dtype, "auto", False, False, None, False)
    how = Launch.checked("local", workers, timeout, isolation, None, quiet=quiet, verbose=verbose)
    budget = Budget(hours * 3600 if hours is not None else None, gpu_hours * 3600 if gpu_hours is not None else None)
    night = night_work.nightly(wanted, output, board, settings, how, budget)
    if push:
        night_work.push([output, board], f"{len(night.worked.done)} models scored")
    if as_json:
        put_json(night.as_json())
    else:
        put(night.as_markdown())
    say(f"summary: {output / '.nightly' / 'summary.md'}")
    raise typer.Exit(night.exit_code)
