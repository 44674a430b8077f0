# SPDX-License-Identifier: Apache-2.0
"""``voxelboard verify RECORD``: computes a record's scores again from its statistics, measures it again, and compares."""

import secrets
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from voxelboard.runners.console import put, put_json, say
from voxelboard.runners.options import Device, Isolation, Json, Offline, Quiet, TrustRemoteCode, Verbose

if TYPE_CHECKING:
    from voxelboard.benchmark.records import Verification
    from voxelboard.runners.verification import Verdict


def verify(
    record: Annotated[Path, typer.Argument(help="A record's JSON file, or a folder of one model's records.")],
    schema_only: Annotated[
        bool,
        typer.Option(
            "--schema",
            envvar="VOXELBOARD_SCHEMA",
            help="Only form, checksums, and scores from their statistics: nothing is measured.",
        ),
    ] = False,
    everything: Annotated[
        bool, typer.Option("--all", envvar="VOXELBOARD_ALL", help="Measure every subject again, not one at random.")
    ] = False,
    whole: Annotated[
        bool,
        typer.Option("--whole", envvar="VOXELBOARD_WHOLE", help="Measure the whole subject, not one fold at random."),
    ] = False,
    model: Annotated[
        str | None,
        typer.Option(
            "-m", "--model", envvar="VOXELBOARD_MODEL", help="Its submission. [default: by the record's name]"
        ),
    ] = None,
    data: Annotated[
        str | None, typer.Option("--data", envvar="VOXELBOARD_DATA", help="Its data set. [default: the record's]")
    ] = None,
    seed: Annotated[
        int | None, typer.Option("--seed", envvar="VOXELBOARD_SEED", min=0, help="Of the choice. [default: drawn]")
    ] = None,
    device: Device = "auto",
    offline: Offline = False,
    trust_remote_code: TrustRemoteCode = False,
    isolation: Isolation = True,
    as_json: Json = False,
    verbose: Verbose = False,
    quiet: Quiet = False,
) -> None:
    """Check a record, measure one subject of it again (drawn at random), compare, and stamp it.

    Where a data set has several outer folds, one of them is drawn and measured. Every score must also be what its statistics
    give. Tiers: schema-verified, spot-checked (one subject or fold), re-run (all of them). The exit code is 1 when a score moved
    by more than max(3 SE, 0.001): then a report is opened beside the record, which stays as it is.
    """
    from voxelboard.benchmark.records import read_statistics
    from voxelboard.runners.launching import Launch, checked_settings
    from voxelboard.runners.verification import check_again, choose_fold, choose_one, recompute, settle, stored_records

    records = stored_records(record)
    verdicts = []
    if schema_only:
        for path, found in records:
            sums = recompute(found, read_statistics(path, found))
            verdicts.append(settle(path, found, sums, "schema-verified", found.digest))
    else:
        drawn = secrets.randbelow(2**32) if seed is None else seed
        chosen = records if everything else [choose_one(records, drawn)]
        if not everything and not quiet:
            say(f"drawn with --seed {drawn}: {chosen[0][0]}")
        settings = checked_settings("v1", device, None, "auto", offline, True, None, trust_remote_code)
        how = Launch.checked("local", "auto", None, isolation, None, quiet=quiet, verbose=verbose)
        for path, found in chosen:
            named = data or (found.dataset.name if found.dataset else "")
            fold = None if everything or whole else choose_fold(found, named, drawn)
            if fold is not None and not quiet:
                say(f"fold {fold} of it (--whole measures all)")
            tier: Verification = "re-run" if everything else "spot-checked"
            verdicts.append(check_again(path, found, model, named, replace(settings, fold=fold), how, tier))
    _show(verdicts, as_json)
    raise typer.Exit(1 if any(verdict.report for verdict in verdicts) else 0)


def _show(verdicts: "list[Verdict]", as_json: bool) -> None:
    if as_json:
        put_json(
            [
                {
                    "record": str(verdict.path),
                    "tier": verdict.tier,
                    "fold": verdict.fold,
                    "report": str(verdict.report) if verdict.report else None,
                    "scores": {
                        one.name: {
                            "stored": one.before,
                            "again": one.after,
                            "tolerance": one.tolerance,
                            "agrees": one.agrees,
                        }
                        for one in verdict.told
                    },
                    "recomputed": len(verdict.differences) - len(verdict.told),
                }
                for verdict in verdicts
            ]
        )
        return
    for verdict in verdicts:
        moved = [one for one in verdict.differences if not one.agrees]
        if verdict.report:
            put(f"{verdict.path}: {', '.join(one.name for one in moved)} moved; report: {verdict.report}")
            continue
        changes = [
            abs(one.before - one.after)
            for one in verdict.differences
            if one.before is not None and one.after is not None
        ]
        what = "" if verdict.fold is None else f" on fold {verdict.fold}"
        put(f"{verdict.path}: {verdict.tier}{what}{f', largest change {max(changes):.2g}' if changes else ''}")
