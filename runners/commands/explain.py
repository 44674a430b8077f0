# SPDX-License-Identifier: Apache-2.0
"""``voxelboard explain``: the arithmetic behind a score, every number of it."""

from typing import Annotated

import typer

from voxelboard.runners.console import put, put_json
from voxelboard.runners.options import DEFAULT_OUTPUT, Json, Output, complete_submission


def explain(
    model: Annotated[str, typer.Argument(help="Submission by name.", autocompletion=complete_submission)],
    task: Annotated[str, typer.Argument(help="Task.")] = "narrative",
    data: Annotated[
        str | None, typer.Option("--data", envvar="VOXELBOARD_DATA", help="Data set. [default: all that are stored]")
    ] = None,
    output: Output = DEFAULT_OUTPUT,
    as_json: Json = False,
) -> None:
    """Print how a score came about: sums of each region, their score, means over regions and subjects, the interval."""
    from voxelboard.runners.explanation import explain_scores, show_explanation

    explanations = explain_scores(output, model, task, data)
    if as_json:
        put_json([explanation.as_json() for explanation in explanations])
        return
    for explanation in explanations:
        for line in show_explanation(explanation):
            put(line)
