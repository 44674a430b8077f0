# SPDX-License-Identifier: Apache-2.0
"""``voxelboard cache ls|verify|prune``: the stored features of models."""

import time
from pathlib import Path
from typing import Annotated

import typer

from voxelboard.runners.console import put, put_json, put_table, say
from voxelboard.runners.options import Json

cache_app = typer.Typer(help="Stored features: list them, check their bytes, make room.", no_args_is_help=True)


@cache_app.command("ls")
def list_cache(as_json: Json = False) -> None:
    """Stored features by model, the largest first, and the bound on all of them."""
    from voxelboard.benchmark.features.store import default_store_bytes
    from voxelboard.benchmark.features.upkeep import StoreEntry, store_entries

    models: dict[tuple[str, str], list[StoreEntry]] = {}
    for entry in store_entries(_folder()):
        models.setdefault((entry.model, entry.stage), []).append(entry)
    rows = sorted(
        (
            {
                "model": model,
                "stage": stage,
                "entries": len(entries),
                "bytes": sum(entry.n_bytes for entry in entries),
                "used_at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(max(entry.used_at for entry in entries))),
            }
            for (model, stage), entries in models.items()
        ),
        key=lambda row: -int(str(row["bytes"])),
    )
    total, bound = sum(int(str(row["bytes"])) for row in rows), default_store_bytes()
    if as_json:
        put_json({"folder": str(_folder()), "bytes": total, "max_bytes": bound, "models": rows})
        return
    put_table(
        ("model", "stage", "entries", "size", "last used"),
        [
            (
                str(row["model"]),
                str(row["stage"]),
                str(row["entries"]),
                _mib(int(str(row["bytes"]))),
                str(row["used_at"]),
            )
            for row in rows
        ],
        right=(2, 3),
    )
    put(f"{_mib(total)} of at most {_mib(bound)} in {_folder()} (VOXELBOARD_CACHE, VOXELBOARD_CACHE_SIZE)")


@cache_app.command()
def verify(
    keep: Annotated[
        bool, typer.Option("--keep", envvar="VOXELBOARD_KEEP", help="Only name what is damaged, do not remove it.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Read every stored feature and compare its hash. What is damaged is removed and made again when it is needed.

    A run checks what it reads by itself; this finds it before. The exit code is 1 when something was damaged.
    """
    from voxelboard.benchmark.features.upkeep import is_intact, remove_entry, store_entries

    entries = list(store_entries(_folder()))
    damaged = []
    for entry in entries:
        if not is_intact(entry.path):
            damaged.append(entry)
            if not keep:
                remove_entry(entry.path)
    if as_json:
        put_json({"checked": len(entries), "damaged": [str(entry.path) for entry in damaged], "removed": not keep})
    else:
        for entry in damaged:
            put(f"damaged{'' if keep else ', removed'}: {entry.path} ({entry.model})")
        put(f"{len(entries)} entries read, {len(damaged)} damaged")
    raise typer.Exit(1 if damaged else 0)


@cache_app.command()
def prune(
    max_size: Annotated[
        str | None,
        typer.Option(
            "--max-size",
            envvar="VOXELBOARD_MAX_SIZE",
            help="Remove the least recently used until no more is left (20GiB).",
        ),
    ] = None,
    older_than: Annotated[
        float | None,
        typer.Option(
            "--older-than", envvar="VOXELBOARD_OLDER_THAN", min=0.0, help="Remove what was not used for so many days."
        ),
    ] = None,
    model: Annotated[
        list[str] | None,
        typer.Option("-m", "--model", envvar="VOXELBOARD_MODEL", help="Remove the features of this model."),
    ] = None,
    everything: Annotated[bool, typer.Option("--all", envvar="VOXELBOARD_ALL", help="Remove all.")] = False,
) -> None:
    """Remove stored features; they are made again when they are needed. Files of killed processes go in any case."""
    from voxelboard.benchmark.errors import unknown_name
    from voxelboard.benchmark.features.store import parse_bytes
    from voxelboard.benchmark.features.upkeep import abandoned_files, remove_entry, store_entries

    left = sorted(store_entries(_folder()), key=lambda entry: (entry.used_at, str(entry.path)))
    names = {entry.model for entry in left}
    for name in model or []:
        if name not in names:
            raise unknown_name("model in the cache", name, names)
    oldest = None if older_than is None else time.time() - older_than * 86400
    going = [
        entry
        for entry in left
        if everything or entry.model in (model or []) or (oldest is not None and entry.used_at < oldest)
    ]
    left = [entry for entry in left if entry not in going]
    if max_size is not None:
        bound, total = parse_bytes(max_size, "--max-size"), sum(entry.n_bytes for entry in left)
        while left and total > bound:
            total -= left[0].n_bytes
            going.append(left.pop(0))
    for entry in going:
        remove_entry(entry.path)
    files = list(abandoned_files(_folder()))
    for path in files:
        path.unlink(missing_ok=True)
    if not (going or files or max_size or older_than is not None or model or everything):
        say("nothing was asked for: --max-size, --older-than, --model or --all")
    put(
        f"removed {len(going)} entries, {_mib(sum(entry.n_bytes for entry in going))}, and {len(files)} abandoned files"
    )


def _folder() -> Path:
    from voxelboard.benchmark.features.store import default_store_folder

    return default_store_folder().parent


def _mib(n_bytes: int) -> str:
    return f"{n_bytes / 2**20:,.1f} MiB"
