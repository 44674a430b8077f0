# SPDX-License-Identifier: Apache-2.0
"""``voxelboard check``: schema, revision, tokenizer, and the smallest simulated run on the CPU."""

from pathlib import Path
from typing import Annotated

import typer

from voxelboard.runners.console import put, put_json, say
from voxelboard.runners.options import Json, Offline, TrustRemoteCode


def check(
    files: Annotated[list[Path], typer.Argument(help="Submissions to check.", metavar="FILE...")],
    fix: Annotated[
        bool, typer.Option("--fix", envvar="VOXELBOARD_FIX", help="Look up branches and tags and write the commits.")
    ] = False,
    quick: Annotated[
        bool, typer.Option("--quick", envvar="VOXELBOARD_QUICK", help="Only schema and revision: nothing is loaded.")
    ] = False,
    offline: Offline = False,
    trust_remote_code: TrustRemoteCode = False,
    as_json: Json = False,
) -> None:
    """Check submissions: schema, revision, tokenizer, and a small simulated run on the CPU. Nothing is stored."""
    from voxelboard.benchmark.errors import UserError
    from voxelboard.runners.checking import check_file

    results, worst = [], 0
    for file in files:
        try:
            passed = list(check_file(file, fix=fix, quick=quick, offline=offline, allow_code=trust_remote_code))
            results.append({"file": str(file), "ok": True, "passed": passed, "error": None})
        except UserError as error:
            worst = max(worst, error.exit_code)
            results.append({"file": str(file), "ok": False, "passed": [], "error": str(error)})
            say(f"error: {error}")
            continue
        if not as_json:
            put(f"{file}: ok ({'; '.join(passed)})")
    if as_json:
        put_json(results)
    raise typer.Exit(worst)
