# SPDX-License-Identifier: Apache-2.0
"""``voxelboard compare``: paired differences between two models, with intervals and corrected p-values."""

import csv
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from voxelboard.benchmark.errors import UserError
from voxelboard.runners.console import put, put_json, put_table, say
from voxelboard.runners.options import DEFAULT_OUTPUT, Json, Output, complete_submission

if TYPE_CHECKING:
    from voxelboard.leaderboard.compare import Difference
    from voxelboard.leaderboard.compare_voxels import VoxelComparison


def compare(
    a: Annotated[str, typer.Argument(help="A model with records: org/name.", autocompletion=complete_submission)],
    b: Annotated[str, typer.Argument(help="The model it is compared with.", autocompletion=complete_submission)],
    voxels: Annotated[
        bool,
        typer.Option(
            "--voxels",
            envvar="VOXELBOARD_VOXELS",
            help="Also voxel by voxel: signs of 15-TR block differences flipped, two-sided, false discovery rate .05.",
        ),
    ] = False,
    csv_file: Annotated[
        Path | None,
        typer.Option(
            "--csv",
            envvar="VOXELBOARD_CSV",
            help="With --voxels: write every voxel's difference, p and q here.",
            show_default=False,
            dir_okay=False,
        ),
    ] = None,
    output: Output = DEFAULT_OUTPUT,
    as_json: Json = False,
) -> None:
    """Paired difference A - B on the same subjects and test blocks; p values are Holm-corrected."""
    from voxelboard.leaderboard.compare import compare as compare_models
    from voxelboard.leaderboard.compare_voxels import compare_voxels

    if csv_file is not None and not voxels:
        raise UserError("--csv is where voxels are written", "add --voxels")
    comparison = compare_models(output, a, b)
    found = list(compare_voxels(output, a, b, progress=say)) if voxels else []
    if csv_file is not None:
        _write_csv(csv_file, found)
    if as_json:
        put_json({**asdict(comparison), **({"voxels": [_counted(one) for one in found]} if voxels else {})})
        return
    for column in comparison.columns:
        put(f"{column.column.label}: {comparison.a} - {comparison.b}")
        put(
            f"{len(column.subjects)} subjects, {column.agreeing_subjects} with the sign of the mean; "
            f"intervals over {column.scope}"
        )
        rows = [_row("mean over regions", column.overall), *(_row(roi.roi or "", roi) for roi in column.rois)]
        put_table(("", "difference", "95 % interval", "P(A > B)", "p", "p (Holm)"), rows, right=(1, 3, 4, 5))
    if voxels:
        put(
            f"Voxels with another r beyond confounds, false discovery rate {found[0].rate:g}; {found[0].subject}: {found[0].tested.method}"
        )
        _put_voxels(found, comparison.a, comparison.b)


def _put_voxels(found: Sequence["VoxelComparison"], a: str, b: str) -> None:
    """Voxels of each region over all subjects, then of each subject; --json has every region of every subject."""
    by_region: dict[tuple[str, str], list[tuple[int, int, int]]] = {}
    by_subject = []
    for one in found:
        counts = one.counts()
        by_subject.append((one.column.label, one.subject, *(str(n) for n in counts.pop("all"))))
        for roi, counted in counts.items():
            by_region.setdefault((one.column.label, roi), []).append(counted)
    regions = [
        (label, roi, *(str(sum(n)) for n in zip(*counted, strict=True))) for (label, roi), counted in by_region.items()
    ]
    for what, rows in (("region", regions), ("subject", by_subject)):
        put_table(("column", what, "voxels", f"{a} better", f"{b} better"), rows, right=(2, 3, 4))


def _row(name: str, difference: "Difference") -> tuple[str, ...]:
    interval = difference.interval
    bounds = f"[{interval.low:+.4f}, {interval.high:+.4f}]"
    better = f"{difference.probability_better:.3f}"
    return (name, f"{interval.estimate:+.4f}", bounds, better, f"{difference.p:.2g}", f"{difference.p_holm:.2g}")


def _counted(one: "VoxelComparison") -> dict[str, Any]:
    names = ("voxels", "a_better", "b_better")
    return {
        "column": asdict(one.column),
        "subject": one.subject,
        "rate": one.rate,
        "method": one.tested.method,
        "regions": {roi: dict(zip(names, counts, strict=True)) for roi, counts in one.counts().items()},
    }


def _write_csv(path: Path, found: Iterable["VoxelComparison"]) -> None:
    """One row a voxel, in the order of the data set."""
    try:
        with path.open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            writer.writerow(("task", "dataset", "track", "subject", "voxel", "region", "difference_r", "p", "q"))
            for one in found:
                head = (one.column.task, one.column.dataset, one.column.track, one.subject)
                tested = one.tested
                for voxel, row in enumerate(zip(one.rois, tested.difference, tested.p, tested.q, strict=True)):
                    roi, *numbers = row
                    writer.writerow((*head, voxel, roi, *(f"{number:.6g}" for number in numbers)))
    except OSError as error:
        raise UserError(
            f"cannot write {path}: {error.strerror or error}", "choose another --csv", exit_code=3
        ) from error
