# SPDX-License-Identifier: Apache-2.0
"""``voxelboard run``: plan, score what is missing, show the scores, draw the board."""

from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from voxelboard.runners.console import put, put_json, put_table, say
from voxelboard.runners.options import (
    DEFAULT_BOARD,
    DEFAULT_OUTPUT,
    BatchSize,
    Board,
    Data,
    Device,
    DryRun,
    Dtype,
    Features,
    Fresh,
    Isolation,
    Json,
    Limit,
    Models,
    NWorkers,
    Offline,
    OpenBoard,
    Output,
    Profile,
    ProtocolName,
    Quiet,
    Render,
    Runner,
    Subjects,
    Tasks,
    Timeout,
    TrustRemoteCode,
    Verbose,
    split_names,
)

if TYPE_CHECKING:
    from voxelboard.benchmark.records import Estimate, Record
    from voxelboard.benchmark.settings import Settings
    from voxelboard.runners.launching import Launch
    from voxelboard.runners.local import Outcome
    from voxelboard.runners.plan import Cell, Plan


def run(
    model: Models = None,
    tasks: Tasks = None,
    data: Data = None,
    subjects: Subjects = None,
    limit: Limit = None,
    features: Features = None,
    output: Output = DEFAULT_OUTPUT,
    protocol: ProtocolName = "v1",
    device: Device = "auto",
    dtype: Dtype = None,
    batch_size: BatchSize = "auto",
    fresh: Fresh = False,
    offline: Offline = False,
    trust_remote_code: TrustRemoteCode = False,
    dry_run: DryRun = False,
    runner: Runner = "local",
    workers: NWorkers = "auto",
    timeout: Timeout = None,
    isolation: Isolation = True,
    profile: Profile = None,
    render: Render = True,
    board: Board = DEFAULT_BOARD,
    open_board: OpenBoard = False,
    as_json: Json = False,
    verbose: Verbose = False,
    quiet: Quiet = False,
) -> None:
    """Score models and rank them. Stored cells are kept, so a run that stopped resumes.

    Without arguments: the demo models on simulated brains, whose true order is known.
    """
    from voxelboard.runners.launching import Launch, checked_settings, launch
    from voxelboard.runners.planning import plan_run

    settings = checked_settings(protocol, device, dtype, batch_size, offline, fresh, limit, trust_remote_code)
    settings = replace(settings, features=tuple(split_names(features) or ()))
    # A folder of its own, beside the other: partial records never take the place of whole ones or meet them on a board.
    records = output.parent / f"{output.name or 'results'}-limit-{limit}" if limit else output
    names, chosen = split_names(tasks), split_names(subjects)
    plan = plan_run(
        model,
        names,
        data,
        chosen,
        records,
        settings.protocol,
        dtype=dtype,
        partial=limit is not None,
        fresh=fresh,
        features=settings.features,
    )
    how = Launch.checked(runner, workers, timeout, isolation, profile, quiet=quiet, verbose=verbose)
    if not quiet or dry_run:
        say(plan.summary())
    if dry_run:
        raise typer.Exit(_show_plan(plan, settings, how, records, as_json))
    try:
        outcome = launch(plan, settings, how, records)
    except KeyboardInterrupt:
        say(f"interrupted: {_count_stored(plan)} of {len(plan.cells)} cells are stored; the same command resumes")
        raise typer.Exit(130) from None
    if outcome is None:  # handed to a cluster
        return
    _show_outcome(plan, outcome, as_json)
    if (render or open_board) and (plan.stored or outcome.stored):
        _draw(records, board, open_board, quiet)
    raise typer.Exit(outcome.exit_code(len(plan.stored)))


