# SPDX-License-Identifier: Apache-2.0
"""``voxelboard export``: records as a data set that others can load, and, if asked, pushed."""

from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from voxelboard.runners.console import put, say
from voxelboard.runners.options import DEFAULT_OUTPUT, Output


class Form(StrEnum):
    """What records can be exported as."""

    HF = "hf"


def export(
    output: Output = DEFAULT_OUTPUT,
    to: Annotated[
        Form, typer.Option("--to", envvar="VOXELBOARD_EXPORT_TO", help="hf: a Hugging Face data set.")
    ] = Form.HF,
    into: Annotated[
        Path, typer.Option("--into", envvar="VOXELBOARD_EXPORT_INTO", help="Folder to write.", file_okay=False)
    ] = Path("export"),
    statistics: Annotated[
        bool,
        typer.Option(
            "--statistics", envvar="VOXELBOARD_EXPORT_STATISTICS", help="Also the block statistics of each record."
        ),
    ] = False,
    private: Annotated[
        bool,
        typer.Option(
            "--private", envvar="VOXELBOARD_PRIVATE", help="Also private and embargoed records: not to be published."
        ),
    ] = False,
    push: Annotated[
        str | None,
        typer.Option(
            "--push",
            envvar="VOXELBOARD_EXPORT_PUSH",
            help="Also push to this data set on the Hugging Face hub, ORGANISATION/NAME. Needs a token.",
            show_default=False,
        ),
    ] = None,
) -> None:
    """Write the stored records as a Hugging Face data set: two parquet tables, the records, and a card."""
    from voxelboard.runners.publishing.hub_dataset import export_dataset
    from voxelboard.runners.publishing.push import push_dataset

    today = datetime.now(tz=UTC).date()
    done = export_dataset(output, into, today=today, statistics=statistics, private=private)
    held = f"; {done.n_held_back} that are not public were left out" if done.n_held_back else ""
    say(f"{to.value}: {done.n_records} records with {done.n_scores} scores{held}")
    put(str(done.folder))
    if push is not None:
        # a repository with records that are not public must not be public either
        put(push_dataset(into, push, private=private))
