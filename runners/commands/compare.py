# SPDX-License-Identifier: Apache-2.0
"""``voxelboard compare``: paired differences between two models, with intervals and corrected p-values."""

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from voxelboard.runners.console import put, put_json, put_table
from voxelboard.runners.options import DEFAULT_OUTPUT, Json, Output, complete_submission

if TYPE_CHECKING:
    from voxelboard.leaderboard.compare import Difference


def compare(
    a: Annotated[str, typer.Argument(help="A model with records: org/name.", autocompletion=complete_submission)],
    b: Annotated[str, typer.Argument(help="The model it is compared with.", autocompletion=complete_submission)],
    output: Output = DEFAULT_OUTPUT,
    as_json: Json = False,
) -> None:
    """Paired difference A - B on the same subjects and test blocks; p values are Holm-corrected."""
    from voxelboard.leaderboard.compare import compare as compare_models

    comparison = compare_models(output, a, b)
    if as_json:
        put_json(asdict(comparison))
        return
    for column in comparison.columns:
        put(f"{column.column.label}: {comparison.a} - {comparison.b}")
        put(
            f"{len(column.subjects)} subjects, {column.agreeing_subjects} with the sign of the mean; "
            f"intervals over {column.scope}"
        )
        rows = [_row("mean over regions", column.overall), *(_row(roi.roi or "", roi) for roi in column.rois)]
        put_table(("", "difference", "95 % interval", "p", "p (Holm)"), rows, right=(1, 3, 4))


def _row(name: str, difference: "Difference") -> tuple[str, ...]:
    interval = difference.interval
    bounds = f"[{interval.low:+.4f}, {interval.high:+.4f}]"
    return (name, f"{interval.estimate:+.4f}", bounds, f"{difference.p:.2g}", f"{difference.p_holm:.2g}")