def _show_plan(plan: "Plan", settings: "Settings", how: "Launch", records: Path, as_json: bool) -> int:
    """Print the plan with what it takes; the exit code is 3 when it cannot fit on this machine."""
    from voxelboard.runners.launching import Forecast, forecast, needs_columns

    ahead: Forecast = forecast(plan, settings, how, records)
    waiting = {cell.label for cell in plan.to_run}
    if as_json:
        cells = [
            {**_cell_json(cell), "to_run": cell.label in waiting, "needs": asdict(ahead.of(cell))}
            for cell in plan.cells
        ]
        shared = [
            {
                "submission": stage.job.submission.label,
                "task": stage.job.task,
                "dataset": stage.job.dataset,
                "subjects": list(stage.job.subjects),
                "needs": asdict(stage.needs),
            }
            for stage in ahead.features
        ]
        put_json(
            {
                "cells": cells,
                "features": shared,
                "stored": len(plan.stored),
                "to_run": len(plan.to_run),
                "total": ahead.total(),
            }
        )
    else:
        rows = [
            (
                cell.submission.label,
                cell.task,
                cell.dataset,
                cell.subject,
                "run" if cell.label in waiting else "stored",
                *needs_columns(ahead.of(cell)),
                cell.note,
            )
            for cell in plan.cells
        ]
        rows += [
            (
                job.submission.label,
                job.task,
                job.dataset,
                "features",
                "run",
                *needs_columns(stage.needs),
                "once for all",
            )
            for stage in ahead.features
            for job in (stage.job,)
        ]
        headings = ("model", "task", "data", "subject", "plan", "time", "host", "GPU", "disk", "why")
        put_table(headings, rows, right=(5, 6, 7, 8))
    say(ahead.summary())
    for line in ahead.too_large:
        say(f"error: {line}")
    if ahead.too_large:
        say("  use fewer subjects at a time (--subjects), --dtype bfloat16, or a larger machine")
    return 3 if ahead.too_large else 0


def _cell_json(cell: "Cell") -> dict[str, Any]:
    return {
        "submission": cell.submission.label,
        "revision": cell.revision,
        "task": cell.task,
        "dataset": cell.dataset,
        "subject": cell.subject,
        "record": str(cell.path),
    }


def _count_stored(plan: "Plan") -> int:
    from voxelboard.benchmark.errors import DataError
    from voxelboard.benchmark.records import read_record

    stored = 0
    for cell in plan.cells:
        try:
            stored += cell.path.is_file() and read_record(cell.path).status == "success"
        except DataError:
            continue  # damaged: it will be run again
    return stored


def _show_outcome(plan: "Plan", outcome: "Outcome", as_json: bool) -> None:
    from voxelboard.benchmark.records import read_record

    done = {cell.label: record for cell, record in outcome.stored}
    kept = {cell.label for cell in plan.stored}
    records = [
        (cell, done[cell.label] if cell.label in done else read_record(cell.path))
        for cell in plan.cells
        if cell.label in done or cell.label in kept
    ]
    if as_json:
        cells = [{**_cell_json(cell), "state": "stored", **_headline(record)} for cell, record in records]
        failures = [
            {**_cell_json(cell), "state": "failed", "error": kind, "message": message}
            for cell, kind, message in outcome.failed
        ]
        put_json({"cells": [*cells, *failures], "stored": len(records), "failed": len(failures)})
        return
    rows = [
        (cell.submission.label, cell.task, cell.dataset, cell.subject, _number(record.scores.get("unique")))
        for cell, record in records
    ]
    rows += [
        (cell.submission.label, cell.task, cell.dataset, cell.subject, f"failed ({kind})")
        for cell, kind, _ in outcome.failed
    ]
    put_table(("model", "task", "data", "subject", "unique [95 %]"), rows)
    failed = f", {len(outcome.failed)} failed" if outcome.failed else ""
    put(f"{len(records)} of {len(plan.cells)} cells have scores{failed}")


def _headline(record: "Record") -> dict[str, Any]:
    return {
        "scores": {name: asdict(score) for name, score in record.scores.items()},
        "partial": record.partial,
    }


def _number(score: "Estimate | None") -> str:
    if score is None or score.estimate is None:
        return "-"
    interval = f" [{score.low:.3f}, {score.high:.3f}]" if score.low is not None and score.high is not None else ""
    return f"{score.estimate:.3f}{interval}"


def _draw(results: Path, board: Path, open_board: bool, quiet: bool) -> None:
    from voxelboard.runners.commands.render import draw, show

    # this board stays on the user's own machine; its pages say so when they hold private submissions
    index = draw(results, board, include_private=True)
    if not quiet:
        say(f"the board: {index}")
    if open_board:
        show(index)
